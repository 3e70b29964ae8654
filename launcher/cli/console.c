/* SPDX-License-Identifier: Apache-2.0
 * Runs: CLI (the user). postern console. */
#include "cli.h"
#include "common/cleanup.h"

static int at_console(struct channel *channel, const char *uuid, struct failure *failure)
{
	struct attach_end end;
	json_t *answer = NULL;
	int r = talk_call(channel, uuid, json_pack("{s:s}", "verb", "console"), TALK_MS, &answer, failure);

	json_decref(answer);
	if (r < 0)
		return say_failure(failure);
	if (channel->passed < 0)
		return say_error(EXIT_FAILED, "sandbox %s: its controller sent no console; see postern status", uuid);
	r = attach(channel, fd_take(&channel->passed), false, uuid, &end, failure);
	if (r < 0)
		return say_failure(failure);
	if (!end.ended || end.exit_status == EXIT_OK)
		return EXIT_OK;
	return say_error((enum postern_exit)end.exit_status, "sandbox %s: %s%s%.8s", uuid, end.reason,
			 end.kept ? "; see postern logs " : "", end.kept ? uuid : "");
}

int command_console(const struct command *self, int argc, char **argv)
{
	struct channel channel = { .fd = -1, .passed = -1 };
	const struct home_entry *entry;
	struct failure failure;
	struct found found;
	size_t words;
	int r = options_parse(self, NULL, 0, NULL, argc, argv, &words);

	if (r < 0 && words != 1)
		r = say_error(EXIT_USAGE, "console: it takes one id; see postern ps");
	if (r < 0 && find_all(&found, &failure) < 0)
		r = say_failure(&failure);
	if (r >= 0)
		return r;
	entry = find_one(&found, argv[0], false, &failure);
	if (entry == NULL || talk_open(&found, entry, &channel, &failure) < 0)
		r = say_failure(&failure);
	else
		r = at_console(&channel, entry->state.uuid, &failure);
	channel_close(&channel);
	find_done(&found);
	return r;
}
