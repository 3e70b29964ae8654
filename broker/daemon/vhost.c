/* SPDX-License-Identifier: Apache-2.0
 * Runs: broker (no privilege, group of the device nodes). */
#include "vhost.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/vhost.h>
#include <sys/ioctl.h>

#include "common/cleanup.h"
#include "random.h"

#define NET_NODE "/dev/vhost-net"
#define VSOCK_NODE "/dev/vhost-vsock"

#define CID_TRIES 16 /* among 2^31; a second try is already rare */

/* Safe because both paths are constants below root's /dev. Opening gives no power by itself: the device belongs to
 * whoever calls SET_OWNER, and that will be the VMM. */
static enum wire_outcome open_node(const char *path, int *ret_fd)
{
	int fd = open(path, O_RDWR | O_CLOEXEC | O_NONBLOCK);

	if (fd >= 0) {
		*ret_fd = fd;
		return WIRE_BY_BY_FD;
	}
	if (errno == ENOENT)
		return WIRE_BY_NO_NODE;
	if (errno == EACCES || errno == EPERM)
		return WIRE_BY_NO_ACCESS;
	if (errno == ENXIO || errno == ENODEV)
		return WIRE_BY_NO_KERNEL;
	return WIRE_BY_FAILED;
}

enum wire_outcome vhost_net_probe(void)
{
	cleanup_fd int fd = -1;

	return open_node(NET_NODE, &fd);
}

enum wire_outcome vhost_vsock_probe(void)
{
	cleanup_fd int fd = -1;

	return open_node(VSOCK_NODE, &fd);
}

enum wire_outcome vhost_net(int *ret_fd)
{
	return open_node(NET_NODE, ret_fd);
}

enum wire_outcome vhost_vsock(vhost_cid_fn taken, const void *context, int *ret_fd, uint32_t *ret_cid)
{
	cleanup_fd int fd = -1;
	enum wire_outcome outcome = open_node(VSOCK_NODE, &fd);

	if (outcome != WIRE_BY_BY_FD)
		return outcome;
	for (int i = 0; i < CID_TRIES; i++) {
		uint64_t cid = VHOST_CID_MIN + random_below(VHOST_CID_MAX - VHOST_CID_MIN);

		if (taken(context, (uint32_t)cid))
			continue;
		/* The kernel knows of CIDs that others on this host took and refuses those. It holds the number until
		 * the last copy of the descriptor is closed. */
		if (ioctl(fd, VHOST_VSOCK_SET_GUEST_CID, &cid) == 0) {
			*ret_cid = (uint32_t)cid;
			*ret_fd = fd_take(&fd);
			return WIRE_BY_BY_FD;
		}
		if (errno != EADDRINUSE)
			return WIRE_BY_FAILED;
	}
	return WIRE_BY_FAILED;
}
