/* SPDX-License-Identifier: Apache-2.0
 * Runs: test (whoever builds). What a verdict says besides yes: strategies, outcomes, descriptors, limits. */
#include "world.h"

static void test_kvm_strategies(void **state)
{
	static const struct {
		enum policy_kvm policy;
		bool fd_ok;
		uint32_t host;
		enum wire_outcome outcome;
	} cases[] = {
		{ POLICY_KVM_AUTO, true, 7, WIRE_BY_BY_FD },     { POLICY_KVM_AUTO, false, 7, WIRE_BY_BY_NODE },
		{ POLICY_KVM_AUTO, true, 6, WIRE_BY_BY_NODE },   { POLICY_KVM_AUTO, true, 4, WIRE_BY_BY_GROUP },
		{ POLICY_KVM_AUTO, true, 0, WIRE_BY_NO_ACCESS }, { POLICY_KVM_FD, true, 7, WIRE_BY_BY_FD },
		{ POLICY_KVM_FD, true, 6, WIRE_BY_NO_ACCESS },   { POLICY_KVM_FD, false, 7, WIRE_BY_NO_POLICY },
		{ POLICY_KVM_NODE, true, 7, WIRE_BY_BY_NODE },   { POLICY_KVM_NODE, true, 5, WIRE_BY_NO_NODE },
		{ POLICY_KVM_GROUP, true, 7, WIRE_BY_BY_GROUP }, { POLICY_KVM_GROUP, true, 3, WIRE_BY_NO_ACCESS },
	};
	struct policy_verdict v;
	struct world w;

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		make(&w);
		w.policy.kvm = cases[i].policy;
		w.host.kvm_strategies = cases[i].host;
		w.ask.flags = WIRE_KVM_WANT | (cases[i].fd_ok ? WIRE_KVM_FD_OK : 0);
		decide(&w, &v);
		assert_int_equal(v.code, WIRE_ERR_OK);
		if (v.outcomes[WIRE_GRANT_KVM] != cases[i].outcome)
			fail_msg("case %zu: %s", i, wire_outcome_text(v.outcomes[WIRE_GRANT_KVM]));
	}
	/* gid 0 is never handed out, whatever start found */
	make(&w);
	w.policy.kvm = POLICY_KVM_GROUP;
	w.policy.kvm_gid_set = true;
	w.ask.flags = WIRE_KVM_WANT;
	decide(&w, &v);
	assert_int_equal(v.outcomes[WIRE_GRANT_KVM], WIRE_BY_NO_ACCESS);
}

static void test_verdict(void **state)
{
	struct policy_verdict v;
	struct world w;

	(void)state;
	make(&w);
	w.policy.limits = (struct wire_limits){ .memory_mib = 100, .swap_mib = 1, .pids = 200, .cpu_percent = 300 };
	w.ask.limits[0].pids = 50;
	w.ask.limits[0].io_weight = 77;
	w.ask.nic_count = 3;
	w.ask.nics[0].flags = WIRE_NIC_VHOST_WANT;
	w.ask.nics[1] = (struct wire_nic_ask){ .network = "pinned", .queues = 0, .flags = WIRE_NIC_VHOST_WANT };
	w.ask.nics[2] = (struct wire_nic_ask){ .network = "lan", .queues = 1 };
	w.ask.flags = WIRE_SURVIVE | WIRE_VSOCK_WANT;
	decide(&w, &v);
	assert_int_equal(v.code, WIRE_ERR_OK);
	assert_int_equal(v.rule, 0);
	assert_int_equal(v.hypervisor, 0);
	assert_int_equal(v.taps, 4);      /* 2 + 1 (0 means 1) + 1 */
	assert_int_equal(v.vhost_fds, 2); /* the network of the second NIC does not have it */
	assert_true(v.nic_vhost[0] && !v.nic_vhost[1] && !v.nic_vhost[2]);
	assert_int_equal(v.network[1], 1);
	assert_int_equal(v.nic_flags[0], WIRE_NIC_ISOLATED | WIRE_NIC_VHOST_WANT);
	assert_int_equal(v.nic_flags[1], WIRE_NIC_PIN_IP);
	assert_int_equal(v.outcomes[WIRE_GRANT_VHOST_NET], WIRE_BY_GRANTED);
	assert_int_equal(v.outcomes[WIRE_GRANT_VHOST_VSOCK], WIRE_BY_GRANTED);
	assert_int_equal(v.outcomes[WIRE_GRANT_KVM], WIRE_BY_NOT_ASKED);
	assert_int_equal(v.outcomes[WIRE_GRANT_CGROUP], WIRE_BY_BY_CGROUP2);
	assert_int_equal(v.limits.memory_mib, 612);
	assert_int_equal(v.limits.pids, 50);
	assert_int_equal(v.limits.cpu_percent, 300);
	assert_int_equal(v.limits.io_weight, 77);
	assert_int_equal(v.flags, w.ask.flags);
}

/* Refusals say why in the outcome too, and what was not asked for is not in the verdict. */
static void test_outcomes(void **state)
{
	struct policy_verdict v;
	struct world w;

	(void)state;
	make(&w);
	w.ask.flags = WIRE_KVM_WANT | WIRE_VSOCK_WANT;
	w.policy.rules[0].kvm = false;
	w.policy.rules[0].vsock = false;
	w.policy.networks[0].vhost = false;
	w.ask.nics[0].flags = WIRE_NIC_VHOST_WANT;
	decide(&w, &v);
	assert_int_equal(v.code, WIRE_ERR_OK);
	assert_int_equal(v.outcomes[WIRE_GRANT_KVM], WIRE_BY_NO_POLICY);
	assert_int_equal(v.outcomes[WIRE_GRANT_VHOST_VSOCK], WIRE_BY_NO_POLICY);
	assert_int_equal(v.outcomes[WIRE_GRANT_VHOST_NET], WIRE_BY_NO_POLICY);
	assert_int_equal(v.vhost_fds, 0);
	w.ask.nic_count = 0;
	decide(&w, &v);
	assert_int_equal(v.outcomes[WIRE_GRANT_TAP], WIRE_BY_NOT_ASKED);
	assert_int_equal(v.outcomes[WIRE_GRANT_PORT_FILTER], WIRE_BY_NOT_ASKED);
	assert_int_equal(v.outcomes[WIRE_GRANT_VHOST_NET], WIRE_BY_NOT_ASKED);
}

/* The largest request next to the largest overhead: clipped to what the wire can say, not wrapped. */
static void test_memory_ceiling(void **state)
{
	struct policy_verdict v;
	struct world w;

	(void)state;
	make(&w);
	w.ask.memory_mib = WIRE_MEMORY_MAX;
	w.policy.limits.memory_mib = WIRE_MEMORY_MAX;
	decide(&w, &v);
	assert_int_equal(v.code, WIRE_ERR_OK);
	assert_int_equal(v.limits.memory_mib, WIRE_MEMORY_MAX);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_kvm_strategies),
		cmocka_unit_test(test_verdict),
		cmocka_unit_test(test_outcomes),
		cmocka_unit_test(test_memory_ceiling),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
