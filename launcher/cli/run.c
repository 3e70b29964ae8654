/* SPDX-License-Identifier: Apache-2.0
 * Runs: CLI (the user). postern run. */
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "cli.h"
#include "common/cleanup.h"
#include "spec_file.h"

#define RUN_TIMEOUT_MS 60000
#define RUN_END_TRIES 100
#define RUN_NAP_NS 20000000
#define RUN_QUIET_MS 700 /* a step that takes longer is named */

/* Wait until the guest runs. Shows on a terminal what takes long. */
static int wait_running(struct channel *channel, int timeout_ms, char uuid[STATE_UUID_SIZE], json_t **ret,
			struct failure *failure)
{
	bool tty = isatty(STDERR_FILENO) == 1;
	char step[128] = "starting";
	bool shown = false;
	int waited = 0, r;

	for (;;) {
		json_t *line = NULL;
		const char *event, *text, *id = NULL;

		r = talk_next(channel, tty && !shown ? RUN_QUIET_MS : timeout_ms - waited, &line, failure);
		if (r == -ETIMEDOUT && tty && !shown) {
			(void)fprintf(stderr, "postern: %s ...\n", step);
			shown = true;
			waited += RUN_QUIET_MS;
			continue;
		}
		if (r == -ETIMEDOUT)
			return fail(failure, r, EXIT_TIMEOUT,
				    "start sandbox: no guest after %d s (%s); try a longer --timeout", timeout_ms / 1000,
				    step);
		if (r < 0)
			return fail(failure, r, EXIT_LAUNCH, "start sandbox: the controller died (%s); see the broker's log",
				    step);
		event = json_string_value(json_object_get(line, "event"));
		text = json_string_value(json_object_get(line, "text"));
		id = json_string_value(json_object_get(line, "uuid"));
		if (id != NULL)
			(void)snprintf(uuid, STATE_UUID_SIZE, "%s", id);
		if (event != NULL && strcmp(event, "running") == 0) {
			id = json_string_value(json_object_get(json_object_get(line, "state"), "uuid"));
			if (id != NULL)
				(void)snprintf(uuid, STATE_UUID_SIZE, "%s", id);
			*ret = line;
			return 0;
		}
		if (event != NULL && strcmp(event, "failed") == 0)
			r = fail(failure, -EREMOTEIO, (enum postern_exit)json_integer_value(json_object_get(line, "exit")),
				 "%s", text != NULL ? text : "?");
		else if (text != NULL) {
			(void)snprintf(step, sizeof(step), "%s", text);
			shown = false;
		}
		json_decref(line);
		if (r < 0)
			return r;
	}
}

/* Clean up behind a controller that died, and say what became of its sandbox. */
static void controller_died(const char *uuid, struct failure *failure)
{
	struct failure ignored;
	struct found found;
	bool ended = false, there = false;

	if (find_all(&found, &ignored) < 0)
		return;
	for (size_t i = 0; i < found.list.count; i++) {
		ended = ended || (found.list.items[i].dead && strcmp(found.list.items[i].state.uuid, uuid) == 0);
		there = there || strcmp(found.list.items[i].state.uuid, uuid) == 0;
	}
	/* The broker may still know it for a moment; what was swept was not to survive. */
	if (ended)
		(void)fail(failure, -EPIPE, EXIT_GUEST,
			   "sandbox %s: its controller was killed, and it ended with it; see postern logs %.8s", uuid, uuid);
	else if (there)
		(void)fail(failure, -EPIPE, EXIT_GUEST,
			   "sandbox %s: its controller was killed, and it goes on; postern kill %.8s ends it", uuid, uuid);
	find_done(&found);
	if (ended)
		(void)find_wait_gone(uuid);
}

/* The sandbox belongs to this terminal until one of the two ends. */
static int foreground(struct channel *channel, const json_t *running, struct failure *failure)
{
	const char *uuid = json_string_value(json_object_get(json_object_get(running, "state"), "uuid"));
	struct attach_end end;
	int r = attach(channel, fd_take(&channel->passed), true, uuid, &end, failure);

	if (r < 0) {
		controller_died(uuid, failure);
		return say_failure(failure);
	}
	if (end.detached) {
		(void)fprintf(stderr, "postern: %s goes on; postern console %.8s\n", uuid, uuid);
		return EXIT_OK;
	}
	(void)find_wait_gone(uuid);
	if (end.exit_status == EXIT_OK)
		return EXIT_OK;
	return say_error((enum postern_exit)end.exit_status,
			 end.kept ? "sandbox %s: %s; see postern logs %.8s" : "sandbox %s: %s%.0s", uuid, end.reason, uuid);
}

/* A launch that is broken off: the controller dies of it, and what it had started dies of that, unless it may survive and
 * had just got leave to; so the broker is asked too. Whether nothing is left. */
static bool abandon(pid_t controller, const char *uuid)
{
	struct failure ignored;
	struct found found;
	bool left = false;

	(void)kill(controller, SIGKILL);
	(void)waitpid(controller, NULL, 0);
	if (uuid[0] != '\0') {
		const struct timespec nap = { .tv_nsec = RUN_NAP_NS };

		/* While it is starting or stopping the broker says only that; no answer is no proof that it is gone. */
		left = true;
		for (int i = 0; i < RUN_END_TRIES && left; i++) {
			left = end_by_broker(uuid, &ignored) < 0;
			if (left)
				(void)nanosleep(&nap, NULL);
		}
		left = left || !find_wait_gone(uuid);
	}
	if (find_all(&found, &ignored) == 0) /* sweeps */
		find_done(&found);
	return !left;
}

/* A namesake that was to survive and has ended since holds its name until somebody sweeps. */
static void free_name(const struct spec *spec)
{
	struct failure ignored;
	struct found found;

	if (spec->name != NULL && find_all(&found, &ignored) == 0)
		find_done(&found);
}

static volatile sig_atomic_t controller_pid, was_interrupted;

/* Ctrl-C while the launch goes on: its controller sits in a session of its own and would not hear of it. */
static void interrupted(int number)
{
	was_interrupted = number;
	if (controller_pid > 0)
		(void)kill(controller_pid, SIGKILL);
}

/* The launch did not come to a running guest, or nobody waits for it any more. */
static int broken_off(pid_t pid, int error, const char *uuid, struct failure *failure)
{
	bool clean = true;

	if (was_interrupted != 0 || failure->exit_status == EXIT_TIMEOUT || error == -EPIPE)
		clean = abandon(pid, uuid);
	if (was_interrupted != 0)
		(void)fail(failure, -EINTR, EXIT_FAILED, "start sandbox: interrupted by signal %d; %s%.8s",
			   (int)was_interrupted, clean ? "nothing of it is left" : "it may live on: postern kill ",
			   clean ? "" : uuid);
	return say_failure(failure);
}

int command_run(const struct command *self, int argc, char **argv)
{
	struct channel channel = { .fd = -1, .passed = -1 };
	struct failure failure = { .exit_status = EXIT_FAILED };
	bool detach = false, json = false;
	int timeout_ms = RUN_TIMEOUT_MS, r;
	const struct option_row rows[] = {
		{ "detach", NULL, "print the uuid once the guest runs, and leave it alone", OPTION_FLAG, &detach },
		{ "json", NULL, "with --detach: print the state as JSON", OPTION_FLAG, &json },
		{ "timeout", "SECONDS", "how long the launch may take (default 60)", OPTION_SECONDS, &timeout_ms },
	};
	struct spec *spec = NULL;
	struct sigaction quiet = { .sa_handler = interrupted };
	char uuid[STATE_UUID_SIZE] = "";
	json_t *running = NULL;
	sigset_t set, old;
	pid_t pid;

	r = spec_from_arguments(self, rows, ARRAY_SIZE(rows), argc, argv, &spec);
	if (r < 0 && json && !detach)
		r = say_error(EXIT_USAGE, "option --json: the console is on standard output; add --detach");
	if (r >= 0) {
		spec_free(spec);
		return r;
	}
	free_name(spec);
	/* Held back until the handler knows whom to end. */
	(void)sigemptyset(&set);
	(void)sigaddset(&set, SIGINT);
	(void)sigaddset(&set, SIGTERM);
	(void)sigaddset(&set, SIGHUP);
	(void)sigprocmask(SIG_BLOCK, &set, &old);
	(void)sigaction(SIGINT, &quiet, NULL);
	(void)sigaction(SIGTERM, &quiet, NULL);
	(void)sigaction(SIGHUP, &quiet, NULL);
	pid = spawn_controller(spec, detach, timeout_ms, &channel, &failure);
	spec_free(spec);
	controller_pid = pid;
	(void)sigprocmask(SIG_SETMASK, &old, NULL);
	if (pid < 0)
		return say_failure(&failure);
	r = wait_running(&channel, timeout_ms, uuid, &running, &failure);
	controller_pid = 0;
	if (r < 0 || was_interrupted != 0) {
		json_decref(running);
		channel_close(&channel);
		return broken_off(pid, r, uuid, &failure);
	}
	if (!detach)
		r = foreground(&channel, running, &failure);
	else if (json)
		r = say_json(json_incref(json_object_get(running, "state")));
	else {
		(void)printf("%s\n", uuid);
		r = fflush(stdout) == 0
			    ? EXIT_OK
			    : say_error(EXIT_FAILED,
					"sandbox %s: it runs, but standard output: %s; postern kill %.8s ends it", uuid,
					strerror(errno), uuid);
	}
	json_decref(running);
	channel_close(&channel);
	return r;
}
