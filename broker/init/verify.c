/* SPDX-License-Identifier: Apache-2.0
 * Runs: init (uid X, no capability). Reads init's own state back: what the spawner dropped must be gone, not "have been
 * dropped". Nothing of a peer has been read before these checks. */
#include <errno.h>
#include <linux/securebits.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "init.h"

/* Locked, so that no program started later can bring back the rule "uid 0 has every capability". */
#define SECUREBITS_NEEDED (SECBIT_NOROOT | SECBIT_NOROOT_LOCKED | SECBIT_NO_SETUID_FIXUP | SECBIT_NO_SETUID_FIXUP_LOCKED)

int verify_self(struct init *init)
{
	int bits = prctl(PR_GET_SECUREBITS, 0, 0, 0, 0);
	struct wire_fact_ids self = { 0 };
	int r;

	if (getpid() != 1)
		return -ESRCH; /* without a pid namespace of its own nothing would die with init */
	if (prctl(PR_GET_DUMPABLE, 0, 0, 0, 0) != 0)
		return -EPERM;
	/* Five sets whole, so that a capability newer than this program counts like the others. */
	r = status_read(init->procfs, "self/status", &self, &init->ignored);
	if (r < 0)
		return r;
	if ((self.cap_inh | self.cap_prm | self.cap_eff | self.cap_bnd | self.cap_amb) != 0 || self.no_new_privs != 1)
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
