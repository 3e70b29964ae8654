/* SPDX-License-Identifier: Apache-2.0
 * Runs: test (whoever builds). The generated filters, each loaded in a forked child which then makes one call.
 *
 * Arguments are chosen so that a call that reaches the kernel fails in a way no filter would answer (EBADF, EFAULT,
 * EINVAL) or succeeds without a trace: REACHED. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/if_tun.h>
#include <linux/kvm.h>
#include <linux/seccomp.h>
#include <linux/vhost.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "policy/policy.h"

#define BASE (1u << PROFILE_BASE)
#define INIT (1u << PROFILE_INIT)
#define QEMU (1u << PROFILE_QEMU)
#define MOCK (1u << PROFILE_MOCK)
#define BROKER (1u << PROFILE_BROKER)
#define SPAWNER (1u << PROFILE_SPAWNER)
#define VMMS (QEMU | MOCK)
#define ALL (BASE | INIT | QEMU | MOCK | BROKER | SPAWNER)
#define PROFILES 6

/* What came of it. Errnos are negative numbers, so these are out of their way. */
#define KILLED 1000
#define REACHED 1001
#define GATE_INT80 10000 /* pretended call numbers */

static const char *const names[PROFILES] = { "base", "init", "qemu", "mock", "broker", "spawner" };

/* Not _exit(): under the address sanitizer that makes calls of its own first, which the filters answer. */
static void leave(long status)
{
	for (;;)
		(void)syscall(SYS_exit_group, status);
}

static void load(unsigned profile)
{
	struct sock_fprog program = { 0 };
	const struct sock_filter *code;
	size_t count = 0;

	code = syscall_profile_program((enum syscall_profile)profile, &count);
	program.len = (unsigned short)count;
	program.filter = (struct sock_filter *)(uintptr_t)code;
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 || code == NULL ||
	    syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &program) < 0)
		leave(99);
}

static long make_call(long nr, const long a[6])
{
	long r;

	if (nr == GATE_INT80) {
#ifdef __x86_64__
		__asm__ volatile("int $0x80"
				 : "=a"(r)
				 : "a"(a[0]), "b"(0L), "c"(0L), "d"(0L)
				 : "memory", "r8", "r9", "r10", "r11");
		return r;
#endif
	}
	r = syscall(nr, a[0], a[1], a[2], a[3], a[4], a[5]);
	return r < 0 ? -errno : r;
}

/* The result of one call in a child under the given filters (loaded in this order). */
static long under(const unsigned *profiles, size_t count, long nr, const long a[6])
{
	long *result = mmap(NULL, sizeof(*result), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	int status = 0;
	long r;
	pid_t pid;

	assert_true(result != MAP_FAILED);
	pid = fork();
	assert_true(pid >= 0);
	if (pid == 0) {
		pid_t self = getpid();

		for (size_t i = 0; i < count; i++)
			load(profiles[i]);
		r = make_call(nr, a);
		/* a call that made a process: only the first of them reports */
		if (syscall(SYS_getpid) == self)
			*result = r;
		leave(0);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	r = *result;
	(void)munmap(result, sizeof(*result));
	if (WIFSIGNALED(status))
		return WTERMSIG(status) == SIGSYS ? KILLED : -(10000 + WTERMSIG(status));
	assert_int_equal(WEXITSTATUS(status), 0);
	return r;
}

struct probe {
	const char *what;
	unsigned profiles; /* which it is tried under, one at a time */
	long expected;
	long nr;
	long a[6];
};

static bool as_expected(long expected, long r)
{
	if (expected == REACHED)
		return r != KILLED && r != -EPERM && r != -ENOSYS && r > -10000;
	return r == expected;
}

static void run(const struct probe *probes, size_t count)
{
	unsigned wrong = 0;

	for (size_t i = 0; i < count; i++) {
		for (unsigned p = 0; p < PROFILES; p++) {
			long r;

			if ((probes[i].profiles >> p & 1) == 0)
				continue;
			r = under(&p, 1, probes[i].nr, probes[i].a);
			if (!as_expected(probes[i].expected, r)) {
				print_error("%s under %s: %ld, expected %ld\n", probes[i].what, names[p], r,
					    probes[i].expected);
				wrong++;
			}
		}
	}
	assert_int_equal(wrong, 0);
}

#define CALL(profiles, expected, name, ...) \
	{ \
#name " " #__VA_ARGS__, profiles, expected, SYS_##name, \
		{ \
			__VA_ARGS__ \
		} \
	}
#define IOCTL(profiles, expected, cmd) \
	{ \
		"ioctl " #cmd, profiles, expected, SYS_ioctl, \
		{ \
			-1, (long)(cmd) \
		} \
	}

/* ATTACKS 34: another way into the kernel must not be a way around the filter. */
static void test_gates(void **state)
{
	static const struct probe probes[] = {
		{ "int 0x80 getpid", ALL, KILLED, GATE_INT80, { 20 } },
		{ "int 0x80 socketcall", ALL, KILLED, GATE_INT80, { 102 } },
		{ "x32 getpid", ALL, KILLED, 0x40000000 | 39, { 0 } },
		{ "x32 execve", ALL, KILLED, 0x40000000 | 520, { 0 } },
		{ "x32 with the highest bit", BROKER | INIT, KILLED, (long)0xc0000000, { 0 } },
	};

	(void)state;
	run(probes, ARRAY_SIZE(probes));
}

static void test_namespaces(void **state)
{
	static const struct probe probes[] = {
		CALL(BASE | VMMS, -EPERM, unshare, CLONE_NEWUSER),
		CALL(BASE | VMMS, -EPERM, unshare, CLONE_NEWNET),
		CALL(INIT | BROKER, KILLED, unshare, CLONE_NEWUSER),
		CALL(BASE | VMMS, -EPERM, clone, CLONE_NEWUSER | SIGCHLD),
		CALL(BASE | VMMS, -EPERM, clone, CLONE_NEWNS | SIGCHLD),
		CALL(BASE | VMMS, -EPERM, clone, CLONE_NEWPID | SIGCHLD),
		CALL(BASE | VMMS, -EPERM, clone, CLONE_NEWNET | SIGCHLD),
		CALL(BASE | VMMS, -EPERM, clone, CLONE_NEWIPC | SIGCHLD),
		CALL(BASE | VMMS, -EPERM, clone, CLONE_NEWUTS | SIGCHLD),
		CALL(BASE | VMMS, -EPERM, clone, CLONE_NEWCGROUP | SIGCHLD),
		CALL(BASE | VMMS, -EPERM, clone, CLONE_PTRACE | SIGCHLD),
		CALL(VMMS, -EPERM, clone, SIGCHLD), /* a fork */
		CALL(VMMS, -EPERM, clone, CLONE_VM | SIGCHLD),
		CALL(VMMS, -EPERM, clone, CLONE_THREAD | CLONE_NEWUSER),
		CALL(VMMS, REACHED, clone, CLONE_THREAD), /* EINVAL: threads share memory and handlers */
		CALL(VMMS, -EPERM, fork, 0),
		CALL(VMMS, -EPERM, vfork, 0),
		CALL(BASE, REACHED, clone, SIGCHLD), /* init forks the VMM below base */
		CALL(SPAWNER, REACHED, clone, SIGCHLD),
		CALL(BROKER | INIT, KILLED, clone, SIGCHLD),
		CALL(BASE | VMMS, -ENOSYS, clone3, 0, 0),
		CALL(SPAWNER, REACHED, clone3, 0, 0),
		CALL(BROKER | INIT, KILLED, clone3, 0, 0),
		CALL(BASE | VMMS, -EPERM, setns, -1, 0),
		CALL(SPAWNER, REACHED, setns, -1, 0),
		CALL(BASE | VMMS, -EPERM, mount, 0, 0, 0, 0, 0),
		CALL(BASE | VMMS, -EPERM, umount2, 0, 0),
		CALL(BASE | VMMS | SPAWNER, -EPERM, pivot_root, 0, 0),
		CALL(BASE | VMMS | SPAWNER, -EPERM, chroot, 0),
		CALL(BASE | VMMS, -EPERM, fsopen, 0, 0),
		CALL(BASE | VMMS, -EPERM, open_tree, -1, 0, 0),
		CALL(BASE | VMMS, -EPERM, move_mount, -1, 0, -1, 0, 0),
		CALL(BASE | VMMS, -EPERM, mount_setattr, -1, 0, 0, 0, 0),
		{ "open_tree_attr", BASE | VMMS | SPAWNER, -EPERM, 467, { -1 } },
		CALL(BASE | VMMS | SPAWNER, -EPERM, open_by_handle_at, -1, 0, 0),
	};

	(void)state;
	run(probes, ARRAY_SIZE(probes));
}

static void test_other_processes(void **state)
{
	static const struct probe probes[] = {
		CALL(BASE | VMMS | SPAWNER, -EPERM, ptrace, 0, 0, 0, 0),
		CALL(INIT | BROKER, KILLED, ptrace, 0, 0, 0, 0),
		CALL(BASE | VMMS | SPAWNER, -EPERM, process_vm_readv, 1, 0, 0, 0, 0, 0),
		CALL(BASE | VMMS | SPAWNER, -EPERM, process_vm_writev, 1, 0, 0, 0, 0, 0),
		CALL(BASE | VMMS | SPAWNER, -EPERM, pidfd_getfd, -1, 0, 0),
		CALL(BASE | VMMS | SPAWNER, -EPERM, kcmp, 1, 1, 0, 0, 0),
		CALL(VMMS, -EPERM, kill, 1, 0),
		CALL(VMMS, -EPERM, pidfd_open, 1, 0),
		CALL(INIT, KILLED, kill, -1, 0), /* everybody */
		CALL(INIT, REACHED, kill, 0x7fffffff, 0),
		CALL(BROKER, KILLED, kill, 1, 0),
		CALL(BROKER | INIT, REACHED, pidfd_send_signal, -1, 0, 0, 0),
		CALL(INIT, REACHED, prlimit64, 0, 7, 0, 0),
		CALL(INIT, KILLED, prlimit64, 0, 7, 8, 0),
		CALL(VMMS, -EPERM, prlimit64, 0, 7, 8, 0),
		CALL(VMMS, -EPERM, prlimit64, 1, 7, 0, 0),
		CALL(VMMS, REACHED, prlimit64, 0, 7, 0, 0),
	};

	(void)state;
	run(probes, ARRAY_SIZE(probes));
}

static void test_kernel(void **state)
{
	static const struct probe probes[] = {
		CALL(BASE | VMMS | SPAWNER, -EPERM, bpf, 0, 0, 0),
		CALL(BASE | VMMS | SPAWNER, -EPERM, perf_event_open, 0, 0, 0, 0, 0),
		CALL(BASE | VMMS | SPAWNER, -EPERM, userfaultfd, 0),
		CALL(BASE | VMMS | SPAWNER, -EPERM, io_uring_setup, 0, 0),
		CALL(BASE | VMMS | SPAWNER, -EPERM, keyctl, 0, 0, 0, 0, 0),
		CALL(BASE | VMMS | SPAWNER, -EPERM, add_key, 0, 0, 0, 0, 0),
		CALL(BASE | VMMS | SPAWNER, -EPERM, syslog, 3, 0, 0),
		CALL(BASE | VMMS | SPAWNER, -EPERM, personality, 0x0400000),
		CALL(BASE, REACHED, personality, 0xffffffff),
		CALL(BASE | VMMS | SPAWNER, -EPERM, shmget, 0, 4096, 01600),
		CALL(BASE | VMMS | SPAWNER, -EPERM, mq_open, 0, 0, 0, 0),
		CALL(BASE | SPAWNER, KILLED, reboot, 0, 0, 0, 0),
		CALL(BASE | SPAWNER, KILLED, kexec_load, 0, 0, 0, 0),
		CALL(BASE | SPAWNER, KILLED, init_module, 0, 0, 0),
		CALL(BASE | SPAWNER, KILLED, finit_module, -1, 0, 0),
		CALL(BASE | SPAWNER, KILLED, delete_module, 0, 0),
		CALL(BASE | SPAWNER, KILLED, swapon, 0, 0),
		CALL(BASE | SPAWNER, KILLED, clock_settime, 0, 0),
		CALL(VMMS, -EPERM, reboot, 0, 0, 0, 0),
		{ "a call of the future", BASE | VMMS | SPAWNER, -ENOSYS, 470, { 0 } },
		{ "a call of the future", BASE | VMMS | SPAWNER, -ENOSYS, 9999, { 0 } },
		{ "a call of the future", BROKER | INIT, KILLED, 470, { 0 } },
		{ "file_setattr, the last one known", BASE | VMMS | SPAWNER, -EPERM, 469, { -1 } },
	};

	(void)state;
	run(probes, ARRAY_SIZE(probes));
}

static void test_files_and_ids(void **state)
{
	static const struct probe probes[] = {
		CALL(BASE | VMMS | SPAWNER, -EPERM, chown, 0, 0, 0),
		CALL(BASE | VMMS | SPAWNER, -EPERM, fchown, -1, 0, 0),
		CALL(BASE | VMMS | SPAWNER, -EPERM, chmod, 0, 0),
		CALL(BASE | VMMS | SPAWNER, -EPERM, fchmodat, -1, 0, 0),
		{ "fchmodat2", BASE | VMMS | SPAWNER, -EPERM, 452, { -1 } },
		CALL(VMMS, -EPERM, fchmod, -1, 0),
		CALL(BASE | SPAWNER, REACHED, fchmod, -1, 0),
		CALL(BASE | VMMS | SPAWNER, -EPERM, mknodat, -1, 0, 0, 0),
		CALL(BASE | VMMS | SPAWNER, -EPERM, setxattr, 0, 0, 0, 0, 0),
		CALL(BASE | VMMS | SPAWNER, -EPERM, fsetxattr, -1, 0, 0, 0, 0),
		{ "setxattrat", BASE | VMMS | SPAWNER, -EPERM, 463, { -1 } },
		CALL(BASE | VMMS, -EPERM, setresuid, -1, -1, -1),
		CALL(BASE | VMMS, -EPERM, setgroups, 0, 0),
		CALL(BASE | VMMS, -EPERM, capset, 0, 0),
		CALL(BASE | VMMS, -EPERM, prctl, PR_SET_DUMPABLE, 1, 0, 0, 0),
		CALL(BASE | VMMS, -EPERM, prctl, 0x100000000L | PR_SET_DUMPABLE, 1, 0, 0, 0), /* the kernel reads an int */
		CALL(BASE | VMMS, -EPERM, prctl, PR_SET_MM, 0, 0, 0, 0),
		CALL(BASE | VMMS, -EPERM, prctl, 0x59616d61, -1, 0, 0, 0),
		CALL(VMMS, REACHED, prctl, PR_SET_NAME, 0, 0, 0, 0),
		CALL(QEMU, REACHED, prctl, PR_SET_TIMERSLACK, 50000, 0, 0, 0),
		CALL(VMMS, -EPERM, prctl, PR_SET_SECCOMP, 2, 0, 0, 0),
		CALL(VMMS, -EPERM, seccomp, 0, 0, 0),
		CALL(INIT, -EPERM, prctl, PR_SET_DUMPABLE, 1, 0, 0, 0),
		CALL(BROKER, KILLED, prctl, PR_SET_DUMPABLE, 1, 0, 0, 0),
		CALL(BROKER | INIT, KILLED, setresuid, 0, 0, 0),
		CALL(BROKER, REACHED, openat, -1, 0, O_RDWR | O_CLOEXEC),
		CALL(BROKER, KILLED, openat, -1, 0, O_WRONLY | O_CREAT),
		CALL(BROKER, KILLED, openat, -1, 0, O_WRONLY | O_TRUNC),
		CALL(INIT, REACHED, openat, -1, 0, O_RDONLY | O_DIRECTORY | O_CLOEXEC),
		CALL(INIT, KILLED, openat, -1, 0, O_RDWR),
		CALL(INIT, KILLED, openat, -1, 0, O_RDONLY | O_CREAT),
		CALL(INIT | BROKER, KILLED, execve, 0, 0, 0),
		CALL(INIT | BROKER, KILLED, execveat, -1, 0, 0, 0, 0),
		CALL(VMMS | SPAWNER, REACHED, execve, 0, 0, 0),
		CALL(VMMS, -EPERM, execveat, -1, 0, 0, 0, 0),
		CALL(INIT | BROKER, KILLED, mmap, 0, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0),
		/* the host's pool of huge pages, by every size bit */
		CALL(VMMS, -EPERM, mmap, 0, 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_HUGETLB, -1, 0),
		CALL(VMMS, -EPERM, mmap, 0, 4096, PROT_READ, MAP_SHARED | MAP_ANONYMOUS | MAP_HUGETLB | (30 << 26), -1, 0),
		CALL(VMMS, REACHED, mmap, 0, 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0),
		CALL(VMMS, -EPERM, memfd_create, 0, MFD_HUGETLB | MFD_CLOEXEC),
		CALL(VMMS, -EPERM, memfd_create, 0, MFD_HUGETLB | (30 << 26)),
		CALL(QEMU, REACHED, memfd_create, 0, MFD_CLOEXEC | MFD_ALLOW_SEALING),
		CALL(INIT | BROKER, KILLED, mprotect, 0, 0, PROT_READ | PROT_EXEC),
		CALL(INIT | BROKER, REACHED, mmap, 0, 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0),
		CALL(QEMU | SPAWNER, REACHED, mmap, 0, 4096, 7, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0),
	};

	(void)state;
	run(probes, ARRAY_SIZE(probes));
}

static void test_sockets(void **state)
{
	static const struct probe probes[] = {
		CALL(VMMS, -EPERM, socket, AF_UNIX, SOCK_STREAM, 0),
		CALL(VMMS | BASE, -EPERM, socket, AF_INET, SOCK_STREAM, 0),
		CALL(VMMS | BASE, -EPERM, socket, AF_NETLINK, SOCK_RAW, 0),
		CALL(VMMS | BASE, -EPERM, socket, AF_VSOCK, SOCK_STREAM, 0),
		CALL(VMMS | BASE, -EPERM, socket, 0x100000000L | AF_INET, SOCK_STREAM, 0),
		CALL(BASE, REACHED, socketpair, AF_UNIX, SOCK_STREAM, 0, 0),
		CALL(VMMS, -EPERM, socketpair, AF_UNIX, SOCK_STREAM, 0, 0),
		CALL(VMMS, -EPERM, connect, -1, 0, 0),
		CALL(VMMS, -EPERM, bind, -1, 0, 0),
		CALL(VMMS, -EPERM, listen, -1, 0),
		CALL(BROKER, -EPERM, socket, AF_UNIX, SOCK_STREAM, 0),
		CALL(BROKER, REACHED, accept4, -1, 0, 0, 0),
		CALL(BROKER, KILLED, bind, -1, 0, 0),
		CALL(SPAWNER, REACHED, socket, AF_NETLINK, SOCK_RAW, -1),
		CALL(INIT, KILLED, socket, AF_UNIX, SOCK_STREAM, 0),
	};

	(void)state;
	run(probes, ARRAY_SIZE(probes));
}

/* D24 and SELINUX.md 4: what a holder of a tap or vhost descriptor may ask of it. -1: the filter comes before EBADF. */
static void test_ioctls(void **state)
{
	static const struct probe probes[] = {
		IOCTL(VMMS, -EPERM, TUNSETIFF),
		IOCTL(VMMS, -EPERM, TUNSETPERSIST),
		IOCTL(VMMS, -EPERM, TUNSETOWNER),
		IOCTL(VMMS, -EPERM, TUNSETGROUP),
		IOCTL(VMMS, -EPERM, TUNSETLINK),
		IOCTL(VMMS, -EPERM, TUNSETCARRIER),
		IOCTL(VMMS, -EPERM, TUNSETDEBUG),
		IOCTL(VMMS, -EPERM, TUNATTACHFILTER),
		IOCTL(VMMS, -EPERM, TUNSETSTEERINGEBPF),
		IOCTL(VMMS, -EPERM, TUNGETDEVNETNS),
		IOCTL(VMMS, -EPERM, 0x8924 /* SIOCSIFHWADDR */),
		IOCTL(VMMS, -EPERM, 0x8927 /* SIOCGIFHWADDR */),
		IOCTL(MOCK, -EPERM, TUNSETQUEUE),
		IOCTL(QEMU, -EBADF, TUNSETQUEUE), /* QEMU aborts without; moves nothing but its own queue */
		IOCTL(VMMS, -EBADF, TUNGETIFF),
		IOCTL(QEMU, -EBADF, TUNSETOFFLOAD),
		IOCTL(QEMU, -EBADF, TUNSETVNETHDRSZ),
		IOCTL(VMMS, -EBADF, KVM_GET_API_VERSION),
		IOCTL(QEMU, -EBADF, KVM_CREATE_VM),
		IOCTL(QEMU, -EBADF, KVM_RUN),
		IOCTL(MOCK, -EPERM, KVM_RUN),
		IOCTL(QEMU, -EBADF, VHOST_SET_OWNER),
		IOCTL(VMMS, -EPERM, VHOST_RESET_OWNER),
		IOCTL(QEMU, -EBADF, VHOST_NET_SET_BACKEND),
		IOCTL(QEMU, -EBADF, VHOST_SET_MEM_TABLE),
		IOCTL(QEMU, -EBADF, VHOST_SET_VRING_ADDR),
		IOCTL(QEMU, -EBADF, VHOST_GET_VRING_BASE),
		IOCTL(QEMU, -EBADF, VHOST_VSOCK_SET_RUNNING),
		IOCTL(VMMS, 0, VHOST_VSOCK_SET_GUEST_CID), /* "done", and nothing was */
		IOCTL(BROKER, -EBADF, VHOST_VSOCK_SET_GUEST_CID),
		IOCTL(BROKER, -EPERM, TCGETS),
		IOCTL(BROKER, KILLED, VHOST_SET_OWNER),
		IOCTL(BROKER, KILLED, TUNSETIFF),
		IOCTL(INIT, -EPERM, TUNSETIFF),
		IOCTL(VMMS | BASE | SPAWNER, -EPERM, TIOCSTI),
		IOCTL(BASE, -EPERM, 0x100000000L | TIOCSTI), /* the kernel reads 32 bits */
		IOCTL(VMMS | BASE | SPAWNER, -EPERM, 0x541c /* TIOCLINUX */),
		IOCTL(SPAWNER, -EBADF, TUNSETIFF),
		IOCTL(SPAWNER, -EBADF, TUNSETOWNER),
		IOCTL(SPAWNER, -EPERM, TUNSETPERSIST),
		IOCTL(SPAWNER, -EBADF, KVM_RUN), /* inherited by QEMU */
	};

	(void)state;
	run(probes, ARRAY_SIZE(probes));
}

/* As they lie on a VMM: the spawner's, init's base, its own. The strictest wins, and of two refusals the newest. */
static void test_stacked(void **state)
{
	static const struct {
		const char *what;
		long expected;
		long nr;
		long a[6];
	} probes[] = {
		{ "read", -EBADF, SYS_read, { -1 } },
		{ "clone3", -ENOSYS, SYS_clone3, { 0 } },
		{ "unshare", -EPERM, SYS_unshare, { CLONE_NEWUSER } },
		{ "reboot", KILLED, SYS_reboot, { 0 } },
		{ "guest cid", 0, SYS_ioctl, { -1, (long)VHOST_VSOCK_SET_GUEST_CID } },
		{ "KVM_RUN", -EBADF, SYS_ioctl, { -1, KVM_RUN } },
		{ "TUNSETIFF", -EPERM, SYS_ioctl, { -1, (long)TUNSETIFF } },
		{ "faccessat2", -ENOSYS, 439, { 0 } },
		{ "setns", -EPERM, SYS_setns, { -1, 0 } },
	};
	static const unsigned stack[] = { PROFILE_SPAWNER, PROFILE_BASE, PROFILE_QEMU };
	static const unsigned init_stack[] = { PROFILE_SPAWNER, PROFILE_BASE, PROFILE_INIT };
	static const long kill_child[6] = { 0x7fffffff, 0 };

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(probes); i++) {
		long r = under(stack, ARRAY_SIZE(stack), probes[i].nr, probes[i].a);

		if (r != probes[i].expected)
			fail_msg("%s: %ld, expected %ld", probes[i].what, r, probes[i].expected);
	}
	assert_int_equal(under(init_stack, ARRAY_SIZE(init_stack), SYS_kill, kill_child), -ESRCH);
}

/* What a filter answers, computed here: trying every call for real would end the test sooner or later. Knows the
 * instructions that libseccomp and our prologue use. */
static uint32_t answer(unsigned profile, const struct seccomp_data *data)
{
	size_t count = 0, pc = 0;
	const struct sock_filter *code = syscall_profile_program((enum syscall_profile)profile, &count);
	uint32_t a = 0;

	while (pc < count) {
		const struct sock_filter *i = &code[pc++];

		switch (i->code) {
		case BPF_LD | BPF_W | BPF_ABS:
			memcpy(&a, (const char *)data + i->k, sizeof(a));
			break;
		case BPF_ALU | BPF_AND | BPF_K:
			a &= i->k;
			break;
		case BPF_JMP | BPF_JA:
			pc += i->k;
			break;
		case BPF_JMP | BPF_JEQ | BPF_K:
			pc += a == i->k ? i->jt : i->jf;
			break;
		case BPF_JMP | BPF_JGT | BPF_K:
			pc += a > i->k ? i->jt : i->jf;
			break;
		case BPF_JMP | BPF_JGE | BPF_K:
			pc += a >= i->k ? i->jt : i->jf;
			break;
		case BPF_RET | BPF_K:
			return i->k;
		default:
			fail_msg("instruction %#x is not one we know", i->code);
		}
	}
	fail_msg("the filter runs off its end");
	return 0;
}

/* What lies on a VMM, and on init, is inherited from the spawner's filter: nothing the inner filters let through, and
 * nothing they answer kindly, may be killed or refused above them. */
static void test_spawner_covers(void **state)
{
	static const unsigned inner[] = { PROFILE_QEMU, PROFILE_MOCK, PROFILE_INIT };
	static const unsigned long ioctls[] = { TUNGETIFF,     TUNGETFEATURES,  TUNSETOFFLOAD,       TUNSETQUEUE, KVM_RUN,
						KVM_CREATE_VM, VHOST_SET_OWNER, VHOST_SET_MEM_TABLE, FIONBIO,     TCGETS };
	static const uint64_t values[] = { 0, 1, 4, 15, 16, 23, 29, 0x10000, 0x10000000, UINT64_MAX };

	(void)state;
	for (int nr = 0; nr < 470; nr++) {
		for (size_t k = 0; k < ARRAY_SIZE(inner) * ARRAY_SIZE(values) * ARRAY_SIZE(ioctls); k++) {
			unsigned profile = inner[k % ARRAY_SIZE(inner)];
			struct seccomp_data data = { .nr = nr, .arch = AUDIT_ARCH_X86_64 };

			data.args[0] = values[k / ARRAY_SIZE(inner) % ARRAY_SIZE(values)];
			data.args[1] = ioctls[k / ARRAY_SIZE(inner) / ARRAY_SIZE(values)];
			if (answer(profile, &data) == SECCOMP_RET_ALLOW &&
			    answer(PROFILE_SPAWNER, &data) != SECCOMP_RET_ALLOW)
				fail_msg("%s may call %d, the spawner above it may not", names[profile], nr);
			/* killed above means killed, whatever is refused kindly below */
			if (profile != PROFILE_INIT && answer(PROFILE_SPAWNER, &data) == SECCOMP_RET_KILL_PROCESS &&
			    answer(PROFILE_BASE, &data) != SECCOMP_RET_KILL_PROCESS)
				fail_msg("the spawner's filter kills for %d, base does not", nr);
		}
	}
}

/* Another architecture, whatever the number says. */
static void test_other_arch(void **state)
{
	static const uint32_t archs[] = { AUDIT_ARCH_I386, AUDIT_ARCH_AARCH64, 0 };

	(void)state;
	for (unsigned p = 0; p < PROFILES; p++)
		for (size_t i = 0; i < ARRAY_SIZE(archs); i++)
			for (int nr = 0; nr < 600; nr++) {
				struct seccomp_data data = { .nr = nr, .arch = archs[i] };

				assert_int_equal(answer(p, &data), SECCOMP_RET_KILL_PROCESS);
			}
}

static void test_programs(void **state)
{
	size_t count = 4711;

	(void)state;
	for (unsigned i = 0; i < PROFILES; i++) {
		assert_non_null(syscall_profile_program((enum syscall_profile)i, &count));
		assert_in_range(count, 5, 4096);
	}
	count = 4711;
	assert_null(syscall_profile_program((enum syscall_profile)PROFILES, &count));
	assert_int_equal(count, 4711);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_programs),   cmocka_unit_test(test_gates),
		cmocka_unit_test(test_namespaces), cmocka_unit_test(test_other_processes),
		cmocka_unit_test(test_kernel),     cmocka_unit_test(test_files_and_ids),
		cmocka_unit_test(test_sockets),    cmocka_unit_test(test_ioctls),
		cmocka_unit_test(test_stacked),    cmocka_unit_test(test_spawner_covers),
		cmocka_unit_test(test_other_arch),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
