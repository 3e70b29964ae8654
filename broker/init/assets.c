/* SPDX-License-Identifier: Apache-2.0
 * Runs: init (uid X, no capability). Descriptors the user's controller hands to the VMM: looked at one by one, because
 * what a descriptor is decides what it opens (a directory leads to the whole host, DESIGN 2.5). */
#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/vfs.h>

#include "init.h"

#ifndef PID_FS_MAGIC
#define PID_FS_MAGIC 0x50494446
#endif

#define COPY_MODE 0400
#define COPY_CHUNK (1u << 30)

/* Files of these file systems are handles on processes and namespaces that only look like files. */
static int check_file_system(int fd)
{
	struct statfs fs;

	if (fstatfs(fd, &fs) < 0)
		return -errno;
	switch ((unsigned long)fs.f_type) {
	case PROC_SUPER_MAGIC:
	case NSFS_MAGIC:
	case PID_FS_MAGIC:
	case SYSFS_MAGIC:
	case CGROUP_SUPER_MAGIC:
	case CGROUP2_SUPER_MAGIC:
		return -EPERM;
	default:
		return 0;
	}
}

/* Only sockets without a way out of the sandbox. One of the network would be a door in the wall; so would be a unix one
 * that could still choose its peer, since abstract names are looked up in the network namespace where it was made, the
 * user's. A datagram socket can for each message, connected or not; any other can no more once it has a peer. */
static int check_socket(int fd)
{
	struct sockaddr_un peer;
	socklen_t domain_len = sizeof(int), type_len = sizeof(int), peer_len = sizeof(peer);
	int domain = 0, type = 0;

	if (getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &domain, &domain_len) < 0 ||
	    getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &type_len) < 0)
		return -errno;
	if (domain != AF_UNIX || (type != SOCK_STREAM && type != SOCK_SEQPACKET))
		return -EPERM;
	return getpeername(fd, (struct sockaddr *)&peer, &peer_len) < 0 ? -errno : 0;
}

static int check_asset(const struct wire_asset *asset, int fd)
{
	struct stat st;
	int flags, access;

	if (fstat(fd, &st) < 0)
		return -errno;
	flags = fcntl(fd, F_GETFL);
	if (flags < 0)
		return -errno;
	if (S_ISDIR(st.st_mode))
		return -EISDIR;
	if (!S_ISREG(st.st_mode) && !S_ISBLK(st.st_mode) && !S_ISSOCK(st.st_mode) && !S_ISFIFO(st.st_mode))
		return -EPERM;
	if (asset->use == 1 && !S_ISREG(st.st_mode))
		return -EINVAL;
	if ((flags & O_PATH) != 0)
		return S_ISSOCK(st.st_mode) && asset->writable == 0 ? 0 : -EPERM; /* a socket file, to connect to */
	/* The receipt shows the user who may write what; so the plan has to tell the truth about it. */
	access = flags & O_ACCMODE;
	if (asset->writable != (access == O_RDONLY ? 0 : 1))
		return -EACCES;
	return S_ISSOCK(st.st_mode) ? check_socket(fd) : check_file_system(fd);
}

/* A file in the sandbox's own /run. O_EXCL: no asset may take the place of another one. sendfile with its own offset
 * leaves the position, which the user's controller shares, alone. */
static int copy_asset(const struct wire_asset *asset, int fd, int run)
{
	cleanup_fd int copy = openat(run, asset->name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, COPY_MODE);
	off_t offset = 0;
	ssize_t n;

	if (copy < 0)
		return -errno;
	do {
		n = sendfile(copy, fd, &offset, COPY_CHUNK);
		if (n < 0 && errno != EINTR)
			return -errno;
	} while (n != 0);
	return 0;
}

int assets_take(struct init *init)
{
	cleanup_fd int run = -1;

	for (size_t i = 0; i < init->plan->asset_count; i++) {
		const struct wire_asset *asset = &init->plan->assets[i];
		int r = check_asset(asset, init->assets[i]);

		if (r < 0)
			return r;
		if (asset->use != 1)
			continue;
		if (run < 0)
			run = open("/run", O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
		if (run < 0)
			return -errno;
		r = copy_asset(asset, init->assets[i], run);
		if (r < 0)
			return r;
		fd_close(&init->assets[i]);
	}
	return 0;
}
