/* SPDX-License-Identifier: Apache-2.0
 * Runs: controller (the user). A QMP client for a VMM that may be hostile.
 *
 * Lines are bounded in length and depth before they are parsed, lines a second are bounded, every wait has a deadline, and
 * nothing the VMM sends makes the client hold more memory than one line. One command is in flight at a time. After -EPROTO
 * or -EPIPE the session is over and every later call says so. Single-threaded. */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "postern/driver.h"

#define QMP_LINE_MAX 262144u       /* bytes of one line */
#define QMP_DEPTH_MAX 16u          /* nesting of one line; query-hotpluggable-cpus needs 5 */
#define QMP_LINES_PER_SECOND 2048u /* QEMU throttles what a guest can provoke to a few a second */
#define QMP_TROUBLE_MAX 256u

struct qmp;
struct json_t; /* jansson */

/* Takes over fd (a stream socket). NULL: out of memory, and fd is closed. */
struct qmp *qmp_new(int fd);
void qmp_free(struct qmp *qmp); /* closes fd; NULL is fine */

/* Greeting, capabilities, first status. -ETIMEDOUT, -EPROTO, -EPIPE, -EREMOTEIO. */
int qmp_handshake(struct qmp *qmp, int deadline_ms);

/* Run a command without arguments and wait for its reply. ret (NULL: not wanted) gets a new reference to the value of
 * "return". -EREMOTEIO: the VMM refused, qmp_trouble() has its words. A reply that comes after -ETIMEDOUT is dropped. */
int qmp_command(struct qmp *qmp, const char *command, int deadline_ms, struct json_t **ret);

/* Ask for the status and wait for it: qmp_state() is fresh afterwards. */
int qmp_refresh(struct qmp *qmp, int deadline_ms);

/* Handle what has arrived, without waiting: at most one buffer of it, so that a flood does not starve other work. */
int qmp_dispatch(struct qmp *qmp);

int qmp_fd(const struct qmp *qmp);
enum driver_state qmp_state(const struct qmp *qmp);
const char *qmp_trouble(const struct qmp *qmp);
