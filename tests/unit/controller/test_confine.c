/* SPDX-License-Identifier: Apache-2.0
 * Runs: tests. A confined process tries what a taken-over controller would, and what an honest one needs. */
#include <errno.h>
#include <fcntl.h>
#include <linux/sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "common/cleanup.h"
#include "launcher/controller/confine.h"

#define SCOPE_SIGNAL_ABI 6 /* the Landlock that keeps signals in */

static char base[] = "/tmp/postern-confine-XXXXXX";

/* In the confined child: what a call gave against what it should. Spoken on the tests' standard error. */
static int wrong(const char *what, long got, int error)
{
	if (error == 0 ? got >= 0 : got == -1 && errno == error)
		return 0;
	(void)dprintf(2, "%s: gave %ld, errno %d; expected %d\n", what, got, errno, error);
	return 1;
}

#define REFUSED(...) failed += wrong(#__VA_ARGS__, (errno = 0, (long)(__VA_ARGS__)), EPERM)
#define GIVES(error, ...) failed += wrong(#__VA_ARGS__, (errno = 0, (long)(__VA_ARGS__)), error)

static int attack_processes(pid_t other)
{
	struct clone_args args = { .flags = CLONE_NEWUSER, .exit_signal = SIGCHLD };
	char byte;
	int failed = 0;

	REFUSED(syscall(SYS_clone, CLONE_NEWUSER | SIGCHLD, 0, 0, 0, 0));
	REFUSED(syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0));
	GIVES(ENOSYS, syscall(SYS_clone3, &args, sizeof(args)));
	REFUSED(fork());
	REFUSED(syscall(SYS_execve, "/bin/true", NULL, NULL));
	REFUSED(syscall(SYS_execveat, AT_FDCWD, "/bin/true", NULL, NULL, 0));
	REFUSED(ptrace(PTRACE_SEIZE, other, 0, 0));
	REFUSED(syscall(SYS_process_vm_readv, other, NULL, 0, NULL, 0, 0));
	REFUSED(syscall(SYS_process_vm_writev, other, NULL, 0, NULL, 0, 0));
	REFUSED(syscall(SYS_process_madvise, -1, NULL, 0, 0, 0));
	REFUSED(syscall(SYS_pidfd_getfd, -1, 0, 0));
	REFUSED(syscall(SYS_kcmp, getpid(), other, 0, 0, 0));
	/* The address space of others by way of files, which is Landlock's affair. */
	GIVES(EACCES, open("/etc/passwd", O_RDONLY | O_CLOEXEC));
	GIVES(0, read(open("/proc/self/stat", O_RDONLY | O_CLOEXEC), &byte, 1));
	return failed;
}

static int attack_kernel(void)
{
	int failed = 0;

	REFUSED(syscall(SYS_unshare, CLONE_NEWUSER));
	REFUSED(syscall(SYS_setns, -1, 0));
	REFUSED(syscall(SYS_chroot, "/"));
	REFUSED(mount("none", "/tmp", "tmpfs", 0, NULL));
	REFUSED(syscall(SYS_mount_setattr, -1, "", 0, NULL, 0));
	REFUSED(syscall(SYS_move_mount, -1, "", -1, "", 0));
	REFUSED(syscall(SYS_open_tree, -1, "", 0));
	REFUSED(syscall(SYS_fsopen, "tmpfs", 0));
	REFUSED(syscall(SYS_fspick, -1, "", 0));
	REFUSED(syscall(SYS_fsconfig, -1, 0, NULL, NULL, 0));
	REFUSED(syscall(SYS_fsmount, -1, 0, 0));
	REFUSED(syscall(SYS_bpf, 0, NULL, 0));
	REFUSED(syscall(SYS_userfaultfd, 0));
	REFUSED(syscall(SYS_perf_event_open, NULL, 0, -1, -1, 0));
	REFUSED(syscall(SYS_io_uring_setup, 1, NULL));
	REFUSED(syscall(SYS_io_uring_enter, -1, 0, 0, 0, NULL, 0));
	REFUSED(syscall(SYS_io_uring_register, -1, 0, NULL, 0));
	REFUSED(syscall(SYS_keyctl, 0, 0, 0, 0, 0));
	REFUSED(syscall(SYS_add_key, "user", "x", "x", 1, -1));
	GIVES(ENOSYS, syscall(467 /* open_tree_attr */, -1, "", 0, NULL, 0));
	REFUSED(socket(AF_INET, SOCK_STREAM, 0));
	REFUSED(socket(AF_NETLINK, SOCK_RAW, 0));
	REFUSED(socket(AF_VSOCK, SOCK_STREAM, 0));
	REFUSED(socket(AF_ALG, SOCK_SEQPACKET, 0));
	REFUSED(socket(AF_PACKET, SOCK_RAW, 0));
	/* The kernel takes an int: bits above it make no other family. */
	REFUSED(syscall(SYS_socket, (long)AF_INET | 1L << 32, SOCK_STREAM, 0));
	GIVES(0, socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
	return failed;
}

static int attack_by_signal(pid_t other, pid_t passt)
{
	int failed = 0;

	REFUSED(kill(other, SIGCONT));
	REFUSED(kill(-1, SIGCONT));
	REFUSED(kill(0, SIGCONT));
	REFUSED(syscall(SYS_tkill, other, SIGCONT));
	REFUSED(syscall(SYS_tgkill, other, other, SIGCONT));
	REFUSED(syscall(SYS_pidfd_send_signal, -1, SIGCONT, NULL, 0));
	REFUSED(syscall(SYS_rt_sigqueueinfo, other, SIGCONT, NULL));
	REFUSED(syscall(SYS_rt_tgsigqueueinfo, other, other, SIGCONT, NULL));
	GIVES(0, syscall(SYS_tgkill, getpid(), getpid(), SIGCONT));
	if (passt > 0)
		GIVES(0, kill(passt, SIGKILL));
	return failed;
}

/* A process that waits, to be a target. */
static pid_t victim(void)
{
	pid_t pid = fork();

	if (pid == 0) {
		(void)prctl(PR_SET_PDEATHSIG, SIGKILL); /* also when a check fails */
		for (;;)
			(void)pause();
	}
	assert_true(pid > 0);
	return pid;
}

/* How a signal by way of a descriptor's owner arrives: the one that no filter sees. */
static int attack_by_owner(pid_t other)
{
	int pair[2], failed = 0;

	GIVES(0, socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair));
	(void)fcntl(pair[0], F_SETSIG, SIGKILL);
	(void)fcntl(pair[0], F_SETOWN, other);
	(void)fcntl(pair[0], F_SETFL, O_ASYNC | O_NONBLOCK);
	GIVES(0, write(pair[1], "x", 1));
	return failed;
}

static void confined(bool with_passt)
{
	pid_t other = victim(), passt = with_passt ? victim() : 0, child = fork();
	int status = 0, abi = 0;

	if (child == 0) {
		cleanup_fd int dir = open(base, O_PATH | O_DIRECTORY | O_CLOEXEC);
		int failed = 0;

		GIVES(0, confine_first());
		GIVES(0, confine_last(dir, passt, &abi));
		failed += attack_processes(other) + attack_kernel() + attack_by_signal(other, passt);
		if (abi >= SCOPE_SIGNAL_ABI && !with_passt)
			failed += attack_by_owner(other);
		_exit(failed == 0 ? 0 : 1);
	}
	assert_true(child > 0);
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_true(WIFEXITED(status));
	assert_int_equal(WEXITSTATUS(status), 0);
	if (with_passt) { /* it was within reach, all the others were not */
		assert_int_equal(waitpid(passt, &status, 0), passt);
		assert_int_equal(WTERMSIG(status), SIGKILL);
	}
	assert_int_equal(waitpid(other, &status, WNOHANG), 0);
	(void)kill(other, SIGKILL);
	(void)waitpid(other, NULL, 0);
}

static void test_confined(void **unused)
{
	(void)unused;
	confined(false);
}

static void test_passt_can_be_ended(void **unused)
{
	(void)unused;
	confined(true);
}

static int make_base(void **unused)
{
	(void)unused;
	return mkdtemp(base) != NULL ? 0 : -1;
}

static int remove_base(void **unused)
{
	(void)unused;
	return rmdir(base);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_confined),
		cmocka_unit_test(test_passt_can_be_ended),
	};

	return cmocka_run_group_tests(tests, make_base, remove_base);
}
