/* SPDX-License-Identifier: Apache-2.0
 * Runs: spawner (capabilities of P only). What it takes from itself before it serves. */
#include "spawner.h"

#include <errno.h>
#include <linux/capability.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "common/fault.h"
#include "policy/policy.h"

#define BIT(cap) (1ull << (cap))

/* What is left of P's capabilities, and why. Not CAP_KILL: the owner of a sandbox's user namespace may kill in it. */
/* clang-format off */
static const uint64_t kept_in_p = BIT(CAP_SYS_ADMIN)    /* setns into the switch; the child's map is written as its owner */
				  | BIT(CAP_SETUID)     /* uid maps; setfsuid for a tap's sender */
				  | BIT(CAP_SETGID)     /* gid maps */
				  | BIT(CAP_NET_ADMIN)  /* taps, ports, filters in the switch namespace */
				  | BIT(CAP_SYS_PTRACE); /* to see a not dumpable child in the procfs that hides others' */
/* clang-format on */

static int keep_only(uint64_t kept)
{
	struct __user_cap_header_struct head = { .version = _LINUX_CAPABILITY_VERSION_3 };
	struct __user_cap_data_struct data[_LINUX_CAPABILITY_U32S_3] = {
		{ .effective = (uint32_t)kept, .permitted = (uint32_t)kept },
		{ .effective = (uint32_t)(kept >> 32), .permitted = (uint32_t)(kept >> 32) },
	};

	for (int cap = 0; prctl(PR_CAPBSET_READ, cap, 0, 0, 0) >= 0; cap++)
		if ((kept & BIT(cap)) == 0 && prctl(PR_CAPBSET_DROP, cap, 0, 0, 0) < 0)
			return -errno;
	if (prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0) < 0)
		return -errno;
	return syscall(SYS_capset, &head, data) < 0 ? -errno : 0;
}

/* The filter comes last and stays on every child: PROFILE_SPAWNER allows what init and the VMMs need, their own
 * filters on top of it take that away again. */
int confine(bool direct)
{
	struct sock_fprog program = { 0 };
	size_t count = 0;
	int r;

	r = keep_only(fault_capability(SPAWNER_FD_FAULT, direct ? DIRECT_CAPABILITIES : kept_in_p));
	if (r < 0)
		return r;
	if (prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) < 0 || prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
		return -errno;
	/* The kernel copies the program; the prototype merely lacks the const. */
	program.filter = (struct sock_filter *)(uintptr_t)syscall_profile_program(PROFILE_SPAWNER, &count);
	program.len = (unsigned short)count;
	if (program.filter == NULL || count == 0)
		return -ENOENT;
	return syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &program) < 0 ? -errno : 0;
}
