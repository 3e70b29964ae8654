/* SPDX-License-Identifier: Apache-2.0
 * Runs: controller (the user). Ending a sandbox in stages, and saying how it ended. */
#include "server.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>

#include "common/cleanup.h"

#define STOP_ASK_MS 1000 /* for the VMM to take a command; it may be hostile and never answer */
#define STOP_QUIT_MS 5000
#define STOP_TERM_MS 2000 /* between SIGTERM and SIGKILL */
#define STOP_KILL_MS 5000

#define STOP_TEXT(NAME, text) text,
static const char *const texts[] = { STOP_STAGES(STOP_TEXT) };

const char *stop_text(enum stop_stage stage)
{
	return (size_t)stage < ARRAY_SIZE(texts) ? texts[stage] : "?";
}

/* Tell everybody who waits for the end. */
static void announce(struct server *server, const char *error)
{
	logfile_note(&server->vmm_log, "%s%s%s", stop_text(server->stop), error[0] != '\0' ? ": " : "", error);
	for (size_t i = 0; i < SERVER_CLIENTS_MAX; i++)
		if (server->clients[i].used && server->clients[i].wants_end)
			client_send(&server->clients[i],
				    json_pack("{s:s s:i s:s s:s}", "event", "stage", "stage", (int)server->stop, "text",
					      stop_text(server->stop), "error", error),
				    -1);
}

/* Do what a stage is. 0: it may take until the deadline; -errno: try the next at once. */
static int act(struct server *server, uint32_t timeout_ms)
{
	struct guest *guest = server->guest;
	struct failure failure = { 0 };
	int64_t wait = 0;
	int r = 0;

	switch (server->stop) {
	case STOP_NONE:
	case STOP_LOST:
		return 0;
	case STOP_POWERDOWN:
		wait = timeout_ms;
		r = guest->vm == NULL || server->vmm_gone ? -EPIPE
		    : timeout_ms == 0                     ? -ETIMEDOUT
							  : guest->driver->powerdown(guest->vm, STOP_ASK_MS);
		break;
	case STOP_QUIT:
		wait = STOP_QUIT_MS;
		r = guest->vm == NULL || server->vmm_gone ? -EPIPE : guest->driver->quit(guest->vm, STOP_ASK_MS);
		break;
	case STOP_TERM:
		wait = (int64_t)STOP_TERM_MS * 2;
		server->forced = true;
		r = guest_stop(guest, STOP_TERM_MS);
		break;
	case STOP_KILL:
		wait = STOP_KILL_MS;
		server->forced = true;
		r = guest_kill(guest, &failure);
		/* Without a broker: a sandbox that may not outlive us dies of the hang-up. */
		fd_close(&guest->init);
		break;
	}
	server->stop_deadline = server_now() + wait;
	announce(server, failure.text[0] != '\0' ? failure.text : r < 0 ? strerror(-r) : "");
	/* The kill was the last thing to try: give it its time even when the broker is away. */
	return server->stop == STOP_KILL ? 0 : r;
}

void stop_begin(struct server *server, enum stop_stage stage, uint32_t timeout_ms)
{
	/* A stop that comes when it is ending already changes nothing about why it ended. */
	server->by_user = server->by_user || server->stop == STOP_NONE || stage == STOP_KILL;
	/* Never back: a second, harsher request goes on from there, a second mild one changes nothing. */
	if (stage <= server->stop)
		return;
	server_set_status(server, STATE_STOPPING);
	server->stop = stage;
	while (act(server, timeout_ms) < 0)
		server->stop++;
}

void stop_tick(struct server *server)
{
	if (server->stop == STOP_NONE || server->stop == STOP_LOST || server_now() < server->stop_deadline)
		return;
	server->stop++;
	if (server->stop == STOP_LOST)
		announce(server, "");
	while (act(server, 0) < 0)
		server->stop++;
}

/* ---- the verdict ----------------------------------------------------------------------------------------------- */

static bool verdict(struct state *state, enum postern_exit exit_status, bool keep, const char *text, const char *more)
{
	state->exit_status = exit_status;
	(void)snprintf(state->reason, sizeof(state->reason), "%.90s%.160s", text, more);
	for (char *c = state->reason; *c != '\0'; c++)
		if (*c < 0x20 || *c > 0x7e)
			*c = '?'; /* the VMM's words: no control characters in somebody's terminal or JSON */
	return keep;
}

/* Whether our signals can have ended it. One that died of something else had died before they came. */
static bool by_force(const struct server *server)
{
	int status = (int)server->vmm_status;

	return !server->exited || status == 0 ||
	       (WIFSIGNALED(status) && (WTERMSIG(status) == SIGTERM || WTERMSIG(status) == SIGKILL));
}

bool stop_judge(struct server *server)
{
	struct state *state = server->state;
	const struct guest *guest = server->guest;
	enum driver_state last = guest->vm != NULL ? guest->driver->state(guest->vm) : DRIVER_GONE;
	char text[128];

	state->status = STATE_ENDED;
	state->ended = (int64_t)time(NULL);
	if (server->stop == STOP_LOST)
		return verdict(state, EXIT_FAILED, true, "it could not be killed", "");
	if (server->oom != WIRE_OOM_NONE) {
		guest_oom_text(guest, server->oom, text, sizeof(text));
		return verdict(state, EXIT_MEMORY, true, "", text);
	}
	if (last == DRIVER_CRASHED)
		return verdict(state, EXIT_GUEST, true, "the guest crashed", "");
	if (server->by_user && server->forced && by_force(server))
		return verdict(state, EXIT_GUEST, false, "killed", "");
	/* Asked to power off or to quit, a VMM exits with 0: another status is a failure of its own. */
	if (server->by_user && (!server->exited || server->vmm_status == 0))
		return verdict(state, EXIT_OK, false,
			       server->stop == STOP_QUIT ? "stopped: the VMM was told to quit" : "stopped", "");
	if (!server->exited)
		return verdict(state, EXIT_GUEST, true, "the sandbox was killed", server->said);
	if (WIFSIGNALED(server->vmm_status)) {
		(void)snprintf(text, sizeof(text), "the VMM was killed by signal %d (%s)", WTERMSIG(server->vmm_status),
			       strsignal(WTERMSIG(server->vmm_status))); /* NOLINT(concurrency-mt-unsafe) */
		return verdict(state, EXIT_GUEST, true, text, server->said);
	}
	if (WEXITSTATUS(server->vmm_status) != 0) {
		(void)snprintf(text, sizeof(text), "the VMM exited with status %d", WEXITSTATUS(server->vmm_status));
		return verdict(state, EXIT_GUEST, true, text, server->said);
	}
	return verdict(state, EXIT_OK, false, last == DRIVER_SHUTDOWN ? "the guest powered off" : "the VMM exited", "");
}
