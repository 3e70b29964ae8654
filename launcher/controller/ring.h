/* SPDX-License-Identifier: Apache-2.0
 * Runs: controller (the user). A fixed number of bytes of which the oldest give way.
 *
 * Between a guest that prints and a reader that does not read, somebody has to lose bytes. It is the reader: a serial
 * port that blocks stops the guest. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

struct ring {
	char *bytes;
	size_t size, start, used;
	bool lost; /* something was dropped; for the reader to say so */
};

int ring_init(struct ring *ring, size_t size); /* 0 or -ENOMEM */
void ring_done(struct ring *ring);

/* Append; drops the oldest bytes when there is no room. Never fails. */
void ring_push(struct ring *ring, const char *bytes, size_t len);

/* Write as much as fd takes without blocking. 0 (also when it takes nothing now) or -errno of a descriptor that is no
 * longer good. */
int ring_flush(struct ring *ring, int fd);

/* Copy all of from behind what to has. */
void ring_copy(struct ring *to, const struct ring *from);
