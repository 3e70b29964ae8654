/* SPDX-License-Identifier: Apache-2.0
 * Runs: controller (the user). */
#include "qmp_channel.h"

#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <stdbool.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>

#include "qmp.h"

uint64_t qmp_now_ms(void)
{
	struct timespec now;

	(void)clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

int qmp_left_ms(uint64_t deadline)
{
	uint64_t now = qmp_now_ms(), left = now < deadline ? deadline - now : 0;

	return left > INT_MAX ? INT_MAX : (int)left;
}

/* The parser recurses; what is too deep does not get to it. */
static bool too_deep(const char *line, size_t len)
{
	size_t depth = 0;
	bool quoted = false;

	for (size_t i = 0; i < len; i++) {
		if (quoted && line[i] == '\\')
			i++;
		else if (line[i] == '"')
			quoted = !quoted;
		else if (!quoted && (line[i] == '{' || line[i] == '[') && ++depth > QMP_DEPTH_MAX)
			return true;
		else if (!quoted && (line[i] == '}' || line[i] == ']') && depth > 0)
			depth--;
	}
	return false;
}

static bool within_budget(struct qmp_channel *channel)
{
	uint64_t second = qmp_now_ms() / 1000;

	if (second != channel->second) {
		channel->second = second;
		channel->lines = 0;
	}
	return ++channel->lines <= QMP_LINES_PER_SECOND;
}

int qmp_line(struct qmp_channel *channel, const char **ret_line, size_t *ret_len, const char **ret_why)
{
	char *line = channel->buffer + channel->start;
	char *end = memchr(channel->buffer + channel->scanned, '\n', channel->filled - channel->scanned);
	size_t len;

	if (end == NULL) {
		channel->scanned = channel->filled;
		if (channel->filled - channel->start < QMP_LINE_MAX)
			return 0;
		*ret_why = "the VMM sent a line that is too long";
		return -EPROTO;
	}
	len = (size_t)(end - line);
	channel->start += len + 1;
	channel->scanned = channel->start;
	if (!within_budget(channel)) {
		*ret_why = "the VMM floods its control channel";
		return -EPROTO;
	}
	if (too_deep(line, len)) {
		*ret_why = "the VMM sent a line that is nested too deeply";
		return -EPROTO;
	}
	*end = '\0';
	*ret_line = line;
	*ret_len = len;
	return 1;
}

int qmp_fill(struct qmp_channel *channel)
{
	ssize_t n;

	/* Here, not per line: one move a read, however many lines it brought. */
	channel->filled -= channel->start;
	channel->scanned -= channel->start;
	memmove(channel->buffer, channel->buffer + channel->start, channel->filled);
	channel->start = 0;
	do
		n = recv(channel->fd, channel->buffer + channel->filled, QMP_LINE_MAX - channel->filled, MSG_DONTWAIT);
	while (n < 0 && errno == EINTR);
	if (n > 0) {
		channel->filled += (size_t)n;
		return (int)n;
	}
	return n < 0 && errno == EAGAIN ? -EAGAIN : -EPIPE;
}

static int wait_for(int fd, short events, uint64_t deadline)
{
	struct pollfd pfd = { .fd = fd, .events = events };

	for (;;) {
		int n = poll(&pfd, 1, qmp_left_ms(deadline));

		/* An error or a hang-up shows itself in the read or write that follows. */
		if (n > 0)
			return 0;
		if (n == 0)
			return -ETIMEDOUT;
		if (errno != EINTR)
			return -errno;
	}
}

int qmp_wait(const struct qmp_channel *channel, uint64_t deadline)
{
	return wait_for(channel->fd, POLLIN, deadline);
}

int qmp_write(const struct qmp_channel *channel, const char *text, size_t len, uint64_t deadline)
{
	size_t done = 0;

	while (done < len) {
		ssize_t n = send(channel->fd, text + done, len - done, MSG_DONTWAIT | MSG_NOSIGNAL);

		if (n > 0) {
			done += (size_t)n;
			continue;
		}
		if (n < 0 && errno == EAGAIN) {
			int r = wait_for(channel->fd, POLLOUT, deadline);

			if (r < 0)
				return r;
		} else if (n < 0 && errno != EINTR) {
			return -EPIPE;
		}
	}
	return 0;
}
