/* SPDX-License-Identifier: Apache-2.0
 * Runs: controller (the user). The one object of a running controller, shared by serve.c (loop), verbs.c (API),
 * console.c and stop.c. Single-threaded. */
#pragma once

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "channel.h"
#include "guest.h"
#include "home.h"
#include "logfile.h"
#include "ring.h"
#include "state.h"

#define SERVER_CLIENTS_MAX 16u
#define SERVER_VIEWERS_MAX 8u
#define SERVER_VIEWER_RING ((size_t)64 * 1024) /* output that waits for one slow reader */
#define SERVER_BACKLOG ((size_t)16 * 1024)     /* output that a new reader gets to see */
#define SERVER_INPUT_MAX 4096u                 /* input that waits for the guest to read it */

/* One peer of the API. */
struct client {
	struct channel channel;
	bool used;
	bool parent;    /* the CLI that started us, by an inherited socket */
	bool wants_end; /* hears stages and the end */
	bool wants_audit;
	int64_t since; /* when it last said something; monotonic ms */
};

/* One reader of the console. */
struct viewer {
	int fd;
	struct ring out;
	bool used;
	bool closing; /* its peer has stopped sending; we go on printing to it */
};

/* How far a stop has come. Each stage is tried when the one before did not help. */
#define STOP_STAGES(X) \
	X(NONE, "running") \
	X(POWERDOWN, "asking the guest to power off") \
	X(QUIT, "telling the VMM to quit") X(TERM, "ending the VMM (SIGTERM, then SIGKILL)") \
		X(KILL, "having the broker kill the sandbox") X(LOST, "giving up: it will not die")
#define STOP_ENUM(NAME, text) STOP_##NAME,
enum stop_stage { STOP_STAGES(STOP_ENUM) };

struct server {
	struct guest *guest;
	struct home *home;
	struct state *state;
	int signals, listen;
	bool detached; /* the parent's hang-up means nothing */
	struct logfile console_log, vmm_log;
	struct ring backlog;
	struct ring input;
	struct client clients[SERVER_CLIENTS_MAX];
	struct viewer viewers[SERVER_VIEWERS_MAX];
	struct wire_in *in;
	enum stop_stage stop;
	int64_t stop_deadline; /* of the present stage; monotonic ms */
	bool by_user;          /* somebody asked for the end */
	bool forced;           /* a signal or the broker had to end it */
	bool vmm_gone;         /* its channel broke */
	bool exited;           /* init told the VMM's status */
	uint32_t vmm_status;
	uint8_t oom;    /* WIRE_OOM_*, asked of the broker when nobody else can have ended it */
	char said[160]; /* the VMM's last line */
};

int64_t server_now(void); /* CLOCK_MONOTONIC, ms */

/* serve.c */
int server_open(struct server *server, struct failure *failure);
void server_close(struct server *server);
struct client *server_adopt(struct server *server, int fd, bool parent);
/* Serve until the sandbox is gone. Fills state: status, ended, reason, exit_status. Returns whether logs are worth
 * keeping. */
bool server_run(struct server *server);
void server_set_status(struct server *server, enum state_status status);
/* The VMM should end by itself now; help when it does not. gone: its channel is broken. */
void server_over(struct server *server, bool gone);
void client_drop(struct client *client);
/* Send to one peer; one that does not read is dropped. Steals json. */
void client_send(struct client *client, json_t *json, int passed);

/* verbs.c */
void verbs_serve(struct server *server, struct client *client);
void verbs_audited(struct server *server, const struct wire_facts *facts);

/* console.c */
void console_output(struct server *server); /* the guest printed */
void console_input(struct server *server);  /* the guest may read */
void console_viewer(struct viewer *viewer, struct server *server, short events);
/* A new reader: its end of a socket, to be passed and closed, or -errno. */
int console_view(struct server *server);
void console_flush(struct server *server, int timeout_ms); /* last words to readers, then close */
void console_vmm_log(struct server *server);               /* the VMM printed */

/* stop.c */
void stop_begin(struct server *server, enum stop_stage stage, uint32_t timeout_ms);
void stop_tick(struct server *server);
const char *stop_text(enum stop_stage stage);
/* How it ended, into state. Returns whether logs are worth keeping. */
bool stop_judge(struct server *server);
