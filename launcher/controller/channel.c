/* SPDX-License-Identifier: Apache-2.0
 * Runs: controller and CLI (the user). */
#include "channel.h"

#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "common/cleanup.h"

#define CHANNEL_STEP 4096u

void channel_open(struct channel *channel, int fd, size_t in_max)
{
	int flags = fcntl(fd, F_GETFL);

	(void)fcntl(fd, F_SETFL, flags | O_NONBLOCK);
	/* One that was inherited is not: what we start (passt, a VMM asked for its version) must not speak for us. */
	(void)fcntl(fd, F_SETFD, FD_CLOEXEC);
	*channel = (struct channel){ .fd = fd, .passed = -1, .in_max = in_max };
}

void channel_close(struct channel *channel)
{
	fd_close(&channel->fd);
	fd_close(&channel->passed);
	free(channel->in);
	free(channel->out);
	*channel = (struct channel){ .fd = -1, .passed = -1 };
}

/* Make room for another step; the buffer grows only as far as a line may be long. */
static int grow(struct channel *channel)
{
	char *bigger;

	if (channel->in_size - channel->in_used >= CHANNEL_STEP)
		return 0;
	if (channel->in_used >= channel->in_max + CHANNEL_STEP)
		return -EMSGSIZE;
	bigger = realloc(channel->in, channel->in_used + CHANNEL_STEP);
	if (bigger == NULL)
		return -ENOMEM;
	channel->in = bigger;
	channel->in_size = channel->in_used + CHANNEL_STEP;
	return 0;
}

/* Keep the last descriptor that came, close all others. */
static void take_passed(struct channel *channel, struct msghdr *msg)
{
	for (struct cmsghdr *c = CMSG_FIRSTHDR(msg); c != NULL; c = CMSG_NXTHDR(msg, c)) {
		size_t count = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);

		if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
			continue;
		for (size_t i = 0; i < count; i++) {
			fd_close(&channel->passed);
			memcpy(&channel->passed, CMSG_DATA(c) + i * sizeof(int), sizeof(int));
		}
	}
}

int channel_read(struct channel *channel)
{
	union {
		struct cmsghdr align;
		char bytes[CMSG_SPACE(sizeof(int))];
	} control;
	struct iovec iov;
	struct msghdr msg = { .msg_iov = &iov, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof(control) };
	ssize_t got;
	int r = grow(channel);

	if (r < 0)
		return r;
	iov = (struct iovec){ .iov_base = channel->in + channel->in_used, .iov_len = channel->in_size - channel->in_used };
	do
		got = recvmsg(channel->fd, &msg, MSG_CMSG_CLOEXEC | MSG_DONTWAIT);
	while (got < 0 && errno == EINTR);
	if (got < 0)
		return -errno;
	take_passed(channel, &msg);
	channel->in_used += (size_t)got;
	/* Too long is too long even when nobody asks for the line. */
	if (channel->in_used > channel->in_max && memchr(channel->in, '\n', channel->in_max) == NULL)
		return -EMSGSIZE;
	return got > 0;
}

int channel_next(struct channel *channel, json_t **ret)
{
	const char *end = channel->in_used > 0 ? memchr(channel->in, '\n', channel->in_used) : NULL;
	json_t *json;
	size_t len;

	if (end == NULL)
		return 0;
	len = (size_t)(end - channel->in) + 1;
	json = json_loadb(channel->in, len, JSON_REJECT_DUPLICATES, NULL);
	memmove(channel->in, channel->in + len, channel->in_used - len);
	channel->in_used -= len;
	if (!json_is_object(json)) {
		json_decref(json);
		return -EPROTO;
	}
	*ret = json;
	return 1;
}

int channel_flush(struct channel *channel)
{
	size_t done = 0;
	int r = 0;

	while (done < channel->out_used && r == 0) {
		ssize_t sent = send(channel->fd, channel->out + done, channel->out_used - done, MSG_NOSIGNAL | MSG_DONTWAIT);

		if (sent >= 0)
			done += (size_t)sent;
		else if (errno == EAGAIN)
			break;
		else if (errno != EINTR)
			r = -errno;
	}
	if (done > 0) {
		memmove(channel->out, channel->out + done, channel->out_used - done);
		channel->out_used -= done;
	}
	return r;
}

/* The first byte of a line carries its descriptor; the rest follows through the queue. */
static int send_passed(struct channel *channel, const char *byte, int passed)
{
	union {
		struct cmsghdr align;
		char bytes[CMSG_SPACE(sizeof(int))];
	} control = { 0 };
	struct iovec iov = { .iov_base = (void *)(uintptr_t)byte, .iov_len = 1 };
	struct msghdr msg = { .msg_iov = &iov, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof(control) };
	struct cmsghdr *c = CMSG_FIRSTHDR(&msg);

	if (channel->out_used > 0)
		return -EAGAIN;
	c->cmsg_level = SOL_SOCKET;
	c->cmsg_type = SCM_RIGHTS;
	c->cmsg_len = CMSG_LEN(sizeof(int));
	memcpy(CMSG_DATA(c), &passed, sizeof(int));
	return sendmsg(channel->fd, &msg, MSG_NOSIGNAL | MSG_DONTWAIT) == 1 ? 0 : -errno;
}

int channel_send(struct channel *channel, json_t *json, int passed)
{
	cleanup_free char *line = json != NULL ? json_dumps(json, JSON_COMPACT) : NULL;
	size_t len = line != NULL ? strlen(line) : 0, skip = 0;
	char *bigger;
	int r;

	json_decref(json);
	if (line == NULL)
		return -ENOMEM;
	if (channel->out_used + len + 1 > CHANNEL_OUT_MAX)
		return -ENOBUFS;
	bigger = realloc(channel->out, channel->out_used + len + 1);
	if (bigger == NULL)
		return -ENOMEM;
	channel->out = bigger;
	if (passed >= 0) {
		r = send_passed(channel, line, passed);
		if (r < 0)
			return r;
		skip = 1;
	}
	memcpy(channel->out + channel->out_used, line + skip, len - skip);
	channel->out_used += len - skip;
	channel->out[channel->out_used++] = '\n';
	return channel_flush(channel);
}
