/* SPDX-License-Identifier: Apache-2.0
 * Runs: spawner (capabilities of P only). The loop: epoll, so that a thousand idle sandboxes cost an event nothing. */
#include "spawner.h"

#include <errno.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/signalfd.h>
#include <sys/timerfd.h>

#include "common/cleanup.h"
#include "common/log.h"

#define EVENTS_AT_ONCE 32
#define TICK_NS 20000000

int loop_watch(struct spawner *sp, int fd, uint32_t events, enum event_kind kind, uint32_t index)
{
	struct epoll_event e = { .events = events, .data.u64 = (uint64_t)kind << 32 | index };

	if (epoll_ctl(sp->epoll, EPOLL_CTL_ADD, fd, &e) == 0)
		return 0;
	if (errno == EEXIST && epoll_ctl(sp->epoll, EPOLL_CTL_MOD, fd, &e) == 0)
		return 0;
	return -errno;
}

void loop_timer(struct spawner *sp, bool on)
{
	struct itimerspec tick = { { 0, TICK_NS }, { 0, TICK_NS } }, off = { { 0, 0 }, { 0, 0 } };

	if (sp->timer_on == on)
		return;
	if (timerfd_settime(sp->timer, 0, on ? &tick : &off, NULL) < 0)
		log_error("timer: %m");
	else
		sp->timer_on = on;
}

/* SIGTERM or SIGUSR1. With a broker it is for the broker to say what ends (whoever stops the service reaches it too, and
 * S_SHUTDOWN follows if sandboxes shall end); without one nobody else could end us in order. The unit's stop sends SIGUSR1:
 * after any other end of ours systemd shall start another spawner, which it does not do for one that succeeded. */
static void terminate(struct spawner *sp)
{
	struct signalfd_siginfo info;

	if (read(sp->signals, &info, sizeof(info)) != (ssize_t)sizeof(info) || sp->link >= 0)
		return;
	log_notice("terminated without a broker: ending %u sandboxes", sp->live);
	sp->stopping = true;
	sp->asked = sp->asked || info.ssi_signo == SIGUSR1; /* systemd's own SIGTERM follows at once, and changes nothing */
	sandbox_kill_all(sp);
	link_flush(sp); /* frees what was kept for a next broker */
}

static void dispatch(struct spawner *sp, const struct epoll_event *e)
{
	enum event_kind kind = (enum event_kind)(e->data.u64 >> 32);
	uint32_t index = (uint32_t)e->data.u64;
	uint64_t ticks;

	switch (kind) {
	case EVENT_LINK:
		link_event(sp, e->events);
		break;
	case EVENT_RENDEZVOUS:
		rendezvous_event(sp);
		break;
	case EVENT_PIDFD:
		/* What init still had to say was queued before it died. */
		sandbox_keeper_event(sp, index);
		if (sp->boxes[index].state == BOX_LIVE)
			death_begin(sp, &sp->boxes[index]);
		break;
	case EVENT_KEEPER:
		sandbox_keeper_event(sp, index);
		break;
	case EVENT_WORKER:
		death_worker_done(sp);
		break;
	case EVENT_TIMER:
		if (read(sp->timer, &ticks, sizeof(ticks)) == (ssize_t)sizeof(ticks))
			death_retry(sp);
		break;
	case EVENT_SIGNAL:
		terminate(sp);
		break;
	}
}

int loop_run(struct spawner *sp)
{
	struct epoll_event events[EVENTS_AT_ONCE];

	while (!sp->stopping || sp->live > 0) {
		int n = epoll_wait(sp->epoll, events, EVENTS_AT_ONCE, -1);

		if (n < 0 && errno != EINTR)
			return -errno;
		/* An entry can be freed and given out again only by a message of the broker; events of the same batch for
		 * the old tenant find a state or a descriptor that says nothing. */
		for (int i = 0; i < n; i++)
			dispatch(sp, &events[i]);
	}
	return 0;
}
