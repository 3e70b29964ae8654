/* SPDX-License-Identifier: Apache-2.0
 * Runs: spawner (capabilities of P only). The table of sandboxes. */
#include "spawner.h"

#include <errno.h>
#include <poll.h>
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

bool sandbox_has_uid(const struct spawner *sp, uint32_t uid)
{
	for (uint32_t i = 0, seen = 0; i < SANDBOXES_MAX && seen < sp->live; i++) {
		seen += sp->boxes[i].state != BOX_FREE;
		if (sp->boxes[i].state != BOX_FREE && sp->boxes[i].lease.uid == uid)
			return true;
	}
	return false;
}

/* The descriptors stay until here: a broker that comes while the rest is being cleaned up gets them. */
void sandbox_free(struct spawner *sp, struct sandbox *box)
{
	fd_close(&box->pidfd);
	fd_close(&box->keeper);
	box->state = BOX_FREE;
	sp->live--;
}

/* On failure the timer does what the watch would have done: no death goes unnoticed. */
int sandbox_watch(struct spawner *sp, struct sandbox *box)
{
	uint32_t index = (uint32_t)(box - sp->boxes);
	int r = loop_watch(sp, box->pidfd, EPOLLIN, EVENT_PIDFD, index);

	box->watched = r == 0;
	if (!box->watched)
		loop_timer(sp, true);
	return r < 0 ? r : loop_watch(sp, box->keeper, EPOLLIN, EVENT_KEEPER, index);
}

/* A sandbox that an earlier spawner started: the broker kept its record. We are not its parent; its end shows all the
 * same. Takes both descriptors. */
int sandbox_adopt(struct spawner *sp, const struct wire_lease *lease, int *pidfd, int *keeper)
{
	struct sandbox *box = sandbox_find(sp, lease->id);
	int r;

	if (box != NULL)
		return 0; /* both sides had it: the copies cannot differ */
	box = sandbox_new(sp, lease);
	if (box == NULL)
		return -ENOSPC;
	box->pidfd = fd_take(pidfd);
	box->keeper = fd_take(keeper);
	box->known = true;
	r = sandbox_watch(sp, box);
	if (r < 0)
		log_warn("sandbox %u: cannot be watched (%s)", lease->uid, strerror(-r));
	return 0;
}

/* init, or before it the drop, says that a step failed; nothing else ever comes this way, and nothing after it. init may
 * be the user's by then for all we know: it is heard once. */
void sandbox_keeper_event(struct spawner *sp, uint32_t index)
{
	const struct wire_session session = { .link = LINK_KEEPER, .peer = FROM_INIT, .phase = PHASE_READY };
	struct sandbox *box = &sp->boxes[index];
	struct wire_in in;
	int r;

	if (box->state != BOX_LIVE || box->keeper < 0 || box->said)
		return;
	r = wire_recv(box->keeper, &session, &in);
	if (r == -EAGAIN)
		return;
	/* Also when it was closed: the broker still uses its copy, and the end itself shows at the pidfd. */
	box->said = true;
	(void)epoll_ctl(sp->epoll, EPOLL_CTL_DEL, box->keeper, NULL);
	if (r == 1) {
		log_warn("sandbox %u: %s failed: %s", box->lease.uid, wire_step_text(in.msg.step_failed.step),
			 strerror((int)in.msg.step_failed.error));
		/* A note for the log only: the controller has been told by the same sender, the broker gets S_GONE. */
		wire_in_close(&in);
	} else if (r == -EPROTO) {
		log_warn("sandbox %u: its init broke the protocol (%s)", box->lease.uid, in.why);
	}
}

/* PID 1 of the sandbox: everything in it dies with it. Does nothing when it is dead already. */
int sandbox_kill(const struct sandbox *box)
{
	if (box->state != BOX_LIVE || box->pidfd < 0)
		return 0;
	return syscall(SYS_pidfd_send_signal, box->pidfd, SIGKILL, NULL, 0) < 0 && errno != ESRCH ? -errno : 0;
}

void sandbox_doom(struct spawner *sp, struct sandbox *box)
{
	int r = sandbox_kill(box);

	/* A signal may be refused (a security module); the group knows no such thing, and init is in it. */
	if (r < 0 && cgroup_kill(sp, &box->lease) == 0)
		r = 0;
	if (r < 0) {
		log_error("sandbox %u: cannot be killed yet: %s", box->lease.uid, strerror(-r));
		loop_timer(sp, true);
	}
	box->doomed = r < 0;
}

void sandbox_kill_all(struct spawner *sp)
{
	for (uint32_t i = 0; i < SANDBOXES_MAX; i++)
		if (sp->boxes[i].state == BOX_LIVE)
			sandbox_doom(sp, &sp->boxes[i]);
}

bool sandbox_tend(struct spawner *sp, struct sandbox *box)
{
	struct pollfd p = { .fd = box->pidfd, .events = POLLIN };

	if (box->state != BOX_LIVE || box->pidfd < 0 || (box->watched && !box->doomed))
		return false;
	if (box->doomed)
		box->doomed = sandbox_kill(box) < 0 && cgroup_kill(sp, &box->lease) < 0;
	if (!box->watched && poll(&p, 1, 0) > 0) {
		death_begin(sp, box);
		return false;
	}
	return box->doomed || !box->watched;
}
