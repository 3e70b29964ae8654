/* SPDX-License-Identifier: Apache-2.0
 * Runs: controller and CLI (the user). state.json: what `ps` and `status` say about a sandbox without asking anybody. */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#define STATE_VERSION 1
#define STATE_UUID_SIZE 37
#define STATE_FILE_MAX 65536

/* Never stored, given by the CLI: STATE_ORPHANED to what has lost its controller, STATE_ELSEWHERE to a lease of the broker
 * that this state directory does not know: its controller may well live. */
#define STATE_STATUSES(X) \
	X(UNKNOWN, "unknown") \
	X(STARTING, "starting") \
	X(RUNNING, "running") X(PAUSED, "paused") X(STOPPING, "stopping") X(ENDED, "ended") X(ORPHANED, "orphaned") \
		X(ELSEWHERE, "elsewhere")
#define STATE_ENUM(NAME, text) STATE_##NAME,
enum state_status { STATE_STATUSES(STATE_ENUM) };

struct state {
	char uuid[STATE_UUID_SIZE];
	char name[64];
	enum state_status status;
	char hypervisor[32], accel[128], networks[128];
	pid_t controller_pid, init_pid, vmm_pid;
	uint32_t uid, gid, vcpus, memory_mib, cid;
	bool survive;
	bool direct; /* the host's user namespace: direct mode */
	int64_t started, ended; /* seconds since 1970; 0: not yet */
	int exit_status;        /* enum postern_exit, once ended */
	char reason[256];       /* how it ended */
};

const char *state_status_text(enum state_status status);

/* Whether s is a lower-case uuid in its usual form. */
bool state_uuid_ok(const char *s);

struct json_t;                                           /* jansson */
struct json_t *state_to_json(const struct state *state); /* new reference */
/* -EINVAL for another version, missing fields or wrong types. */
int state_from_json(const struct json_t *json, struct state *ret);

/* state.json in dir; 0 or -errno. */
int state_save(const struct state *state, int dir);
int state_load(struct state *ret, int dir);
