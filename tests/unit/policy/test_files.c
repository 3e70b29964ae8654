/* SPDX-License-Identifier: Apache-2.0
 * Runs: test (root: it makes files of other owners; says so and fails elsewhere unless POSTERN_TEST_UNPRIVILEGED=1). The
 * policy as a file, the range of ids against the host's files. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "policy/id_range.h"
#include "policy/policy.h"

#define OTHER_UID 64810

static char directory[] = "/tmp/postern-policy-XXXXXX";

static const char *in(const char *name)
{
	static char paths[4][256];
	static unsigned next;
	char *path = paths[next++ % 4];

	(void)snprintf(path, sizeof(paths[0]), "%s/%s", directory, name);
	return path;
}

static void make(const char *name, const char *text, mode_t mode)
{
	cleanup_fd int fd = open(in(name), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

	assert_true(fd >= 0);
	assert_int_equal(write(fd, text, strlen(text)), (ssize_t)strlen(text));
	assert_int_equal(fchmod(fd, mode), 0);
}

static void opens(const char *path, int expected, const char *reason)
{
	struct policy_error error;
	int fd = policy_open(path, &error);

	if (expected == 0) {
		if (fd < 0)
			fail_msg("%s: %s", path, error.text);
		(void)close(fd);
		return;
	}
	if (fd >= 0)
		fail_msg("%s was opened", path);
	if (fd != expected || strstr(error.text, reason) == NULL)
		fail_msg("%s: %d %s, expected %d %s", path, fd, error.text, expected, reason);
	assert_int_equal(error.line, 0);
}

static void test_open(void **state)
{
	char text[300];

	(void)state;
	make("good", "{}", 0644);
	opens(in("good"), 0, "");
	make("private", "{}", 0400);
	opens(in("private"), 0, "");
	opens(in("missing"), -ENOENT, "cannot open \"missing\"");
	opens(in("no/such/directory"), -ENOENT, "cannot open \"no\"");
	opens(in("good/below"), -ENOTDIR, "no directory");
	opens("/", -EISDIR, "is a directory");
	assert_int_equal(chdir("/"), 0);
	opens("", -EISDIR, "is a directory"); /* the working directory */
	opens(in(""), -EINVAL, "not a regular file");
	make("group", "{}", 0664);
	opens(in("group"), -EPERM, "writable by others");
	make("other", "{}", 0646);
	opens(in("other"), -EPERM, "writable by others");
	assert_int_equal(symlink(in("good"), in("link")), 0);
	opens(in("link"), -ELOOP, "symbolic link");
	assert_int_equal(symlink("nowhere", in("dangling")), 0);
	opens(in("dangling"), -ELOOP, "symbolic link");
	assert_int_equal(mkfifo(in("fifo"), 0600), 0);
	opens(in("fifo"), -EINVAL, "not a regular file"); /* and does not wait for a writer */
	opens("/dev/null", -EINVAL, "not a regular file");
	assert_int_equal(mkdir(in("sub"), 0755), 0);
	make("sub/good", "{}", 0644);
	opens(in("sub/good"), 0, "");
	opens(in("sub//good"), 0, "");
	opens(in("sub/../good"), -EXDEV, "cannot open \"..\"");
	assert_int_equal(chmod(in("sub"), 0777), 0);
	opens(in("sub/good"), -EPERM, "the directory \"sub\" is writable by others");
	assert_int_equal(chmod(in("sub"), 01777), 0);
	opens(in("sub/good"), 0, "");
	assert_int_equal(chmod(in("sub"), 0775), 0);
	opens(in("sub/good"), -EPERM, "the directory \"sub\" is writable by others");
	assert_int_equal(chmod(in("sub"), 0755), 0);
	assert_int_equal(symlink("sub", in("sublink")), 0);
	opens(in("sublink/good"), -ENOTDIR, "symbolic link");
	assert_int_equal(chown(in("good"), OTHER_UID, 0), 0);
	opens(in("good"), -EPERM, "must belong to root");
	assert_int_equal(chown(in("sub"), OTHER_UID, 0), 0);
	opens(in("sub/good"), -EPERM, "the directory \"sub\" belongs to uid 64810");
	make("large", "{}", 0644);
	assert_int_equal(truncate(in("large"), POLICY_FILE_MAX + 1), 0);
	opens(in("large"), -EFBIG, "larger than the limit");
	assert_int_equal(chdir(directory), 0);
	opens("private", 0, "");
	opens("./private", 0, "");
	assert_int_equal(chdir("/"), 0);
	memset(text, 'x', sizeof(text) - 1);
	text[sizeof(text) - 1] = '\0';
	opens(text, -ENAMETOOLONG, "cannot open");
}

/* A range 70000-70999 against files of ours: nothing of the host is asked. */
static void range(const char *passwd, const char *subuid, int expected, const char *reason)
{
	struct id_range_sources sources = { .exempt = { "postern", "64801" } };
	char text[256] = "";
	int r;

	make("passwd", passwd, 0644);
	make("subuid", subuid, 0644);
	sources.passwd = in("passwd");
	sources.subuid = in("subuid");
	r = id_range_check(70000, 1000, &sources, text, sizeof(text));
	if (r != expected || strstr(text, reason) == NULL)
		fail_msg("passwd %s subuid %s: %d %s, expected %d %s", passwd, subuid, r, text, expected, reason);
}

static void test_id_range(void **state)
{
	struct id_range_sources sources = { .passwd = "/nonexistent/passwd" };
	char text[256] = "";

	(void)state;
	range("", "", 0, "");
	range("root:x:0:0::/:/bin/sh\nalice:x:69999:69999::/:/\nbob:x:71000:71000::/:/\n",
	      "alice:71000:65536\nbob:4464:65536\n", 0, "");
	range("alice:x:70000:1::/:/\n", "", -EADDRINUSE, "\"alice\" (70000-70000)");
	range("alice:x:70999:1::/:/\n", "", -EADDRINUSE, "\"alice\"");
	range("alice:x:1000:70500::/:/\n", "", -EADDRINUSE, "(70500-70500)"); /* her group */
	range("", "alice:70999:1\n", -EADDRINUSE, "\"alice\" (70999-70999)");
	range("", "alice:4465:65536\n", -EADDRINUSE, "(4465-70000)");
	range("", "bob:1:2\nalice:65536:4294901760\n", -EADDRINUSE, "\"alice\"");
	range("", "alice:70000:18446744073709551615\n", -EADDRINUSE, "\"alice\""); /* first + count wraps */
	range("", "postern:70000:1000\n64801:70000:1000\n", 0, "");                /* reserved for us */
	range("", "posternx:70000:1000\n", -EADDRINUSE, "\"posternx\"");
	range("", "# comment\n\nbroken\nalice:x:y\nalice:70000\nalice:70000:0\n", 0, "");
	range("alice:x:70001", "", -EADDRINUSE, "\"alice\""); /* no newline at the end */
	assert_int_equal(id_range_check(70000, 1000, &sources, text, sizeof(text)),
			 0); /* not there: nobody has it from there */
	sources.passwd = directory;
	assert_true(id_range_check(70000, 1000, &sources, text, sizeof(text)) < 0); /* there, but unreadable: fail closed */
}

static void spans(const char *subuid, const struct id_span *expected, size_t count)
{
	struct id_span got[8];
	size_t n = 0;

	make("subuid", subuid, 0644);
	assert_int_equal(id_range_subordinate(in("subuid"), got, ARRAY_SIZE(got), &n), 0);
	assert_int_equal(n, count);
	for (size_t i = 0; i < n; i++) {
		assert_int_equal(got[i].first, expected[i].first);
		assert_int_equal(got[i].last, expected[i].last);
	}
}

#define CONTAINERS \
	{ \
		524288, 1879048191 \
	}

static void test_subordinate(void **state)
{
	struct id_span got[8];
	char many[1024] = "";
	size_t n = 77, used = 0;

	(void)state;
	spans("", (struct id_span[]){ CONTAINERS }, 1);
	spans("alice:100000:65536\nbob:165536:65536\n", (struct id_span[]){ { 100000, 231071 }, CONTAINERS }, 2);
	spans("bob:165537:10\nalice:100000:65536", (struct id_span[]){ { 100000, 165535 }, { 165537, 165546 }, CONTAINERS },
	      3);
	spans("a:70000:10\nb:70020:10\nc:70009:12\n", (struct id_span[]){ { 70000, 70029 }, CONTAINERS }, 2);
	spans("a:400000:65536\nb:465536:58752\n", (struct id_span[]){ { 400000, 1879048191 } }, 1);
	spans("a:1879048192:10\nb:2000000000:5\n", (struct id_span[]){ { 524288, 1879048201 }, { 2000000000, 2000000004 } },
	      2);
	/* people's own uids, lent to a container of root's: they stay people */
	spans("root:1000:1\nroot:0:65536\n", (struct id_span[]){ CONTAINERS }, 1);
	spans("a:65000:1000\n", (struct id_span[]){ { 65536, 65999 }, CONTAINERS }, 2);
	/* numbers out of all range, and lines that are none */
	spans("a:4294967295:5\nb:18446744073709551615:2\n", (struct id_span[]){ CONTAINERS }, 1);
	spans("a:1879048192:18446744073709551615\n", (struct id_span[]){ { 524288, 0xfffffffe } }, 1);
	spans("# x\n\na\na:1\na:70000\na:70000:0\na:-1:5\na:x:y\n", (struct id_span[]){ CONTAINERS }, 1);
	/* too many that do not touch: said, not forgotten */
	for (unsigned i = 0; i < 8; i++)
		used += (size_t)snprintf(many + used, sizeof(many) - used, "u%u:%u:1\n", i, 70000 + 2 * i);
	make("subuid", many, 0644);
	assert_int_equal(id_range_subordinate(in("subuid"), got, ARRAY_SIZE(got), &n), -ENOSPC);
	assert_int_equal(n, 77);
	assert_int_equal(id_range_subordinate("/nonexistent/subuid", got, ARRAY_SIZE(got), &n), 0);
	assert_int_equal(n, 1);
	assert_true(id_range_subordinate(directory, got, ARRAY_SIZE(got), &n) < 0); /* there, but unreadable */
}

static void test_static_ranges(void **state)
{
	static const struct {
		uint64_t first, count;
		int r;
	} cases[] = {
		{ 65536, 458752, 0 },         { 65536, 458753, -EINVAL }, { 65535, 1, -EINVAL },
		{ 1879048192, 134217728, 0 }, { 1879048191, 1, -EINVAL }, { 524288, 1, -EINVAL },
		{ 2147483647, 1, 0 },         { 2147483648, 1, -EINVAL }, { 2147483647, 2, -EINVAL },
		{ 2147352575, 1, 0 },         { 2147352576, 1, -EINVAL }, { 2147418111, 1, -EINVAL },
		{ 2147418112, 65536, 0 },     { 0, 1, -EINVAL },          { 1000, 1, -EINVAL },
		{ UINT64_MAX, 1, -EINVAL },   { 1, UINT64_MAX, -EINVAL }, { UINT64_MAX, UINT64_MAX, -EINVAL },
		{ 70000, 0, -EINVAL },        { 60300, 1, -EINVAL },      { 61184, 1, -EINVAL },
	};
	char text[160];

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++)
		if (id_range_check_static(cases[i].first, cases[i].count, text, sizeof(text)) != cases[i].r)
			fail_msg("%llu + %llu", (unsigned long long)cases[i].first, (unsigned long long)cases[i].count);
}

/* Our default against this very host, with NSS. */
static void test_this_host(void **state)
{
	const struct id_range_sources sources = ID_RANGE_HOST;
	char text[256] = "";

	(void)state;
	if (id_range_check(POLICY_FIRST_UID, POLICY_UID_COUNT, &sources, text, sizeof(text)) != 0)
		fail_msg("the default range is taken on this host: %s", text);
}

static int set_up(void **state)
{
	(void)state;
	return mkdtemp(directory) == NULL || chmod(directory, 0755) < 0 ? -1 : 0;
}

static int tear_down(void **state)
{
	static const char *const names[] = { "sub/good", "good", "private", "group", "other",  "link",
					     "dangling", "fifo", "sublink", "large", "passwd", "subuid" };

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(names); i++)
		(void)unlink(in(names[i]));
	(void)rmdir(in("sub"));
	return rmdir(directory);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_static_ranges), cmocka_unit_test(test_id_range), cmocka_unit_test(test_subordinate),
		cmocka_unit_test(test_this_host),     cmocka_unit_test(test_open),
	};
	const char *unprivileged = getenv("POSTERN_TEST_UNPRIVILEGED");
	size_t count = ARRAY_SIZE(tests);

	/* Files of other owners need root. Leaving that part out is somebody's decision, not a silent one. */
	if (geteuid() != 0) {
		if (unprivileged == NULL || strcmp(unprivileged, "1") != 0) {
			(void)fprintf(stderr,
				      "test_files needs root; POSTERN_TEST_UNPRIVILEGED=1 leaves out the ownership tests\n");
			return 1;
		}
		(void)printf("# not run without root: test_open\n");
		count--;
	}
	return _cmocka_run_group_tests("files", tests, count, set_up, tear_down);
}
