/* SPDX-License-Identifier: Apache-2.0
 * Runs: spawner (capabilities of P only). Started by postern-start in P, in the template root and the empty network
 * namespace, with the descriptors of broker/inherit.h; makes sandboxes for the broker until it is told to stop.
 * In direct mode there is no P, and the capabilities (confine.c) are of the host. */
#include "spawner.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>

#include "common/cleanup.h"
#include "common/fault.h"
#include "common/log.h"

static struct spawner spawner; /* pages of free entries are never touched */

/* Nothing but what is listed in inherit.h survives. */
static int take_inheritance(struct spawner *sp)
{
	for (unsigned fd = STDERR_FILENO + 1; fd < (unsigned)SPAWNER_FD_P_FIRST + P_COUNT; fd++)
		if (fd != SPAWNER_FD_BROKER && fd != SPAWNER_FD_RENDEZVOUS && fd < SPAWNER_FD_P_FIRST)
			(void)close((int)fd);
#ifdef POSTERN_FAULT_INJECTION
	if (syscall(SYS_close_range, SPAWNER_FD_P_FIRST + P_COUNT, SPAWNER_FD_FAULT - 1, 0) < 0 ||
	    syscall(SYS_close_range, SPAWNER_FD_FAULT + 1, ~0u, 0) < 0)
		return -errno;
#else
	if (syscall(SYS_close_range, SPAWNER_FD_P_FIRST + P_COUNT, ~0u, 0) < 0)
		return -errno;
#endif
	for (int i = 0; i < P_COUNT; i++) {
		sp->p[i] = SPAWNER_FD_P_FIRST + i;
		if (fcntl(sp->p[i], F_SETFD, FD_CLOEXEC) < 0)
			sp->p[i] = -1; /* this host has none */
	}
	sp->has_broker = fcntl(SPAWNER_FD_BROKER, F_SETFD, FD_CLOEXEC) == 0; /* else it is started later, and joins */
	if (fcntl(SPAWNER_FD_RENDEZVOUS, F_SETFD, FD_CLOEXEC) < 0)
		return -errno;
	sp->rendezvous = SPAWNER_FD_RENDEZVOUS;
	for (int i = P_USERNS; i <= P_PRIVATE; i++)
		if (sp->p[i] < 0)
			return -EBADF;
	return sp->p[P_INIT] < 0 || sp->p[P_TABLE] < 0 ? -EBADF : 0;
}

static int map_table(struct spawner *sp)
{
	struct stat st;
	void *bytes;

	if (fstat(sp->p[P_TABLE], &st) < 0)
		return -errno;
	if (st.st_size != (off_t)sizeof(*sp->table) || !table_sealed(sp->p[P_TABLE]))
		return -EINVAL;
	bytes = mmap(NULL, sizeof(*sp->table), PROT_READ, MAP_PRIVATE, sp->p[P_TABLE], 0);
	if (bytes == MAP_FAILED)
		return -errno;
	if (table_check(bytes, (size_t)st.st_size) < 0)
		return -EINVAL;
	sp->table = bytes;
	return 0;
}

static int open_loop(struct spawner *sp)
{
	sp->link = sp->netlink = sp->worker = -1;
	sp->epoll = epoll_create1(EPOLL_CLOEXEC);
	sp->timer = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
	if (sp->epoll < 0 || sp->timer < 0)
		return -errno;
	if (loop_watch(sp, sp->signals, EPOLLIN, EVENT_SIGNAL, 0) < 0)
		return -errno;
	return loop_watch(sp, sp->timer, EPOLLIN, EVENT_TIMER, 0);
}

/* SIGCHLD: at its default, or our children could not be waited for. SIGPIPE: a closed log must not end us. SIGINT and
 * SIGHUP of a terminal are for the broker. SIGTERM and SIGUSR1 are taken from a descriptor, see loop.c. The child undoes
 * all of it. */
static int set_signals(struct spawner *sp)
{
	const struct sigaction ignore = { .sa_handler = SIG_IGN }, usual = { .sa_handler = SIG_DFL };
	sigset_t terminate;

	(void)sigemptyset(&terminate);
	(void)sigaddset(&terminate, SIGTERM);
	(void)sigaddset(&terminate, SIGUSR1);
	if (sigaction(SIGPIPE, &ignore, NULL) < 0 || sigaction(SIGINT, &ignore, NULL) < 0 ||
	    sigaction(SIGHUP, &ignore, NULL) < 0 || sigaction(SIGCHLD, &usual, NULL) < 0 ||
	    sigprocmask(SIG_SETMASK, &terminate, NULL) < 0)
		return -errno;
	sp->signals = signalfd(-1, &terminate, SFD_CLOEXEC | SFD_NONBLOCK);
	return sp->signals < 0 ? -errno : 0;
}

static int prepare(struct spawner *sp, const char **ret_what)
{
	int r;

	*ret_what = "descriptors that postern-start leaves";
	r = take_inheritance(sp);
	if (r < 0)
		return r;
	*ret_what = "table (is postern-start of the same version?)";
	r = map_table(sp);
	if (r < 0)
		return r;
	*ret_what = "signals";
	r = set_signals(sp);
	if (r < 0)
		return r;
	*ret_what = "event loop";
	r = open_loop(sp);
	if (r < 0)
		return r;
	*ret_what = "switch network namespace";
	r = switch_open(sp);
	if (r < 0)
		return r;
	sp->cgroup_outcome = cgroup_probe(sp);
	*ret_what = "confinement";
	r = confine(sp->table->direct_mode != 0);
	if (r < 0)
		return r;
	*ret_what = "rendezvous socket";
	return loop_watch(sp, sp->rendezvous, EPOLLIN, EVENT_RENDEZVOUS, 0);
}

int main(void)
{
	const char *what = "";
	int r;

	log_init("postern-spawner", LOG_LEVEL_INFO);
	r = prepare(&spawner, &what);
	if (r < 0) {
		bool direct = spawner.table != NULL && spawner.table->direct_mode != 0;

		log_error("cannot start: %s: %s%s", what, strerror(-r),
			  r == -EPERM && direct ? "; with SELinux, direct mode needs \"setsebool -P postern_direct_mode on\""
						: "");
		return EXIT_FAILURE;
	}
	if (spawner.has_broker)
		link_adopt(&spawner, SPAWNER_FD_BROKER);
	r = loop_run(&spawner);
	if (r < 0)
		log_error("event loop: %s", strerror(-r));
	return r == 0 && spawner.asked ? EXIT_SUCCESS : EXIT_FAILURE;
}
