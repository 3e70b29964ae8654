/* SPDX-License-Identifier: Apache-2.0
 * Runs: spawner (capabilities of P only). From a readable pidfd to nothing left: taps, cgroups, then the broker hears.
 *
 * Deleting a tap takes some 15 ms under a lock of the whole host's network, so a short-lived child does it; one at a
 * time, since two would only wait for each other. Each path may be walked again: gone already counts as done. */
#include "spawner.h"

#include <errno.h>
#include <sched.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/wait.h>

#include "common/cleanup.h"
#include "common/log.h"
#include "netlink.h"

#define CGROUP_TRIES 500 /* ticks of the timer: 10 s */

/* Explicitly: the broker has a copy of the same open file, so closing ours would not end the watch. */
static void stop_watching(const struct spawner *sp, int fd)
{
	if (fd >= 0)
		(void)epoll_ctl(sp->epoll, EPOLL_CTL_DEL, fd, NULL);
}

static uint32_t exit_status(int pidfd)
{
	siginfo_t info = { 0 };

	/* ECHILD after an adoption: nobody can know. */
	if (waitid((idtype_t)P_PIDFD, (id_t)pidfd, &info, WEXITED | WNOHANG) < 0 || info.si_pid == 0)
		return 0;
	if (info.si_code == CLD_EXITED)
		return (uint32_t)(info.si_status & 0xff) << 8;
	return (uint32_t)(info.si_status & 0x7f) | (info.si_code == CLD_DUMPED ? 0x80u : 0u);
}

/* Child. Its own socket, since answers on the shared one would be read by whoever comes first. */
static _Noreturn void delete_taps(struct spawner *sp)
{
	int status = EXIT_SUCCESS, netlink;

	if (setns(sp->p[P_SWITCH], CLONE_NEWNET) < 0)
		_exit(EXIT_FAILURE);
	netlink = nl_open();
	if (netlink < 0)
		_exit(EXIT_FAILURE);
	for (uint32_t i = 0; i < SANDBOXES_MAX; i++) {
		const struct sandbox *box = &sp->boxes[i];

		for (uint32_t n = 0; box->state == BOX_WORKER && n < box->lease.nic_count; n++)
			if (box->lease.nics[n].ifindex != 0 && tap_delete(netlink, box->lease.nics[n].ifindex) < 0)
				status = EXIT_FAILURE;
	}
	_exit(status);
}

/* Hand everything that waits to a new worker, unless one is at work. */
static void start_worker(struct spawner *sp)
{
	bool any = false;
	long pid;

	if (sp->worker >= 0)
		return;
	for (uint32_t i = 0; i < SANDBOXES_MAX; i++)
		if (sp->boxes[i].state == BOX_TAPS) {
			sp->boxes[i].state = BOX_WORKER;
			any = true;
		}
	if (!any)
		return;
	pid = clone_child(0, -1, &sp->worker);
	if (pid == 0)
		delete_taps(sp);
	if (pid > 0 && loop_watch(sp, sp->worker, EPOLLIN, EVENT_WORKER, 0) == 0)
		return;
	/* No process to be had: try again with the timer. */
	log_warn("cannot start a worker to delete taps: %m");
	if (pid > 0)
		(void)waitid((idtype_t)P_PIDFD, (id_t)sp->worker, &(siginfo_t){ 0 }, WEXITED);
	fd_close(&sp->worker);
	for (uint32_t i = 0; i < SANDBOXES_MAX; i++)
		if (sp->boxes[i].state == BOX_WORKER)
			sp->boxes[i].state = BOX_TAPS;
	loop_timer(sp, true);
}

static void try_cgroup(struct spawner *sp, struct sandbox *box)
{
	int r = cgroup_remove(sp, &box->lease);

	/* That it can be removed is the proof that no process is in it. Shortly after the end some may still be on
	 * their way out (threads of vhost, zombies). */
	if (r == -EBUSY && ++box->tries < CGROUP_TRIES) {
		box->state = BOX_CGROUP;
		loop_timer(sp, true);
		return;
	}
	if (r < 0) {
		log_error("sandbox %u: its cgroup cannot be removed: %s", box->lease.uid, strerror(-r));
		box->dirty = true;
	}
	box->state = BOX_GONE;
}

void death_begin(struct spawner *sp, struct sandbox *box)
{
	bool taps = false;

	if (box->pidfd >= 0)
		box->status = exit_status(box->pidfd);
	/* Its init may be among what the OOM killer took, so nobody inside can tell. Counted before the signal was sent. */
	box->oom = cgroup_oom(sp, &box->lease);
	stop_watching(sp, box->pidfd);
	stop_watching(sp, box->keeper);
	for (uint32_t n = 0; n < box->lease.nic_count; n++)
		taps = taps || (box->lease.nics[n].ifindex != 0 && tap_exists(sp, box->lease.nics[n].ifindex));
	if (taps) {
		box->state = BOX_TAPS;
		start_worker(sp);
	} else {
		try_cgroup(sp, box);
	}
	link_flush(sp);
}

void death_worker_done(struct spawner *sp)
{
	siginfo_t info = { 0 };
	bool clean;

	clean = waitid((idtype_t)P_PIDFD, (id_t)sp->worker, &info, WEXITED | WNOHANG) == 0 && info.si_code == CLD_EXITED &&
		info.si_status == EXIT_SUCCESS;
	stop_watching(sp, sp->worker);
	fd_close(&sp->worker);
	for (uint32_t i = 0; i < SANDBOXES_MAX; i++) {
		struct sandbox *box = &sp->boxes[i];

		if (box->state != BOX_WORKER)
			continue;
		for (uint32_t n = 0; !clean && n < box->lease.nic_count; n++)
			if (box->lease.nics[n].ifindex != 0 && tap_exists(sp, box->lease.nics[n].ifindex)) {
				log_error("sandbox %u: tap %u cannot be deleted", box->lease.uid,
					  box->lease.nics[n].ifindex);
				box->dirty = true;
			}
		try_cgroup(sp, box);
	}
	start_worker(sp);
	link_flush(sp);
}

/* A tick of the timer. */
void death_retry(struct spawner *sp)
{
	bool left = false;

	start_worker(sp);
	for (uint32_t i = 0; i < SANDBOXES_MAX; i++) {
		if (sp->boxes[i].state == BOX_CGROUP)
			try_cgroup(sp, &sp->boxes[i]);
		left = sandbox_tend(sp, &sp->boxes[i]) || left;
		left = left || sp->boxes[i].state == BOX_CGROUP || sp->boxes[i].state == BOX_TAPS;
	}
	if (sp->sweeps > 0 && cgroup_sweep(sp))
		sp->sweeps = 0;
	else if (sp->sweeps > 0 && --sp->sweeps == 0)
		log_error("cgroups of an earlier spawner cannot be removed");
	loop_timer(sp, left || sp->sweeps > 0);
	link_flush(sp); /* last: it may want the timer again */
}
