/* SPDX-License-Identifier: Apache-2.0
 * Runs: tests. The API's framing with peers that mean harm, and the ring between a guest and a slow reader. */
#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "launcher/controller/channel.h"
#include "launcher/controller/failure.h"
#include "launcher/controller/logfile.h"
#include "launcher/controller/ring.h"

/* Before cmocka makes a macro of fail(). */
static int fail_with(struct failure *failure, int pad)
{
	return fail(failure, -EPIPE, EXIT_LAUNCH, "%*s\xf0\x9f\x90\x84\xe2\x82\xac", pad, "");
}

#include <cmocka.h>

static struct channel ours;
static int theirs;

static int open_pair(void **unused)
{
	int pair[2];

	(void)unused;
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0)
		return -1;
	channel_open(&ours, pair[0], CHANNEL_REQUEST_MAX);
	theirs = pair[1];
	return 0;
}

static int close_pair(void **unused)
{
	(void)unused;
	channel_close(&ours);
	fd_close(&theirs);
	return 0;
}

static void say(const char *bytes, size_t len)
{
	assert_int_equal(send(theirs, bytes, len, MSG_NOSIGNAL), (ssize_t)len);
}

static void test_lines(void **unused)
{
	json_t *json = NULL;

	(void)unused;
	say("{\"verb\":\"a\"}\n{\"ve", 17);
	assert_int_equal(channel_read(&ours), 1);
	assert_int_equal(channel_next(&ours, &json), 1);
	assert_string_equal(json_string_value(json_object_get(json, "verb")), "a");
	json_decref(json);
	assert_int_equal(channel_next(&ours, &json), 0);
	assert_int_equal(channel_read(&ours), -EAGAIN);
	say("rb\":\"b\"}\n", 9);
	assert_int_equal(channel_read(&ours), 1);
	assert_int_equal(channel_next(&ours, &json), 1);
	assert_string_equal(json_string_value(json_object_get(json, "verb")), "b");
	json_decref(json);
	fd_close(&theirs);
	assert_int_equal(channel_read(&ours), 0);
}

/* A descriptor that came by exec stays out of what we start ourselves. */
static void test_closed_on_exec(void **unused)
{
	struct channel inherited;
	int fd = dup(theirs);

	(void)unused;
	assert_int_equal(fcntl(fd, F_GETFD), 0);
	channel_open(&inherited, fd, CHANNEL_REQUEST_MAX);
	assert_int_equal(fcntl(fd, F_GETFD), FD_CLOEXEC);
	channel_close(&inherited);
}

static void test_not_json(void **unused)
{
	static const char *const bad[] = {
		"\n",
		"x\n",
		"[]\n",
		"1\n",
		"\"a\"\n",
		"null\n",
		"{\n",
		"{\"a\":1}}\n",
		"{\"a\":1,\"a\":2}\n",
		"\xff\xfe\n",
		"{\"a\":\"\xc3\"}\n",
	};
	json_t *json = NULL;

	(void)unused;
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		say(bad[i], strlen(bad[i]));
		assert_int_equal(channel_read(&ours), 1);
		assert_int_equal(channel_next(&ours, &json), -EPROTO);
		assert_null(json);
	}
	say("{\"a\":\"\0\"}\n", 10);
	assert_int_equal(channel_read(&ours), 1);
	assert_int_equal(channel_next(&ours, &json), -EPROTO);
}

/* No newline ever: the buffer stops growing and the channel ends. */
static void test_endless_line(void **unused)
{
	char block[1024];
	int r = 1;

	(void)unused;
	memset(block, 'x', sizeof(block));
	for (int i = 0; i < 64 && r > 0; i++) {
		say(block, sizeof(block));
		r = channel_read(&ours);
	}
	assert_int_equal(r, -EMSGSIZE);
	assert_true(ours.in_size <= CHANNEL_REQUEST_MAX + 2 * 4096);
}

/* Deep nesting must not run us out of stack. */
static void test_deep(void **unused)
{
	char line[CHANNEL_REQUEST_MAX];
	json_t *json = NULL;

	(void)unused;
	memset(line, '[', sizeof(line));
	memcpy(line, "{\"a\":", 5);
	line[sizeof(line) - 1] = '\n';
	say(line, sizeof(line));
	assert_int_equal(channel_read(&ours), 1);
	assert_int_equal(channel_next(&ours, &json), -EPROTO);
}

static size_t open_descriptors(void)
{
	size_t count = 0;

	for (int fd = 0; fd < 256; fd++)
		count += fcntl(fd, F_GETFD) >= 0;
	return count;
}

/* Descriptors nobody asked for are closed, but for the last, which ends with the channel. */
static void test_unwanted_descriptors(void **unused)
{
	union {
		struct cmsghdr align;
		char bytes[CMSG_SPACE(8 * sizeof(int))];
	} control = { 0 };
	char line[] = "{}\n";
	struct iovec iov = { .iov_base = line, .iov_len = 3 };
	struct msghdr msg = { .msg_iov = &iov, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof(control) };
	struct cmsghdr *c = CMSG_FIRSTHDR(&msg);
	size_t before = open_descriptors();

	(void)unused;
	c->cmsg_level = SOL_SOCKET;
	c->cmsg_type = SCM_RIGHTS;
	c->cmsg_len = CMSG_LEN(8 * sizeof(int));
	for (size_t i = 0; i < 8; i++) {
		int fd = STDERR_FILENO;

		memcpy(CMSG_DATA(c) + i * sizeof(int), &fd, sizeof(fd));
	}
	for (int i = 0; i < 20; i++) {
		assert_int_equal(sendmsg(theirs, &msg, 0), 3);
		(void)channel_read(&ours);
	}
	assert_true(open_descriptors() <= before + 1);
	assert_true(ours.passed >= 0);
}

static void test_peer_that_does_not_read(void **unused)
{
	static char text[4001]; /* few long lines: a sanitizer's realloc() moves the whole queue for each */
	int r = 0;

	(void)unused;
	memset(text, 'x', sizeof(text) - 1);
	for (int i = 0; i < 4096 && r == 0; i++)
		r = channel_send(&ours, json_pack("{s:s}", "text", text), -1);
	assert_int_equal(r, -ENOBUFS);
	assert_true(ours.out_used <= CHANNEL_OUT_MAX);
	assert_true(channel_send(&ours, json_object(), STDERR_FILENO) < 0);
}

static void test_descriptor_does_not_queue(void **unused)
{
	int r = 0;

	(void)unused;
	while (r == 0 && ours.out_used == 0)
		r = channel_send(&ours, json_pack("{s:s}", "text", "0123456789012345678901234567890123456789"), -1);
	assert_int_equal(r, 0);
	assert_int_equal(channel_send(&ours, json_object(), STDERR_FILENO), -EAGAIN);
}

static void test_descriptor_comes_with_its_line(void **unused)
{
	struct channel peer;
	json_t *json = NULL;
	struct stat a, b;

	(void)unused;
	channel_open(&peer, theirs, CHANNEL_REPLY_MAX);
	assert_int_equal(channel_send(&ours, json_pack("{s:b}", "ok", 1), STDERR_FILENO), 0);
	while (channel_next(&peer, &json) == 0)
		assert_int_equal(channel_read(&peer), 1);
	assert_true(json_is_true(json_object_get(json, "ok")));
	json_decref(json);
	assert_int_equal(fstat(peer.passed, &a), 0);
	assert_int_equal(fstat(STDERR_FILENO, &b), 0);
	assert_true(a.st_ino == b.st_ino && a.st_dev == b.st_dev);
	assert_int_equal(fcntl(peer.passed, F_GETFD) & FD_CLOEXEC, FD_CLOEXEC);
	channel_close(&peer);
	theirs = -1;
}

/* ---- ring ------------------------------------------------------------------------------------------------------- */

static void contents(struct ring *ring, char *text, size_t size)
{
	int pair[2];
	ssize_t got;

	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), 0);
	assert_int_equal(ring_flush(ring, pair[0]), 0);
	(void)close(pair[0]);
	got = read(pair[1], text, size - 1);
	assert_true(got >= 0);
	text[got] = '\0';
	(void)close(pair[1]);
}

static void test_ring_drops_the_oldest(void **unused)
{
	struct ring ring, copy;
	char text[64];

	(void)unused;
	assert_int_equal(ring_init(&ring, 8), 0);
	assert_int_equal(ring_init(&copy, 4), 0);
	ring_push(&ring, "abcde", 5);
	assert_false(ring.lost);
	ring_push(&ring, "fghij", 5);
	assert_true(ring.lost);
	ring_copy(&copy, &ring);
	contents(&ring, text, sizeof(text));
	assert_string_equal(text, "cdefghij");
	assert_int_equal(ring.used, 0);
	contents(&copy, text, sizeof(text));
	assert_string_equal(text, "ghij");
	ring_push(&ring, "0123456789ABCDEF", 16);
	contents(&ring, text, sizeof(text));
	assert_string_equal(text, "89ABCDEF");
	ring_push(&ring, "", 0);
	assert_int_equal(ring.used, 0);
	ring_done(&ring);
	ring_done(&copy);
}

/* All lengths at all places: the ring holds what a plain string would. */
static void test_ring_against_a_model(void **unused)
{
	struct ring ring;
	char model[4096] = "", text[64];
	size_t len = 0;

	(void)unused;
	assert_int_equal(ring_init(&ring, 13), 0);
	for (unsigned i = 0; i < 200; i++) {
		char part[32];
		size_t n = i * 7 % 17;

		for (size_t k = 0; k < n; k++)
			part[k] = (char)('a' + (i + k) % 26);
		ring_push(&ring, part, n);
		memcpy(model + len, part, n);
		len += n;
		if (i % 5 == 4) {
			contents(&ring, text, sizeof(text));
			assert_string_equal(text, model + (len > 13 ? len - 13 : 0));
			len = 0;
			memset(model, 0, sizeof(model));
		}
	}
	ring_done(&ring);
}

static void test_slow_reader_never_blocks(void **unused)
{
	struct ring ring;
	char block[4096];
	int pair[2];

	(void)unused;
	memset(block, 'x', sizeof(block));
	assert_int_equal(ring_init(&ring, 65536), 0);
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), 0);
	for (int i = 0; i < 1000; i++) {
		ring_push(&ring, block, sizeof(block));
		assert_int_equal(ring_flush(&ring, pair[0]), 0);
	}
	assert_true(ring.lost);
	(void)close(pair[1]);
	assert_true(ring_flush(&ring, pair[0]) < 0);
	(void)close(pair[0]);
	ring_done(&ring);
}

/* ---- logs ------------------------------------------------------------------------------------------------------- */

static void test_log_is_bounded(void **unused)
{
	char top[] = "/tmp/postern-test-XXXXXX", line[64], last[32];
	struct logfile log;
	struct stat st;
	int dir;

	(void)unused;
	assert_non_null(mkdtemp(top));
	dir = open(top, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	assert_int_equal(logfile_open(&log, dir, "log"), 0);
	assert_true(logfile_open(&log, dir, "log") < 0); /* never somebody else's file */
	for (int i = 0; i < 100000; i++) {
		int n = snprintf(line, sizeof(line), "line number %06d\n", i);

		logfile_write(&log, line, (size_t)n);
	}
	assert_int_equal(fstat(log.fd, &st), 0);
	assert_true(st.st_size <= (off_t)LOGFILE_MAX && st.st_size >= (off_t)LOGFILE_MAX / 2 - 64);
	assert_int_equal(pread(log.fd, last, 19, st.st_size - 19), 19);
	assert_memory_equal(last, "line number 099999\n", 19);
	logfile_note(&log, "%s", "a note");
	assert_int_equal(fstat(log.fd, &st), 0);
	assert_int_equal(pread(log.fd, last, 16, st.st_size - 16), 16);
	assert_memory_equal(last, "postern: a note\n", 16);
	logfile_close(&log);
	assert_int_equal(unlinkat(dir, "log", 0), 0);
	(void)close(dir);
	assert_int_equal(rmdir(top), 0);
}

/* A line of the VMM's cannot pass for one of ours, however it comes in pieces. */
static void test_log_marks_the_vmm(void **unused)
{
	static const char said[] = "postern: ended: ok\nx postern: y\nposternpostern: z\npostern\npost",
			  kept[] = "postern (VMM): ended: ok\nx postern: y\nposternpostern: z\npostern\npost\n"
				   "postern: a note ?\npostern (VMM): w";
	char top[] = "/tmp/postern-test-XXXXXX", text[256];
	int dir;

	(void)unused;
	assert_non_null(mkdtemp(top));
	dir = open(top, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	for (size_t step = 1; step < sizeof(said); step++) {
		struct logfile log;

		assert_int_equal(logfile_open(&log, dir, "log"), 0);
		for (size_t i = 0; i < sizeof(said) - 1; i += step)
			logfile_vmm(&log, said + i, step < sizeof(said) - 1 - i ? step : sizeof(said) - 1 - i);
		logfile_note(&log, "a note %s", "\xff");
		logfile_vmm(&log, "postern: w", 10);
		assert_int_equal(pread(log.fd, text, sizeof(text), 0), sizeof(kept) - 1);
		assert_memory_equal(text, kept, sizeof(kept) - 1);
		logfile_close(&log);
		assert_int_equal(unlinkat(dir, "log", 0), 0);
	}
	(void)close(dir);
	assert_int_equal(rmdir(top), 0);
}

/* ---- texts ------------------------------------------------------------------------------------------------------ */

static void test_texts_are_clean(void **unused)
{
	static const char *const rows[][2] = {
		{ "", "" },
		{ "plain", "plain" },
		{ "a\nb\tc\x1b[31m\x7f", "a b c [31m " },
		{ "\xc3\xbc \xe2\x82\xac \xf0\x9f\x90\x84", "\xc3\xbc \xe2\x82\xac \xf0\x9f\x90\x84" },
		{ "\xc2\x9b"
		  "31m \xc2\xa0",
		  "?31m \xc2\xa0" },
		{ "\x9b \xff \xfe", "? ? ?" },
		{ "cut \xe2\x82", "cut ??" },
		{ "cut \xc3", "cut ?" },
		{ "\xc0\xaf \xe0\x80\xaf \xed\xa0\x80 \xf5\x80", "?? ??? ??? ??" },
		{ "\xf4\x90\x80\x80 \xf0\x80\x80\x80", "???? ????" },
	};
	struct failure failure;
	json_t *json;

	(void)unused;
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		char text[64];

		(void)snprintf(text, sizeof(text), "%s", rows[i][0]);
		failure_clean(text);
		assert_string_equal(text, rows[i][1]);
	}
	/* A message that is cut inside a character can still be told. */
	for (int pad = 505; pad < 513; pad++) {
		assert_int_equal(fail_with(&failure, pad), -EPIPE);
		json = json_string(failure.text);
		assert_non_null(json);
		json_decref(json);
	}
	assert_int_equal(failure_cut_tail("a\xe2\x82", 3), 2);
	assert_int_equal(failure_cut_tail("a\xe2\x82\xac", 4), 0);
	assert_int_equal(failure_cut_tail("abc", 3), 0);
	assert_int_equal(failure_cut_tail("\x80\x80\x80\x80", 4), 0);
}

#define CASE(name) cmocka_unit_test_setup_teardown(name, open_pair, close_pair)

int main(void)
{
	const struct CMUnitTest tests[] = {
		CASE(test_lines),
		CASE(test_closed_on_exec),
		CASE(test_not_json),
		CASE(test_endless_line),
		CASE(test_deep),
		CASE(test_unwanted_descriptors),
		CASE(test_peer_that_does_not_read),
		CASE(test_descriptor_does_not_queue),
		CASE(test_descriptor_comes_with_its_line),
		cmocka_unit_test(test_ring_drops_the_oldest),
		cmocka_unit_test(test_ring_against_a_model),
		cmocka_unit_test(test_slow_reader_never_blocks),
		cmocka_unit_test(test_log_is_bounded),
		cmocka_unit_test(test_log_marks_the_vmm),
		cmocka_unit_test(test_texts_are_clean),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
