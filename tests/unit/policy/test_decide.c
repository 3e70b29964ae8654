/* SPDX-License-Identifier: Apache-2.0
 * Runs: test (whoever builds). policy_decide() by table: each row changes one thing about a request that is granted, and
 * says what must come out. */
#include "world.h"

/* ---- rows ------------------------------------------------------------------------------------------------------- */

static void same(struct world *w)
{
	(void)w;
}
static void nobody(struct world *w)
{
	w->caller.uid = 1001;
}
static void invalid_uid(struct world *w)
{
	w->policy.rules[0].users[0] = POLICY_ANY_USER;
	w->caller.uid = (uid_t)-1;
}
static void anybody(struct world *w)
{
	w->policy.rules[0].users[0] = POLICY_ANY_USER;
	w->caller.uid = 4711;
}
static void root_is_a_caller(struct world *w)
{
	w->caller.uid = 0;
}
static void by_gid(struct world *w)
{
	w->caller.uid = 1001;
	w->caller.gid = GROUP_VM;
}
static void by_group(struct world *w)
{
	w->caller.uid = 1001;
	w->groups[0] = 7;
	w->groups[1] = GROUP_VM;
	w->caller.group_count = 2;
}
static void no_rules(struct world *w)
{
	w->policy.rule_count = 0;
}
static void unknown_hypervisor(struct world *w)
{
	name(&w->ask.hypervisor, "xen");
}
static void other_hypervisor(struct world *w)
{
	name(&w->ask.hypervisor, "mock");
}
static void no_hypervisor(struct world *w)
{
	memset(w->ask.hypervisor, 0, sizeof(w->ask.hypervisor));
}
static void first_rule_decides(struct world *w)
{
	/* the second rule would allow it; the first names the caller and does not */
	w->policy.rules[1] = w->policy.rules[0];
	w->policy.rules[1].hypervisors = 3;
	w->policy.rule_count = 2;
	name(&w->ask.hypervisor, "mock");
}
static void unknown_network(struct world *w)
{
	name(&w->ask.nics[0].network, "wan");
}
static void other_network(struct world *w)
{
	name(&w->ask.nics[0].network, "secret");
}
static void too_many_queues(struct world *w)
{
	w->ask.nics[0].queues = 5;
}
static void too_many_taps(struct world *w)
{
	w->ask.nic_count = 5;
	for (size_t i = 0; i < 5; i++)
		w->ask.nics[i] = (struct wire_nic_ask){ .network = "pinned", .queues = 8 };
}
static void too_many_nics(struct world *w)
{
	w->ask.nic_count = 255;
}
static void no_tap(struct world *w)
{
	w->host.outcomes[WIRE_GRANT_TAP] = WIRE_BY_NO_NODE;
}
static void no_tap_no_nic(struct world *w)
{
	no_tap(w);
	w->ask.nic_count = 0;
}
static void unknown_flag(struct world *w)
{
	w->ask.flags = 0x80000000u;
}
static void survive(struct world *w)
{
	w->ask.flags = WIRE_SURVIVE;
	w->policy.rules[0].survive = false;
}
static void shared_netns(struct world *w)
{
	w->ask.flags = WIRE_NETNS_SHARED;
	w->policy.rules[0].shared_netns = false;
}
static void kvm_denied(struct world *w)
{
	w->ask.flags = WIRE_KVM_REQUIRE;
	w->policy.rules[0].kvm = false;
}
static void kvm_not_granted(struct world *w)
{
	w->ask.flags = WIRE_KVM_WANT;
	w->policy.rules[0].kvm = false;
}
static void kvm_missing(struct world *w)
{
	w->ask.flags = WIRE_KVM_REQUIRE;
	w->host.outcomes[WIRE_GRANT_KVM] = WIRE_BY_NO_NODE;
}
static void kvm_missing_wanted(struct world *w)
{
	w->ask.flags = WIRE_KVM_WANT;
	w->host.outcomes[WIRE_GRANT_KVM] = WIRE_BY_NO_NODE;
}
static void kvm_missing_policy(struct world *w)
{
	kvm_missing_wanted(w);
	w->policy.required = 1u << WIRE_GRANT_KVM;
}
static void kvm_forced_fd_not_taken(struct world *w)
{
	w->ask.flags = WIRE_KVM_REQUIRE;
	w->policy.kvm = POLICY_KVM_FD;
}
static void kvm_no_strategy(struct world *w)
{
	w->ask.flags = WIRE_KVM_REQUIRE;
	w->host.kvm_strategies = 1; /* by descriptor only, and this VMM takes none */
}
static void vhost_denied(struct world *w)
{
	w->ask.nics[0].flags = WIRE_NIC_VHOST_REQUIRE;
	w->policy.networks[0].vhost = false;
}
static void vhost_missing(struct world *w)
{
	w->ask.nics[0].flags = WIRE_NIC_VHOST_REQUIRE;
	w->host.outcomes[WIRE_GRANT_VHOST_NET] = WIRE_BY_NO_NODE;
}
static void vhost_missing_policy(struct world *w)
{
	w->ask.nics[0].flags = WIRE_NIC_VHOST_WANT;
	w->host.outcomes[WIRE_GRANT_VHOST_NET] = WIRE_BY_NO_NODE;
	w->policy.required = 1u << WIRE_GRANT_VHOST_NET;
}
static void vsock_denied(struct world *w)
{
	w->ask.flags = WIRE_VSOCK_REQUIRE;
	w->policy.rules[0].vsock = false;
}
static void vsock_missing(struct world *w)
{
	w->ask.flags = WIRE_VSOCK_REQUIRE;
	w->host.outcomes[WIRE_GRANT_VHOST_VSOCK] = WIRE_BY_NO_ACCESS;
}
static void vsock_missing_policy(struct world *w)
{
	w->ask.flags = WIRE_VSOCK_WANT;
	w->host.outcomes[WIRE_GRANT_VHOST_VSOCK] = WIRE_BY_NO_ACCESS;
	w->policy.required = 1u << WIRE_GRANT_VHOST_VSOCK;
}
static void label_special(struct world *w)
{
	name(&w->ask.label_type, "special");
}
static void label_denied(struct world *w)
{
	name(&w->ask.label_type, "unconfined");
}
static void label_missing(struct world *w)
{
	w->ask.flags = WIRE_LABEL_REQUIRE;
	w->host.outcomes[WIRE_GRANT_LABEL] = WIRE_BY_NO_KERNEL;
}
static void label_missing_policy(struct world *w)
{
	w->policy.required = 1u << WIRE_GRANT_LABEL;
	w->host.outcomes[WIRE_GRANT_LABEL] = WIRE_BY_NO_KERNEL;
}
static void label_missing_accepted(struct world *w)
{
	w->host.outcomes[WIRE_GRANT_LABEL] = WIRE_BY_NO_KERNEL;
}
static void cgroup_rlimit_only(struct world *w)
{
	w->ask.flags = WIRE_CGROUP_REQUIRE;
	w->host.outcomes[WIRE_GRANT_CGROUP] = WIRE_BY_BY_RLIMIT;
}
static void cgroup_missing_policy(struct world *w)
{
	w->policy.required = 1u << WIRE_GRANT_CGROUP;
	w->host.outcomes[WIRE_GRANT_CGROUP] = WIRE_BY_FAILED;
}
static void landlock_missing(struct world *w)
{
	w->policy.required = 1u << WIRE_GRANT_LANDLOCK;
	w->host.outcomes[WIRE_GRANT_LANDLOCK] = WIRE_BY_NO_KERNEL;
}
static void landlock_old(struct world *w)
{
	w->policy.required = 1u << WIRE_GRANT_LANDLOCK;
	w->host.outcomes[WIRE_GRANT_LANDLOCK] = WIRE_BY_PARTIAL;
}
static void filter_missing_pinned(struct world *w)
{
	name(&w->ask.nics[0].network, "pinned");
	w->host.outcomes[WIRE_GRANT_PORT_FILTER] = WIRE_BY_NO_KERNEL;
}
static void filter_partial_pinned(struct world *w)
{
	name(&w->ask.nics[0].network, "pinned");
	w->host.outcomes[WIRE_GRANT_PORT_FILTER] = WIRE_BY_PARTIAL;
}
static void filter_missing_policy(struct world *w)
{
	w->policy.required = 1u << WIRE_GRANT_PORT_FILTER;
	w->host.outcomes[WIRE_GRANT_PORT_FILTER] = WIRE_BY_NO_KERNEL;
}
static void quota_user(struct world *w)
{
	w->policy.rules[0].quota.sandboxes = 3;
	w->user.sandboxes = 3;
}
static void quota_user_left(struct world *w)
{
	w->policy.rules[0].quota.sandboxes = 3;
	w->user.sandboxes = 2;
}
static void quota_user_beyond(struct world *w)
{
	w->policy.rules[0].quota.sandboxes = 3; /* lowered while more were running */
	w->user.sandboxes = 9;
}
static void quota_all(struct world *w)
{
	w->policy.quota.sandboxes = 3;
	w->all.sandboxes = 3;
}
static void quota_taps_user(struct world *w)
{
	w->policy.rules[0].quota.taps = 5;
	w->user.taps = 4; /* two queues are asked for */
}
static void quota_taps_all(struct world *w)
{
	w->policy.quota.taps = 1;
}
static void quota_vcpus_user(struct world *w)
{
	w->policy.rules[0].quota.vcpus = 1;
}
static void quota_vcpus_all(struct world *w)
{
	w->policy.quota.vcpus = 1;
}
static void quota_memory_user(struct world *w)
{
	w->policy.rules[0].quota.memory_mib = 511;
}
static void quota_memory_all(struct world *w)
{
	w->policy.quota.memory_mib = 1000;
	w->all.memory_mib = 489;
}
static void quota_memory_exact(struct world *w)
{
	w->policy.quota.memory_mib = 1000;
	w->all.memory_mib = 488;
}
static void quota_overflow(struct world *w)
{
	w->policy.quota.memory_mib = UINT64_MAX;
	w->all.memory_mib = UINT64_MAX - 1; /* used + asked wraps to a small number */
}
static void quota_overflow_vcpus(struct world *w)
{
	w->policy.rules[0].quota.vcpus = UINT32_MAX;
	w->user.vcpus = UINT32_MAX;
}
static void quota_rate(struct world *w)
{
	w->policy.rules[0].quota.starts_per_minute = 10;
	w->user.starts_last_minute = 10;
}
static void quota_rate_all(struct world *w)
{
	w->policy.quota.starts_per_minute = 10;
	w->all.starts_last_minute = 10;
}
static void limit_memory(struct world *w)
{
	w->policy.limits.memory_mib = 100;
	w->ask.limits[0].memory_mib = 613; /* 512 + 100 is the most */
}
static void limit_pids(struct world *w)
{
	w->policy.limits.pids = 100;
	w->ask.limits[0].pids = 101;
}
static void limit_swap(struct world *w)
{
	w->policy.limits.swap_mib = 1;
	w->ask.limits[0].swap_mib = 2;
}
static void limit_swap_none(struct world *w)
{
	w->policy.limits.swap_mib = 0;
	w->ask.limits[0].swap_mib = 1;
}
static void limit_swap_all(struct world *w)
{
	w->policy.limits.swap_mib = 1;
	w->ask.limits[0].swap_mib = 1;
}
static void limit_cpu(struct world *w)
{
	w->policy.limits.cpu_percent = 100;
	w->ask.limits[0].cpu_percent = 101;
}
static void limit_io(struct world *w)
{
	w->policy.limits.io_weight = 100;
	w->ask.limits[0].io_weight = 101;
}

static const struct row {
	const char *what;
	void (*change)(struct world *);
	enum wire_error_code code;
	const char *object;
	uint64_t number;
} rows[] = {
#define ROW(change, code, object, number) \
	{ \
#change, change, WIRE_ERR_##code, object, number \
	}
	ROW(same, OK, "", 0),
	ROW(nobody, NOT_ALLOWED, "", 1001),
	ROW(invalid_uid, NOT_ALLOWED, "", 0xffffffffu),
	ROW(anybody, OK, "", 0),
	ROW(root_is_a_caller, NOT_ALLOWED, "", 0),
	ROW(by_gid, OK, "", 0),
	ROW(by_group, OK, "", 0),
	ROW(no_rules, NOT_ALLOWED, "", ALICE),
	ROW(unknown_hypervisor, HYPERVISOR_UNKNOWN, "xen", 0),
	ROW(other_hypervisor, HYPERVISOR_DENIED, "mock", 0),
	ROW(no_hypervisor, HYPERVISOR_UNKNOWN, "", 0),
	ROW(first_rule_decides, HYPERVISOR_DENIED, "mock", 0),
	ROW(unknown_network, NETWORK_UNKNOWN, "wan", 0),
	ROW(other_network, NETWORK_DENIED, "secret", 0),
	ROW(too_many_queues, TAPS_TOO_MANY, "lan", 4),
	ROW(too_many_taps, TAPS_TOO_MANY, "pinned", WIRE_TAP_FDS_MAX),
	ROW(too_many_nics, TAPS_TOO_MANY, "", WIRE_NICS_MAX),
	ROW(no_tap, TAP_MISSING, "tap", WIRE_BY_NO_NODE),
	ROW(no_tap_no_nic, OK, "", 0),
	ROW(unknown_flag, OPTION_DENIED, "flags", 0x80000000u),
	ROW(survive, OPTION_DENIED, "survive", 0),
	ROW(shared_netns, OPTION_DENIED, "shared-netns", 0),
	ROW(kvm_denied, KVM_DENIED, "kvm", 0),
	ROW(kvm_not_granted, OK, "", 0),
	ROW(kvm_missing, KVM_MISSING, "kvm", WIRE_BY_NO_NODE),
	ROW(kvm_missing_wanted, OK, "", 0),
	ROW(kvm_missing_policy, KVM_MISSING, "kvm", WIRE_BY_NO_NODE),
	ROW(kvm_forced_fd_not_taken, KVM_MISSING, "kvm", WIRE_BY_NO_POLICY),
	ROW(kvm_no_strategy, KVM_MISSING, "kvm", WIRE_BY_NO_ACCESS),
	ROW(vhost_denied, VHOST_DENIED, "lan", 0),
	ROW(vhost_missing, VHOST_MISSING, "lan", WIRE_BY_NO_NODE),
	ROW(vhost_missing_policy, VHOST_MISSING, "lan", WIRE_BY_NO_NODE),
	ROW(vsock_denied, VSOCK_DENIED, "vhost-vsock", 0),
	ROW(vsock_missing, VSOCK_MISSING, "vhost-vsock", WIRE_BY_NO_ACCESS),
	ROW(vsock_missing_policy, VSOCK_MISSING, "vhost-vsock", WIRE_BY_NO_ACCESS),
	ROW(label_special, OK, "", 0),
	ROW(label_denied, LABEL_DENIED, "unconfined", 0),
	ROW(label_missing, LABEL_MISSING, "", WIRE_BY_NO_KERNEL),
	ROW(label_missing_policy, LABEL_MISSING, "", WIRE_BY_NO_KERNEL),
	ROW(label_missing_accepted, OK, "", 0),
	ROW(cgroup_rlimit_only, CGROUP_MISSING, "cgroup", WIRE_BY_BY_RLIMIT),
	ROW(cgroup_missing_policy, CGROUP_MISSING, "cgroup", WIRE_BY_FAILED),
	ROW(landlock_missing, LANDLOCK_MISSING, "landlock", WIRE_BY_NO_KERNEL),
	ROW(landlock_old, OK, "", 0),
	ROW(filter_missing_pinned, FILTER_MISSING, "pinned", WIRE_BY_NO_KERNEL),
	ROW(filter_partial_pinned, FILTER_MISSING, "pinned", WIRE_BY_PARTIAL),
	ROW(filter_missing_policy, FILTER_MISSING, "port-filter", WIRE_BY_NO_KERNEL),
	ROW(quota_user, QUOTA_SANDBOXES_USER, "user", 3),
	ROW(quota_user_left, OK, "", 0),
	ROW(quota_user_beyond, QUOTA_SANDBOXES_USER, "user", 3),
	ROW(quota_all, QUOTA_SANDBOXES_ALL, "all", 3),
	ROW(quota_taps_user, QUOTA_TAPS_USER, "user", 5),
	ROW(quota_taps_all, QUOTA_TAPS_ALL, "all", 1),
	ROW(quota_vcpus_user, QUOTA_VCPUS_USER, "user", 1),
	ROW(quota_vcpus_all, QUOTA_VCPUS_ALL, "all", 1),
	ROW(quota_memory_user, QUOTA_MEMORY_USER, "user", 511),
	ROW(quota_memory_all, QUOTA_MEMORY_ALL, "all", 1000),
	ROW(quota_memory_exact, OK, "", 0),
	ROW(quota_overflow, QUOTA_MEMORY_ALL, "all", UINT64_MAX),
	ROW(quota_overflow_vcpus, QUOTA_VCPUS_USER, "user", UINT32_MAX),
	ROW(quota_rate, QUOTA_RATE, "user", 10),
	ROW(quota_rate_all, QUOTA_RATE, "all", 10),
	ROW(limit_memory, OPTION_DENIED, "memory", 612),
	ROW(limit_pids, OPTION_DENIED, "pids", 100),
	ROW(limit_swap, OPTION_DENIED, "swap", 1),
	ROW(limit_swap_none, OPTION_DENIED, "swap", 0),
	ROW(limit_swap_all, OK, "", 0),
	ROW(limit_cpu, OPTION_DENIED, "cpu", 100),
	ROW(limit_io, OPTION_DENIED, "io-weight", 100),
};

static void test_table(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		struct policy_verdict v;
		struct world w;

		make(&w);
		rows[i].change(&w);
		decide(&w, &v);
		if (v.code != rows[i].code || strcmp(v.object, rows[i].object) != 0 || v.number != rows[i].number)
			fail_msg("%s: %s \"%s\" %llu, expected %s \"%s\" %llu", rows[i].what, wire_error_name(v.code),
				 v.object, (unsigned long long)v.number, wire_error_name(rows[i].code), rows[i].object,
				 (unsigned long long)rows[i].number);
	}
}

/* Every error that can be decided without knowing more than this module knows has a row. */
static void test_every_error_has_a_row(void **state)
{
	/* made elsewhere: by the session, the id and label pools, the spawner's link */
	static const enum wire_error_code others[] = {
		WIRE_ERR_VERSION,
		WIRE_ERR_IDS_EXHAUSTED,
		WIRE_ERR_CIDS_EXHAUSTED,
		WIRE_ERR_LABELS_EXHAUSTED,
		WIRE_ERR_UUID_IN_USE,
		WIRE_ERR_NOT_FOUND,
		WIRE_ERR_SPAWNER_DOWN,
		WIRE_ERR_STARTING,
		WIRE_ERR_STOPPING,
		WIRE_ERR_TIMEOUT,
		WIRE_ERR_STEP_FAILED,
		WIRE_ERR_INTERNAL,
		WIRE_ERR_ADDRESSES_EXHAUSTED,
		WIRE_ERR_NOT_SURVIVING,
	};
	(void)state;
	for (unsigned code = 0; strcmp(wire_error_name(code), "?") != 0; code++) {
		bool found = false;

		for (size_t i = 0; i < ARRAY_SIZE(others); i++)
			found = found || others[i] == code;
		for (size_t i = 0; i < ARRAY_SIZE(rows); i++)
			found = found || rows[i].code == code;
		if (!found)
			fail_msg("%s is never reached", wire_error_name(code));
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(test_table), cmocka_unit_test(test_every_error_has_a_row) };

	return cmocka_run_group_tests(tests, NULL, NULL);
}
