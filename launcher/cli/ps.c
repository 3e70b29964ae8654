/* SPDX-License-Identifier: Apache-2.0
 * Runs: CLI (the user). postern ps. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "cli.h"
#include "common/cleanup.h"

/* "3 min": the larger of two units is enough to find a sandbox. */
static const char *age(int64_t started, char *text, size_t size)
{
	int64_t s = (int64_t)time(NULL) - started;

	if (started == 0 || s < 0)
		return "-";
	if (s < 60)
		(void)snprintf(text, size, "%" PRId64 " s", s);
	else if (s < 3600)
		(void)snprintf(text, size, "%" PRId64 " min", s / 60);
	else if (s < 172800)
		(void)snprintf(text, size, "%" PRId64 " h", s / 3600);
	else
		(void)snprintf(text, size, "%" PRId64 " d", s / 86400);
	return text;
}

/* "kvm: granted as a node" is "kvm" in a list. */
static void first_word(const char *from, char *to, size_t size)
{
	const char *shown = from[0] != '\0' ? from : "-";

	(void)snprintf(to, size, "%.*s", (int)strcspn(shown, ": "), shown);
}

static void print_row(const struct state *state)
{
	char old[32], accel[16], uid[16] = "-";

	if (state->uid != 0) /* 0: it never got one */
		(void)snprintf(uid, sizeof(uid), "%u", state->uid);
	first_word(state->accel, accel, sizeof(accel));
	(void)printf("%-8.8s  %-15.15s  %-9s  %10s  %-10.10s  %-5s  %5u  %8u  %-12s  %s\n", state->uuid,
		     state->name[0] != '\0' ? state->name : "-", state_status_text(state->status), uid, state->hypervisor,
		     accel, state->vcpus, state->memory_mib, state->networks[0] != '\0' ? state->networks : "-",
		     age(state->started, old, sizeof(old)));
}

int command_ps(const struct command *self, int argc, char **argv)
{
	struct failure failure;
	struct found found;
	bool json = false, all = false;
	const struct option_row rows[] = {
		{ "all", NULL, "also those that failed and left logs", OPTION_FLAG, &all },
		{ "json", NULL, "print JSON", OPTION_FLAG, &json },
	};
	json_t *list = json_array();
	size_t words, shown = 0;
	int r = options_parse(self, rows, ARRAY_SIZE(rows), NULL, argc, argv, &words);

	if (r < 0 && words > 0)
		r = say_error(EXIT_USAGE, "argument %s: ps takes none; see postern ps --help", argv[0]);
	if (r < 0 && find_all(&found, &failure) < 0)
		r = say_failure(&failure);
	if (r >= 0) {
		json_decref(list);
		return r;
	}
	for (size_t i = 0; i < found.list.count; i++) {
		const struct home_entry *entry = &found.list.items[i];

		if (entry->dead && !all)
			continue;
		if (json) {
			(void)json_array_append_new(list, state_to_json(&entry->state));
			continue;
		}
		if (shown++ == 0)
			(void)printf("%-8s  %-15s  %-9s  %10s  %-10s  %-5s  %5s  %8s  %-12s  %s\n", "ID", "NAME", "STATUS",
				     "UID", "HYPERVISOR", "ACCEL", "VCPUS", "MIB", "NETWORKS", "AGE");
		print_row(&entry->state);
	}
	if (json) {
		r = say_json(list);
	} else {
		json_decref(list);
		if (shown == 0 && isatty(STDOUT_FILENO) == 1)
			(void)printf("no sandboxes; start one with: postern run --kernel K --initrd I\n");
		r = say_end();
	}
	/* Said, so that an empty list is not taken for the whole truth. */
	if (!found.broker && !json)
		(void)fprintf(stderr, "postern: %s (so sandboxes without a controller cannot be listed)\n",
			      found.trouble.text);
	find_done(&found);
	return r;
}
