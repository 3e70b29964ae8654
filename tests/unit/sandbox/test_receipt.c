/* SPDX-License-Identifier: Apache-2.0
 * Runs: tests. A receipt says "wrong" when any single thing in it is wrong, and names that thing. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <jansson.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "launcher/sandbox/receipt.h"
#include "launcher/sandbox/receipt_fields.h"
#include "receipt_fixture.h"

/* One field of one struct set to one value, and the row that has to notice. */
struct flip {
	const char *what;
	size_t offset, size;
	uint64_t value;
	const char *field;
};

#define FLIP(member, to, row) { #member, offsetof(struct receipt, member), sizeof(((struct receipt *)0)->member), (to), (row) }
#define FLIP_IDS(at, p) \
	FLIP(at.uids[0].id, 0, p ".uids"), FLIP(at.uids[1].id, 1000, p ".uids"), FLIP(at.uids[2].id, 0, p ".uids"), \
	FLIP(at.uids[3].id, 0, p ".uids"), FLIP(at.gids[0].id, 0, p ".gids"), FLIP(at.gids[1].id, 107, p ".gids"), \
	FLIP(at.gids[2].id, 0, p ".gids"), FLIP(at.gids[3].id, 0, p ".gids"), FLIP(at.group_count, 1, p ".groups"), \
	FLIP(at.group_count, 99, p ".groups"), FLIP(at.groups[0].id, 5, p ".groups"), FLIP(at.groups[7].id, 5, p ".groups"), \
	FLIP(at.cap_inh, 1, p ".capabilities.inheritable"), FLIP(at.cap_prm, 1, p ".capabilities.permitted"), \
	FLIP(at.cap_eff, 0x200000, p ".capabilities.effective"), FLIP(at.cap_bnd, 0x1ffffffffff, p ".capabilities.bounding"), \
	FLIP(at.cap_amb, 1ull << 63, p ".capabilities.ambient"), FLIP(at.no_new_privs, 0, p ".no_new_privs"), \
	FLIP(at.no_new_privs, 2, p ".no_new_privs"), FLIP(at.seccomp, 0, p ".seccomp"), FLIP(at.seccomp, 1, p ".seccomp"), \
	FLIP(at.seccomp_filters, 2, p ".seccomp_filters")
#define FLIP_NS(i, kind) \
	FLIP(facts.namespaces[i].vmm, 1, "vmm.namespace." kind), FLIP(facts.namespaces[i].init, 1, "vmm.namespace." kind), \
	FLIP(facts.namespaces[i].vmm, 0, "vmm.namespace." kind)
#define FLIP_GIVEN(i) \
	FLIP(facts.given[i].fd, 150, "vmm.descriptors.given"), FLIP(facts.given[i].mode, S_IFDIR | 0700, "vmm.descriptors.given"), \
	FLIP(facts.given[i].access, 3, "vmm.descriptors.given")
#define FLIP_OPEN(i) \
	FLIP(facts.fds[i].fd, 151, "vmm.descriptors"), FLIP(facts.fds[i].mode, S_IFDIR | 0700, "vmm.descriptors"), \
	FLIP(facts.fds[i].dev, 77, "vmm.descriptors"), FLIP(facts.fds[i].ino, 78, "vmm.descriptors"), \
	FLIP(facts.fds[i].rdev, 79, "vmm.descriptors"), FLIP(facts.fds[i].access, 1, "vmm.descriptors")

static const struct flip flips[] = {
	FLIP_IDS(facts.vmm_ids[0], "vmm"), FLIP_IDS(facts.init_ids[0], "init"),
	FLIP_IDS(vmm.ids, "outside.vmm"), FLIP_IDS(init.ids, "outside.init"),
	FLIP(facts.vmm_pid, 1, "vmm.pid"), FLIP(facts.vmm_pid, 3, "vmm.pid"), FLIP(vmm.inner, 5, "vmm.pid"),
	FLIP(facts.tasks, 0, "vmm.tasks"), FLIP(facts.tasks, 2, "vmm.tasks"), FLIP(facts.tasks_filtered, 0, "vmm.tasks"),
	FLIP(facts.exe[0], 0, "vmm.exe"), FLIP(facts.exe[5], 'x', "vmm.exe"),
	FLIP(facts.label[0], 0, "vmm.label"), FLIP(facts.label[40], '1', "vmm.label"), FLIP(lease.label[0], 0, "vmm.label"),
	FLIP_NS(0, "user"), FLIP_NS(1, "pid"), FLIP_NS(2, "mnt"), FLIP_NS(3, "net"), FLIP_NS(4, "ipc"), FLIP_NS(5, "uts"),
	FLIP_NS(6, "cgroup"), FLIP_NS(7, "time"),
	FLIP(facts.root_dev, 1, "vmm.root"), FLIP(facts.root_ino, 1, "vmm.root"), FLIP(facts.init_root_dev, 1, "vmm.root"),
	FLIP(facts.init_root_ino, 1, "vmm.root"), FLIP(facts.cwd_dev, 1, "vmm.cwd"), FLIP(facts.cwd_ino, 1, "vmm.cwd"),
	FLIP_GIVEN(0), FLIP_GIVEN(1), FLIP_GIVEN(3), FLIP_GIVEN(5), FLIP_GIVEN(6), FLIP_GIVEN(7), FLIP_GIVEN(10), FLIP_GIVEN(12),
	FLIP_GIVEN(13), FLIP(facts.given[0].rdev, 1, "vmm.descriptors.given"), FLIP(facts.given[5].rdev, 1, "vmm.descriptors.given"),
	FLIP(facts.given[12].ino, 1, "vmm.descriptors.given"), FLIP(facts.given[12].dev, 1, "vmm.descriptors.given"),
	FLIP(facts.given[12].mode, S_IFREG | 0666, "vmm.descriptors.given"), FLIP(facts.given[13].access, 2, "vmm.descriptors.given"),
	FLIP(facts.given[12].rdev, 1, "vmm.descriptors.given"), FLIP(facts.given[1].ino, 1, "vmm.descriptors"),
	FLIP(facts.given[1].dev, 1, "vmm.descriptors"), FLIP(facts.given[7].ino, 1, "vmm.descriptors"),
	FLIP(facts.given_count, 13, "vmm.descriptors.given"), FLIP(facts.given_count, 0, "vmm.descriptors.given"),
	FLIP(facts.given_count, 15, "vmm.descriptors.given"),
	FLIP_OPEN(0), FLIP_OPEN(1), FLIP_OPEN(4), FLIP_OPEN(5), FLIP_OPEN(8), FLIP_OPEN(12), FLIP_OPEN(13),
	FLIP(facts.fd_count, 13, "vmm.descriptors"), FLIP(facts.fd_count, 15, "vmm.descriptors"),
	FLIP(facts.cgroup[1], 'x', "vmm.cgroup"), FLIP(facts.cgroup[0], 0, "vmm.cgroup"),
	FLIP(facts.landlock_abi, 0, "vmm.landlock"), FLIP(facts.landlock_abi, 1, "vmm.landlock"),
	FLIP(facts.oom_score_adj, (uint32_t)-1000, "vmm.oom_score_adj"), FLIP(facts.oom_score_adj, 1001, "vmm.oom_score_adj"),
	FLIP(facts.rlimit_nofile, UINT64_MAX, "vmm.rlimit.nofile"), FLIP(facts.rlimit_nofile, 0, "vmm.rlimit.nofile"),
	FLIP(facts.rlimit_core, 1, "vmm.rlimit.core"), FLIP(facts.rlimit_memlock, UINT64_MAX, "vmm.rlimit.memlock"),
	FLIP(facts.rlimit_nproc, 65, "vmm.rlimit.nproc"), FLIP(facts.rlimit_nproc, 0, "vmm.rlimit.nproc"),
	FLIP(vmm.threads, 2, "outside.vmm.tasks"), FLIP(vmm.threads_filtered, 0, "outside.vmm.tasks"),
	FLIP(vmm.uid_map[0], '0', "outside.vmm.id_maps"), FLIP(vmm.gid_map[0], '0', "outside.vmm.id_maps"),
	FLIP(init.uid_map[0], 0, "outside.init.id_maps"), FLIP(init.gid_map[20], '7', "outside.init.id_maps"),
	FLIP(vmm.cgroup[1], 0, "outside.vmm.cgroup"), FLIP(init.cgroup[1], 0, "outside.init.cgroup"),
	FLIP(vmm.memory_max, RECEIPT_UNLIMITED, "outside.vmm.memory_max"), FLIP(vmm.memory_max, 1, "outside.vmm.memory_max"),
	FLIP(vmm.pids_max, RECEIPT_UNLIMITED, "outside.vmm.pids_max"), FLIP(vmm.pids_max, 65, "outside.vmm.pids_max"),
	FLIP(vmm.swap_max, RECEIPT_UNLIMITED, "outside.vmm.swap_max"), FLIP(vmm.swap_max, 4096, "outside.vmm.swap_max"),
	FLIP(vmm.cpu_max, RECEIPT_UNLIMITED, "outside.vmm.cpu_max"), FLIP(vmm.cpu_max, 151, "outside.vmm.cpu_max"),
	FLIP(vmm.io_weight, 100, "outside.vmm.io_weight"),
	FLIP(init.run_label[0], 'S', "outside.init.run_label"), FLIP(init.run_label[18], 'v', "outside.init.run_label"),
	FLIP(init.run_label[35], '8', "outside.init.run_label"), FLIP(init.run_label[42], '2', "outside.init.run_label"),
	/* the lease is half of the comparison */
	FLIP(lease.uid, 1000, "vmm.uids"), FLIP(lease.gid, 1000, "vmm.gids"), FLIP(lease.nic_count, 1, "vmm.descriptors.given"),
	FLIP(lease.nics[0].vhost, 0, "vmm.descriptors.given"), FLIP(lease.nics[1].queues, 2, "vmm.descriptors.given"),
	FLIP(lease.grants[WIRE_GRANT_KVM], WIRE_BY_BY_NODE, "vmm.descriptors.given"),
	FLIP(lease.grants[WIRE_GRANT_VHOST_VSOCK], WIRE_BY_NO_NODE, "vmm.descriptors.given"),
};

static void set(struct receipt *receipt, const struct flip *flip)
{
	memcpy((char *)receipt + flip->offset, &flip->value, flip->size); /* little-endian hosts: the low bytes come first */
}

static void good(void **state)
{
	static struct receipt receipt;
	static struct plan plan;

	(void)state;
	fixture_fill(&receipt, &plan);
	receipt_check(&receipt, &plan, getpid());
	if (!receipt.good)
		receipt_print(&receipt, 1, false);
	assert_true(receipt.good);
	assert_null(receipt_first_wrong(&receipt));
	receipt_check(&receipt, NULL, getpid());
	assert_true(receipt.good);
}

static void each_flip_is_named(void **state)
{
	static struct receipt receipt;
	static struct plan plan;

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(flips); i++) {
		const char *wrong;

		fixture_fill(&receipt, &plan);
		set(&receipt, &flips[i]);
		receipt_check(&receipt, &plan, getpid());
		wrong = receipt_first_wrong(&receipt);
		if (receipt.good || wrong == NULL || strcmp(wrong, flips[i].field) != 0)
			fail_msg("%s := %llu: expected %s, found %s", flips[i].what, (unsigned long long)flips[i].value, flips[i].field,
				 wrong != NULL ? wrong : "nothing wrong");
	}
}

/* Every byte of the facts that carries anything, also those the table above forgot. */
static void each_byte_counts(void **state)
{
	static struct receipt receipt;
	static struct plan plan;
	static struct wire_facts before;
	size_t used = offsetof(struct wire_facts, given);

	(void)state;
	fixture_fill(&receipt, &plan);
	before = receipt.facts;
	for (size_t at = 0; at < used; at++) {
		unsigned char *byte = (unsigned char *)&receipt.facts + at;
		bool text = at >= offsetof(struct wire_facts, label) && at < offsetof(struct wire_facts, rlimit_nofile);
		bool padding = true;

		/* Padding is what a byte-wise change followed by a field-wise copy does not see; texts count up to their NUL. */
		receipt.facts = before;
		*byte ^= 0x01;
#define SAME(n) && memcmp(&receipt.facts.n, &before.n, sizeof(before.n)) == 0
		padding = padding SAME(vmm_pid) SAME(init_ids) SAME(vmm_ids) SAME(namespaces) SAME(root_dev) SAME(root_ino)
			SAME(init_root_dev) SAME(init_root_ino) SAME(cwd_dev) SAME(cwd_ino) SAME(tasks) SAME(tasks_filtered)
			SAME(landlock_abi) SAME(label) SAME(cgroup) SAME(exe) SAME(given_count);
		if (padding || (text && ((unsigned char *)&before)[at] == 0))
			continue; /* the others (limits, oom score) are ranges */
		if (at >= offsetof(struct wire_facts, init_ids) && at < offsetof(struct wire_facts, namespaces)) {
			size_t in = (at - offsetof(struct wire_facts, init_ids)) % sizeof(struct wire_fact_ids);

			bool hole = in >= offsetof(struct wire_fact_ids, groups) + sizeof(receipt.init.ids.groups) &&
				    in < offsetof(struct wire_fact_ids, cap_inh);

			if (hole || in > offsetof(struct wire_fact_ids, seccomp))
				continue; /* padding of the part; and a number of filters is a range too */
		}
		receipt_check(&receipt, &plan, getpid());
		if (receipt.good)
			fail_msg("byte %zu of the facts does not count", at);
	}
}

static void own_things_are_wrong(void **state)
{
	static const char *const kinds[] = { "user", "pid", "mnt", "net", "ipc", "uts", "cgroup" };
	static struct receipt receipt;
	static struct plan plan;
	struct stat st;

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(kinds); i++) {
		char path[64], field[64];

		fixture_fill(&receipt, &plan);
		snprintf(path, sizeof(path), "/proc/self/ns/%s", kinds[i]);
		snprintf(field, sizeof(field), "vmm.namespace.%s", kinds[i]);
		assert_int_equal(stat(path, &st), 0);
		receipt.facts.namespaces[i].vmm = receipt.facts.namespaces[i].init = st.st_ino;
		receipt_check(&receipt, &plan, getpid());
		assert_string_equal(receipt_first_wrong(&receipt), field);
	}
	fixture_fill(&receipt, &plan);
	assert_int_equal(stat("/", &st), 0);
	receipt.facts.root_dev = receipt.facts.init_root_dev = receipt.facts.cwd_dev = st.st_dev;
	receipt.facts.root_ino = receipt.facts.init_root_ino = receipt.facts.cwd_ino = st.st_ino;
	receipt_check(&receipt, &plan, getpid());
	assert_string_equal(receipt_first_wrong(&receipt), "vmm.root");
}

static const char *row_found(const struct receipt *receipt, const char *field, enum receipt_mark mark)
{
	for (size_t i = 0; i < receipt->row_count; i++)
		if (strcmp(receipt->rows[i].field, field) == 0) {
			assert_int_equal(receipt->rows[i].mark, mark);
			return receipt->rows[i].found;
		}
	fail_msg("no row %s", field);
	return "";
}

/* A sandbox in the host's user namespace, as the lease of direct mode says. */
static void fill_direct(struct receipt *receipt, struct plan *plan)
{
	struct stat st;

	fixture_fill(receipt, plan);
	assert_int_equal(stat("/proc/self/ns/user", &st), 0);
	receipt->lease.flags |= WIRE_DIRECT;
	receipt->facts.namespaces[0].vmm = receipt->facts.namespaces[0].init = st.st_ino;
	for (struct receipt_view *view = &receipt->vmm; view != NULL; view = view == &receipt->vmm ? &receipt->init : NULL) {
		strcpy(view->uid_map, "0 0 4294967295");
		strcpy(view->gid_map, "0 0 4294967295");
	}
}

/* Direct mode: that one row is missing, and said so; a namespace that is neither one's own nor the host's is wrong, and
 * everything else is as strict as ever. A lease that says one thing and a kernel that says the other: wrong both ways. */
static void direct_mode(void **state)
{
	static struct receipt r;
	static struct plan plan;

	(void)state;
	fill_direct(&r, &plan);
	receipt_check(&r, &plan, getpid());
	assert_null(receipt_first_wrong(&r));
	assert_string_equal(row_found(&r, "vmm.namespace.user", RECEIPT_ABSENT), "the host's: direct mode");
	(void)row_found(&r, "outside.vmm.id_maps", RECEIPT_OK);

	r.facts.namespaces[0].vmm = r.facts.namespaces[0].init = 7700;
	receipt_check(&r, &plan, getpid());
	assert_string_equal(receipt_first_wrong(&r), "vmm.namespace.user");
	fill_direct(&r, &plan);
	r.facts.namespaces[0].init++;
	receipt_check(&r, &plan, getpid());
	assert_string_equal(receipt_first_wrong(&r), "vmm.namespace.user");
	fill_direct(&r, &plan);
	strcpy(r.vmm.uid_map, "1879048197 1879048197 1");
	receipt_check(&r, &plan, getpid());
	assert_string_equal(receipt_first_wrong(&r), "outside.vmm.id_maps");
	fill_direct(&r, &plan);
	strcpy(r.init.gid_map, "0 1000 4294967295");
	receipt_check(&r, &plan, getpid());
	assert_string_equal(receipt_first_wrong(&r), "outside.init.id_maps");
	fill_direct(&r, &plan);
	r.lease.flags = 0;
	receipt_check(&r, &plan, getpid());
	assert_string_equal(receipt_first_wrong(&r), "vmm.namespace.user");
	fixture_fill(&r, &plan);
	r.lease.flags |= WIRE_DIRECT;
	receipt_check(&r, &plan, getpid());
	assert_string_equal(receipt_first_wrong(&r), "vmm.namespace.user");
	for (size_t i = 0; i < ARRAY_SIZE(flips); i++) {
		if (strstr(flips[i].field, "id_maps") != NULL)
			continue; /* above; the flips are of the other map */
		fill_direct(&r, &plan);
		set(&r, &flips[i]);
		receipt_check(&r, &plan, getpid());
		if (receipt_first_wrong(&r) == NULL || strcmp(receipt_first_wrong(&r), flips[i].field) != 0)
			fail_msg("%s is not seen in direct mode", flips[i].what);
	}
}

/* A descriptor that became /dev/null at exec: number and access are right, identity is not (SELinux trap 1). */
static void swapped_descriptor(void **state)
{
	static struct receipt receipt;
	static struct plan plan;

	(void)state;
	fixture_fill(&receipt, &plan);
	receipt.facts.fds[12].mode = S_IFCHR | 0666;
	receipt.facts.fds[12].rdev = makedev(1, 3);
	receipt_check(&receipt, &plan, getpid());
	assert_string_equal(receipt_first_wrong(&receipt), "vmm.descriptors");
}

static void running(void **state)
{
	static struct receipt then, now;
	static struct plan plan;
	static struct receipt_row diff[RECEIPT_ROWS_MAX];

	(void)state;
	fixture_fill(&then, &plan);
	receipt_check(&then, &plan, getpid());
	fixture_fill(&now, &plan);
	now.facts.held = 0;
	now.facts.tasks = now.facts.tasks_filtered = 5;
	now.vmm.threads = now.vmm.threads_filtered = 5;
	now.facts.vmm_ids[0].seccomp_filters = now.vmm.ids.seccomp_filters = 4;
	now.facts.fds[now.facts.fd_count++] = (struct wire_fact_fd){ .fd = 7, .mode = 0600, .ino = 5, .access = 2 };
	now.facts.fds[12] = (struct wire_fact_fd){ .fd = 8, .mode = 0600, .ino = 5, .access = 2 }; /* disk0 closed */
	now.taken_ns++;
	receipt_check(&now, &plan, getpid());
	assert_true(now.good);
	assert_int_equal(receipt_diff(&then, &now, diff, RECEIPT_ROWS_MAX), 0);

	now.facts.fds[14].mode = S_IFDIR | 0700; /* a directory leads out */
	now.facts.tasks_filtered = 4;
	now.facts.oom_score_adj = 500;
	receipt_check(&now, &plan, getpid());
	assert_false(now.good);
	assert_int_equal(receipt_diff(&then, &now, diff, RECEIPT_ROWS_MAX), 3);
	assert_string_equal(diff[0].field, "vmm.tasks");
	assert_string_equal(diff[1].field, "vmm.descriptors");
	assert_string_equal(diff[2].field, "vmm.oom_score_adj");
	assert_string_equal(diff[2].expected, "0");
	assert_string_equal(diff[2].found, "500");
	assert_int_equal(receipt_diff(&then, &now, diff, 1), 1);
}

/* What the host lacks is shown as absent and is no mistake; what /proc hides is never shown as good. */
static void absent(void **state)
{
	static struct receipt r;
	static struct plan plan;
	size_t hidden = 0;

	(void)state;
	fixture_fill(&r, &plan);
	memset(r.lease.label, 0, sizeof(r.lease.label));
	memset(r.facts.label, 0, sizeof(r.facts.label));
	memset(r.lease.cgroup, 0, sizeof(r.lease.cgroup));
	r.lease.grants[WIRE_GRANT_LABEL] = WIRE_BY_NO_KERNEL;
	r.lease.grants[WIRE_GRANT_CGROUP] = WIRE_BY_BY_RLIMIT;
	r.lease.grants[WIRE_GRANT_LANDLOCK] = WIRE_BY_NO_KERNEL;
	r.lease.landlock_abi = r.facts.landlock_abi = 0;
	memset(&r.init, 0, sizeof(r.init));
	memset(&r.vmm, 0, sizeof(r.vmm));
	receipt_check(&r, &plan, getpid());
	assert_true(r.good);
	for (size_t i = 0; i < r.row_count; i++) {
		if (strncmp(r.rows[i].field, "outside.", 8) == 0) {
			assert_int_equal(r.rows[i].mark, RECEIPT_ABSENT);
			hidden++;
		}
	}
	assert_int_equal(hidden, 11 + 8 + 11 + 3);
}

/* A /run without the lease's categories is anybody's with the same uid; a mount table that cannot be read is no proof. */
static void run_label(void **state)
{
	static struct receipt r;
	static struct plan plan;

	(void)state;
	fixture_fill(&r, &plan);
	strcpy(r.init.run_label, "none");
	receipt_check(&r, &plan, getpid());
	assert_string_equal(receipt_first_wrong(&r), "outside.init.run_label");
	strcpy(r.init.run_label, "system_u:object_r:postern_run_t:s0");
	receipt_check(&r, &plan, getpid());
	assert_string_equal(receipt_first_wrong(&r), "outside.init.run_label");
	r.init.run_label[0] = '\0';
	receipt_check(&r, &plan, getpid());
	assert_true(r.good);
	assert_string_equal(row_found(&r, "outside.init.run_label", RECEIPT_ABSENT), "not visible to you");
	strcpy(r.lease.label, "no label");
	strcpy(r.facts.label, "no label");
	strcpy(r.init.run_label, "system_u:object_r:postern_run_t:s0:c17,c901");
	receipt_check(&r, &plan, getpid());
	assert_string_equal(receipt_first_wrong(&r), "outside.init.run_label");
}

/* One that /proc shows without the other is not hidden. */
static void vmm_not_found(void **state)
{
	static struct receipt r;
	static struct plan plan;

	(void)state;
	fixture_fill(&r, &plan);
	memset(&r.vmm, 0, sizeof(r.vmm));
	receipt_check(&r, &plan, getpid());
	assert_false(r.good);
	assert_string_equal(receipt_first_wrong(&r), "outside.vmm.uids");
	for (size_t i = 0; i < r.row_count; i++)
		if (strncmp(r.rows[i].field, "outside.vmm.", 12) == 0)
			assert_int_equal(r.rows[i].mark, RECEIPT_WRONG);
}

static void every_row_once(void **state)
{
	static struct receipt r;
	static struct plan plan;

	(void)state;
	fixture_fill(&r, &plan);
	receipt_check(&r, &plan, getpid());
	for (unsigned field = 0; receipt_field_name(field) != NULL; field++) {
		size_t seen = 0;

		for (size_t i = 0; i < r.row_count; i++)
			seen += strcmp(r.rows[i].field, receipt_field_name(field)) == 0 ? 1 : 0;
		if (seen != 1)
			fail_msg("%s is there %zu times", receipt_field_name(field), seen);
	}
}

static void json_round_trip(void **state)
{
	static struct receipt a, b;
	static struct plan plan;
	json_t *json, *again;

	(void)state;
	fixture_fill(&a, &plan);
	a.facts.rlimit_nofile = UINT64_MAX; /* more than JSON's integers hold, and wrong */
	receipt_check(&a, &plan, getpid());
	json = receipt_to_json(&a);
	assert_int_equal(receipt_from_json(json, &b), 0);
	again = receipt_to_json(&b);
	assert_true(json_equal(json, again));
	assert_int_equal(b.facts.rlimit_nofile, UINT64_MAX);
	assert_int_equal(b.facts.given_count, a.facts.given_count);
	assert_memory_equal(b.facts.given, a.facts.given, sizeof(a.facts.given));
	assert_memory_equal(&b.lease, &a.lease, sizeof(a.lease));
	assert_int_equal(b.row_count, a.row_count);
	assert_ptr_equal(b.rows[3].field, a.rows[3].field);
	assert_false(b.good);
	json_decref(again);
	json_decref(json);
}

/* Take away or spoil each key on every level: never accepted, *ret never touched. */
static void spoil(json_t *root, json_t *node)
{
	static struct receipt out;
	json_t *keys = json_array(), *key;
	const char *name;
	json_t *value;
	size_t i;

	json_object_foreach (node, name, value)
		json_array_append_new(keys, json_string(name)); /* taking away and putting back changes the order */
	json_array_foreach (keys, i, key) {
		name = json_string_value(key);
		value = json_incref(json_object_get(node, name));
		if (json_is_object(value))
			spoil(root, value);
		json_object_del(node, name);
		memset(&out, 0x5a, sizeof(out));
		if (receipt_from_json(root, &out) >= 0)
			fail_msg("accepted without %s", name);
		assert_int_equal(((unsigned char *)&out)[100], 0x5a);
		json_object_set_new(node, name, json_real(1.5));
		assert_true(receipt_from_json(root, &out) < 0);
		json_object_set_new(node, name, json_integer(-1));
		assert_true(receipt_from_json(root, &out) < 0);
		json_object_set_new(node, name, json_string("-1"));
		if (!json_is_string(value))
			assert_true(receipt_from_json(root, &out) < 0);
		json_object_set_new(node, name, value);
	}
	json_decref(keys);
	json_object_set_new(node, "surprise", json_null());
	assert_true(receipt_from_json(root, &out) < 0);
	json_object_del(node, "surprise");
}

static void json_refuses(void **state)
{
	static struct receipt a, out;
	static struct plan plan;
	json_t *json, *rows;

	(void)state;
	fixture_fill(&a, &plan);
	receipt_check(&a, &plan, getpid());
	json = receipt_to_json(&a);
	spoil(json, json);
	assert_int_equal(receipt_from_json(json, &out), 0);
	rows = json_object_get(json, "rows");
	json_object_set_new(json_array_get(rows, 0), "mark", json_string("wrong")); /* and "good" still says true */
	assert_true(receipt_from_json(json, &out) < 0);
	json_object_set_new(json_array_get(rows, 0), "mark", json_string("fine"));
	assert_true(receipt_from_json(json, &out) < 0);
	json_object_set_new(json_array_get(rows, 0), "mark", json_string("ok"));
	json_object_set_new(json_array_get(rows, 0), "field", json_string("vmm.nothing"));
	assert_true(receipt_from_json(json, &out) < 0);
	assert_true(receipt_from_json(NULL, &out) < 0);
	json_decref(json);
}

static void prints(void **state)
{
	static struct receipt a;
	static struct plan plan;
	char text[32768];
	int pipes[2];
	ssize_t n;

	(void)state;
	fixture_fill(&a, &plan);
	a.facts.vmm_ids[0].cap_eff = 0x200000;
	receipt_check(&a, &plan, getpid());
	assert_int_equal(pipe(pipes), 0);
	assert_int_equal(receipt_print(&a, pipes[1], false), 0);
	n = read(pipes[0], text, sizeof(text) - 1);
	assert_true(n > 0);
	text[n] = '\0';
	assert_null(strchr(text, '\033'));
	assert_non_null(strstr(text, "00112233-4455-6677-8899-aabbccddeeff"));
	assert_non_null(strstr(text, "WRONG   vmm.capabilities.effective"));
	assert_non_null(strstr(text, "0x200000  (expected none)"));
	assert_non_null(strstr(text, "the first is vmm.capabilities.effective"));
	assert_non_null(strstr(text, "not available: this kernel does not have it"));
	assert_int_equal(receipt_print(&a, pipes[1], true), 0);
	n = read(pipes[0], text, sizeof(text) - 1);
	text[n > 0 ? n : 0] = '\0';
	assert_non_null(strchr(text, '\033'));
	close(pipes[1]);
	assert_true(receipt_print(&a, pipes[1], false) < 0);
	close(pipes[0]);
}

/* We are no sandbox: everything is seen, nothing is as it should be. */
static void outside_of_ourselves(void **state)
{
	struct wire_lease lease = { .init_pid = (uint32_t)getpid() };
	static struct receipt_view init, vmm;
	pid_t child = fork();

	(void)state;
	if (child == 0) {
		pause();
		_exit(0);
	}
	assert_int_equal(receipt_outside(&lease, &init, &vmm), 0);
	kill(child, 9);
	assert_true(init.seen);
	assert_int_equal(init.pid, getpid());
	assert_int_equal(init.ids.uids[1].id, geteuid());
	assert_int_equal(init.ids.gids[1].id, getegid());
	assert_true(init.threads >= 1);
	assert_string_not_equal(init.uid_map, "");
	assert_true(vmm.seen);
	assert_int_equal(vmm.pid, child);
	lease.init_pid = 0;
	assert_true(receipt_outside(&lease, &init, &vmm) < 0);
	lease.init_pid = 0x7ffffff0; /* nobody */
	assert_int_equal(receipt_outside(&lease, &init, &vmm), 0);
	assert_false(init.seen);
	assert_false(vmm.seen);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(good), cmocka_unit_test(each_flip_is_named), cmocka_unit_test(each_byte_counts),
		cmocka_unit_test(own_things_are_wrong), cmocka_unit_test(direct_mode),
		cmocka_unit_test(swapped_descriptor), cmocka_unit_test(running),
		cmocka_unit_test(run_label),
		cmocka_unit_test(absent), cmocka_unit_test(vmm_not_found), cmocka_unit_test(every_row_once), cmocka_unit_test(json_round_trip),
		cmocka_unit_test(json_refuses), cmocka_unit_test(prints), cmocka_unit_test(outside_of_ourselves),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
