/* SPDX-License-Identifier: Apache-2.0
 * Runs: broker (no privilege). One handler for each operation of a client; the table at the end is the only caller.
 *
 * A message got here only if its operation, phase, length, descriptors and every field were right (common/wire.c). What
 * a handler still must ask is whether this peer may. Handlers take descriptors out of in->fds when they keep them. */
#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "common/cleanup.h"
#include "config.h"
#include "server.h"

static int refuse(struct server *server, struct session *session, enum wire_op op, enum wire_error_code code,
		  const char *object)
{
	struct wire_error error = { .code = (uint32_t)code };

	if (wire_set_chars(error.object, sizeof(error.object), object) < 0)
		error.object[0] = '\0';
	session_refuse(server, session, op, &error);
	return 0;
}

/* Safe: changes only the phase of this session. */
static int op_hello(struct server *server, struct session *session, struct wire_in *in)
{
	struct wire_hello_reply reply = { .version = WIRE_VERSION, .boot_id = server->host.boot_id };

	if (in->msg.hello.version != WIRE_VERSION) {
		(void)refuse(server, session, WIRE_OP_HELLO, WIRE_ERR_VERSION, "");
		session_end(server, session);
		return 0;
	}
	(void)wire_set_chars(reply.release, sizeof(reply.release), POSTERN_VERSION);
	session->phase = PHASE_READY;
	session_reply(server, session, WIRE_OP_HELLO, &reply, -1);
	return 0;
}

/* The rule for this peer; NULL: refused already. */
static const struct policy_rule *rule_of(struct server *server, struct session *session, enum wire_op op)
{
	const struct policy_rule *rule = NULL;
	struct policy_caller caller;

	if (peer_caller(server, session, &caller) == 0)
		rule = policy_rule_for(server->policy, &caller);
	if (rule == NULL)
		(void)refuse(server, session, op, WIRE_ERR_NOT_ALLOWED, "");
	return rule;
}

/* Safe: tells what the host and the policy offer this peer, and counts; nothing about any other user. */
static int op_host(struct server *server, struct session *session, struct wire_in *in)
{
	const struct policy_rule *rule = rule_of(server, session, WIRE_OP_HOST);
	struct wire_host_reply reply = { 0 };
	struct policy_host host;

	(void)in;
	if (rule == NULL)
		return 0;
	host_offer(server, true, true, &host);
	memcpy(reply.outcomes, host.outcomes, sizeof(reply.outcomes));
	reply.landlock_abi = server->link.facts.landlock_abi;
	reply.direct_mode = server->policy->mode == POLICY_MODE_DIRECT;
	reply.first_uid = server->policy->first_uid;
	reply.uid_count = server->policy->uid_count;
	reply.sandboxes_user = session->account->usage.sandboxes;
	reply.sandboxes_user_max = rule->quota.sandboxes;
	reply.sandboxes_all = server->accounts->all.usage.sandboxes;
	reply.sandboxes_all_max = server->policy->quota.sandboxes;
	session_reply(server, session, WIRE_OP_HOST, &reply, -1);
	return 0;
}

/* Safe: the name is looked up in the policy and nowhere else; the path in the reply is the administrator's. */
static int op_hypervisor(struct server *server, struct session *session, struct wire_in *in)
{
	const char *name = in->msg.name.name;
	int index = policy_hypervisor_index(server->policy, name);
	const struct policy_rule *rule = rule_of(server, session, WIRE_OP_HYPERVISOR);
	struct wire_hypervisor_reply reply = { 0 };

	if (rule == NULL)
		return 0;
	if (index < 0)
		return refuse(server, session, WIRE_OP_HYPERVISOR, WIRE_ERR_HYPERVISOR_UNKNOWN, name);
	if ((rule->hypervisors >> index & 1) == 0)
		return refuse(server, session, WIRE_OP_HYPERVISOR, WIRE_ERR_HYPERVISOR_DENIED, name);
	reply.kind = (uint8_t)server->policy->hypervisors[index].driver;
	(void)wire_set_chars(reply.path, sizeof(reply.path), server->policy->hypervisors[index].path);
	session_reply(server, session, WIRE_OP_HYPERVISOR, &reply, -1);
	return 0;
}

/* Safe: as above. */
static int op_network(struct server *server, struct session *session, struct wire_in *in)
{
	const char *name = in->msg.name.name;
	int index = policy_network_index(server->policy, name);
	const struct policy_rule *rule = rule_of(server, session, WIRE_OP_NETWORK);
	const struct policy_network *network;
	struct wire_network_reply reply;

	if (rule == NULL)
		return 0;
	if (index < 0)
		return refuse(server, session, WIRE_OP_NETWORK, WIRE_ERR_NETWORK_UNKNOWN, name);
	if ((rule->networks >> index & 1) == 0)
		return refuse(server, session, WIRE_OP_NETWORK, WIRE_ERR_NETWORK_DENIED, name);
	network = &server->policy->networks[index];
	reply = (struct wire_network_reply){ .gateway = network->gateway,
					     .prefix = network->prefix,
					     .isolated = network->isolated,
					     .pin_ip = network->pin_ip,
					     .max_queues = network->max_queues };
	session_reply(server, session, WIRE_OP_NETWORK, &reply, -1);
	return 0;
}

/* A lease of the peer's that is up; NULL: refused already, with one and the same answer for "does not exist" and "is
 * somebody else's". */
static struct lease *own_lease(struct server *server, struct session *session, enum wire_op op, const uint8_t uuid[16],
			       bool root_too)
{
	struct lease *lease = lease_by_uuid(&server->leases, uuid, session->uid);
	enum wire_error_code code = WIRE_ERR_OK;

	if (lease == NULL || (lease->owner != session->uid && !root_too))
		code = WIRE_ERR_NOT_FOUND;
	else if (lease->state == LEASE_STOPPING)
		code = WIRE_ERR_STOPPING;
	else if (lease->state != LEASE_RUNNING)
		code = WIRE_ERR_STARTING;
	if (code == WIRE_ERR_OK)
		return lease;
	audit_decision(session, op, code, "", code == WIRE_ERR_NOT_FOUND ? NULL : lease->record, uuid);
	(void)refuse(server, session, op, code, "");
	return NULL;
}

/* A control end is one end of a socketpair(): unix, SEQPACKET, connected, and no name on either side. A socket with a
 * name on it belongs to some server; our own would even keep the sandbox alive as long as the session it is. */
static bool is_control_end(int fd)
{
	struct sockaddr_un own = { 0 }, peer = { 0 };
	socklen_t own_len = sizeof(own), peer_len = sizeof(peer), type_len = sizeof(int);
	int type = 0;

	if (getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &type_len) < 0 || type != SOCK_SEQPACKET)
		return false;
	if (getsockname(fd, (struct sockaddr *)&own, &own_len) < 0 ||
	    getpeername(fd, (struct sockaddr *)&peer, &peer_len) < 0)
		return false;
	return own.sun_family == AF_UNIX && own_len == sizeof(sa_family_t) && peer_len == sizeof(sa_family_t);
}

/* Whether the process that connected still lives. Without SO_PEERPIDFD nobody can say; its uid is still true. */
static bool peer_lives(const struct session *session)
{
	struct pollfd gone = { .fd = session->pidfd, .events = POLLIN };

	return session->pidfd < 0 || poll(&gone, 1, 0) == 0;
}

static int wrong_peer(const struct session *session, struct wire_in *in)
{
	if (!is_control_end(in->fds[0]))
		in->why = "the descriptor is not one end of a unix SEQPACKET pair";
	else if (!peer_lives(session))
		in->why = "the process that connected is gone";
	else
		return 0;
	return -EPROTO;
}

static int refuse_attach(struct server *server, struct session *session, const struct lease *lease,
			 enum wire_error_code code)
{
	audit_decision(session, WIRE_OP_ATTACH, code, "", lease->record, lease->record->uuid);
	return refuse(server, session, WIRE_OP_ATTACH, code, "");
}

/* Safe: only the owner, not even root; what he gets is the control of a sandbox that he already had when he started
 * it. The keeper's other end is init, which no guest can reach. Only an init that was told to survive listens to its
 * keeper, and it may be busy: what it has not taken is on its way at our cost, so there is never more than one. */
static int op_attach(struct server *server, struct session *session, struct wire_in *in)
{
	const uint8_t *uuid = in->msg.uuid.uuid;
	struct lease *lease;
	int r = wrong_peer(session, in);

	if (r < 0)
		return r;
	lease = own_lease(server, session, WIRE_OP_ATTACH, uuid, false);
	if (lease == NULL)
		return 0;
	if ((lease->record->flags & WIRE_SURVIVE) == 0)
		return refuse_attach(server, session, lease, WIRE_ERR_NOT_SURVIVING);
	if (unread(lease->keeper))
		return refuse_attach(server, session, lease, WIRE_ERR_STARTING);
	r = wire_send(lease->keeper, WIRE_OP_K_ATTACH, WIRE_REQUEST, 0, NULL, in->fds, 1);
	if (r < 0) /* -EPIPE: init is gone and S_GONE is on its way. Else: not the caller's fault. */
		return refuse_attach(server, session, lease, r == -EPIPE ? WIRE_ERR_STOPPING : WIRE_ERR_INTERNAL);
	audit_decision(session, WIRE_OP_ATTACH, WIRE_ERR_OK, "", lease->record, uuid);
	session_reply(server, session, WIRE_OP_ATTACH, lease->record, lease->pidfd);
	return 0;
}

/* Safe: a peer sees his own leases, root sees all. No descriptor goes along. */
static int op_next(struct server *server, struct session *session, struct wire_in *in)
{
	const struct lease *lease = lease_next(&server->leases, in->msg.cursor.after, session->uid);

	if (lease == NULL)
		return refuse(server, session, WIRE_OP_NEXT, WIRE_ERR_NOT_FOUND, "");
	session_reply(server, session, WIRE_OP_NEXT, lease->record, -1);
	return 0;
}

/* Safe: the owner or root hears how it ended. One and the same answer for what lives, what nobody knows and what is somebody
 * else's. Not logged: it is asked again until the end is known. */
static int op_ended(struct server *server, struct session *session, struct wire_in *in)
{
	const uint8_t *uuid = in->msg.uuid.uuid;
	const struct wire_ended *ended = ended_find(&server->ended, uuid, session->uid);

	if (ended == NULL || lease_by_uuid(&server->leases, uuid, session->uid) != NULL)
		return refuse(server, session, WIRE_OP_ENDED, WIRE_ERR_NOT_FOUND, "");
	session_reply(server, session, WIRE_OP_ENDED, ended, -1);
	return 0;
}

/* Safe: the owner or root; the worst it can do is end a sandbox they may end. */
static int op_kill(struct server *server, struct session *session, struct wire_in *in)
{
	const uint8_t *uuid = in->msg.uuid.uuid;
	struct lease *lease = own_lease(server, session, WIRE_OP_KILL, uuid, true);

	if (lease == NULL)
		return 0;
	if (server->link.fd < 0) {
		audit_decision(session, WIRE_OP_KILL, WIRE_ERR_SPAWNER_DOWN, "", lease->record, uuid);
		return refuse(server, session, WIRE_OP_KILL, WIRE_ERR_SPAWNER_DOWN, "");
	}
	audit_decision(session, WIRE_OP_KILL, WIRE_ERR_OK, "", lease->record, uuid);
	link_kill(server, lease);
	session_reply(server, session, WIRE_OP_KILL, NULL, -1);
	return 0;
}

/* The peer's own checks first, then acquire.c. */
static int op_acquire_checked(struct server *server, struct session *session, struct wire_in *in)
{
	int r = wrong_peer(session, in);

	return r < 0 ? r : op_acquire(server, session, in);
}

typedef int (*op_handler)(struct server *server, struct session *session, struct wire_in *in);

/* An operation without a handler cannot happen: wire_decode() lets only those of LINK_CLIENT through, and a test
 * compares. It would end the session. */
static const op_handler handlers[] = {
	[WIRE_OP_HELLO] = op_hello,
	[WIRE_OP_HOST] = op_host,
	[WIRE_OP_HYPERVISOR] = op_hypervisor,
	[WIRE_OP_NETWORK] = op_network,
	[WIRE_OP_ACQUIRE] = op_acquire_checked,
	[WIRE_OP_ATTACH] = op_attach,
	[WIRE_OP_NEXT] = op_next,
	[WIRE_OP_KILL] = op_kill,
	[WIRE_OP_ENDED] = op_ended,
};

int op_dispatch(struct server *server, struct session *session)
{
	struct wire_in *in = server->in;

	if ((size_t)in->op >= ARRAY_SIZE(handlers) || handlers[in->op] == NULL) {
		in->why = "operation without a handler";
		return -EPROTO;
	}
	return handlers[in->op](server, session, in);
}
