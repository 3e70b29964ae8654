/* SPDX-License-Identifier: Apache-2.0
 * Runs: controller (the user). */
#include "confine.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/audit.h>
#include <linux/capability.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "common/cleanup.h"

/* Capabilities that a careless parent made inheritable or ambient. Root stays what he is: he needs them for files of others,
 * and whoever runs a controller as root has decided that. The bounding set is out of a user's reach, and means nothing after
 * no_new_privs. */
static int drop_capabilities(void)
{
	struct __user_cap_header_struct header = { .version = _LINUX_CAPABILITY_VERSION_3 };
	const struct __user_cap_data_struct none[_LINUX_CAPABILITY_U32S_3] = { 0 };

	if (geteuid() == 0)
		return 0;
	if (prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0) < 0 || syscall(SYS_capset, &header, none) < 0)
		return -errno;
	return 0;
}

int confine_first(void)
{
	const struct rlimit none = { 0, 0 };
	int r = drop_capabilities();

	if (r < 0)
		return r;
	(void)umask(077);
	if (setrlimit(RLIMIT_CORE, &none) < 0 || prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) < 0 ||
	    prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
		return -errno;
	return 0;
}

/* ---- Landlock -------------------------------------------------------------------------------------------------- */

/* Written out, because the headers of an older distribution than the kernel lack the newer names. */
enum {
	LL_WRITE_FILE = 1 << 1,
	LL_READ_FILE = 1 << 2,
	LL_READ_DIR = 1 << 3,
	LL_REMOVE_DIR = 1 << 4,
	LL_REMOVE_FILE = 1 << 5,
	LL_MAKE_DIR = 1 << 7,
	LL_MAKE_REG = 1 << 8,
	LL_REFER = 1 << 13,
	LL_TRUNCATE = 1 << 14,
	LL_READ = LL_READ_FILE | LL_READ_DIR,
	LL_KEEP =
		LL_READ | LL_WRITE_FILE | LL_REMOVE_DIR | LL_REMOVE_FILE | LL_MAKE_DIR | LL_MAKE_REG | LL_REFER | LL_TRUNCATE
};
#define LL_NET_TCP 0x3u        /* bind, connect */
#define LL_SCOPE_ABSTRACT 0x1u /* no abstract socket of others */
#define LL_SCOPE_SIGNAL 0x2u   /* nor a signal to them, also not by F_SETOWN, which the filter does not see */

struct ll_ruleset {
	uint64_t fs, net, scoped;
};

struct ll_beneath {
	uint64_t allowed;
	int32_t parent;
} __attribute__((packed));

/* All file rights that an ABI knows. */
static uint64_t all_rights(int abi)
{
	return abi >= 5 ? 0xffffu : abi >= 3 ? 0x7fffu : abi == 2 ? 0x3fffu : 0x1fffu;
}

static int allow(int ruleset, int dir, uint64_t rights)
{
	const struct ll_beneath rule = { .allowed = rights, .parent = dir };

	return syscall(SYS_landlock_add_rule, ruleset, 1 /* PATH_BENEATH */, &rule, 0) < 0 ? -errno : 0;
}

static int allow_path(int ruleset, const char *path, uint64_t rights)
{
	cleanup_fd int dir = open(path, O_PATH | O_CLOEXEC);

	return dir < 0 ? 0 : allow(ruleset, dir, rights); /* a host without it loses nothing */
}

/* signals: passt, which was started before, must stay within reach; the filter then keeps to its pid. */
static int landlock(int base, bool signals, int *ret_abi)
{
	struct ll_ruleset all = { 0 };
	cleanup_fd int ruleset = -1;
	int abi = (int)syscall(SYS_landlock_create_ruleset, NULL, 0, 1 /* VERSION */), r;

	if (abi <= 0) {
		*ret_abi = 0;
		return 0;
	}
	all.fs = all_rights(abi);
	all.net = abi >= 4 ? LL_NET_TCP : 0;
	all.scoped = abi < 6 ? 0 : signals ? LL_SCOPE_ABSTRACT : LL_SCOPE_ABSTRACT | LL_SCOPE_SIGNAL;
	/* An older kernel takes a longer struct as long as what it does not know is zero. */
	ruleset = (int)syscall(SYS_landlock_create_ruleset, &all, sizeof(all), 0);
	if (ruleset < 0)
		return -errno;
	r = allow(ruleset, base, LL_KEEP & all.fs);
	if (r == 0)
		r = allow_path(ruleset, "/proc", LL_READ);
	if (r == 0)
		r = allow_path(ruleset, "/sys/fs/cgroup", LL_READ);
	if (r == 0 && syscall(SYS_landlock_restrict_self, ruleset, 0) < 0)
		r = -errno;
	if (r == 0)
		*ret_abi = abi;
	return r;
}

/* ---- seccomp --------------------------------------------------------------------------------------------------- */

#ifdef __x86_64__
#define NATIVE_ARCH AUDIT_ARCH_X86_64
#elif defined(__aarch64__)
#define NATIVE_ARCH AUDIT_ARCH_AARCH64
#else
#error "the filter below has not been written for this architecture"
#endif
_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "the low half of an argument comes first");

/* The newest call that this filter was written with. What came later might be what a rule below denies under another
 * name (open_tree_attr, lsm_set_self_attr), and every libc knows what to do without it. */
#define FILTER_NEWEST 449u /* futex_waitv */

/* What a taken-over controller would want next and an honest one never needs after set-up. No process is ever started
 * again, so no clone flag needs to be looked at: none of them makes a namespace. */
static const uint32_t denied[] = {
	SYS_execve,
	SYS_execveat,
	SYS_clone,
#ifdef SYS_fork
	SYS_fork,
	SYS_vfork,
#endif
	/* other processes: their memory, their descriptors, their signals (kill and tgkill: below) */
	SYS_ptrace,
	SYS_process_vm_readv,
	SYS_process_vm_writev,
	SYS_process_madvise,
	SYS_pidfd_getfd,
	SYS_kcmp,
	SYS_pidfd_send_signal,
	SYS_tkill,
	SYS_rt_sigqueueinfo,
	SYS_rt_tgsigqueueinfo,
	/* namespaces and mounts */
	SYS_unshare,
	SYS_setns,
	SYS_chroot,
	SYS_pivot_root,
	SYS_mount,
	SYS_umount2,
	SYS_mount_setattr,
	SYS_move_mount,
	SYS_open_tree,
	SYS_fsopen,
	SYS_fspick,
	SYS_fsconfig,
	SYS_fsmount,
	SYS_open_by_handle_at,
	/* wide or rare parts of the kernel */
	SYS_bpf,
	SYS_perf_event_open,
	SYS_userfaultfd,
	SYS_io_uring_setup,
	SYS_io_uring_enter,
	SYS_io_uring_register,
	SYS_keyctl,
	SYS_add_key,
	SYS_request_key,
	SYS_personality,
	SYS_memfd_secret,
};

#define FILTER_MAX (2 * ARRAY_SIZE(denied) + 40)

struct program {
	struct sock_filter code[FILTER_MAX];
	size_t n;
};

static void put(struct program *p, uint16_t code, uint8_t yes, uint8_t no, uint32_t k)
{
	p->code[p->n++] = (struct sock_filter)BPF_JUMP(code, k, yes, no);
}

static void answer(struct program *p, uint32_t what)
{
	put(p, BPF_RET | BPF_K, 0, 0, what);
}

/* A call that is allowed with one first argument only. An int, so the kernel looks at this half of it, too. */
static void only(struct program *p, uint32_t call, uint32_t first)
{
	put(p, BPF_JMP | BPF_JEQ | BPF_K, 0, 4, call);
	put(p, BPF_LD | BPF_W | BPF_ABS, 0, 0, offsetof(struct seccomp_data, args[0]));
	put(p, BPF_JMP | BPF_JEQ | BPF_K, 0, 1, first);
	answer(p, SECCOMP_RET_ALLOW);
	answer(p, SECCOMP_RET_ERRNO | EPERM);
}

static int filter(pid_t passt)
{
	struct program p = { .n = 0 };
	struct sock_fprog program = { .filter = p.code };

	put(&p, BPF_LD | BPF_W | BPF_ABS, 0, 0, offsetof(struct seccomp_data, arch));
	put(&p, BPF_JMP | BPF_JEQ | BPF_K, 1, 0, NATIVE_ARCH);
	answer(&p, SECCOMP_RET_KILL_PROCESS);
	put(&p, BPF_LD | BPF_W | BPF_ABS, 0, 0, offsetof(struct seccomp_data, nr));
#ifdef __x86_64__
	put(&p, BPF_JMP | BPF_JGE | BPF_K, 0, 1, 0x40000000u /* x32 */);
	answer(&p, SECCOMP_RET_KILL_PROCESS);
#endif
	put(&p, BPF_JMP | BPF_JGT | BPF_K, 1, 0, FILTER_NEWEST);
	put(&p, BPF_JMP | BPF_JEQ | BPF_K, 0, 1, SYS_clone3); /* its flags are out of a filter's sight */
	answer(&p, SECCOMP_RET_ERRNO | ENOSYS);
	for (size_t i = 0; i < ARRAY_SIZE(denied); i++) {
		put(&p, BPF_JMP | BPF_JEQ | BPF_K, 0, 1, denied[i]);
		answer(&p, SECCOMP_RET_ERRNO | EPERM);
	}
	only(&p, SYS_socket, AF_UNIX);
	only(&p, SYS_tgkill, (uint32_t)getpid()); /* abort() */
	if (passt > 0)                            /* not reaped before passt_stop(), so the number is nobody else's */
		only(&p, SYS_kill, (uint32_t)passt);
	else {
		put(&p, BPF_JMP | BPF_JEQ | BPF_K, 0, 1, SYS_kill);
		answer(&p, SECCOMP_RET_ERRNO | EPERM);
	}
	answer(&p, SECCOMP_RET_ALLOW);
	program.len = (unsigned short)p.n;
	return prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program, 0, 0) < 0 ? -errno : 0;
}

int confine_last(int base, pid_t passt, int *ret_landlock)
{
	int r = landlock(base, passt > 0, ret_landlock);

	return r < 0 ? r : filter(passt);
}
