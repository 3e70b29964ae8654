/* SPDX-License-Identifier: Apache-2.0
 * Runs: CLI (the user). postern stop and postern kill: end sandboxes and wait until they have ended. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <uuid/uuid.h>

#include "cli.h"
#include "common/cleanup.h"
#include "launcher/sandbox/broker_client.h"

#define STOP_MORE_MS 25000 /* for the stages behind the graceful one, all together */

struct stopping {
	const struct home_entry *entry;
	struct channel channel;
	int error; /* of the connection */
	struct failure failure;
};

int end_by_broker(const char *uuid, struct failure *failure)
{
	struct broker_failure why = { 0 };
	struct broker *broker = NULL;
	uuid_t raw;
	int r = broker_connect(options_socket(), &broker, &why);

	if (r == 0 && uuid_parse(uuid, raw) == 0)
		r = broker_kill(broker, raw, &why);
	broker_close(broker);
	if (r < 0 && why.code == WIRE_ERR_NOT_FOUND)
		return 0; /* it has ended meanwhile: that is what was asked for */
	return r == 0 ? 0 : fail(failure, r, why.exit_status, "%s", why.text);
}

/* Wait for one controller to say that its sandbox has ended. */
static int wait_end(struct stopping *one, int timeout_ms, struct failure *failure)
{
	bool tty = isatty(STDERR_FILENO) == 1;

	for (;;) {
		json_t *line = NULL;
		int r = talk_next(&one->channel, timeout_ms, &line, failure);
		const char *event, *text;

		if (r < 0)
			return r;
		event = json_string_value(json_object_get(line, "event"));
		text = json_string_value(json_object_get(line, "text"));
		if (event != NULL && strcmp(event, "stage") == 0 && tty && text != NULL)
			(void)fprintf(stderr, "postern: %.8s: %s\n", one->entry->state.uuid, text);
		if (event != NULL && strcmp(event, "ended") == 0)
			r = json_is_true(json_object_get(line, "ok")) ? 1 : -EIO;
		else if (event == NULL && json_is_false(json_object_get(line, "ok")))
			r = -EREMOTEIO;
		text = json_string_value(json_object_get(line, r == -EREMOTEIO ? "error" : "reason"));
		if (r < 0)
			(void)fail(failure, r, EXIT_FAILED, "sandbox %s: %s", one->entry->state.uuid,
				   text != NULL ? text : "?");
		json_decref(line);
		if (r != 0)
			return r > 0 ? 0 : r;
	}
}

/* Ask all first, then wait for each: they end side by side. harsh: by the broker what its controller does not end. Never
 * without: whoever asks for an orderly end must not get another one unasked. */
static int end_all(struct stopping *all, size_t count, const struct found *found, json_t *request, int timeout_ms,
		   bool harsh)
{
	struct failure failure;
	struct found after;
	bool orphans = false;
	int status = EXIT_OK;

	for (size_t i = 0; i < count; i++) {
		all[i].channel = (struct channel){ .fd = -1, .passed = -1 };
		all[i].error = talk_open(found, all[i].entry, &all[i].channel, &all[i].failure);
		/* A refusal is waiting to be read even when we could not ask. */
		if (all[i].error == 0)
			(void)talk_ask(&all[i].channel, json_incref(request), &failure);
	}
	for (size_t i = 0; i < count; i++) {
		int r = all[i].error;

		failure = all[i].failure;
		if (r == 0)
			r = wait_end(&all[i], timeout_ms, &failure);
		if (r < 0 && r != -EIO && harsh)
			r = end_by_broker(all[i].entry->state.uuid, &failure);
		else if (r == -EPIPE || r == -ETIMEDOUT)
			(void)fail(&failure, r, failure.exit_status,
				   "sandbox %s: its controller %s; postern kill %.8s ends it", all[i].entry->state.uuid,
				   r == -EPIPE ? "hung up before it had ended" : "did not end it in time",
				   all[i].entry->state.uuid);
		if (r < 0)
			status = say_failure(&failure);
		else
			(void)find_wait_gone(all[i].entry->state.uuid);
		channel_close(&all[i].channel);
		orphans = orphans || !all[i].entry->running;
	}
	json_decref(request);
	/* Nobody else cleans up behind those without a controller. */
	if (orphans && find_all(&after, &failure) == 0)
		find_done(&after);
	return status;
}

/* What the words mean, each sandbox once. -1, or the exit status. */
static int choose(const struct found *found, char **words, size_t word_count, bool every, struct stopping *all,
		  size_t *ret_count)
{
	struct failure failure;
	size_t count = 0;

	if (every)
		for (size_t i = 0; i < found->list.count; i++)
			if (!found->list.items[i].dead)
				all[count++].entry = &found->list.items[i];
	for (size_t i = 0; i < word_count; i++) {
		const struct home_entry *entry = find_one(found, words[i], false, &failure);
		bool again = false;

		if (entry == NULL)
			return say_failure(&failure);
		for (size_t k = 0; k < count; k++)
			again = again || all[k].entry == entry;
		if (!again)
			all[count++].entry = entry;
	}
	*ret_count = count;
	return -1;
}

static int end_chosen(const char *verb, char **words, size_t word_count, bool every, json_t *request, int timeout_ms)
{
	struct failure failure;
	struct found found;
	struct stopping *all;
	size_t count = 0;
	int r;

	if (every ? word_count > 0 : word_count == 0) {
		json_decref(request);
		return say_error(EXIT_USAGE, "%s: it takes ids%s; see postern ps", verb,
				 every                       ? " or --all, not both"
				 : strcmp(verb, "kill") == 0 ? " or --all"
							     : "");
	}
	if (find_all(&found, &failure) < 0) {
		json_decref(request);
		return say_failure(&failure);
	}
	all = calloc(found.list.count + word_count + 1, sizeof(*all));
	r = all == NULL ? say_error(EXIT_FAILED, "%s: out of memory; stop something else first", verb)
			: choose(&found, words, word_count, every, all, &count);
	if (r >= 0)
		json_decref(request);
	else
		r = end_all(all, count, &found, request, timeout_ms, strcmp(verb, "kill") == 0);
	free(all);
	find_done(&found);
	return r;
}

int command_stop(const struct command *self, int argc, char **argv)
{
	int timeout_ms = -1;
	const struct option_row rows[] = {
		{ "timeout", "SECONDS", "how long the guest may take to power off (default: stop_timeout of its spec)",
		  OPTION_SECONDS, &timeout_ms },
	};
	size_t words;
	int r = options_parse(self, rows, ARRAY_SIZE(rows), NULL, argc, argv, &words);

	if (r >= 0)
		return r;
	return end_chosen("stop", argv, words, false,
			  timeout_ms >= 0 ? json_pack("{s:s s:i}", "verb", "stop", "timeout_ms", timeout_ms)
					  : json_pack("{s:s}", "verb", "stop"),
			  (timeout_ms >= 0 ? timeout_ms : OPTION_TIMEOUT_MAX * 1000) + STOP_MORE_MS);
}

int command_kill(const struct command *self, int argc, char **argv)
{
	bool every = false;
	const struct option_row rows[] = { { "all", NULL, "all your sandboxes", OPTION_FLAG, &every } };
	size_t words;
	int r = options_parse(self, rows, ARRAY_SIZE(rows), NULL, argc, argv, &words);

	return r >= 0 ? r : end_chosen("kill", argv, words, every, json_pack("{s:s}", "verb", "kill"), TALK_MS);
}
