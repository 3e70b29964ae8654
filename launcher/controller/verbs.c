/* SPDX-License-Identifier: Apache-2.0
 * Runs: controller (the user). What the API can be asked. One row a verb; a request is {"verb": ..., ...}, an answer has
 * "ok" and, when it is false, "error" and "exit". */
#include "server.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "verbs.h"

#define VERB_DRIVER_MS 2000 /* for the VMM to take pause or resume */

static void refuse(struct client *client, enum postern_exit exit_status, const char *text)
{
	client_send(client, json_pack("{s:b s:s s:i}", "ok", 0, "error", text, "exit", (int)exit_status), -1);
}

static void verb_status(struct server *server, struct client *client, const json_t *request)
{
	(void)request;
	client_send(client,
		    json_pack("{s:b s:o s:o s:s}", "ok", 1, "state", state_to_json(server->state), "spec",
			      spec_to_json(server->guest->spec), "stage", stop_text(server->stop)),
		    -1);
}

static void verb_stop(struct server *server, struct client *client, const json_t *request)
{
	const json_t *timeout = json_object_get(request, "timeout_ms");
	json_int_t ms = timeout != NULL ? json_integer_value(timeout) : (json_int_t)server->guest->spec->stop_ms;

	if ((timeout != NULL && !json_is_integer(timeout)) || ms < 0 || ms > VERB_STOP_MAX_MS) {
		refuse(client, EXIT_USAGE, "timeout_ms: not a number from 0 to 600000");
		return;
	}
	client->wants_end = true;
	stop_begin(server, STOP_POWERDOWN, (uint32_t)ms);
}

static void verb_kill(struct server *server, struct client *client, const json_t *request)
{
	(void)request;
	client->wants_end = true;
	stop_begin(server, STOP_KILL, 0);
}

static void verb_receipt(struct server *server, struct client *client, const json_t *request)
{
	(void)request;
	client_send(client, json_pack("{s:b s:o}", "ok", 1, "receipt", receipt_to_json(server->guest->receipt)), -1);
}

/* The answer comes when init has read the facts: verbs_audited(). */
static void verb_audit(struct server *server, struct client *client, const json_t *request)
{
	static const struct wire_empty nothing;
	int r = server->guest->init < 0 ? -ENOTCONN : 0;

	(void)request;
	if (r == 0)
		r = wire_send(server->guest->init, WIRE_OP_C_AUDIT, WIRE_REQUEST, 0, &nothing, NULL, 0);
	if (r < 0)
		refuse(client, EXIT_FAILED, "audit: the sandbox is ending");
	else
		client->wants_audit = true;
}

static void verb_logs(struct server *server, struct client *client, const json_t *request)
{
	const char *which = json_string_value(json_object_get(request, "which"));
	bool console = which != NULL && strcmp(which, "console") == 0;
	cleanup_fd int fd = -1;

	if (json_object_get(request, "which") != NULL && !console && (which == NULL || strcmp(which, "vmm") != 0)) {
		refuse(client, EXIT_USAGE, "which: neither \"vmm\" nor \"console\"");
		return;
	}
	fd = openat(server->home->dir, console ? HOME_CONSOLE_LOG : HOME_VMM_LOG, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0)
		refuse(client, EXIT_FAILED, "logs: the file is gone");
	else
		client_send(client, json_pack("{s:b}", "ok", 1), fd);
}

static void verb_console(struct server *server, struct client *client, const json_t *request)
{
	cleanup_fd int fd = -1;

	(void)request;
	if (server->guest->spec->console == SPEC_CONSOLE_NONE) {
		refuse(client, EXIT_USAGE, "console: this sandbox was started with --console none");
		return;
	}
	fd = console_view(server);
	if (fd < 0)
		refuse(client, EXIT_FAILED,
		       fd == -EBUSY ? "console: too many are looking on; end one" : "console: it is closed");
	else {
		client->wants_end = true;
		client_send(client, json_pack("{s:b}", "ok", 1), fd);
	}
}

static void pause_or_resume(struct server *server, struct client *client, bool pause)
{
	struct guest *guest = server->guest;
	int r = -EPIPE;

	if (server->stop != STOP_NONE) {
		refuse(client, EXIT_FAILED, "the sandbox is stopping");
		return;
	}
	if (guest->vm != NULL && !server->vmm_gone)
		r = pause ? guest->driver->pause(guest->vm, VERB_DRIVER_MS)
			  : guest->driver->resume(guest->vm, VERB_DRIVER_MS);
	if (r < 0) {
		refuse(client, EXIT_FAILED, guest->vm != NULL ? guest->driver->trouble(guest->vm) : "the VMM is gone");
		return;
	}
	server_set_status(server, pause ? STATE_PAUSED : STATE_RUNNING);
	client_send(client, json_pack("{s:b}", "ok", 1), -1);
}

static void verb_pause(struct server *server, struct client *client, const json_t *request)
{
	(void)request;
	pause_or_resume(server, client, true);
}

static void verb_resume(struct server *server, struct client *client, const json_t *request)
{
	(void)request;
	pause_or_resume(server, client, false);
}

static void verb_detach(struct server *server, struct client *client, const json_t *request)
{
	(void)request;
	server->detached = server->detached || client->parent;
	/* The terminal is no longer ours to hold; stdout has been /dev/null from the start. */
	if (client->parent)
		(void)dup2(STDOUT_FILENO, STDERR_FILENO);
	client_send(client, json_pack("{s:b}", "ok", 1), -1);
}

static const struct {
	const char *name;
	void (*serve)(struct server *server, struct client *client, const json_t *request);
} verbs[] = {
	{ "status", verb_status }, { "stop", verb_stop },     { "kill", verb_kill },       { "receipt", verb_receipt },
	{ "audit", verb_audit },   { "logs", verb_logs },     { "console", verb_console }, { "pause", verb_pause },
	{ "resume", verb_resume }, { "detach", verb_detach },
};

static void dispatch(struct server *server, struct client *client, const json_t *request)
{
	const char *name = json_string_value(json_object_get(request, "verb"));

	for (size_t i = 0; i < ARRAY_SIZE(verbs); i++)
		if (name != NULL && strcmp(verbs[i].name, name) == 0) {
			verbs[i].serve(server, client, request);
			return;
		}
	refuse(client, EXIT_USAGE, "no such verb");
}

void verbs_serve(struct server *server, struct client *client)
{
	int r = channel_read(&client->channel);
	json_t *request = NULL;

	if (r == -EAGAIN)
		return;
	/* Nobody has a reason to hand us a descriptor. */
	if (r <= 0 || client->channel.passed >= 0) {
		client_drop(client);
		return;
	}
	client->since = server_now();
	while (client->used && (r = channel_next(&client->channel, &request)) > 0) {
		dispatch(server, client, request);
		json_decref(request);
	}
	if (client->used && r < 0)
		client_drop(client);
}

void verbs_audited(struct server *server, const struct wire_facts *facts)
{
	struct receipt *now = guest_receipt(server->guest, facts);
	json_t *rows = json_array();
	struct receipt_row *diff = calloc(RECEIPT_ROWS_MAX, sizeof(*diff));
	size_t count = now != NULL && diff != NULL ? receipt_diff(server->guest->receipt, now, diff, RECEIPT_ROWS_MAX) : 0;

	for (size_t i = 0; i < count && i < RECEIPT_ROWS_MAX; i++)
		(void)json_array_append_new(rows, json_pack("{s:s s:s s:s}", "field", diff[i].field, "then",
							    diff[i].expected, "now", diff[i].found));
	for (size_t i = 0; i < SERVER_CLIENTS_MAX; i++) {
		struct client *client = &server->clients[i];

		if (!client->used || !client->wants_audit)
			continue;
		client->wants_audit = false;
		if (now == NULL || diff == NULL)
			refuse(client, EXIT_FAILED, "audit: /proc could not be read");
		else
			client_send(client,
				    json_pack("{s:b s:b s:o s:O}", "ok", 1, "good", now->good && count == 0, "receipt",
					      receipt_to_json(now), "diff", rows),
				    -1);
	}
	json_decref(rows);
	free(diff);
	free(now);
}
