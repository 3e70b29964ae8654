/* SPDX-License-Identifier: Apache-2.0
 * Runs: init: PID 1 of one sandbox, uid X, no capability in any set. Executed by the spawner's child when the last
 * privilege is gone; takes the plan of the (unprivileged, possibly hostile) controller and starts the VMM by it.
 *
 * The table `steps` is the order, and the order is the safety: init proves that it has nothing before it reads what
 * root's side says, has a syscall filter before it reads a byte of the user's, and describes the VMM to the controller
 * before the VMM's first instruction. After a failure there is no way on: report and exit, which ends the pid namespace. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/fault.h"
#include "common/kernel_calls.h"
#include "init.h"
#include "plan_check.h"
#include "policy/policy.h"

#define STEPS_MAX 16
#define PLAN_WAIT_MS 30000 /* from our start to the controller's plan */

int steps_run(struct init *init, const struct step *steps, size_t count, uint32_t *ret_step)
{
	int faults[STEPS_MAX] = { 0 };

	/* Asked for all at once: later the filters would not let a test build ask. */
	for (size_t i = 0; i < count && i < STEPS_MAX; i++)
		faults[i] = fault_at(INIT_FD_FAULT, steps[i].step);
	for (size_t i = 0; i < count && i < STEPS_MAX; i++) {
		int r = faults[i] < 0 ? faults[i] : steps[i].run(init);

		if (r < 0) {
			*ret_step = init->failed_step != 0 ? init->failed_step : steps[i].step;
			return r;
		}
	}
	return 0;
}

#define EARLY_MAX 64 /* far more than the keeper's queue holds */

/* First of all: a process of the same uid must not look into us while we are being set up. */
static int step_dumpable(struct init *init)
{
	static const int ours[] = { INIT_FD_CONTROL, INIT_FD_KEEPER, INIT_FD_PROCFS, INIT_FD_FAULT };

	(void)init;
	if (prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) < 0)
		return -errno;
	for (size_t i = 0; i < ARRAY_SIZE(ours); i++)
		if (fcntl(ours[i], F_SETFD, FD_CLOEXEC) < 0 && ours[i] != INIT_FD_FAULT)
			return -errno;
	return 0;
}

static int step_verify(struct init *init)
{
	return verify_self(init);
}

static void grant(struct init *init, int first, unsigned count)
{
	for (unsigned i = 0; i < count; i++)
		init->slots[init->slot_count++] = (struct slot_source){ first + (int)i, first + (int)i };
}

/* Whether a program may be started with this filter: those of the daemons and of init are not for VMMs. */
static bool vmm_profile(unsigned profile)
{
	switch ((enum syscall_profile)profile) {
	case PROFILE_QEMU:
	case PROFILE_MOCK:
		return true;
	case PROFILE_BASE:
	case PROFILE_INIT:
	case PROFILE_BROKER:
	case PROFILE_SPAWNER:
		return false;
	}
	return false;
}

/* Exactly what was granted may be open: one descriptor too many is somebody's key (CVE-2020-14339, CVE-2024-21626). */
static int keep_granted(struct init *init)
{
	bool keep[INIT_FD_END] = { false };
	unsigned first = 0; /* of the gap we are in: closed whole */

	for (size_t i = 0; i < init->slot_count; i++) {
		if (fcntl(init->slots[i].fd, F_SETFD, FD_CLOEXEC) < 0)
			return -errno;
		keep[init->slots[i].fd] = true;
	}
	for (int fd = INIT_FD_CONTROL; fd < INIT_FD_END; fd++)
		keep[fd] = true;
	for (unsigned fd = 0; fd < INIT_FD_END; fd++) {
		if (keep[fd] && fd > first && close_range(first, fd - 1, 0) < 0)
			return -errno;
		if (keep[fd])
			first = fd + 1;
	}
	return close_range(first, ~0u, 0) < 0 ? -errno : 0;
}

static int step_boot(struct init *init)
{
	static const struct wire_session session = { .link = LINK_KEEPER, .peer = FROM_SPAWNER, .phase = PHASE_NEW };
	int r, early = 0;

	/* The broker hears of us before the spawner releases us, so a quick owner's K_ATTACH can come before K_BOOT. There
	 * is nothing to attach to yet: it is refused like any wrong message; what it carried is closed, as he can see. */
	do
		r = wire_recv(init->keeper, &session, &init->in);
	while (r == -EPROTO && early++ < EARLY_MAX);
	if (r <= 0)
		return r == 0 ? -EPIPE : r;
	init->boot = init->in.msg.boot;
	if (init->boot.path[0] != '/' || !vmm_profile(init->boot.profile))
		return -EINVAL;
	grant(init, SLOT_KVM, init->boot.kvm_fd);
	grant(init, SLOT_VSOCK, init->boot.vsock_fd);
	grant(init, SLOT_TAP, init->boot.tap_fds);
	grant(init, SLOT_VHOST, init->boot.vhost_fds);
	r = keep_granted(init);
	return r < 0 ? r : verify_identity(&init->boot);
}

static int step_filter_base(struct init *init)
{
	(void)init;
	return filter_load(PROFILE_BASE);
}

/* Move a descriptor of ours above every slot. */
static int stage(int *fd)
{
	int staged = fcntl(*fd, F_DUPFD_CLOEXEC, INIT_FD_STAGE);

	if (staged < 0)
		return -errno;
	fd_close(fd);
	*fd = staged;
	return 0;
}

/* 1: the controller has said something or hung up; 0: not yet; -ETIMEDOUT, -EPIPE: nobody is left who could end us. */
static int await_plan(const struct init *init, int64_t until)
{
	/* The keeper is not read here: what comes by it is for serve(). Its hang-up shows without being asked for. */
	struct pollfd fds[] = { { .fd = init->control, .events = POLLIN }, { .fd = init->keeper, .events = 0 } };
	int64_t left = until - now_ms();
	int r = left <= 0 ? 0 : poll(fds, ARRAY_SIZE(fds), (int)left);

	if (r < 0)
		return errno == EINTR ? 0 : -errno;
	if (r == 0)
		return -ETIMEDOUT;
	if (fds[1].revents != 0)
		return -EPIPE;
	return fds[0].revents != 0;
}

/* The controller may take its time (it opens files), but not for ever: a sandbox without a plan holds what is another's
 * turn. Its hang-up ends the sandbox. It may have kept our end and read the message that poll() saw, so never wait. */
static int step_plan(struct init *init)
{
	static const struct wire_session session = { .link = LINK_CONTROL, .peer = FROM_CONTROLLER, .phase = PHASE_NEW };
	const int64_t until = now_ms() + PLAN_WAIT_MS;
	struct wire_in *in = &init->in;
	int r;

	do {
		r = await_plan(init, until);
		if (r == 1) {
			r = wire_recv_now(init->control, &session, in);
			if (r == 0)
				return -EPIPE;
		}
	} while (r == 0 || r == -EAGAIN || r == -EINTR);
	if (r < 0)
		return r;
	init->plan = &in->msg.plan;
	for (size_t i = 0; i < in->fd_count; i++) {
		r = stage(&in->fds[i]);
		if (r < 0)
			return r;
		init->assets[i] = fd_take(&in->fds[i]);
	}
	return 0;
}

static int step_plan_check(struct init *init)
{
	const char *why = NULL;

	return plan_check(init->plan, &why);
}

/* Made here and not by the controller: under SELinux the pairs must carry init's level to be usable by the VMM (DESIGN
 * 2.3). The VMM's end of the log does not block: a controller that is gone or slow loses lines but never stops a guest. */
static int step_channels(struct init *init)
{
	int r = 0;

	for (size_t i = 0; i < CHANNEL_COUNT; i++) {
		int pair[2];

		if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0)
			return -errno;
		r = stage(&pair[0]);
		r = r < 0 ? r : stage(&pair[1]);
		if (r < 0)
			return r;
		init->ours[i] = pair[0];
		init->theirs[i] = pair[1];
	}
	if (fcntl(init->ours[CHANNEL_LOG], F_SETFL, O_NONBLOCK) < 0)
		return -errno;
	r = channels_send(init);
	if (r < 0)
		return r;
	for (size_t i = 0; i < CHANNEL_COUNT && (init->boot.lease[0].flags & WIRE_SURVIVE) == 0; i++)
		fd_close(&init->theirs[i]);
	return 0;
}

static void give(struct init *init, int slot, int fd)
{
	init->slots[init->slot_count++] = (struct slot_source){ slot, fd };
}

static int step_fork(struct init *init)
{
	sigset_t mask;
	int r;

	(void)sigemptyset(&mask);
	(void)sigaddset(&mask, SIGCHLD);
	init->null = open("/dev/null", O_RDWR | O_NOFOLLOW | O_CLOEXEC);
	init->signals = signalfd(-1, &mask, SFD_CLOEXEC | SFD_NONBLOCK);
	/* An ignored SIGCHLD, as the daemons have it, would be inherited and hide how the VMM ended. */
	if (init->null < 0 || init->signals < 0 || signal(SIGCHLD, SIG_DFL) == SIG_ERR ||
	    sigprocmask(SIG_BLOCK, &mask, NULL) < 0 || pipe2(init->verdict, O_CLOEXEC) < 0)
		return -errno;
	r = stage(&init->signals);
	r = r < 0 ? r : stage(&init->null);
	r = r < 0 ? r : stage(&init->verdict[0]);
	r = r < 0 ? r : stage(&init->verdict[1]);
	if (r < 0)
		return r;
	give(init, SLOT_STDIN, init->null);
	give(init, SLOT_STDOUT, init->ours[CHANNEL_LOG]);
	give(init, SLOT_STDERR, init->ours[CHANNEL_LOG]);
	give(init, SLOT_CONTROL, init->ours[CHANNEL_CONTROL]);
	give(init, SLOT_CONSOLE, init->ours[CHANNEL_CONSOLE]);
	for (size_t i = 0; i < init->plan->asset_count; i++)
		if (init->assets[i] >= 0)
			give(init, SLOT_ASSET + (int)i, init->assets[i]);
	r = facts_given(init);
	return r < 0 ? r : vmm_start(init);
}

/* Done while the VMM's process gets ready: nothing below is about it, and init has its last filter the sooner. That
 * process has its own copies of the descriptors; while init held some, a tap would outlive the VMM and a peer would see
 * no hang-up. */
static int step_filter(struct init *init)
{
	int r;

	for (size_t i = 0; i < init->slot_count; i++)
		if (init->slots[i].slot != SLOT_STDERR) /* the same descriptor as SLOT_STDOUT */
			(void)close(init->slots[i].fd);
	init->slot_count = 0;
	(void)close(INIT_FD_FAULT);
	r = filter_load(PROFILE_INIT);
	return r < 0 ? r : facts_own(init);
}

static int step_facts(struct init *init)
{
	int r = vmm_wait_held(init);

	return r < 0 ? r : facts_read(init);
}

/* From here on the VMM runs; its guest waits until the controller has read the facts. */
static int step_send(struct init *init)
{
	int r;

	init->facts.held = 1; /* vmm_start() has seen it stopped, and only we could have continued it */
	r = wire_send(init->control, WIRE_OP_C_FACTS, WIRE_REQUEST, 0, &init->facts, NULL, 0);
	init->facts.held = 0;
	if (r < 0)
		return r;
	return kill(init->vmm, SIGCONT) < 0 ? -errno : 0;
}

static const struct step steps[] = {
	{ STEP_INIT_DUMPABLE, step_dumpable }, { STEP_INIT_VERIFY, step_verify },
	{ STEP_INIT_BOOT, step_boot },         { STEP_INIT_FILTER_BASE, step_filter_base },
	{ STEP_INIT_PLAN, step_plan },         { STEP_INIT_PLAN_CHECK, step_plan_check },
	{ STEP_INIT_ASSET, assets_take },      { STEP_INIT_CHANNELS, step_channels },
	{ STEP_INIT_FORK, step_fork },         { STEP_INIT_FILTER, step_filter },
	{ STEP_INIT_FACTS, step_facts },       { STEP_INIT_SEND, step_send },
};
_Static_assert(ARRAY_SIZE(steps) <= STEPS_MAX, "steps_run() has room for every step");

/* Both sides are told, each as far as it listens; X is burnt, because something unexpected has run as X. */
_Noreturn static void fail(const struct init *init, uint32_t step, int error)
{
	const struct wire_step_failed failed = {
		.id = init->boot.lease[0].id, .step = step, .error = (uint32_t)-error, .burn = 1
	};

	/* First: our death takes the VMM along, but only after our descriptors are closed, and with the last end of the pipe
	 * that would have stopped it at its first instruction goes what holds it. */
	if (init->vmm > 0)
		(void)kill(init->vmm, SIGKILL);
	(void)wire_send(init->control, WIRE_OP_C_FAILED, WIRE_REQUEST, 0, &failed, NULL, 0);
	(void)wire_send(init->keeper, WIRE_OP_K_FAILED, WIRE_REQUEST, 0, &failed, NULL, 0);
	_exit(INIT_EXIT_FAILED);
}

int main(void)
{
	static struct init init; /* 60 KB: too large for a stack that is shared with receive buffers */
	uint32_t step = STEP_NONE;
	int r;

	init.control = INIT_FD_CONTROL;
	init.keeper = INIT_FD_KEEPER;
	init.procfs = INIT_FD_PROCFS;
	for (size_t i = 0; i < WIRE_ASSETS_MAX; i++)
		init.assets[i] = -1;
	r = steps_run(&init, steps, ARRAY_SIZE(steps), &step);
	if (r < 0)
		fail(&init, step, r);
	_exit(serve(&init));
}
