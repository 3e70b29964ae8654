/* SPDX-License-Identifier: Apache-2.0
 * Runs: test (whoever builds). A policy, a caller, a host and a request that is granted: where tests of policy_decide()
 * begin. */
#pragma once

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "common/cleanup.h"
#include "policy/policy.h"

#define ALICE 1000u
#define GROUP_VM 500u

/* Everything a row may change. Starts as: alice may start "qemu" on "lan" with everything, on a host that has it all. */
struct world {
	struct policy policy;
	struct policy_caller caller;
	struct policy_usage user, all;
	struct policy_host host;
	struct wire_acquire ask;
	gid_t groups[4];
};

static inline void name(char (*field)[32], const char *text)
{
	assert_int_equal(wire_set_chars(*field, sizeof(*field), text), 0);
}

static inline void make(struct world *w)
{
	struct policy *p = &w->policy;
	struct policy_rule *r = &p->rules[0];

	memset(w, 0, sizeof(*w));
	name(&p->hypervisors[0].name, "qemu");
	name(&p->hypervisors[1].name, "mock");
	p->hypervisor_count = 2;
	name(&p->networks[0].name, "lan");
	p->networks[0] =
		(struct policy_network){ .name = "lan", .uplink = true, .isolated = true, .vhost = true, .max_queues = 4 };
	p->networks[1] = (struct policy_network){ .name = "pinned", .pin_ip = true, .max_queues = 8 };
	p->networks[2] = (struct policy_network){ .name = "secret", .max_queues = 1 };
	p->network_count = 3;
	r->users[0] = ALICE;
	r->user_count = 1;
	r->groups[0] = GROUP_VM;
	r->group_count = 1;
	r->hypervisors = 1;
	r->networks = 3;
	r->kvm = r->vsock = r->survive = r->shared_netns = true;
	name(&r->labels[0], "special");
	r->label_count = 1;
	p->rule_count = 1;
	w->caller = (struct policy_caller){ .uid = ALICE, .gid = ALICE, .groups = w->groups, .group_count = 0 };
	for (size_t i = 0; i < WIRE_GRANT_COUNT; i++)
		w->host.outcomes[i] = WIRE_BY_GRANTED;
	w->host.outcomes[WIRE_GRANT_CGROUP] = WIRE_BY_BY_CGROUP2;
	w->host.kvm_strategies = 7;
	w->ask = (struct wire_acquire){ .hypervisor = "qemu", .vcpus = 2, .memory_mib = 512, .nic_count = 1 };
	w->ask.nics[0] = (struct wire_nic_ask){ .network = "lan", .queues = 2 };
}

static inline void decide(const struct world *w, struct policy_verdict *v)
{
	memset(v, 0xff, sizeof(*v)); /* whatever is not set would show */
	policy_decide(&w->policy, &w->caller, &w->user, &w->all, &w->host, &w->ask, v);
}
