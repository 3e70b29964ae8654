/* SPDX-License-Identifier: Apache-2.0
 * Runs: test (the user). postern-mock-vmm itself, started from a plan of its driver, outside any sandbox. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "launcher/hypervisor/qmp.h"
#include "postern/driver.h"

#define WORDS_MAX 64

static const char *program;

struct run {
	pid_t pid;
	int console;
	struct driver_vm *vm;
	const struct driver *driver;
};

/* What init does, without what makes it init: descriptors to their slots, exec. */
static void __attribute__((noreturn)) become(const struct plan *plan, int control, int console)
{
	char *words[WORDS_MAX + 1] = { NULL };
	int high[WIRE_ASSETS_MAX];
	char *word = strdup("");
	size_t count = 0;

	(void)word;
	for (const char *p = plan->words; p < plan->words + plan->word_bytes && count < WORDS_MAX; p += strlen(p) + 1)
		words[count++] = strdup(p);
	control = fcntl(control, F_DUPFD, SLOT_END);
	console = fcntl(console, F_DUPFD, SLOT_END);
	for (size_t i = 0; i < plan->asset_count; i++)
		high[i] = fcntl(plan->assets[i].fd, F_DUPFD, SLOT_END);
	(void)dup2(control, SLOT_CONTROL);
	(void)dup2(console, SLOT_CONSOLE);
	for (size_t i = 0; i < plan->asset_count; i++)
		if (!plan->assets[i].copy)
			(void)dup2(high[i], SLOT_ASSET + (int)i);
	(void)close_range(SLOT_END, ~0u, 0);
	(void)execv(words[0], words);
	_exit(127);
}

static struct run start(const char *json)
{
	struct run run = { .driver = driver_by_name("mock") };
	struct spec *spec = spec_new();
	struct spec_error error = { 0 };
	struct driver_probe probe = { 0 };
	struct wire_acquire ask = { 0 };
	struct wire_lease lease = { 0 };
	struct driver_context ctx = {
		.spec = spec, .lease = &lease, .probe = &probe, .path = program, .kernel = -1, .initrd = -1, .passt = -1
	};
	struct plan *plan = plan_new();
	int control[2], console[2];

	if (spec_parse(spec, json, strlen(json), &error) != 0)
		fail_msg("%s: %s", error.where, error.text);
	assert_int_equal(run.driver->probe(program, &probe), 0);
	assert_int_equal(run.driver->needs(spec, &probe, &ask, &error), 0);
	for (size_t i = 0; i < SPEC_DISKS_MAX; i++)
		ctx.disks[i] = i < spec->disk_count ? open(spec->disks[i].path, O_RDONLY | O_CLOEXEC) : -1;
	assert_int_equal(run.driver->plan(&ctx, plan, &error), 0);
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, control), 0);
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, console), 0);
	run.pid = fork();
	if (run.pid == 0)
		become(plan, control[1], console[1]);
	(void)close(control[1]);
	(void)close(console[1]);
	run.console = console[0];
	run.vm = run.driver->attach(control[0]);
	assert_non_null(run.vm);
	plan_free(plan);
	spec_free(spec);
	return run;
}

static int end(struct run *run)
{
	int status = -1;

	run->driver->detach(run->vm);
	(void)close(run->console);
	assert_int_equal(waitpid(run->pid, &status, 0), run->pid);
	return status;
}

static bool console_says(int console, const char *wanted, int timeout_ms)
{
	struct pollfd pfd = { .fd = console, .events = POLLIN };
	char text[256] = "";
	size_t used = 0;

	while (strstr(text, wanted) == NULL && poll(&pfd, 1, timeout_ms) > 0) {
		ssize_t n = read(console, text + used, sizeof(text) - 1 - used);

		if (n <= 0)
			break;
		used += (size_t)n;
	}
	return strstr(text, wanted) != NULL;
}

static void held_until_told(void **state)
{
	struct run run =
		start("{\"hypervisor\": \"mock\", \"disks\": [{\"path\": \"/proc/self/exe\", \"readonly\": true}]}");

	(void)state;
	assert_int_equal(run.driver->ready(run.vm, 5000), 0);
	assert_false(console_says(run.console, "running", 50));
	assert_int_equal(run.driver->resume(run.vm, 5000), 0);
	assert_true(console_says(run.console, "postern mock VMM: running", 5000));
	assert_int_equal(write(run.console, "hello", 5), 5);
	assert_true(console_says(run.console, "hello", 5000));
	assert_int_equal(run.driver->pause(run.vm, 5000), 0);
	assert_int_equal(run.driver->state(run.vm), DRIVER_PAUSED);
	assert_int_equal(run.driver->resume(run.vm, 5000), 0);
	assert_int_equal(run.driver->powerdown(run.vm, 5000), 0);
	while (run.driver->dispatch(run.vm) == 0)
		;
	assert_int_equal(run.driver->state(run.vm), DRIVER_SHUTDOWN);
	assert_int_equal(end(&run), 0);
}

static void words_that_change_it(void **state)
{
	struct run run = start("{\"hypervisor\": \"mock\", \"cmdline\": \"ignore-powerdown\"}");

	(void)state;
	assert_int_equal(run.driver->ready(run.vm, 5000), 0);
	assert_int_equal(run.driver->resume(run.vm, 5000), 0);
	assert_int_equal(run.driver->powerdown(run.vm, 5000), 0);
	assert_int_equal(run.driver->state(run.vm), DRIVER_RUNNING);
	assert_int_equal(run.driver->quit(run.vm, 5000), 0);
	assert_int_equal(end(&run), 0);
	run = start("{\"hypervisor\": \"mock\", \"cmdline\": \"crash\"}");
	assert_int_equal(run.driver->ready(run.vm, 5000), 0);
	assert_int_equal(run.driver->resume(run.vm, 5000), -EIO);
	assert_int_equal(run.driver->state(run.vm), DRIVER_CRASHED);
	assert_int_equal(end(&run), 0);
	run = start("{\"hypervisor\": \"mock\", \"cmdline\": \"exit=7\"}");
	assert_int_equal(run.driver->ready(run.vm, 5000), 0);
	assert_int_equal(run.driver->resume(run.vm, 5000), -EPIPE);
	assert_int_equal(end(&run), 7 << 8);
}

/* `self` is one line of JSON that our own client accepts, and tells the truth where we know it. */
static void self_tells(void **state)
{
	struct run run =
		start("{\"hypervisor\": \"mock\", \"disks\": [{\"path\": \"/proc/self/exe\", \"readonly\": true}]}");
	json_t *self = NULL, *fd;
	struct qmp *qmp;
	bool disk = false;
	size_t i;

	(void)state;
	qmp = qmp_new(dup(run.driver->fd(run.vm)));
	assert_int_equal(qmp_handshake(qmp, 5000), 0);
	assert_int_equal(qmp_command(qmp, "self", 5000, &self), 0);
	assert_int_equal(json_integer_value(json_array_get(json_object_get(self, "uids"), 1)), geteuid());
	assert_int_equal(json_integer_value(json_object_get(self, "pid")), run.pid);
	assert_int_equal(strlen(json_string_value(json_object_get(json_object_get(self, "capabilities"), "bounding"))), 16);
	assert_true(json_is_integer(json_object_get(self, "seccomp")));
	assert_true(json_is_array(json_object_get(self, "groups")));
	assert_true(json_array_size(json_object_get(self, "files")) > 0);
	json_array_foreach(json_object_get(self, "fds"), i,
			   fd) if (json_integer_value(json_object_get(fd, "fd")) == SLOT_ASSET) disk =
		strcmp(json_string_value(json_object_get(fd, "type")), "file") == 0 &&
		strcmp(json_string_value(json_object_get(fd, "access")), "read") == 0;
	assert_true(disk);
	assert_int_equal(qmp_command(qmp, "nonsense", 5000, NULL), -EREMOTEIO);
	json_decref(self);
	qmp_free(qmp);
	assert_int_equal(end(&run), 0);
}

static int exit_with(const char *const words[])
{
	char *copy[8] = { strdup(program) };
	int status = -1, control[2];
	pid_t pid;

	for (size_t i = 0; words[i] != NULL && i < 6; i++)
		copy[i + 1] = strdup(words[i]);
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, control), 0);
	pid = fork();
	if (pid == 0) {
		(void)close(2);
		(void)open("/dev/null", O_WRONLY);
		(void)dup2(control[1], SLOT_CONTROL);
		(void)close_range(SLOT_CONSOLE, ~0u, 0);
		(void)execv(program, copy);
		_exit(127);
	}
	(void)close(control[0]);
	(void)close(control[1]);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	for (size_t i = 0; i < ARRAY_SIZE(copy); i++)
		free(copy[i]);
	return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static void arguments_are_strict(void **state)
{
	static const char *const bad[] = { "x",
					   "--help",
					   "--memory",
					   "--memory=",
					   "--memory=x",
					   "--memory=-1",
					   "--memory=1x",
					   "--vcpus=99999",
					   "--taps=1",
					   "--vhosts=1",
					   "--taps=33",
					   "--disk=80",
					   "--kernel=/nonexistent",
					   "--Memory=1",
					   "--mem=1" };

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
		if (exit_with((const char *const[]){ bad[i], NULL }) != 1)
			fail_msg("%s was accepted", bad[i]);
	assert_int_equal(
		exit_with((const char *const[]){ "--memory=1", "--vcpus=2", "--taps=0", "--kernel=/dev/null", NULL }), 0);
	assert_int_equal(exit_with((const char *const[]){ "--version", NULL }), 0);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(held_until_told), cmocka_unit_test(words_that_change_it),
					    cmocka_unit_test(self_tells), cmocka_unit_test(arguments_are_strict) };

	if (argc != 2) {
		(void)fprintf(stderr, "usage: %s postern-mock-vmm\n", argv[0]);
		return 2;
	}
	program = argv[1];
	return cmocka_run_group_tests_name("mock vmm", tests, NULL, NULL);
}
