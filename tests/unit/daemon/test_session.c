/* SPDX-License-Identifier: Apache-2.0
 * Runs: tests. Hostile clients: whatever they send, only their own session ends, and no descriptor is left (ATTACKS D26,
 * D28, D35; KERNEL 3 rows 3, 7, 15, 17). */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/fdpass.h"
#include "fixture.h"

static int open_room(void **state)
{
	struct fixture *fx = calloc(1, sizeof(*fx));

	fixture_open(fx);
	*state = fx;
	return 0;
}

static int close_room(void **state)
{
	struct fixture *fx = *state;

	fixture_close(fx);
	free(fx);
	return 0;
}

/* Another client is served while and after something was done to the broker. */
static void assert_served(struct fixture *fx)
{
	int fd = client_open(fx);

	client_send(fd, WIRE_OP_HOST, NULL, NULL, 0);
	assert_int_equal(client_error(fx, fd, WIRE_OP_HOST), WIRE_ERR_OK);
	(void)close(fd);
	fixture_run(fx);
}

static void D26_nothing_but_hello_in_the_first_phase(void **state)
{
	struct fixture *fx = *state;
	struct wire_acquire ask = acquire_mock(1);
	const struct wire_hello hello = { .version = WIRE_VERSION };
	int fd, pair[2];

	assert_return_code(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, pair), errno);
	fd = client_connect(fx);
	client_send(fd, WIRE_OP_ACQUIRE, &ask, pair, 1);
	fixture_run(fx);
	assert_true(client_closed(fd));
	(void)close(fd);
	(void)close(pair[0]);
	(void)close(pair[1]);
	fd = client_connect(fx);
	client_send(fd, WIRE_OP_NEXT, &(struct wire_cursor){ 0 }, NULL, 0);
	fixture_run(fx);
	assert_true(client_closed(fd));
	(void)close(fd);
	/* and HELLO only once */
	fd = client_open(fx);
	client_send(fd, WIRE_OP_HELLO, &hello, NULL, 0);
	fixture_run(fx);
	assert_true(client_closed(fd));
	(void)close(fd);
	assert_served(fx);
}

static void D26_operations_of_other_links(void **state)
{
	struct fixture *fx = *state;
	const struct wire_lease_id id = { .id = 1 };
	int fd = client_open(fx);

	client_send(fd, WIRE_OP_S_KILL, &id, NULL, 0);
	fixture_run(fx);
	assert_true(client_closed(fd));
	(void)close(fd);
	fd = client_open(fx);
	client_send(fd, WIRE_OP_R_JOIN, NULL, (int[]){ 0 }, 1);
	fixture_run(fx);
	assert_true(client_closed(fd));
	(void)close(fd);
	assert_served(fx);
}

static void another_version_is_told_so(void **state)
{
	struct fixture *fx = *state;
	const struct wire_hello hello = { .version = WIRE_VERSION + 1 };
	int fd = client_connect(fx);

	client_send(fd, WIRE_OP_HELLO, &hello, NULL, 0);
	assert_int_equal(client_error(fx, fd, WIRE_OP_HELLO), WIRE_ERR_VERSION);
	assert_true(client_closed(fd));
	(void)close(fd);
}

static void D35_hostile_bytes(void **state)
{
	struct fixture *fx = *state;
	uint8_t bytes[2048];
	size_t before;

	assert_served(fx);
	before = open_fds();
	srandom(1);
	for (int round = 0; round < 3000; round++) {
		size_t size = (size_t)random() % sizeof(bytes), fds = (size_t)random() % 3;
		bool greeted = (random() & 1) != 0;
		int fd = greeted ? client_open(fx) : client_connect(fx);

		for (size_t i = 0; i < size; i++)
			bytes[i] = (uint8_t)random();
		if (size >= 8 && (random() & 1) != 0) { /* a plausible header, so that bodies are read too */
			bytes[0] = (uint8_t)(random() % 10);
			bytes[1] = bytes[2] = bytes[3] = 0;
		}
		if (size > 0)
			(void)fdpass_send(fd, bytes, size, (int[]){ 0, 1, 2 }, fds);
		else
			(void)send(fd, bytes, 0, MSG_NOSIGNAL);
		fixture_run(fx);
		(void)close(fd);
		fixture_run(fx);
	}
	assert_served(fx);
	assert_int_equal(open_fds(), before);
	assert_int_equal(fx->server.leases.count, 0);
}

static void D35_every_length_of_an_acquire(void **state)
{
	struct fixture *fx = *state;
	struct wire_acquire ask = acquire_mock(1);
	uint8_t bytes[WIRE_MESSAGE_MAX];
	long len = wire_encode(WIRE_OP_ACQUIRE, WIRE_REQUEST, 9, &ask, bytes, sizeof(bytes));
	size_t before = open_fds();

	assert_true(len > 0);
	for (long cut = 1; cut <= len + 1; cut++) {
		int fd = client_open(fx);

		if (cut == len) { /* right length, no descriptor */
			assert_int_equal(fdpass_send(fd, bytes, (size_t)cut, NULL, 0), 0);
		} else {
			assert_int_equal(fdpass_send(fd, bytes, (size_t)cut, (int[]){ 0 }, 1), 0);
		}
		fixture_run(fx);
		assert_true(client_closed(fd));
		(void)close(fd);
	}
	assert_int_equal(open_fds(), before);
}

static void D18_K03_wrong_descriptors_end_the_session(void **state)
{
	struct fixture *fx = *state;
	struct wire_acquire ask = acquire_mock(1);
	size_t before = open_fds();
	int wrong[7], pair[2];

	assert_return_code(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), errno);
	wrong[0] = open("/", O_RDONLY | O_DIRECTORY);
	wrong[1] = open("/dev/null", O_RDWR);
	wrong[2] = open("/", O_PATH);
	wrong[3] = pair[0];
	wrong[4] = socket(AF_INET, SOCK_STREAM, 0);
	wrong[5] = client_open(fx); /* a session with the broker itself: it would not end with its client */
	wrong[6] = socket(AF_UNIX, SOCK_SEQPACKET, 0);
	for (size_t i = 0; i < 7; i++) {
		int fd = client_open(fx);

		client_send(fd, WIRE_OP_ACQUIRE, &ask, &wrong[i], 1);
		fixture_run(fx);
		assert_true(client_closed(fd));
		(void)close(fd);
		if (wrong[i] >= 0)
			(void)close(wrong[i]);
	}
	(void)close(pair[1]);
	fixture_run(fx);
	assert_int_equal(open_fds(), before);
	assert_int_equal(fx->server.leases.count, 0);
	assert_int_equal(spawner_recv(fx, WIRE_OP_S_START), 0);
}

static void K15_too_many_descriptors(void **state)
{
	struct fixture *fx = *state;
	struct wire_acquire ask = acquire_mock(1);
	uint8_t bytes[WIRE_MESSAGE_MAX];
	long len = wire_encode(WIRE_OP_ACQUIRE, WIRE_REQUEST, 9, &ask, bytes, sizeof(bytes));
	size_t before = open_fds();
	int fds[WIRE_FDS_MAX] = { 0 }, fd = client_open(fx);

	assert_int_equal(fdpass_send(fd, bytes, (size_t)len, fds, WIRE_FDS_MAX), 0);
	fixture_run(fx);
	assert_true(client_closed(fd));
	(void)close(fd);
	assert_int_equal(open_fds(), before);
	assert_served(fx);
}

static void K15_sessions_of_one_user_are_bounded(void **state)
{
	struct fixture *fx = *state;
	int fds[200];
	size_t before = open_fds(), open = 0;

	for (size_t i = 0; i < 200; i++)
		fds[i] = client_connect(fx);
	for (size_t i = 0; i < 200; i++)
		open += !client_closed(fds[i]);
	assert_int_equal(open, fx->policy.sessions_user_max);
	/* somebody else still gets in */
	set_session_uid(fx, 64810);
	assert_served(fx);
	for (size_t i = 0; i < 200; i++)
		(void)close(fds[i]);
	fixture_run(fx);
	assert_int_equal(open_fds(), before);
	assert_served(fx);
}

static void K15_sessions_of_all_are_bounded(void **state)
{
	struct fixture *fx = *state;
	int fds[32];
	size_t open = 0;

	fx->policy.sessions_user_max = 0;
	for (size_t i = 0; i < 32; i++)
		fds[i] = client_connect(fx);
	for (size_t i = 0; i < 32; i++) {
		open += !client_closed(fds[i]);
		(void)close(fds[i]);
	}
	assert_int_equal(open, fx->policy.sessions_max - fx->policy.sessions_max / 4);
	fixture_run(fx);
	assert_served(fx);
}

static void K15_the_last_sessions_are_for_newcomers(void **state)
{
	struct fixture *fx = *state;
	int fds[32];

	fx->policy.sessions_user_max = 0;
	for (size_t i = 0; i < 32; i++)
		fds[i] = client_connect(fx);
	set_session_uid(fx, 64810);
	assert_served(fx); /* somebody who has none yet */
	for (size_t i = 0; i < 32; i++)
		(void)close(fds[i]);
}

/* Root would be heard whatever the policy says, so the connection is another user's where that is possible. */
static int dial_as(const struct fixture *fx, uid_t *uid)
{
	char path[128];
	int fd;

	if (getuid() != 0) {
		*uid = getuid();
		return client_dial(fx);
	}
	(void)snprintf(path, sizeof(path), "%s/broker.sock", fx->dir);
	assert_return_code(chmod(fx->dir, 0755), errno);
	assert_return_code(chmod(path, 0666), errno);
	assert_return_code(seteuid(*uid), errno);
	fd = client_dial(fx);
	assert_return_code(seteuid(0), errno);
	return fd;
}

/* Turned away at the door: told why, and nothing of the broker's is taken. */
static void assert_turned_away(struct fixture *fx, int fd)
{
	const struct wire_session view = { .link = LINK_CLIENT, .peer = FROM_BROKER, .phase = PHASE_READY, .replies = true };

	fixture_run(fx);
	assert_int_equal(wire_recv(fd, &view, &fx->in), 1);
	assert_int_equal(fx->in.kind, WIRE_ERROR);
	assert_int_equal(fx->in.msg.error.code, WIRE_ERR_NOT_ALLOWED);
	assert_true(client_closed(fd));
	for (size_t i = 0; i < fx->policy.sessions_max; i++)
		assert_int_equal(fx->server.sessions[i].fd, -1);
}

static void K15_sessions_of_users_without_a_rule(void **state)
{
	struct fixture *fx = *state;
	const struct wire_hello hello = { .version = WIRE_VERSION };
	size_t before = open_fds(), accounts;
	uid_t uid = 64812;
	int fds[100];

	assert_served(fx);
	accounts = fx->server.accounts->high;
	fx->policy.rules[0].users[0] = 1;
	for (size_t i = 0; i < 100; i++) {
		fds[i] = dial_as(fx, &uid);
		if (i % 2 == 0) /* before or after the broker has looked: the same answer */
			client_send(fds[i], WIRE_OP_HELLO, &hello, NULL, 0);
		assert_turned_away(fx, fds[i]);
	}
	assert_int_equal(fx->server.accounts->high, accounts);
	for (size_t i = 0; i < 100; i++)
		(void)close(fds[i]);
	/* whose sandbox runs is heard */
	fx->policy.rules[0].users[0] = POLICY_ANY_USER;
	fds[0] = client_open(fx);
	(void)lease_started(fx, fds[0], 1);
	(void)close(fds[0]);
	fixture_run(fx);
	only_lease(fx)->owner = uid;
	fx->policy.rules[0].users[0] = 1;
	fds[0] = dial_as(fx, &uid);
	client_send(fds[0], WIRE_OP_HELLO, &hello, NULL, 0);
	assert_int_equal(client_error(fx, fds[0], WIRE_OP_HELLO), WIRE_ERR_OK);
	(void)close(fds[0]);
	fixture_run(fx);
	only_lease(fx)->owner = getuid();
	assert_true(open_fds() <= before + 2); /* of the lease */
}

static void subuids_share_no_quota(void **state)
{
	struct fixture *fx = *state;
	const struct wire_hello hello = { .version = WIRE_VERSION };
	uid_t uid = 100004;
	int fd = dial_as(fx, &uid);

	fx->server.host.subid_count = 2;
	fx->server.host.subids[0].first = 70000;
	fx->server.host.subids[0].count = 1;
	fx->server.host.subids[1].first = uid;
	fx->server.host.subids[1].count = 1;
	assert_turned_away(fx, fd); /* though the rule names everybody */
	(void)close(fd);
	/* a user whom a rule names has been given that uid: it is his */
	fx->policy.rules[0].users[fx->policy.rules[0].user_count++] = uid;
	fd = dial_as(fx, &uid);
	client_send(fd, WIRE_OP_HELLO, &hello, NULL, 0);
	assert_int_equal(client_error(fx, fd, WIRE_OP_HELLO), WIRE_ERR_OK);
	(void)close(fd);
	/* the ends of a range: the one before it and the one behind it are people */
	fx->policy.rules[0].user_count--;
	for (uint32_t i = 0; i < 2; i++) {
		fx->server.host.subids[1].first = uid + 1 - 3 * i;
		fx->server.host.subids[1].count = 2;
		fd = dial_as(fx, &uid);
		client_send(fd, WIRE_OP_HELLO, &hello, NULL, 0);
		assert_int_equal(client_error(fx, fd, WIRE_OP_HELLO), WIRE_ERR_OK);
		(void)close(fd);
	}
}

static void K15_half_open_and_idle_connections_end(void **state)
{
	struct fixture *fx = *state;
	int silent, idle, busy;

	fx->policy.hello_ms = 30;
	fx->policy.idle_ms = 60000;
	silent = client_connect(fx);
	busy = client_open(fx);
	fixture_wait(fx, 60);
	assert_true(client_closed(silent));
	assert_false(client_closed(busy));
	fx->policy.idle_ms = 30;
	idle = client_open(fx);
	fixture_wait(fx, 60);
	assert_true(client_closed(idle));
	(void)close(silent);
	(void)close(idle);
	(void)close(busy);
	fixture_run(fx);
	assert_served(fx);
}

static void K15_one_request_at_a_time(void **state)
{
	struct fixture *fx = *state;
	struct wire_acquire ask = acquire_mock(1);
	int fd = client_open(fx), control = client_acquire(fx, fd, &ask);

	client_send(fd, WIRE_OP_HOST, NULL, NULL, 0);
	fixture_run(fx);
	assert_true(client_closed(fd));
	assert_int_equal(only_lease(fx)->state, LEASE_ABANDONED);
	(void)close(fd);
	(void)close(control);
	assert_served(fx);
}

static void K15_a_peer_that_does_not_read(void **state)
{
	struct fixture *fx = *state;
	int fd = client_open(fx), small = 1;
	unsigned sent = 0;

	(void)setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &small, sizeof(small));
	while (sent < 100000 && wire_send(fd, WIRE_OP_HOST, WIRE_REQUEST, 9, NULL, NULL, 0) == 0) {
		sent++;
		(void)server_step(&fx->server, 0);
	}
	assert_true(sent < 100000);
	assert_int_equal(fx->server.accounts->all.usage.sandboxes, 0);
	(void)close(fd);
	fixture_run(fx);
	assert_served(fx);
}

static void D28_the_process_that_connected_must_live(void **state)
{
	struct fixture *fx = *state;
	struct wire_acquire ask = acquire_mock(1);
	const struct wire_hello hello = { .version = WIRE_VERSION };
	int link[2], pair[2], fd = -1;
	size_t count;
	char byte;
	pid_t child;

	assert_return_code(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, link), errno);
	child = fork();
	assert_true(child >= 0);
	if (child == 0) { /* connects, hands the connection on and is gone */
		int mine = client_dial(fx);

		_exit(fdpass_send(link[1], "x", 1, &mine, 1) != 0);
	}
	assert_int_equal(fdpass_recv(link[0], &byte, 1, &fd, 1, &count), 1);
	assert_int_equal(waitpid(child, NULL, 0), child);
	fixture_run(fx);
	client_send(fd, WIRE_OP_HELLO, &hello, NULL, 0);
	assert_int_equal(client_error(fx, fd, WIRE_OP_HELLO), WIRE_ERR_OK);
	assert_return_code(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, pair), errno);
	client_send(fd, WIRE_OP_ACQUIRE, &ask, &pair[1], 1);
	fixture_run(fx);
	assert_true(client_closed(fd));
	assert_int_equal(fx->server.leases.count, 0);
	(void)close(fd);
	(void)close(pair[0]);
	(void)close(pair[1]);
	(void)close(link[0]);
	(void)close(link[1]);
}

static void sandbox_uids_are_not_heard(void **state)
{
	struct fixture *fx = *state;
	int fd;

	/* our own uid is now one of the range */
	fx->policy.first_uid = getuid();
	fd = client_connect(fx);
	assert_true(client_closed(fd));
	(void)close(fd);
	fx->policy.first_uid = FIRST_UID;
	assert_served(fx);
}

static void every_client_operation_has_a_handler(void **state)
{
	struct fixture *fx = *state;
	struct session session = { .fd = -1, .pidfd = -1 };

#define CLIENT 1
#define SPAWNER 0
#define RENDEZVOUS 0
#define KEEPER 0
#define CONTROL 0
#define LINK_IS_CLIENT(number, NAME, link, ...) { number, link },
	static const struct {
		int op;
		int client;
	} ops[] = { WIRE_OPS(LINK_IS_CLIENT) };

	/* Only operations without a handler can be tried on a session that is none. */
	for (size_t i = 0; i < sizeof(ops) / sizeof(ops[0]); i++) {
		if (ops[i].client)
			continue;
		fx->server.in->op = (enum wire_op)ops[i].op;
		assert_int_equal(op_dispatch(&fx->server, &session), -EPROTO);
	}
	/* Client operations are contiguous from 1 and each is exercised in test_ops.c; here only that the count is known. */
	assert_int_equal(WIRE_OP_KILL, 8);
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, open_room, close_room)
	const struct CMUnitTest tests[] = {
		T(D26_nothing_but_hello_in_the_first_phase),
		T(D26_operations_of_other_links),
		T(another_version_is_told_so),
		T(D35_hostile_bytes),
		T(D35_every_length_of_an_acquire),
		T(D18_K03_wrong_descriptors_end_the_session),
		T(K15_too_many_descriptors),
		T(K15_sessions_of_one_user_are_bounded),
		T(K15_sessions_of_all_are_bounded),
		T(K15_the_last_sessions_are_for_newcomers),
		T(K15_sessions_of_users_without_a_rule),
		T(subuids_share_no_quota),
		T(K15_half_open_and_idle_connections_end),
		T(K15_one_request_at_a_time),
		T(K15_a_peer_that_does_not_read),
		T(D28_the_process_that_connected_must_live),
		T(sandbox_uids_are_not_heard),
		T(every_client_operation_has_a_handler),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
