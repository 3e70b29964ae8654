/* SPDX-License-Identifier: Apache-2.0
 * Runs: spawner (capabilities of P only). Taps: made in the switch namespace, deleted by ifindex. */
#include "spawner.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/if_tun.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/fsuid.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "common/fault.h"
#include "common/log.h"
#include "netlink.h"

/* Open /dev/net/tun inside the switch namespace, as X: the kernel notes the opener's fsuid as the sender for `meta
 * skuid` rules, and a tap that sends as root would pass them (CVE-2023-1076). setfsuid() takes no effective capability
 * but those over files. */
static int open_tun(const struct spawner *sp, uid_t uid)
{
	int fd, r = 0;

	if (setns(sp->p[P_SWITCH], CLONE_NEWNET) < 0)
		return -errno;
	(void)setfsuid(uid);
	fd = openat(sp->p[P_PRIVATE], "tun", O_RDWR | O_NONBLOCK | O_CLOEXEC | O_NOFOLLOW);
	if (fd < 0)
		r = -errno;
	(void)setfsuid(geteuid()); /* in P the spawner is 0, in direct mode never */
	if (setns(sp->p[P_EMPTY], CLONE_NEWNET) < 0) {
		/* Nothing may be cloned from here: the children would find themselves in the switch. */
		log_error("cannot leave the switch namespace: %m");
		_exit(EXIT_FAILURE);
	}
	return fd < 0 ? r : fd;
}

/* One queue of a tap. The first creates it (EXCL: an old tap of that name is an error, not a thing to attach to). */
static int open_queue(const struct spawner *sp, uid_t uid, const char *name, bool first, bool many, int *ret_fd,
		      enum wire_step *ret_step)
{
	struct ifreq ifr = { .ifr_flags = (short)(IFF_TAP | IFF_NO_PI | IFF_VNET_HDR) };
	cleanup_fd int fd = -1;
	int r;

	*ret_step = STEP_TAP_OPEN;
	r = fault_at(SPAWNER_FD_FAULT, STEP_TAP_OPEN);
	if (r < 0)
		return r;
	fd = open_tun(sp, uid);
	if (fd < 0)
		return fd;
	*ret_step = STEP_TAP_CREATE;
	r = fault_at(SPAWNER_FD_FAULT, STEP_TAP_CREATE);
	if (r < 0)
		return r;
	memcpy(ifr.ifr_name, name, strlen(name) + 1);
	if (first)
		ifr.ifr_flags = (short)(ifr.ifr_flags | (short)IFF_TUN_EXCL);
	if (many)
		ifr.ifr_flags |= IFF_MULTI_QUEUE;
	if (ioctl(fd, TUNSETIFF, &ifr) < 0)
		return -errno;
	/* Owned by us, not by nobody: an ownerless tap can be attached by whoever is in its namespace. Nobody but
	 * us ever needs to attach, since every queue is open already. */
	if (first && ioctl(fd, TUNSETOWNER, (unsigned long)geteuid()) < 0)
		return -errno;
	*ret_fd = fd_take(&fd);
	return 0;
}

/* Create the tap of NIC number with all its queues; ret_fds gets them, nic->ifindex is filled in. On failure what was
 * opened is closed again (which may take 15 ms; failures are rare). */
int tap_open_queues(struct spawner *sp, const struct wire_lease *lease, struct wire_nic *nic, uint32_t number, int *ret_fds,
		    enum wire_step *ret_step)
{
	uint32_t queues = nic->queues > 0 ? nic->queues : 1, made = 0;
	char name[IFNAMSIZ];
	int r = 0;

	/* Generated, never anybody's text; 29 bits of the lease keep two live leases apart, EXCL makes sure. */
	(void)snprintf(name, sizeof(name), "pt%x", (uint32_t)(lease->id << 3) | number);
	while (r == 0 && made < queues) {
		r = open_queue(sp, lease->uid, name, made == 0, queues > 1, &ret_fds[made], ret_step);
		made += r == 0;
	}
	if (r == 0)
		r = switch_link(sp, name, 0, &nic->ifindex, NULL);
	for (uint32_t i = 0; r < 0 && i < made; i++)
		fd_close(&ret_fds[i]);
	return r;
}

bool tap_exists(struct spawner *sp, uint32_t ifindex)
{
	uint32_t found;

	/* Anything but a clear no counts as yes: the worker finds out. */
	return switch_link(sp, NULL, ifindex, &found, NULL) != -ENODEV;
}

/* By ifindex: it works whoever still holds the tap, and whatever he made of it (persistent, renamed, re-owned). */
int tap_delete(int netlink, uint32_t ifindex)
{
	struct ifinfomsg info = { .ifi_index = (int)ifindex };
	struct nl_msg m;
	int r;

	nl_begin(&m, RTM_DELLINK, 0, &info, sizeof(info));
	r = nl_talk(netlink, &m, NULL);
	return r == -ENODEV ? 0 : r;
}
