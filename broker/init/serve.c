/* SPDX-License-Identifier: Apache-2.0
 * Runs: init (uid X, no capability, strict filter). What init does while the VMM runs: answer its controller, follow a
 * new one, reap, and end. It never reads what the VMM writes. */
#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "init.h"

#define SIGNAL_EXIT_BASE 128 /* as shells say it */

struct loop {
	struct init *init;
	bool keep; /* live on without a controller: asked for in the lease, and the receipt is good */
	int64_t kill_at; /* milliseconds of CLOCK_MONOTONIC; -1 none */
};

int64_t now_ms(void)
{
	struct timespec ts = { 0 };

	(void)clock_gettime(CLOCK_MONOTONIC, &ts);
	return (int64_t)ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

int channels_send(const struct init *init)
{
	const struct wire_empty empty = {};

	return wire_send(init->control, WIRE_OP_C_CHANNELS, WIRE_REQUEST, 0, &empty, init->theirs, CHANNEL_COUNT);
}

/* A controller that does not read loses the answer: init waits for nobody. */
static void answer_audit(struct init *init)
{
	int r = facts_own(init);

	if (r == 0)
		r = facts_read(init);
	if (r == 0) {
		(void)wire_send(init->control, WIRE_OP_C_FACTS, WIRE_REQUEST, 0, &init->facts, NULL, 0);
	} else {
		const struct wire_step_failed failed = { .id = init->boot.lease[0].id,
							 .step = STEP_INIT_FACTS,
							 .error = (uint32_t)-r };

		(void)wire_send(init->control, WIRE_OP_C_FAILED, WIRE_REQUEST, 0, &failed, NULL, 0);
	}
}

static void stop(struct loop *loop, const struct wire_stop *stop)
{
	if (stop->signal != 0) {
		(void)kill(loop->init->vmm, (int)stop->signal);
		return;
	}
	(void)kill(loop->init->vmm, SIGTERM);
	loop->kill_at = now_ms() + stop->grace_ms;
}

/* False: the controller is gone, or broke the protocol, which is the same. Never waits: the user made this socket and may
 * have kept our end of it, so he can take the message that poll() saw. */
static bool from_controller(struct loop *loop)
{
	static const struct wire_session session = { .link = LINK_CONTROL, .peer = FROM_CONTROLLER, .phase = PHASE_READY };
	struct wire_in *in = &loop->init->in;
	int r = wire_recv_now(loop->init->control, &session, in);

	if (r == -EAGAIN || r == -EINTR)
		return true;
	if (r != 1)
		return false;
	if (in->op == WIRE_OP_C_AUDIT)
		answer_audit(loop->init);
	else if (in->op == WIRE_OP_C_STOP)
		stop(loop, &in->msg.stop);
	else if (in->op == WIRE_OP_C_KEEP)
		loop->keep = (loop->init->boot.lease[0].flags & WIRE_SURVIVE) != 0;
	wire_in_close(in);
	return true;
}

/* The broker has checked who asks (init could not: everybody is uid 65534 to it) and sends the end of a new control
 * channel. The old controller sees a hang-up. Without WIRE_SURVIVE, or before C_KEEP, there are no channels to hand on: the
 * descriptor is closed, and the asker sees that. False: nobody is at the other end of the keeper any more, which ends
 * nothing. */
static bool from_keeper(struct loop *loop)
{
	static const struct wire_session session = { .link = LINK_KEEPER, .peer = FROM_BROKER, .phase = PHASE_READY };
	struct init *init = loop->init;
	struct wire_in *in = &init->in;
	int r = wire_recv_now(init->keeper, &session, in);

	if (r == -EAGAIN || r == -EINTR)
		return true;
	if (r != 1)
		return false;
	if (in->op == WIRE_OP_K_ATTACH && loop->keep) {
		fd_close(&init->control);
		init->control = in->fds[0];
		in->fds[0] = -1;
		(void)channels_send(init); /* when the asker is gone already, its hang-up comes next */
	}
	wire_in_close(in);
	return true;
}

/* PID 1 reaps whatever was left to it. True: the VMM itself has ended. */
static bool reap(const struct init *init, int *ret_status)
{
	struct signalfd_siginfo info;
	bool ended = false;
	int status;
	pid_t pid;

	(void)!read(init->signals, &info, sizeof(info)); /* one or many: waitpid tells which */
	while ((pid = waitpid(-1, &status, WNOHANG)) > 0) {
		if (pid == init->vmm) {
			*ret_status = status;
			ended = true;
		}
	}
	return ended;
}

static int finish(const struct init *init, int status)
{
	const struct wire_exited exited = { .status = (uint32_t)status };

	(void)wire_send(init->control, WIRE_OP_C_EXITED, WIRE_REQUEST, 0, &exited, NULL, 0);
	return WIFEXITED(status) ? WEXITSTATUS(status) : SIGNAL_EXIT_BASE + WTERMSIG(status);
}

static int time_left(const struct loop *loop)
{
	int64_t left;

	if (loop->kill_at < 0)
		return -1;
	left = loop->kill_at - now_ms();
	return left < 0 ? 0 : left > INT_MAX ? INT_MAX : (int)left;
}

int serve(struct init *init)
{
	/* keep is false at first: a launch that is broken off takes its sandbox with it, held and unchecked as that is. */
	struct loop loop = { .init = init, .kill_at = -1 };

	for (;;) {
		struct pollfd fds[] = { { .fd = init->signals, .events = POLLIN },
					{ .fd = init->control, .events = POLLIN },
					{ .fd = init->keeper, .events = POLLIN } };
		int status = 0;
		int r = poll(fds, ARRAY_SIZE(fds), time_left(&loop));

		if (r < 0 && errno != EINTR)
			return INIT_EXIT_FAILED;
		if (r == 0) { /* the time for an orderly end is over */
			loop.kill_at = -1;
			(void)kill(init->vmm, SIGKILL);
		}
		if (r <= 0)
			continue;
		if (fds[0].revents != 0 && reap(init, &status))
			return finish(init, status);
		if (fds[1].revents != 0 && !from_controller(&loop)) {
			if (!loop.keep)
				return INIT_EXIT_HANGUP;
			fd_close(&init->control);
		}
		if (fds[2].revents != 0 && !from_keeper(&loop))
			fd_close(&init->keeper);
	}
}
