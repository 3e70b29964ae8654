/* SPDX-License-Identifier: Apache-2.0
 * Runs: CLI (the user). postern version. */
#include <stdio.h>

#include "cli.h"
#include "common/cleanup.h"
#include "common/messages.h"
#include "config.h"

int command_version(const struct command *self, int argc, char **argv)
{
	bool json = false;
	const struct option_row rows[] = { { "json", NULL, "print JSON", OPTION_FLAG, &json } };
	size_t words;
	int r = options_parse(self, rows, ARRAY_SIZE(rows), NULL, argc, argv, &words);

	if (r >= 0)
		return r;
	if (json)
		return say_json(json_pack("{s:s s:i}", "version", POSTERN_VERSION, "protocol", (int)WIRE_VERSION));
	(void)printf("postern %s\n", POSTERN_VERSION);
	return say_end();
}
