/* SPDX-License-Identifier: Apache-2.0
 * Runs: broker (no privilege). Clients: who they are, how long they may take, what they hear. */
#include <errno.h>
#include <linux/sock_diag.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>

#include "common/cleanup.h"
#include "common/log.h"
#include "server.h"

#define MS UINT64_C(1000000)
#define ACCEPTS_MAX 16 /* in one turn, so that a storm of connections does not hold up the others */
#define ACCEPT_PAUSE_NS (100 * MS)
#define LINGER_NS (1000 * MS)
#define NEWCOMERS_SHARE 4 /* of the sessions, one in so many is kept for users who have none */
#ifndef SO_PEERPIDFD
#define SO_PEERPIDFD 77
#endif

bool unread(int fd)
{
	uint32_t memory[SK_MEMINFO_VARS] = { 0 };
	socklen_t len = sizeof(memory);

	/* Every kernel with namespaces worth using can tell; one that cannot gets no descriptor out of us. */
	return getsockopt(fd, SOL_SOCKET, SO_MEMINFO, memory, &len) < 0 || memory[SK_MEMINFO_WMEM_ALLOC] > 0;
}

/* A slot for a session of this account: the last quarter is only for the first session of a user, so that a few users
 * cannot keep out all others. */
static struct session *free_session(struct server *server, const struct account *account)
{
	size_t kept = account->sessions > 0 ? server->policy->sessions_max / NEWCOMERS_SHARE : 0, left = 0;
	struct session *found = NULL;

	for (size_t i = 0; i < server->policy->sessions_max; i++) {
		if (server->sessions[i].fd >= 0)
			continue;
		if (left++ == 0)
			found = &server->sessions[i];
		if (left > kept)
			return found;
	}
	return NULL;
}

/* The credentials the kernel noted at connect(). Not what the peer says: it is not asked. */
static int peer_credentials(int fd, struct ucred *ret)
{
	socklen_t len = sizeof(*ret);

	return getsockopt(fd, SOL_SOCKET, SO_PEERCRED, ret, &len) < 0 ? -errno : 0;
}

/* Why this peer has nothing to ask for; NULL when it has. Root and the owners of sandboxes are heard even when no rule names
 * them: they may list and end what runs. */
static const char *stranger(struct server *server, const struct session *peer)
{
	struct policy_caller caller;
	int r;

	if (peer->uid == 0 || lease_next(&server->leases, 0, peer->uid) != NULL)
		return NULL;
	r = peer_caller(server, peer, &caller);
	if (r == -EPERM)
		return "a subordinate uid that no rule names";
	return r < 0 || policy_rule_for(server->policy, &caller) == NULL ? "no rule names this user" : NULL;
}

/* Why this peer is not even heard; NULL when it is, and *ret is a slot for it. Strangers come first: any number of uids may
 * connect, and those without a rule must take nothing of which there is only so much, not even a line of the accounts. */
static const char *unwelcome(struct server *server, struct session *peer, struct session **ret)
{
	const struct wire_error error = { .code = WIRE_ERR_NOT_ALLOWED };
	const struct policy *policy = server->policy;
	const char *why;

	/* A sandbox must never speak to us, whatever the policy says about "*". */
	if (peer->uid >= policy->first_uid && peer->uid - policy->first_uid < policy->uid_count)
		return "a sandbox's uid";
	why = stranger(server, peer);
	if (why != NULL) {
		/* Unasked, instead of an answer to the HELLO that follows: nobody is waited for. */
		(void)wire_send(peer->fd, WIRE_OP_HELLO, WIRE_ERROR, 0, &error, NULL, 0);
		return why;
	}
	peer->account = account_of(server->accounts, peer->uid, now_ns());
	if (peer->account == NULL)
		return "too many users at once";
	if (policy->sessions_user_max != 0 && peer->account->sessions >= policy->sessions_user_max)
		return "too many sessions of this user";
	*ret = free_session(server, peer->account);
	return *ret == NULL ? "too many sessions" : NULL;
}

static void admit(struct server *server, int fd)
{
	struct session *session = NULL, peer = { .fd = fd, .pidfd = -1, .phase = PHASE_NEW };
	struct ucred creds;
	const char *why;
	socklen_t len = sizeof(peer.pidfd);

	if (peer_credentials(fd, &creds) < 0) {
		(void)close(fd);
		return;
	}
	peer.uid = creds.uid;
	peer.gid = creds.gid;
	peer.pid = creds.pid;
	why = unwelcome(server, &peer, &session);
	if (why != NULL) {
		audit_violation(server, peer.account, peer.uid, peer.pid, why);
		(void)close(fd);
		return;
	}
	/* Pins the identity: a pid may be somebody else's by the time we look, this descriptor cannot. */
	if (getsockopt(fd, SOL_SOCKET, SO_PEERPIDFD, &peer.pidfd, &len) < 0)
		peer.pidfd = -1;
	peer.deadline = now_ns() + server->policy->hello_ms * MS;
	peer.account->sessions++;
	*session = peer;
}

void session_accept(struct server *server)
{
	for (int i = 0; i < ACCEPTS_MAX; i++) {
		int fd = accept4(server->fds.listen, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

		if (fd >= 0) {
			admit(server, fd);
			continue;
		}
		/* Out of descriptors: the connection stays in the queue, so polling it at once would spin. */
		if (errno == EMFILE || errno == ENFILE || errno == ENOMEM || errno == ENOBUFS)
			server->accept_again = now_ns() + ACCEPT_PAUSE_NS;
		return;
	}
}

void session_end(struct server *server, struct session *session)
{
	/* What it waited for is killed as soon as the spawner says that it lives. */
	if (session->pending != NULL) {
		link_abandon(server, session->pending);
		session->pending = NULL;
	}
	if (session->fd < 0)
		return;
	fd_close(&session->pidfd);
	/* A descriptor that the peer leaves unread is on its way for as long as he likes, and would be nobody's to count if
	 * the slot were free: so it stays his, heard no more, until he has read or closed. */
	session->lingering = session->gave && unread(session->fd);
	if (session->lingering) {
		(void)shutdown(session->fd, SHUT_RDWR);
		session->deadline = now_ns() + LINGER_NS;
		return;
	}
	session->account->sessions--;
	fd_close(&session->fd);
}

static void violation(struct server *server, struct session *session, const char *why)
{
	audit_violation(server, session->account, session->uid, session->pid, why);
	session_end(server, session);
}

void session_readable(struct server *server, struct session *session)
{
	struct wire_session view = { .link = LINK_CLIENT, .peer = FROM_CLIENT, .phase = session->phase };
	struct wire_in *in = server->in;
	int r = wire_recv(session->fd, &view, in);

	if (r == -EAGAIN)
		return;
	if (r == -EPROTO) {
		violation(server, session, in->why);
		return;
	}
	if (r <= 0) { /* hung up, or a socket error, which is the same to us */
		session_end(server, session);
		return;
	}
	if (session->pending != NULL) {
		/* One request at a time: a second one would need a queue, and a queue a bound. */
		violation(server, session, "request while another is pending");
	} else {
		session->sequence = in->sequence;
		session->deadline = now_ns() + server->policy->idle_ms * MS;
		if (op_dispatch(server, session) < 0)
			violation(server, session, in->why);
	}
	wire_in_close(in);
}

void session_expired(struct server *server, struct session *session)
{
	const struct wire_error error = { .code = WIRE_ERR_TIMEOUT };

	if (session->lingering) {
		session_end(server, session);
		return;
	}
	if (session->pending != NULL) {
		audit_decision(session, WIRE_OP_ACQUIRE, WIRE_ERR_TIMEOUT, "spawner", session->pending->record,
			       session->pending->record->uuid);
		session_answer_pending(server, session->pending, &error);
		return;
	}
	if (session->phase == PHASE_NEW)
		violation(server, session, "no HELLO in time");
	else
		session_end(server, session); /* merely quiet: that is no offence */
}

static void sent(struct server *server, struct session *session, int r)
{
	/* No queue of replies: who does not read them, or is gone, loses the session. */
	if (r == -EAGAIN)
		violation(server, session, "does not read its replies");
	else if (r < 0)
		session_end(server, session);
}

void session_reply(struct server *server, struct session *session, enum wire_op op, const void *msg, int fd)
{
	int r = fd >= 0 && unread(session->fd)
			? -EAGAIN
			: wire_send(session->fd, op, WIRE_REPLY, session->sequence, msg, &fd, fd >= 0 ? 1 : 0);

	session->gave = session->gave || (r == 0 && fd >= 0);
	if (r == -EINVAL)
		log_error("%s: a reply of ours is not well formed", wire_op_name(op));
	sent(server, session, r);
}

void session_refuse(struct server *server, struct session *session, enum wire_op op, const struct wire_error *error)
{
	sent(server, session, wire_send(session->fd, op, WIRE_ERROR, session->sequence, error, NULL, 0));
}

void session_answer_pending(struct server *server, struct lease *lease, const struct wire_error *error)
{
	struct session *session = &server->sessions[lease->session];

	session->pending = NULL;
	lease->session = SESSION_NONE;
	session->deadline = now_ns() + server->policy->idle_ms * MS;
	if (error != NULL) {
		link_abandon(server, lease);
		session_refuse(server, session, WIRE_OP_ACQUIRE, error);
		return;
	}
	session_reply(server, session, WIRE_OP_ACQUIRE, lease->record, lease->pidfd);
	/* Nobody holds the lease then: init would see its control end closed too, but need not be believed. */
	if (session->fd < 0 || session->lingering)
		link_kill(server, lease);
}
