/* SPDX-License-Identifier: Apache-2.0
 * Runs: broker (no privilege). ACQUIRE: from a request to a START for the spawner, or to a refusal that says why. */
#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>

#include "common/cleanup.h"
#include "common/log.h"
#include "nic.h"
#include "server.h"
#include "vhost.h"

#define MS UINT64_C(1000000)

/* A START in the making. What it holds is given back by end_draft() unless the lease was entered. */
struct draft {
	const struct wire_acquire *ask;
	struct policy_verdict verdict;
	struct lease *lease;
	struct wire_start start;
	int fds[1 + WIRE_TAP_FDS_MAX + 1]; /* control end (not ours), vhost-net, vhost-vsock */
	size_t fd_count;
};

/* A process that took one of its user's subordinate uids keeps his groups: each of them would have a quota of its own. */
static bool is_subordinate(const struct server *server, uid_t uid)
{
	const struct host_table *host = &server->host;

	for (size_t i = 0; i < host->subid_count; i++)
		if (uid >= host->subids[i].first && uid - host->subids[i].first < host->subids[i].count)
			return !policy_names_uid(server->policy, uid);
	return false;
}

int peer_caller(struct server *server, const struct session *session, struct policy_caller *ret)
{
	/* Room for as many as a process can have, so a peer with many groups is judged by all of them. The kernel noted
	 * them at connect(), like the uid. */
	socklen_t len = GROUPS_MAX * sizeof(gid_t);

	if (is_subordinate(server, session->uid))
		return -EPERM;
	if (getsockopt(session->fd, SOL_SOCKET, SO_PEERGROUPS, server->groups, &len) < 0)
		return -errno;
	*ret = (struct policy_caller){
		.uid = session->uid, .gid = session->gid, .groups = server->groups, .group_count = len / sizeof(gid_t)
	};
	return 0;
}

void host_offer(const struct server *server, bool vhost_net_too, bool vhost_vsock_too, struct policy_host *ret)
{
	const struct wire_spawner_hello *facts = &server->link.facts;

	memcpy(ret->outcomes, server->host.outcomes, sizeof(ret->outcomes));
	ret->kvm_strategies = server->host.kvm_strategies;
	/* The spawner has tried what start could only guess; NOT_ASKED means that it has not. */
	if (facts->cgroup != WIRE_BY_NOT_ASKED)
		ret->outcomes[WIRE_GRANT_CGROUP] = facts->cgroup;
	if (facts->port_filter != WIRE_BY_NOT_ASKED)
		ret->outcomes[WIRE_GRANT_PORT_FILTER] = facts->port_filter;
	if (facts->kvm != WIRE_BY_NOT_ASKED && !wire_outcome_ok(facts->kvm))
		ret->outcomes[WIRE_GRANT_KVM] = facts->kvm;
	if (vhost_net_too)
		ret->outcomes[WIRE_GRANT_VHOST_NET] = (uint8_t)vhost_net_probe();
	if (vhost_vsock_too)
		ret->outcomes[WIRE_GRANT_VHOST_VSOCK] = (uint8_t)vhost_vsock_probe();
}

/* Ask the policy. Everything it is told comes from the kernel or from our own tables but for the request itself. */
static enum wire_error_code decide(struct server *server, struct session *session, struct draft *draft)
{
	const struct wire_acquire *ask = draft->ask;
	struct policy_usage user, all;
	struct policy_caller caller;
	struct policy_host host;
	bool vhost = false;
	uint64_t now = now_ns();

	if (peer_caller(server, session, &caller) < 0)
		return WIRE_ERR_NOT_ALLOWED;
	for (size_t i = 0; i < ask->nic_count; i++)
		vhost = vhost || (ask->nics[i].flags & WIRE_NIC_ASK_FLAGS) != 0;
	host_offer(server, vhost, (ask->flags & (WIRE_VSOCK_WANT | WIRE_VSOCK_REQUIRE)) != 0, &host);
	user = *account_usage(session->account, now);
	all = *account_usage(&server->accounts->all, now);
	policy_decide(server->policy, &caller, &user, &all, &host, ask, &draft->verdict);
	return draft->verdict.code;
}

/* An own lease with this uuid; those of others are none of the caller's business, so they may have the same. */
static bool uuid_in_use(const struct server *server, uid_t owner, const uint8_t uuid[16])
{
	for (size_t i = 0; i < server->leases.high; i++) {
		const struct lease *lease = &server->leases.table[i];

		if (lease->state != LEASE_FREE && lease->owner == owner && memcmp(lease->record->uuid, uuid, 16) == 0)
			return true;
	}
	return false;
}

static enum wire_error_code add_nics(struct server *server, struct draft *draft)
{
	struct wire_lease *record = draft->lease->record;

	for (size_t i = 0; i < draft->ask->nic_count; i++) {
		const struct policy_network *network = &server->policy->networks[draft->verdict.network[i]];
		struct wire_nic *nic = &record->nics[i];

		memcpy(nic->network, draft->ask->nics[i].network, sizeof(nic->network));
		nic->queues = draft->ask->nics[i].queues != 0 ? draft->ask->nics[i].queues : 1;
		nic->flags = draft->verdict.nic_flags[i];
		nic->bridge = (uint8_t)draft->verdict.network[i];
		nic->vhost = draft->verdict.nic_vhost[i];
		nic_mac(&server->leases, record, nic->mac);
		if ((nic->flags & WIRE_NIC_PIN_IP) != 0 && nic_ip(&server->leases, record, network, &nic->ip) < 0) {
			(void)wire_set_chars(draft->verdict.object, sizeof(draft->verdict.object), network->name);
			return WIRE_ERR_ADDRESSES_EXHAUSTED;
		}
		record->nic_count++; /* only now: record_has_*() must not find the NIC itself */
	}
	return WIRE_ERR_OK;
}

/* Whether going on without this grant is out of the question. */
static bool insisted(const struct server *server, const struct draft *draft, enum wire_grant grant)
{
	bool must = (server->policy->required >> grant & 1) != 0;

	if (grant == WIRE_GRANT_VHOST_VSOCK)
		return must || (draft->verdict.flags & WIRE_VSOCK_REQUIRE) != 0;
	for (size_t i = 0; i < draft->ask->nic_count; i++)
		must = must || (draft->verdict.nic_flags[i] & WIRE_NIC_VHOST_REQUIRE) != 0;
	return must;
}

/* One vhost-net for each queue pair that gets it. Opened here, where the policy was asked, and never seen by the client:
 * the spawner puts them into the sandbox. */
static enum wire_error_code add_vhost_net(struct server *server, struct draft *draft)
{
	struct wire_lease *record = draft->lease->record;
	enum wire_outcome outcome = WIRE_BY_BY_FD;

	for (uint32_t i = 0; i < draft->verdict.vhost_fds && outcome == WIRE_BY_BY_FD; i++) {
		outcome = vhost_net(&draft->fds[draft->fd_count]);
		if (outcome == WIRE_BY_BY_FD) {
			draft->fd_count++;
			draft->start.vhost_fds++;
		}
	}
	if (outcome == WIRE_BY_BY_FD)
		return WIRE_ERR_OK;
	/* It was there a moment ago. All NICs or none, so that the receipt has one answer. */
	if (insisted(server, draft, WIRE_GRANT_VHOST_NET))
		return WIRE_ERR_VHOST_MISSING;
	while (draft->start.vhost_fds > 0) {
		fd_close(&draft->fds[--draft->fd_count]);
		draft->start.vhost_fds--;
	}
	for (size_t i = 0; i < record->nic_count; i++) {
		record->nics[i].vhost = 0;
		record->nics[i].flags &= ~WIRE_NIC_ASK_FLAGS;
	}
	record->grants[WIRE_GRANT_VHOST_NET] = (uint8_t)outcome;
	return WIRE_ERR_OK;
}

static enum wire_error_code add_vsock(struct server *server, struct draft *draft)
{
	struct wire_lease *record = draft->lease->record;
	enum wire_outcome outcome;

	if (!wire_outcome_ok(record->grants[WIRE_GRANT_VHOST_VSOCK]))
		return WIRE_ERR_OK;
	outcome = vhost_vsock(lease_has_cid, &server->leases, &draft->fds[draft->fd_count], &record->cid);
	if (outcome == WIRE_BY_BY_FD) {
		draft->fd_count++;
		draft->start.vsock_fd = 1;
	} else if (insisted(server, draft, WIRE_GRANT_VHOST_VSOCK)) {
		return outcome == WIRE_BY_FAILED ? WIRE_ERR_CIDS_EXHAUSTED : WIRE_ERR_VSOCK_MISSING;
	}
	record->grants[WIRE_GRANT_VHOST_VSOCK] = (uint8_t)outcome;
	return WIRE_ERR_OK;
}

static enum wire_error_code add_label(struct server *server, struct draft *draft)
{
	struct wire_lease *record = draft->lease->record;
	const char *type = draft->ask->label_type[0] != '\0' ? draft->ask->label_type : LABEL_TYPE_DEFAULT;

	if (!wire_outcome_ok(record->grants[WIRE_GRANT_LABEL]))
		return WIRE_ERR_OK;
	if (label_take(server->labels, &draft->lease->pair) < 0)
		return WIRE_ERR_LABELS_EXHAUSTED;
	return label_context(server->labels, type, draft->lease->pair, record->label, sizeof(record->label)) < 0
		       ? WIRE_ERR_INTERNAL
		       : WIRE_ERR_OK;
}

static enum wire_error_code add_identity(struct server *server, struct session *session, struct draft *draft)
{
	struct wire_lease *record = draft->lease->record;
	struct timespec ts;
	int r = ids_take(&server->ids, now_ns(), lease_has_uid, &server->leases, &record->id, &record->uid);

	if (r < 0 && r != -ENOSPC)
		log_error("the id counter in the runtime directory cannot be written: %s", strerror(-r));
	if (r < 0)
		return r == -ENOSPC ? WIRE_ERR_IDS_EXHAUSTED : WIRE_ERR_INTERNAL;
	(void)clock_gettime(CLOCK_REALTIME, &ts);
	record->gid = record->uid;
	record->owner = session->uid;
	record->started_ns = (uint64_t)ts.tv_sec * UINT64_C(1000000000) + (uint64_t)ts.tv_nsec;
	return WIRE_ERR_OK;
}

/* Fill the record from request and verdict. Whatever it takes is in the draft before the next step can fail. */
static enum wire_error_code build(struct server *server, struct session *session, struct draft *draft)
{
	struct wire_lease *record = draft->lease->record;
	enum wire_error_code code;

	memcpy(record->uuid, draft->ask->uuid, sizeof(record->uuid));
	memcpy(record->hypervisor, draft->ask->hypervisor, sizeof(record->hypervisor));
	memcpy(record->grants, draft->verdict.outcomes, sizeof(record->grants));
	record->vcpus = draft->ask->vcpus;
	record->memory_mib = draft->ask->memory_mib;
	record->flags = draft->verdict.flags | (server->policy->mode == POLICY_MODE_DIRECT ? WIRE_DIRECT : 0);
	record->limits[0] = draft->verdict.limits;
	record->landlock_abi = (uint8_t)server->host.landlock_abi;
	code = add_nics(server, draft);
	if (code == WIRE_ERR_OK)
		code = add_vhost_net(server, draft);
	if (code == WIRE_ERR_OK)
		code = add_vsock(server, draft);
	if (code == WIRE_ERR_OK)
		code = add_label(server, draft);
	if (code == WIRE_ERR_OK) /* last: an id is used up even when nobody gets it */
		code = add_identity(server, session, draft);
	return code;
}

static enum wire_error_code send_start(struct server *server, struct draft *draft)
{
	int r;

	draft->start.lease[0] = *draft->lease->record;
	draft->start.hypervisor = draft->verdict.hypervisor;
	draft->start.kvm_fd = draft->verdict.outcomes[WIRE_GRANT_KVM] == WIRE_BY_BY_FD;
	r = link_start(server, &draft->start, draft->fds, draft->fd_count);
	if (r == -EINVAL)
		log_error("START is not well formed: a limit of the policy is outside the protocol's range");
	return r == 0 ? WIRE_ERR_OK : r == -EINVAL ? WIRE_ERR_INTERNAL : WIRE_ERR_SPAWNER_DOWN;
}

/* The whole way; the first "no" ends it. */
static enum wire_error_code attempt(struct server *server, struct session *session, struct draft *draft)
{
	enum wire_error_code code;

	if (server->stopping)
		return WIRE_ERR_STOPPING;
	if (!link_ready(&server->link))
		return WIRE_ERR_SPAWNER_DOWN;
	code = decide(server, session, draft);
	if (code != WIRE_ERR_OK)
		return code;
	/* After the policy: who may start nothing learns nothing about uuids either. */
	if (uuid_in_use(server, session->uid, draft->ask->uuid))
		return WIRE_ERR_UUID_IN_USE;
	draft->lease = lease_slot(&server->leases);
	if (draft->lease == NULL) {
		draft->verdict.number = server->leases.capacity;
		return WIRE_ERR_QUOTA_SANDBOXES_ALL;
	}
	account_started(session->account, now_ns());
	account_started(&server->accounts->all, now_ns());
	code = build(server, session, draft);
	return code != WIRE_ERR_OK ? code : send_start(server, draft);
}

/* Safe: what goes to the spawner is made here from the policy's tables; of the request only numbers within limits, flags,
 * the uuid and the socket end (already known to be one) go along. Ids, labels, addresses are nobody's choice. */
int op_acquire(struct server *server, struct session *session, struct wire_in *in)
{
	struct draft draft = { .ask = &in->msg.acquire, .fds = { in->fds[0] }, .fd_count = 1 };
	enum wire_error_code code = attempt(server, session, &draft);
	struct wire_error error = { .code = (uint32_t)code, .number = draft.verdict.number };

	for (size_t i = 1; i < draft.fd_count; i++)
		fd_close(&draft.fds[i]); /* the spawner has its own by now, or nobody needs them */
	audit_decision(session, WIRE_OP_ACQUIRE, code, draft.verdict.object,
		       draft.lease != NULL ? draft.lease->record : NULL, draft.ask->uuid);
	if (code != WIRE_ERR_OK) {
		if (draft.lease != NULL)
			label_release(server->labels, draft.lease->pair);
		memcpy(error.object, draft.verdict.object, sizeof(error.object));
		session_refuse(server, session, WIRE_OP_ACQUIRE, &error);
		return 0;
	}
	lease_enter(&server->leases, server->accounts, draft.lease, LEASE_STARTING, now_ns());
	draft.lease->session = (int)(session - server->sessions);
	session->pending = draft.lease;
	session->deadline = now_ns() + server->policy->launch_ms * MS;
	return 0;
}
