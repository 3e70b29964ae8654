/* SPDX-License-Identifier: Apache-2.0
 * Runs: tests. The state directory: whose it must be, what its files look like whatever the umask, who is swept. */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "launcher/controller/home.h"
#include "launcher/controller/logfile.h"

#include <cmocka.h> /* last: it makes a macro of fail() */

static char top[64];

static int make_top(void **unused)
{
	(void)unused;
	(void)snprintf(top, sizeof(top), "/tmp/postern-test-XXXXXX");
	return mkdtemp(top) == NULL || setenv("XDG_RUNTIME_DIR", top, 1) < 0 ? -1 : 0;
}

static int remove_top(void **unused)
{
	char command[128];

	(void)unused;
	(void)snprintf(command, sizeof(command), "rm -rf %s", top);
	return system(command); /* NOLINT(cert-env33-c): a test, and a name of ours */
}

static void path_of(char *path, size_t size, const char *rest)
{
	(void)snprintf(path, size, "%s/%s", top, rest);
}

static unsigned mode_of(int dir, const char *name)
{
	struct stat st;

	assert_int_equal(fstatat(dir, name, &st, AT_SYMLINK_NOFOLLOW), 0);
	assert_int_equal(st.st_uid, geteuid());
	return st.st_mode & 07777;
}

static struct state a_state(unsigned number, const char *name)
{
	struct state state = { .status = STATE_RUNNING, .started = number };

	(void)snprintf(state.uuid, sizeof(state.uuid), "%08x-0000-4000-8000-000000000000", number);
	(void)snprintf(state.name, sizeof(state.name), "%s", name);
	return state;
}

static void test_base_is_made(void **unused)
{
	struct failure failure;
	cleanup_fd int base = -1;
	struct stat st;

	(void)unused;
	assert_int_equal(home_base(true, &base, &failure), 0);
	assert_int_equal(fstat(base, &st), 0);
	assert_int_equal(st.st_mode & 07777, 0700);
}

/* Whoever only looks leaves no trace. */
static void test_looking_makes_nothing(void **unused)
{
	struct failure failure;
	int base = -1;
	char path[128];

	(void)unused;
	assert_int_equal(home_base(false, &base, &failure), -ENOENT);
	path_of(path, sizeof(path), "postern");
	assert_int_equal(access(path, F_OK), -1);
	path_of(path, sizeof(path), "home");
	assert_int_equal(mkdir(path, 0700), 0);
	assert_int_equal(setenv("HOME", path, 1), 0);
	assert_int_equal(setenv("XDG_RUNTIME_DIR", "/nonexistent", 1), 0);
	(void)snprintf(path, sizeof(path), "/run/user/%u", geteuid());
	if (access(path, F_OK) == 0)
		return; /* it would be taken: the half above has to do */
	path_of(path, sizeof(path), "home");
	assert_int_equal(home_base(false, &base, &failure), -ENOENT);
	assert_int_equal(rmdir(path), 0); /* still empty */
}

static void refused(const char *needle)
{
	struct failure failure;
	int base = -1;

	assert_true(home_base(true, &base, &failure) < 0);
	assert_int_equal(base, -1);
	assert_non_null(strstr(failure.text, needle));
	assert_null(strchr(failure.text, '\n'));
	assert_non_null(strchr(failure.text, ';')); /* a remedy */
}

static void test_planted_symlink(void **unused)
{
	char path[128], target[128];

	(void)unused;
	path_of(path, sizeof(path), "postern");
	path_of(target, sizeof(target), "elsewhere");
	assert_int_equal(mkdir(target, 0700), 0);
	assert_int_equal(symlink(target, path), 0);
	refused("not a directory of its own");
}

static void test_wrong_mode(void **unused)
{
	char path[128];

	(void)unused;
	path_of(path, sizeof(path), "postern");
	assert_int_equal(mkdir(path, 0700), 0);
	for (unsigned mode = 0701; mode <= 0777; mode++) {
		if ((mode & 077) == 0)
			continue;
		assert_int_equal(chmod(path, mode), 0);
		refused("others may enter it");
	}
}

static void test_wrong_owner(void **unused)
{
	char path[128];

	(void)unused;
	if (geteuid() != 0) {
		print_message("not root: nobody else's directory can be made here\n");
		skip();
	}
	path_of(path, sizeof(path), "postern");
	assert_int_equal(mkdir(path, 0700), 0);
	assert_int_equal(chown(path, 64810, 64810), 0);
	refused("belongs to uid 64810");
}

static void test_planted_file(void **unused)
{
	char path[128];
	int fd;

	(void)unused;
	path_of(path, sizeof(path), "postern");
	fd = open(path, O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
	assert_true(fd >= 0);
	(void)close(fd);
	refused("not a directory of its own");
}

/* A runtime directory of somebody else's (sudo keeps the variable) is not used at all. */
static void test_foreign_runtime_directory(void **unused)
{
	struct failure failure;
	cleanup_fd int base = -1;
	char home[128], expected[256], link[64], found[256];
	ssize_t len;

	(void)unused;
	if (geteuid() != 0)
		skip();
	path_of(home, sizeof(home), "home");
	assert_int_equal(mkdir(home, 0700), 0);
	assert_int_equal(chown(top, 64810, 64810), 0);
	assert_int_equal(setenv("HOME", home, 1), 0);
	if (access("/run/user/0", F_OK) == 0)
		skip();
	assert_int_equal(home_base(true, &base, &failure), 0);
	(void)snprintf(link, sizeof(link), "/proc/self/fd/%d", base);
	len = readlink(link, found, sizeof(found) - 1);
	assert_true(len > 0);
	found[len] = '\0';
	(void)snprintf(expected, sizeof(expected), "%s/.local/state/postern/run", home);
	assert_string_equal(found, expected);
}

static void modes_with(mode_t mask)
{
	struct failure failure;
	struct home home;
	struct state state = a_state(1, "");
	cleanup_fd int base = -1;
	struct logfile log;
	mode_t before = umask(mask);

	/* Both programs set 077 first; even without that nothing may come out wider. */
	if (mask == 0777)
		(void)umask(077);
	assert_int_equal(home_base(true, &base, &failure), 0);
	assert_int_equal(home_enter(base, &state, &home, &failure), 0);
	assert_int_equal(logfile_open(&log, home.dir, HOME_VMM_LOG), 0);
	assert_int_equal(home_write(home.dir, HOME_RECEIPT, "{}", 2), 0);
	assert_int_equal(mode_of(base, state.uuid), 0700);
	assert_int_equal(mode_of(home.dir, HOME_STATE), 0600);
	assert_int_equal(mode_of(home.dir, HOME_RECEIPT), 0600);
	assert_int_equal(mode_of(home.dir, HOME_VMM_LOG), 0600);
	assert_int_equal(mode_of(home.dir, "lock"), 0600);
	assert_int_equal(mode_of(base, ".lock"), 0600);
	logfile_close(&log);
	home_leave(&home, true);
	assert_int_equal(mode_of(base, "dead"), 0700);
	(void)umask(before);
}

static void test_umask_0(void **unused)
{
	(void)unused;
	modes_with(0);
}

static void test_umask_0777(void **unused)
{
	(void)unused;
	modes_with(0777);
}

static void test_enter_and_leave(void **unused)
{
	struct failure failure;
	struct home home;
	struct home_list list = { 0 };
	struct state state = a_state(7, "web");
	cleanup_fd int base = -1;

	(void)unused;
	assert_int_equal(home_base(true, &base, &failure), 0);
	assert_int_equal(home_enter(base, &state, &home, &failure), 0);
	assert_int_equal(home_scan(base, &list), 0);
	assert_int_equal(list.count, 1);
	assert_true(list.items[0].running);
	assert_string_equal(list.items[0].state.name, "web");
	home_list_free(&list);
	/* Not swept while its controller lives, whatever the broker says. */
	assert_int_equal(home_sweep(base, NULL, NULL), 0);
	home_leave(&home, false);
	assert_int_equal(home_scan(base, &list), 0);
	assert_int_equal(list.count, 0);
	home_list_free(&list);
}

static void test_name_is_unique(void **unused)
{
	struct state first = a_state(1, "web"), second = a_state(2, "web");
	struct failure failure;
	struct home one, two;
	cleanup_fd int base = -1;

	(void)unused;
	assert_int_equal(home_base(true, &base, &failure), 0);
	assert_int_equal(home_enter(base, &first, &one, &failure), 0);
	assert_int_equal(home_enter(base, &second, &two, &failure), -EEXIST);
	assert_int_equal(failure.exit_status, EXIT_USAGE);
	assert_non_null(strstr(failure.text, "name web"));
	home_leave(&one, true);
	/* One that has ended no longer has it. */
	assert_int_equal(home_enter(base, &second, &two, &failure), 0);
	home_leave(&two, false);
}

static int says(void *context, const char *uuid)
{
	(void)uuid;
	return *(const int *)context;
}

/* Enter in a child that is then killed: the kernel lets go of its lock. */
static void die_inside(int base, struct state *state)
{
	int status;
	pid_t pid = fork();

	if (pid == 0) {
		struct failure failure;
		struct home home;

		if (home_enter(base, state, &home, &failure) == 0)
			(void)kill(getpid(), SIGKILL);
		_exit(1);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFSIGNALED(status));
}

static void test_sweep(void **unused)
{
	struct state plain = a_state(1, "plain"), survivor = a_state(2, "survivor");
	struct failure failure;
	struct home_list list = { 0 };
	cleanup_fd int base = -1;
	int answer = 1;

	(void)unused;
	survivor.survive = true;
	assert_int_equal(home_base(true, &base, &failure), 0);
	die_inside(base, &plain);
	die_inside(base, &survivor);
	assert_int_equal(home_sweep(base, says, &answer), 1); /* the plain one */
	answer = -1;                                          /* nobody can say: the survivor stays */
	assert_int_equal(home_sweep(base, says, &answer), 0);
	answer = 0;
	assert_int_equal(home_sweep(base, says, &answer), 1);
	assert_int_equal(home_scan(base, &list), 0);
	assert_int_equal(list.count, 2);
	for (size_t i = 0; i < list.count; i++) {
		assert_true(list.items[i].dead);
		assert_int_equal(list.items[i].state.status, STATE_ENDED);
		assert_string_equal(list.items[i].state.reason, "its controller was killed");
	}
	home_list_free(&list);
}

static void test_only_the_last_dead_stay(void **unused)
{
	struct failure failure;
	struct home_list list = { 0 };
	cleanup_fd int base = -1;

	(void)unused;
	assert_int_equal(home_base(true, &base, &failure), 0);
	for (unsigned i = 1; i <= HOME_DEAD_MAX + 5; i++) {
		struct state state = a_state(i, "");
		struct home home;

		state.ended = i;
		assert_int_equal(home_enter(base, &state, &home, &failure), 0);
		home_leave(&home, true);
	}
	assert_int_equal(home_scan(base, &list), 0);
	assert_int_equal(list.count, HOME_DEAD_MAX);
	for (size_t i = 0; i < list.count; i++)
		assert_true(list.items[i].state.ended > 5);
	home_list_free(&list);
}

/* What somebody put there does not lead us out, and does not stop us. */
static void test_planted_entries(void **unused)
{
	struct failure failure;
	struct home_list list = { 0 };
	cleanup_fd int base = -1, dir = -1;
	char outside[128];

	(void)unused;
	assert_int_equal(home_base(true, &base, &failure), 0);
	path_of(outside, sizeof(outside), "outside");
	assert_int_equal(mkdir(outside, 0700), 0);
	dir = open(outside, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	assert_int_equal(home_write(dir, "precious", "x", 1), 0);
	assert_int_equal(symlinkat(outside, base, "00000001-0000-4000-8000-000000000000"), 0);
	assert_int_equal(mkdirat(base, "00000002-0000-4000-8000-000000000000", 0700), 0);
	assert_int_equal(mkdirat(base, "not-a-uuid", 0700), 0);
	assert_int_equal(home_scan(base, &list), 0);
	assert_int_equal(list.count, 1);
	assert_int_equal(list.items[0].state.status, STATE_UNKNOWN);
	home_list_free(&list);
	assert_int_equal(home_sweep(base, NULL, NULL), 1);
	assert_int_equal(faccessat(dir, "precious", F_OK, 0), 0);
}

static void test_state_files(void **unused)
{
	static const char *const bad[] = {
		"", "{}", "[]", "{\"version\":1}", "{\"version\":2}", "null", "{\"version\":1,\"version\":1}"
	};
	struct failure failure;
	struct state state = a_state(9, "nine"), back;
	cleanup_fd int base = -1;

	(void)unused;
	assert_int_equal(home_base(true, &base, &failure), 0);
	(void)snprintf(state.reason, sizeof(state.reason), "quote \" and \\ backslash");
	assert_int_equal(state_save(&state, base), 0);
	assert_int_equal(state_load(&back, base), 0);
	assert_string_equal(back.reason, state.reason);
	assert_string_equal(back.uuid, state.uuid);
	assert_int_equal(back.status, STATE_RUNNING);
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		assert_int_equal(home_write(base, HOME_STATE, bad[i], strlen(bad[i])), 0);
		assert_int_equal(state_load(&back, base), -EINVAL);
	}
}

static void test_uuid_form(void **unused)
{
	(void)unused;
	assert_true(state_uuid_ok("01234567-89ab-4cde-8f01-23456789abcd"));
	assert_false(state_uuid_ok("01234567-89AB-4cde-8f01-23456789abcd"));
	assert_false(state_uuid_ok("01234567-89ab-4cde-8f01-23456789abc"));
	assert_false(state_uuid_ok("01234567-89ab-4cde-8f01-23456789abcde"));
	assert_false(state_uuid_ok("../../../../../../../../etc/passwd/x"));
	assert_false(state_uuid_ok(""));
}

#define CASE(name) cmocka_unit_test_setup_teardown(name, make_top, remove_top)

int main(void)
{
	const struct CMUnitTest tests[] = {
		CASE(test_base_is_made),
		CASE(test_looking_makes_nothing),
		CASE(test_planted_symlink),
		CASE(test_wrong_mode),
		CASE(test_wrong_owner),
		CASE(test_planted_file),
		CASE(test_foreign_runtime_directory),
		CASE(test_umask_0),
		CASE(test_umask_0777),
		CASE(test_enter_and_leave),
		CASE(test_name_is_unique),
		CASE(test_sweep),
		CASE(test_only_the_last_dead_stay),
		CASE(test_planted_entries),
		CASE(test_state_files),
		CASE(test_uuid_form),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
