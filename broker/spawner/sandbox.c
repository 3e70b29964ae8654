/* SPDX-License-Identifier: Apache-2.0
 * Runs: spawner (capabilities of P only). The table of sandboxes. */
#include "spawner.h"

#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/syscall.h>

#include "common/cleanup.h"
#include "common/log.h"

/* A free entry, filled with the lease and nothing else; NULL when all are taken. */
struct sandbox *sandbox_new(struct spawner *sp, const struct wire_lease *lease)
{
	for (uint32_t i = 0; i < SANDBOXES_MAX; i++) {
		struct sandbox *box = &sp->boxes[i];

		if (box->state != BOX_FREE)
			continue;
		*box = (struct sandbox){ .state = BOX_LIVE, .lease = *lease, .pidfd = -1, .keeper = -1 };
		sp->live++;
		return box;
	}
	return NULL;
}

struct sandbox *sandbox_find(struct spawner *sp, uint64_t id)
{
	for (uint32_t i = 0, seen = 0; i < SANDBOXES_MAX && seen < sp->live; i++) {
		seen += sp->boxes[i].state != BOX_FREE;
		if (sp->boxes[i].state != BOX_FREE && sp->boxes[i].lease.id == id)
			return &sp->boxes[i];
	}
	return NULL;
}

int sandbox_watch(struct spawner *sp, struct sandbox *box)
{
	uint32_t index = (uint32_t)(box - sp->boxes);
	int r = loop_watch(sp, box->pidfd, EPOLLIN, EVENT_PIDFD, index);

	return r < 0 ? r : loop_watch(sp, box->keeper, EPOLLIN, EVENT_KEEPER, index);
}

/* A sandbox that an earlier spawner started: the broker kept its record. We are not its parent; its end shows all the
 * same. Takes both descriptors. */
int sandbox_adopt(struct spawner *sp, const struct wire_lease *lease, int *pidfd, int *keeper)
{
	struct sandbox *box = sandbox_find(sp, lease->id);

	if (box != NULL)
		return 0; /* both sides had it: the copies cannot differ */
	box = sandbox_new(sp, lease);
	if (box == NULL)
		return -ENOSPC;
	box->pidfd = fd_take(pidfd);
	box->keeper = fd_take(keeper);
	box->known = true;
	return sandbox_watch(sp, box);
}

/* init, or before it the drop, says that a step failed; nothing else ever comes this way. */
void sandbox_keeper_event(struct spawner *sp, uint32_t index)
{
	const struct wire_session session = { .link = LINK_KEEPER, .peer = FROM_INIT, .phase = PHASE_READY };
	struct sandbox *box = &sp->boxes[index];
	struct wire_in in;
	int r;

	if (box->state != BOX_LIVE || box->keeper < 0)
		return;
	r = wire_recv(box->keeper, &session, &in);
	if (r == -EAGAIN)
		return;
	if (r == 1) {
		log_warn("sandbox %u: %s failed: %s", box->lease.uid, wire_step_text(in.msg.step_failed.step),
			 strerror((int)in.msg.step_failed.error));
		/* A note for the log only: the controller has been told by the same sender, the broker gets S_GONE. */
		wire_in_close(&in);
		return;
	}
	/* Closed or broken. The broker still uses its copy, so only stop listening; the end itself shows at the pidfd. */
	(void)epoll_ctl(sp->epoll, EPOLL_CTL_DEL, box->keeper, NULL);
	if (r == -EPROTO)
		log_warn("sandbox %u: its init broke the protocol (%s)", box->lease.uid, in.why);
}

/* PID 1 of the sandbox: everything in it dies with it. Does nothing when it is dead already. */
int sandbox_kill(const struct sandbox *box)
{
	if (box->state != BOX_LIVE || box->pidfd < 0)
		return 0;
	return syscall(SYS_pidfd_send_signal, box->pidfd, SIGKILL, NULL, 0) < 0 && errno != ESRCH ? -errno : 0;
}

void sandbox_kill_all(struct spawner *sp)
{
	for (uint32_t i = 0; i < SANDBOXES_MAX; i++) {
		int r = sandbox_kill(&sp->boxes[i]);

		if (r < 0)
			log_error("sandbox %u: cannot be killed: %s", sp->boxes[i].lease.uid, strerror(-r));
	}
}
