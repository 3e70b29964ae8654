/* SPDX-License-Identifier: Apache-2.0
 * Runs: controller and CLI (the user). JSON lines over a unix stream socket, both ways, with bounds.
 *
 * One object a line. A line may bring one descriptor (console, logs). The peer may be hostile or slow: a line that is
 * too long, not JSON or not an object ends the channel, and so does a reader that lets more than CHANNEL_OUT_MAX wait. */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#define CHANNEL_REQUEST_MAX 4096u               /* a line from a client */
#define CHANNEL_REPLY_MAX ((size_t)1024 * 1024) /* a line from the controller: a receipt is the longest */
#define CHANNEL_OUT_MAX (2 * CHANNEL_REPLY_MAX)

struct json_t; /* jansson */

struct channel {
	int fd;
	int passed; /* descriptor that came last, -1 none; the reader's */
	char *in, *out;
	size_t in_max, in_used, in_size, out_used;
};

/* Take over fd (made non-blocking and close-on-exec). in_max: longest line that is read. */
void channel_open(struct channel *channel, int fd, size_t in_max);
void channel_close(struct channel *channel);

/* Read what there is. 1: something came; 0: the peer closed; -EAGAIN; -EMSGSIZE or another -errno: end it. */
int channel_read(struct channel *channel);

/* The next whole line: 1 and a new reference; 0: none yet; -EPROTO: not a JSON object. */
int channel_next(struct channel *channel, struct json_t **ret);

/* Queue a line (steals json, NULL is -ENOMEM) and send what the peer takes. passed: descriptor to go with it, -1 none;
 * stays the caller's. -EAGAIN: a descriptor cannot wait behind a queue; -ENOBUFS: the peer does not read. */
int channel_send(struct channel *channel, struct json_t *json, int passed);
int channel_flush(struct channel *channel);
