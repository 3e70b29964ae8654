/* SPDX-License-Identifier: Apache-2.0
 * Runs: tests. The broker's client against a peer that answers as a script says: well, wrongly, late, not at all. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "common/fdpass.h"
#include "launcher/sandbox/broker_client.h"
#include "launcher/sandbox/broker_errors.h"

/* How the peer answers the second request; the first, HELLO, is answered well unless the script is about it. */
enum script {
	WELL, WRONG_LENGTH, WRONG_OP, WRONG_SEQUENCE, STRAY_FDS, NO_FD, RANDOM, STALL, CLOSE, ERROR_REPLY, ERROR_UNASKED, BAD_FIELD,
	REQUEST_INSTEAD, OLD_VERSION, HELLO_STALL, HELLO_CLOSE, LONGEST
};

static char socket_path[64];
static pid_t peer;

static void answer(int fd, enum script script, uint16_t op, uint32_t sequence)
{
	static union wire_any msg;
	static uint8_t buf[2 * WIRE_MESSAGE_MAX];
	int null[3] = { open("/dev/null", O_RDONLY), open("/dev/null", O_RDONLY), open("/dev/null", O_RDONLY) };
	bool lease = op == WIRE_OP_ACQUIRE || op == WIRE_OP_ATTACH;
	size_t fds = lease ? 1 : 0;
	enum wire_kind kind = WIRE_REPLY;
	long len;

	memset(&msg, 0, sizeof(msg));
	if (op == WIRE_OP_HELLO) {
		msg.hello_reply.version = script == OLD_VERSION ? 99 : WIRE_VERSION;
	} else if (lease || op == WIRE_OP_NEXT) {
		msg.lease.id = 7;
		msg.lease.vcpus = msg.lease.memory_mib = 1;
		strcpy(msg.lease.hypervisor, "mock");
	}
	if (op == WIRE_OP_HELLO && script != HELLO_STALL && script != HELLO_CLOSE)
		script = WELL;
	if (script == ERROR_REPLY || script == ERROR_UNASKED) {
		kind = WIRE_ERROR;
		fds = 0;
		memset(&msg, 0, sizeof(msg));
		msg.error.code = op == WIRE_OP_NEXT || op == WIRE_OP_ENDED ? WIRE_ERR_NOT_FOUND : WIRE_ERR_STEP_FAILED;
		msg.error.step = STEP_TAP_CREATE;
		msg.error.number = EPERM;
		sequence = script == ERROR_UNASKED ? 0 : sequence;
	}
	len = wire_encode(op, kind, sequence, &msg, buf, sizeof(buf));
	if (len < 0)
		_exit(3);
	switch (script) {
	case WELL: case ERROR_REPLY: case ERROR_UNASKED: case OLD_VERSION: break;
	case WRONG_LENGTH: len++; break;
	case WRONG_OP: buf[0] = op == WIRE_OP_HOST ? WIRE_OP_KILL : WIRE_OP_HOST; break;
	case WRONG_SEQUENCE: buf[4] ^= 1; break;
	case STRAY_FDS: fds += 2; break;
	case NO_FD: fds = 0; break;
	case RANDOM: memset(buf, 0xa5, sizeof(buf)); len = 100; break;
	case BAD_FIELD: memset(buf + WIRE_HEADER_SIZE, 0xff, (size_t)len - WIRE_HEADER_SIZE); break;
	case REQUEST_INSTEAD: buf[2] = WIRE_REQUEST; break;
	case LONGEST: len = sizeof(buf); break;
	case STALL: case HELLO_STALL: pause(); break;
	case CLOSE: case HELLO_CLOSE: _exit(0);
	}
	(void)fdpass_send(fd, buf, (size_t)len, null, fds);
	for (size_t i = 0; i < 3; i++)
		close(null[i]);
}

static void start_peer(enum script script)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	int listener = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);

	snprintf(socket_path, sizeof(socket_path), "/tmp/postern-test-broker-%d", getpid());
	strcpy(address.sun_path, socket_path);
	unlink(socket_path);
	assert_int_equal(bind(listener, (struct sockaddr *)&address, sizeof(address)), 0);
	assert_int_equal(listen(listener, 4), 0);
	peer = fork();
	if (peer == 0) {
		int fd = accept(listener, NULL, NULL);
		static uint8_t buf[WIRE_MESSAGE_MAX];
		int fds[WIRE_FDS_MAX];
		size_t count;

		while (fdpass_recv(fd, buf, sizeof(buf), fds, WIRE_FDS_MAX, &count) > 0) {
			for (size_t i = 0; i < count; i++)
				close(fds[i]);
			answer(fd, script, (uint16_t)(buf[0] | buf[1] << 8), (uint32_t)(buf[4] | buf[5] << 8));
		}
		_exit(0);
	}
	close(listener);
}

static void end_peer(void)
{
	kill(peer, SIGKILL);
	waitpid(peer, NULL, 0);
	unlink(socket_path);
}

static int open_fds(void)
{
	int count = 0;

	for (int fd = 0; fd < 200; fd++)
		count += fcntl(fd, F_GETFD) >= 0 ? 1 : 0;
	return count;
}

static void well(void **state)
{
	const struct wire_acquire ask = { .hypervisor = "mock", .vcpus = 1, .memory_mib = 1 };
	struct wire_acquire bad = ask;
	const uint8_t uuid[16] = { 1 };
	struct wire_hypervisor_reply hypervisor;
	struct wire_network_reply network;
	struct wire_host_reply host;
	struct broker_failure why;
	struct wire_lease lease;
	struct wire_ended ended;
	struct broker *broker;
	int pair[2], pidfd = -1, before;

	(void)state;
	start_peer(WELL);
	before = open_fds();
	assert_int_equal(broker_connect(socket_path, &broker, &why), 0);
	assert_int_equal(broker_host(broker, &host, &why), 0);
	assert_int_equal(broker_hypervisor(broker, "mock", &hypervisor, &why), 0);
	assert_int_equal(broker_network(broker, "lan", &network, &why), 0);
	assert_int_equal(broker_network(broker, "a name/../", &network, &why), -EREMOTEIO);
	assert_int_equal(why.code, WIRE_ERR_NETWORK_UNKNOWN);
	assert_int_equal(broker_kill(broker, uuid, &why), 0);
	assert_int_equal(broker_ended(broker, uuid, &ended, &why), 0);
	assert_int_equal(ended.oom, 0);
	assert_int_equal(broker_next(broker, 0, &lease, &why), 0);
	assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, pair), 0);
	bad.vcpus = 0; /* said here, not found out by the broker */
	assert_int_equal(broker_acquire(broker, &bad, pair[0], &lease, &pidfd, &why), -EINVAL);
	assert_int_equal(why.exit_status, EXIT_USAGE);
	assert_int_equal(pidfd, -1);
	assert_int_equal(broker_acquire(broker, &ask, pair[0], &lease, &pidfd, &why), 0);
	assert_string_equal(lease.hypervisor, "mock");
	assert_true(fcntl(pidfd, F_GETFD) & FD_CLOEXEC);
	close(pidfd);
	assert_int_equal(broker_attach(broker, uuid, pair[0], &lease, &pidfd, &why), 0);
	close(pidfd);
	close(pair[0]);
	close(pair[1]);
	broker_close(broker);
	broker_close(NULL);
	assert_int_equal(open_fds(), before);
	end_peer();
}

/* Each wrong answer: refused, outputs untouched, no descriptor kept, the session unusable from then on. */
static void hostile(void **state)
{
	static const enum script scripts[] = { WRONG_LENGTH, WRONG_OP, WRONG_SEQUENCE, STRAY_FDS, NO_FD, RANDOM, CLOSE, BAD_FIELD,
					       REQUEST_INSTEAD, LONGEST };
	const uint8_t uuid[16] = { 1 };
	struct wire_host_reply host;

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(scripts); i++) {
		struct wire_lease lease = { .id = 99 };
		struct broker_failure why = { 0 };
		struct broker *broker;
		int pidfd = -5, before, r;

		start_peer(scripts[i]);
		before = open_fds();
		assert_int_equal(broker_connect(socket_path, &broker, &why), 0);
		r = broker_attach(broker, uuid, 0, &lease, &pidfd, &why);
		if (r >= 0 || pidfd != -5 || lease.id != 99 || why.exit_status != EXIT_NO_BROKER || why.text[0] == '\0')
			fail_msg("script %d: %d, pidfd %d, id %llu, exit %d, %s", scripts[i], r, pidfd, (unsigned long long)lease.id,
				 why.exit_status, why.text);
		if (scripts[i] != CLOSE)
			assert_int_equal(r, -EPROTO);
		assert_int_equal(broker_host(broker, &host, &why), -EPIPE);
		broker_close(broker);
		assert_int_equal(open_fds(), before);
		end_peer();
	}
}

static void errors(void **state)
{
	const uint8_t uuid[16] = { 1 };
	struct broker_failure why;
	struct wire_lease lease;
	struct wire_ended ended;
	struct broker *broker;
	int pidfd = -1;

	(void)state;
	start_peer(ERROR_REPLY);
	assert_int_equal(broker_connect(socket_path, &broker, &why), 0);
	assert_int_equal(broker_attach(broker, uuid, 0, &lease, &pidfd, &why), -EREMOTEIO);
	assert_int_equal(why.exit_status, EXIT_LAUNCH);
	assert_non_null(strstr(why.text, "could not create the tap: Operation not permitted"));
	assert_int_equal(broker_next(broker, 0, &lease, &why), -ENOENT); /* the session goes on after an error */
	assert_int_equal(broker_ended(broker, uuid, &ended, &why), -ENOENT);
	broker_close(broker);
	end_peer();
	start_peer(ERROR_UNASKED);
	assert_int_equal(broker_connect(socket_path, &broker, &why), 0);
	assert_int_equal(broker_kill(broker, uuid, &why), -EREMOTEIO);
	assert_int_equal(broker_kill(broker, uuid, &why), -EPIPE); /* what it belonged to is not known: over */
	broker_close(broker);
	end_peer();
	start_peer(HELLO_CLOSE);
	assert_int_equal(broker_connect(socket_path, &broker, &why), -EPIPE);
	end_peer();
}

static void stalls(void **state)
{
	struct broker_failure why;
	struct wire_host_reply host;
	struct broker *broker;

	(void)state;
	start_peer(STALL);
	assert_int_equal(broker_connect(socket_path, &broker, &why), 0);
	assert_int_equal(broker_host(broker, &host, &why), -ETIMEDOUT);
	assert_int_equal(why.exit_status, EXIT_TIMEOUT);
	broker_close(broker);
	end_peer();
}

static void unreachable(void **state)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	struct broker_failure why;
	struct broker *broker;
	char path[200];
	int dead;

	(void)state;
	assert_int_equal(broker_connect("/nonexistent/broker.sock", &broker, &why), -ENOENT);
	assert_int_equal(why.exit_status, EXIT_NO_BROKER);
	assert_non_null(strstr(why.text, "no broker at /nonexistent/broker.sock: start it with"));
	memset(path, 'x', sizeof(path) - 1);
	path[0] = '/';
	path[sizeof(path) - 1] = '\0';
	assert_int_equal(broker_connect(path, &broker, &why), -ENAMETOOLONG);
	assert_int_equal(why.exit_status, EXIT_USAGE);
	/* a socket whose owner has died */
	snprintf(address.sun_path, sizeof(address.sun_path), "/tmp/postern-test-dead-%d", getpid());
	dead = socket(AF_UNIX, SOCK_SEQPACKET, 0);
	assert_int_equal(bind(dead, (struct sockaddr *)&address, sizeof(address)), 0);
	close(dead);
	assert_int_equal(broker_connect(address.sun_path, &broker, &why), -ECONNREFUSED);
	assert_non_null(strstr(why.text, "no broker at"));
	setenv("POSTERN_SOCKET", address.sun_path, 1);
	assert_int_equal(broker_connect(NULL, &broker, &why), -ECONNREFUSED);
	unlink(address.sun_path);
	unsetenv("POSTERN_SOCKET");
	/* a stream socket is no broker */
	dead = socket(AF_UNIX, SOCK_STREAM, 0);
	assert_int_equal(bind(dead, (struct sockaddr *)&address, sizeof(address)), 0);
	assert_int_equal(listen(dead, 1), 0);
	assert_int_equal(broker_connect(address.sun_path, &broker, &why), -EPROTO);
	close(dead);
	unlink(address.sun_path);
	broker_unreachable("/run/x", EACCES, &why);
	assert_int_equal(why.exit_status, EXIT_DENIED);
	assert_non_null(strstr(why.text, "no permission"));
}

/* One line each, of bounded length, printable, without a letter left to expand, whatever number the broker sends. */
static void every_error_has_a_line(void **state)
{
	(void)state;
	for (uint32_t code = 0; code < 256; code++) {
		struct wire_error error = { .code = code, .step = 255, .number = UINT64_MAX };
		struct broker_failure why = { 0 };

		memset(error.object, 'o', sizeof(error.object) - 1);
		broker_explain(&error, &why);
		if (strlen(why.text) < 10 || strlen(why.text) >= sizeof(why.text) - 1 || strpbrk(why.text, "%\n") != NULL)
			fail_msg("error %u: %s", code, why.text);
		assert_true(why.exit_status > EXIT_OK && why.exit_status <= EXIT_TIMEOUT);
		assert_true(why.code <= WIRE_ERR_NOT_SURVIVING);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(well),	       cmocka_unit_test(hostile),     cmocka_unit_test(errors),
		cmocka_unit_test(stalls),      cmocka_unit_test(unreachable), cmocka_unit_test(every_error_has_a_line),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
