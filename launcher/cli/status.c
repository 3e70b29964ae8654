/* SPDX-License-Identifier: Apache-2.0
 * Runs: CLI (the user). postern status. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "cli.h"
#include "common/cleanup.h"

#define STATUS_MS 2000 /* for the controller to answer */

static void line(const char *name, const char *value)
{
	(void)printf("%-12s  %s\n", name, value[0] != '\0' ? value : "-");
}

static void number(const char *name, int64_t value)
{
	(void)printf("%-12s  %" PRId64 "\n", name, value);
}

static void print_state(const struct state *state, const char *stage)
{
	char when[64] = "";
	time_t started = (time_t)state->started;
	struct tm tm;

	if (localtime_r(&started, &tm) != NULL)
		(void)strftime(when, sizeof(when), "%Y-%m-%d %H:%M:%S", &tm);
	line("uuid", state->uuid);
	line("name", state->name);
	line("status", state_status_text(state->status));
	if (stage[0] != '\0' && state->status == STATE_STOPPING)
		line("stage", stage);
	if (state->status == STATE_ENDED) {
		line("reason", state->reason);
		number("exit status", state->exit_status);
	}
	line("hypervisor", state->hypervisor);
	line("accelerator", state->accel);
	number("host uid", state->uid);
	number("host gid", state->gid);
	number("vcpus", state->vcpus);
	number("memory MiB", state->memory_mib);
	line("networks", state->networks);
	if (state->cid != 0)
		number("vsock CID", state->cid);
	if (state->direct)
		line("mode", "direct: it has no user namespace of its own");
	line("survive", state->survive ? "yes" : "no");
	line("started", when);
	number("init pid", state->init_pid);
	if (state->vmm_pid != 0)
		number("VMM pid", state->vmm_pid);
	if (state->controller_pid != 0)
		number("controller", state->controller_pid);
}

int command_status(const struct command *self, int argc, char **argv)
{
	struct channel channel = { .fd = -1, .passed = -1 };
	struct failure failure;
	struct found found;
	const struct home_entry *entry = NULL;
	struct state state;
	bool json = false;
	const struct option_row rows[] = { { "json", NULL, "print JSON", OPTION_FLAG, &json } };
	const char *stage = "";
	int asked = 0;
	json_t *answer = NULL;
	size_t words;
	int r = options_parse(self, rows, ARRAY_SIZE(rows), NULL, argc, argv, &words);

	if (r < 0 && words != 1)
		r = say_error(EXIT_USAGE, "status: it takes one id; see postern ps");
	if (r < 0 && find_all(&found, &failure) < 0)
		r = say_failure(&failure);
	if (r >= 0)
		return r;
	entry = find_one(&found, argv[0], true, &failure);
	if (entry != NULL)
		state = entry->state;
	/* The controller knows best; without one, the file and the broker are what there is. */
	if (entry != NULL && entry->running)
		asked = talk_open(&found, entry, &channel, &failure);
	if (entry != NULL && entry->running && asked == 0)
		asked = talk_call(&channel, state.uuid, json_pack("{s:s}", "verb", "status"), STATUS_MS, &answer, &failure);
	if (answer != NULL) {
		(void)state_from_json(json_object_get(answer, "state"), &state);
		stage = json_string_value(json_object_get(answer, "stage"));
	}
	if (entry == NULL) {
		r = say_failure(&failure);
	} else if (json) {
		json_t *out = state_to_json(&state);

		if (answer != NULL)
			(void)json_object_set(out, "spec", json_object_get(answer, "spec"));
		r = say_json(out);
	} else {
		print_state(&state, stage != NULL ? stage : "");
		r = say_end();
	}
	/* Still starting, or just ended: the file is right. Else it only says what was true once. */
	if (r == EXIT_OK && asked < 0 && asked != -EAGAIN && asked != -ESRCH)
		r = say_error(failure.exit_status, "%s (shown is what it last wrote)", failure.text);
	json_decref(answer);
	channel_close(&channel);
	find_done(&found);
	return r;
}
