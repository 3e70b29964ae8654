/* SPDX-License-Identifier: Apache-2.0
 * Runs: controller (the user). From a spec to a held VMM whose receipt is good, in the order of DESIGN 2.3. */
#include "guest.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "files.h"
#include "launcher/hypervisor/said.h"
#include "launcher/net/passt.h"

#define LAUNCH_DRAIN_MAX 64
#define LAUNCH_DEATH_MS 200 /* from a VMM that ended to a sandbox that did */
#define LAUNCH_LINE 200 /* bytes of the VMM's last words that get into an error */
#define LAUNCH_SAID 400 /* the same with the user's names of files */

struct launch {
	struct guest *guest;
	struct broker *broker;
	struct driver_context ctx;
	struct wire_hypervisor_reply hypervisor;
	struct driver_probe probe;
	const struct launch_watch *watch;
	struct failure *failure;
	struct wire_in *in; /* heap: 40 KB */
	int64_t deadline;   /* CLOCK_MONOTONIC, ms */
	bool have_facts;
	struct wire_facts facts;
	char said[LAUNCH_SAID]; /* the VMM's last words, on one line */
};

static int64_t now_ms(void)
{
	struct timespec now;

	(void)clock_gettime(CLOCK_MONOTONIC, &now);
	return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

static int left_ms(const struct launch *launch)
{
	int64_t left = launch->deadline - now_ms();

	return left > 0 ? (int)left : 0;
}

static int broker_said(struct launch *launch, const struct broker_failure *why, int error)
{
	return fail(launch->failure, error, why->exit_status, "%s", why->text);
}

static int spec_said(struct launch *launch, const struct spec_error *why, enum postern_exit exit_status, int error)
{
	return fail(launch->failure, error, exit_status, "spec %s: %s%s%s", why->where, why->text,
		    why->allowed[0] != '\0' ? "; allowed: " : "", why->allowed);
}

/* Keep what the VMM prints, and its last line for an error. */
static void drain_log(struct launch *launch)
{
	char bytes[2048];
	ssize_t got;

	/* So many times and not more: a VMM that prints without end must not keep us from the deadline. */
	for (int i = 0; i < LAUNCH_DRAIN_MAX && launch->guest->log >= 0; i++) {
		size_t end, start;

		got = recv(launch->guest->log, bytes, sizeof(bytes), MSG_DONTWAIT);
		if (got <= 0)
			break;
		end = (size_t)got;
		launch->watch->log(launch->watch->context, bytes, (size_t)got);
		while (end > 0 && (bytes[end - 1] == '\n' || bytes[end - 1] == '\r'))
			end--;
		for (start = end; start > 0 && bytes[start - 1] != '\n';)
			start--;
		if (end > start) {
			char line[LAUNCH_LINE];

			(void)snprintf(line, sizeof(line), ": %.*s", (int)(end - start), bytes + start);
			said_names(launch->guest->spec, launch->guest->plan, line, launch->said, sizeof(launch->said));
		}
	}
}

/* ---- what init says -------------------------------------------------------------------------------------------- */

static int vmm_ended(struct launch *launch, uint32_t status)
{
	drain_log(launch);
	if (WIFSIGNALED(status))
		return fail(launch->failure, -EPIPE, EXIT_LAUNCH, "start VMM %s: it was killed by signal %d (%s)%s",
			    launch->ctx.path, WTERMSIG(status), strsignal(WTERMSIG(status)),
			    launch->said); /* NOLINT(concurrency-mt-unsafe) */
	return fail(launch->failure, -EPIPE, EXIT_LAUNCH, "start VMM %s: it exited with status %d%s", launch->ctx.path,
		    WEXITSTATUS(status), launch->said);
}

/* One message of init. 0: taken; -errno with the failure filled. */
static int take_message(struct launch *launch)
{
	struct guest *guest = launch->guest;
	struct wire_in *in = launch->in;

	if (in->op == WIRE_OP_C_CHANNELS) {
		if (guest->phase.phase != PHASE_NEW)
			return fail(launch->failure, -EPROTO, EXIT_LAUNCH, "start sandbox: its init sent channels twice");
		guest->vm = guest->driver->attach(fd_take(&in->fds[0]));
		guest->console = fd_take(&in->fds[1]);
		guest->log = fd_take(&in->fds[2]);
		guest->phase.phase = PHASE_READY;
		if (guest->vm == NULL)
			return fail(launch->failure, -ENOMEM, EXIT_FAILED, "attach to VMM: out of memory; stop something");
		return 0;
	}
	if (in->op == WIRE_OP_C_FACTS) {
		launch->facts = in->msg.facts;
		launch->have_facts = true;
		return 0;
	}
	if (in->op == WIRE_OP_C_EXITED)
		return vmm_ended(launch, in->msg.exited.status);
	/* C_FAILED: nothing else passes wire_recv(). */
	drain_log(launch);
	return fail(launch->failure, -EIO, EXIT_LAUNCH, "start sandbox: cannot %s: %s%s; see the broker's log",
		    wire_step_text(in->msg.step_failed.step), strerror((int)in->msg.step_failed.error), launch->said);
}

/* Wait until *done, a message with bad news, or the deadline. */
static int hear_init(struct launch *launch, const char *waiting_for, bool (*done)(const struct launch *))
{
	struct guest *guest = launch->guest;

	while (!done(launch)) {
		struct pollfd fds[] = { { .fd = guest->init, .events = POLLIN },
					{ .fd = guest->log, .events = POLLIN },
					{ .fd = guest->pidfd, .events = POLLIN } };
		int r = poll(fds, ARRAY_SIZE(fds), left_ms(launch));

		if (r == 0)
			return fail(launch->failure, -ETIMEDOUT, EXIT_TIMEOUT,
				    "start sandbox: no %s in time; try a longer --timeout", waiting_for);
		if (fds[1].revents != 0) {
			drain_log(launch);
			if ((fds[1].revents & POLLIN) == 0)
				fd_close(&guest->log);
		}
		if (fds[0].revents == 0 && fds[2].revents == 0)
			continue;
		/* Before its death counts, what it managed to say does. */
		r = wire_recv(guest->init, &guest->phase, launch->in);
		if (r == -EAGAIN && fds[2].revents == 0)
			continue;
		if (r == -EPROTO)
			return fail(launch->failure, r, EXIT_LAUNCH, "start sandbox: its init broke the protocol (%s)",
				    launch->in->why);
		if (r <= 0)
			return fail(launch->failure, -EPIPE, EXIT_LAUNCH,
				    "start sandbox: its init died while we waited for %s%s; see the broker's log",
				    waiting_for, launch->said);
		r = take_message(launch);
		wire_in_close(launch->in);
		if (r < 0)
			return r;
	}
	return 0;
}

static bool has_channels(const struct launch *launch)
{
	return launch->guest->phase.phase == PHASE_READY;
}

static bool has_facts(const struct launch *launch)
{
	return launch->have_facts;
}

/* Never true: used to hear the bad news when the VMM's channel broke. */
static bool has_died(const struct launch *launch)
{
	(void)launch;
	return false;
}

/* ---- the steps ------------------------------------------------------------------------------------------------- */

/* Which VMM, and what it needs. */
static int find_driver(struct launch *launch)
{
	struct wire_hypervisor_reply *hypervisor = &launch->hypervisor;
	struct guest *guest = launch->guest;
	struct broker_failure why = { 0 };
	int r;

	launch->watch->step(launch->watch->context, "asking the broker");
	r = broker_connect(guest->socket, &launch->broker, &why);
	if (r == 0)
		r = broker_hypervisor(launch->broker, guest->spec->hypervisor, hypervisor, &why);
	if (r < 0)
		return broker_said(launch, &why, r);
	guest->driver = driver_by_kind(hypervisor->kind);
	if (guest->driver == NULL)
		return fail(launch->failure, -ENOTSUP, EXIT_HOST,
			    "hypervisor %s: this postern has no driver for it; update postern", guest->spec->hypervisor);
	launch->watch->step(launch->watch->context, "asking the VMM for its version");
	r = guest->driver->probe(hypervisor->path, &launch->probe);
	if (r < 0)
		return fail(launch->failure, r, EXIT_HOST,
			    "hypervisor %s: cannot ask %s for its version: %s; is it installed?", guest->spec->hypervisor,
			    hypervisor->path, strerror(-r));
	launch->ctx.path = hypervisor->path;
	launch->ctx.probe = &launch->probe;
	return 0;
}

/* passt needs nobody's privilege: it runs as the user, before there is a sandbox that could see it. */
static int start_passt(struct launch *launch)
{
	const struct spec *spec = launch->guest->spec;
	struct spec_error why = { 0 };
	int r = 0;

	for (size_t i = 0; i < spec->nic_count && r == 0; i++)
		if (spec->nics[i].kind == SPEC_NET_PASST) {
			launch->watch->step(launch->watch->context, "starting passt");
			r = passt_start(&launch->guest->passt, &launch->ctx.passt, &why);
			break; /* one socket: the driver refuses a second passt NIC */
		}
	if (r < 0)
		return fail(launch->failure, r, EXIT_HOST, "network passt: %s%s%s", why.text,
			    why.allowed[0] != '\0' ? "; " : "", why.allowed);
	return 0;
}

/* From the broker: a lease, init's pidfd, a private line to init. */
static int acquire(struct launch *launch, const struct wire_acquire *ask)
{
	struct guest *guest = launch->guest;
	cleanup_fd int ours = -1, theirs = -1;
	struct broker_failure why = { 0 };
	int pair[2], r;

	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0)
		return fail(launch->failure, -errno, EXIT_FAILED, "make control sockets: %s; raise ulimit -n",
			    strerror(errno));
	ours = pair[0];
	theirs = pair[1];
	launch->watch->step(launch->watch->context, "waiting for a sandbox");
	r = broker_acquire(launch->broker, ask, theirs, &guest->lease, &guest->pidfd, &why);
	if (r < 0)
		return broker_said(launch, &why, r);
	(void)fcntl(ours, F_SETFL, O_NONBLOCK);
	guest->init = fd_take(&ours);
	return 0;
}

static int send_plan(struct launch *launch)
{
	struct guest *guest = launch->guest;
	struct spec_error why = { 0 };
	int r = driver_accel(guest->spec, &guest->lease, guest->driver, &guest->kvm, &guest->accel_reason, &why);

	if (r < 0)
		return spec_said(launch, &why, EXIT_HOST, r);
	launch->ctx.spec = guest->spec;
	launch->ctx.lease = &guest->lease;
	launch->ctx.kvm = guest->kvm;
	guest->plan = plan_new();
	if (guest->plan == NULL)
		return fail(launch->failure, -ENOMEM, EXIT_FAILED, "make the plan: out of memory; stop something");
	r = guest->driver->plan(&launch->ctx, guest->plan, &why);
	if (r < 0)
		return spec_said(launch, &why, EXIT_USAGE, r);
	r = plan_send(guest->plan, guest->init);
	/* -EPIPE: init has given up already, and has said why; whoever waits for its answer hears that. */
	if (r < 0 && r != -EPIPE)
		return fail(launch->failure, r, EXIT_LAUNCH, "send the plan to the sandbox: %s; see the broker's log",
			    strerror(-r));
	/* The receipt needs what they were, not the descriptors: an image must not stay open here. */
	for (size_t i = 0; i < guest->plan->asset_count; i++)
		fd_close(&guest->plan->assets[i].fd);
	return 0;
}

/* The VMM answers and holds the guest. */
static int wait_ready(struct launch *launch)
{
	struct guest *guest = launch->guest;
	int r;

	launch->watch->step(launch->watch->context, "waiting for the VMM");
	r = guest->driver->ready(guest->vm, left_ms(launch));
	drain_log(launch);
	if (r == -ETIMEDOUT)
		return fail(launch->failure, r, EXIT_TIMEOUT, "start VMM %s: it does not answer; try a longer --timeout",
			    launch->ctx.path);
	if (r < 0 && r != -EPROTO) {
		/* Its death explains more than our broken pipe. */
		launch->deadline = now_ms() + 1000;
		if (hear_init(launch, "the VMM's end", has_died) < 0 && launch->failure->exit_status == EXIT_LAUNCH)
			return r;
	}
	if (r < 0)
		return fail(launch->failure, r, EXIT_LAUNCH, "start VMM %s: %s%s", launch->ctx.path,
			    guest->driver->trouble(guest->vm), launch->said);
	return 0;
}

static int check_receipt(struct launch *launch)
{
	struct guest *guest = launch->guest;
	const struct receipt_row *row;

	launch->watch->step(launch->watch->context, "reading the receipt");
	guest->receipt = guest_receipt(guest, &launch->facts);
	if (guest->receipt == NULL)
		return fail(launch->failure, -EIO, EXIT_RECEIPT,
			    "receipt of the sandbox: /proc could not be read; is it mounted?");
	if (guest->receipt->good)
		return 0;
	for (row = guest->receipt->rows; row < guest->receipt->rows + guest->receipt->row_count; row++)
		if (row->mark == RECEIPT_WRONG)
			return fail(launch->failure, -EPERM, EXIT_RECEIPT,
				    "receipt field %s: expected %s, the kernel says %s; the guest was not started",
				    row->field, row->expected, row->found);
	return fail(launch->failure, -EPERM, EXIT_RECEIPT, "receipt of the sandbox: not good; the guest was not started");
}

static int run_steps(struct launch *launch, const uint8_t uuid[16])
{
	struct wire_acquire ask = { 0 };
	struct spec_error why = { 0 };
	int r = files_open_all(launch->guest->spec, &launch->ctx, launch->failure);

	if (r == 0)
		r = find_driver(launch);
	if (r < 0)
		return r;
	r = launch->guest->driver->needs(launch->guest->spec, &launch->probe, &ask, &why);
	if (r < 0)
		return spec_said(launch, &why, EXIT_USAGE, r);
	memcpy(ask.uuid, uuid, sizeof(ask.uuid));
	r = start_passt(launch);
	if (r == 0)
		r = acquire(launch, &ask);
	if (r == 0)
		r = send_plan(launch);
	if (r == 0)
		r = hear_init(launch, "channels", has_channels);
	if (r == 0)
		r = wait_ready(launch);
	if (r == 0)
		r = hear_init(launch, "facts", has_facts);
	if (r == 0)
		r = check_receipt(launch);
	return r;
}

/* Its death explains what its silence did not. */
static void maybe_oom(const struct launch *launch)
{
	struct pollfd pidfd = { .fd = launch->guest->pidfd, .events = POLLIN };
	char text[128];
	uint8_t oom;

	if (pidfd.fd < 0 || launch->failure->exit_status != EXIT_LAUNCH || poll(&pidfd, 1, LAUNCH_DEATH_MS) <= 0)
		return;
	oom = guest_oom(launch->guest);
	if (oom == WIRE_OOM_NONE)
		return;
	guest_oom_text(launch->guest, oom, text, sizeof(text));
	(void)fail(launch->failure, -ENOMEM, EXIT_MEMORY, "start VMM %s: %s", launch->ctx.path, text);
}

int guest_launch(struct guest *guest, const uint8_t uuid[16], int timeout_ms, const struct launch_watch *watch,
		 struct failure *failure)
{
	struct launch launch = { .guest = guest, .watch = watch, .failure = failure, .deadline = now_ms() + timeout_ms };
	int r = -ENOMEM;

	files_none(&launch.ctx);
	launch.in = calloc(1, sizeof(*launch.in));
	if (launch.in == NULL)
		(void)fail(failure, r, EXIT_FAILED, "start: out of memory; stop something");
	else
		r = run_steps(&launch, uuid);
	if (r < 0 && guest->log >= 0)
		drain_log(&launch);
	if (r < 0)
		maybe_oom(&launch);
	files_close(&launch.ctx);
	broker_close(launch.broker);
	free(launch.in);
	return r;
}
