/* SPDX-License-Identifier: Apache-2.0
 * Runs: broker (no privilege). What the one loop of the broker works on.
 *
 * One thread, one poll(), no memory allocated after server_init(): every table has a fixed size, every peer a bound.
 * Nothing a peer sends ends the process; it ends that peer's session. main.c makes a struct server and runs it; the
 * tests make one with socket pairs instead. */
#pragma once

#include <poll.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "account.h"
#include "broker/inherit.h"
#include "common/wire.h"
#include "ended.h"
#include "ids.h"
#include "label.h"
#include "lease.h"
#include "policy/policy.h"

#define SYNC_MS 10000u /* a spawner that has not told its inventory by then is taken for dead */
#define STOP_MS 10000u /* how long an orderly stop waits for the sandboxes */
#define JOIN_MS 2000u  /* postern-start on the rendezvous socket */
#define SESSION_NONE (-1)
#define GROUPS_MAX 65536u /* the kernel's NGROUPS_MAX: no peer can have more */

/* Descriptors the server works with; -1 when there is none. It owns them. */
struct server_fds {
	int listen, spawner, rendezvous, signals, notify;
	int kept[P_COUNT]; /* for a new spawner (broker/inherit.h) */
};

/* One connected client. Phases: NEW (only HELLO), READY (everything else); while an ACQUIRE is pending, nothing. */
struct session {
	int fd;    /* -1: the slot is free */
	int pidfd; /* of the peer, when the kernel has SO_PEERPIDFD; else -1 */
	uid_t uid;
	gid_t gid;
	pid_t pid;
	bool gave;      /* a descriptor was sent to it */
	bool lingering; /* ended, but the peer has not read that: see session_end() */
	struct account *account;
	struct lease *pending; /* its ACQUIRE is with the spawner */
	uint32_t sequence;     /* of the request being answered */
	enum wire_phase phase;
	uint64_t deadline; /* for the first message, the next message, or the launch */
};

/* The spawner's end. READY when it has told all it has (session.phase) and heard all we have (announced). */
struct spawner_link {
	int fd;       /* -1: the spawner is dead */
	bool hung_up; /* nothing can be sent any more; what was sent to us is still to be read */
	struct wire_session session;
	uint32_t expected;    /* S_HAVE still to come */
	uint32_t to_announce; /* S_KNOWN still to be sent */
	uint32_t to_kill;     /* S_KILL still to be sent */
	uint64_t deadline;    /* for both of the first two */
	uint64_t send_again;  /* no sending before this time: too many descriptors are on their way */
	struct wire_spawner_hello facts;
};

enum server_poll { POLL_LISTEN, POLL_SPAWNER, POLL_RENDEZVOUS, POLL_JOIN, POLL_SIGNALS, POLL_SESSIONS };

struct server {
	const struct policy *policy;
	struct host_table host;
	struct server_fds fds;
	struct ids ids;
	struct label_pool *labels;
	struct leases leases;
	struct accounts *accounts;
	struct ended_ring ended;
	struct session *sessions; /* policy->sessions_max of them */
	struct pollfd *polls;     /* POLL_SESSIONS + one for each session */
	struct spawner_link link;
	struct wire_in *in; /* the message being handled */
	gid_t *groups;      /* supplementary groups of the peer being asked about */
	int join;           /* a connection on the rendezvous socket, or -1 */
	uint64_t join_deadline;
	uint64_t accept_again; /* no accept() before this time: descriptors ran out */
	uint64_t sweep_at;     /* when the first ABANDONED lease is due; 0: there is none */
	bool stop_sandboxes;   /* option: an orderly stop ends the sandboxes too */
	bool stopping, finished, announced_ready;
	bool failed; /* finished because the link broke */
	uint64_t stop_deadline;
};

uint64_t now_ns(void); /* CLOCK_MONOTONIC */

/* ---- server.c: start, loop, end ---------------------------------------------------------------------------------- */

/* Allocate every table. policy and labels stay the caller's; the descriptors and ids become the server's.
 * -ENOMEM. lease_capacity: at most LEASES_MAX. */
int server_init(struct server *server, const struct policy *policy, const struct host_table *host, struct label_pool *labels,
		const struct ids *ids, const struct server_fds *fds, size_t lease_capacity);
void server_free(struct server *server);

/* Wait at most timeout_ms (-1: as long as nothing is due) and handle what came. 0, or -errno of poll(). */
int server_step(struct server *server, int timeout_ms);

/* Begin to stop: no new client; with stop_sandboxes end every sandbox first. server.finished says when it is done. */
void server_stop(struct server *server);

/* ---- session.c: clients ------------------------------------------------------------------------------------------ */

void session_accept(struct server *server); /* as many as are waiting, within bounds */
void session_readable(struct server *server, struct session *session);
void session_expired(struct server *server, struct session *session);
void session_end(struct server *server, struct session *session);

/* Whether the other end has not read all that we sent. A descriptor in such a message counts against what our uid may have
 * on its way (RLIMIT_NOFILE), even when our own end is closed: each peer gets one at a time. */
bool unread(int fd);

/* Send a reply; a peer that does not read its replies loses its session. fd: -1, or one that goes along. */
void session_reply(struct server *server, struct session *session, enum wire_op op, const void *msg, int fd);
void session_refuse(struct server *server, struct session *session, enum wire_op op, const struct wire_error *error);

/* Answer and end what waits for lease: with its record and pidfd when error is NULL, else with the error. */
void session_answer_pending(struct server *server, struct lease *lease, const struct wire_error *error);

/* ---- ops.c: one handler for each operation of a client ------------------------------------------------------------ */

/* Handle the request in server->in, allowed in this phase and well formed. -EPROTO and in->why: end the session. */
int op_dispatch(struct server *server, struct session *session);

/* ---- acquire.c: the one operation that makes something -------------------------------------------------------------- */

int op_acquire(struct server *server, struct session *session, struct wire_in *in);

/* Who the peer is, from the kernel; groups are read into server->groups. -EPERM: a uid that stands for nobody (subordinate,
 * and no rule names it); other -errno: it cannot be known. */
int peer_caller(struct server *server, const struct session *session, struct policy_caller *ret);

/* What this host offers right now: host table, what the spawner reported, and the device nodes that matter. */
void host_offer(const struct server *server, bool vhost_net_too, bool vhost_vsock_too, struct policy_host *ret);

/* ---- spawner_link.c ------------------------------------------------------------------------------------------------ */

/* Use fd (ours from now on) as the link and begin the exchange of inventories. */
void link_open(struct server *server, int fd);
bool link_ready(const struct spawner_link *link);
void link_readable(struct server *server);
void link_flush(struct server *server); /* send what waits: S_KNOWN, then S_KILL */
bool link_wants_write(const struct spawner_link *link);
bool link_wants_read(const struct spawner_link *link);

/* The spawner is dead: answer who waits, burn what was starting, keep everything that runs. */
void link_down(struct server *server, const char *why);

/* The spawner lives but cannot be talked to. Two that live are never joined again, so this broker ends: the next one gets
 * all leases from the spawner. */
void link_broken(struct server *server, const char *why);

/* S_START with control end, vhost descriptors, vsock descriptor. 0 or -errno. */
int link_start(struct server *server, const struct wire_start *start, const int *fds, size_t fd_count);

/* Have the lease killed; a repetition does nothing. */
void link_kill(struct server *server, struct lease *lease);

/* Nobody waits for this starting lease any more. link_sweep() forgets those of which the spawner never spoke again. */
void link_abandon(struct server *server, struct lease *lease);
void link_sweep(struct server *server, uint64_t now);

/* ---- rendezvous.c -------------------------------------------------------------------------------------------------- */

void rendezvous_accept(struct server *server);
void rendezvous_readable(struct server *server);
void rendezvous_end(struct server *server);

/* ---- audit.c ------------------------------------------------------------------------------------------------------- */

/* One line for a decision about a client. object: what it was about, or "". record may be NULL. */
void audit_decision(const struct session *session, enum wire_op op, enum wire_error_code code, const char *object,
		    const struct wire_lease *record, const uint8_t uuid[16]);
/* A peer broke the protocol or a bound. account NULL: counted with everybody's. */
void audit_violation(struct server *server, struct account *account, uid_t uid, pid_t pid, const char *why);
/* Something about a lease that no client asked for. */
void audit_lease(const char *event, const struct wire_lease *record, const char *detail);

/* ---- notify.c ------------------------------------------------------------------------------------------------------ */

/* Connect to $NOTIFY_SOCKET. -1 when there is none or it cannot be reached: being started by hand is no error. */
int notify_open(void);
void notify_send(int fd, const char *state); /* fd -1 is fine */
