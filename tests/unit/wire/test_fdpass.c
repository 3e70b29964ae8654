/* SPDX-License-Identifier: Apache-2.0
 * Runs: tests (whoever runs them). Descriptors over sockets: exact counts, no stray left open, closed peers, full queues. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "common/cleanup.h"
#include "common/fdpass.h"
#include "common/wire.h"

#define KERNEL_FDS_MAX 253 /* SCM_MAX_FD */
#ifndef SO_PASSPIDFD
#define SO_PASSPIDFD 76
#endif

static size_t open_fds(void)
{
	DIR *dir = opendir("/proc/self/fd");
	size_t count = 0;

	assert_non_null(dir);
	while (readdir(dir) != NULL)
		count++;
	(void)closedir(dir);
	return count;
}

struct pair {
	int a, b, null;
	size_t fds; /* open descriptors when the pair was new */
};

static int setup(void **state)
{
	static struct pair pair;
	int sv[2];

	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, sv) < 0)
		return -1;
	pair.a = sv[0], pair.b = sv[1];
	pair.null = open("/dev/null", O_RDONLY | O_CLOEXEC);
	pair.fds = open_fds();
	*state = &pair;
	return pair.null < 0 ? -1 : 0;
}

static int teardown(void **state)
{
	struct pair *p = *state;

	fd_close(&p->a);
	fd_close(&p->b);
	fd_close(&p->null);
	return 0;
}

/* sendmsg without the checks of fdpass_send(): what a hostile peer does. */
static void raw_send(int sock, const void *bytes, size_t len, int fd, size_t fd_count, size_t messages)
{
	static union {
		char buf[2 * CMSG_SPACE(sizeof(int) * KERNEL_FDS_MAX)];
		struct cmsghdr align;
	} control;
	struct iovec iov = { .iov_base = (void *)(uintptr_t)bytes, .iov_len = len };
	struct msghdr msg = { .msg_iov = &iov, .msg_iovlen = 1 };
	struct cmsghdr *c;

	memset(&control, 0, sizeof(control));
	if (fd_count > 0) {
		msg.msg_control = control.buf;
		msg.msg_controllen = messages * CMSG_SPACE(sizeof(int) * fd_count);
		c = CMSG_FIRSTHDR(&msg);
		for (size_t m = 0; m < messages; m++, c = CMSG_NXTHDR(&msg, c)) {
			c->cmsg_level = SOL_SOCKET;
			c->cmsg_type = SCM_RIGHTS;
			c->cmsg_len = CMSG_LEN(sizeof(int) * fd_count);
			for (size_t i = 0; i < fd_count; i++)
				memcpy(CMSG_DATA(c) + i * sizeof(int), &fd, sizeof(int));
		}
	}
	assert_int_equal(sendmsg(sock, &msg, MSG_NOSIGNAL), len);
}

static void carries_bytes_and_descriptors(void **state)
{
	struct pair *p = *state;
	int send[3] = { p->null, p->a, p->null }, got[WIRE_FDS_MAX];
	char bytes[16];
	size_t count = 99;

	assert_int_equal(fdpass_send(p->a, "hello", 5, send, 3), 0);
	assert_int_equal(fdpass_recv(p->b, bytes, sizeof(bytes), got, WIRE_FDS_MAX, &count), 5);
	assert_memory_equal(bytes, "hello", 5);
	assert_int_equal(count, 3);
	for (size_t i = 0; i < count; i++) {
		assert_int_equal(fcntl(got[i], F_GETFD), FD_CLOEXEC);
		fd_close(&got[i]);
	}
	assert_int_equal(open_fds(), p->fds);
	assert_int_equal(fdpass_send(p->a, "x", 1, NULL, 0), 0);
	assert_int_equal(fdpass_recv(p->b, bytes, sizeof(bytes), NULL, 0, &count), 1);
	assert_int_equal(count, 0);
	assert_int_equal(fdpass_send(p->a, "", 0, NULL, 0), -EINVAL);
	assert_int_equal(fdpass_send(p->a, "x", 1, send, WIRE_FDS_MAX + 1), -EINVAL);
}

static void limit_is_exact(void **state)
{
	struct pair *p = *state;
	int send[WIRE_FDS_MAX], got[WIRE_FDS_MAX];
	char byte;
	size_t count = 0;

	for (size_t i = 0; i < WIRE_FDS_MAX; i++)
		send[i] = p->null;
	assert_int_equal(fdpass_send(p->a, "x", 1, send, WIRE_FDS_MAX), 0);
	assert_int_equal(fdpass_recv(p->b, &byte, 1, got, WIRE_FDS_MAX, &count), 1);
	assert_int_equal(count, WIRE_FDS_MAX);
	for (size_t i = 0; i < count; i++)
		fd_close(&got[i]);
	assert_int_equal(open_fds(), p->fds);
}

/* Too many, up to what the kernel carries: refused by count or by MSG_CTRUNC, and never one left open. */
static void too_many_descriptors(void **state)
{
	struct pair *p = *state;
	int got[WIRE_FDS_MAX];
	char byte;

	for (size_t n = 1; n <= KERNEL_FDS_MAX; n++) {
		size_t max = n - 1 < WIRE_FDS_MAX ? n - 1 : WIRE_FDS_MAX, count = 12345;

		got[0] = -7;
		raw_send(p->a, "x", 1, p->null, n, 1);
		assert_int_equal(fdpass_recv(p->b, &byte, 1, got, max, &count), -EMSGSIZE);
		assert_int_equal(count, 12345);
		assert_int_equal(got[0], -7);
		assert_int_equal(open_fds(), p->fds);
	}
}

/* Several control messages in one datagram: the kernel merges them, and the sum counts. */
static void descriptors_in_two_control_messages(void **state)
{
	struct pair *p = *state;
	int got[WIRE_FDS_MAX];
	char byte;
	size_t count = 0;

	raw_send(p->a, "x", 1, p->null, 2, 2);
	assert_int_equal(fdpass_recv(p->b, &byte, 1, got, 3, &count), -EMSGSIZE);
	assert_int_equal(open_fds(), p->fds);
	raw_send(p->a, "x", 1, p->null, 2, 2);
	assert_int_equal(fdpass_recv(p->b, &byte, 1, got, 4, &count), 1);
	assert_int_equal(count, 4);
	for (size_t i = 0; i < count; i++)
		fd_close(&got[i]);
}

static void longer_than_the_buffer(void **state)
{
	struct pair *p = *state;
	char bytes[8] = "", big[64] = "";
	int got[4];
	size_t count = 0;

	raw_send(p->a, big, sizeof(big), p->null, 2, 1);
	assert_int_equal(fdpass_recv(p->b, bytes, sizeof(bytes), got, 4, &count), -EMSGSIZE);
	assert_int_equal(open_fds(), p->fds);
	raw_send(p->a, big, sizeof(bytes) + 1, -1, 0, 1);
	assert_int_equal(fdpass_recv(p->b, bytes, sizeof(bytes), got, 4, &count), -EMSGSIZE);
}

/* Control messages that the other side switched on, as the maker of a socket can: refused, their descriptors closed. */
static void control_messages_nobody_asked_for(void **state)
{
	static const int options[] = { SO_PASSCRED, SO_PASSPIDFD };
	struct pair *p = *state;
	char byte;
	int got[4];
	size_t count = 0, seen = 0;

	for (size_t i = 0; i < ARRAY_SIZE(options); i++) {
		int one = 1, zero = 0;

		if (setsockopt(p->b, SOL_SOCKET, options[i], &one, sizeof(one)) < 0)
			continue; /* SO_PASSPIDFD is of 6.5 */
		seen++;
		raw_send(p->a, "x", 1, p->null, 1, 1);
		assert_int_equal(fdpass_recv(p->b, &byte, 1, got, 4, &count), -EMSGSIZE);
		assert_int_equal(open_fds(), p->fds);
		assert_int_equal(setsockopt(p->b, SOL_SOCKET, options[i], &zero, sizeof(zero)), 0);
	}
	assert_true(seen >= 1);
}

static void closed_peer(void **state)
{
	struct pair *p = *state;
	char byte;
	int got[4];
	size_t count = 77;

	assert_int_equal(fdpass_recv(p->b, &byte, 1, got, 4, &count), -EAGAIN);
	fd_close(&p->a);
	assert_int_equal(fdpass_recv(p->b, &byte, 1, got, 4, &count), 0);
	assert_int_equal(count, 0);
	assert_int_equal(fdpass_send(p->b, "x", 1, NULL, 0), -EPIPE); /* and no SIGPIPE: the test would be dead */
}

/* A socket that somebody else holds too, and has made a blocking one: what poll() saw may have been taken away. */
static void now_means_now(void **state)
{
	struct pair *p = *state;
	int other = dup(p->b), got[4];
	size_t count = 77;
	char byte;

	assert_int_equal(fcntl(other, F_SETFL, 0), 0);
	assert_int_equal(fdpass_send(p->a, "x", 1, NULL, 0), 0);
	assert_int_equal(fdpass_recv_now(p->b, &byte, 1, got, 4, &count), 1);
	assert_int_equal(fdpass_send(p->a, "y", 1, NULL, 0), 0);
	assert_int_equal(recv(other, &byte, 1, 0), 1);
	(void)alarm(5);
	assert_int_equal(fdpass_recv_now(p->b, &byte, 1, got, 4, &count), -EAGAIN);
	(void)alarm(0);
	fd_close(&other);
}

/* A peer that says why and closes without having read all: its words come first, then the end. */
static void last_words_of_a_closed_peer(void **state)
{
	struct pair *p = *state;
	char byte = 0;
	int got[4];
	size_t count = 77;

	assert_int_equal(fdpass_send(p->b, "unread", 6, &p->null, 1), 0);
	assert_int_equal(fdpass_send(p->a, "w", 1, NULL, 0), 0);
	fd_close(&p->a);
	assert_int_equal(fdpass_recv(p->b, &byte, 1, got, 4, &count), 1);
	assert_int_equal(byte, 'w');
	assert_int_equal(fdpass_recv(p->b, &byte, 1, got, 4, &count), 0);
	assert_int_equal(fdpass_recv(p->b, &byte, 1, got, 4, &count), 0);
	assert_int_equal(fdpass_send(p->b, "x", 1, NULL, 0), -EPIPE);
}

static void full_queue_does_not_block(void **state)
{
	struct pair *p = *state;
	int r;

	for (size_t i = 0; i < 100000; i++) {
		r = fdpass_send(p->a, "x", 1, &p->null, 1);
		if (r < 0)
			break;
	}
	assert_int_equal(r, -EAGAIN);
}

/* ---- the same through wire_send() and wire_recv() ----------------------------------------------------------------- */

static const struct wire_session at_broker = { LINK_CLIENT, FROM_CLIENT, PHASE_READY, false };
static struct wire_in in;

static void typed_message_with_descriptor(void **state)
{
	struct pair *p = *state;
	struct wire_uuid uuid = { .uuid = { 1, 2, 3 } };

	assert_int_equal(wire_send(p->a, WIRE_OP_ATTACH, WIRE_REQUEST, 5, &uuid, &p->null, 1), 0);
	assert_int_equal(wire_recv(p->b, &at_broker, &in), 1);
	assert_int_equal(in.op, WIRE_OP_ATTACH);
	assert_int_equal(in.fd_count, 1);
	assert_int_equal(in.msg.uuid.uuid[2], 3);
	wire_in_close(&in);
	assert_int_equal(in.fd_count, 0);
	assert_int_equal(open_fds(), p->fds);
	assert_int_equal(wire_send(p->a, WIRE_OP_ATTACH, WIRE_REQUEST, 5, &uuid, NULL, 0), -EINVAL);
	assert_int_equal(wire_recv(p->b, &at_broker, &in), -EAGAIN);
}

static void refused_message_leaves_no_descriptor(void **state)
{
	static const uint8_t too_many[] = { 8, 0, 0, 0, 0, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16 };
	struct pair *p = *state;
	static uint8_t big[WIRE_MESSAGE_MAX + 64];

	for (size_t n = 1; n < 4; n++) { /* KILL takes none */
		raw_send(p->a, too_many, sizeof(too_many), p->null, n, 1);
		assert_int_equal(wire_recv(p->b, &at_broker, &in), -EPROTO);
		assert_string_equal(in.why, "wrong number of descriptors");
		assert_int_equal(in.fd_count, 0);
		assert_int_equal(open_fds(), p->fds);
	}
	raw_send(p->a, too_many, 3, p->null, 5, 1);
	assert_int_equal(wire_recv(p->b, &at_broker, &in), -EPROTO);
	assert_int_equal(open_fds(), p->fds);
	raw_send(p->a, too_many, sizeof(too_many), p->null, 200, 1); /* MSG_CTRUNC */
	assert_int_equal(wire_recv(p->b, &at_broker, &in), -EPROTO);
	assert_string_equal(in.why, "too long, or too many descriptors");
	raw_send(p->a, big, sizeof(big), p->null, 3, 1);
	assert_int_equal(wire_recv(p->b, &at_broker, &in), -EPROTO);
	assert_int_equal(open_fds(), p->fds);
}

/* An empty datagram ends a session like a hang-up; with descriptors it is a breach, and they are closed. */
static void empty_datagram(void **state)
{
	struct pair *p = *state;

	raw_send(p->a, "", 0, -1, 0, 1);
	assert_int_equal(wire_recv(p->b, &at_broker, &in), 0);
	raw_send(p->a, "", 0, p->null, 2, 1);
	assert_int_equal(wire_recv(p->b, &at_broker, &in), -EPROTO);
	assert_string_equal(in.why, "shorter than a header");
	assert_int_equal(open_fds(), p->fds);
}

/* Descriptors that cannot be installed (table full) are a refusal, not a short message. */
static void descriptor_table_full(void **state)
{
	struct pair *p = *state;
	int fill[512];
	size_t filled = 0, before, count = 0;
	char byte;
	int got;
	struct wire_uuid uuid = { .uuid = { 1 } };

	assert_int_equal(wire_send(p->a, WIRE_OP_ATTACH, WIRE_REQUEST, 5, &uuid, &p->null, 1), 0);
	assert_int_equal(fdpass_send(p->a, "x", 1, &p->null, 1), 0);
	before = open_fds();
	while (filled < ARRAY_SIZE(fill) && (fill[filled] = fcntl(p->null, F_DUPFD_CLOEXEC, 0)) >= 0)
		filled++;
	assert_true(filled < ARRAY_SIZE(fill)); /* main() set a low limit */
	assert_int_equal(wire_recv(p->b, &at_broker, &in), -EPROTO);
	assert_int_equal(fdpass_recv(p->b, &byte, 1, &got, 1, &count), -EMSGSIZE);
	for (size_t i = 0; i < filled; i++)
		fd_close(&fill[i]);
	assert_int_equal(open_fds(), before);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(int argc, char **argv)
{
	struct rlimit few;
	const struct CMUnitTest tests[] = {
		TEST(carries_bytes_and_descriptors),
		TEST(limit_is_exact),
		TEST(too_many_descriptors),
		TEST(descriptors_in_two_control_messages),
		TEST(longer_than_the_buffer),
		TEST(control_messages_nobody_asked_for),
		TEST(closed_peer),
		TEST(now_means_now),
		TEST(last_words_of_a_closed_peer),
		TEST(full_queue_does_not_block),
		TEST(typed_message_with_descriptor),
		TEST(refused_message_leaves_no_descriptor),
		TEST(empty_datagram),
	};
	const struct CMUnitTest full[] = { TEST(descriptor_table_full) };

	if (getrlimit(RLIMIT_NOFILE, &few) < 0)
		return 1;
	few.rlim_cur = 300; /* small enough to be filled */
	if (setrlimit(RLIMIT_NOFILE, &few) < 0)
		return 1;
	/* Apart from the others: valgrind keeps this limit to itself instead of telling the kernel. */
	if (argc > 1 && strcmp(argv[1], "full") == 0)
		return cmocka_run_group_tests(full, NULL, NULL);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
