/* SPDX-License-Identifier: Apache-2.0
 * Runs: every process. */
#include "fdpass.h"

#include <errno.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>

#include "cleanup.h"
#include "messages.h"

/* One more than we ever accept, so that a peer who sends too many is caught by count and not by luck. */
#define CONTROL_FDS (WIRE_FDS_MAX + 1)

union control {
	char buf[CMSG_SPACE(sizeof(int) * CONTROL_FDS)];
	struct cmsghdr align;
};

int fdpass_send(int sock, const void *buf, size_t len, const int *fds, size_t fd_count)
{
	struct iovec iov = { .iov_base = (void *)(uintptr_t)buf, .iov_len = len };
	struct msghdr msg = { .msg_iov = &iov, .msg_iovlen = 1 };
	union control control;
	ssize_t n;

	if (len == 0 || fd_count > WIRE_FDS_MAX)
		return -EINVAL;
	if (fd_count > 0) {
		struct cmsghdr *cmsg;

		memset(&control, 0, CMSG_SPACE(sizeof(int) * fd_count));
		msg.msg_control = control.buf;
		msg.msg_controllen = CMSG_SPACE(sizeof(int) * fd_count);
		cmsg = CMSG_FIRSTHDR(&msg);
		cmsg->cmsg_level = SOL_SOCKET;
		cmsg->cmsg_type = SCM_RIGHTS;
		cmsg->cmsg_len = CMSG_LEN(sizeof(int) * fd_count);
		memcpy(CMSG_DATA(cmsg), fds, sizeof(int) * fd_count);
	}
	do
		n = sendmsg(sock, &msg, MSG_NOSIGNAL | MSG_DONTWAIT);
	while (n < 0 && errno == EINTR);
	if (n < 0)
		return errno == ECONNRESET ? -EPIPE : -errno;
	return (size_t)n == len ? 0 : -EMSGSIZE;
}

static void close_all(int *fds, size_t count)
{
	for (size_t i = 0; i < count; i++)
		fd_close(&fds[i]);
}

/* What SO_PASSPIDFD adds; glibc 2.36 has no name for it. */
#define CONTROL_PIDFD 4

/* Collect every descriptor of every control message: one that is not collected would stay open for ever. A socket that
 * somebody else made (init's end of the control channel) may have options set that add messages of other kinds: they
 * are refused, and a descriptor that such a message brings is collected for closing like the others. */
static size_t collect(struct msghdr *msg, int *all, bool *ret_stray)
{
	size_t count = 0;

	for (struct cmsghdr *c = CMSG_FIRSTHDR(msg); c != NULL; c = CMSG_NXTHDR(msg, c)) {
		bool rights = c->cmsg_level == SOL_SOCKET && c->cmsg_type == SCM_RIGHTS;
		bool pidfd = c->cmsg_level == SOL_SOCKET && c->cmsg_type == CONTROL_PIDFD;

		if (!rights)
			*ret_stray = true;
		if ((!rights && !pidfd) || c->cmsg_len < CMSG_LEN(0))
			continue;
		for (size_t i = 0; i < (c->cmsg_len - CMSG_LEN(0)) / sizeof(int); i++) {
			int fd;

			memcpy(&fd, CMSG_DATA(c) + i * sizeof(int), sizeof(int));
			if (count < CONTROL_FDS)
				all[count++] = fd;
			else
				fd_close(&fd);
		}
	}
	return count;
}

static ssize_t receive(int sock, int flags, void *buf, size_t size, int *fds, size_t max, size_t *ret_count)
{
	struct iovec iov = { .iov_base = buf, .iov_len = size };
	union control control;
	struct msghdr msg = { .msg_iov = &iov, .msg_iovlen = 1, .msg_control = control.buf,
			      .msg_controllen = sizeof(control.buf) };
	int all[CONTROL_FDS] = { 0 };
	bool stray = false;
	size_t count;
	ssize_t n;

	/* ECONNRESET: the peer closed before it had read all. It is told once and first, but what the peer had sent (why it
	 * gave up) is still in the queue, and the end comes behind it. */
	do
		n = recvmsg(sock, &msg, MSG_CMSG_CLOEXEC | flags);
	while (n < 0 && (errno == EINTR || errno == ECONNRESET));
	if (n < 0)
		return -errno;
	count = collect(&msg, all, &stray);
	if (stray || count > max || (msg.msg_flags & (MSG_TRUNC | MSG_CTRUNC)) != 0) {
		close_all(all, count);
		return -EMSGSIZE;
	}
	for (size_t i = 0; i < count; i++)
		fds[i] = all[i];
	*ret_count = count;
	return n;
}

ssize_t fdpass_recv(int sock, void *buf, size_t size, int *fds, size_t max, size_t *ret_count)
{
	return receive(sock, 0, buf, size, fds, max, ret_count);
}

ssize_t fdpass_recv_now(int sock, void *buf, size_t size, int *fds, size_t max, size_t *ret_count)
{
	return receive(sock, MSG_DONTWAIT, buf, size, fds, max, ret_count);
}
