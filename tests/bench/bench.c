/* SPDX-License-Identifier: Apache-2.0
 * Runs: bench (an ordinary user for launch and roundtrip, root for floor). Measures, prints nanoseconds, judges nothing.
 *
 *   bench launch COUNT SOCKET HYPERVISOR [own|shared [NETWORK]]   ACQUIRE sent until the VMM's first instruction
 *   bench floor COUNT PROGRAM [own|shared]     clone3 with the same namespaces, maps written, execve
 *   bench spawn COUNT PROGRAM...               fork and execve of PROGRAM..., for instance bwrap
 *   bench roundtrip COUNT SOCKET               HOST and its answer
 *   bench pingpong COUNT [fd]                  the same sizes between two bare processes, with a descriptor each way
 *
 * One sample a line. The programs that are started write their CLOCK_MONOTONIC as their first act (first-instruction.c).
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/sched.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "common/fdpass.h"
#include "common/wire.h"

#define FLOOR_UID 0x71fffff0u /* outside every test slot: nothing else runs as it */

static int64_t now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

static void die(const char *what)
{
	fprintf(stderr, "bench: %s: %s\n", what, strerror(errno));
	exit(1);
}

static void sample(int64_t ns)
{
	printf("%lld\n", (long long)ns);
}

/* The clock that the started program wrote. */
static int64_t read_clock(int fd)
{
	int64_t clock;
	ssize_t n;

	do
		n = read(fd, &clock, sizeof(clock));
	while (n < 0 && errno == EINTR);
	if (n != (ssize_t)sizeof(clock)) {
		errno = n < 0 ? errno : EPIPE;
		die("the program did not write its clock");
	}
	return clock;
}

/* ---- the broker's side ---------------------------------------------------------------------------------------- */

static void receive(int fd, enum wire_link link, enum wire_side peer, enum wire_op op, struct wire_in *in)
{
	struct wire_session session = { .link = link, .peer = peer, .phase = PHASE_READY, .replies = true };
	int r = wire_recv(fd, &session, in);

	if (r <= 0) {
		fprintf(stderr, "bench: %s: %s\n", wire_op_name(op),
			r == 0            ? "hang-up"
			: in->why != NULL ? in->why
					  : strerror(-r));
		exit(1);
	}
	if (in->kind == WIRE_ERROR) {
		fprintf(stderr, "bench: %s: refused: %s\n", wire_op_name(op), wire_error_name(in->msg.error.code));
		exit(1);
	}
	if (in->op == WIRE_OP_C_FAILED) {
		fprintf(stderr, "bench: launch failed at %s: %s\n", wire_step_name(in->msg.step_failed.step),
			strerror((int)in->msg.step_failed.error));
		exit(1);
	}
	if (in->op != op) {
		fprintf(stderr, "bench: %s instead of %s\n", wire_op_name(in->op), wire_op_name(op));
		exit(1);
	}
}

static int connect_broker(const char *path)
{
	struct sockaddr_un sun = { .sun_family = AF_UNIX };
	struct wire_hello hello = { .version = WIRE_VERSION };
	static struct wire_in in;
	int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);

	if (fd < 0 || wire_set_chars(sun.sun_path, sizeof(sun.sun_path), path) < 0)
		die(path);
	if (connect(fd, (struct sockaddr *)&sun, sizeof(sun)) < 0)
		die(path);
	if (wire_send(fd, WIRE_OP_HELLO, WIRE_REQUEST, 1, &hello, NULL, 0) < 0)
		die("HELLO");
	receive(fd, LINK_CLIENT, FROM_BROKER, WIRE_OP_HELLO, &in);
	return fd;
}

static void roundtrip(int argc, char **argv, long count)
{
	int fd = connect_broker(argc > 0 ? argv[0] : "");
	static const struct wire_empty empty;
	static struct wire_in in;

	for (long i = 0; i < count; i++) {
		int64_t start = now_ns();

		if (wire_send(fd, WIRE_OP_HOST, WIRE_REQUEST, 2, &empty, NULL, 0) < 0)
			die("HOST");
		receive(fd, LINK_CLIENT, FROM_BROKER, WIRE_OP_HOST, &in);
		sample(now_ns() - start);
	}
	close(fd);
}

/* Wait until the broker has forgotten the last one: taking a tap and namespaces down holds locks that the next launch
 * needs, and what is measured is one launch, not two of them fighting. */
static void wait_forgotten(int broker)
{
	const struct timespec nap = { .tv_nsec = 2000000 };
	struct wire_cursor cursor = { 0 };
	static struct wire_in in;
	struct wire_session session = { .link = LINK_CLIENT, .peer = FROM_BROKER, .phase = PHASE_READY, .replies = true };

	for (;;) {
		if (wire_send(broker, WIRE_OP_NEXT, WIRE_REQUEST, 4, &cursor, NULL, 0) < 0 ||
		    wire_recv(broker, &session, &in) <= 0)
			die("NEXT");
		if (in.kind == WIRE_ERROR)
			break;
		nanosleep(&nap, NULL);
	}
	nanosleep(&nap, NULL); /* the kernel takes network namespaces down a little later */
}

/* One sandbox from request to its end. The end is not measured, but waited for: launches do not overlap. */
static void launch_once(int broker, const struct wire_acquire *ask, const struct wire_plan *plan)
{
	static struct wire_in in;
	int control[2];
	int pidfd, log;
	int64_t start;
	struct pollfd gone;

	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, control) < 0)
		die("socketpair");
	start = now_ns();
	if (wire_send(broker, WIRE_OP_ACQUIRE, WIRE_REQUEST, 3, ask, &control[1], 1) < 0)
		die("ACQUIRE");
	receive(broker, LINK_CLIENT, FROM_BROKER, WIRE_OP_ACQUIRE, &in);
	pidfd = fd_take(&in.fds[0]);
	close(control[1]);
	if (wire_send(control[0], WIRE_OP_C_PLAN, WIRE_REQUEST, 1, plan, NULL, 0) < 0)
		die("C_PLAN");
	receive(control[0], LINK_CONTROL, FROM_INIT, WIRE_OP_C_CHANNELS, &in);
	log = in.fds[2];
	sample(read_clock(log) - start);
	close(control[0]);
	wire_in_close(&in);
	gone = (struct pollfd){ .fd = pidfd, .events = POLLIN };
	if (poll(&gone, 1, 10000) != 1)
		die("the sandbox did not end");
	close(pidfd);
	wait_forgotten(broker);
}

static void launch(int argc, char **argv, long count)
{
	struct wire_acquire ask = { .vcpus = 1, .memory_mib = 16 };
	static struct wire_plan plan;
	static struct wire_in in;
	struct wire_name name = { 0 };
	int broker;

	if (argc < 2)
		exit(2);
	broker = connect_broker(argv[0]);
	if (wire_set_chars(name.name, sizeof(name.name), argv[1]) < 0 ||
	    wire_set_chars(ask.hypervisor, sizeof(ask.hypervisor), argv[1]) < 0)
		die(argv[1]);
	if (wire_send(broker, WIRE_OP_HYPERVISOR, WIRE_REQUEST, 2, &name, NULL, 0) < 0)
		die("HYPERVISOR");
	receive(broker, LINK_CLIENT, FROM_BROKER, WIRE_OP_HYPERVISOR, &in);
	plan.word_count = 1;
	plan.word_bytes = (uint16_t)(strlen(in.msg.hypervisor_reply.path) + 1);
	memcpy(plan.words, in.msg.hypervisor_reply.path, plan.word_bytes);
	if (argc > 2 && strcmp(argv[2], "shared") == 0)
		ask.flags |= WIRE_NETNS_SHARED;
	if (argc > 3) {
		ask.nic_count = 1;
		ask.nics[0].queues = 1;
		if (wire_set_chars(ask.nics[0].network, sizeof(ask.nics[0].network), argv[3]) < 0)
			die(argv[3]);
	}
	for (long i = 0; i < count; i++) {
		if (getrandom(ask.uuid, sizeof(ask.uuid), 0) != (ssize_t)sizeof(ask.uuid))
			die("getrandom");
		launch_once(broker, &ask, &plan);
	}
	close(broker);
}

/* ---- what it is compared with ---------------------------------------------------------------------------------- */

static void write_map(pid_t pid, const char *file)
{
	char path[64], map[64];
	int fd, n;

	snprintf(path, sizeof(path), "/proc/%d/%s", pid, file);
	n = snprintf(map, sizeof(map), "%u %u 1\n", FLOOR_UID, FLOOR_UID);
	fd = open(path, O_WRONLY | O_CLOEXEC);
	if (fd < 0 || write(fd, map, (size_t)n) != n)
		die(path);
	close(fd);
}

static void exec_with_output(int out, int closed, char **argv)
{
	char *envp[] = { NULL };

	if (dup2(out, STDOUT_FILENO) < 0)
		_exit(126);
	close(closed);
	close(3); /* no control channel: the program ends by itself */
	execve(argv[0], argv, envp);
	_exit(127);
}

static void finish(pid_t pid, int out, int64_t start)
{
	sample(read_clock(out) - start);
	close(out);
	if (waitpid(pid, NULL, 0) != pid)
		die("waitpid");
}

static void floor_once(char **argv, uint64_t flags)
{
	struct clone_args args = { .flags = flags, .exit_signal = SIGCHLD };
	int out[2], go[2];
	int64_t start = now_ns();
	char byte = 0;
	pid_t pid;

	/* Out of the way of descriptor 3. */
	if (pipe2(out, O_CLOEXEC) < 0 || pipe2(go, O_CLOEXEC) < 0)
		die("pipe");
	pid = (pid_t)syscall(SYS_clone3, &args, sizeof(args));
	if (pid < 0)
		die("clone3");
	if (pid == 0) {
		int keep = fcntl(out[1], F_DUPFD, 10);

		close(go[1]);
		if (read(go[0], &byte, 1) != 1 || setresgid(FLOOR_UID, FLOOR_UID, FLOOR_UID) < 0 ||
		    setresuid(FLOOR_UID, FLOOR_UID, FLOOR_UID) < 0)
			_exit(125);
		exec_with_output(keep, out[0], argv);
	}
	write_map(pid, "uid_map");
	write_map(pid, "gid_map");
	if (write(go[1], &byte, 1) != 1)
		die("pipe");
	close(out[1]);
	close(go[0]);
	close(go[1]);
	finish(pid, out[0], start);
}

static void floor_bench(int argc, char **argv, long count)
{
	uint64_t flags = CLONE_NEWUSER | CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWIPC | CLONE_NEWUTS | CLONE_NEWCGROUP;
	char *words[] = { argc > 0 ? argv[0] : NULL, NULL };

	if (argc < 2 || strcmp(argv[1], "shared") != 0)
		flags |= CLONE_NEWNET;
	for (long i = 0; i < count; i++)
		floor_once(words, flags);
}

static void spawn(int argc, char **argv, long count)
{
	if (argc < 1)
		exit(2);
	for (long i = 0; i < count; i++) {
		int out[2];
		int64_t start = now_ns();
		pid_t pid;

		if (pipe2(out, O_CLOEXEC) < 0)
			die("pipe");
		pid = fork();
		if (pid < 0)
			die("fork");
		if (pid == 0)
			exec_with_output(fcntl(out[1], F_DUPFD, 10), out[0], argv);
		close(out[1]);
		finish(pid, out[0], start);
	}
}

static void echo(int fd, bool with_fd)
{
	char buf[256];
	size_t got;
	int passed[4];

	while (fdpass_recv(fd, buf, sizeof(buf), passed, 4, &got) > 0) {
		if (fdpass_send(fd, buf, WIRE_HEADER_SIZE + WIRE_SIZE_host_reply, passed, with_fd ? got : 0) < 0)
			break;
		for (size_t i = 0; i < got; i++)
			close(passed[i]);
	}
	_exit(0);
}

static void pingpong(int argc, char **argv, long count)
{
	bool with_fd = argc > 0 && strcmp(argv[0], "fd") == 0;
	char buf[256] = { 0 };
	int pair[2], passed[4];
	pid_t pid;

	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0)
		die("socketpair");
	pid = fork();
	if (pid < 0)
		die("fork");
	if (pid == 0) {
		close(pair[0]);
		echo(pair[1], with_fd);
	}
	close(pair[1]);
	for (long i = 0; i < count; i++) {
		int64_t start = now_ns();
		size_t got = 0;

		if (fdpass_send(pair[0], buf, WIRE_HEADER_SIZE, &pair[0], with_fd ? 1 : 0) < 0 ||
		    fdpass_recv(pair[0], buf, sizeof(buf), passed, 4, &got) <= 0)
			die("ping-pong");
		for (size_t j = 0; j < got; j++)
			close(passed[j]);
		sample(now_ns() - start);
	}
	close(pair[0]);
	waitpid(pid, NULL, 0);
}

int main(int argc, char **argv)
{
	static const struct {
		const char *name;
		void (*run)(int argc, char **argv, long count);
	} benches[] = { { "launch", launch },
			{ "floor", floor_bench },
			{ "spawn", spawn },
			{ "roundtrip", roundtrip },
			{ "pingpong", pingpong } };

	for (size_t i = 0; argc > 2 && i < ARRAY_SIZE(benches); i++)
		if (strcmp(argv[1], benches[i].name) == 0) {
			benches[i].run(argc - 3, argv + 3, strtol(argv[2], NULL, 10));
			return 0;
		}
	fprintf(stderr, "usage: bench launch|floor|spawn|roundtrip|pingpong COUNT ...\n");
	return 2;
}
