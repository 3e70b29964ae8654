/* SPDX-License-Identifier: Apache-2.0
 * Runs: controller and CLI (the user). Finding and checking the base, entering and leaving. */
#include "home.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "home_internal.h"

/* ---- the base -------------------------------------------------------------------------------------------------- */

/* Our directory `name` below parent, made when it is missing and make says so. The check is on the descriptor that is
 * then used, so nobody can swap the directory between the two. */
static int open_ours(bool make, int parent, const char *name, const char *shown, int *ret_fd, struct failure *failure)
{
	cleanup_fd int fd = -1;
	struct stat st;

	if (make && mkdirat(parent, name, 0700) < 0 && errno != EEXIST)
		return fail(failure, -errno, EXIT_FAILED,
			    "make state directory %s: %s; set XDG_RUNTIME_DIR to a directory of yours", shown,
			    strerror(errno));
	fd = openat(parent, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0 && errno == ENOENT && !make)
		return -ENOENT;
	if (fd < 0 && (errno == ELOOP || errno == ENOTDIR))
		return fail(failure, -ELOOP, EXIT_FAILED,
			    "state directory %s: is not a directory of its own; remove it or set XDG_RUNTIME_DIR", shown);
	if (fd < 0)
		return fail(failure, -errno, EXIT_FAILED,
			    "open state directory %s: %s; set XDG_RUNTIME_DIR to a directory of yours", shown,
			    strerror(errno));
	if (fstat(fd, &st) < 0)
		return fail(failure, -errno, EXIT_FAILED, "state directory %s: %s", shown, strerror(errno));
	if (st.st_uid != geteuid())
		return fail(failure, -EPERM, EXIT_FAILED,
			    "state directory %s: belongs to uid %u; remove it or set XDG_RUNTIME_DIR", shown, st.st_uid);
	if ((st.st_mode & 077) != 0)
		return fail(failure, -EPERM, EXIT_FAILED,
			    "state directory %s: others may enter it (mode %04o); chmod 700 %s", shown, st.st_mode & 07777,
			    shown);
	*ret_fd = fd_take(&fd);
	return 0;
}

/* A directory of the caller's own; -1 when it is none. */
static int own_directory(const char *path)
{
	cleanup_fd int fd = -1;
	struct stat st;

	if (path == NULL || path[0] != '/')
		return -1;
	fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0 || fstat(fd, &st) < 0 || st.st_uid != geteuid())
		return -1;
	return fd_take(&fd);
}

int home_base(bool make, int *ret_fd, struct failure *failure)
{
	static const char *const below_home[] = { ".local", "state", "postern" };
	const char *runtime = getenv("XDG_RUNTIME_DIR"), *home = getenv("HOME");
	cleanup_fd int parent = own_directory(runtime);
	char path[512], leaf[64];

	(void)snprintf(path, sizeof(path), "%s/postern", runtime != NULL ? runtime : "");
	if (parent < 0) {
		(void)snprintf(path, sizeof(path), "/run/user/%u", geteuid());
		parent = own_directory(path);
		(void)snprintf(path, sizeof(path), "/run/user/%u/postern", geteuid());
	}
	if (parent >= 0)
		return open_ours(make, parent, "postern", path, ret_fd, failure);
	parent = own_directory(home);
	if (parent >= 0) {
		for (size_t i = 0; i < ARRAY_SIZE(below_home) && parent >= 0; i++) {
			int next;

			if (make)
				(void)mkdirat(parent, below_home[i], 0700);
			next = openat(parent, below_home[i], O_RDONLY | O_DIRECTORY | O_CLOEXEC);
			fd_close(&parent); /* keeps errno */
			parent = next;
		}
		(void)snprintf(path, sizeof(path), "%s/.local/state/postern/run", home);
		if (parent >= 0)
			return open_ours(make, parent, "run", path, ret_fd, failure);
		if (!make && errno == ENOENT)
			return -ENOENT;
	}
	/* Anybody may have made this name first: that is what the checks of open_ours() are for. */
	(void)snprintf(leaf, sizeof(leaf), "postern-%u", geteuid());
	(void)snprintf(path, sizeof(path), "/tmp/%s", leaf);
	parent = open("/tmp", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (parent < 0)
		return fail(failure, -errno, EXIT_FAILED, "open /tmp: %s; set XDG_RUNTIME_DIR to a directory of yours",
			    strerror(errno));
	return open_ours(make, parent, leaf, path, ret_fd, failure);
}

/* ---- files ----------------------------------------------------------------------------------------------------- */

int home_write(int dir, const char *name, const char *text, size_t len)
{
	char fresh[64];
	cleanup_fd int fd = -1;

	(void)snprintf(fresh, sizeof(fresh), ".%s.new", name);
	(void)unlinkat(dir, fresh, 0);
	fd = openat(dir, fresh, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
	if (fd < 0 || fchmod(fd, 0600) < 0)
		return -errno;
	for (size_t done = 0; done < len;) {
		ssize_t put = write(fd, text + done, len - done);

		if (put < 0 && errno == EINTR)
			continue;
		if (put < 0) {
			int error = -errno;

			(void)unlinkat(dir, fresh, 0);
			return error;
		}
		done += (size_t)put;
	}
	return renameat(dir, fresh, dir, name) < 0 ? -errno : 0;
}

int home_read(int dir, const char *name, size_t max, char **ret)
{
	cleanup_fd int fd = openat(dir, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
	cleanup_free char *text = NULL;
	size_t used = 0;
	struct stat st;

	if (fd < 0 || fstat(fd, &st) < 0)
		return -errno;
	if (!S_ISREG(st.st_mode))
		return -EINVAL;
	if (st.st_size < 0 || (size_t)st.st_size > max)
		return -EFBIG;
	text = malloc((size_t)st.st_size + 1);
	if (text == NULL)
		return -ENOMEM;
	while (used < (size_t)st.st_size) {
		ssize_t got = read(fd, text + used, (size_t)st.st_size - used);

		if (got < 0)
			return -errno;
		if (got == 0)
			break;
		used += (size_t)got;
	}
	text[used] = '\0';
	*ret = text;
	text = NULL;
	return 0;
}

/* ---- entering and leaving -------------------------------------------------------------------------------------- */

/* The lock of the whole base. Held for milliseconds; a stopped process that holds it must not hang everybody else. */
int home_lock_base(int base)
{
	cleanup_fd int fd = openat(base, ".lock", O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600);

	if (fd < 0)
		return -errno;
	for (int tries = 0; tries < HOME_LOCK_TRIES; tries++) {
		const struct timespec nap = { .tv_nsec = 10000000 };

		if (flock(fd, LOCK_EX | LOCK_NB) == 0)
			return fd_take(&fd);
		if (errno != EWOULDBLOCK && errno != EINTR)
			return -errno;
		(void)nanosleep(&nap, NULL);
	}
	return -ETIMEDOUT;
}

int home_open(int base, const char *uuid, bool dead)
{
	char path[STATE_UUID_SIZE + 8];
	int fd;

	(void)snprintf(path, sizeof(path), "%s%s", dead ? HOME_DEAD "/" : "", uuid);
	fd = openat(base, path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	return fd < 0 ? -errno : fd;
}

/* Whether a sandbox that lives, or may outlive its controller, has this name. The others have died with theirs. */
static bool name_taken(int base, const char *name)
{
	struct home_list list = { 0 };
	bool taken = false;

	if (name[0] == '\0' || home_scan(base, &list) < 0)
		return false;
	for (size_t i = 0; i < list.count; i++)
		taken = taken || (!list.items[i].dead && (list.items[i].running || list.items[i].state.survive) &&
				  strcmp(list.items[i].state.name, name) == 0);
	home_list_free(&list);
	return taken;
}

int home_enter(int base, const struct state *state, struct home *ret, struct failure *failure)
{
	cleanup_fd int base_lock = home_lock_base(base), dir = -1, lock = -1;
	int r;

	if (base_lock < 0)
		return fail(failure, base_lock, EXIT_FAILED, "lock state directory: %s; is another postern process stopped?",
			    strerror(-base_lock));
	if (name_taken(base, state->name))
		return fail(failure, -EEXIST, EXIT_USAGE,
			    "name %s: a running sandbox has it; choose another or stop that one", state->name);
	if (mkdirat(base, state->uuid, 0700) < 0)
		return fail(failure, -errno, EXIT_FAILED, "make state directory of %s: %s", state->uuid, strerror(errno));
	dir = home_open(base, state->uuid, false);
	lock = dir < 0 ? dir : openat(dir, HOME_LOCK, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
	/* Only a scan can hold it, for the moment of its look: the base is locked, so no sweep finds it unfinished. */
	if (lock < 0 || flock(lock, LOCK_EX) < 0) {
		r = -errno;
		home_remove(base, state->uuid);
		return fail(failure, r, EXIT_FAILED, "lock state directory of %s: %s", state->uuid, strerror(-r));
	}
	r = state_save(state, dir);
	if (r < 0) {
		home_remove(base, state->uuid);
		return fail(failure, r, EXIT_FAILED, "write state of %s: %s", state->uuid, strerror(-r));
	}
	*ret = (struct home){ .base = base, .dir = fd_take(&dir), .lock = fd_take(&lock) };
	(void)snprintf(ret->uuid, sizeof(ret->uuid), "%s", state->uuid);
	return 0;
}

void home_leave(struct home *home, bool keep)
{
	int base_lock = home_lock_base(home->base);

	/* Without the lock (somebody sits on it) we still clean up our own: the names are ours alone. */
	if (keep)
		home_bury(home->base, home->uuid);
	else
		home_remove(home->base, home->uuid);
	fd_close(&base_lock);
	fd_close(&home->dir);
	fd_close(&home->lock);
}
