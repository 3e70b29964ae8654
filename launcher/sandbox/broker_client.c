/* SPDX-License-Identifier: Apache-2.0
 * Runs: controller and CLI (the user). One request, one reply; anything else on the socket ends the session. */
#include "broker_client.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>

#include "broker_errors.h"
#include "common/cleanup.h"

#define CONNECT_MS 3000 /* a broker with a full backlog */
#define ROUND_TRIP_MS 5000
#define LAUNCH_MS 60000 /* longer than any policy's launch_ms should be: the broker's own timeout comes first */
#define BACKLOG_PAUSE_MS 20

struct broker {
	int fd;
	uint32_t sequence;
	bool broken; /* a protocol error or a timeout: an answer might come late and be taken for another */
	char path[sizeof(((struct sockaddr_un *)0)->sun_path)];
};

static int64_t now_ms(void)
{
	struct timespec ts = { 0 };

	(void)clock_gettime(CLOCK_MONOTONIC, &ts);
	return (int64_t)ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

static int give_up(struct broker *broker, int error, struct broker_failure *ret_failure)
{
	broker->broken = true;
	broker_unreachable(broker->path, -error, ret_failure);
	return error;
}

static int wait_readable(int fd, int64_t deadline)
{
	for (;;) {
		struct pollfd pfd = { .fd = fd, .events = POLLIN };
		int64_t left = deadline - now_ms();
		int r = poll(&pfd, 1, left > 0 ? (int)left : 0);

		if (r > 0)
			return 0;
		if (r == 0)
			return -ETIMEDOUT;
		if (errno != EINTR)
			return -errno;
	}
}

/* Send a request and wait for its reply. *in is filled on success; its descriptors are then the caller's. */
static int round_trip(struct broker *broker, enum wire_op op, const void *msg, int fd, int timeout_ms, struct wire_in *in,
		      struct broker_failure *ret_failure)
{
	static const struct wire_session session = {
		.link = LINK_CLIENT, .peer = FROM_BROKER, .phase = PHASE_READY, .replies = true
	};
	int64_t deadline = now_ms() + timeout_ms;
	int r;

	if (broker->broken)
		return give_up(broker, -EPIPE, ret_failure);
	r = wire_send(broker->fd, op, WIRE_REQUEST, ++broker->sequence, msg, &fd, fd >= 0 ? 1 : 0);
	if (r == -EINVAL) { /* a field out of range: a caller that did not check what the user typed */
		*ret_failure = (struct broker_failure){ WIRE_ERR_INTERNAL, EXIT_USAGE,
							"a value is outside what the broker accepts" };
		return r;
	}
	/* The broker may have said why before it closed: read before giving up. */
	if (r < 0 && r != -EPIPE)
		return give_up(broker, r, ret_failure);
	r = wait_readable(broker->fd, deadline);
	if (r == 0) {
		r = wire_recv(broker->fd, &session, in);
		r = r == 0 ? -EPIPE : r == 1 ? 0 : r;
	}
	if (r < 0)
		return give_up(broker, r, ret_failure);
	/* The broker sends some errors unasked (too many sessions, stopping): they carry no sequence of ours. */
	if (in->kind == WIRE_ERROR) {
		broker->broken = in->sequence != broker->sequence;
		broker_explain(&in->msg.error, ret_failure);
		return -EREMOTEIO;
	}
	if (in->op != op || in->sequence != broker->sequence) {
		wire_in_close(in);
		return give_up(broker, -EPROTO, ret_failure);
	}
	return 0;
}

/* A non-blocking connect to a unix socket answers EAGAIN while the backlog is full; there is nothing to poll for. */
static int connect_to(const char *path, int fd)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	const struct timespec pause = { .tv_nsec = BACKLOG_PAUSE_MS * 1000000L };
	int64_t deadline = now_ms() + CONNECT_MS;

	if (strlen(path) >= sizeof(address.sun_path))
		return -ENAMETOOLONG;
	(void)memcpy(address.sun_path, path, strlen(path) + 1);
	while (connect(fd, (const struct sockaddr *)&address, sizeof(address)) < 0) {
		if (errno != EAGAIN && errno != EINTR)
			return errno == EPROTOTYPE ? -EPROTO : -errno;
		if (now_ms() >= deadline)
			return -ETIMEDOUT;
		(void)nanosleep(&pause, NULL);
	}
	return 0;
}

int broker_connect(const char *path, struct broker **ret, struct broker_failure *ret_failure)
{
	const struct wire_hello hello = { .version = WIRE_VERSION };
	const char *chosen = path != NULL ? path : getenv("POSTERN_SOCKET");
	struct broker *broker = calloc(1, sizeof(*broker));
	struct wire_in in = { .fd_count = 0 };
	int r = 0;

	if (chosen == NULL || chosen[0] == '\0')
		chosen = BROKER_SOCKET_DEFAULT;
	if (broker == NULL) {
		broker_unreachable(chosen, ENOMEM, ret_failure);
		return -ENOMEM;
	}
	(void)snprintf(broker->path, sizeof(broker->path), "%s", chosen);
	broker->fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	r = broker->fd < 0 ? -errno : connect_to(chosen, broker->fd);
	if (r < 0)
		broker_unreachable(chosen, -r, ret_failure);
	else
		r = round_trip(broker, WIRE_OP_HELLO, &hello, -1, ROUND_TRIP_MS, &in, ret_failure);
	if (r == 0 && in.msg.hello_reply.version != WIRE_VERSION) {
		const struct wire_error version = { .code = WIRE_ERR_VERSION };

		broker_explain(&version, ret_failure);
		r = -EPROTONOSUPPORT;
	}
	if (r < 0) {
		broker_close(broker);
		return r;
	}
	*ret = broker;
	return 0;
}

void broker_close(struct broker *broker)
{
	if (broker == NULL)
		return;
	fd_close(&broker->fd);
	free(broker);
}

/* Requests whose reply is one struct and no descriptor. */
static int ask(struct broker *broker, enum wire_op op, const void *msg, void *ret, size_t size,
	       struct broker_failure *ret_failure)
{
	struct wire_in in = { .fd_count = 0 };
	int r = round_trip(broker, op, msg, -1, ROUND_TRIP_MS, &in, ret_failure);

	if (r == 0 && size > 0)
		(void)memcpy(ret, &in.msg, size); /* every member of the union begins where the union does */
	return r;
}

static int ask_by_name(struct broker *broker, enum wire_op op, enum wire_error_code unknown, const char *name, void *ret,
		       size_t size, struct broker_failure *ret_failure)
{
	struct wire_name msg = { 0 };

	/* A name that could not be in a policy: say so as the broker would, with as much of it as fits. */
	if (wire_set_chars(msg.name, sizeof(msg.name), name) < 0 || !wire_name_ok(msg.name, sizeof(msg.name))) {
		const struct wire_error error = { .code = unknown, .object = "?" };

		broker_explain(&error, ret_failure);
		return -EREMOTEIO;
	}
	return ask(broker, op, &msg, ret, size, ret_failure);
}

int broker_host(struct broker *broker, struct wire_host_reply *ret, struct broker_failure *ret_failure)
{
	const struct wire_empty empty = {};

	return ask(broker, WIRE_OP_HOST, &empty, ret, sizeof(*ret), ret_failure);
}

int broker_hypervisor(struct broker *broker, const char *name, struct wire_hypervisor_reply *ret,
		      struct broker_failure *ret_failure)
{
	return ask_by_name(broker, WIRE_OP_HYPERVISOR, WIRE_ERR_HYPERVISOR_UNKNOWN, name, ret, sizeof(*ret), ret_failure);
}

int broker_network(struct broker *broker, const char *name, struct wire_network_reply *ret,
		   struct broker_failure *ret_failure)
{
	return ask_by_name(broker, WIRE_OP_NETWORK, WIRE_ERR_NETWORK_UNKNOWN, name, ret, sizeof(*ret), ret_failure);
}

/* Requests that give a control socket end and get a lease and a pidfd. */
static int ask_lease(struct broker *broker, enum wire_op op, const void *msg, int control, struct wire_lease *ret,
		     int *ret_pidfd, struct broker_failure *ret_failure)
{
	struct wire_in in = { .fd_count = 0 };
	int r = round_trip(broker, op, msg, control, LAUNCH_MS, &in, ret_failure);

	if (r < 0)
		return r;
	*ret = in.msg.lease;
	*ret_pidfd = in.fds[0]; /* the decoder has counted: exactly one */
	return 0;
}

int broker_acquire(struct broker *broker, const struct wire_acquire *ask, int control, struct wire_lease *ret,
		   int *ret_pidfd, struct broker_failure *ret_failure)
{
	return ask_lease(broker, WIRE_OP_ACQUIRE, ask, control, ret, ret_pidfd, ret_failure);
}

int broker_attach(struct broker *broker, const uint8_t uuid[16], int control, struct wire_lease *ret, int *ret_pidfd,
		  struct broker_failure *ret_failure)
{
	struct wire_uuid msg;

	(void)memcpy(msg.uuid, uuid, sizeof(msg.uuid));
	return ask_lease(broker, WIRE_OP_ATTACH, &msg, control, ret, ret_pidfd, ret_failure);
}

int broker_next(struct broker *broker, uint64_t after, struct wire_lease *ret, struct broker_failure *ret_failure)
{
	const struct wire_cursor msg = { .after = after };
	int r = ask(broker, WIRE_OP_NEXT, &msg, ret, sizeof(*ret), ret_failure);

	return r == -EREMOTEIO && ret_failure->code == WIRE_ERR_NOT_FOUND ? -ENOENT : r;
}

int broker_ended(struct broker *broker, const uint8_t uuid[16], struct wire_ended *ret, struct broker_failure *ret_failure)
{
	struct wire_uuid msg;
	int r;

	(void)memcpy(msg.uuid, uuid, sizeof(msg.uuid));
	r = ask(broker, WIRE_OP_ENDED, &msg, ret, sizeof(*ret), ret_failure);
	return r == -EREMOTEIO && ret_failure->code == WIRE_ERR_NOT_FOUND ? -ENOENT : r;
}

int broker_kill(struct broker *broker, const uint8_t uuid[16], struct broker_failure *ret_failure)
{
	struct wire_uuid msg;

	(void)memcpy(msg.uuid, uuid, sizeof(msg.uuid));
	return ask(broker, WIRE_OP_KILL, &msg, NULL, 0, ret_failure);
}
