/* SPDX-License-Identifier: Apache-2.0
 * Runs: CLI (the user). postern receipt and postern audit. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cli.h"
#include "common/cleanup.h"
#include "launcher/sandbox/receipt.h"

#define RECEIPT_FILE_MAX ((size_t)1024 * 1024)

/* Print a receipt from its JSON; steals json. */
static int show(json_t *json, bool as_json)
{
	struct receipt *receipt;
	int shown = 0, r;

	if (as_json)
		return say_json(json);
	receipt = calloc(1, sizeof(*receipt));
	r = receipt == NULL ? -ENOMEM : receipt_from_json(json, receipt);
	json_decref(json);
	if (r == 0)
		shown = receipt_print(receipt, STDOUT_FILENO, say_colour(STDOUT_FILENO));
	free(receipt);
	if (shown == -EPIPE)
		return EXIT_FAILED; /* whoever reads has seen enough */
	if (shown < 0)
		return say_error(EXIT_FAILED, "standard output: cannot be written (%s); is the disk full?",
				 strerror(-shown));
	if (r < 0)
		return say_error(EXIT_FAILED, "receipt: it cannot be read (%s); was it written by another version?",
				 strerror(-r));
	return r;
}

/* From the file, so that it can be read when the sandbox has failed or lost its controller. */
static json_t *stored(const struct found *found, const struct home_entry *entry, struct failure *failure)
{
	cleanup_fd int dir = home_open(found->base, entry->state.uuid, entry->dead);
	cleanup_free char *text = NULL;
	int r = dir < 0 ? dir : home_read(dir, HOME_RECEIPT, RECEIPT_FILE_MAX, &text);
	json_t *json = r == 0 ? json_loads(text, JSON_REJECT_DUPLICATES, NULL) : NULL;

	if (json == NULL)
		(void)fail(failure, r, EXIT_NOT_FOUND, "receipt of %s: %s; see postern logs %.8s", entry->state.uuid,
			   r == -ENOENT ? "there is none, the launch did not come so far" : "it cannot be read",
			   entry->state.uuid);
	return json;
}

int command_receipt(const struct command *self, int argc, char **argv)
{
	const struct home_entry *entry;
	struct failure failure;
	struct found found;
	bool json = false;
	const struct option_row rows[] = { { "json", NULL, "print JSON (docs/receipt.schema.json)", OPTION_FLAG, &json } };
	json_t *receipt;
	size_t words;
	int r = options_parse(self, rows, ARRAY_SIZE(rows), NULL, argc, argv, &words);

	if (r < 0 && words != 1)
		r = say_error(EXIT_USAGE, "receipt: it takes one id; see postern ps");
	if (r < 0 && find_all(&found, &failure) < 0)
		r = say_failure(&failure);
	if (r >= 0)
		return r;
	entry = find_one(&found, argv[0], true, &failure);
	receipt = entry != NULL ? stored(&found, entry, &failure) : NULL;
	r = receipt != NULL ? show(receipt, json) : say_failure(&failure);
	find_done(&found);
	return r;
}

/* ---- audit ------------------------------------------------------------------------------------------------------- */

static const char *text_of(const json_t *row, const char *key)
{
	const char *text = json_string_value(json_object_get(row, key));

	return text != NULL ? text : "?";
}

static void print_diff(const json_t *diff)
{
	const json_t *row;
	size_t i;

	if (json_array_size(diff) == 0)
		return;
	(void)printf("\nchanged since the launch:\n");
	json_array_foreach(diff, i, row)(void)
		printf("  %-32s  %s -> %s\n", text_of(row, "field"), text_of(row, "then"), text_of(row, "now"));
	(void)fflush(stdout);
}

int command_audit(const struct command *self, int argc, char **argv)
{
	struct failure failure;
	bool json = false, good;
	const struct option_row rows[] = { { "json", NULL, "print JSON: good, receipt, diff", OPTION_FLAG, &json } };
	json_t *answer = NULL;
	size_t words;
	int r = options_parse(self, rows, ARRAY_SIZE(rows), NULL, argc, argv, &words);

	if (r < 0 && words != 1)
		r = say_error(EXIT_USAGE, "audit: it takes one id; see postern ps");
	if (r >= 0)
		return r;
	if (talk_to(argv[0], json_pack("{s:s}", "verb", "audit"), TALK_MS, &answer, &failure) < 0)
		return say_failure(&failure);
	good = json_is_true(json_object_get(answer, "good"));
	if (json) {
		(void)json_object_del(answer, "ok");
		r = say_json(json_incref(answer));
	} else {
		r = show(json_incref(json_object_get(answer, "receipt")), false);
		print_diff(json_object_get(answer, "diff"));
	}
	json_decref(answer);
	if (r == EXIT_OK && !good)
		r = say_error(EXIT_RECEIPT,
			      "audit of %s: it is not as it was at the launch; postern kill it if you cannot explain this",
			      argv[0]);
	return r;
}
