/* SPDX-License-Identifier: Apache-2.0
 * Runs: tests (whoever runs them). One event is one line of printable ASCII, whatever a peer put into it. */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "common/cleanup.h"
#include "common/log.h"

static char got[8192];
static int pipe_fds[2];
static int real_stderr;

static int setup(void **state)
{
	(void)state;
	if (pipe2(pipe_fds, O_CLOEXEC | O_NONBLOCK) < 0)
		return -1;
	real_stderr = fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, 3);
	(void)unsetenv("JOURNAL_STREAM");
	return dup2(pipe_fds[1], STDERR_FILENO) < 0 ? -1 : 0;
}

static int teardown(void **state)
{
	(void)state;
	(void)dup2(real_stderr, STDERR_FILENO);
	fd_close(&real_stderr);
	fd_close(&pipe_fds[0]);
	fd_close(&pipe_fds[1]);
	return 0;
}

static const char *written(void)
{
	ssize_t n = read(pipe_fds[0], got, sizeof(got) - 1);

	got[n < 0 ? 0 : n] = '\0';
	return got;
}

static void plain_line(void **state)
{
	(void)state;
	log_init("postern-test", LOG_LEVEL_INFO);
	log_notice("lease %d of %s", 7, "alice");
	assert_string_equal(written(), "postern-test: lease 7 of alice\n");
	log_debug("not at this level");
	assert_string_equal(written(), "");
}

static void hostile_text_stays_one_line(void **state)
{
	(void)state;
	log_init("p", LOG_LEVEL_DEBUG);
	log_error("name '%s'", "a\nb\r\t\x1b[31m\x7f\xc3\xa9\x01");
	assert_string_equal(written(), "p: name 'a?b?"
				       "??[31m?"
				       "?"
				       "?"
				       "?'\n");
	log_error("%s", "<0>emergency %n%s");
	assert_string_equal(written(), "p: <0>emergency %n%s\n");
}

static void long_text_is_cut(void **state)
{
	static char text[5000];
	size_t len;

	(void)state;
	memset(text, 'x', sizeof(text) - 1);
	log_init("p", LOG_LEVEL_DEBUG);
	log_error("%s", text);
	len = strlen(written());
	assert_int_equal(len, 1023);
	assert_int_equal(got[len - 1], '\n');
	assert_int_equal(got[len - 2], 'x');
	log_init(text, LOG_LEVEL_DEBUG);
	log_error("end");
	len = strlen(written());
	assert_true(len <= 1024 && got[len - 1] == '\n');
	for (size_t shorter = 1000; shorter < 1030; shorter++) { /* around the cut, byte by byte */
		log_init("p", LOG_LEVEL_DEBUG);
		log_error("%.*s", (int)shorter, text);
		len = strlen(written());
		assert_int_equal(len, shorter + 4 < 1023 ? shorter + 4 : 1023);
	}
}

static void errno_is_kept(void **state)
{
	char expected[128];

	(void)state;
	log_init("p", LOG_LEVEL_DEBUG);
	errno = ENOENT;
	log_error("open: %m");
	assert_int_equal(errno, ENOENT);
	(void)snprintf(expected, sizeof(expected), "p: open: %s\n", strerror(ENOENT));
	assert_string_equal(written(), expected);
}

static void journal_gets_priorities(void **state)
{
	char value[64];
	struct stat st;

	(void)state;
	assert_int_equal(fstat(STDERR_FILENO, &st), 0);
	(void)snprintf(value, sizeof(value), "%llu:%llu", (unsigned long long)st.st_dev, (unsigned long long)st.st_ino);
	(void)setenv("JOURNAL_STREAM", value, 1);
	log_init("p", LOG_LEVEL_INFO);
	log_warn("low");
	assert_string_equal(written(), "<4>low\n");
	/* Inherited from a service, but our stderr is something else: no prefix. */
	(void)setenv("JOURNAL_STREAM", "1:2", 1);
	log_init("p", LOG_LEVEL_INFO);
	log_warn("low");
	assert_string_equal(written(), "p: low\n");
	(void)unsetenv("JOURNAL_STREAM");
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(plain_line),    TEST(hostile_text_stays_one_line), TEST(long_text_is_cut),
		TEST(errno_is_kept), TEST(journal_gets_priorities),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
