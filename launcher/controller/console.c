/* SPDX-License-Identifier: Apache-2.0
 * Runs: controller (the user). Between the guest's serial port, console.log and whoever looks on. */
#include "server.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/cleanup.h"

static void viewer_drop(struct viewer *viewer)
{
	if (!viewer->used)
		return;
	fd_close(&viewer->fd);
	ring_done(&viewer->out);
	viewer->used = false;
}

void console_output(struct server *server)
{
	char bytes[8192];
	ssize_t got = recv(server->guest->console, bytes, sizeof(bytes), MSG_DONTWAIT);

	if (got < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (got <= 0) {
		fd_close(&server->guest->console);
		return;
	}
	logfile_write(&server->console_log, bytes, (size_t)got);
	ring_push(&server->backlog, bytes, (size_t)got);
	for (size_t i = 0; i < SERVER_VIEWERS_MAX; i++) {
		struct viewer *viewer = &server->viewers[i];

		if (!viewer->used)
			continue;
		ring_push(&viewer->out, bytes, (size_t)got);
		if (ring_flush(&viewer->out, viewer->fd) < 0)
			viewer_drop(viewer);
	}
}

void console_input(struct server *server)
{
	if (server->guest->console >= 0 && ring_flush(&server->input, server->guest->console) < 0)
		fd_close(&server->guest->console);
}

void console_viewer(struct viewer *viewer, struct server *server, short events)
{
	char bytes[1024];
	ssize_t got;

	if ((events & (POLLOUT | POLLERR)) != 0 && ring_flush(&viewer->out, viewer->fd) < 0) {
		viewer_drop(viewer);
		return;
	}
	if ((events & (POLLIN | POLLHUP | POLLERR)) == 0)
		return;
	got = recv(viewer->fd, bytes, sizeof(bytes), MSG_DONTWAIT);
	if (got > 0) {
		/* The loop reads no more from viewers while a full kilobyte waits, so nothing typed is dropped. */
		ring_push(&server->input, bytes, (size_t)got);
		console_input(server);
	} else if (got == 0 && (events & (POLLHUP | POLLERR)) == 0) {
		viewer->closing = true;
	} else if (got == 0 || (errno != EAGAIN && errno != EINTR)) {
		viewer_drop(viewer);
	}
}

int console_view(struct server *server)
{
	struct viewer *viewer = NULL;
	int pair[2];

	for (size_t i = 0; i < SERVER_VIEWERS_MAX && viewer == NULL; i++)
		if (!server->viewers[i].used)
			viewer = &server->viewers[i];
	if (viewer == NULL)
		return -EBUSY;
	if (server->guest->console < 0)
		return -ENOTCONN;
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0)
		return -errno;
	if (ring_init(&viewer->out, SERVER_VIEWER_RING) < 0) {
		(void)close(pair[0]);
		(void)close(pair[1]);
		return -ENOMEM;
	}
	viewer->fd = pair[0];
	viewer->used = true;
	viewer->closing = false;
	ring_copy(&viewer->out, &server->backlog);
	(void)ring_flush(&viewer->out, viewer->fd);
	return pair[1];
}

void console_flush(struct server *server, int timeout_ms)
{
	int64_t deadline = server_now() + timeout_ms;

	for (size_t i = 0; i < SERVER_VIEWERS_MAX; i++) {
		struct viewer *viewer = &server->viewers[i];

		while (viewer->used && viewer->out.used > 0 && server_now() < deadline) {
			struct pollfd fd = { .fd = viewer->fd, .events = POLLOUT };

			(void)poll(&fd, 1, (int)(deadline - server_now()));
			if (ring_flush(&viewer->out, viewer->fd) < 0)
				break;
		}
		viewer_drop(viewer);
	}
}

void console_vmm_log(struct server *server)
{
	char bytes[4096];
	ssize_t got = recv(server->guest->log, bytes, sizeof(bytes), MSG_DONTWAIT);
	size_t end, start;

	if (got < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (got <= 0) {
		fd_close(&server->guest->log);
		return;
	}
	logfile_vmm(&server->vmm_log, bytes, (size_t)got);
	for (end = (size_t)got; end > 0 && bytes[end - 1] == '\n';)
		end--;
	for (start = end; start > 0 && bytes[start - 1] != '\n';)
		start--;
	if (end > start)
		(void)snprintf(server->said, sizeof(server->said), ": %.*s", (int)(end - start), bytes + start);
}
