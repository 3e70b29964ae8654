/* SPDX-License-Identifier: Apache-2.0
 * Runs: fuzzer (whoever runs it). Any bytes as a policy: refused with a reason, or a policy whose every field is inside
 * what the rest of the program relies on. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "policy/policy.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct policy policy;

static void demand(bool holds)
{
	if (!holds)
		abort();
}

static void check_policy(void)
{
	demand(policy.broker_uid != 0 && policy.spawn_uid != 0 && policy.broker_uid != policy.spawn_uid);
	demand(policy.broker_gid != 0 && policy.spawn_gid != 0);
	demand(!policy.kvm_gid_set || policy.kvm_gid != 0);
	demand(policy.first_uid >= 65536 && policy.uid_count > 0 &&
	       (uint64_t)policy.first_uid + policy.uid_count <= 0x80000000u);
	demand((policy.socket_mode & ~(mode_t)0666) == 0);
	demand(policy.hypervisor_count <= POLICY_HYPERVISORS_MAX && policy.network_count <= POLICY_NETWORKS_MAX);
	demand(policy.rule_count <= POLICY_RULES_MAX && policy.bind_count <= POLICY_BINDS_MAX);
	for (size_t i = 0; i < policy.hypervisor_count; i++) {
		const struct policy_hypervisor *h = &policy.hypervisors[i];

		demand(wire_name_ok(h->name, sizeof(h->name)) && h->name[0] != '\0' && h->path[0] == '/');
		demand(strstr(h->path, "/../") == NULL && strstr(h->path, "//") == NULL);
		demand(h->profile == PROFILE_QEMU || h->profile == PROFILE_MOCK);
		demand(policy_hypervisor_index(&policy, h->name) == (int)i);
	}
	for (size_t i = 0; i < policy.network_count; i++) {
		const struct policy_network *n = &policy.networks[i];

		demand(wire_name_ok(n->name, sizeof(n->name)) && n->max_queues >= 1 && n->max_queues <= WIRE_QUEUES_MAX);
		demand(n->uplink == (n->gateway != 0) && (!n->uplink || (n->prefix >= 8 && n->prefix <= 30)));
		demand(!n->pin_ip || n->uplink);
	}
	for (size_t i = 0; i < policy.rule_count; i++) {
		const struct policy_rule *r = &policy.rules[i];

		demand(r->user_count <= POLICY_PRINCIPALS_MAX && r->group_count <= POLICY_PRINCIPALS_MAX);
		demand(r->user_count + r->group_count > 0 && r->label_count <= POLICY_LABELS_MAX);
		demand(policy.hypervisor_count == 32 || r->hypervisors >> policy.hypervisor_count == 0);
		demand(policy.network_count == 32 || r->networks >> policy.network_count == 0);
	}
	demand(policy.required >> WIRE_GRANT_COUNT == 0 && policy.kvm <= POLICY_KVM_GROUP);
	demand(policy.sessions_max > 0 && policy.sessions_user_max > 0 && policy.hello_ms > 0 && policy.launch_ms > 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct policy_error error;
	cleanup_fd int fd = memfd_create("policy", MFD_CLOEXEC);
	int r;

	if (fd < 0 || write(fd, data, size) != (ssize_t)size)
		return 0;
	memset(&error, 0xff, sizeof(error));
	r = policy_load(fd, &policy, &error);
	demand(memchr(error.where, '\0', sizeof(error.where)) != NULL &&
	       memchr(error.text, '\0', sizeof(error.text)) != NULL);
	demand(r == 0 || r == -EINVAL);
	if (r == 0)
		check_policy();
	else
		demand(error.text[0] != '\0');
	return 0;
}
