/* SPDX-License-Identifier: Apache-2.0
 * Runs: test (the user). passt itself: started, ended by us, ended by the VMM's end, missing. */
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
#include <unistd.h>

#include "launcher/net/passt.h"

static bool ended(const struct passt *passt, int ms)
{
	struct pollfd pfd = { .fd = passt_pidfd(passt), .events = POLLIN };

	return poll(&pfd, 1, ms) > 0;
}

static void started_and_ended(void **state)
{
	struct spec_error why = { 0 };
	struct passt *passt = NULL;
	int socket = -1;

	(void)state;
	assert_int_equal(passt_start(&passt, &socket, &why), 0);
	assert_false(ended(passt, 300));
	/* The VMM is gone: passt goes too, without being told. */
	assert_int_equal(close(socket), 0);
	assert_true(ended(passt, 5000));
	passt_stop(passt);
	assert_int_equal(passt_start(&passt, &socket, &why), 0);
	passt_stop(passt);
	assert_int_equal(close(socket), 0);
	passt_stop(NULL);
}

/* A stand-in that tells which descriptors it was given. */
static void given_nothing_else(void **state)
{
	static const char text[] = "#!/bin/sh\ncd /proc/$$/fd; readlink 0 2 3 * >\"${0%/*}/seen\"\n";
	char dir[] = "/tmp/postern-passt-XXXXXX", path[64], seen[1024] = "", *old = strdup(getenv("PATH")), *both;
	struct spec_error why = { 0 };
	struct passt *passt = NULL;
	int socket = -1, stray, fd;

	(void)state;
	assert_non_null(mkdtemp(dir));
	(void)snprintf(path, sizeof(path), "%s/passt", dir);
	fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0700);
	assert_int_equal(write(fd, text, sizeof(text) - 1), sizeof(text) - 1);
	assert_int_equal(close(fd), 0);
	assert_true(asprintf(&both, "%s:%s", dir, old) > 0);
	assert_int_equal(setenv("PATH", both, 1), 0);
	stray = open("/etc/passwd", O_RDONLY); /* NOLINT(android-cloexec-open): on purpose */
	assert_true(stray > 2);
	assert_int_equal(passt_start(&passt, &socket, &why), 0);
	assert_true(ended(passt, 5000));
	passt_stop(passt);
	(void)close(stray);
	(void)close(socket);
	assert_int_equal(unlink(path), 0);
	(void)snprintf(path, sizeof(path), "%s/seen", dir);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	assert_true(read(fd, seen, sizeof(seen) - 1) > 0);
	assert_int_equal(close(fd), 0);
	assert_int_equal(unlink(path), 0);
	assert_int_equal(rmdir(dir), 0);
	/* Ours first; then all, with what sh has open itself. */
	assert_ptr_equal(strstr(seen, "/dev/null\n/dev/null\nsocket:"), seen);
	assert_null(strstr(seen, "passwd"));
	assert_int_equal(setenv("PATH", old, 1), 0);
	free(both);
	free(old);
}

static void missing(void **state)
{
	struct spec_error why = { 0 };
	struct passt *passt = NULL;
	int socket = -1;

	(void)state;
	assert_int_equal(setenv("PATH", "/nonexistent", 1), 0);
	assert_int_equal(passt_start(&passt, &socket, &why), -ENOENT);
	assert_null(passt);
	assert_int_equal(socket, -1);
	assert_non_null(strstr(why.allowed, "install passt"));
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(started_and_ended), cmocka_unit_test(given_nothing_else),
					    cmocka_unit_test(missing) };

	return cmocka_run_group_tests_name("passt", tests, NULL, NULL);
}
