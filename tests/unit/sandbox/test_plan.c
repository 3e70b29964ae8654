/* SPDX-License-Identifier: Apache-2.0
 * Runs: tests. What the controller may put into a plan, and that init's check accepts what comes out. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/eventfd.h>
#include <sys/un.h>
#include <stdio.h>
#include <unistd.h>

#include "broker/init/plan_check.h"
#include "postern/plan.h"

static void words(void **state)
{
	struct plan *plan = plan_new();
	char big[WIRE_WORDS_MAX];
	size_t before;

	(void)state;
	assert_non_null(plan);
	assert_int_equal(plan_word(plan, "%s", "qemu"), 0);
	assert_int_equal(plan_word(plan, "-m"), 0);
	assert_int_equal(plan_word(plan, "%u", 512u), 0);
	assert_int_equal(plan_word(plan, "%s", ""), 0);
	assert_memory_equal(plan->words, "qemu\0-m\0" "512\0\0", 13);
	assert_int_equal(plan->word_bytes, 13);
	assert_int_equal(plan->word_count, 4);
	memset(big, 'x', sizeof(big) - 1);
	big[sizeof(big) - 1] = 0;
	before = plan->word_bytes;
	assert_int_equal(plan_word(plan, "%s", big), -E2BIG);
	assert_int_equal(plan->word_bytes, before);
	assert_int_equal(plan->word_count, 4);
	for (size_t i = before; i < sizeof(plan->words); i++)
		assert_int_equal(plan->words[i], 0);
	for (size_t i = 4; i < 1024; i++)
		assert_int_equal(plan_word(plan, "a"), 0);
	assert_int_equal(plan_word(plan, "a"), -E2BIG);
	plan_free(plan);
	plan_free(NULL);
}

static int expect(struct plan *plan, int fd, const char *name, bool copy, bool writable)
{
	int r = plan_asset(plan, fd, name, copy, writable);

	if (r < 0)
		close(fd);
	return r;
}

static void assets(void **state)
{
	struct plan *plan = plan_new();
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	int pair[2], pipes[2], listener;

	(void)state;
	assert_int_equal(expect(plan, memfd_create("k", 0), "kernel", false, true), 0);
	assert_int_equal(expect(plan, open("/etc/hostname", O_RDONLY), "initrd", true, false), 1);
	assert_int_equal(expect(plan, memfd_create("k", 0), "kernel", false, true), -EEXIST);
	assert_int_equal(expect(plan, open("/etc/hostname", O_RDONLY), "", true, false), -EINVAL); /* a copy has a name */
	assert_int_equal(expect(plan, memfd_create("k", 0), "../x", false, true), -EINVAL);
	assert_int_equal(expect(plan, memfd_create("k", 0), "a-name-that-is-longer-than-the-field", false, true), -EINVAL);
	assert_int_equal(expect(plan, memfd_create("k", 0), "x", false, false), -EACCES); /* writable, and said not to be */
	assert_int_equal(expect(plan, open("/etc/hostname", O_RDONLY), "x", false, true), -EACCES);
	assert_int_equal(expect(plan, memfd_create("k", 0), "x", true, true), -EINVAL); /* copies are read-only */
	assert_int_equal(expect(plan, open("/", O_RDONLY | O_DIRECTORY), "x", false, false), -EISDIR);
	assert_int_equal(expect(plan, open("/", O_PATH), "x", false, false), -EISDIR);
	assert_int_equal(expect(plan, open("/etc/hostname", O_PATH), "x", false, false), -EPERM);
	assert_int_equal(expect(plan, open("/dev/null", O_RDWR), "x", false, true), -EPERM);
	assert_int_equal(expect(plan, eventfd(0, 0), "x", false, true), -EPERM);
	assert_int_equal(expect(plan, -1, "x", false, true), -EBADF);
	assert_int_equal(expect(plan, socket(AF_INET, SOCK_STREAM, 0), "x", false, true), -EPERM);
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), 0);
	assert_int_equal(expect(plan, pair[0], "passt", false, true), 2);
	assert_int_equal(expect(plan, pair[1], "y", true, false), -EINVAL); /* nothing to copy in a socket */
	assert_int_equal(pipe(pipes), 0);
	assert_int_equal(expect(plan, pipes[0], "", false, false), 3);
	assert_int_equal(expect(plan, pipes[1], "", false, true), 4);
	/* a socket file by O_PATH: a thing to connect to */
	listener = socket(AF_UNIX, SOCK_STREAM, 0);
	snprintf(address.sun_path, sizeof(address.sun_path), "/tmp/postern-test-plan-%d", getpid());
	unlink(address.sun_path);
	assert_int_equal(bind(listener, (struct sockaddr *)&address, sizeof(address)), 0);
	assert_int_equal(expect(plan, open(address.sun_path, O_PATH), "blk", false, false), 5);
	assert_int_equal(expect(plan, open(address.sun_path, O_PATH), "blk2", false, true), -EPERM);
	unlink(address.sun_path);
	close(listener);
	for (int i = 6; i < (int)WIRE_ASSETS_MAX; i++)
		assert_int_equal(expect(plan, memfd_create("k", 0), "", false, true), i);
	assert_int_equal(expect(plan, memfd_create("k", 0), "", false, true), -ENFILE);
	plan_free(plan);
}

static void sends(void **state)
{
	static const struct wire_session session = { .link = LINK_CONTROL, .peer = FROM_CONTROLLER, .phase = PHASE_NEW };
	struct plan *plan = plan_new();
	static struct wire_in in;
	const char *why = NULL;
	struct stat a, b;
	int pair[2];

	(void)state;
	assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, pair), 0);
	assert_int_equal(plan_send(plan, pair[0]), -EINVAL); /* no program */
	assert_int_equal(plan_word(plan, "qemu"), 0);
	assert_int_equal(plan_word(plan, "-S"), 0);
	assert_int_equal(plan_asset(plan, memfd_create("k", 0), "disk0", false, true), 0);
	assert_int_equal(plan_asset(plan, open("/etc/hostname", O_RDONLY), "kernel", true, false), 1);
	assert_int_equal(plan_send(plan, pair[0]), 0);
	assert_int_equal(wire_recv(pair[1], &session, &in), 1);
	assert_int_equal(plan_check(&in.msg.plan, &why), 0);
	assert_int_equal(in.fd_count, 2);
	assert_int_equal(in.msg.plan.assets[0].writable, 1);
	assert_int_equal(in.msg.plan.assets[1].use, 1);
	assert_string_equal(in.msg.plan.assets[1].name, "kernel");
	assert_int_equal(fstat(in.fds[0], &a), 0);
	assert_int_equal(fstat(plan->assets[0].fd, &b), 0);
	assert_int_equal(a.st_ino, b.st_ino);
	assert_int_equal(a.st_ino, plan->assets[0].ino);
	wire_in_close(&in);
	plan_free(plan);
	close(pair[0]);
	close(pair[1]);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(words),
		cmocka_unit_test(assets),
		cmocka_unit_test(sends),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
