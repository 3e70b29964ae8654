/* SPDX-License-Identifier: Apache-2.0
 * Runs: broker (no privilege). Clients: who they are, how long they may take, what they hear. */
#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>

#include "common/cleanup.h"
#include "common/log.h"
#include "server.h"

#define MS UINT64_C(1000000)
#define ACCEPTS_MAX 16 /* in one turn, so that a storm of connections does not hold up the others */
#define ACCEPT_PAUSE_NS (100 * MS)
#ifndef SO_PEERPIDFD
#define SO_PEERPIDFD 77
#endif

static struct session *free_session(struct server *server)
{
	for (size_t i = 0; i < server->policy->sessions_max; i++)
		if (server->sessions[i].fd < 0)
			return &server->sessions[i];
	return NULL;
}

/* The credentials the kernel noted at connect(). Not what the peer says: it is not asked. */
static int peer_credentials(int fd, struct ucred *ret)
{
	socklen_t len = sizeof(*ret);

	return getsockopt(fd, SOL_SOCKET, SO_PEERCRED, ret, &len) < 0 ? -errno : 0;
}

/* Why this peer is not even heard; NULL when it is. */
static const char *unwelcome(const struct server *server, const struct ucred *peer, const struct account *account)
{
	const struct policy *policy = server->policy;

	/* A sandbox must never speak to us, whatever the policy says about "*". */
	if (peer->uid >= policy->first_uid && peer->uid - policy->first_uid < policy->uid_count)
		return "a sandbox's uid";
	if (account == NULL)
		return "too many users at once";
	if (policy->sessions_user_max != 0 && account->sessions >= policy->sessions_user_max)
		return "too many sessions of this user";
	return NULL;
}

static void admit(struct server *server, int fd)
{
	struct session *session = free_session(server);
	struct account *account;
	struct ucred peer;
	const char *why;
	socklen_t len = sizeof(session->pidfd);
	uint64_t now = now_ns();

	if (peer_credentials(fd, &peer) < 0) {
		(void)close(fd);
		return;
	}
	account = account_of(server->accounts, peer.uid, now);
	why = session == NULL ? "too many sessions" : unwelcome(server, &peer, account);
	if (why != NULL) {
		audit_violation(server, account, peer.uid, peer.pid, why);
		(void)close(fd);
		return;
	}
	*session = (struct session){ .fd = fd,
				     .pidfd = -1,
				     .uid = peer.uid,
				     .gid = peer.gid,
				     .pid = peer.pid,
				     .account = account,
				     .phase = PHASE_NEW };
	/* Pins the identity: a pid may be somebody else's by the time we look, this descriptor cannot. */
	if (getsockopt(fd, SOL_SOCKET, SO_PEERPIDFD, &session->pidfd, &len) < 0)
		session->pidfd = -1;
	session->deadline = now + server->policy->hello_ms * MS;
	account->sessions++;
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
	session->account->sessions--;
	fd_close(&session->fd);
	fd_close(&session->pidfd);
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
	int r = wire_send(session->fd, op, WIRE_REPLY, session->sequence, msg, &fd, fd >= 0 ? 1 : 0);

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
	if (session->fd < 0)
		link_kill(server, lease);
}
