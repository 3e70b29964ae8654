/* SPDX-License-Identifier: Apache-2.0
 * Runs: start (root, for a moment). Broker and spawner of an earlier start: who lives, and how a new half joins. */
#include "start.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include "common/cleanup.h"
#include "common/log.h"
#include "label.h"

#define ANSWER_WAIT_S 5

static const char *const names[] = { [SURVIVOR_BROKER] = "broker.sock", [SURVIVOR_SPAWNER] = "spawner.sock" };

/* Only the daemon itself holds the listening end, so a connection means that it lives. */
static int reach(const struct start *s, enum survivor who)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	const struct timeval wait = { .tv_sec = ANSWER_WAIT_S };
	cleanup_fd int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);

	if (fd < 0)
		return -errno;
	(void)snprintf(address.sun_path, sizeof(address.sun_path), "/proc/self/fd/%d/%s", s->private_dir, names[who]);
	(void)setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &wait, sizeof(wait));
	(void)setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &wait, sizeof(wait));
	if (connect(fd, (const struct sockaddr *)&address, sizeof(address)) < 0)
		return -errno;
	return fd_take(&fd);
}

/* Dead is only who left no socket, or one that nobody listens at. A full backlog is somebody alive, too; anything else
 * (no descriptor, no memory) says nothing about the daemon, and to take a living one for dead would end its sandboxes. */
int survivor_alive(const struct start *s, enum survivor who, bool *ret_alive)
{
	cleanup_fd int fd = reach(s, who);

	if (fd < 0 && fd != -EAGAIN && fd != -ENOENT && fd != -ECONNREFUSED) {
		log_error("%s/private/%s: cannot tell whether its daemon lives: %s", s->options.runtime, names[who],
			  strerror(-fd));
		return fd;
	}
	*ret_alive = fd >= 0 || fd == -EAGAIN;
	return 0;
}

static int take_table(struct start *s)
{
	struct spawn_table *running = &(struct spawn_table){ 0 };
	ssize_t n = pread(s->p[P_TABLE], running, sizeof(*running), 0);
	int r;

	if (n < 0 || (size_t)n != sizeof(*running))
		running->size = 0;
	r = table_same(running, &s->table);
	if (r < 0)
		return r;
	s->table = *running;
	return 0;
}

/* The other half's label: its user and role are those of every init and VMM to come, and none of them may change user or
 * role. A half of another one would find each launch refused, so it is refused itself. The socket has start's own label. */
static int same_label(const struct start *s, enum survivor who, int fd)
{
	char label[LABEL_TEXT_MAX] = "";
	socklen_t size = sizeof(label) - 1;

	if (!label_wanted(s))
		return 0;
	if (getsockopt(fd, SOL_SOCKET, SO_PEERSEC, label, &size) < 0)
		return -errno;
	if (strcmp(label, s->label) == 0)
		return 0;
	log_error("%s: it was started as %s, and this is %s: start both halves in the same way, through the service manager "
		  "or from root's shell",
		  names[who], label, s->label);
	return -EPERM;
}

int survivor_join(struct start *s, enum survivor who)
{
	const struct wire_session session = { .link = LINK_RENDEZVOUS,
					      .peer = who == SURVIVOR_BROKER ? FROM_BROKER : FROM_SPAWNER,
					      .phase = PHASE_READY,
					      .replies = true };
	const struct wire_empty nothing = {};
	cleanup_fd int fd = reach(s, who);
	static struct wire_in in; /* 35 KB */
	size_t next = 0;
	int r;

	r = fd < 0 ? fd : same_label(s, who, fd);
	if (r == -EPERM)
		return r;
	if (r == 0)
		r = wire_send(fd, WIRE_OP_R_JOIN, WIRE_REQUEST, 1, &nothing, &s->link[who == SURVIVOR_BROKER ? 0 : 1], 1);
	if (r == 0)
		r = wire_recv(fd, &session, &in);
	if (r == 1 && in.kind != WIRE_REPLY) {
		wire_in_close(&in);
		return -EALREADY;
	}
	if (r != 1) {
		log_error("%s lives but does not take a new partner: %s", names[who],
			  r == -EPROTO ? in.why
			  : r < 0      ? strerror(-r)
				       : "it hung up");
		return -EBUSY;
	}
	/* P_INIT is ours: a program that was updated is used from now on. */
	for (int i = 0; i < P_COUNT; i++)
		if ((in.msg.joined.present & 1u << i) != 0) {
			if (i != P_INIT) {
				fd_close(&s->p[i]); /* of the other one, when both are joined */
				s->p[i] = fd_take(&in.fds[next]);
			}
			next++;
		}
	log_notice("%s lives and keeps %u sandboxes", names[who], in.msg.joined.leases);
	wire_in_close(&in);
	for (int i = P_USERNS; i <= P_PRIVATE; i++)
		if (s->p[i] < 0) {
			log_error("%s does not have all of P", names[who]);
			return -EBADF;
		}
	return take_table(s);
}
