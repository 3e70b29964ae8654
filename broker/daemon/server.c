/* SPDX-License-Identifier: Apache-2.0
 * Runs: broker (no privilege). The loop. */
#include "server.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <time.h>

#include "common/cleanup.h"
#include "common/log.h"

#define MS UINT64_C(1000000)

uint64_t now_ns(void)
{
	struct timespec ts;

	(void)clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * UINT64_C(1000000000) + (uint64_t)ts.tv_nsec;
}

int server_init(struct server *server, const struct policy *policy, const struct host_table *host, struct label_pool *labels,
		const struct ids *ids, const struct server_fds *fds, size_t lease_capacity)
{
	memset(server, 0, sizeof(*server));
	server->policy = policy;
	server->host = *host;
	server->labels = labels;
	server->ids = *ids;
	server->fds = *fds;
	server->join = -1;
	server->link.fd = -1;
	server->accounts = calloc(1, sizeof(*server->accounts));
	server->sessions = calloc(policy->sessions_max, sizeof(*server->sessions));
	server->polls = calloc(POLL_SESSIONS + (size_t)policy->sessions_max, sizeof(*server->polls));
	server->in = calloc(1, sizeof(*server->in));
	server->groups = calloc(GROUPS_MAX, sizeof(*server->groups));
	for (size_t i = 0; server->sessions != NULL && i < policy->sessions_max; i++)
		server->sessions[i].fd = server->sessions[i].pidfd = -1;
	if (leases_init(&server->leases, lease_capacity) < 0 || server->accounts == NULL || server->sessions == NULL ||
	    server->polls == NULL || server->in == NULL || server->groups == NULL) {
		server_free(server);
		return -ENOMEM;
	}
	account_reset(&server->accounts->all, (uid_t)-1, now_ns());
	/* accept() is called until there is nobody left, which must not block. */
	if (fds->listen >= 0 && fcntl(fds->listen, F_SETFL, O_NONBLOCK) < 0) {
		int saved = -errno;

		server_free(server);
		return saved;
	}
	if (fds->spawner >= 0)
		link_open(server, fd_take(&server->fds.spawner));
	return 0;
}

void server_free(struct server *server)
{
	for (size_t i = 0; server->sessions != NULL && i < server->policy->sessions_max; i++) {
		fd_close(&server->sessions[i].fd);
		fd_close(&server->sessions[i].pidfd);
	}
	leases_free(&server->leases);
	ids_close(&server->ids);
	fd_close(&server->join);
	fd_close(&server->link.fd);
	fd_close(&server->fds.listen);
	fd_close(&server->fds.spawner);
	fd_close(&server->fds.rendezvous);
	fd_close(&server->fds.signals);
	fd_close(&server->fds.notify);
	for (size_t i = 0; i < P_COUNT; i++)
		fd_close(&server->fds.kept[i]);
	free(server->accounts);
	free(server->sessions);
	free(server->polls);
	free(server->in);
	free(server->groups);
}

static void watch(struct server *server, size_t i, int fd, short events)
{
	server->polls[i] = (struct pollfd){ .fd = events != 0 ? fd : -1, .events = events };
}

static void earlier(uint64_t *deadline, uint64_t other)
{
	if (other != 0 && other < *deadline)
		*deadline = other;
}

/* Fill the poll table; the time of the next thing that is due. */
static uint64_t prepare(struct server *server, uint64_t now)
{
	const struct spawner_link *link = &server->link;
	/* No client before the spawner's first word: it would only hear SPAWNER_DOWN from a broker that is starting. */
	bool accepting = !server->stopping && server->announced_ready && now >= server->accept_again;
	uint64_t due = UINT64_MAX;

	watch(server, POLL_LISTEN, server->fds.listen, accepting ? POLLIN : 0);
	watch(server, POLL_SPAWNER, link->fd,
	      (short)((link_wants_read(link) ? POLLIN : 0) |
		      (link_wants_write(link) && now >= link->send_again ? POLLOUT : 0)));
	if (link_wants_write(link) && now < link->send_again)
		earlier(&due, link->send_again);
	watch(server, POLL_RENDEZVOUS, server->fds.rendezvous, server->join < 0 && !server->stopping ? POLLIN : 0);
	watch(server, POLL_JOIN, server->join, POLLIN);
	watch(server, POLL_SIGNALS, server->fds.signals, POLLIN);
	if (now < server->accept_again)
		earlier(&due, server->accept_again);
	if (link->fd >= 0 && !link->hung_up && !link_ready(link))
		earlier(&due, link->deadline);
	if (server->join >= 0)
		earlier(&due, server->join_deadline);
	if (server->stopping)
		earlier(&due, server->stop_deadline);
	earlier(&due, server->sweep_at);
	for (size_t i = 0; i < server->policy->sessions_max; i++) {
		watch(server, POLL_SESSIONS + i, server->sessions[i].fd, server->sessions[i].lingering ? 0 : POLLIN);
		if (server->sessions[i].fd >= 0)
			earlier(&due, server->sessions[i].deadline);
	}
	return due;
}

static void expire(struct server *server, uint64_t now)
{
	if (server->link.fd >= 0 && !server->link.hung_up && !link_ready(&server->link) && now >= server->link.deadline)
		link_broken(server, "no complete inventory in time");
	if (server->join >= 0 && now >= server->join_deadline)
		rendezvous_end(server);
	for (size_t i = 0; i < server->policy->sessions_max; i++)
		if (server->sessions[i].fd >= 0 && now >= server->sessions[i].deadline)
			session_expired(server, &server->sessions[i]);
	link_sweep(server, now);
}

static void signal_readable(struct server *server)
{
	struct signalfd_siginfo info;

	if (read(server->fds.signals, &info, sizeof(info)) == (ssize_t)sizeof(info)) {
		log_notice("signal %u: stopping", info.ssi_signo);
		server_stop(server);
	}
}

/* Done stopping: nothing was to be ended, all of it has ended, nobody is left who could, or time is up. */
static void check_stop(struct server *server)
{
	size_t left = server->stop_sandboxes ? server->leases.count : 0;

	if (!server->stopping || server->finished)
		return;
	if (left > 0 && server->link.fd >= 0 && now_ns() < server->stop_deadline)
		return;
	if (left > 0)
		log_error("%zu sandboxes are left behind; the next postern-start ends them", left);
	/* Only after everything is gone: a spawner that exits earlier would leave taps and cgroups to the next start. */
	if (server->stop_sandboxes && server->link.fd >= 0)
		(void)wire_send(server->link.fd, WIRE_OP_S_SHUTDOWN, WIRE_REQUEST, 0, NULL, NULL, 0);
	server->finished = true;
}

int server_step(struct server *server, int timeout_ms)
{
	uint64_t now = now_ns(), due = prepare(server, now);
	struct pollfd *polls = server->polls;
	int wait = timeout_ms;

	if (due != UINT64_MAX) {
		uint64_t left = due > now ? (due - now + MS - 1) / MS : 0;

		if (wait < 0 || left < (uint64_t)wait)
			wait = left > INT_MAX ? INT_MAX : (int)left;
	}
	if (poll(polls, POLL_SESSIONS + (nfds_t)server->policy->sessions_max, wait) < 0)
		return errno == EINTR ? 0 : -errno;
	/* The spawner before the clients: what it reports decides what they hear. */
	if (polls[POLL_SPAWNER].revents & POLLOUT)
		link_flush(server);
	if ((polls[POLL_SPAWNER].revents & (POLLIN | POLLHUP | POLLERR)) != 0 && link_wants_read(&server->link))
		link_readable(server);
	for (size_t i = 0; i < server->policy->sessions_max; i++) {
		struct session *session = &server->sessions[i];

		/* A slot that was ended and taken again within this turn has another descriptor, or an event to come. */
		if (polls[POLL_SESSIONS + i].revents != 0 && session->fd == polls[POLL_SESSIONS + i].fd)
			session_readable(server, session);
	}
	if (polls[POLL_LISTEN].revents != 0)
		session_accept(server);
	if (polls[POLL_JOIN].revents != 0)
		rendezvous_readable(server);
	if (polls[POLL_RENDEZVOUS].revents != 0)
		rendezvous_accept(server);
	if (polls[POLL_SIGNALS].revents != 0)
		signal_readable(server);
	expire(server, now_ns());
	if (!server->announced_ready && link_ready(&server->link)) {
		server->announced_ready = true;
		notify_send(server->fds.notify, "READY=1");
		log_info("ready: %zu sandboxes are running", server->leases.count);
	}
	check_stop(server);
	return 0;
}

void server_stop(struct server *server)
{
	const struct wire_error stopping = { .code = WIRE_ERR_STOPPING };

	if (server->stopping)
		return;
	server->stopping = true;
	server->stop_deadline = now_ns() + STOP_MS * MS;
	notify_send(server->fds.notify, "STOPPING=1");
	for (size_t i = 0; i < server->leases.high; i++) {
		struct lease *lease = &server->leases.table[i];

		/* Whoever still waits is told; without us nobody could hand him his lease. */
		if (lease->state == LEASE_STARTING)
			session_answer_pending(server, lease, &stopping);
		else if (server->stop_sandboxes && lease->state == LEASE_RUNNING)
			link_kill(server, lease);
	}
}
