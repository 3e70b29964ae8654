/* SPDX-License-Identifier: Apache-2.0
 * Runs: test (the user). The QMP client against peers that are slow, loud, dead or lying. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "launcher/hypervisor/qmp.h"
#include "launcher/hypervisor/qmp_channel.h"
#include "launcher/hypervisor/qmp_vm.h"

/* A script is what the peer says; after NEXT it waits until it has heard one more command. */
#define NEXT "\x01"
#define GREETING \
	"{\"QMP\": {\"version\": {\"qemu\": {\"micro\": 22, \"minor\": 2, \"major\": 7}}, \"capabilities\": " \
	"[\"oob\"]}}\r\n"
#define DONE(id) NEXT "{\"return\": {}, \"id\": " id "}\r\n"
#define CAPS DONE("1")
#define STATUS(id, text, running) \
	NEXT "{\"return\": {\"status\": \"" text "\", \"singlestep\": false, \"running\": " running "}, \"id\": " id "}\r" \
														     "\n"
#define HELD GREETING CAPS STATUS("2", "prelaunch", "false")
#define EVENT(name, data) \
	"{\"timestamp\": {\"seconds\": 1, \"microseconds\": 2}, \"event\": \"" name "\", \"data\": {" data "}}\r\n"
#define SHORT_MS (getenv("POSTERN_TEST_SLOW") != NULL ? 2000 : 400) /* valgrind: tools/check says so */

struct meeting {
	struct driver_vm *vm;
	int peer; /* the peer's end, to say more through */
	pid_t pid;
};

static void say(int peer, const char *text, size_t len)
{
	if (len > 0 && send(peer, text, len, MSG_NOSIGNAL) != (ssize_t)len)
		_exit(1);
}

static void hear(int peer)
{
	char c;

	do
		if (recv(peer, &c, 1, 0) != 1)
			_exit(0);
	while (c != '\n');
}

static void __attribute__((noreturn)) play(int peer, const char *script, size_t len, bool stay)
{
	const char *end = script + len, *next;

	while ((next = memchr(script, NEXT[0], (size_t)(end - script))) != NULL) {
		say(peer, script, (size_t)(next - script));
		hear(peer);
		script = next + 1;
	}
	say(peer, script, (size_t)(end - script));
	if (!stay)
		(void)shutdown(peer, SHUT_WR);
	for (;;)
		hear(peer);
}

static struct meeting meet(const char *script, size_t len, bool stay)
{
	struct meeting m;
	int pair[2];

	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
	m.pid = fork();
	assert_true(m.pid >= 0);
	if (m.pid == 0) {
		(void)close(pair[0]);
		play(pair[1], script, len, stay);
	}
	m.peer = pair[1];
	m.vm = qmp_vm_attach(pair[0]);
	assert_non_null(m.vm);
	return m;
}

static void part(struct meeting *m)
{
	qmp_vm_detach(m->vm);
	fd_close(&m->peer);
	assert_int_equal(waitpid(m->pid, NULL, 0), m->pid);
}

/* What the peer said on its own, and what it answers to what we then ask. */
static int dispatch_for(struct meeting *m, int ms)
{
	uint64_t end = qmp_now_ms() + (uint64_t)ms;
	int r = 0;

	while (r == 0 && qmp_now_ms() < end) {
		struct pollfd pfd = { .fd = qmp_vm_fd(m->vm), .events = POLLIN };

		if (poll(&pfd, 1, ms) > 0)
			r = qmp_vm_dispatch(m->vm);
	}
	return r;
}

static int ready_with(const char *script, bool stay)
{
	struct meeting m = meet(script, strlen(script), stay);
	int r = qmp_vm_ready(m.vm, stay ? SHORT_MS : 2000);

	if (r < 0)
		assert_true(qmp_vm_trouble(m.vm)[0] != '\0');
	part(&m);
	return r;
}

static void good_and_bad_beginnings(void **state)
{
	(void)state;
	assert_int_equal(ready_with(HELD, true), 0);
	assert_int_equal(ready_with(HELD, false), 0);
	assert_int_equal(ready_with(GREETING EVENT("RTC_CHANGE", "\"offset\": 1") CAPS EVENT("X", "")
					    STATUS("2", "prelaunch", "false"),
				    true),
			 0);
	/* Promise 3: a guest that runs before it may, by status or by event. */
	assert_int_equal(ready_with(GREETING CAPS STATUS("2", "running", "true"), true), -EPROTO);
	assert_int_equal(ready_with(GREETING CAPS STATUS("2", "prelaunch", "true"), true), -EPROTO);
	assert_int_equal(ready_with(GREETING CAPS STATUS("2", "paused", "false"), true), -EPROTO);
	assert_int_equal(ready_with("", true), -ETIMEDOUT);
	assert_int_equal(ready_with("", false), -EPIPE);
	assert_int_equal(ready_with(GREETING, true), -ETIMEDOUT);
	assert_int_equal(ready_with(GREETING, false), -EPIPE);
	assert_int_equal(ready_with("{}\r\n", true), -EPROTO);
	assert_int_equal(ready_with("SSH-2.0-x\r\n", true), -EPROTO);
	assert_int_equal(ready_with("[]\r\n", true), -EPROTO);
	assert_int_equal(ready_with("\r\n", true), -EPROTO);
	assert_int_equal(ready_with("{\"QMP\": 4}\r\n", true), -EPROTO);
	assert_int_equal(ready_with("[[[[[[[[[[[[[[[[[[[[[[[[\r\n", true), -EPROTO);
	/* Answers before the question, to another one, to none, or that are no answers. */
	assert_int_equal(ready_with(GREETING "{\"return\": {}, \"id\": 1}\r\n" NEXT, true), -EPROTO);
	assert_int_equal(ready_with(GREETING DONE("2"), true), -EPROTO);
	assert_int_equal(ready_with(GREETING DONE("\"1\""), true), -EPROTO);
	assert_int_equal(ready_with(GREETING DONE("-1"), true), -EPROTO);
	assert_int_equal(ready_with(GREETING NEXT "{\"return\": {}}\r\n", true), -EPROTO);
	assert_int_equal(ready_with(GREETING NEXT "{\"x\": {}, \"id\": 1}\r\n", true), -EPROTO);
	assert_int_equal(ready_with(GREETING NEXT "{\"error\": {\"class\": \"a\", \"desc\": \"b\"}, \"id\": 1}\r\n", true),
			 -EREMOTEIO);
	assert_int_equal(ready_with(GREETING NEXT "{\"error\": 4, \"id\": 1}\r\n", true), -EREMOTEIO);
	assert_int_equal(ready_with(GREETING CAPS NEXT "{\"return\": {\"status\": 4}, \"id\": 2}\r\n", true), -EPROTO);
	assert_int_equal(ready_with(GREETING CAPS NEXT "{\"return\": [], \"id\": 2}\r\n", true), -EPROTO);
}

/* Cut after each byte, closed or silent: an error, at once or after the deadline, never a wait and never a wrong answer. */
static void cut_at_each_byte(void **state)
{
	size_t len = strlen(HELD);

	(void)state;
	for (size_t cut = 0; cut < len; cut++) {
		struct meeting m = meet(HELD, cut, false);
		uint64_t begin = qmp_now_ms();

		assert_int_equal(qmp_vm_ready(m.vm, 5000), -EPIPE);
		assert_true(qmp_now_ms() - begin < 4000);
		assert_int_equal(qmp_vm_state(m.vm), DRIVER_GONE);
		assert_int_equal(qmp_vm_resume(m.vm, 1000), -EPIPE);
		part(&m);
	}
	for (size_t cut = 0; cut < len; cut += 7) {
		struct meeting m = meet(HELD, cut, true);

		assert_int_equal(qmp_vm_ready(m.vm, 3), -ETIMEDOUT);
		part(&m);
	}
}

/* A process that writes chunk again and again; the client may not outlast its deadline or grow. */
static void against_flood(const char *chunk, size_t len, int expected)
{
	struct meeting m = meet(HELD, strlen(HELD), true);
	struct rusage before, after;
	uint64_t begin = qmp_now_ms();
	pid_t pid;
	int r;

	assert_int_equal(qmp_vm_ready(m.vm, 2000), 0);
	pid = fork();
	if (pid == 0) {
		(void)close(qmp_vm_fd(m.vm)); /* else it would keep its own peer alive */
		for (;;)
			say(m.peer, chunk, len);
	}
	(void)getrusage(RUSAGE_SELF, &before);
	fd_close(&m.peer);
	r = dispatch_for(&m, 4000);
	(void)getrusage(RUSAGE_SELF, &after);
	assert_int_equal(r, expected);
	assert_true(after.ru_maxrss - before.ru_maxrss < 8192);
	assert_true(qmp_now_ms() - begin < 8000);
	/* And it stays so. */
	assert_int_equal(qmp_vm_dispatch(m.vm), expected);
	assert_int_equal(qmp_vm_pause(m.vm, 1000), expected);
	part(&m);
	assert_int_equal(waitpid(pid, NULL, 0), pid);
}

static void floods(void **state)
{
	static char long_line[65536];
	static const char event[] = EVENT("RTC_CHANGE", "\"offset\": 1");

	(void)state;
	memset(long_line, 'a', sizeof(long_line));
	against_flood(long_line, sizeof(long_line), -EPROTO);
	against_flood(event, strlen(event), -EPROTO);
	against_flood("\n", 1, -EPROTO);
	memset(long_line, '[', sizeof(long_line));
	long_line[sizeof(long_line) - 1] = '\n';
	against_flood(long_line, sizeof(long_line), -EPROTO);
}

/* Events during a command, for ever: the deadline holds. */
static void chatter_does_not_extend_a_deadline(void **state)
{
	struct meeting m = meet(HELD, strlen(HELD), true);
	const struct timespec pause = { .tv_nsec = 5000000 };
	uint64_t begin;
	pid_t pid;

	(void)state;
	assert_int_equal(qmp_vm_ready(m.vm, 2000), 0);
	pid = fork();
	if (pid == 0) {
		(void)close(qmp_vm_fd(m.vm));
		for (;;) {
			say(m.peer, EVENT("X", ""), strlen(EVENT("X", "")));
			(void)nanosleep(&pause, NULL);
		}
	}
	fd_close(&m.peer);
	begin = qmp_now_ms();
	assert_int_equal(qmp_vm_powerdown(m.vm, 200), -ETIMEDOUT);
	assert_true(qmp_now_ms() - begin < 1000);
	part(&m);
	assert_int_equal(waitpid(pid, NULL, 0), pid);
}

/* A peer that never reads: the send queue fills, and that is the end rather than a wait. */
static void peer_that_does_not_read(void **state)
{
	int pair[2], size = 2048, r = 0, commands = 0;
	struct qmp *qmp;

	(void)state;
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
	assert_int_equal(setsockopt(pair[0], SOL_SOCKET, SO_SNDBUF, &size, sizeof(size)), 0);
	qmp = qmp_new(pair[0]);
	while (commands < 1000 && r != -EPROTO) {
		r = qmp_command(qmp, "stop", 1, NULL);
		commands++;
		assert_true(r == -ETIMEDOUT || r == -EPROTO);
	}
	assert_int_equal(r, -EPROTO);
	assert_non_null(strstr(qmp_trouble(qmp), "does not read"));
	qmp_free(qmp);
	(void)close(pair[1]);
}

static struct meeting held(const char *script)
{
	struct meeting m = meet(script, strlen(script), true);

	assert_int_equal(qmp_vm_ready(m.vm, 2000), 0);
	assert_int_equal(qmp_vm_state(m.vm), DRIVER_HELD);
	return m;
}

#define SAY(m, text) say((m).peer, text, strlen(text))
#define RUNNING HELD NEXT EVENT("RESUME", "") "{\"return\": {}, \"id\": 3}\r\n" STATUS("4", "running", "true")

static void a_whole_life(void **state)
{
	struct meeting m = held(RUNNING);

	(void)state;
	assert_int_equal(qmp_vm_resume(m.vm, 2000), 0);
	assert_int_equal(qmp_vm_state(m.vm), DRIVER_RUNNING);
	part(&m);
	m = held(RUNNING DONE("5") STATUS("6", "paused", "false") NEXT
		 "{\"error\": {\"class\": \"GenericError\", \"desc\": \"no\\u001b[31m way\"}, \"id\": 7}\r\n");
	assert_int_equal(qmp_vm_resume(m.vm, 2000), 0);
	assert_int_equal(qmp_vm_pause(m.vm, 2000), 0);
	assert_int_equal(qmp_vm_state(m.vm), DRIVER_PAUSED);
	assert_int_equal(qmp_vm_powerdown(m.vm, 2000), -EREMOTEIO);
	assert_non_null(strstr(qmp_vm_trouble(m.vm), "no?[31m way"));
	SAY(m, EVENT("SHUTDOWN", "\"guest\": true, \"reason\": \"guest-shutdown\""));
	(void)shutdown(m.peer, SHUT_WR);
	assert_int_equal(dispatch_for(&m, 2000), -EPIPE);
	assert_int_equal(qmp_vm_state(m.vm), DRIVER_SHUTDOWN);
	part(&m);
}

/* An emulation failure: QEMU stays, stops, and says why only when asked. */
static void internal_error_is_a_crash(void **state)
{
	struct meeting m = held(RUNNING STATUS("5", "internal-error", "false"));

	(void)state;
	assert_int_equal(qmp_vm_resume(m.vm, 2000), 0);
	SAY(m, EVENT("STOP", ""));
	assert_int_equal(dispatch_for(&m, 100), 0);
	assert_int_equal(qmp_vm_state(m.vm), DRIVER_CRASHED);
	assert_non_null(strstr(qmp_vm_trouble(m.vm), "internal-error"));
	/* It cannot talk its way out of that. */
	SAY(m, EVENT("RESUME", ""));
	assert_int_equal(dispatch_for(&m, 50), 0);
	assert_int_equal(qmp_vm_state(m.vm), DRIVER_CRASHED);
	part(&m);
	m = held(HELD);
	SAY(m, EVENT("GUEST_PANICKED", "\"action\": \"pause\"") EVENT("SHUTDOWN", "\"reason\": \"guest-panic\""));
	(void)shutdown(m.peer, SHUT_WR);
	assert_int_equal(dispatch_for(&m, 2000), -EPIPE);
	assert_int_equal(qmp_vm_state(m.vm), DRIVER_CRASHED);
	part(&m);
}

/* A guest that starts by itself after ready() is seen, too. */
static void resume_by_itself_shows(void **state)
{
	struct meeting m = held(HELD);

	(void)state;
	SAY(m, EVENT("RESUME", ""));
	assert_int_equal(dispatch_for(&m, 50), 0);
	assert_int_equal(qmp_vm_state(m.vm), DRIVER_RUNNING);
	part(&m);
}

/* A reply that comes after its deadline belongs to nobody, and above all not to the next command. */
static void late_replies(void **state)
{
	struct meeting m =
		held(HELD NEXT NEXT "{\"error\": {\"desc\": \"late\"}, \"id\": 3}\r\n{\"return\": {}, \"id\": 4}\r\n");

	(void)state;
	assert_int_equal(qmp_vm_powerdown(m.vm, 20), -ETIMEDOUT);
	assert_non_null(strstr(qmp_vm_trouble(m.vm), "does not answer system_powerdown"));
	assert_int_equal(qmp_vm_powerdown(m.vm, 2000), 0);
	/* An answer to a question of the future is a lie. */
	SAY(m, "{\"return\": {}, \"id\": 9}\r\n");
	assert_int_equal(dispatch_for(&m, 2000), -EPROTO);
	part(&m);
}

/* A VMM that says yes and does nothing is a failure with a reason. */
static void yes_without_doing(void **state)
{
	struct meeting m = held(RUNNING DONE("5") STATUS("6", "running", "true") DONE("7") STATUS("8", "paused", "false"));

	(void)state;
	assert_int_equal(qmp_vm_resume(m.vm, 2000), 0);
	assert_int_equal(qmp_vm_pause(m.vm, 2000), -EIO);
	assert_non_null(strstr(qmp_vm_trouble(m.vm), "still runs"));
	assert_int_equal(qmp_vm_pause(m.vm, 2000), 0);
	assert_string_equal(qmp_vm_trouble(m.vm), "");
	part(&m);
	m = held(HELD DONE("3") STATUS("4", "prelaunch", "false"));
	assert_int_equal(qmp_vm_resume(m.vm, 2000), -EIO);
	assert_non_null(strstr(qmp_vm_trouble(m.vm), "does not let the guest run"));
	part(&m);
}

/* quit: the VMM may be gone before it answers. A guest may be done before resume has looked. */
static void quick_ends(void **state)
{
	struct meeting m = held(HELD);

	(void)state;
	(void)shutdown(m.peer, SHUT_RDWR);
	assert_int_equal(qmp_vm_quit(m.vm, 2000), 0);
	assert_int_equal(qmp_vm_state(m.vm), DRIVER_GONE);
	part(&m);
	m = held(HELD NEXT EVENT("RESUME", "") "{\"return\": {}, \"id\": 3}\r\n" EVENT("SHUTDOWN", "\"guest\": true"));
	assert_int_equal(qmp_vm_resume(m.vm, 300), 0);
	assert_int_equal(qmp_vm_state(m.vm), DRIVER_SHUTDOWN);
	part(&m);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(good_and_bad_beginnings),
		cmocka_unit_test(cut_at_each_byte),
		cmocka_unit_test(floods),
		cmocka_unit_test(chatter_does_not_extend_a_deadline),
		cmocka_unit_test(peer_that_does_not_read),
		cmocka_unit_test(a_whole_life),
		cmocka_unit_test(internal_error_is_a_crash),
		cmocka_unit_test(resume_by_itself_shows),
		cmocka_unit_test(yes_without_doing),
		cmocka_unit_test(late_replies),
		cmocka_unit_test(quick_ends),
	};

	return cmocka_run_group_tests_name("qmp", tests, NULL, NULL);
}
