/* SPDX-License-Identifier: Apache-2.0
 * Runs: CLI (the user). postern pause and postern resume. */
#include "cli.h"
#include "common/cleanup.h"

static int one_word(const struct command *self, int argc, char **argv)
{
	struct failure failure;
	json_t *answer = NULL;
	size_t words;
	int r = options_parse(self, NULL, 0, NULL, argc, argv, &words);

	if (r < 0 && words != 1)
		r = say_error(EXIT_USAGE, "%s: it takes one id; see postern ps", self->name);
	if (r >= 0)
		return r;
	r = talk_to(argv[0], json_pack("{s:s}", "verb", self->name), TALK_MS, &answer, &failure);
	json_decref(answer);
	return r < 0 ? say_failure(&failure) : EXIT_OK;
}

int command_pause(const struct command *self, int argc, char **argv)
{
	return one_word(self, argc, argv);
}

int command_resume(const struct command *self, int argc, char **argv)
{
	return one_word(self, argc, argv);
}
