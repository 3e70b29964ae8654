/* SPDX-License-Identifier: Apache-2.0
 * Runs: test (the user). passt itself: started, ended by us, ended by the VMM's end, missing. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <poll.h>
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
	const struct CMUnitTest tests[] = { cmocka_unit_test(started_and_ended), cmocka_unit_test(missing) };

	return cmocka_run_group_tests_name("passt", tests, NULL, NULL);
}
