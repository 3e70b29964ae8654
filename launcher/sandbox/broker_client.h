/* SPDX-License-Identifier: Apache-2.0
 * Runs: controller and CLI (the user). The broker's operations as function calls, one round trip each.
 *
 * A struct broker is one session; not for use from several threads. Every function returns 0 or -errno; on failure
 * *ret_failure (never NULL) says what to tell the user: one line that names the object and the remedy, and the exit
 * status that goes with it. */
#pragma once

#include <stdint.h>

#include "common/wire.h"
#include "postern/exit.h"

struct broker;

struct broker_failure {
	enum wire_error_code code;
	enum postern_exit exit_status;
	char text[512];
};

#define BROKER_SOCKET_DEFAULT "/run/postern/broker.sock" /* POSTERN_SOCKET overrides it */

/* Connect and exchange HELLO. path NULL: $POSTERN_SOCKET or the default. The caller ends it with broker_close(). */
int broker_connect(const char *path, struct broker **ret, struct broker_failure *ret_failure);
void broker_close(struct broker *broker); /* NULL is fine */

int broker_host(struct broker *broker, struct wire_host_reply *ret, struct broker_failure *ret_failure);
int broker_hypervisor(struct broker *broker, const char *name, struct wire_hypervisor_reply *ret,
		      struct broker_failure *ret_failure);
int broker_network(struct broker *broker, const char *name, struct wire_network_reply *ret,
		   struct broker_failure *ret_failure);

/* control: init's end of the control socketpair; stays the caller's. *ret_pidfd becomes the caller's. */
int broker_acquire(struct broker *broker, const struct wire_acquire *ask, int control, struct wire_lease *ret,
		   int *ret_pidfd, struct broker_failure *ret_failure);
int broker_attach(struct broker *broker, const uint8_t uuid[16], int control, struct wire_lease *ret, int *ret_pidfd,
		  struct broker_failure *ret_failure);

/* The caller's next lease after id `after` (0 first). -ENOENT (not an error to tell anybody) after the last. */
int broker_next(struct broker *broker, uint64_t after, struct wire_lease *ret, struct broker_failure *ret_failure);
/* How a sandbox of the caller's ended. -ENOENT (not an error to tell anybody): it is not known to have ended, yet. */
int broker_ended(struct broker *broker, const uint8_t uuid[16], struct wire_ended *ret, struct broker_failure *ret_failure);
int broker_kill(struct broker *broker, const uint8_t uuid[16], struct broker_failure *ret_failure);
