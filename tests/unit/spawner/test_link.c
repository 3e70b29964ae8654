/* SPDX-License-Identifier: Apache-2.0
 * Runs: tests (no privilege). The session with the broker, and init's one message: what is announced is sent, in order,
 * however full the queue is; a link that is given up is seen to end. Cgroups, taps and launches are not there. */
#include <errno.h>
#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include <cmocka.h>

#include "broker/spawner/spawner.h"
#include "common/cleanup.h"

/* What these files call and these cases do not reach. */
void death_begin(struct spawner *sp, struct sandbox *box)
{
	(void)sp;
	box->state = BOX_GONE;
}

void death_retry(struct spawner *sp)
{
	(void)sp;
}

void death_worker_done(struct spawner *sp)
{
	(void)sp;
}

int cgroup_kill(const struct spawner *sp, const struct wire_lease *lease)
{
	(void)sp;
	(void)lease;
	return -ENOENT;
}

void launch(struct spawner *sp, struct wire_in *in)
{
	(void)sp;
	(void)in;
}

void rendezvous_event(struct spawner *sp)
{
	(void)sp;
}

static struct spawn_table table;
static struct spawner spawner;

static struct sandbox *box_with(uint64_t id, int *ret_init)
{
	struct wire_lease lease = { .id = id, .uid = (uint32_t)id, .vcpus = 1, .memory_mib = 1 };
	struct sandbox *box = sandbox_new(&spawner, &lease);
	int ends[2];

	assert_non_null(box);
	assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK, 0, ends), 0);
	box->keeper = ends[0];
	box->pidfd = dup(ends[0]); /* any descriptor: it is only passed on */
	*ret_init = ends[1];
	return box;
}

static int set_up(void **state)
{
	(void)state;
	spawner = (struct spawner){ .table = &table, .link = -1, .worker = -1 };
	spawner.epoll = epoll_create1(EPOLL_CLOEXEC);
	spawner.timer = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
	return spawner.epoll < 0 || spawner.timer < 0;
}

static int tear_down(void **state)
{
	(void)state;
	for (uint32_t i = 0; i < SANDBOXES_MAX; i++)
		if (spawner.boxes[i].state != BOX_FREE)
			sandbox_free(&spawner, &spawner.boxes[i]);
	fd_close(&spawner.link);
	fd_close(&spawner.epoll);
	fd_close(&spawner.timer);
	return 0;
}

/* The broker's end; our own end's queue is queue bytes long, the kernel's least for 1. */
static int adopt(int queue)
{
	int ends[2];

	assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK, 0, ends), 0);
	assert_int_equal(setsockopt(ends[0], SOL_SOCKET, SO_SNDBUF, &queue, sizeof(queue)), 0);
	link_adopt(&spawner, ends[0]);
	return ends[1];
}

/* The next operation and the sandbox it is about; 0 when there is none. */
static enum wire_op next(int broker, enum wire_phase phase, uint64_t *ret_id)
{
	const struct wire_session session = { .link = LINK_SPAWNER, .peer = FROM_SPAWNER, .phase = phase };
	struct wire_in in;
	int r = wire_recv(broker, &session, &in);

	if (r == -EAGAIN)
		return (enum wire_op)0;
	assert_int_equal(r, 1);
	*ret_id = in.op == WIRE_OP_S_WELCOME ? in.msg.spawner_hello.count
		  : in.op == WIRE_OP_S_GONE  ? in.msg.gone.id
					     : in.msg.lease.id;
	wire_in_close(&in);
	return in.op;
}

/* What ends while its announcement waits for room is announced all the same, and its end comes behind all others. */
static void an_end_waits_for_the_inventory(void **state)
{
	enum { BOXES = 6 };
	int init[BOXES], broker;
	uint64_t id = 0;

	(void)state;
	for (int i = 0; i < BOXES; i++)
		(void)box_with((uint64_t)i + 1, &init[i]);
	broker = adopt(1);
	assert_true(spawner.have_left > 0); /* else the queue was not full and this shows nothing */
	spawner.boxes[0].state = spawner.boxes[BOXES - 1].state = BOX_GONE;
	link_flush(&spawner);
	assert_int_equal(next(broker, PHASE_NEW, &id), WIRE_OP_S_WELCOME);
	assert_int_equal(id, BOXES);
	for (uint64_t i = 1; i <= BOXES; i++) {
		enum wire_op op = next(broker, PHASE_SYNC, &id);

		if (op == 0) {
			link_event(&spawner, EPOLLOUT);
			op = next(broker, PHASE_SYNC, &id);
		}
		assert_int_equal(op, WIRE_OP_S_HAVE);
		assert_int_equal(id, i);
	}
	link_event(&spawner, EPOLLOUT);
	assert_int_equal(next(broker, PHASE_READY, &id), WIRE_OP_S_GONE);
	assert_int_equal(id, 1);
	link_event(&spawner, EPOLLOUT);
	assert_int_equal(next(broker, PHASE_READY, &id), WIRE_OP_S_GONE);
	assert_int_equal(id, BOXES);
	assert_int_equal(spawner.live, BOXES - 2);
	for (int i = 0; i < BOXES; i++)
		fd_close(&init[i]);
	fd_close(&broker);
}

/* A new broker hears of what is still being cleaned up: its X must not be given to anybody meanwhile. */
static void what_is_ending_is_announced(void **state)
{
	int init, broker;
	uint64_t id = 0;

	(void)state;
	box_with(7, &init)->state = BOX_CGROUP;
	broker = adopt(1 << 20);
	assert_int_equal(next(broker, PHASE_NEW, &id), WIRE_OP_S_WELCOME);
	assert_int_equal(id, 1);
	assert_int_equal(next(broker, PHASE_SYNC, &id), WIRE_OP_S_HAVE);
	fd_close(&init);
	fd_close(&broker);
}

/* What left something behind while there was no broker is told to the next one. */
static void a_trace_is_remembered(void **state)
{
	struct sandbox *box;
	int init, broker;
	uint64_t id = 0;

	(void)state;
	box = box_with(9, &init);
	box->known = box->dirty = true;
	box->state = BOX_GONE;
	link_flush(&spawner);
	assert_int_equal(spawner.live, 1);
	broker = adopt(1 << 20);
	assert_int_equal(next(broker, PHASE_NEW, &id), WIRE_OP_S_WELCOME);
	assert_int_equal(next(broker, PHASE_SYNC, &id), WIRE_OP_S_HAVE);
	assert_int_equal(next(broker, PHASE_READY, &id), WIRE_OP_S_GONE);
	assert_int_equal(spawner.live, 0);
	fd_close(&init);
	fd_close(&broker);
}

/* Somebody (a worker) may have a copy of our end: the broker must see the end of the link all the same. */
static void a_broken_link_ends_for_both(void **state)
{
	struct pollfd p = { .events = 0 };
	int init, copy;

	(void)state;
	(void)box_with(1, &init);
	p.fd = adopt(1 << 20);
	copy = dup(spawner.link);
	assert_int_equal(send(p.fd, "nonsense", 8, 0), 8);
	link_event(&spawner, EPOLLIN);
	assert_int_equal(spawner.link, -1);
	assert_int_equal(poll(&p, 1, 0), 1);
	assert_true((p.revents & POLLHUP) != 0);
	assert_int_equal(spawner.live, 1);
	fd_close(&copy);
	fd_close(&init);
	fd_close(&p.fd);
}

static void init_is_heard_once(void **state)
{
	const struct wire_step_failed failed = { .id = 1, .step = STEP_INIT_PLAN, .error = EPERM, .burn = 1 };
	char byte;
	int init;
	struct sandbox *box;

	(void)state;
	box = box_with(1, &init);
	for (int i = 0; i < 3; i++)
		assert_int_equal(wire_send(init, WIRE_OP_K_FAILED, WIRE_REQUEST, 0, &failed, NULL, 0), 0);
	for (int i = 0; i < 3; i++)
		sandbox_keeper_event(&spawner, (uint32_t)(box - spawner.boxes));
	for (int i = 0; i < 2; i++)
		assert_true(recv(box->keeper, &byte, 1, 0) > 0); /* still there, unread */
	assert_true(recv(box->keeper, &byte, 1, 0) < 0);
	fd_close(&init);
}

/* A watch that the kernel refused: the timer finds the end. */
static void an_unwatched_end_is_found(void **state)
{
	struct sandbox *box;
	int init, epoll = spawner.epoll;

	(void)state;
	box = box_with(1, &init);
	spawner.epoll = -1;
	assert_true(sandbox_watch(&spawner, box) < 0);
	spawner.epoll = epoll;
	assert_true(spawner.timer_on);
	assert_true(sandbox_tend(&spawner, box)); /* lives: look again */
	fd_close(&init);                          /* its "pidfd" becomes readable */
	assert_false(sandbox_tend(&spawner, box));
	assert_int_equal(box->state, BOX_GONE);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
	const struct CMUnitTest tests[] = {
		TEST(an_end_waits_for_the_inventory), TEST(what_is_ending_is_announced), TEST(a_trace_is_remembered),
		TEST(a_broken_link_ends_for_both),    TEST(init_is_heard_once),          TEST(an_unwatched_end_is_found),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
