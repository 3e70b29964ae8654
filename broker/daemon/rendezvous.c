/* SPDX-License-Identifier: Apache-2.0
 * Runs: broker (no privilege). postern-start brings a new spawner: R_JOIN with an end of a fresh socket pair. It gets
 * what the dead one had (broker/inherit.h, enum p_fd): namespaces and directories that give us no power but would cost
 * all the running sandboxes if they were lost. */
#include <errno.h>
#include <poll.h>
#include <sys/socket.h>

#include "common/cleanup.h"
#include "common/log.h"
#include "server.h"

#define MS UINT64_C(1000000)

void rendezvous_accept(struct server *server)
{
	cleanup_fd int fd = accept4(server->fds.rendezvous, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
	struct ucred peer;
	socklen_t len = sizeof(peer);

	if (fd < 0)
		return;
	/* The socket is in a directory that only root may enter; who got here all the same must be root too. */
	if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &len) < 0)
		return;
	if (peer.uid != 0) {
		audit_violation(server, NULL, peer.uid, peer.pid, "rendezvous is for root only");
		return;
	}
	server->join = fd_take(&fd);
	server->join_deadline = now_ns() + JOIN_MS * MS;
}

void rendezvous_end(struct server *server)
{
	fd_close(&server->join);
}

/* A dead spawner's last messages may still be in the queue, and its hang-up behind them: take notice of all of it. */
static void drain_link(struct server *server)
{
	while (link_wants_read(&server->link) && !server->finished) {
		struct pollfd waiting = { .fd = server->link.fd, .events = POLLIN };

		if (poll(&waiting, 1, 0) <= 0)
			return;
		link_readable(server);
	}
}

static void join(struct server *server, int fd, uint32_t sequence)
{
	struct wire_joined joined = { .leases = (uint32_t)server->leases.count };
	int fds[P_COUNT];
	size_t count = 0;

	for (size_t i = 0; i < P_COUNT; i++) {
		if (server->fds.kept[i] < 0)
			continue;
		joined.present |= UINT32_C(1) << i;
		fds[count++] = server->fds.kept[i];
	}
	if (wire_send(server->join, WIRE_OP_R_JOIN, WIRE_REPLY, sequence, &joined, fds, count) < 0) {
		log_error("postern-start asked for a new spawner and did not take the answer");
		fd_close(&fd);
		return;
	}
	log_notice("a new spawner joins; %zu sandboxes are kept", server->leases.count);
	link_open(server, fd);
}

void rendezvous_readable(struct server *server)
{
	const struct wire_session view = { .link = LINK_RENDEZVOUS, .peer = FROM_START, .phase = PHASE_READY };
	const struct wire_error alive = { .code = WIRE_ERR_NOT_ALLOWED, .object = "spawner" };
	struct wire_in *in = server->in;
	int fd, r = wire_recv(server->join, &view, in);
	uint32_t sequence = in->sequence;

	if (r == -EAGAIN)
		return;
	if (r == 1) {
		fd = fd_take(&in->fds[0]);
		drain_link(server);
		if (server->link.fd < 0) {
			join(server, fd, sequence);
		} else {
			/* Two spawners would fight over the same taps and cgroups. */
			log_error("a new spawner was refused: the present one lives; end it first");
			(void)wire_send(server->join, WIRE_OP_R_JOIN, WIRE_ERROR, sequence, &alive, NULL, 0);
			fd_close(&fd);
		}
	}
	rendezvous_end(server);
}
