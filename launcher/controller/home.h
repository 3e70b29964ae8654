/* SPDX-License-Identifier: Apache-2.0
 * Runs: controller and CLI (the user). Where a user's sandboxes keep what they must remember.
 *
 *   <base>/            0700, ours, not a symbolic link
 *     .lock            held (flock) while a sandbox is entered, a stale one cleaned away
 *     <uuid>/          one running sandbox: lock (held by its controller as long as it lives), state.json, receipt.json,
 *                      console.log, vmm.log, api.sock
 *     dead/<uuid>/     the last HOME_DEAD_MAX that failed: state.json, receipt.json and the two logs
 *
 * Everything is 0600 or 0700 whatever the umask. Nothing here is trusted by anybody with privilege. */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "failure.h"
#include "state.h"

#define HOME_DEAD_MAX 20u /* logs of dead sandboxes that are kept */
#define HOME_ENTRIES_MAX 4096u

#define HOME_STATE "state.json"
#define HOME_RECEIPT "receipt.json"
#define HOME_CONSOLE_LOG "console.log"
#define HOME_VMM_LOG "vmm.log"
#define HOME_API "api.sock"

/* The directory of one sandbox, held by its controller. */
struct home {
	int base, dir, lock;
	char uuid[STATE_UUID_SIZE];
};

struct home_entry {
	struct state state;
	bool dead;    /* below dead/ */
	bool running; /* its controller holds the lock */
};

struct home_list {
	struct home_entry *items;
	size_t count;
};

/* Open the base (make: and make it): $XDG_RUNTIME_DIR/postern, /run/user/UID/postern, $HOME/.local/state/postern/run or
 * /tmp/postern-UID, the first whose parent exists and belongs to the caller. Refuses one that is not the caller's, that
 * others may enter, or that is a symbolic link. -ENOENT and no text: there is none, and it was not to be made. */
int home_base(bool make, int *ret_fd, struct failure *failure);

/* Enter a sandbox: directory, lock, first state. -EEXIST and a text when a running one has the name already. */
int home_enter(int base, const struct state *state, struct home *ret, struct failure *failure);

/* Leave: remove the directory. With keep, state and logs move below dead/ and older ones are dropped. */
void home_leave(struct home *home, bool keep);

/* Write a file whole: its readers see the old or the new one. 0 or -errno. */
int home_write(int dir, const char *name, const char *text, size_t len);

/* Read a whole file of at most max bytes; *ret is NUL-terminated and the caller's. 0 or -errno. */
int home_read(int dir, const char *name, size_t max, char **ret);

/* Everything there is, dead ones last. The caller ends it with home_list_free(). */
int home_scan(int base, struct home_list *ret);
void home_list_free(struct home_list *list);

/* Whether a sandbox without a controller is still alive; -1: nobody could say. */
typedef int (*home_alive)(void *context, const char *uuid);

/* Clean up behind controllers that died. A sandbox that was to outlive its controller stays as long as alive() says 1 or
 * -1. Returns how many were cleaned away. */
size_t home_sweep(int base, home_alive alive, void *context);

/* Descriptor of an entry's directory; -errno. */
int home_open(int base, const char *uuid, bool dead);

/* Whether the controller of this directory lives: it holds the lock until its last breath, whoever ends it. */
bool home_running(int dir);
