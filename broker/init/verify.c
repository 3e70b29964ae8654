/* SPDX-License-Identifier: Apache-2.0
 * Runs: init (uid X, no capability). Reads init's own state back: what the spawner dropped must be gone, not "have been
 * dropped". Nothing of a peer has been read before these checks. */
#include <errno.h>
#include <linux/capability.h>
#include <linux/securebits.h>
#include <stdbool.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "init.h"

/* An upper bound for the walk over capabilities; the kernel answers EINVAL behind its last one. */
#define CAPABILITIES_MAX 64

/* Locked, so that no program started later can bring back the rule "uid 0 has every capability". */
#define SECUREBITS_NEEDED (SECBIT_NOROOT | SECBIT_NOROOT_LOCKED | SECBIT_NO_SETUID_FIXUP | SECBIT_NO_SETUID_FIXUP_LOCKED)

static bool capability_sets_empty(void)
{
	struct __user_cap_header_struct header = { .version = _LINUX_CAPABILITY_VERSION_3 };
	struct __user_cap_data_struct data[_LINUX_CAPABILITY_U32S_3];

	if (syscall(SYS_capget, &header, data) < 0)
		return false;
	for (size_t i = 0; i < ARRAY_SIZE(data); i++)
		if ((data[i].effective | data[i].permitted | data[i].inheritable) != 0)
			return false;
	for (unsigned long cap = 0; cap < CAPABILITIES_MAX; cap++) {
		int bounding = prctl(PR_CAPBSET_READ, cap, 0, 0, 0);

		if (bounding < 0)
			return errno == EINVAL && cap > CAP_AUDIT_READ; /* EINVAL at once would prove nothing */
		if (bounding != 0 || prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_IS_SET, cap, 0, 0) != 0)
			return false;
	}
	return true;
}

int verify_self(void)
{
	int bits = prctl(PR_GET_SECUREBITS, 0, 0, 0, 0);

	if (getpid() != 1)
		return -ESRCH; /* without a pid namespace of its own nothing would die with init */
	if (prctl(PR_GET_DUMPABLE, 0, 0, 0, 0) != 0)
		return -EPERM;
	if (!capability_sets_empty())
		return -EPERM;
	if (prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) != 1)
		return -EPERM;
	if (bits < 0 || (bits & SECUREBITS_NEEDED) != SECUREBITS_NEEDED || (bits & SECBIT_KEEP_CAPS) != 0)
		return -EPERM;
	return 0;
}

int verify_identity(const struct wire_boot *boot)
{
	const struct wire_lease *lease = &boot->lease[0];
	uid_t uid[3];
	gid_t gid[3], group = 0;
	int groups;

	if (lease->uid == 0 || lease->gid == 0)
		return -EPERM;
	if (getresuid(&uid[0], &uid[1], &uid[2]) < 0 || getresgid(&gid[0], &gid[1], &gid[2]) < 0)
		return -errno;
	for (size_t i = 0; i < ARRAY_SIZE(uid); i++)
		if (uid[i] != lease->uid || gid[i] != lease->gid)
			return -EPERM;
	/* More than one group: EINVAL, which refuses like any other surprise. */
	groups = getgroups(1, &group);
	if (groups < 0 || groups != (boot->kvm_group != 0 ? 1 : 0))
		return -EPERM;
	return groups == 1 && group != boot->kvm_gid ? -EPERM : 0;
}
