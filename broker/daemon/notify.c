/* SPDX-License-Identifier: Apache-2.0
 * Runs: broker (no privilege). Tells the service manager "ready" and "stopping", in place of libsystemd. */
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "common/cleanup.h"
#include "server.h"

int notify_open(void)
{
	const char *path = getenv("NOTIFY_SOCKET");
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	cleanup_fd int fd = -1;
	size_t len;

	if (path == NULL || (path[0] != '/' && path[0] != '@'))
		return -1;
	len = strlen(path);
	if (len < 2 || len >= sizeof(address.sun_path))
		return -1;
	memcpy(address.sun_path, path, len);
	if (path[0] == '@') /* abstract */
		address.sun_path[0] = '\0';
	/* Connected now, so that nothing but send() is needed under the filter. */
	fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (fd < 0 ||
	    connect(fd, (const struct sockaddr *)&address, (socklen_t)(offsetof(struct sockaddr_un, sun_path) + len)) < 0)
		return -1;
	return fd_take(&fd);
}

void notify_send(int fd, const char *state)
{
	struct iovec iov = { .iov_base = (void *)(uintptr_t)state, .iov_len = strlen(state) };
	struct msghdr msg = { .msg_iov = &iov, .msg_iovlen = 1 };

	/* sendmsg(), because the filter has it anyway. A manager that does not listen is its own problem. */
	if (fd >= 0)
		(void)sendmsg(fd, &msg, MSG_NOSIGNAL | MSG_DONTWAIT);
}
