/* SPDX-License-Identifier: Apache-2.0
 * Runs: controller (the user). */
#include "confine.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/audit.h>
#include <linux/capability.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/prctl.h>
#include <sys/resource.h>
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
#define LL_SCOPE_ABSTRACT 0x1u /* no abstract socket of others. Signals stay: passt must be ended. */

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

static int landlock(int base, int *ret_abi)
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
	all.scoped = abi >= 6 ? LL_SCOPE_ABSTRACT : 0;
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
#endif

/* What a taken-over controller would want next and an honest one never needs after set-up. */
static const uint32_t denied[] = {
	SYS_execve,    SYS_execveat,   SYS_ptrace,          SYS_process_vm_readv,  SYS_process_vm_writev,
	SYS_unshare,   SYS_setns,      SYS_mount,           SYS_umount2,           SYS_pivot_root,
	SYS_chroot,    SYS_bpf,        SYS_perf_event_open, SYS_userfaultfd,       SYS_io_uring_setup,
	SYS_keyctl,    SYS_add_key,    SYS_request_key,     SYS_open_by_handle_at, SYS_kcmp,
	SYS_open_tree, SYS_move_mount, SYS_fsopen,          SYS_personality,
};

static int filter(void)
{
#ifdef NATIVE_ARCH
	struct sock_filter code[ARRAY_SIZE(denied) + 8];
	struct sock_fprog program = { .filter = code };
	size_t n = 0;

	code[n++] = (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, arch));
	code[n++] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, NATIVE_ARCH, 1, 0);
	code[n++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS);
	code[n++] = (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr));
#ifdef __x86_64__
	code[n++] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JGE | BPF_K, 0x40000000u /* x32 */, 0, 1);
	code[n++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS);
#endif
	for (size_t i = 0; i < ARRAY_SIZE(denied); i++) /* a hit jumps over the rest and the final ALLOW */
		code[n++] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, denied[i],
							 (uint8_t)(ARRAY_SIZE(denied) - i), 0);
	code[n++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
	code[n++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM);
	program.len = (unsigned short)n;
	return prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program, 0, 0) < 0 ? -errno : 0;
#else
	return 0;
#endif
}

int confine_last(int base, int *ret_landlock)
{
	int r = landlock(base, ret_landlock);

	return r < 0 ? r : filter();
}
