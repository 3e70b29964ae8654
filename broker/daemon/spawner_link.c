/* SPDX-License-Identifier: Apache-2.0
 * Runs: broker (no privilege). The spawner: starts, ends, and who still knows what after one of us was restarted.
 *
 * A fresh link begins with both inventories at once (S_HELLO/S_WELCOME with a count, then one message for each lease
 * with its pidfd and keeper). Each adopts what it lacks; a lease both know is skipped. Only then the rest may flow. We do
 * not read on before our own inventory is sent, so that an S_GONE cannot change it under way; the spawner never waits for
 * us meanwhile, because we read its inventory all the time. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "common/cleanup.h"
#include "common/log.h"
#include "server.h"

#define MS UINT64_C(1000000)
#define SEND_PAUSE_NS (50 * MS)

bool link_ready(const struct spawner_link *link)
{
	return link->fd >= 0 && !link->hung_up && link->session.phase == PHASE_READY && link->to_announce == 0;
}

bool link_wants_read(const struct spawner_link *link)
{
	return link->fd >= 0 && (link->hung_up || link->session.phase != PHASE_READY || link->to_announce == 0);
}

bool link_wants_write(const struct spawner_link *link)
{
	return link->fd >= 0 && !link->hung_up && (link->to_announce > 0 || link->to_kill > 0);
}

void link_open(struct server *server, int fd)
{
	struct spawner_link *link = &server->link;
	struct wire_spawner_hello hello = { .version = WIRE_VERSION };

	*link = (struct spawner_link){ .fd = fd,
				       .deadline = now_ns() + SYNC_MS * MS,
				       .session = { .link = LINK_SPAWNER, .peer = FROM_SPAWNER, .phase = PHASE_NEW } };
	for (size_t i = 0; i < server->leases.high; i++) {
		struct lease *lease = &server->leases.table[i];

		lease->announce = lease->state == LEASE_RUNNING || lease->state == LEASE_STOPPING;
		/* The spawner that was told to kill it may have died before it did. */
		lease->kill = lease->state == LEASE_STOPPING;
		link->to_announce += lease->announce;
		link->to_kill += lease->kill;
	}
	hello.count = link->to_announce;
	if (wire_send(fd, WIRE_OP_S_HELLO, WIRE_REQUEST, 0, &hello, NULL, 0) < 0)
		link->hung_up = true;
	else
		link_flush(server);
}

/* Send for one lease what waits for it. 0, -EAGAIN, or that the link is broken. */
static int flush_lease(struct spawner_link *link, struct lease *lease)
{
	const struct wire_lease_id id = { .id = lease->id };
	int r;

	if (lease->announce) {
		r = wire_send(link->fd, WIRE_OP_S_KNOWN, WIRE_REQUEST, 0, lease->record,
			      (int[]){ lease->pidfd, lease->keeper }, 2);
		if (r < 0)
			return r;
		lease->announce = false;
		link->to_announce--;
	}
	/* A kill is only understood once the spawner has all the inventory. */
	if (lease->kill && link->to_announce == 0) {
		r = wire_send(link->fd, WIRE_OP_S_KILL, WIRE_REQUEST, 0, &id, NULL, 0);
		if (r < 0)
			return r;
		lease->kill = false;
		link->to_kill--;
	}
	return 0;
}

void link_flush(struct server *server)
{
	struct spawner_link *link = &server->link;
	bool announcing = link->to_announce > 0;

	for (size_t i = 0; i < server->leases.high && link_wants_write(link); i++) {
		int r = flush_lease(link, &server->leases.table[i]);

		if (r == -EAGAIN)
			return;           /* poll() says when there is room */
		if (r == -ETOOMANYREFS) { /* that poll() does not know: it is the count of all that our uid has sent */
			link->send_again = now_ns() + SEND_PAUSE_NS;
			return;
		}
		if (r < 0) {
			/* Dead; but it may have started something before, and its last words are still in the queue. */
			link->hung_up = true;
			return;
		}
	}
	/* The kills of the leases that came before the last announcement. */
	if (announcing && link_wants_write(link))
		link_flush(server);
}

int link_start(struct server *server, const struct wire_start *start, const int *fds, size_t fd_count)
{
	return wire_send(server->link.fd, WIRE_OP_S_START, WIRE_REQUEST, 0, start, fds, fd_count);
}

void link_kill(struct server *server, struct lease *lease)
{
	if (lease->state != LEASE_RUNNING)
		return;
	lease->state = LEASE_STOPPING;
	lease->kill = true;
	server->link.to_kill++;
	if (link_ready(&server->link))
		link_flush(server);
}

static void leave(struct server *server, struct lease *lease, bool burn, bool unclean)
{
	uint64_t now = now_ns();

	ids_rest(&server->ids, lease->uid, burn, now);
	server->link.to_kill -= lease->kill;
	lease_leave(&server->leases, server->accounts, server->labels, lease, unclean, now);
}

void link_abandon(struct server *server, struct lease *lease)
{
	lease->state = LEASE_ABANDONED;
	lease->session = SESSION_NONE;
	lease->deadline = now_ns() + server->policy->launch_ms * MS;
	if (server->sweep_at == 0)
		server->sweep_at = lease->deadline; /* deadlines come in order: all are the same time ahead */
}

void link_sweep(struct server *server, uint64_t now)
{
	if (server->sweep_at == 0 || now < server->sweep_at)
		return;
	server->sweep_at = 0;
	for (size_t i = 0; i < server->leases.high; i++) {
		struct lease *lease = &server->leases.table[i];

		if (lease->state != LEASE_ABANDONED)
			continue;
		if (lease->deadline > now) {
			if (server->sweep_at == 0 || lease->deadline < server->sweep_at)
				server->sweep_at = lease->deadline;
			continue;
		}
		/* Should it come up after all, on_started() has it killed; its uid and label are nobody's by then. */
		audit_lease("LOST", lease->record, "the spawner never said what became of it");
		leave(server, lease, true, true);
	}
}

void link_down(struct server *server, const char *why)
{
	const struct wire_error error = { .code = WIRE_ERR_SPAWNER_DOWN };

	log_error("the spawner is gone (%s): nothing new can start; run postern-start again, running sandboxes are kept",
		  why);
	fd_close(&server->link.fd);
	server->link.to_kill = server->link.to_announce = 0;
	for (size_t i = 0; i < server->leases.high; i++) {
		struct lease *lease = &server->leases.table[i];

		lease->kill = lease->announce = false; /* link_open() finds out again */
		if (lease->state == LEASE_STARTING)
			session_answer_pending(server, lease, &error);
		/* Its child is not released without a record sent to us, so it ends when the spawner's end of its keeper
		 * closes. Maps may have been written: the id is burnt, and so is the label. */
		if (lease->state == LEASE_ABANDONED)
			leave(server, lease, true, true);
	}
}

void link_broken(struct server *server, const char *why)
{
	const struct wire_error error = { .code = WIRE_ERR_SPAWNER_DOWN };

	log_error("the spawner cannot be talked to (%s): ending; run postern-start again, running sandboxes are kept", why);
	for (size_t i = 0; i < server->leases.high; i++)
		if (server->leases.table[i].state == LEASE_STARTING)
			session_answer_pending(server, &server->leases.table[i], &error);
	server->finished = server->failed = true;
}

/* Everything that never changes is ours already; take only what the spawner found out. */
static void complete(struct lease *lease, const struct wire_lease *from)
{
	struct wire_lease *record = lease->record;

	record->init_pid = from->init_pid;
	record->landlock_abi = from->landlock_abi;
	memcpy(record->cgroup, from->cgroup, sizeof(record->cgroup));
	record->grants[WIRE_GRANT_KVM] = from->grants[WIRE_GRANT_KVM];
	record->grants[WIRE_GRANT_TAP] = from->grants[WIRE_GRANT_TAP];
	record->grants[WIRE_GRANT_CGROUP] = from->grants[WIRE_GRANT_CGROUP];
	record->grants[WIRE_GRANT_LANDLOCK] = from->grants[WIRE_GRANT_LANDLOCK];
	record->grants[WIRE_GRANT_PORT_FILTER] = from->grants[WIRE_GRANT_PORT_FILTER];
	for (size_t i = 0; i < record->nic_count; i++)
		record->nics[i].ifindex = from->nics[i].ifindex;
}

static void take_fds(struct lease *lease, struct wire_in *in)
{
	lease->pidfd = fd_take(&in->fds[0]);
	lease->keeper = fd_take(&in->fds[1]);
}

static void on_started(struct server *server, struct wire_in *in)
{
	struct lease *lease = lease_by_id(&server->leases, in->msg.lease.id);

	if (lease == NULL || (lease->state != LEASE_STARTING && lease->state != LEASE_ABANDONED)) {
		const struct wire_lease_id id = { .id = in->msg.lease.id };

		log_error("the spawner started lease %llu that nobody asked for: killing it", (unsigned long long)id.id);
		if (lease == NULL && id.id != 0)
			(void)wire_send(server->link.fd, WIRE_OP_S_KILL, WIRE_REQUEST, 0, &id, NULL, 0);
		return;
	}
	complete(lease, &in->msg.lease);
	take_fds(lease, in);
	if (lease->state == LEASE_ABANDONED) {
		lease->state = LEASE_RUNNING;
		audit_lease("ABANDONED", lease->record, "nobody waits for it any more");
		link_kill(server, lease);
		return;
	}
	lease->state = LEASE_RUNNING;
	session_answer_pending(server, lease, NULL);
}

static void on_failed(struct server *server, const struct wire_step_failed *failed)
{
	struct lease *lease = lease_by_id(&server->leases, failed->id);
	struct wire_error error = { .code = WIRE_ERR_STEP_FAILED, .step = failed->step, .number = failed->error };
	char detail[128];

	if (lease == NULL || (lease->state != LEASE_STARTING && lease->state != LEASE_ABANDONED)) {
		log_error("the spawner failed to start lease %llu that is not starting", (unsigned long long)failed->id);
		return;
	}
	(void)snprintf(detail, sizeof(detail), "%s: %s", wire_step_text(failed->step), strerrordesc_np((int)failed->error));
	audit_lease("FAILED", lease->record, detail);
	if (lease->state == LEASE_STARTING)
		session_answer_pending(server, lease, &error);
	leave(server, lease, failed->burn != 0, false);
}

static const char *const oom_texts[] = {
	[WIRE_OOM_NONE] = "",
	[WIRE_OOM_LIMIT] = " oom=limit",
	[WIRE_OOM_HOST] = " oom=host",
};

static void on_gone(struct server *server, const struct wire_gone *gone)
{
	const struct wire_error error = { .code = WIRE_ERR_INTERNAL };
	struct lease *lease = lease_by_id(&server->leases, gone->id);
	char detail[64];

	if (lease == NULL) /* ended between two inventories: both said so */
		return;
	(void)snprintf(detail, sizeof(detail), "%s status=%u memory_mib=%u%s", gone->clean ? "clean" : "unclean",
		       gone->status, lease->record->limits[0].memory_mib, oom_texts[gone->oom]);
	audit_lease("GONE", lease->record, detail);
	ended_add(&server->ended, lease->record, gone);
	if (lease->state == LEASE_STARTING)
		session_answer_pending(server, lease, &error);
	/* Unclean: something may be left that carries its uid and label. Neither is given to anybody else. */
	leave(server, lease, gone->clean == 0, gone->clean == 0);
}

/* What this host lacks, or has only in part: each once, by name, where an administrator looks first. */
static void log_missing(const struct server *server)
{
	struct policy_host host;

	host_offer(server, true, true, &host);
	for (unsigned i = 0; i < WIRE_GRANT_COUNT; i++) {
		unsigned outcome = host.outcomes[i];
		bool partly = outcome == WIRE_BY_PARTIAL || outcome == WIRE_BY_BY_CGROUP1 || outcome == WIRE_BY_BY_RLIMIT;

		if (outcome != WIRE_BY_NOT_ASKED && (partly || !wire_outcome_ok(outcome)))
			log_notice("this host: %s: %s", wire_grant_name(i), wire_outcome_text(outcome));
	}
}

static void on_welcome(struct server *server, const struct wire_spawner_hello *hello)
{
	struct spawner_link *link = &server->link;

	if (hello->version != WIRE_VERSION) {
		link_broken(server, "it speaks another version of the protocol");
		return;
	}
	link->facts = *hello;
	log_missing(server);
	link->expected = hello->count;
	link->session.phase = hello->count > 0 ? PHASE_SYNC : PHASE_READY;
}

/* A lease that the spawner kept. Known: nothing to do. Unknown: an earlier broker gave it; ours from now on. */
static void on_have(struct server *server, struct wire_in *in)
{
	const struct wire_lease *record = &in->msg.lease;
	struct spawner_link *link = &server->link;
	struct lease *lease;

	if (--link->expected == 0)
		link->session.phase = PHASE_READY;
	if (record->id == 0 || lease_by_id(&server->leases, record->id) != NULL)
		return;
	lease = lease_slot(&server->leases);
	if (lease == NULL || ids_saw(&server->ids, record->id) < 0) {
		/* It runs on, and the spawner cleans up behind it; we only cannot list it. */
		log_error("no room for lease %llu that the spawner kept", (unsigned long long)record->id);
		ids_rest(&server->ids, record->uid, true, now_ns()); /* nobody else may get what it has */
		(void)label_adopt(server->labels, record->label);
		return;
	}
	*lease->record = *record;
	take_fds(lease, in);
	lease->pair = label_adopt(server->labels, record->label);
	lease_enter(&server->leases, server->accounts, lease, LEASE_RUNNING, now_ns());
	audit_lease("ADOPTED", record, "known to the spawner");
}

void link_readable(struct server *server)
{
	struct spawner_link *link = &server->link;
	struct wire_in *in = server->in;
	int r = wire_recv(link->fd, &link->session, in);

	if (r == -EAGAIN)
		return;
	if (r == 0 || r == -EPIPE) {
		link_down(server, "it hung up");
		return;
	}
	if (r < 0) {
		link_broken(server, r == -EPROTO ? in->why : strerror(-r));
		return;
	}
	/* wire_decode() lets only the spawner's operations through. */
	if (in->op == WIRE_OP_S_WELCOME)
		on_welcome(server, &in->msg.spawner_hello);
	else if (in->op == WIRE_OP_S_HAVE)
		on_have(server, in);
	else if (in->op == WIRE_OP_S_STARTED)
		on_started(server, in);
	else if (in->op == WIRE_OP_S_FAILED)
		on_failed(server, &in->msg.step_failed);
	else if (in->op == WIRE_OP_S_GONE)
		on_gone(server, &in->msg.gone);
	wire_in_close(in);
}
