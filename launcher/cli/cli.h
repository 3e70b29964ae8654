/* SPDX-License-Identifier: Apache-2.0
 * Runs: CLI (the user). What the commands share: options, finding sandboxes, talking to a controller. */
#pragma once

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>

#include "launcher/controller/channel.h"
#include "launcher/controller/failure.h"
#include "launcher/controller/home.h"
#include "postern/spec.h"

/* ---- commands: one file each, the table is in main.c ------------------------------------------------------------ */
struct command {
	const char *name, *arguments, *meaning;
	int (*run)(const struct command *self, int argc, char **argv); /* returns the exit status */
};

int command_run(const struct command *self, int argc, char **argv);
int command_ps(const struct command *self, int argc, char **argv);
int command_status(const struct command *self, int argc, char **argv);
int command_console(const struct command *self, int argc, char **argv);
int command_stop(const struct command *self, int argc, char **argv);
int command_kill(const struct command *self, int argc, char **argv);
int command_pause(const struct command *self, int argc, char **argv);
int command_resume(const struct command *self, int argc, char **argv);
int command_receipt(const struct command *self, int argc, char **argv);
int command_audit(const struct command *self, int argc, char **argv);
int command_logs(const struct command *self, int argc, char **argv);
int command_check(const struct command *self, int argc, char **argv);
int command_version(const struct command *self, int argc, char **argv);
int command_help(const struct command *self, int argc, char **argv);
const struct command *command_all(size_t *ret_count);

/* ---- options.c -------------------------------------------------------------------------------------------------- */
enum option_kind { OPTION_FLAG, OPTION_TEXT, OPTION_SECONDS };

/* An option of one command. target: bool *, const char ** or int * (ms). */
struct option_row {
	const char *name, *argument, *meaning;
	enum option_kind kind;
	void *target;
};

#define OPTION_TIMEOUT_MAX 600 /* seconds */

/* Parse argv (argv[0] is the command). Words that are no options are moved to its front; their number is *ret_words.
 * spec not NULL: every field of a spec is an option too, and is set in it.
 * Returns -1 to go on, else the exit status to end with: help was printed, or the error. */
int options_parse(const struct command *self, const struct option_row *rows, size_t count, struct spec *spec, int argc,
		  char **argv, size_t *ret_words);

/* --socket, before or behind the command's name; NULL: the default. */
const char *options_socket(void);

/* ---- say.c: every error is one line -------------------------------------------------------------------------------- */

/* Print "postern: " and the text; returns the exit status, so that a command can return it. */
int say_failure(const struct failure *failure);
int say_error(enum postern_exit exit_status, const char *format, ...) __attribute__((format(printf, 2, 3)));
int say_spec_error(const struct spec_error *error);

/* Print JSON and a newline on stdout; steals json. Returns EXIT_OK or EXIT_FAILED. */
int say_json(json_t *json);
bool say_colour(int fd);
/* The last of what was printed: flush it. EXIT_OK, or EXIT_FAILED with a line; a reader that went away gets none. */
int say_end(void);

/* ---- find.c ------------------------------------------------------------------------------------------------------ */

/* Everything of the user's: state directories, and what only the broker knows. */
struct found {
	int base;
	struct home_list list; /* no controller: STATE_ORPHANED; of another directory: STATE_ELSEWHERE */
	bool broker;            /* whether the broker answered */
	struct failure trouble; /* why not */
};

/* Sweep, scan, merge. The caller ends it with find_done(). */
int find_all(struct found *found, struct failure *failure);
void find_done(struct found *found);

/* Wait until the broker has cleaned up behind a sandbox that has ended, so that ps does not show its remains. False: it
 * still knows it. */
bool find_wait_gone(const char *uuid);

/* The one sandbox an id means: uuid, at least FIND_PREFIX characters of one, or a name. dead: those that have ended count
 * too. */
#define FIND_PREFIX 4
const struct home_entry *find_one(const struct found *found, const char *id, bool dead, struct failure *failure);
/* Pure part of it. */
const struct home_entry *find_in(const struct home_list *list, const char *id, bool dead, struct failure *failure);

/* ---- stop.c ------------------------------------------------------------------------------------------------------ */

/* End a sandbox without its controller, at once. 0 also when there is none. */
int end_by_broker(const char *uuid, struct failure *failure);

/* ---- talk.c ------------------------------------------------------------------------------------------------------ */
#define TALK_MS 10000 /* for a controller to answer what it can answer at once */

/* Connect to the controller of a sandbox. */
int talk_open(const struct found *found, const struct home_entry *entry, struct channel *ret, struct failure *failure);
int talk_ask(struct channel *channel, json_t *request, struct failure *failure); /* steals request */
/* Next line from the controller; -ETIMEDOUT, -EPIPE. timeout_ms -1: for ever. */
int talk_next(struct channel *channel, int timeout_ms, json_t **ret, struct failure *failure);
/* Ask, and wait for a line with "ok"; a refusal is a failure. shown: the sandbox, for the error. */
int talk_call(struct channel *channel, const char *shown, json_t *request, int timeout_ms, json_t **ret,
	      struct failure *failure);
/* Find, connect, ask. */
int talk_to(const char *id, json_t *request, int timeout_ms, json_t **ret, struct failure *failure);

/* ---- attach.c ---------------------------------------------------------------------------------------------------- */

/* How a session at a console ended. */
struct attach_end {
	bool detached; /* by the user; the guest goes on */
	bool ended;    /* the guest has */
	bool kept;     /* its logs are */
	int exit_status;
	char uuid[STATE_UUID_SIZE];
	char reason[256];
};

/* Connect stdin and stdout with console (-1: none; taken over) until the guest ends or the user leaves. foreground: the
 * guest belongs to this terminal, and a signal stops it. */
int attach(struct channel *channel, int console, bool foreground, const char *shown, struct attach_end *ret,
	   struct failure *failure);

/* ---- tty.c ------------------------------------------------------------------------------------------------------- */
bool tty_raw(void);     /* stdin; false when it is no terminal */
void tty_restore(void); /* safe at any time, also from atexit() */

/* ---- spawn.c ----------------------------------------------------------------------------------------------------- */

/* Start a controller for spec. Its end of the report is *ret_channel. Its pid, or -errno. */
int spawn_controller(const struct spec *spec, bool detach, int timeout_ms, struct channel *ret_channel,
		     struct failure *failure);
