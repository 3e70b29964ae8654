/* SPDX-License-Identifier: Apache-2.0
 * Runs: spawner (capabilities of P only). The session with the broker: S_* messages and the inventory.
 *
 * What is owed to the broker is noted in the records, not in a queue of its own: link_flush() sends what fits, and a
 * link that breaks in the middle loses nothing that the next one would not be told anew. */
#include "spawner.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include "common/cleanup.h"
#include "common/log.h"

#define RECORD_WAIT_MS 1000 /* how long a launch waits for room in the broker's queue */
#define SWEEP_TRIES 250     /* ticks of the timer: 5 s */

void link_end(struct spawner *sp, const char *why)
{
	if (sp->link < 0)
		return;
	/* A broker that ended before it greeted could not start; without sandboxes there is nothing to keep for the next. */
	if (sp->session.phase == PHASE_NEW && sp->live == 0) {
		log_notice("the broker did not start: ending");
		sp->stopping = true;
	} else {
		log_notice("link to the broker ended: %s; sandboxes go on, waiting for the next broker", why);
	}
	(void)epoll_ctl(sp->epoll, EPOLL_CTL_DEL, sp->link, NULL);
	/* When it was we who gave up, the broker has to notice, even while a worker of ours has a copy: only then
	 * can postern-start join the two again. */
	(void)shutdown(sp->link, SHUT_RDWR);
	fd_close(&sp->link);
	sp->out_later = false;
	sp->have_left = sp->known_left = 0;
	for (uint32_t i = 0, seen = 0; i < SANDBOXES_MAX && seen < sp->live; i++) {
		if (sp->boxes[i].state == BOX_FREE)
			continue;
		seen++;
		sp->boxes[i].have_due = false;
	}
}

static void want_output(struct spawner *sp, bool want)
{
	if (sp->out_blocked == want)
		return;
	sp->out_blocked = want;
	(void)loop_watch(sp, sp->link, want ? EPOLLIN | EPOLLOUT : EPOLLIN, EVENT_LINK, 0);
}

/* 1: sent; 0: not now; a link that cannot carry it is ended. */
static int send_now(struct spawner *sp, enum wire_op op, const void *msg, const int *fds, size_t fd_count)
{
	int r;

	if (sp->link < 0)
		return 0;
	r = wire_send(sp->link, op, WIRE_REQUEST, 0, msg, fds, fd_count);
	if (r == 0)
		return 1;
	if (r == -EAGAIN) { /* the queue is full */
		want_output(sp, true);
		return 0;
	}
	if (r == -ETOOMANYREFS) { /* too many descriptors are under way: no room in the queue would tell when they are not */
		sp->out_later = true;
		loop_timer(sp, true);
		return 0;
	}
	link_end(sp, strerror(-r));
	return 0;
}

/* A sandbox that ended meanwhile is announced all the same: it was counted, and its descriptors are kept for this. */
static bool flush_inventory(struct spawner *sp)
{
	for (uint32_t i = 0; i < SANDBOXES_MAX && sp->have_left > 0; i++) {
		struct sandbox *box = &sp->boxes[i];

		if (!box->have_due)
			continue;
		if (send_now(sp, WIRE_OP_S_HAVE, &box->lease, (int[]){ box->pidfd, box->keeper }, 2) == 0)
			return sp->link < 0;
		box->have_due = false;
		sp->have_left--;
	}
	return true;
}

void link_flush(struct spawner *sp)
{
	sp->out_later = false;
	if (sp->link >= 0)
		want_output(sp, false);
	/* The broker understands an S_GONE only after the whole inventory. */
	if (!flush_inventory(sp))
		return;
	for (uint32_t i = 0, seen = 0, live = sp->live; i < SANDBOXES_MAX && seen < live; i++) {
		struct sandbox *box = &sp->boxes[i];
		struct wire_gone gone = {
			.id = box->lease.id, .status = box->status, .clean = !box->dirty, .oom = box->oom
		};

		seen += box->state != BOX_FREE;
		if (box->state != BOX_GONE)
			continue;
		if (sp->link >= 0 && box->known && send_now(sp, WIRE_OP_S_GONE, &gone, NULL, 0) == 1)
			box->known = false;
		if (sp->link >= 0 && box->known)
			return;
		/* Without a broker only a trace that was left behind is kept in mind, for the next one. */
		if (!box->known || !box->dirty || sp->stopping)
			sandbox_free(sp, box);
	}
}

/* The record must be with the broker before the child is released, so this one waits, a little. */
int link_send_started(struct spawner *sp, const struct sandbox *box)
{
	int r;

	if (sp->link < 0)
		return -EPIPE;
	for (int waited = 0;; waited++) {
		struct pollfd p = { .fd = sp->link, .events = POLLOUT };

		r = wire_send(sp->link, WIRE_OP_S_STARTED, WIRE_REQUEST, 0, &box->lease, (int[]){ box->pidfd, box->keeper },
			      2);
		if (r != -EAGAIN || waited > 0)
			return r;
		(void)poll(&p, 1, RECORD_WAIT_MS);
	}
}

void link_send_failed(struct spawner *sp, uint64_t id, enum wire_step step, int error, bool burn)
{
	struct wire_step_failed failed = { .id = id, .step = step, .error = (uint32_t)error, .burn = burn };

	/* Lost when the queue is full: the broker's own timeout of the launch covers it. */
	if (send_now(sp, WIRE_OP_S_FAILED, &failed, NULL, 0) == 0)
		log_warn("the broker could not be told that %s failed", wire_step_text(step));
}

void link_adopt(struct spawner *sp, int fd)
{
	struct wire_spawner_hello hello = {
		.version = WIRE_VERSION,
		.landlock_abi = (uint8_t)sp->table->host.landlock_abi,
		.cgroup = sp->cgroup_outcome,
		.port_filter = sp->port_outcome,
		.kvm = sp->table->host.outcomes[WIRE_GRANT_KVM],
	};

	sp->link = fd;
	sp->out_blocked = false;
	sp->known_left = 0;
	sp->unadopted = false;
	sp->session = (struct wire_session){ .link = LINK_SPAWNER, .peer = FROM_BROKER, .phase = PHASE_NEW };
	if (loop_watch(sp, fd, EPOLLIN, EVENT_LINK, 0) < 0) {
		link_end(sp, "cannot be watched");
		return;
	}
	/* What is ending already is inventory too: until it is gone its X must not be given to anybody. */
	for (uint32_t i = 0; i < SANDBOXES_MAX; i++) {
		struct sandbox *box = &sp->boxes[i];

		if (box->state == BOX_FREE)
			continue; /* and its page stays untouched */
		box->known = box->have_due = box->pidfd >= 0;
		hello.count += box->have_due;
	}
	sp->have_left = hello.count;
	if (send_now(sp, WIRE_OP_S_WELCOME, &hello, NULL, 0) == 1)
		link_flush(sp);
}

/* Now, and only now, what no entry stands for is nobody's: the spawner before us died while it was being started. */
static void inventory_complete(struct spawner *sp)
{
	sp->session.phase = PHASE_READY;
	if (sp->unadopted)
		return;
	sp->sweeps = SWEEP_TRIES;
	death_retry(sp);
}

static void receive_hello(struct spawner *sp, const struct wire_spawner_hello *hello)
{
	if (hello->version != WIRE_VERSION) {
		link_end(sp, "the broker speaks another version");
		return;
	}
	sp->known_left = hello->count;
	sp->session.phase = PHASE_SYNC;
	if (hello->count == 0)
		inventory_complete(sp);
}

static void receive_known(struct spawner *sp, struct wire_in *in)
{
	int r = sandbox_adopt(sp, &in->msg.lease, &in->fds[0], &in->fds[1]);

	if (r < 0) {
		log_error("sandbox %u of the broker's cannot be taken over: %s", in->msg.lease.uid, strerror(-r));
		sp->unadopted = true;
	}
	if (--sp->known_left == 0)
		inventory_complete(sp);
}

static void receive_kill(struct spawner *sp, uint64_t id)
{
	struct sandbox *box = sandbox_find(sp, id);

	if (box != NULL) /* else it is gone, and the broker hears or has heard so */
		sandbox_doom(sp, box);
}

static void receive(struct spawner *sp, struct wire_in *in)
{
	/* wire_decode() has let nothing through but these, each only in its phase. */
	if (in->op == WIRE_OP_S_HELLO)
		receive_hello(sp, &in->msg.spawner_hello);
	else if (in->op == WIRE_OP_S_KNOWN)
		receive_known(sp, in);
	else if (in->op == WIRE_OP_S_START)
		launch(sp, in);
	else if (in->op == WIRE_OP_S_KILL)
		receive_kill(sp, in->msg.lease_id.id);
	else if (in->op == WIRE_OP_S_SHUTDOWN) {
		sp->stopping = true;
		sandbox_kill_all(sp);
	}
	wire_in_close(in);
}

void link_event(struct spawner *sp, uint32_t events)
{
	static struct wire_in in; /* 35 KB that would otherwise be a dirty page of stack in every child */
	int r;

	if (sp->link < 0)
		return;
	if ((events & EPOLLOUT) != 0)
		link_flush(sp);
	if (sp->link < 0 || (events & ~(uint32_t)EPOLLOUT) == 0)
		return;
	r = wire_recv(sp->link, &sp->session, &in);
	if (r == 1)
		receive(sp, &in);
	else if (r == 0)
		link_end(sp, "closed");
	else if (r == -EPROTO)
		link_end(sp, in.why);
	else if (r != -EAGAIN)
		link_end(sp, strerror(-r));
	/* Without a broker nobody is owed anything. */
	link_flush(sp);
}
