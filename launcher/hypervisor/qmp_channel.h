/* SPDX-License-Identifier: Apache-2.0
 * Runs: controller (the user). Bounded lines over a non-blocking stream socket. Single-threaded. */
#pragma once

#include <stddef.h>
#include <stdint.h>

struct qmp_channel {
	int fd;
	char *buffer;         /* QMP_LINE_MAX bytes, allocated once */
	size_t start, filled; /* what was not handed out yet is buffer[start..filled) */
	size_t scanned;       /* no line ends in buffer[start..scanned) */
	uint64_t second;      /* window of the line budget */
	uint32_t lines;       /* lines seen in it */
};

uint64_t qmp_now_ms(void); /* CLOCK_MONOTONIC */

/* Milliseconds until deadline, 0 when it has passed. */
int qmp_left_ms(uint64_t deadline);

/* The next whole line in the buffer, NUL-terminated in place, valid until qmp_fill(). 1, 0 when there is none yet,
 * -EPROTO and *ret_why when it is too long, too deep or one too many in this second. */
int qmp_line(struct qmp_channel *channel, const char **ret_line, size_t *ret_len, const char **ret_why);

/* Read what is there. Number of bytes; -EAGAIN; -EPIPE when the peer is gone. */
int qmp_fill(struct qmp_channel *channel);

/* Wait until fd is readable. 0, -ETIMEDOUT. */
int qmp_wait(const struct qmp_channel *channel, uint64_t deadline);

/* Write all of text before the deadline. -ETIMEDOUT when perhaps a part of it went out: the caller ends the session. */
int qmp_write(const struct qmp_channel *channel, const char *text, size_t len, uint64_t deadline);
