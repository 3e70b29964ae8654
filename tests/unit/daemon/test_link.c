/* SPDX-License-Identifier: Apache-2.0
 * Runs: tests. The spawner dies, the broker dies, clients leave while their sandbox starts (DESIGN 2.7; KERNEL 3 rows 6
 * and 17). */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "common/cleanup.h"
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

/* A new spawner's end on the link, as rendezvous.c would put it there. */
static void join_spawner(struct fixture *fx)
{
	int pair[2];

	assert_return_code(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair), errno);
	fx->spawner = pair[1];
	link_open(&fx->server, pair[0]);
}

static void K17_client_leaves_while_its_sandbox_starts(void **state)
{
	struct fixture *fx = *state;
	size_t before = open_fds();
	struct wire_acquire ask = acquire_mock(1);
	int fd = client_open(fx), control = client_acquire(fx, fd, &ask);
	struct wire_lease lease;

	assert_int_equal(spawner_recv(fx, WIRE_OP_S_START), 1);
	lease = fx->in.msg.start.lease[0];
	wire_in_close(&fx->in);
	(void)close(fd);
	(void)close(control);
	fixture_run(fx);
	assert_int_equal(only_lease(fx)->state, LEASE_ABANDONED);
	assert_int_equal(spawner_recv(fx, WIRE_OP_S_KILL), 0); /* not yet: it may not know it */
	spawner_started(fx, &lease);
	assert_int_equal(spawner_recv(fx, WIRE_OP_S_KILL), 1);
	assert_int_equal(fx->in.msg.lease_id.id, lease.id);
	spawner_send(fx, WIRE_OP_S_GONE, &(struct wire_gone){ .id = lease.id, .clean = 1 }, NULL, 0);
	fixture_run(fx);
	assert_int_equal(fx->server.leases.count, 0);
	assert_int_equal(open_fds(), before);
}

static void a_launch_that_takes_too_long(void **state)
{
	struct fixture *fx = *state;
	struct wire_acquire ask = acquire_mock(1);
	int fd, control;
	struct wire_lease lease;

	fx->policy.launch_ms = 200;
	fd = client_open(fx);
	control = client_acquire(fx, fd, &ask);
	assert_int_equal(spawner_recv(fx, WIRE_OP_S_START), 1);
	lease = fx->in.msg.start.lease[0];
	wire_in_close(&fx->in);
	fixture_wait(fx, 250);
	assert_int_equal(client_error(fx, fd, WIRE_OP_ACQUIRE), WIRE_ERR_TIMEOUT);
	/* the session goes on, the sandbox does not; its quota is taken until it is gone */
	assert_int_equal(fx->server.accounts->all.usage.sandboxes, 1);
	spawner_started(fx, &lease);
	assert_int_equal(spawner_recv(fx, WIRE_OP_S_KILL), 1);
	client_send(fd, WIRE_OP_HOST, NULL, NULL, 0);
	assert_int_equal(client_error(fx, fd, WIRE_OP_HOST), WIRE_ERR_OK);
	(void)close(control);
	(void)close(fd);
}

static void a_start_of_which_the_spawner_never_speaks_again(void **state)
{
	struct fixture *fx = *state;
	struct wire_acquire ask = acquire_mock(1);
	int fd, control;
	struct wire_lease lease;

	fx->policy.launch_ms = 30;
	fd = client_open(fx);
	control = client_acquire(fx, fd, &ask);
	assert_int_equal(spawner_recv(fx, WIRE_OP_S_START), 1);
	lease = fx->in.msg.start.lease[0];
	wire_in_close(&fx->in);
	fixture_wait(fx, 120);
	assert_int_equal(client_error(fx, fd, WIRE_OP_ACQUIRE), WIRE_ERR_TIMEOUT);
	/* quota is free again; uid and label are burnt */
	assert_int_equal(fx->server.leases.count, 0);
	assert_int_equal(fx->server.accounts->all.usage.sandboxes, 0);
	assert_int_equal(fx->labels.used_count, 1);
	assert_true(fx->server.ids.state.quarantine[0].until == IDS_FOREVER);
	/* should it speak after all, it is killed */
	spawner_started(fx, &lease);
	assert_int_equal(spawner_recv(fx, WIRE_OP_S_KILL), 1);
	(void)close(control);
	(void)close(fd);
}

static void spawner_dies_while_one_starts(void **state)
{
	struct fixture *fx = *state;
	struct wire_acquire ask = acquire_mock(2);
	int fd = client_open(fx), control;
	struct wire_cursor cursor = { 0 };
	uint32_t uid;

	(void)lease_started(fx, fd, 1);
	control = client_acquire(fx, fd, &ask);
	uid = fx->server.leases.table[1].uid;
	spawner_die(fx);
	assert_int_equal(client_error(fx, fd, WIRE_OP_ACQUIRE), WIRE_ERR_SPAWNER_DOWN);
	(void)close(control);
	/* K06: maps may have been written, so its uid is burnt; the one that runs is kept */
	assert_int_equal(only_lease(fx)->state, LEASE_RUNNING);
	assert_int_equal(fx->server.ids.state.quarantine[0].uid, uid);
	assert_true(fx->server.ids.state.quarantine[0].until == IDS_FOREVER);
	/* what needs no spawner works, the rest says why not */
	client_send(fd, WIRE_OP_NEXT, &cursor, NULL, 0);
	assert_int_equal(client_error(fx, fd, WIRE_OP_NEXT), WIRE_ERR_OK);
	client_send(fd, WIRE_OP_HOST, NULL, NULL, 0);
	assert_int_equal(client_error(fx, fd, WIRE_OP_HOST), WIRE_ERR_OK);
	control = client_acquire(fx, fd, &ask);
	assert_int_equal(client_error(fx, fd, WIRE_OP_ACQUIRE), WIRE_ERR_SPAWNER_DOWN);
	(void)close(control);
	client_send(fd, WIRE_OP_KILL, &(struct wire_uuid){ .uuid = { 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1 } },
		    NULL, 0);
	assert_int_equal(client_error(fx, fd, WIRE_OP_KILL), WIRE_ERR_SPAWNER_DOWN);
	(void)close(fd);
}

static void new_spawner_learns_what_runs_and_what_was_to_be_killed(void **state)
{
	struct fixture *fx = *state;
	int fd = client_open(fx);
	struct wire_uuid uuid;

	for (uint8_t i = 1; i <= 3; i++)
		(void)lease_started(fx, fd, i);
	memset(uuid.uuid, 2, 16);
	client_send(fd, WIRE_OP_KILL, &uuid, NULL, 0);
	assert_int_equal(client_error(fx, fd, WIRE_OP_KILL), WIRE_ERR_OK);
	spawner_die(fx);
	join_spawner(fx);
	assert_int_equal(spawner_recv(fx, WIRE_OP_S_HELLO), 1);
	assert_int_equal(fx->in.msg.spawner_hello.count, 3);
	for (uint64_t i = 1; i <= 3; i++) {
		assert_int_equal(spawner_recv(fx, WIRE_OP_S_KNOWN), 1);
		assert_int_equal(fx->in.msg.lease.id, i);
		assert_int_equal(fx->in.fd_count, 2);
		wire_in_close(&fx->in);
	}
	assert_int_equal(spawner_recv(fx, WIRE_OP_S_KILL), 1); /* again: the first may not have been done */
	assert_int_equal(fx->in.msg.lease_id.id, 2);
	assert_false(link_ready(&fx->server.link));
	spawner_welcome(fx, 0);
	fixture_run(fx);
	assert_true(link_ready(&fx->server.link));
	(void)lease_started(fx, fd, 4);
	(void)close(fd);
}

static void new_broker_adopts_what_the_spawner_kept(void **state)
{
	struct fixture *fx = *state;
	struct wire_lease kept[2], fresh;
	struct wire_uuid uuid;
	int fd = client_open(fx), pidfd, keeper[2];

	kept[0] = lease_started(fx, fd, 1);
	kept[1] = lease_started(fx, fd, 2);
	(void)close(fd);
	fixture_stop(fx); /* SIGKILL */
	fixture_start(fx);
	assert_int_equal(spawner_recv(fx, WIRE_OP_S_HELLO), 1);
	assert_int_equal(fx->in.msg.spawner_hello.count, 0);
	/* nobody is heard before the inventory is complete */
	spawner_welcome(fx, 2);
	assert_return_code(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, keeper), errno);
	pidfd = stand_in_pidfd();
	spawner_send(fx, WIRE_OP_S_HAVE, &kept[0], (int[]){ pidfd, keeper[0] }, 2);
	fixture_run(fx);
	assert_false(link_ready(&fx->server.link));
	spawner_send(fx, WIRE_OP_S_HAVE, &kept[1], (int[]){ pidfd, keeper[0] }, 2);
	fixture_run(fx);
	assert_true(link_ready(&fx->server.link));
	assert_int_equal(fx->server.leases.count, 2);
	assert_int_equal(fx->labels.used_count, 2);
	assert_int_equal(fx->server.accounts->all.usage.sandboxes, 2);
	/* the same user finds them again, may end them, and new ones get other ids */
	fd = client_open(fx);
	fresh = lease_started(fx, fd, 3);
	assert_true(fresh.id > kept[1].id);
	assert_int_not_equal(fresh.uid, kept[0].uid);
	assert_int_not_equal(fresh.uid, kept[1].uid);
	memset(uuid.uuid, 1, 16);
	client_send(fd, WIRE_OP_KILL, &uuid, NULL, 0);
	assert_int_equal(client_error(fx, fd, WIRE_OP_KILL), WIRE_ERR_OK);
	assert_int_equal(spawner_recv(fx, WIRE_OP_S_KILL), 1);
	assert_int_equal(fx->in.msg.lease_id.id, kept[0].id);
	(void)close(pidfd);
	(void)close(keeper[0]);
	(void)close(keeper[1]);
	(void)close(fd);
}

static void both_know_the_same_lease(void **state)
{
	struct fixture *fx = *state;
	size_t before;
	int fd = client_open(fx), pair[2];
	struct wire_lease lease = lease_started(fx, fd, 1);

	before = open_fds();
	spawner_die(fx);
	join_spawner(fx);
	spawner_welcome(fx, 1);
	assert_return_code(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair), errno);
	spawner_send(fx, WIRE_OP_S_HAVE, &lease, pair, 2);
	(void)close(pair[0]);
	(void)close(pair[1]);
	assert_int_equal(spawner_recv(fx, WIRE_OP_S_HELLO), 1);
	assert_int_equal(spawner_recv(fx, WIRE_OP_S_KNOWN), 1);
	wire_in_close(&fx->in);
	assert_true(link_ready(&fx->server.link));
	assert_int_equal(fx->server.leases.count, 1);
	assert_int_equal(open_fds(), before);
	(void)close(fd);
}

static void a_large_inventory_waits_for_room(void **state)
{
	struct fixture *fx = calloc(1, sizeof(*fx));
	unsigned known = 0;
	struct wire_lease record = { .vcpus = 1, .memory_mib = 1, .hypervisor = "mock" };

	(void)state;
	fixture_prepare(fx);
	fixture_start(fx);
	leases_free(&fx->server.leases);
	assert_int_equal(leases_init(&fx->server.leases, 600), 0);
	for (uint64_t id = 1; id <= 600; id++) {
		struct lease *lease = lease_slot(&fx->server.leases);

		record.id = id;
		*lease->record = record;
		lease->pidfd = dup(0);
		lease->keeper = dup(0);
		lease_enter(&fx->server.leases, fx->server.accounts, lease, LEASE_RUNNING, now_ns());
	}
	spawner_die(fx);
	join_spawner(fx);
	spawner_welcome(fx, 0);
	/* a kill that is asked for meanwhile must come after all of it */
	link_kill(&fx->server, &fx->server.leases.table[0]);
	assert_int_equal(spawner_recv(fx, WIRE_OP_S_HELLO), 1);
	assert_int_equal(fx->in.msg.spawner_hello.count, 600);
	assert_true(fx->server.link.to_announce > 0); /* else this test shows nothing */
	while (known < 600) {
		assert_int_equal(spawner_recv(fx, WIRE_OP_S_KNOWN), 1);
		wire_in_close(&fx->in);
		known++;
	}
	assert_int_equal(spawner_recv(fx, WIRE_OP_S_KILL), 1);
	fixture_run(fx);
	assert_true(link_ready(&fx->server.link));
	fixture_close(fx);
	free(fx);
}

static void a_spawner_that_talks_nonsense_is_dead_to_us(void **state)
{
	struct fixture *fx = *state;
	int fd = client_open(fx);

	(void)lease_started(fx, fd, 1);
	assert_int_equal(send(fx->spawner, "nonsense", 8, 0), 8);
	fixture_run(fx);
	/* it lives, so nobody could be put in its place: a new broker gets all leases from it, or from its successor */
	assert_true(fx->server.finished);
	assert_true(fx->server.failed);
	assert_int_equal(only_lease(fx)->state, LEASE_RUNNING);
	(void)close(fd);
}

/* What it started was released: it must not run on as if nobody had started it. */
static void K06_last_words_of_a_dead_spawner_are_heard(void **state)
{
	struct fixture *fx = *state;
	struct wire_acquire ask = acquire_mock(2);
	int fd = client_open(fx), control;
	struct wire_lease lease;

	(void)lease_started(fx, fd, 1);
	control = client_acquire(fx, fd, &ask);
	assert_int_equal(spawner_recv(fx, WIRE_OP_S_START), 1);
	lease = fx->in.msg.start.lease[0];
	wire_in_close(&fx->in);
	/* something of ours stays unread, it says STARTED and dies, and we notice by a send that fails */
	link_kill(&fx->server, &fx->server.leases.table[0]);
	spawner_started(fx, &lease);
	fd_close(&fx->spawner);
	fx->server.leases.table[0].kill = true;
	fx->server.link.to_kill++;
	link_flush(&fx->server);
	assert_true(fx->server.link.hung_up);
	assert_false(link_ready(&fx->server.link));
	assert_int_equal(client_error(fx, fd, WIRE_OP_ACQUIRE), WIRE_ERR_OK);
	assert_int_equal(fx->server.leases.table[1].state, LEASE_RUNNING);
	assert_int_equal(fx->server.link.fd, -1);
	assert_false(fx->server.finished);
	(void)close(control);
	(void)close(fd);
}

static void answers_about_leases_that_are_none(void **state)
{
	struct fixture *fx = *state;
	struct wire_lease lease = { .id = 99, .vcpus = 1, .memory_mib = 1, .hypervisor = "mock" };
	size_t before = open_fds();

	spawner_send(fx, WIRE_OP_S_GONE, &(struct wire_gone){ .id = 99 }, NULL, 0);
	spawner_send(fx, WIRE_OP_S_FAILED, &(struct wire_step_failed){ .id = 99 }, NULL, 0);
	spawner_started(fx, &lease);
	assert_int_equal(spawner_recv(fx, WIRE_OP_S_KILL), 1);
	assert_int_equal(fx->in.msg.lease_id.id, 99);
	assert_int_equal(fx->server.leases.count, 0);
	assert_int_equal(open_fds(), before);
}

static void no_client_is_heard_before_the_spawner(void **state)
{
	struct fixture *fx = calloc(1, sizeof(*fx));
	const struct wire_hello hello = { .version = WIRE_VERSION };
	int fd;

	(void)state;
	fixture_prepare(fx);
	fixture_start(fx);
	fd = client_connect(fx);
	client_send(fd, WIRE_OP_HELLO, &hello, NULL, 0);
	fixture_run(fx);
	assert_int_equal(recv(fd, &(char){ 0 }, 1, MSG_PEEK | MSG_DONTWAIT), -1);
	assert_int_equal(errno, EAGAIN);
	spawner_welcome(fx, 0);
	assert_int_equal(client_error(fx, fd, WIRE_OP_HELLO), WIRE_ERR_OK);
	(void)close(fd);
	fixture_close(fx);
	free(fx);
}

static int rendezvous_in(struct fixture *fx, struct sockaddr_un *ret)
{
	int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
	struct sockaddr_un address = { .sun_family = AF_UNIX };

	assert_true(snprintf(address.sun_path, sizeof(address.sun_path), "%s/join", fx->dir) > 0);
	assert_return_code(bind(fd, (struct sockaddr *)&address, sizeof(address)), errno);
	assert_return_code(listen(fd, 4), errno);
	*ret = address;
	return fd;
}

static void rendezvous_brings_a_new_spawner(void **state)
{
	const struct wire_session start = {
		.link = LINK_RENDEZVOUS, .peer = FROM_BROKER, .phase = PHASE_READY, .replies = true
	};
	struct fixture *fx = *state;
	struct sockaddr_un address;
	int fd, pair[2];

	fx->server.fds.rendezvous = rendezvous_in(fx, &address);
	assert_return_code(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair), errno);
	for (int alive = 1; alive >= 0; alive--) {
		fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
		assert_return_code(connect(fd, (struct sockaddr *)&address, sizeof(address)), errno);
		if (!alive)
			fd_close(&fx->spawner); /* not noticed yet when the request comes */
		assert_int_equal(wire_send(fd, WIRE_OP_R_JOIN, WIRE_REQUEST, 5, NULL, &pair[0], 1), 0);
		fixture_run(fx);
		if (getuid() != 0) { /* only root is heard */
			assert_true(client_closed(fd));
			(void)close(fd);
			break;
		}
		assert_int_equal(wire_recv(fd, &start, &fx->in), 1);
		assert_int_equal(fx->in.kind, alive ? WIRE_ERROR : WIRE_REPLY);
		if (!alive) {
			assert_int_equal(fx->in.msg.joined.present, ((1u << P_COUNT) - 1) & ~(1u << P_CGROUP));
			assert_int_equal(fx->in.fd_count, P_COUNT - 1);
			wire_in_close(&fx->in);
			fx->spawner = pair[1];
			assert_int_equal(spawner_recv(fx, WIRE_OP_S_HELLO), 1);
			spawner_welcome(fx, 0);
			fixture_run(fx);
			assert_true(link_ready(&fx->server.link));
		}
		assert_true(client_closed(fd));
		(void)close(fd);
	}
	(void)close(pair[0]);
	if (fx->spawner != pair[1])
		(void)close(pair[1]);
	(void)unlink(address.sun_path);
}

static void stop_leaves_sandboxes_alone(void **state)
{
	struct fixture *fx = *state;
	struct wire_acquire ask = acquire_mock(2);
	int fd = client_open(fx), control;

	(void)lease_started(fx, fd, 1);
	control = client_acquire(fx, fd, &ask);
	assert_int_equal(spawner_recv(fx, WIRE_OP_S_START), 1);
	wire_in_close(&fx->in);
	server_stop(&fx->server);
	fixture_run(fx);
	assert_true(fx->server.finished);
	assert_int_equal(client_error(fx, fd, WIRE_OP_ACQUIRE), WIRE_ERR_STOPPING);
	assert_int_equal(spawner_recv(fx, WIRE_OP_S_KILL), 0); /* neither that nor a shutdown */
	(void)close(control);
	(void)close(fd);
}

static void stop_with_the_option_ends_everything_first(void **state)
{
	struct fixture *fx = *state;
	int fd = client_open(fx);
	uint64_t ids[2];

	ids[0] = lease_started(fx, fd, 1).id;
	ids[1] = lease_started(fx, fd, 2).id;
	fx->server.stop_sandboxes = true;
	server_stop(&fx->server);
	for (int i = 0; i < 2; i++) {
		assert_int_equal(spawner_recv(fx, WIRE_OP_S_KILL), 1);
		assert_int_equal(fx->in.msg.lease_id.id, ids[i]);
	}
	assert_false(fx->server.finished);
	for (int i = 0; i < 2; i++)
		spawner_send(fx, WIRE_OP_S_GONE, &(struct wire_gone){ .id = ids[i], .clean = 1 }, NULL, 0);
	assert_int_equal(spawner_recv(fx, WIRE_OP_S_SHUTDOWN), 1);
	assert_true(fx->server.finished);
	(void)close(fd);
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, open_room, close_room)
	const struct CMUnitTest tests[] = {
		T(K17_client_leaves_while_its_sandbox_starts),
		T(a_launch_that_takes_too_long),
		T(a_start_of_which_the_spawner_never_speaks_again),
		T(spawner_dies_while_one_starts),
		T(new_spawner_learns_what_runs_and_what_was_to_be_killed),
		T(new_broker_adopts_what_the_spawner_kept),
		T(both_know_the_same_lease),
		cmocka_unit_test(a_large_inventory_waits_for_room),
		T(a_spawner_that_talks_nonsense_is_dead_to_us),
		T(K06_last_words_of_a_dead_spawner_are_heard),
		T(answers_about_leases_that_are_none),
		cmocka_unit_test(no_client_is_heard_before_the_spawner),
		T(rendezvous_brings_a_new_spawner),
		T(stop_leaves_sandboxes_alone),
		T(stop_with_the_option_ends_everything_first),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
