/* SPDX-License-Identifier: Apache-2.0
 * Runs: init, and the VMM's process until its exec (uid X, no capability). From fork to a VMM that stands still at its
 * first instruction, so that the receipt describes it before it has done anything. */
#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/fault.h"
#include "init.h"
#include "policy/policy.h"

#define HOLD_TIMEOUT_MS 5000
#define WORDS_MAX 1024

/* What the child writes into the verdict pipe when a step fails. */
struct verdict {
	uint32_t step;
	int32_t error;
};

int filter_load(unsigned profile)
{
	struct sock_fprog program = { 0 };
	const struct sock_filter *code;
	size_t count = 0;

	code = syscall_profile_program((enum syscall_profile)profile, &count);
	if (code == NULL || count == 0 || count > BPF_MAXINSNS)
		return -ENOENT;
	program.len = (unsigned short)count;
	program.filter = (struct sock_filter *)(uintptr_t)code; /* the kernel only reads it */
	return prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program, 0, 0) < 0 ? -errno : 0;
}

/* Hold the VMM at exec without ptrace: the close of the pipe's last writer, which is the close-on-exec descriptor of
 * this process, sends SIGSTOP to this process. The kernel does that on its way back to user mode, so the new program
 * stops before its first instruction. Asked for before the Landlock layer and the filter, which would refuse it.
 * exec closes in ascending order, and the signal needs a reader that is still open: one of our own above the writer, so
 * that the hold does not depend on an init that is just dying. */
static int arm_hold(int reader, int writer)
{
	if (fcntl(reader, F_DUPFD_CLOEXEC, writer + 1) < 0 || fcntl(reader, F_SETOWN, getpid()) < 0 ||
	    fcntl(reader, F_SETSIG, SIGSTOP) < 0 || fcntl(reader, F_SETFL, O_ASYNC) < 0)
		return -errno;
	return 0;
}

/* Everything of init's own is close-on-exec and above the slots; a granted descriptor already has its slot's number. */
static int step_fds(struct init *init)
{
	const struct rlimit no_core = { 0, 0 };
	sigset_t none;

	for (size_t i = 0; i < init->slot_count; i++) {
		const struct slot_source *s = &init->slots[i];
		int r = s->fd == s->slot ? fcntl(s->fd, F_SETFD, 0) : dup2(s->fd, s->slot);

		if (r < 0)
			return -errno;
	}
	/* Whatever the daemons ignore is not the VMM's habit. init itself has no handler and ignores nothing more. */
	for (int i = 1; i < NSIG; i++)
		if ((init->ignored >> (i - 1) & 1) != 0 && signal(i, SIG_DFL) == SIG_ERR)
			return -errno;
	/* A core file would hold guest memory. SIGPIPE is ignored across exec: with no controller left (WIRE_SURVIVE), a
	 * line on stderr must cost the line and not the guest. */
	if (chdir("/") < 0 || setrlimit(RLIMIT_CORE, &no_core) < 0 || signal(SIGPIPE, SIG_IGN) == SIG_ERR ||
	    sigemptyset(&none) < 0 || sigprocmask(SIG_SETMASK, &none, NULL) < 0)
		return -errno;
	return arm_hold(init->verdict[0], init->verdict[1]);
}

/* No test for SELinux here: a lease with a label needs it set, whatever the sandbox can see of the host (DESIGN 2.6). */
static int step_label(struct init *init)
{
	const struct wire_lease *lease = &init->boot.lease[0];
	size_t len = strnlen(lease->label, sizeof(lease->label));
	cleanup_fd int fd = -1;
	ssize_t n;

	if (len == 0)
		return 0;
	fd = openat(init->procfs, "self/attr/exec", O_WRONLY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	n = write(fd, lease->label, len);
	return n < 0 ? -errno : (size_t)n == len ? 0 : -EIO;
}

static int step_landlock(struct init *init)
{
	return landlock_apply(&init->boot);
}

static int step_filter(struct init *init)
{
	return filter_load(init->boot.profile);
}

/* The program is the policy's (root's), by way of the boot record. Of the user's plan come only the words. */
static int step_exec(struct init *init)
{
	static const char *const environment[] = { "PATH=/usr/sbin:/usr/bin", "LANG=C", NULL };
	char *words[WORDS_MAX + 1];
	size_t used = 0;

	for (size_t i = 0; i < init->plan->word_count && i < WORDS_MAX; i++) { /* plan_check() has counted them */
		words[i] = (char *)(uintptr_t)(init->plan->words + used); /* execve only reads it */
		used += strlen(words[i]) + 1;
	}
	words[init->plan->word_count] = NULL;
	(void)execve(init->boot.path, words, (char *const *)(uintptr_t)environment);
	return -errno;
}

static const struct step child_steps[] = {
	{ STEP_VMM_FDS, step_fds },       { STEP_VMM_LABEL, step_label }, { STEP_VMM_LANDLOCK, step_landlock },
	{ STEP_VMM_FILTER, step_filter }, { STEP_VMM_EXEC, step_exec },
};

/* The stop comes when the last writer of the pipe closes, so init's copy must be gone before ours can be: else a quick
 * program runs until init comes to close it. */
static int wait_last_writer(int go[2])
{
	char byte;
	ssize_t n;

	fd_close(&go[1]);
	do
		n = read(go[0], &byte, sizeof(byte));
	while (n < 0 && errno == EINTR);
	fd_close(&go[0]); /* before the slots are filled: its number may be one */
	return n < 0 ? -errno : 0;
}

_Noreturn static void child(struct init *init, int go[2])
{
	struct verdict verdict = { .step = STEP_INIT_FORK };

	verdict.error = wait_last_writer(go);
	if (verdict.error == 0)
		verdict.error = steps_run(init, child_steps, ARRAY_SIZE(child_steps), &verdict.step);
	/* Nobody but init reads this; when it cannot be written, init sees a child that died. */
	if (write(init->verdict[1], &verdict, sizeof(verdict)) < 0)
		_exit(INIT_EXIT_FAILED);
	_exit(INIT_EXIT_FAILED);
}

/* The exec has closed the pipe: wait for the stop it caused. A VMM that is not held is a failed launch. */
static int wait_held(struct init *init)
{
	struct pollfd pfd = { .fd = init->signals, .events = POLLIN };
	struct signalfd_siginfo info;

	for (;;) {
		siginfo_t state = { 0 };
		int r;

		if (waitid(P_PID, (id_t)init->vmm, &state, WSTOPPED | WEXITED | WNOWAIT | WNOHANG) < 0)
			return -errno;
		if (state.si_pid == init->vmm)
			return state.si_code == CLD_STOPPED ? 0 : -ECHILD;
		r = poll(&pfd, 1, HOLD_TIMEOUT_MS);
		if (r == 0)
			return -ETIMEDOUT;
		if (r > 0 && read(init->signals, &info, sizeof(info)) < 0)
			return -errno;
	}
}

int vmm_start(struct init *init)
{
	int go[2], r;

	if (pipe2(go, O_CLOEXEC) < 0)
		return -errno;
	init->vmm = fork();
	if (init->vmm == 0)
		child(init, go);
	r = init->vmm < 0 ? -errno : 0;
	fd_close(&init->verdict[1]);
	fd_close(&go[1]); /* only now: see wait_last_writer() */
	fd_close(&go[0]);
	return r;
}

int vmm_wait_held(struct init *init)
{
	struct verdict verdict = { 0 };
	ssize_t n;
	int r;

	do
		n = read(init->verdict[0], &verdict, sizeof(verdict));
	while (n < 0 && errno == EINTR);
	r = n < 0 ? -errno : n == 0 ? 0 : -EIO;
	fd_close(&init->verdict[0]);
	init->failed_step = STEP_INIT_FORK;
	if (n == (ssize_t)sizeof(verdict) && verdict.error < 0) {
		init->failed_step = verdict.step;
		return verdict.error;
	}
	if (r < 0)
		return r;
	init->failed_step = STEP_VMM_EXEC;
	r = wait_held(init);
	if (r == 0)
		init->failed_step = STEP_NONE;
	return r;
}
