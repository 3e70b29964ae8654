/* SPDX-License-Identifier: Apache-2.0
 * Runs: spawner (capabilities of P only). A later postern-start brings a new broker when the old one died.
 *
 * Who can connect is decided by the directory of the socket: root's, 0700. Inside P every peer looks the same. */
#include "spawner.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include "common/cleanup.h"
#include "common/log.h"

#define LAST_WORDS_MAX 4096 /* messages in the queue of a dead link */
#define JOIN_WAIT_S 2       /* root's program is at the other end; it writes at once or it is dead */

static bool link_is_dead(const struct spawner *sp)
{
	struct pollfd p = { .fd = sp->link, .events = 0 };

	return sp->link < 0 || (poll(&p, 1, 0) > 0 && (p.revents & (POLLHUP | POLLERR)) != 0);
}

static int answer(const struct spawner *sp, int peer, uint32_t sequence)
{
	struct wire_joined joined = { .leases = sp->live };
	int fds[P_COUNT];
	size_t count = 0;

	for (int i = 0; i < P_COUNT; i++)
		if (sp->p[i] >= 0) {
			joined.present |= 1u << i;
			fds[count++] = sp->p[i];
		}
	return wire_send(peer, WIRE_OP_R_JOIN, WIRE_REPLY, sequence, &joined, fds, count);
}

void rendezvous_event(struct spawner *sp)
{
	const struct wire_session session = { .link = LINK_RENDEZVOUS, .peer = FROM_START, .phase = PHASE_READY };
	const struct timeval wait = { .tv_sec = JOIN_WAIT_S };
	const struct wire_error busy = { .code = WIRE_ERR_STARTING };
	cleanup_fd int peer = accept4(sp->rendezvous, NULL, NULL, SOCK_CLOEXEC);
	static struct wire_in in;
	int r;

	if (peer < 0)
		return;
	(void)setsockopt(peer, SOL_SOCKET, SO_RCVTIMEO, &wait, sizeof(wait));
	r = wire_recv(peer, &session, &in);
	if (r != 1) {
		if (r < 0) /* 0: somebody only looked whether we live */
			log_warn("rendezvous: %s", r == -EPROTO ? in.why : strerror(-r));
		return;
	}
	if (!link_is_dead(sp)) {
		(void)wire_send(peer, WIRE_OP_R_JOIN, WIRE_ERROR, in.sequence, &busy, NULL, 0);
		wire_in_close(&in);
		return;
	}
	r = answer(sp, peer, in.sequence);
	if (r < 0) {
		log_error("rendezvous: the handles of P cannot be handed over: %s", strerror(-r));
		wire_in_close(&in);
		return;
	}
	/* What the dead broker still had to say (a kill) counts; the end comes behind it. */
	for (unsigned n = 0; sp->link >= 0 && n < LAST_WORDS_MAX; n++)
		link_event(sp, EPOLLIN);
	link_end(sp, "replaced");
	link_adopt(sp, fd_take(&in.fds[0]));
	wire_in_close(&in);
	log_notice("a new broker joined; %u sandboxes", sp->live);
}
