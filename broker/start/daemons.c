/* SPDX-License-Identifier: Apache-2.0
 * Runs: start (root, for a moment). From root to the daemons: descriptors, environment, identity, exec. */
#include "start.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/capability.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "common/log.h"

#define PLACE_FIRST_FREE 64 /* above every number of inherit.h */
#define PLACES_MAX 40

extern char **environ;

/* What the daemons may know of our environment. */
void daemons_environment(char **ret, size_t max)
{
	static const char *const names[] = { "NOTIFY_SOCKET=", "WATCHDOG_USEC=", "WATCHDOG_PID=", "JOURNAL_STREAM=" };
	size_t count = 0;

	for (char **e = environ; *e != NULL; e++)
		for (size_t i = 0; i < ARRAY_SIZE(names) && count + 1 < max; i++)
			if (strncmp(*e, names[i], strlen(names[i])) == 0)
				ret[count++] = *e;
	ret[count] = NULL;
}

/* pairs of {from, to}; from -1: to is closed. Nothing else is changed: both daemons close what they do not know. */
int daemons_place(const int (*placing)[2], size_t count)
{
	int high[PLACES_MAX];

	if (count > ARRAY_SIZE(high))
		return -E2BIG;
	/* First all of them out of the way, then each to its number. */
	for (size_t i = 0; i < count; i++) {
		high[i] = placing[i][0] < 0 ? -1 : fcntl(placing[i][0], F_DUPFD_CLOEXEC, PLACE_FIRST_FREE);
		if (placing[i][0] >= 0 && high[i] < 0)
			return -errno;
	}
	for (size_t i = 0; i < count; i++)
		if (high[i] < 0)
			(void)close(placing[i][1]);
		else if (dup2(high[i], placing[i][1]) < 0)
			return -errno;
	return 0;
}

int daemons_stdio(int log)
{
	cleanup_fd int null = open("/dev/null", O_RDWR | O_CLOEXEC);

	if (null < 0 || dup2(null, STDIN_FILENO) < 0)
		return -errno;
	if (log >= 0 && dup2(log, STDERR_FILENO) < 0)
		return -errno;
	/* Neither daemon prints. */
	return dup2(STDERR_FILENO, STDOUT_FILENO) < 0 ? -errno : 0;
}

/* What is needed until the exec, or after one that fails, must not lie on a number that is about to be given away. */
int daemons_lift(int *fd)
{
	int high;

	if (*fd < 0)
		return 0;
	high = fcntl(*fd, F_DUPFD_CLOEXEC, PLACE_FIRST_FREE);
	if (high < 0)
		return -errno;
	fd_close(fd);
	*fd = high;
	return 0;
}

static int place_broker(struct start *s)
{
	int place[PLACES_MAX][2];
	size_t count = 0;
	const struct {
		int from, to;
	} fixed[] = {
		{ s->link[0], BROKER_FD_SPAWNER },        { s->policy_fd, BROKER_FD_POLICY },
		{ s->listen, BROKER_FD_LISTEN },          { s->broker_dir, BROKER_FD_RUNTIME },
		{ s->host_fd, BROKER_FD_HOST },           { s->broker_rendezvous, BROKER_FD_RENDEZVOUS },
		{ s->p[P_IDS_LOCK], BROKER_FD_IDS_LOCK },
	};

	for (size_t i = 0; i < ARRAY_SIZE(fixed); i++, count++) {
		place[count][0] = fixed[i].from;
		place[count][1] = fixed[i].to;
	}
	for (int i = 0; i < P_COUNT; i++, count++) {
		place[count][0] = s->p[i];
		place[count][1] = BROKER_FD_P_FIRST + i;
	}
	return daemons_place((const int(*)[2])place, count);
}

/* Out of root: the bounding set while we still may, then groups, gid, uid. A change from root to another uid takes the
 * permitted and effective sets; nothing was ever inheritable or ambient, and capset makes sure. */
static int drop_root(const struct start *s)
{
	struct __user_cap_header_struct head = { .version = _LINUX_CAPABILITY_VERSION_3 };
	struct __user_cap_data_struct none[_LINUX_CAPABILITY_U32S_3] = { { 0, 0, 0 } };
	uid_t u[3];

	for (int cap = 0; prctl(PR_CAPBSET_READ, cap, 0, 0, 0) >= 0; cap++)
		if (prctl(PR_CAPBSET_DROP, cap, 0, 0, 0) < 0)
			return -errno;
	if (setgroups(s->group_count, s->groups) < 0 ||
	    setresgid(s->policy.broker_gid, s->policy.broker_gid, s->policy.broker_gid) < 0 ||
	    setresuid(s->policy.broker_uid, s->policy.broker_uid, s->policy.broker_uid) < 0 ||
	    syscall(SYS_capset, &head, none) < 0)
		return -errno;
	if (getresuid(&u[0], &u[1], &u[2]) < 0 || u[0] != s->policy.broker_uid || u[1] != u[0] || u[2] != u[0] ||
	    setuid(0) == 0)
		return -EPERM;
	return 0;
}

int become_broker(struct start *s, struct spawning *spawning)
{
	const struct sigaction ignore = { .sa_handler = SIG_IGN };
	char *const argv[] = { (char[]){ "postern-broker" },
			       s->options.stop_sandboxes ? (char[]){ "--stop-sandboxes-on-exit" } : NULL, NULL };
	char *environment[8];
	int r;

	daemons_environment(environment, ARRAY_SIZE(environment));
	(void)umask(077);
	r = chdir("/") < 0 || sigaction(SIGCHLD, &ignore, NULL) < 0 ? -errno : 0;
	if (r == 0)
		r = daemons_lift(&s->broker_program);
	if (r == 0)
		r = daemons_lift(&s->ready);
	if (r == 0)
		r = daemons_lift(&spawning->sync);
	if (r == 0)
		r = daemons_stdio(s->log); /* before the log's own number is given away */
	if (r == 0)
		r = place_broker(s);
	if (r == 0)
		r = drop_root(s);
	if (r < 0) {
		log_error("cannot become the broker: %s", strerror(-r));
		return r;
	}
	(void)execveat(s->broker_program, "", argv, environment, AT_EMPTY_PATH);
	log_error("postern-broker: %m");
	return -errno;
}
