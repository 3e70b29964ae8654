/* SPDX-License-Identifier: Apache-2.0
 * Runs: CLI (the user). postern help. */
#include <stdio.h>
#include <string.h>

#include "cli.h"
#include "common/cleanup.h"

int command_help(const struct command *self, int argc, char **argv)
{
	size_t count, words;
	const struct command *all = command_all(&count);
	int r = options_parse(self, NULL, 0, NULL, argc, argv, &words);

	if (r >= 0)
		return r;
	for (size_t i = 0; i < count && words > 0; i++)
		if (strcmp(all[i].name, argv[0]) == 0) {
			char option[] = "--help", *arguments[] = { argv[0], option, NULL };

			return all[i].run(&all[i], 2, arguments);
		}
	if (words > 0)
		return say_error(EXIT_USAGE, "command %s: there is none of that name; see postern help", argv[0]);
	(void)printf(
		"usage: postern COMMAND [arguments] [options]\n"
		"Virtual machines in rooms without a door: nothing that touches a guest has any privilege.\n\ncommands:\n");
	for (size_t i = 0; i < count; i++)
		(void)printf("  %-8s %-18s %s\n", all[i].name, all[i].arguments, all[i].meaning);
	(void)printf("\nAn ID is a uuid, at least %d characters of its beginning, or a name.\n"
		     "Options of a command: postern COMMAND --help. Everything else: man 1 postern.\n",
		     FIND_PREFIX);
	return say_end();
}
