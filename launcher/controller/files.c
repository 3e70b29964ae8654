/* SPDX-License-Identifier: Apache-2.0
 * Runs: controller and `postern check` (the user). */
#include "files.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/cleanup.h"

/* Errors a user can do something about say what. */
static int open_failed(const char *what, const char *path, bool writable, int error, struct failure *failure)
{
	const char *remedy = "check the path and the file";

	if (error == ENOENT || error == ENOTDIR)
		remedy = "check the path";
	else if (error == EACCES && writable)
		remedy = "make it writable for you, or add ,readonly";
	else if (error == EACCES)
		remedy = "make it readable for you (and every directory above it searchable)";
	else if (error == EROFS)
		remedy = "its file system is read-only: add ,readonly";
	else if (error == EBUSY)
		remedy = "it is mounted or in use on the host";
	return fail(failure, -error, EXIT_FILE, "%s %s: %s; %s", what, path, strerror(error), remedy);
}

int files_open(const char *what, const char *path, bool writable, int *ret_fd, struct failure *failure)
{
	/* Looked at before it is opened: to open a FIFO may block, to open a device may do something. */
	cleanup_fd int look = open(path, O_PATH | O_CLOEXEC), fd = -1;
	char self[32];
	struct stat st;

	if (look < 0 || fstat(look, &st) < 0)
		return open_failed(what, path, writable, errno, failure);
	if (S_ISDIR(st.st_mode))
		return fail(failure, -EISDIR, EXIT_FILE, "%s %s: is a directory; name a file in it", what, path);
	if (!S_ISREG(st.st_mode) && !S_ISBLK(st.st_mode))
		return fail(failure, -EINVAL, EXIT_FILE,
			    "%s %s: is neither a regular file nor a block device; name one that is", what, path);
	(void)snprintf(self, sizeof(self), "/proc/self/fd/%d", look);
	fd = open(self, (writable ? O_RDWR : O_RDONLY) | O_CLOEXEC | O_NOCTTY);
	if (fd < 0)
		return open_failed(what, path, writable, errno, failure);
	*ret_fd = fd_take(&fd);
	return 0;
}

/* Kernel and initrd. Of an empty one the VMM would say that it could not load some file of its sandbox. */
static int open_boot(const char *what, const char *path, int *ret_fd, struct failure *failure)
{
	cleanup_fd int fd = -1;
	struct stat st;
	int r = files_open(what, path, false, &fd, failure);

	if (r < 0)
		return r;
	if (fstat(fd, &st) == 0 && S_ISREG(st.st_mode) && st.st_size == 0)
		return fail(failure, -ENODATA, EXIT_FILE, "%s %s: is empty; name a file with something in it", what, path);
	*ret_fd = fd_take(&fd);
	return 0;
}

void files_none(struct driver_context *ctx)
{
	ctx->kernel = ctx->initrd = ctx->passt = -1;
	for (size_t i = 0; i < SPEC_DISKS_MAX; i++)
		ctx->disks[i] = -1;
}

void files_close(struct driver_context *ctx)
{
	fd_close(&ctx->kernel);
	fd_close(&ctx->initrd);
	fd_close(&ctx->passt);
	for (size_t i = 0; i < SPEC_DISKS_MAX; i++)
		fd_close(&ctx->disks[i]);
}

int files_open_all(const struct spec *spec, struct driver_context *ctx, struct failure *failure)
{
	int r = 0;

	if (spec->kernel != NULL)
		r = open_boot("kernel", spec->kernel, &ctx->kernel, failure);
	if (r == 0 && spec->initrd != NULL)
		r = open_boot("initrd", spec->initrd, &ctx->initrd, failure);
	for (size_t i = 0; r == 0 && i < spec->disk_count; i++)
		r = files_open("disk", spec->disks[i].path, !spec->disks[i].readonly, &ctx->disks[i], failure);
	return r;
}
