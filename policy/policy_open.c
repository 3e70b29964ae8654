/* SPDX-License-Identifier: Apache-2.0
 * Runs: start (root), broker --check-policy. The policy file as a file: nobody but root could have written it.
 *
 * Every directory on the way is opened and checked by descriptor, so what was checked is what the next step starts
 * from; a symbolic link anywhere is refused, because a link's target is somebody's choice. */
#include "policy.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#include "common/cleanup.h"

#define PATH_LENGTH_MAX 4096u

static int refuse(struct policy_error *error, int r, const char *format, ...) __attribute__((format(printf, 3, 4)));

static int refuse(struct policy_error *error, int r, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	(void)vsnprintf(error->text, sizeof(error->text), format, args);
	va_end(args);
	return r;
}

/* No symbolic link, no procfs magic link, no way up: name is one component. */
static int open_component(int dir, const char *name, uint64_t flags)
{
	struct open_how how = { .flags = flags | O_CLOEXEC | O_NOFOLLOW,
				.resolve = RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS | RESOLVE_BENEATH };
	long fd = syscall(SYS_openat2, dir, name, &how, sizeof(how));

	return fd < 0 ? -errno : (int)fd;
}

/* A directory in which nobody but root can replace what we are about to open. */
static int check_directory(int dir, const char *name, const char *path, struct policy_error *error)
{
	struct stat st;

	if (fstat(dir, &st) < 0)
		return refuse(error, -errno, "%.120s: cannot stat \"%.60s\": %s", path, name, strerror(errno));
	if (st.st_uid != 0)
		return refuse(error, -EPERM, "%.120s: the directory \"%.60s\" belongs to uid %u; it must belong to root",
			      path, name, st.st_uid);
	/* Sticky: others may add names, but not replace root's. */
	if ((st.st_mode & (S_IWGRP | S_IWOTH)) != 0 && (st.st_mode & S_ISVTX) == 0)
		return refuse(error, -EPERM, "%.120s: the directory \"%.60s\" is writable by others; chmod go-w it", path,
			      name);
	return 0;
}

static int check_file(int fd, const char *path, struct policy_error *error)
{
	struct stat st;

	if (fstat(fd, &st) < 0)
		return refuse(error, -errno, "%.150s: cannot stat: %s", path, strerror(errno));
	if (!S_ISREG(st.st_mode))
		return refuse(error, -EINVAL, "%.150s: is not a regular file", path);
	if (st.st_uid != 0)
		return refuse(error, -EPERM, "%.150s: belongs to uid %u; it must belong to root", path, st.st_uid);
	if ((st.st_mode & (S_IWGRP | S_IWOTH)) != 0)
		return refuse(error, -EPERM, "%.150s: is writable by others; chmod go-w it", path);
	if (st.st_size > POLICY_FILE_MAX)
		return refuse(error, -EFBIG, "%.150s: is larger than the limit of %d bytes", path, POLICY_FILE_MAX);
	return 0;
}

/* path, made absolute, into whole; -ENAMETOOLONG rather than a shorter path than was meant. */
static int make_absolute(const char *path, char *whole, size_t size, struct policy_error *error)
{
	size_t used = 0;

	if (path[0] != '/') {
		if (getcwd(whole, size) == NULL)
			return refuse(error, -errno, "%.150s: the working directory is not known: %s", path,
				      strerror(errno));
		used = strlen(whole);
	}
	if ((size_t)snprintf(whole + used, size - used, "/%s", path) >= size - used)
		return refuse(error, -ENAMETOOLONG, "%.150s: is too long", path);
	return 0;
}

int policy_open(const char *path, struct policy_error *ret)
{
	cleanup_fd int dir = open("/", O_PATH | O_DIRECTORY | O_CLOEXEC);
	cleanup_fd int file = -1;
	char whole[PATH_LENGTH_MAX], *save = NULL, *name, *next;
	int r;

	memset(ret, 0, sizeof(*ret));
	r = make_absolute(path, whole, sizeof(whole), ret);
	if (r < 0)
		return r;
	if (dir < 0)
		return refuse(ret, -errno, "/: cannot open: %s", strerror(errno));
	name = strtok_r(whole, "/", &save);
	if (name == NULL)
		return refuse(ret, -EISDIR, "%.150s: is a directory", path);
	for (r = check_directory(dir, "/", path, ret); r == 0; name = next) {
		int fd;

		next = strtok_r(NULL, "/", &save);
		/* O_NONBLOCK: a fifo must be refused, not waited for */
		fd = open_component(dir, name, next != NULL ? O_PATH | O_DIRECTORY : O_RDONLY | O_NONBLOCK | O_NOCTTY);
		if (fd == -ELOOP || (fd == -ENOTDIR && next != NULL))
			return refuse(ret, fd, "%.120s: \"%.60s\" is a symbolic link or no directory; give the real path",
				      path, name);
		if (fd < 0)
			return refuse(ret, fd, "%.120s: cannot open \"%.80s\": %s", path, name, strerror(-fd));
		if (next == NULL) {
			file = fd;
			break;
		}
		fd_close(&dir);
		dir = fd;
		r = check_directory(dir, name, path, ret);
	}
	if (r == 0)
		r = check_file(file, path, ret);
	return r < 0 ? r : fd_take(&file);
}
