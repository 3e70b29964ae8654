/* SPDX-License-Identifier: Apache-2.0
 * Runs: controller (the user). One process for each sandbox: starts it, holds it, ends with it.
 *
 * Started by `postern run` with the spec as JSON on one inherited descriptor and a socket to report to on another. */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <malloc.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>
#include <uuid/uuid.h>

#include "common/cleanup.h"
#include "common/log.h"
#include "confine.h"
#include "guest.h"
#include "home.h"
#include "launcher/net/passt.h"
#include "server.h"

#define MAIN_MMAP_BYTES (16 * 1024)
#define MAIN_SPEC_MAX ((size_t)256 * 1024)
#define MAIN_TIMEOUT_MS 60000
#define MAIN_RESUME_MS 5000

struct arguments {
	int spec, report, timeout_ms;
	bool detach;
	const char *socket;
};

static int parse(int argc, char **argv, struct arguments *ret)
{
	static const struct option options[] = {
		{ "spec-fd", required_argument, NULL, 's' },    { "report-fd", required_argument, NULL, 'r' },
		{ "timeout-ms", required_argument, NULL, 't' }, { "detach", no_argument, NULL, 'd' },
		{ "socket", required_argument, NULL, 'S' },     { 0 },
	};
	int c;

	*ret = (struct arguments){ .spec = -1, .report = -1, .timeout_ms = MAIN_TIMEOUT_MS };
	while ((c = getopt_long(argc, argv, "", options, NULL)) >= 0) { /* NOLINT(concurrency-mt-unsafe) */
		if (c == 's')
			ret->spec = (int)strtol(optarg, NULL, 10);
		else if (c == 'r')
			ret->report = (int)strtol(optarg, NULL, 10);
		else if (c == 't')
			ret->timeout_ms = (int)strtol(optarg, NULL, 10);
		else if (c == 'd')
			ret->detach = true;
		else if (c == 'S')
			ret->socket = optarg;
		else
			return -EINVAL;
	}
	return ret->spec > 2 && ret->report > 2 && optind == argc ? 0 : -EINVAL;
}

/* The spec, from a memfd or a pipe. */
static int read_spec(int fd, struct spec *spec, struct failure *failure)
{
	cleanup_free char *text = malloc(MAIN_SPEC_MAX);
	struct spec_error why = { 0 };
	size_t used = 0;
	ssize_t got = 1;
	int r;

	while (text != NULL && used < MAIN_SPEC_MAX && (got = read(fd, text + used, MAIN_SPEC_MAX - used)) > 0)
		used += (size_t)got;
	(void)close(fd);
	if (text == NULL || got != 0)
		return fail(failure, -EIO, EXIT_USAGE,
			    "read the spec: it is longer than 256 KiB or cannot be read; shorten it");
	r = spec_parse(spec, text, used, &why);
	if (r == 0)
		r = spec_check(spec, &why);
	if (r < 0)
		return fail(failure, r, EXIT_USAGE, "spec %s: %s%s%s", why.where, why.text,
			    why.allowed[0] != '\0' ? "; allowed: " : "", why.allowed);
	return 0;
}

/* ---- reporting ------------------------------------------------------------------------------------------------- */

static struct client *parent_of(struct server *server)
{
	for (size_t i = 0; i < SERVER_CLIENTS_MAX; i++)
		if (server->clients[i].used && server->clients[i].parent)
			return &server->clients[i];
	return NULL;
}

static void report(struct server *server, json_t *event, int passed)
{
	struct client *parent = parent_of(server);

	if (parent != NULL)
		client_send(parent, event, passed);
	else
		json_decref(event);
}

static void watch_step(void *context, const char *text)
{
	report(context, json_pack("{s:s s:s s:s}", "event", "step", "text", text, "uuid",
				  ((struct server *)context)->state->uuid),
	       -1);
}

static void watch_log(void *context, const char *bytes, size_t len)
{
	struct server *server = context;

	logfile_vmm(&server->vmm_log, bytes, len);
}

/* kept: the logs are in dead/, so the one line may name where to look. */
static void report_failure(struct server *server, const struct failure *failure, bool kept)
{
	char text[640];

	(void)snprintf(text, sizeof(text), "%s", failure->text);
	if (kept)
		(void)snprintf(text, sizeof(text), "%s%s postern logs %.8s", failure->text,
			       strchr(failure->text, ';') != NULL ? ", or see" : "; see", server->state->uuid);
	report(server,
	       json_pack("{s:s s:i s:s s:s}", "event", "failed", "exit", (int)failure->exit_status, "text", text, "uuid",
			 server->state->uuid),
	       -1);
}

/* ---- stages ---------------------------------------------------------------------------------------------------- */

/* What ps shows, from what was granted. */
static void describe(struct state *state, const struct guest *guest)
{
	const struct wire_lease *lease = &guest->lease;
	size_t at = 0;

	if (guest->pidfd < 0)
		return; /* it never came to a lease */
	state->init_pid = (pid_t)lease->init_pid;
	state->uid = lease->uid;
	state->gid = lease->gid;
	state->vcpus = lease->vcpus;
	state->memory_mib = lease->memory_mib;
	state->cid = lease->cid;
	state->survive = (lease->flags & WIRE_SURVIVE) != 0;
	state->direct = (lease->flags & WIRE_DIRECT) != 0;
	if (guest->receipt != NULL) {
		state->vmm_pid = guest->receipt->vmm.seen ? guest->receipt->vmm.pid : 0;
		(void)snprintf(state->accel, sizeof(state->accel), "%s", guest->receipt->accel);
	}
	for (size_t i = 0; i < guest->spec->nic_count; i++) {
		const struct spec_nic *nic = &guest->spec->nics[i];
		int n = snprintf(state->networks + at, sizeof(state->networks) - at, "%s%s", i > 0 ? "," : "",
				 nic->kind == SPEC_NET_PASST ? "passt" : nic->network);

		if (n < 0 || (size_t)n >= sizeof(state->networks) - at)
			break;
		at += (size_t)n;
	}
}

static int keep_receipt(const struct server *server)
{
	json_t *json = receipt_to_json(server->guest->receipt);
	cleanup_free char *text = json != NULL ? json_dumps(json, JSON_INDENT(1)) : NULL;

	json_decref(json);
	return text == NULL ? -ENOMEM : home_write(server->home->dir, HOME_RECEIPT, text, strlen(text));
}

/* Enter the state directory and hold the VMM. */
static int start(struct server *server, const struct arguments *arguments, int base, struct failure *failure)
{
	const struct launch_watch watch = { watch_step, watch_log, server };
	struct state *state = server->state;
	struct guest *guest = server->guest;
	uuid_t uuid;
	int r;

	uuid_generate_random(uuid);
	uuid_unparse_lower(uuid, state->uuid);
	(void)snprintf(state->name, sizeof(state->name), "%s", guest->spec->name != NULL ? guest->spec->name : "");
	(void)snprintf(state->hypervisor, sizeof(state->hypervisor), "%s", guest->spec->hypervisor);
	state->status = STATE_STARTING;
	state->controller_pid = getpid();
	state->survive = guest->spec->survive;
	state->vcpus = guest->spec->vcpus;
	state->memory_mib = guest->spec->memory_mib;
	state->started = (int64_t)time(NULL);
	r = home_enter(base, state, server->home, failure);
	if (r < 0)
		return r;
	r = logfile_open(&server->vmm_log, server->home->dir, HOME_VMM_LOG);
	if (r == 0)
		r = logfile_open(&server->console_log, server->home->dir, HOME_CONSOLE_LOG);
	if (r < 0)
		return fail(failure, r, EXIT_FAILED, "make the logs of %s: %s; is the disk full?", state->uuid,
			    strerror(-r));
	r = guest_launch(guest, uuid, arguments->timeout_ms, &watch, failure);
	/* Also a bad one: `postern receipt` then shows what the error could not. */
	if (guest->receipt != NULL && keep_receipt(server) < 0 && r == 0)
		r = fail(failure, -EIO, EXIT_FAILED, "write the receipt of %s: %s; is the disk full?", state->uuid,
			 strerror(EIO));
	return r;
}

/* Whether a failed resume only means that the guest was quick: it has run, and has ended since. */
static bool ran_already(const struct guest *guest, int error)
{
	enum driver_state state = guest->driver->state(guest->vm);

	return error == -EPIPE || state == DRIVER_SHUTDOWN || state == DRIVER_CRASHED || state == DRIVER_GONE;
}

static void report_running(struct server *server, int console)
{
	report(server, json_pack("{s:s s:o}", "event", "running", "state", state_to_json(server->state)), console);
}

/* The guest is held and the receipt good: serve, give up our own rights, and only then let it run. 1: a detached guest
 * that has ended already, of which nobody was told yet. */
static int let_run(struct server *server, const struct arguments *arguments, int base, struct failure *failure)
{
	static const struct wire_empty nothing;
	struct guest *guest = server->guest;
	cleanup_fd int console = -1;
	int landlock = 0, r = server_open(server, failure);

	if (r < 0)
		return r;
	describe(server->state, guest);
	r = confine_last(base, passt_pid(guest->passt), &landlock);
	if (r < 0)
		return fail(failure, r, EXIT_HOST, "confine the controller: %s; the guest was not started", strerror(-r));
	if (landlock == 0)
		logfile_note(&server->vmm_log, "this kernel has no Landlock: the controller is confined without it");
	/* Made before the first guest instruction, so that a foreground run shows the first byte too. */
	if (!arguments->detach && guest->spec->console != SPEC_CONSOLE_NONE)
		console = console_view(server);
	/* From here on it may outlive us: it is checked, and state.json names it. */
	if (guest->spec->survive)
		r = wire_send(guest->init, WIRE_OP_C_KEEP, WIRE_REQUEST, 0, &nothing, NULL, 0);
	if (r < 0 && r != -EPIPE) /* -EPIPE: the VMM died; resume says how */
		return fail(failure, r, EXIT_LAUNCH, "let the sandbox survive: %s; the guest was not started", strerror(-r));
	r = guest->driver->resume(guest->vm, MAIN_RESUME_MS);
	if (r < 0 && !ran_already(guest, r))
		return fail(failure, r, EXIT_LAUNCH, "let the guest run: %s", guest->driver->trouble(guest->vm));
	server->detached = arguments->detach;
	server_set_status(server, STATE_RUNNING);
	if (r < 0)
		server_over(server, r == -EPIPE);
	if (r < 0 && arguments->detach)
		return 1;
	report_running(server, console);
	return 0;
}

static int run(struct server *server, const struct arguments *arguments, int base)
{
	struct failure failure = { .exit_status = EXIT_FAILED };
	struct state *state = server->state;
	bool keep, vmm;
	int r = read_spec(arguments->spec, server->guest->spec, &failure);

	if (r == 0)
		r = start(server, arguments, base, &failure);
	if (r == 0)
		r = let_run(server, arguments, base, &failure);
	vmm = server->guest->phase.phase == PHASE_READY; /* there was one, so there may be something to read */
	if (r >= 0) {
		(void)malloc_trim(0); /* what the launch needed: there may be a thousand of us */
		keep = server_run(server);
		/* A VMM that fails at its first instruction is a failed launch to whoever does not look on. */
		if (r == 1 && state->exit_status != EXIT_OK)
			r = fail(&failure, -EPIPE, (enum postern_exit)state->exit_status, "start guest: %s", state->reason);
	} else {
		describe(state, server->guest);
		keep = vmm && server->home->dir >= 0;
		state->status = STATE_ENDED;
		state->ended = (int64_t)time(NULL);
		state->exit_status = (int)failure.exit_status;
		(void)snprintf(state->reason, sizeof(state->reason), "%.255s", failure.text);
		failure_clean(state->reason); /* it may have been cut inside a character */
		if (keep)
			(void)state_save(state, server->home->dir);
	}
	guest_done(server->guest);
	/* First leave, then tell: whoever hears of the end finds nothing left. */
	if (server->home->dir >= 0)
		home_leave(server->home, keep);
	if (r == 1)
		report_running(server, -1);
	if (r < 0)
		report_failure(server, &failure, keep);
	else
		for (size_t i = 0; i < SERVER_CLIENTS_MAX; i++)
			if (server->clients[i].used && server->clients[i].wants_end)
				client_send(&server->clients[i],
					    json_pack("{s:b s:s s:i s:s s:b s:s}", "ok", state->exit_status != EXIT_FAILED,
						      "event", "ended", "exit", state->exit_status, "reason", state->reason,
						      "kept", keep, "uuid", state->uuid),
					    -1);
	server_close(server);
	logfile_close(&server->console_log);
	logfile_close(&server->vmm_log);
	return r < 0 ? (int)failure.exit_status : state->exit_status;
}

int main(int argc, char **argv)
{
	static struct guest guest;
	static struct home home = { .base = -1, .dir = -1, .lock = -1 };
	static struct state state;
	static struct server server = { .guest = &guest,
					.home = &home,
					.state = &state,
					.signals = -1,
					.listen = -1,
					.console_log = { .fd = -1 },
					.vmm_log = { .fd = -1 } };
	struct failure failure = { .exit_status = EXIT_FAILED };
	struct arguments arguments;
	cleanup_fd int base = -1;
	int r;

	/* Plans, receipts and messages are 30 to 50 KB, mostly zeros: mapped one by one, pages that nobody touches cost
	 * nothing, and those of the launch go back when it is over. That they do not fit into the heap's reserve, which
	 * malloc tries first (and calloc would clear), is the second line's affair. */
	(void)mallopt(M_MMAP_THRESHOLD, MAIN_MMAP_BYTES);
	(void)mallopt(M_TOP_PAD, MAIN_MMAP_BYTES / 2);
	log_init("postern-controller", LOG_LEVEL_WARN);
	if (confine_first() < 0 || parse(argc, argv, &arguments) < 0) {
		log_error("this program is started by `postern run`; it is of no use by itself");
		return EXIT_USAGE;
	}
	(void)signal(SIGPIPE, SIG_IGN);
	guest_init(&guest);
	guest.socket = arguments.socket;
	guest.spec = spec_new();
	(void)server_adopt(&server, arguments.report, true);
	r = guest.spec == NULL ? fail(&failure, -ENOMEM, EXIT_FAILED, "start: out of memory; stop something")
			       : home_base(true, &base, &failure);
	if (r < 0) {
		report_failure(&server, &failure, false);
		return (int)failure.exit_status;
	}
	return run(&server, &arguments, base);
}
