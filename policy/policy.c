/* SPDX-License-Identifier: Apache-2.0
 * Runs: start (root), broker (no privilege). Who may start what, decided: pure, no I/O, no clock, no state.
 *
 * Reads top to bottom as the order of the questions: who asks, what program, which options, which network, which
 * grants, which limits, how much in all. The first "no" ends it. Everything starts refused: a verdict is WIRE_ERR_OK
 * only when the last line of policy_decide() has been reached.
 */
#include "policy.h"

#include <string.h>

#include "common/cleanup.h"

/* One decision in the making, so that the steps need not carry seven arguments each. */
struct question {
	const struct policy *policy;
	const struct policy_rule *rule;
	const struct policy_host *host;
	const struct wire_acquire *ask;
	struct policy_verdict *verdict;
};

/* Always false: a step returns what this returns, and the first refusal is the one the caller hears. */
static bool refuse(struct question *q, enum wire_error_code code, const char *object, uint64_t number)
{
	q->verdict->code = code;
	q->verdict->number = number;
	/* Objects are names of the policy or of the request: they fit by their type. One that does not is left out. */
	if (wire_set_chars(q->verdict->object, sizeof(q->verdict->object), object) < 0)
		q->verdict->object[0] = '\0';
	return false;
}

static bool names_group(const struct policy_rule *rule, const struct policy_caller *caller)
{
	for (size_t i = 0; i < rule->group_count; i++) {
		if (rule->groups[i] == caller->gid)
			return true;
		for (size_t j = 0; j < caller->group_count; j++)
			if (rule->groups[i] == caller->groups[j])
				return true;
	}
	return false;
}

static bool names_user(const struct policy_rule *rule, const struct policy_caller *caller)
{
	for (size_t i = 0; i < rule->user_count; i++)
		if (rule->users[i] == POLICY_ANY_USER || rule->users[i] == caller->uid)
			return true;
	return false;
}

const struct policy_rule *policy_rule_for(const struct policy *policy, const struct policy_caller *caller)
{
	/* (uid_t)-1 is nobody the kernel knows, and the number that stands for "*": it must not pass for either. */
	if (caller->uid == POLICY_ANY_USER)
		return NULL;
	for (size_t i = 0; i < policy->rule_count; i++)
		if (names_user(&policy->rules[i], caller) || names_group(&policy->rules[i], caller))
			return &policy->rules[i];
	return NULL;
}

bool policy_names_uid(const struct policy *policy, uid_t uid)
{
	if (uid == POLICY_ANY_USER)
		return false;
	for (size_t i = 0; i < policy->rule_count; i++)
		for (size_t j = 0; j < policy->rules[i].user_count; j++)
			if (policy->rules[i].users[j] == uid)
				return true;
	return false;
}

int policy_hypervisor_index(const struct policy *policy, const char *name)
{
	for (size_t i = 0; i < policy->hypervisor_count; i++)
		if (strcmp(policy->hypervisors[i].name, name) == 0)
			return (int)i;
	return -1;
}

int policy_network_index(const struct policy *policy, const char *name)
{
	for (size_t i = 0; i < policy->network_count; i++)
		if (strcmp(policy->networks[i].name, name) == 0)
			return (int)i;
	return -1;
}

static bool bit(uint32_t mask, unsigned index)
{
	return index < 32 && (mask >> index & 1) != 0;
}

static bool required(const struct question *q, enum wire_grant grant)
{
	return bit(q->policy->required, grant);
}

static bool check_hypervisor(struct question *q)
{
	int index = policy_hypervisor_index(q->policy, q->ask->hypervisor);

	if (index < 0)
		return refuse(q, WIRE_ERR_HYPERVISOR_UNKNOWN, q->ask->hypervisor, 0);
	if (!bit(q->rule->hypervisors, (unsigned)index))
		return refuse(q, WIRE_ERR_HYPERVISOR_DENIED, q->ask->hypervisor, 0);
	q->verdict->hypervisor = (uint32_t)index;
	return true;
}

static bool check_options(struct question *q)
{
	uint32_t flags = q->ask->flags;

	/* The decoder refused unknown bits already; again here, because an unknown flag granted is one nobody checked. */
	if ((flags & ~WIRE_ACQUIRE_FLAGS) != 0)
		return refuse(q, WIRE_ERR_OPTION_DENIED, "flags", flags);
	if ((flags & WIRE_SURVIVE) != 0 && !q->rule->survive)
		return refuse(q, WIRE_ERR_OPTION_DENIED, "survive", 0);
	if ((flags & WIRE_NETNS_SHARED) != 0 && !q->rule->shared_netns)
		return refuse(q, WIRE_ERR_OPTION_DENIED, "shared-netns", 0);
	q->verdict->flags = flags;
	return true;
}

/* vhost-net for one NIC: true in *ret when it gets it. The grant's outcome is a success if any NIC got it. */
static bool check_vhost(struct question *q, const struct wire_nic_ask *nic, const struct policy_network *network, bool *ret)
{
	bool must = (nic->flags & WIRE_NIC_VHOST_REQUIRE) != 0;
	uint8_t host = q->host->outcomes[WIRE_GRANT_VHOST_NET];
	uint8_t *outcome = &q->verdict->outcomes[WIRE_GRANT_VHOST_NET];

	if ((nic->flags & WIRE_NIC_ASK_FLAGS) == 0)
		return true;
	if (!network->vhost) {
		if (must)
			return refuse(q, WIRE_ERR_VHOST_DENIED, network->name, 0);
		if (*outcome == WIRE_BY_NOT_ASKED)
			*outcome = WIRE_BY_NO_POLICY;
		return true;
	}
	if (!wire_outcome_ok(host)) {
		if (must || required(q, WIRE_GRANT_VHOST_NET))
			return refuse(q, WIRE_ERR_VHOST_MISSING, network->name, host);
		if (!wire_outcome_ok(*outcome))
			*outcome = host;
		return true;
	}
	*outcome = host;
	*ret = true;
	return true;
}

static bool check_nic(struct question *q, size_t i)
{
	const struct wire_nic_ask *nic = &q->ask->nics[i];
	int index = policy_network_index(q->policy, nic->network);
	const struct policy_network *network;
	uint32_t queues = nic->queues != 0 ? nic->queues : 1;
	bool vhost = false;

	if (index < 0)
		return refuse(q, WIRE_ERR_NETWORK_UNKNOWN, nic->network, 0);
	if (!bit(q->rule->networks, (unsigned)index))
		return refuse(q, WIRE_ERR_NETWORK_DENIED, nic->network, 0);
	network = &q->policy->networks[index];
	if (queues > network->max_queues)
		return refuse(q, WIRE_ERR_TAPS_TOO_MANY, nic->network, network->max_queues);
	q->verdict->taps += queues;
	if (q->verdict->taps > WIRE_TAP_FDS_MAX)
		return refuse(q, WIRE_ERR_TAPS_TOO_MANY, nic->network, WIRE_TAP_FDS_MAX);
	/* A pinned address that nothing pins would be a promise broken silently; part of a filter pins no address. */
	if (network->pin_ip && q->host->outcomes[WIRE_GRANT_PORT_FILTER] != WIRE_BY_GRANTED)
		return refuse(q, WIRE_ERR_FILTER_MISSING, nic->network, q->host->outcomes[WIRE_GRANT_PORT_FILTER]);
	if (!check_vhost(q, nic, network, &vhost))
		return false;
	q->verdict->network[i] = (uint32_t)index;
	q->verdict->nic_vhost[i] = vhost;
	q->verdict->vhost_fds += vhost ? queues : 0;
	q->verdict->nic_flags[i] = (vhost ? nic->flags & WIRE_NIC_ASK_FLAGS : 0) |
				   (network->isolated ? WIRE_NIC_ISOLATED : 0) | (network->pin_ip ? WIRE_NIC_PIN_IP : 0);
	return true;
}

static bool check_nics(struct question *q)
{
	uint8_t tap = q->host->outcomes[WIRE_GRANT_TAP];
	uint8_t filter = q->host->outcomes[WIRE_GRANT_PORT_FILTER];

	if (q->ask->nic_count > WIRE_NICS_MAX)
		return refuse(q, WIRE_ERR_TAPS_TOO_MANY, "", WIRE_NICS_MAX);
	if (q->ask->nic_count == 0)
		return true;
	for (size_t i = 0; i < q->ask->nic_count; i++)
		if (!check_nic(q, i))
			return false;
	if (!wire_outcome_ok(tap))
		return refuse(q, WIRE_ERR_TAP_MISSING, "tap", tap);
	if (!wire_outcome_ok(filter) && required(q, WIRE_GRANT_PORT_FILTER))
		return refuse(q, WIRE_ERR_FILTER_MISSING, "port-filter", filter);
	q->verdict->outcomes[WIRE_GRANT_TAP] = tap;
	q->verdict->outcomes[WIRE_GRANT_PORT_FILTER] = filter;
	return true;
}

#define KVM_BIT_FD 0u
#define KVM_BIT_NODE 1u
#define KVM_BIT_GROUP 2u

/* The narrowest way to /dev/kvm that works here and that the policy permits; a failure outcome when none does. */
static enum wire_outcome kvm_strategy(const struct question *q)
{
	bool fd_ok = (q->ask->flags & WIRE_KVM_FD_OK) != 0;
	bool fd = bit(q->host->kvm_strategies, KVM_BIT_FD);
	bool node = bit(q->host->kvm_strategies, KVM_BIT_NODE);
	/* gid 0 is root's group: whoever carries it reaches far more than one device. */
	bool group = bit(q->host->kvm_strategies, KVM_BIT_GROUP) && !(q->policy->kvm_gid_set && q->policy->kvm_gid == 0);

	switch (q->policy->kvm) {
	case POLICY_KVM_FD:
		if (!fd_ok)
			return WIRE_BY_NO_POLICY; /* the policy wants a descriptor, this VMM wants a path */
		return fd ? WIRE_BY_BY_FD : WIRE_BY_NO_ACCESS;
	case POLICY_KVM_NODE:
		return node ? WIRE_BY_BY_NODE : WIRE_BY_NO_NODE;
	case POLICY_KVM_GROUP:
		return group ? WIRE_BY_BY_GROUP : WIRE_BY_NO_ACCESS;
	case POLICY_KVM_AUTO:
		break;
	}
	if (fd && fd_ok)
		return WIRE_BY_BY_FD;
	if (node)
		return WIRE_BY_BY_NODE;
	return group ? WIRE_BY_BY_GROUP : WIRE_BY_NO_ACCESS;
}

static bool check_kvm(struct question *q)
{
	bool must = (q->ask->flags & WIRE_KVM_REQUIRE) != 0;
	uint8_t *outcome = &q->verdict->outcomes[WIRE_GRANT_KVM];

	if (!must && (q->ask->flags & WIRE_KVM_WANT) == 0)
		return true;
	if (!q->rule->kvm) {
		*outcome = WIRE_BY_NO_POLICY;
		return must ? refuse(q, WIRE_ERR_KVM_DENIED, "kvm", 0) : true;
	}
	*outcome = q->host->outcomes[WIRE_GRANT_KVM];
	if (wire_outcome_ok(*outcome))
		*outcome = (uint8_t)kvm_strategy(q);
	if (!wire_outcome_ok(*outcome) && (must || required(q, WIRE_GRANT_KVM)))
		return refuse(q, WIRE_ERR_KVM_MISSING, "kvm", *outcome);
	return true;
}

static bool check_vsock(struct question *q)
{
	bool must = (q->ask->flags & WIRE_VSOCK_REQUIRE) != 0;
	uint8_t *outcome = &q->verdict->outcomes[WIRE_GRANT_VHOST_VSOCK];

	if (!must && (q->ask->flags & WIRE_VSOCK_WANT) == 0)
		return true;
	if (!q->rule->vsock) {
		*outcome = WIRE_BY_NO_POLICY;
		return must ? refuse(q, WIRE_ERR_VSOCK_DENIED, "vhost-vsock", 0) : true;
	}
	*outcome = q->host->outcomes[WIRE_GRANT_VHOST_VSOCK];
	if (!wire_outcome_ok(*outcome) && (must || required(q, WIRE_GRANT_VHOST_VSOCK)))
		return refuse(q, WIRE_ERR_VSOCK_MISSING, "vhost-vsock", *outcome);
	return true;
}

static bool check_label(struct question *q)
{
	const char *type = q->ask->label_type;
	uint8_t outcome = q->host->outcomes[WIRE_GRANT_LABEL];
	bool known = type[0] == '\0'; /* the default type is everybody's */

	for (size_t i = 0; i < q->rule->label_count; i++)
		known = known || strcmp(q->rule->labels[i], type) == 0;
	if (!known)
		return refuse(q, WIRE_ERR_LABEL_DENIED, type, 0);
	if (!wire_outcome_ok(outcome) && ((q->ask->flags & WIRE_LABEL_REQUIRE) != 0 || required(q, WIRE_GRANT_LABEL)))
		return refuse(q, WIRE_ERR_LABEL_MISSING, type, outcome);
	q->verdict->outcomes[WIRE_GRANT_LABEL] = outcome;
	return true;
}

/* Grants every sandbox has whether it asks or not: what the host offers, unless the policy insists on more. */
static bool check_confinement(struct question *q)
{
	uint8_t cgroup = q->host->outcomes[WIRE_GRANT_CGROUP];
	uint8_t landlock = q->host->outcomes[WIRE_GRANT_LANDLOCK];
	bool must = (q->ask->flags & WIRE_CGROUP_REQUIRE) != 0 || required(q, WIRE_GRANT_CGROUP);

	/* rlimits are a success as an outcome, but who requires a cgroup does not mean them */
	if (must && (!wire_outcome_ok(cgroup) || cgroup == WIRE_BY_BY_RLIMIT))
		return refuse(q, WIRE_ERR_CGROUP_MISSING, "cgroup", cgroup);
	if (required(q, WIRE_GRANT_LANDLOCK) && !wire_outcome_ok(landlock))
		return refuse(q, WIRE_ERR_LANDLOCK_MISSING, "landlock", landlock);
	if (must) /* of the policy's making too: the spawner alone sees whether each limit can be set */
		q->verdict->flags |= WIRE_CGROUP_REQUIRE;
	q->verdict->outcomes[WIRE_GRANT_CGROUP] = cgroup;
	q->verdict->outcomes[WIRE_GRANT_LANDLOCK] = landlock;
	return true;
}

/* One limit: 0 asked = the policy's; more than the policy's (when it has one) = refused, never cut silently. */
static bool limit(struct question *q, const char *object, uint32_t ask, uint32_t ceiling, uint32_t *ret)
{
	if (ceiling != 0 && ask > ceiling)
		return refuse(q, WIRE_ERR_OPTION_DENIED, object, ceiling);
	*ret = ask != 0 ? ask : ceiling;
	return true;
}

/* Swap is the other way round: guest memory reaches the host's disk only by an administrator who gave a number. */
static bool limit_swap(struct question *q, uint32_t ask, uint32_t ceiling, uint32_t *ret)
{
	if (ceiling == 0 && ask != 0)
		return refuse(q, WIRE_ERR_OPTION_DENIED, "swap", 0);
	return limit(q, "swap", ask, ceiling, ret);
}

static bool check_limits(struct question *q)
{
	const struct wire_limits *ask = q->ask->limits, *top = &q->policy->limits;
	struct wire_limits *ret = &q->verdict->limits;
	uint64_t memory = 0;

	/* Guest memory plus what the VMM itself needs: without an overhead in the policy there is no memory limit of its. */
	if (top->memory_mib != 0) {
		memory = (uint64_t)q->ask->memory_mib + top->memory_mib;
		if (memory > WIRE_MEMORY_MAX)
			memory = WIRE_MEMORY_MAX;
	}
	return limit(q, "memory", ask->memory_mib, (uint32_t)memory, &ret->memory_mib) &&
	       limit_swap(q, ask->swap_mib, top->swap_mib, &ret->swap_mib) &&
	       limit(q, "pids", ask->pids, top->pids, &ret->pids) &&
	       limit(q, "cpu", ask->cpu_percent, top->cpu_percent, &ret->cpu_percent) &&
	       limit(q, "io-weight", ask->io_weight, top->io_weight, &ret->io_weight);
}

/* Whether `more` on top of `used` stays within the limit. Subtraction only, so nothing can wrap. */
static bool fits(uint64_t used, uint64_t more, uint64_t maximum)
{
	return maximum == 0 || (used <= maximum && more <= maximum - used);
}

static bool check_quota(struct question *q, const struct policy_usage *used, const struct policy_quota *quota, bool all)
{
	const char *whose = all ? "all" : "user";

	if (!fits(used->starts_last_minute, 1, quota->starts_per_minute))
		return refuse(q, WIRE_ERR_QUOTA_RATE, whose, quota->starts_per_minute);
	if (!fits(used->sandboxes, 1, quota->sandboxes))
		return refuse(q, all ? WIRE_ERR_QUOTA_SANDBOXES_ALL : WIRE_ERR_QUOTA_SANDBOXES_USER, whose,
			      quota->sandboxes);
	if (!fits(used->taps, q->verdict->taps, quota->taps))
		return refuse(q, all ? WIRE_ERR_QUOTA_TAPS_ALL : WIRE_ERR_QUOTA_TAPS_USER, whose, quota->taps);
	if (!fits(used->vcpus, q->ask->vcpus, quota->vcpus))
		return refuse(q, all ? WIRE_ERR_QUOTA_VCPUS_ALL : WIRE_ERR_QUOTA_VCPUS_USER, whose, quota->vcpus);
	if (!fits(used->memory_mib, q->ask->memory_mib, quota->memory_mib))
		return refuse(q, all ? WIRE_ERR_QUOTA_MEMORY_ALL : WIRE_ERR_QUOTA_MEMORY_USER, whose, quota->memory_mib);
	return true;
}

void policy_decide(const struct policy *policy, const struct policy_caller *caller, const struct policy_usage *user,
		   const struct policy_usage *all, const struct policy_host *host, const struct wire_acquire *ask,
		   struct policy_verdict *ret)
{
	struct question q = { policy, policy_rule_for(policy, caller), host, ask, ret };

	memset(ret, 0, sizeof(*ret));
	ret->code = WIRE_ERR_NOT_ALLOWED;
	if (q.rule == NULL) {
		ret->number = caller->uid;
		return;
	}
	ret->rule = (uint32_t)(q.rule - policy->rules);
	/* What the caller may not have comes before what the host lacks, and both before how much is left: the error is
	 * then about the thing the user can change first. */
	if (!check_hypervisor(&q) || !check_options(&q) || !check_nics(&q) || !check_kvm(&q) || !check_vsock(&q) ||
	    !check_label(&q) || !check_confinement(&q) || !check_limits(&q))
		return;
	if (!check_quota(&q, user, &q.rule->quota, false) || !check_quota(&q, all, &policy->quota, true))
		return;
	ret->code = WIRE_ERR_OK;
}
