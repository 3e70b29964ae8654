/* SPDX-License-Identifier: Apache-2.0
 * Runs: start (root, for a moment). The runtime directory and the sockets in it.
 *
 * Every name is reached through the descriptor of its directory, nothing is followed, and what is there already is
 * believed only if it is what an earlier start would have made. Modes come from umask and from descriptors, never
 * from a path that somebody could exchange in between. */
#include "start.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include "common/cleanup.h"
#include "common/log.h"
#include "label.h"

#define CLIENT_BACKLOG 128
#define RENDEZVOUS_BACKLOG 4
#define LISTEN_FD 3 /* systemd's first */
#define PID_FILE "spawner.pid"

/* Whether only root decides what lies below this directory; a sticky one is good enough to stand in. */
static bool is_roots(const struct stat *st)
{
	return st->st_uid == 0 && ((st->st_mode & 022) == 0 || (st->st_mode & S_ISVTX) != 0);
}

/* Open a directory of ours below parent, making it if need be. owner: who may own one that is there already. */
static int own_dir(int parent, const char *name, mode_t mode, uid_t owner, int *ret_fd)
{
	cleanup_fd int fd = -1;
	struct stat st;

	if (mkdirat(parent, name, mode) < 0 && errno != EEXIST) {
		log_error("directory %s: %m", name);
		return -errno;
	}
	fd = openat(parent, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0 || fstat(fd, &st) < 0) {
		log_error("%s: not a directory of ours (%m); remove it", name);
		return -errno;
	}
	if ((st.st_uid != 0 && st.st_uid != owner) || (st.st_mode & 022) != 0) {
		log_error("%s: a directory of uid %u with mode %04o is in the way; remove it", name, st.st_uid,
			  st.st_mode & 07777);
		return -EPERM;
	}
	if (fchmod(fd, mode) < 0) {
		log_error("%s: %m", name);
		return -errno;
	}
	*ret_fd = fd_take(&fd);
	return 0;
}

/* Walk down from / without following a link. */
static int walk(const char *path, int *ret_fd)
{
	cleanup_fd int at = open("/", O_PATH | O_DIRECTORY | O_CLOEXEC);
	char copy[RUNTIME_PATH_MAX + 1], *save = NULL, *name, *next;
	struct stat st;

	if (at < 0)
		return -errno;
	(void)snprintf(copy, sizeof(copy), "%s", path);
	name = strtok_r(copy, "/", &save);
	if (name == NULL) {
		log_error("runtime directory: / will not do");
		return -EINVAL;
	}
	while ((next = strtok_r(NULL, "/", &save)) != NULL) {
		int below = openat(at, name, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);

		fd_close(&at);
		at = below;
		if (at < 0 || fstat(at, &st) < 0) {
			log_error("runtime directory %s: %s: %m", path, name);
			return -errno;
		}
		if (!is_roots(&st)) {
			log_error("runtime directory %s: others than root may write in %s", path, name);
			return -EPERM;
		}
		name = next;
	}
	return own_dir(at, name, 0755, 0, ret_fd);
}

/* Interfaces and cgroups of two Posterns on one host must not meet; the path tells them apart. */
static int make_tag(const char *path, char ret[TAG_BYTES])
{
	uint64_t hash = UINT64_C(14695981039346656037);
	char copy[RUNTIME_PATH_MAX + 1], *save = NULL;

	/* However many slashes there are: the directory counts, not its spelling. Links are refused by walk(). */
	(void)snprintf(copy, sizeof(copy), "%s", path);
	for (char *name = strtok_r(copy, "/", &save); name != NULL; name = strtok_r(NULL, "/", &save)) {
		if (strcmp(name, ".") == 0 || strcmp(name, "..") == 0) {
			log_error("runtime directory %s: write it without \"%s\"", path, name);
			return -EINVAL;
		}
		hash = (hash ^ '/') * UINT64_C(1099511628211);
		for (const char *c = name; *c != '\0'; c++)
			hash = (hash ^ (uint8_t)*c) * UINT64_C(1099511628211);
	}
	(void)snprintf(ret, TAG_BYTES, "%016llx", (unsigned long long)hash);
	return 0;
}

int runtime_open(struct start *s)
{
	int r = make_tag(s->options.runtime, s->tag);

	if (r < 0)
		return r;
	(void)umask(022);
	r = walk(s->options.runtime, &s->runtime);
	if (r == 0)
		r = own_dir(s->runtime, "private", 0700, 0, &s->private_dir);
	if (r < 0)
		return r;
	/* Held until we have become the broker: two starts at once would each take the other for dead. */
	if (flock(s->private_dir, LOCK_EX | LOCK_NB) < 0) {
		log_error("%s: another postern-start is at work here", s->options.runtime);
		return -EBUSY;
	}
	r = own_dir(s->runtime, "broker", 0700, s->policy.broker_uid, &s->broker_dir);
	if (r == 0 && fchown(s->broker_dir, s->policy.broker_uid, s->policy.broker_gid) < 0) {
		log_error("%s/broker: %m", s->options.runtime);
		r = -errno;
	}
	return r;
}

/* A dead socket of an earlier start goes; anything else stays and stops us. */
static int remove_stale(int dir, const char *name)
{
	struct stat st;

	if (fstatat(dir, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return errno == ENOENT ? 0 : -errno;
	if (!S_ISSOCK(st.st_mode) || st.st_uid != 0 || st.st_nlink != 1) {
		log_error("%s: something that is not our socket is in the way; remove it", name);
		return -EEXIST;
	}
	return unlinkat(dir, name, 0) < 0 ? -errno : 0;
}

int runtime_socket(int dir, const char *name, mode_t mode, gid_t gid, int backlog, int *ret_fd)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	cleanup_fd int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0), file = -1;
	mode_t before;
	int r = remove_stale(dir, name);

	if (r < 0)
		return r;
	(void)snprintf(address.sun_path, sizeof(address.sun_path), "/proc/self/fd/%d/%s", dir, name);
	/* The mode is right from the first moment; bind() never reuses what is there. */
	before = umask(0777 & ~mode);
	r = fd < 0 || bind(fd, (const struct sockaddr *)&address, sizeof(address)) < 0 ? -errno : 0;
	(void)umask(before);
	if (r == 0 && gid != 0) {
		file = openat(dir, name, O_PATH | O_NOFOLLOW | O_CLOEXEC);
		if (file < 0 || fchownat(file, "", (uid_t)-1, gid, AT_EMPTY_PATH) < 0)
			r = -errno;
	}
	if (r == 0 && listen(fd, backlog) < 0)
		r = -errno;
	if (r < 0) {
		log_error("socket %s: %s", name, strerror(-r));
		return r;
	}
	*ret_fd = fd_take(&fd);
	return 0;
}

/* 1: systemd passed a listening socket and s->listen has it; 0: it did not; -errno: it passed something else. */
static int passed_socket(struct start *s)
{
	const char *pid = getenv("LISTEN_PID"), *count = getenv("LISTEN_FDS");
	int type = 0, listening = 0, domain = 0;
	socklen_t size = sizeof(int);

	if (pid == NULL || count == NULL || strtol(pid, NULL, 10) != getpid())
		return 0;
	if (strtol(count, NULL, 10) != 1 || s->options.daemon ||
	    getsockopt(LISTEN_FD, SOL_SOCKET, SO_DOMAIN, &domain, &size) < 0 || domain != AF_UNIX ||
	    getsockopt(LISTEN_FD, SOL_SOCKET, SO_TYPE, &type, &size) < 0 || type != SOCK_SEQPACKET ||
	    getsockopt(LISTEN_FD, SOL_SOCKET, SO_ACCEPTCONN, &listening, &size) < 0 || listening == 0) {
		log_error(
			"socket activation: expected exactly one listening ListenSequentialPacket= socket, and no --daemon");
		return -EINVAL;
	}
	s->listen = fcntl(LISTEN_FD, F_DUPFD_CLOEXEC, LISTEN_FD + 1);
	return s->listen < 0 ? -errno : 1;
}

int runtime_listen(struct start *s)
{
	int r = passed_socket(s);

	if (r != 0)
		return r < 0 ? r : 0;
	/* The broker's from the first moment: what clients must be able to connect to is the broker alone. */
	r = label_next_sockets(s, LABEL_BROKER_TYPE);
	if (r == 0)
		r = runtime_socket(s->runtime, "broker.sock", s->policy.socket_mode, s->policy.socket_gid, CLIENT_BACKLOG,
				   &s->listen);
	return r < 0 ? r : label_next_sockets(s, NULL);
}

int runtime_pid_file(const struct start *s, pid_t spawner)
{
	cleanup_fd int fd = -1;

	(void)unlinkat(s->runtime, PID_FILE, 0);
	fd = openat(s->runtime, PID_FILE, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0644);
	if (fd >= 0 && dprintf(fd, "%d\n", spawner) > 0)
		return 0;
	log_error("%s/" PID_FILE ": %m", s->options.runtime);
	return -EIO;
}

void runtime_clean(struct start *s)
{
	(void)unlinkat(s->runtime, PID_FILE, 0);
	(void)remove_stale(s->runtime, "broker.sock");
	(void)remove_stale(s->private_dir, "broker.sock");
	(void)remove_stale(s->private_dir, "spawner.sock");
}
