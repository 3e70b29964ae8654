/* SPDX-License-Identifier: Apache-2.0
 * Runs: start (root, for a moment). The lock on our id range, and whether anybody still lives in it.
 *
 * Two Posterns whose ranges overlap would give one uid to two sandboxes. The lock belongs to the open file, which both
 * daemons inherit: the range is taken while either lives, and free when both are gone, however they went. A sandbox can
 * outlive both; that only the process table tells. */
#include "start.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

#include "common/cleanup.h"
#include "common/log.h"

#define END_WAITS 100 /* of 10 ms: what was killed a moment ago may still be on its way out */

/* In /run itself, which only root writes; in /run/lock anybody could plant something. One for all runtime directories. */
#define IDS_LOCK_FILE "/run/postern-ids.lock"

static int lock(const struct start *s, int fd)
{
	struct flock range = {
		.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = s->policy.first_uid, .l_len = s->policy.uid_count
	};

	return fcntl(fd, F_OFD_SETLK, &range) < 0 ? -errno : 0;
}

/* Nobody but root can open the file, and to lock it once more works only through what holds the lock already. */
bool ids_is_lock(const struct start *s, int fd)
{
	struct stat file, st;

	return lstat(IDS_LOCK_FILE, &file) == 0 && fstat(fd, &st) == 0 && st.st_dev == file.st_dev &&
	       st.st_ino == file.st_ino && lock(s, fd) == 0;
}

int ids_lock(struct start *s)
{
	cleanup_fd int fd = open(IDS_LOCK_FILE, O_RDWR | O_CREAT | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC, 0600);
	struct stat st;
	int r;

	if (fd < 0 || fstat(fd, &st) < 0) {
		log_error("%s: %m", IDS_LOCK_FILE);
		return -errno;
	}
	if (!S_ISREG(st.st_mode) || st.st_uid != 0 || st.st_nlink != 1 || (st.st_mode & 077) != 0) {
		log_error("%s: not a plain file of root's with mode 0600; remove it", IDS_LOCK_FILE);
		return -EPERM;
	}
	r = lock(s, fd);
	if (r < 0) {
		if (r == -EAGAIN || r == -EACCES)
			log_error("ids %u-%u: another Postern on this host uses some of them (%s is locked); end it, or "
				  "give each policy its own \"ids\"",
				  s->policy.first_uid, s->policy.first_uid + (s->policy.uid_count - 1), IDS_LOCK_FILE);
		else
			log_error("%s: %s", IDS_LOCK_FILE, strerror(-r));
		return -EBUSY;
	}
	s->p[P_IDS_LOCK] = fd_take(&fd);
	return 0;
}

/* Whether one of the four ids of a line of /proc/PID/status is in the range. */
static bool any_in_range(const struct start *s, const char *status, const char *line)
{
	const char *at = strstr(status, line);
	char *end;

	if (at == NULL)
		return false;
	at += strlen(line);
	for (int i = 0; i < 4; i++, at = end) {
		unsigned long id = strtoul(at, &end, 10);

		if (id >= s->policy.first_uid && id - s->policy.first_uid < s->policy.uid_count)
			return true;
	}
	return false;
}

/* A zombie does nothing any more, unless it is the leader of threads that live on. */
static bool acts(const char *status)
{
	const char *threads = strstr(status, "\nThreads:");

	return strstr(status, "\nState:\tZ") == NULL || threads == NULL ||
	       strtoul(threads + strlen("\nThreads:"), NULL, 10) > 1;
}

static bool lives_in_range(const struct start *s, int proc, const char *pid)
{
	char path[300], status[4096];
	cleanup_fd int fd = -1;
	ssize_t n;

	(void)snprintf(path, sizeof(path), "%s/status", pid);
	fd = openat(proc, path, O_RDONLY | O_CLOEXEC);
	n = fd < 0 ? -1 : read(fd, status, sizeof(status) - 1);
	if (n <= 0) /* it ended under our hands */
		return false;
	status[n] = '\0';
	return (any_in_range(s, status, "\nUid:") || any_in_range(s, status, "\nGid:")) && acts(status);
}

/* 0: none; its pid; -errno. */
static int find_in_range(const struct start *s)
{
	DIR *proc = opendir("/proc");
	struct dirent *entry;
	int found = 0;

	if (proc == NULL)
		return -errno;
	while (found == 0 && (entry = readdir(proc)) != NULL)
		if (entry->d_name[0] > '0' && entry->d_name[0] <= '9' && lives_in_range(s, dirfd(proc), entry->d_name))
			found = (int)strtol(entry->d_name, NULL, 10);
	(void)closedir(proc);
	return found;
}

/* Whose it is we cannot know (another runtime directory's, without cgroups ours), so it is not ours to kill. */
int ids_unused(const struct start *s)
{
	const struct timespec pause = { .tv_nsec = 10000000 };
	int pid = find_in_range(s);

	for (int i = 0; i < END_WAITS && pid > 0; i++) {
		(void)nanosleep(&pause, NULL);
		pid = find_in_range(s);
	}
	if (pid < 0) {
		log_error("/proc: %s; without it nobody can tell whether the ids are unused", strerror(-pid));
		return pid;
	}
	if (pid > 0) {
		log_error("process %d runs with an id of %u-%u: a sandbox of an earlier start; end it (kill -9 %d, or "
			  "--cleanup with the --runtime it was started with)",
			  pid, s->policy.first_uid, s->policy.first_uid + (s->policy.uid_count - 1), pid);
		return -EBUSY;
	}
	return 0;
}
