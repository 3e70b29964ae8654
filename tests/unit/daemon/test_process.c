/* SPDX-License-Identifier: Apache-2.0
 * Runs: tests, as root (only root can become the broker's user). The real program under its real filter: what the
 * kernel says it has, that it serves, that it refuses to run in any other state (ATTACKS D14, D15, D31).
 * argv[1]: postern-broker. */
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "broker/inherit.h"
#include "common/cleanup.h"
#include "common/wire.h"

#define BROKER 64800
#define PLACE 100 /* above every inherited number */
#define WAIT_MS 5000

static const char *program;

static const char policy_text[] =
	"{ \"version\": 1, \"daemon\": { \"user\": 64800, \"spawn_user\": 64801 },"
	"  \"hypervisors\": { \"mock\": { \"driver\": \"mock\", \"path\": \"/usr/libexec/postern/postern-mock-vmm\" } },"
	"  \"rules\": [ { \"users\": [\"*\"], \"hypervisors\": [\"mock\"], \"survive\": true } ],"
	"  \"timeouts\": { \"hello_ms\": 200 } }";

/* How a broker is started; zero is the right way. */
struct wrong {
	int keep_bounding, other_uid, extra_group, no_listen, bad_policy, bad_host, open_policy, open_host,
		planted_ids;
};

struct room {
	char dir[64];
	int dirfd, listen, spawner, log;
	pid_t pid;
};

static int memfd(const char *name, const void *bytes, size_t size, int seals)
{
	int fd = memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING);

	assert_int_equal(write(fd, bytes, size), size);
	assert_return_code(fcntl(fd, F_ADD_SEALS, seals), errno);
	return fd;
}

/* In the child: only what may be called between fork and exec matters here, so nothing asserts. */
static void become_broker(const int *from, const int *to, size_t count, const struct wrong *wrong)
{
	gid_t group = 64999;

	for (size_t i = 0; i < count; i++)
		if (dup2(from[i], to[i]) < 0)
			_exit(100);
	if (wrong->no_listen)
		(void)close(BROKER_FD_LISTEN);
	for (unsigned long cap = 0; !wrong->keep_bounding && prctl(PR_CAPBSET_READ, cap, 0, 0, 0) >= 0; cap++)
		if (prctl(PR_CAPBSET_DROP, cap, 0, 0, 0) < 0)
			_exit(101);
	if (setgroups(wrong->extra_group ? 1 : 0, &group) < 0 || setresgid(BROKER, BROKER, BROKER) < 0)
		_exit(102);
	if (wrong->other_uid ? setresuid(64899, 64899, 64899) < 0 : setresuid(BROKER, BROKER, BROKER) < 0)
		_exit(103);
	(void)execl(program, "postern-broker", "--stop-sandboxes-on-exit", (char *)NULL);
	_exit(104);
}

static void start(struct room *room, const struct wrong *wrong)
{
	struct host_table host = {
		.magic = wrong->bad_host ? 1 : TABLE_MAGIC, .size = sizeof(host), .boot_id = 5
	};
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	int pair[2], log[2], from[7], count = 0;
	const int to[] = { STDIN_FILENO,     STDERR_FILENO,     BROKER_FD_SPAWNER, BROKER_FD_POLICY,
			   BROKER_FD_LISTEN, BROKER_FD_RUNTIME, BROKER_FD_HOST };

	memset(room, 0, sizeof(*room));
	strcpy(room->dir, "/tmp/postern-process-XXXXXX");
	assert_non_null(mkdtemp(room->dir));
	assert_return_code(chown(room->dir, BROKER, BROKER), errno);
	room->dirfd = open(room->dir, O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (wrong->planted_ids)
		assert_return_code(symlinkat("/etc/passwd", room->dirfd, "ids"), errno);
	assert_true(snprintf(address.sun_path, sizeof(address.sun_path), "%s/broker.sock", room->dir) > 0);
	room->listen = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
	assert_return_code(bind(room->listen, (struct sockaddr *)&address, sizeof(address)), errno);
	assert_return_code(listen(room->listen, 16), errno);
	assert_return_code(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair), errno);
	assert_return_code(pipe2(log, O_CLOEXEC), errno);
	room->spawner = pair[1];
	room->log = log[0];
	memset(host.outcomes, WIRE_BY_NO_KERNEL, sizeof(host.outcomes));
	from[count++] = open("/dev/null", O_RDWR | O_CLOEXEC);
	from[count++] = log[1];
	from[count++] = pair[0];
	from[count++] = memfd("policy", policy_text, wrong->bad_policy ? 20 : sizeof(policy_text) - 1,
			      wrong->open_policy ? TABLE_SEALS & ~F_SEAL_WRITE : TABLE_SEALS);
	from[count++] = dup(room->listen);
	from[count++] = dup(room->dirfd);
	from[count++] = memfd("host", &host, sizeof(host), wrong->open_host ? TABLE_SEALS & ~F_SEAL_WRITE : TABLE_SEALS);
	for (int i = 0; i < count; i++) {
		int high = fcntl(from[i], F_DUPFD_CLOEXEC, PLACE);

		(void)close(from[i]);
		from[i] = high;
	}
	room->pid = fork();
	assert_true(room->pid >= 0);
	if (room->pid == 0)
		become_broker(from, to, (size_t)count, wrong);
	for (int i = 0; i < count; i++)
		(void)close(from[i]);
}

static int exit_status(struct room *room)
{
	int status;

	assert_int_equal(waitpid(room->pid, &status, 0), room->pid);
	assert_true(WIFEXITED(status));
	return WEXITSTATUS(status);
}

static void end(struct room *room)
{
	(void)unlinkat(room->dirfd, "ids", 0);
	(void)unlinkat(room->dirfd, "broker.sock", 0);
	fd_close(&room->dirfd);
	fd_close(&room->listen);
	fd_close(&room->spawner);
	fd_close(&room->log);
	assert_return_code(rmdir(room->dir), errno);
}

static void log_has(struct room *room, const char *text)
{
	char log[4096];
	ssize_t n, used = 0;

	while (used < (ssize_t)sizeof(log) - 1 && (n = read(room->log, log + used, sizeof(log) - 1 - (size_t)used)) > 0)
		used += n;
	log[used] = '\0';
	if (strstr(log, text) == NULL)
		fail_msg("no \"%s\" in: %s", text, log);
}

static void receive(int fd, const struct wire_session *view, struct wire_in *in, enum wire_op op)
{
	struct pollfd waiting = { .fd = fd, .events = POLLIN };

	assert_int_equal(poll(&waiting, 1, WAIT_MS), 1);
	assert_int_equal(wire_recv(fd, view, in), 1);
	assert_int_equal(in->op, op);
}

static int dial(const struct room *room)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);

	assert_true(snprintf(address.sun_path, sizeof(address.sun_path), "%s/broker.sock", room->dir) > 0);
	assert_return_code(connect(fd, (struct sockaddr *)&address, sizeof(address)), errno);
	return fd;
}

static const struct wire_session from_broker = { .link = LINK_SPAWNER,
						 .peer = FROM_BROKER,
						 .phase = PHASE_NEW | PHASE_READY };
static const struct wire_session as_client = {
	.link = LINK_CLIENT, .peer = FROM_BROKER, .phase = PHASE_READY, .replies = true
};

static void welcome(struct room *room, struct wire_in *in)
{
	const struct wire_spawner_hello hello = { .version = WIRE_VERSION };

	receive(room->spawner, &from_broker, in, WIRE_OP_S_HELLO);
	assert_int_equal(wire_send(room->spawner, WIRE_OP_S_WELCOME, WIRE_REQUEST, 0, &hello, NULL, 0), 0);
}

static void status_is_empty(pid_t pid)
{
	static const char *const wanted[] = {
		"\nUid:\t64800\t64800\t64800\t64800\n",
		"\nGid:\t64800\t64800\t64800\t64800\n",
		"\nGroups:\t \n",
		"\nCapInh:\t0000000000000000\n",
		"\nCapPrm:\t0000000000000000\n",
		"\nCapEff:\t0000000000000000\n",
		"\nCapBnd:\t0000000000000000\n",
		"\nCapAmb:\t0000000000000000\n",
		"\nNoNewPrivs:\t1\n",
		"\nSeccomp:\t2\n",
		"\nThreads:\t1\n",
	};
	char path[64], text[8192];
	ssize_t n;
	int fd;

	(void)snprintf(path, sizeof(path), "/proc/%d/status", pid);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	n = read(fd, text, sizeof(text) - 1);
	assert_true(n > 0);
	text[n] = '\0';
	(void)close(fd);
	for (size_t i = 0; i < ARRAY_SIZE(wanted); i++)
		if (strstr(text, wanted[i]) == NULL)
			fail_msg("no \"%s\" in: %s", wanted[i], text);
}

/* Everything the broker does at run time, so that a system call its filter lacks is found here. */
static void D31_holds_nothing_and_serves_under_its_filter(void **state)
{
	static struct wire_in in;
	struct wire_acquire ask = {
		.uuid = { 7 }, .hypervisor = "mock", .vcpus = 1, .memory_mib = 64, .flags = WIRE_SURVIVE
	};
	const struct wire_hello hello = { .version = WIRE_VERSION };
	struct wire_lease lease;
	struct room room;
	int fd, late, pidfd, control[2], keeper[2];
	char byte;

	(void)state;
	start(&room, &(struct wrong){ 0 });
	welcome(&room, &in);
	fd = dial(&room);
	assert_int_equal(wire_send(fd, WIRE_OP_HELLO, WIRE_REQUEST, 1, &hello, NULL, 0), 0);
	receive(fd, &as_client, &in, WIRE_OP_HELLO);
	assert_int_equal(in.msg.hello_reply.boot_id, 5);
	status_is_empty(room.pid);
	assert_int_equal(wire_send(fd, WIRE_OP_HOST, WIRE_REQUEST, 2, NULL, NULL, 0), 0);
	receive(fd, &as_client, &in, WIRE_OP_HOST);
	assert_int_equal(in.kind, WIRE_REPLY);
	assert_return_code(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, control), errno);
	assert_return_code(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, keeper), errno);
	assert_int_equal(wire_send(fd, WIRE_OP_ACQUIRE, WIRE_REQUEST, 3, &ask, &control[1], 1), 0);
	receive(room.spawner, &from_broker, &in, WIRE_OP_S_START);
	lease = in.msg.start.lease[0];
	wire_in_close(&in);
	pidfd = (int)syscall(SYS_pidfd_open, getpid(), 0);
	assert_int_equal(wire_send(room.spawner, WIRE_OP_S_STARTED, WIRE_REQUEST, 0, &lease, (int[]){ pidfd, keeper[0] }, 2),
			 0);
	receive(fd, &as_client, &in, WIRE_OP_ACQUIRE);
	assert_int_equal(in.kind, WIRE_REPLY);
	wire_in_close(&in);
	assert_int_equal(
		wire_send(fd, WIRE_OP_ATTACH, WIRE_REQUEST, 4, &(struct wire_uuid){ .uuid = { 7 } }, &control[1], 1), 0);
	receive(fd, &as_client, &in, WIRE_OP_ATTACH);
	assert_int_equal(in.kind, WIRE_REPLY);
	wire_in_close(&in);
	assert_int_equal(wire_send(fd, WIRE_OP_NEXT, WIRE_REQUEST, 5, &(struct wire_cursor){ 0 }, NULL, 0), 0);
	receive(fd, &as_client, &in, WIRE_OP_NEXT);
	assert_int_equal(in.msg.lease.id, lease.id);
	/* a violation and a timeout end other sessions only */
	late = dial(&room);
	assert_int_equal(send(late, "nonsense", 8, 0), 8);
	assert_int_equal(recv(late, &byte, 1, 0), 0);
	(void)close(late);
	late = dial(&room);
	assert_int_equal(recv(late, &byte, 1, 0), 0);
	(void)close(late);
	/* an orderly stop */
	assert_return_code(kill(room.pid, SIGTERM), errno);
	receive(room.spawner, &from_broker, &in, WIRE_OP_S_KILL);
	assert_int_equal(wire_send(room.spawner, WIRE_OP_S_GONE, WIRE_REQUEST, 0,
				   &(struct wire_gone){ .id = lease.id, .clean = 1 }, NULL, 0),
			 0);
	receive(room.spawner, &from_broker, &in, WIRE_OP_S_SHUTDOWN);
	assert_int_equal(exit_status(&room), 0);
	log_has(&room, "op=ACQUIRE uid=0 ");
	(void)close(fd);
	(void)close(pidfd);
	for (int i = 0; i < 2; i++) {
		(void)close(control[i]);
		(void)close(keeper[i]);
	}
	end(&room);
}

static void refused(const struct wrong *wrong, int status, const char *text)
{
	struct room room;

	start(&room, wrong);
	log_has(&room, text); /* reads until it has ended */
	assert_int_equal(exit_status(&room), status);
	end(&room);
}

static void D15_a_bounding_set_that_is_not_empty(void **state)
{
	(void)state;
	refused(&(struct wrong){ .keep_bounding = 1 }, 1, "bounding set");
}

static void D15_another_uid(void **state)
{
	(void)state;
	refused(&(struct wrong){ .other_uid = 1 }, 1, ""); /* cannot even make its file, or sees that it is somebody else */
}

static void D14_a_group_too_many(void **state)
{
	(void)state;
	refused(&(struct wrong){ .extra_group = 1 }, 1, "supplementary group");
}

static void without_what_postern_start_leaves(void **state)
{
	(void)state;
	refused(&(struct wrong){ .no_listen = 1 }, 1, "descriptors are missing");
	refused(&(struct wrong){ .bad_host = 1 }, 1, "host table");
	refused(&(struct wrong){ .bad_policy = 1 }, 2, "policy:1:");
	refused(&(struct wrong){ .open_host = 1 }, 1, "host table");
	refused(&(struct wrong){ .open_policy = 1 }, 1, "could still be changed");
}

static void D01_a_planted_id_file(void **state)
{
	(void)state;
	refused(&(struct wrong){ .planted_ids = 1 }, 1, "the file \"ids\"");
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(D31_holds_nothing_and_serves_under_its_filter),
		cmocka_unit_test(D15_a_bounding_set_that_is_not_empty),
		cmocka_unit_test(D15_another_uid),
		cmocka_unit_test(D14_a_group_too_many),
		cmocka_unit_test(without_what_postern_start_leaves),
		cmocka_unit_test(D01_a_planted_id_file),
	};

	if (argc != 2 || getuid() != 0) {
		(void)fprintf(stderr, "usage, as root: %s POSTERN-BROKER\n", argv[0]);
		return getuid() != 0 ? 77 : 1; /* 77: meson shows it as skipped */
	}
	program = argv[1];
	return cmocka_run_group_tests(tests, NULL, NULL);
}
