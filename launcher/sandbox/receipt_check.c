/* SPDX-License-Identifier: Apache-2.0
 * Runs: controller (the user). Every row of a receipt: what was meant, what the kernel says. A check that cannot be made
 * is shown as such, never as good. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "receipt_fields.h"

#define TEXT 160
#define SECCOMP_FILTERING 2
#define HOST_MAP "0 0 4294967295" /* of ids, in the user namespace that the host began with */
#define FILTERS_MIN 3     /* the spawner's, which is inherited; the base filter; the VMM's or init's own */
#define LANDLOCK_NEWEST 6 /* what postern-init makes use of: 6 keeps signals and abstract sockets inside */
/* What broker/spawner/drop.c sets; a host with lower limits of its own keeps them. */
#define NOFILE_MAX 4096
#define NOFILE_MIN 256
#define NPROC_MAX 4096
#define MEMLOCK_MAX (64ull << 20)

static enum receipt_mark good_if(bool ok)
{
	return ok ? RECEIPT_OK : RECEIPT_WRONG;
}

/* ---- ids and capabilities, four times ----------------------------------------------------------------------------- */

static void check_four(struct receipt *receipt, enum receipt_field field, const struct wire_fact_id ids[4], uint32_t wanted)
{
	char expected[TEXT];
	bool ok = true;

	for (size_t i = 0; i < 4; i++)
		ok = ok && ids[i].id == wanted;
	(void)snprintf(expected, sizeof(expected), "%u %u %u %u", wanted, wanted, wanted, wanted);
	receipt_row(receipt, field, good_if(ok && wanted != 0), expected, "%u %u %u %u", ids[0].id, ids[1].id, ids[2].id,
		    ids[3].id);
}

/* None, or the one that owns /dev/kvm when that is how KVM was granted. */
static void check_groups(struct receipt *receipt, enum receipt_field field, const struct wire_fact_ids *ids)
{
	bool by_group = receipt->lease.grants[WIRE_GRANT_KVM] == WIRE_BY_BY_GROUP;
	char expected[TEXT] = "none", found[TEXT] = "none";
	struct stat kvm;
	bool ok = ids->group_count == 0;

	if (by_group) {
		bool known = stat("/dev/kvm", &kvm) == 0;

		(void)snprintf(expected, sizeof(expected), known ? "%u, the group of /dev/kvm" : "the group of /dev/kvm",
			       known ? kvm.st_gid : 0);
		ok = ids->group_count == 1 && known && kvm.st_gid != 0 && ids->groups[0].id == kvm.st_gid;
	}
	for (size_t i = 0, used = 0; i < ids->group_count && i < ARRAY_SIZE(ids->groups) && used < sizeof(found) - 1; i++)
		used += (size_t)snprintf(found + used, sizeof(found) - used, i == 0 ? "%u" : " %u", ids->groups[i].id);
	/* Behind the count nothing may stand: a list that disagrees with its own length was not read from the kernel. */
	for (size_t i = ids->group_count; i < ARRAY_SIZE(ids->groups); i++)
		ok = ok && ids->groups[i].id == 0;
	receipt_row(receipt, field, good_if(ok), expected, "%s%s", found,
		    ids->group_count > ARRAY_SIZE(ids->groups) ? " ..." : "");
}

static void check_ids(struct receipt *receipt, enum receipt_field first, const struct wire_fact_ids *ids)
{
	const uint64_t sets[] = { ids->cap_inh, ids->cap_prm, ids->cap_eff, ids->cap_bnd, ids->cap_amb };

	_Static_assert(FIELD_VMM_FILTERS - FIELD_VMM_UIDS == 10 && FIELD_OUT_INIT_FILTERS - FIELD_OUT_INIT_UIDS == 10,
		       "the rows follow each other in the same order in each of the four groups");
	check_four(receipt, first, ids->uids, receipt->lease.uid);
	check_four(receipt, first + 1, ids->gids, receipt->lease.gid);
	check_groups(receipt, first + 2, ids);
	for (unsigned i = 0; i < ARRAY_SIZE(sets); i++)
		receipt_row(receipt, first + 3 + i, good_if(sets[i] == 0), "none", sets[i] == 0 ? "none" : "%#llx",
			    (unsigned long long)sets[i]);
	receipt_row(receipt, first + 8, good_if(ids->no_new_privs == 1), "1", "%u", ids->no_new_privs);
	receipt_row(receipt, first + 9, good_if(ids->seccomp == SECCOMP_FILTERING), "2 (filter)", "%u%s", ids->seccomp,
		    ids->seccomp == SECCOMP_FILTERING ? " (filter)" : "");
	/* Linux before 5.9 does not count them. */
	receipt_row(receipt, first + 10,
		    ids->seccomp_filters == 0 ? RECEIPT_ABSENT : good_if(ids->seccomp_filters >= FILTERS_MIN), "3 or more",
		    ids->seccomp_filters == 0 ? "not counted by this kernel" : "%u", ids->seccomp_filters);
}

/* ---- what init read --------------------------------------------------------------------------------------------- */

static void check_program(struct receipt *receipt, const struct plan *plan)
{
	const struct wire_facts *facts = &receipt->facts;
	bool planned = plan != NULL && plan->word_count > 0 && plan->words[0] == '/';
	char resolved[4096];
	bool ok = facts->exe[0] == '/';

	if (planned && strcmp(facts->exe, plan->words) != 0)
		ok = realpath(plan->words, resolved) != NULL && strcmp(facts->exe, resolved) == 0;
	receipt_row(receipt, FIELD_VMM_TASKS,
		    good_if(facts->tasks >= 1 && facts->tasks == facts->tasks_filtered &&
			    (facts->held == 0 || facts->tasks == 1)),
		    facts->held != 0 ? "1 of 1 filtered" : "all filtered", "%u of %u filtered", facts->tasks_filtered,
		    facts->tasks);
	receipt_row(receipt, FIELD_VMM_HELD, RECEIPT_INFO, "",
		    facts->held != 0 ? "read before the VMM's first instruction" : "read while the VMM runs");
	if (receipt->vmm.seen)
		receipt_row(
			receipt, FIELD_VMM_PID, good_if(facts->vmm_pid > 1 && (pid_t)facts->vmm_pid == receipt->vmm.inner),
			"the same inside and outside",
			facts->vmm_pid == (uint32_t)receipt->vmm.inner ? "%u inside, %d on the host"
								       : "%u inside, %d on the host, where it is %d inside",
			facts->vmm_pid, receipt->vmm.pid, receipt->vmm.inner);
	else
		receipt_row(receipt, FIELD_VMM_PID, good_if(facts->vmm_pid > 1), "more than 1", "%u inside", facts->vmm_pid);
	receipt_row(receipt, FIELD_VMM_EXE, good_if(ok), planned ? plan->words : "an absolute path", "%s", facts->exe);
}

static void check_label(struct receipt *receipt)
{
	const struct wire_lease *lease = &receipt->lease;
	const char *found = receipt->facts.label;
	bool granted = wire_outcome_ok(lease->grants[WIRE_GRANT_LABEL]);

	if (lease->label[0] != '\0' || granted)
		receipt_row(receipt, FIELD_VMM_LABEL, good_if(lease->label[0] != '\0' && strcmp(lease->label, found) == 0),
			    lease->label, "%s", found);
	else
		receipt_row(receipt, FIELD_VMM_LABEL,
			    lease->grants[WIRE_GRANT_LABEL] == WIRE_BY_NOT_ASKED ? RECEIPT_INFO : RECEIPT_ABSENT, "none",
			    "%s", found[0] != '\0' ? found : "none");
}

/* Direct mode: X is one of the host's own ids, in the host's own user namespace. That is less, and is shown as less. */
static bool direct_mode(const struct receipt *receipt)
{
	return (receipt->lease.flags & WIRE_DIRECT) != 0;
}

static void check_host_user_namespace(struct receipt *receipt, const struct wire_fact_ns *ns, uint64_t own)
{
	bool ok = ns->vmm != 0 && ns->vmm == ns->init && ns->vmm == own;

	receipt_row(receipt, FIELD_NS_USER, ok ? RECEIPT_ABSENT : RECEIPT_WRONG, "init's, ours",
		    ok ? "the host's: direct mode" : "%llu, init's %llu, ours %llu", (unsigned long long)ns->vmm,
		    (unsigned long long)ns->init, (unsigned long long)own);
}

/* Its /run, where init puts kernel and initrd: a file's label with the VMM's categories, so that no other VMM can use it. */
static void check_run_label(struct receipt *receipt)
{
	const struct wire_lease *lease = &receipt->lease;
	const char *found = receipt->init.run_label;
	char expected[LABEL_TEXT_MAX] = "none";

	if (lease->label[0] == '\0') {
		receipt_row(receipt, FIELD_OUT_INIT_RUN_LABEL,
			    lease->grants[WIRE_GRANT_LABEL] == WIRE_BY_NOT_ASKED ? RECEIPT_INFO : RECEIPT_ABSENT, expected,
			    "%s", found[0] != '\0' ? found : "not visible to you");
		return;
	}
	if (label_text_file(lease->label, LABEL_RUN_TYPE, expected, sizeof(expected)) < 0)
		(void)snprintf(expected, sizeof(expected), "a label like the lease's");
	receipt_row(receipt, FIELD_OUT_INIT_RUN_LABEL,
		    found[0] == '\0' ? RECEIPT_ABSENT : good_if(strcmp(expected, found) == 0), expected, "%s",
		    found[0] != '\0' ? found : "not visible to you");
}

static uint64_t own_namespace(pid_t self, const char *kind)
{
	char path[64];
	struct stat st;

	(void)snprintf(path, sizeof(path), "/proc/%d/ns/%s", self, kind);
	return stat(path, &st) == 0 ? st.st_ino : 0;
}

/* Each differs from ours and is init's. The time namespace is the host's for everybody: its offsets are nobody's secret. */
static void check_namespaces(struct receipt *receipt, pid_t self)
{
	static const char *const kinds[] = { "user", "pid", "mnt", "net", "ipc", "uts", "cgroup", "time" };
	bool shared = (receipt->lease.flags & WIRE_NETNS_SHARED) != 0;

	for (unsigned i = 0; i < ARRAY_SIZE(kinds); i++) {
		const struct wire_fact_ns *ns = &receipt->facts.namespaces[i];
		uint64_t own = own_namespace(self, kinds[i]);
		bool time = i == FIELD_NS_TIME - FIELD_NS_USER;
		char expected[TEXT];

		if (time && ns->vmm == 0 && ns->init == 0) {
			receipt_row(receipt, FIELD_NS_TIME, RECEIPT_ABSENT, "init's", "this kernel has none");
			continue;
		}
		if (i == 0 && direct_mode(receipt)) {
			check_host_user_namespace(receipt, ns, own);
			continue;
		}
		(void)snprintf(expected, sizeof(expected), time ? "init's" : "init's, not ours%s",
			       shared && strcmp(kinds[i], "net") == 0 ? "; the empty one that sandboxes share" : "");
		receipt_row(receipt, FIELD_NS_USER + i,
			    good_if(ns->vmm != 0 && ns->vmm == ns->init && (time || (own != 0 && ns->vmm != own))), expected,
			    "%llu, init's %llu, ours %llu", (unsigned long long)ns->vmm, (unsigned long long)ns->init,
			    (unsigned long long)own);
	}
}

static void check_places(struct receipt *receipt, pid_t self)
{
	const struct wire_facts *f = &receipt->facts;
	char path[64];
	struct stat own = { 0 };
	bool known;

	(void)snprintf(path, sizeof(path), "/proc/%d/root", self);
	known = stat(path, &own) == 0;
	receipt_row(receipt, FIELD_VMM_ROOT,
		    good_if(known && f->root_ino != 0 && f->root_dev == f->init_root_dev &&
			    f->root_ino == f->init_root_ino && (f->root_dev != own.st_dev || f->root_ino != own.st_ino)),
		    "init's, not ours", "%llx:%llu, init's %llx:%llu, ours %llx:%llu", (unsigned long long)f->root_dev,
		    (unsigned long long)f->root_ino, (unsigned long long)f->init_root_dev,
		    (unsigned long long)f->init_root_ino, (unsigned long long)own.st_dev, (unsigned long long)own.st_ino);
	receipt_row(receipt, FIELD_VMM_CWD, good_if(f->cwd_dev == f->root_dev && f->cwd_ino == f->root_ino), "the root",
		    "%llx:%llu", (unsigned long long)f->cwd_dev, (unsigned long long)f->cwd_ino);
	/* From inside its cgroup namespace a group is the root of all; a longer path: the namespace was made elsewhere. */
	receipt_row(receipt, FIELD_VMM_CGROUP,
		    receipt->lease.cgroup[0] == '\0' ? RECEIPT_INFO : good_if(strcmp(f->cgroup, "/") == 0),
		    receipt->lease.cgroup[0] == '\0' ? "" : "/", "%s", f->cgroup[0] != '\0' ? f->cgroup : "none");
}

static void check_landlock(struct receipt *receipt)
{
	unsigned found = receipt->facts.landlock_abi, promised = receipt->lease.landlock_abi;
	char expected[TEXT];

	if (!wire_outcome_ok(receipt->lease.grants[WIRE_GRANT_LANDLOCK]) && found == 0) {
		receipt_row(receipt, FIELD_LANDLOCK, RECEIPT_ABSENT, "none", "none: the VMM is kept in by everything else");
		return;
	}
	(void)snprintf(expected, sizeof(expected), "version %u", promised);
	receipt_row(receipt, FIELD_LANDLOCK,
		    found != promised || found == 0 ? RECEIPT_WRONG
		    : found < LANDLOCK_NEWEST       ? RECEIPT_ABSENT
						    : RECEIPT_OK,
		    expected, "version %u%s", found,
		    found < LANDLOCK_NEWEST ? ": signals and abstract sockets are not held back by it" : "");
}

static void check_at_most(struct receipt *receipt, enum receipt_field field, uint64_t found, uint64_t min, uint64_t max)
{
	char expected[TEXT];

	if (max == 0)
		(void)snprintf(expected, sizeof(expected), "0");
	else
		(void)snprintf(expected, sizeof(expected), "at most %llu", (unsigned long long)max);
	receipt_row(receipt, field, good_if(found >= min && found <= max), expected,
		    found == UINT64_MAX ? "unlimited" : "%llu", (unsigned long long)found);
}

static void check_rlimits(struct receipt *receipt)
{
	const struct wire_facts *f = &receipt->facts;
	uint32_t pids = receipt->lease.limits[0].pids;
	int32_t oom = (int32_t)f->oom_score_adj;

	/* A negative one would make the host kill everything else first. */
	receipt_row(receipt, FIELD_OOM, good_if(oom >= 0 && oom <= 1000), "0 or more", "%d", oom);
	check_at_most(receipt, FIELD_RLIMIT_NOFILE, f->rlimit_nofile, NOFILE_MIN, NOFILE_MAX);
	check_at_most(receipt, FIELD_RLIMIT_CORE, f->rlimit_core, 0, 0);
	check_at_most(receipt, FIELD_RLIMIT_MEMLOCK, f->rlimit_memlock, 0, MEMLOCK_MAX);
	check_at_most(receipt, FIELD_RLIMIT_NPROC, f->rlimit_nproc, 1, pids > 0 && pids < NPROC_MAX ? pids : NPROC_MAX);
}

/* ---- what the host's /proc shows --------------------------------------------------------------------------------- */

static void hidden(struct receipt *receipt, enum receipt_field from, enum receipt_field to)
{
	for (unsigned field = from; field <= to; field++)
		receipt_row(receipt, field, RECEIPT_ABSENT, "", "/proc does not show this process to you (hidepid?)");
}

static void check_maps(struct receipt *receipt, enum receipt_field field, const struct receipt_view *view)
{
	const struct wire_lease *lease = &receipt->lease;
	char uid[64], gid[64], expected[TEXT], kvm[64] = "";
	struct stat st;

	if (direct_mode(receipt)) {
		receipt_row(receipt, field,
			    good_if(strcmp(view->uid_map, HOST_MAP) == 0 && strcmp(view->gid_map, HOST_MAP) == 0),
			    "the host's: uid " HOST_MAP "; gid " HOST_MAP, "uid %.60s; gid %.60s", view->uid_map,
			    view->gid_map);
		return;
	}
	if (lease->grants[WIRE_GRANT_KVM] == WIRE_BY_BY_GROUP && stat("/dev/kvm", &st) == 0)
		(void)snprintf(kvm, sizeof(kvm), ", %u %u 1", st.st_gid, st.st_gid);
	(void)snprintf(uid, sizeof(uid), "%u %u 1", lease->uid, lease->uid);
	(void)snprintf(gid, sizeof(gid), "%u %u 1%.32s", lease->gid, lease->gid, kvm);
	(void)snprintf(expected, sizeof(expected), "uid %s; gid %s", uid, gid);
	receipt_row(receipt, field, good_if(strcmp(view->uid_map, uid) == 0 && strcmp(view->gid_map, gid) == 0), expected,
		    "uid %.60s; gid %.60s", view->uid_map, view->gid_map);
}

static void check_cgroup(struct receipt *receipt, enum receipt_field field, const struct receipt_view *view)
{
	const char *wanted = receipt->lease.cgroup;

	if (wanted[0] == '\0')
		receipt_row(receipt, field, RECEIPT_ABSENT, "none", "%s", view->cgroup[0] != '\0' ? view->cgroup : "none");
	else
		receipt_row(receipt, field, good_if(strcmp(view->cgroup, wanted) == 0), wanted, "%s", view->cgroup);
}

/* limited false: the lease sets none. Memory may be rounded down to whole pages by the kernel. */
static void check_limit(struct receipt *receipt, enum receipt_field field, uint64_t found, bool limited, uint64_t wanted)
{
	unsigned outcome = receipt->lease.grants[WIRE_GRANT_CGROUP];
	char expected[TEXT];

	(void)snprintf(expected, sizeof(expected), limited ? "%llu" : "no limit asked for", (unsigned long long)wanted);
	if (outcome != WIRE_BY_BY_CGROUP2 && outcome != WIRE_BY_BY_CGROUP1 && outcome != WIRE_BY_PARTIAL)
		receipt_row(receipt, field, RECEIPT_ABSENT, expected, "no cgroup controller: %s",
			    wire_outcome_text(outcome));
	else if (found == RECEIPT_UNKNOWN)
		receipt_row(receipt, field, limited ? RECEIPT_ABSENT : RECEIPT_INFO, expected,
			    "not set: this host has no controller for it, or hides its file from you");
	else if (found == RECEIPT_UNLIMITED)
		receipt_row(receipt, field, limited ? RECEIPT_WRONG : RECEIPT_INFO, expected, "unlimited");
	else
		receipt_row(receipt, field, limited ? good_if(found == wanted) : RECEIPT_INFO, expected, "%llu",
			    (unsigned long long)found);
}

static void check_limits(struct receipt *receipt, const struct receipt_view *vmm)
{
	const struct wire_limits *limits = &receipt->lease.limits[0];
	/* No swap at all is what 0 means there; version 1 has it only together with memory. */
	bool swap = limits->swap_mib > 0 || limits->memory_mib > 0;

	check_limit(receipt, FIELD_OUT_VMM_MEMORY, vmm->memory_max, limits->memory_mib > 0,
		    (uint64_t)limits->memory_mib << 20);
	check_limit(receipt, FIELD_OUT_VMM_PIDS, vmm->pids_max, limits->pids > 0, limits->pids);
	check_limit(receipt, FIELD_OUT_VMM_SWAP, vmm->swap_max, swap, (uint64_t)limits->swap_mib << 20);
	check_limit(receipt, FIELD_OUT_VMM_CPU, vmm->cpu_max, limits->cpu_percent > 0, limits->cpu_percent);
	check_limit(receipt, FIELD_OUT_VMM_IO, vmm->io_weight, limits->io_weight > 0, limits->io_weight);
}

/* /proc shows init, which has the same ids, and below it no VMM: that is not hiding, somebody lies. */
static void missing(struct receipt *receipt)
{
	for (unsigned field = FIELD_OUT_VMM_UIDS; field <= FIELD_OUT_VMM_IO; field++)
		receipt_row(receipt, field, RECEIPT_WRONG, "a process below init", "/proc shows init, and no VMM below it");
}

static void check_outside(struct receipt *receipt)
{
	const struct receipt_view *vmm = &receipt->vmm, *init = &receipt->init;

	if (vmm->seen) {
		check_ids(receipt, FIELD_OUT_VMM_UIDS, &vmm->ids);
		receipt_row(receipt, FIELD_OUT_VMM_TASKS,
			    good_if(vmm->threads >= 1 && vmm->threads == vmm->threads_filtered), "all filtered",
			    "%u of %u filtered", vmm->threads_filtered, vmm->threads);
		check_maps(receipt, FIELD_OUT_VMM_MAPS, vmm);
		check_cgroup(receipt, FIELD_OUT_VMM_CGROUP, vmm);
		check_limits(receipt, vmm);
	} else if (init->seen) {
		missing(receipt);
	} else {
		hidden(receipt, FIELD_OUT_VMM_UIDS, FIELD_OUT_VMM_IO);
	}
	if (init->seen) {
		check_ids(receipt, FIELD_OUT_INIT_UIDS, &init->ids);
		check_maps(receipt, FIELD_OUT_INIT_MAPS, init);
		check_cgroup(receipt, FIELD_OUT_INIT_CGROUP, init);
		check_run_label(receipt);
	} else {
		hidden(receipt, FIELD_OUT_INIT_UIDS, FIELD_OUT_INIT_RUN_LABEL);
	}
}

static void check_grants(struct receipt *receipt)
{
	for (unsigned i = 0; i < WIRE_GRANT_COUNT; i++) {
		unsigned outcome = receipt->lease.grants[i];
		enum receipt_mark mark = outcome == WIRE_BY_NOT_ASKED                              ? RECEIPT_INFO
					 : outcome == WIRE_BY_PARTIAL || !wire_outcome_ok(outcome) ? RECEIPT_ABSENT
												   : RECEIPT_OK;

		receipt_row(receipt, FIELD_GRANT_KVM + i, mark, "", "%s", wire_outcome_text(outcome));
	}
	receipt_row(receipt, FIELD_ACCEL, RECEIPT_INFO, "", "%s", receipt->accel);
}
_Static_assert(FIELD_GRANT_PORT_FILTER - FIELD_GRANT_KVM + 1 == WIRE_GRANT_COUNT, "one row for each grant");

void receipt_check(struct receipt *receipt, const struct plan *plan, pid_t self)
{
	receipt->row_count = 0;
	receipt->good = true;
	(void)memset(receipt->rows, 0, sizeof(receipt->rows));
	check_ids(receipt, FIELD_VMM_UIDS, &receipt->facts.vmm_ids[0]);
	check_program(receipt, plan);
	check_label(receipt);
	check_namespaces(receipt, self);
	check_places(receipt, self);
	receipt_check_fds(receipt, plan);
	check_landlock(receipt);
	check_rlimits(receipt);
	check_ids(receipt, FIELD_INIT_UIDS, &receipt->facts.init_ids[0]);
	check_outside(receipt);
	check_grants(receipt);
}

const char *receipt_first_wrong(const struct receipt *receipt)
{
	for (size_t i = 0; i < receipt->row_count; i++)
		if (receipt->rows[i].mark == RECEIPT_WRONG)
			return receipt->rows[i].field;
	return receipt->good ? NULL : "receipt";
}
