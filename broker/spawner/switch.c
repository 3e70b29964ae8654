/* SPDX-License-Identifier: Apache-2.0
 * Runs: spawner (capabilities of P only). The switch namespace: bridges, and one locked port per tap.
 *
 * The namespace belongs to P, so none of this needs anything of the host. The spawner itself lives in the empty
 * namespace, which its children inherit, and speaks to this one through a netlink socket opened there. */
#include "spawner.h"

#include <errno.h>
#include <linux/if_bridge.h>
#include <linux/if_link.h>
#include <linux/neighbour.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

#include "common/cleanup.h"
#include "common/fault.h"
#include "common/log.h"
#include "filter.h"
#include "netlink.h"

static int link_message(const struct spawner *sp, struct nl_msg *m)
{
	return nl_talk(sp->netlink, m, NULL);
}

static int set_up(const struct spawner *sp, uint32_t ifindex)
{
	struct ifinfomsg info = { .ifi_index = (int)ifindex, .ifi_flags = IFF_UP, .ifi_change = IFF_UP };
	struct nl_msg m;

	nl_begin(&m, RTM_NEWLINK, 0, &info, sizeof(info));
	return link_message(sp, &m);
}

static int set_master(const struct spawner *sp, uint32_t ifindex, uint32_t master)
{
	struct ifinfomsg info = { .ifi_index = (int)ifindex };
	struct nl_msg m;

	nl_begin(&m, RTM_NEWLINK, 0, &info, sizeof(info));
	nl_put_u32(&m, IFLA_MASTER, master);
	return link_message(sp, &m);
}

/* By name or by index (the other 0/NULL). reply may be NULL. */
int switch_link(const struct spawner *sp, const char *name, uint32_t ifindex, uint32_t *ret_ifindex, struct nl_msg *reply)
{
	struct ifinfomsg info = { .ifi_index = (int)ifindex };
	struct nl_msg m, own;
	int r;

	nl_begin(&m, RTM_GETLINK, 0, &info, sizeof(info));
	if (name != NULL)
		nl_put_string(&m, IFLA_IFNAME, name);
	nl_put_u32(&m, IFLA_EXT_MASK, RTEXT_FILTER_SKIP_STATS);
	if (reply == NULL)
		reply = &own;
	r = nl_talk(sp->netlink, &m, reply);
	if (r < 0)
		return r;
	if (reply->head.nlmsg_type != RTM_NEWLINK || reply->head.nlmsg_len < NLMSG_LENGTH(sizeof(info)))
		return -EBADMSG;
	memcpy(&info, NLMSG_DATA(&reply->head), sizeof(info));
	*ret_ifindex = (uint32_t)info.ifi_index;
	return 0;
}

static void bridge_name(uint32_t index, char ret[IFNAMSIZ])
{
	(void)snprintf(ret, IFNAMSIZ, "br%u", index);
}

/* STP, multicast snooping and forward delay off: nothing in the switch speaks for itself, a port forwards at once. */
static int make_bridge(const struct spawner *sp, uint32_t index)
{
	struct ifinfomsg info = { .ifi_flags = IFF_UP, .ifi_change = IFF_UP };
	char name[IFNAMSIZ];
	size_t nest, data;
	struct nl_msg m;
	int r;

	bridge_name(index, name);
	nl_begin(&m, RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, &info, sizeof(info));
	nl_put_string(&m, IFLA_IFNAME, name);
	nest = nl_nest(&m, IFLA_LINKINFO);
	nl_put_string(&m, IFLA_INFO_KIND, "bridge");
	data = nl_nest(&m, IFLA_INFO_DATA);
	nl_put_u32(&m, IFLA_BR_STP_STATE, 0);
	nl_put_u32(&m, IFLA_BR_FORWARD_DELAY, 0);
	nl_put_u8(&m, IFLA_BR_MCAST_SNOOPING, 0);
	nl_end(&m, data);
	nl_end(&m, nest);
	r = link_message(sp, &m);
	return r == -EEXIST ? 0 : r; /* a restarted spawner finds its bridges */
}

/* The uplink's inner end was put here by start; it is the one port that learns, floods and is not locked. */
static int attach_uplink(const struct spawner *sp, uint32_t index)
{
	char name[IFNAMSIZ];
	uint32_t bridge, uplink;
	int r;

	bridge_name(index, name);
	r = switch_link(sp, name, 0, &bridge, NULL);
	if (r < 0)
		return r;
	(void)snprintf(name, sizeof(name), "up%u", index);
	r = switch_link(sp, name, 0, &uplink, NULL);
	if (r == 0)
		r = set_master(sp, uplink, bridge);
	if (r == 0)
		r = set_up(sp, uplink);
	return r;
}

/* ---- ports ------------------------------------------------------------------------------------------------------ */

static int set_port_flags(const struct spawner *sp, uint32_t ifindex, bool isolated)
{
	struct ifinfomsg info = { .ifi_family = AF_BRIDGE, .ifi_index = (int)ifindex };
	struct nl_msg m;
	size_t nest;

	nl_begin(&m, RTM_SETLINK, 0, &info, sizeof(info));
	nest = nl_nest(&m, IFLA_PROTINFO);
	nl_put_u8(&m, IFLA_BRPORT_LEARNING, 0);
	nl_put_u8(&m, IFLA_BRPORT_UNICAST_FLOOD, 0);
	nl_put_u8(&m, IFLA_BRPORT_MCAST_FLOOD, 0);
	nl_put_u8(&m, IFLA_BRPORT_ISOLATED, isolated);
	nl_put_u8(&m, IFLA_BRPORT_LOCKED, 1);
	nl_end(&m, nest);
	return link_message(sp, &m);
}

static int flag_value(const void *data, size_t size, uint16_t type)
{
	size_t len;
	const uint8_t *value = nl_find(data, size, type, &len);

	return value != NULL && len == 1 ? *value : -1;
}

/* Ask the kernel what the port has become: an older one ignores attributes that it does not know.
 * 0 all as set, 1 all but LOCKED, -errno. */
static int check_port(const struct spawner *sp, uint32_t ifindex, bool isolated)
{
	struct nl_msg reply;
	const void *data;
	uint32_t found;
	size_t size;
	int r;

	r = switch_link(sp, NULL, ifindex, &found, &reply);
	if (r < 0)
		return r;
	data = reply.bytes + NLMSG_LENGTH(sizeof(struct ifinfomsg));
	size = reply.head.nlmsg_len - NLMSG_LENGTH(sizeof(struct ifinfomsg));
	data = nl_find(data, size, IFLA_LINKINFO, &size);
	if (data != NULL)
		data = nl_find(data, size, IFLA_INFO_SLAVE_DATA, &size);
	if (data == NULL)
		return -EBADMSG;
	if (flag_value(data, size, IFLA_BRPORT_LEARNING) != 0 || flag_value(data, size, IFLA_BRPORT_UNICAST_FLOOD) != 0 ||
	    flag_value(data, size, IFLA_BRPORT_MCAST_FLOOD) != 0 || flag_value(data, size, IFLA_BRPORT_ISOLATED) != isolated)
		return -EOPNOTSUPP;
	return flag_value(data, size, IFLA_BRPORT_LOCKED) == 1 ? 0 : 1;
}

static int pin_mac(const struct spawner *sp, uint32_t ifindex, const uint8_t mac[6])
{
	struct ndmsg nd = {
		.ndm_family = AF_BRIDGE, .ndm_ifindex = (int)ifindex, .ndm_state = NUD_NOARP, .ndm_flags = NTF_MASTER
	};
	struct nl_msg m;

	nl_begin(&m, RTM_NEWNEIGH, NLM_F_CREATE | NLM_F_EXCL, &nd, sizeof(nd));
	nl_put(&m, NDA_LLADDR, mac, 6);
	return link_message(sp, &m);
}

static int hang_filter(const struct spawner *sp, uint32_t ifindex, const uint8_t mac[6], uint32_t ip)
{
	struct sock_filter program[FILTER_PORT_MAX];
	size_t count = filter_port(mac, ip, program);
	struct nl_msg m;
	int r;

	filter_qdisc_message(&m, (int)ifindex);
	r = link_message(sp, &m);
	if (r < 0)
		return r;
	filter_message(&m, (int)ifindex, program, count);
	return link_message(sp, &m);
}

/* The order is the point: master, flags, MAC, filter, and only then up, so that no frame passes unfiltered. */
int tap_port(struct spawner *sp, const struct wire_nic *nic, bool require_lock, enum wire_step *ret_step)
{
	bool isolated = (nic->flags & WIRE_NIC_ISOLATED) != 0;
	uint32_t ip = (nic->flags & WIRE_NIC_PIN_IP) != 0 ? nic->ip : 0;
	char name[IFNAMSIZ];
	uint32_t bridge = 0;
	int r, unlocked = 0;

	*ret_step = STEP_TAP_ATTACH;
	bridge_name(nic->bridge, name);
	r = fault_at(SPAWNER_FD_FAULT, STEP_TAP_ATTACH);
	if (r == 0)
		r = switch_link(sp, name, 0, &bridge, NULL);
	if (r == 0)
		r = set_master(sp, nic->ifindex, bridge);
	if (r < 0)
		return r;
	*ret_step = STEP_TAP_PORT;
	r = fault_at(SPAWNER_FD_FAULT, STEP_TAP_PORT);
	if (r == 0)
		r = set_port_flags(sp, nic->ifindex, isolated);
	if (r == 0)
		r = unlocked = check_port(sp, nic->ifindex, isolated);
	if (r > 0 && require_lock)
		r = -EOPNOTSUPP;
	if (r < 0)
		return r;
	*ret_step = STEP_TAP_FDB;
	r = fault_at(SPAWNER_FD_FAULT, STEP_TAP_FDB);
	if (r == 0)
		r = pin_mac(sp, nic->ifindex, nic->mac);
	if (r < 0)
		return r;
	*ret_step = STEP_TAP_FILTER;
	r = fault_at(SPAWNER_FD_FAULT, STEP_TAP_FILTER);
	/* LOCKED plus the fdb entry already hold the source MAC; the program adds the IP, or stands in for LOCKED. */
	if (r == 0 && (ip != 0 || unlocked > 0))
		r = hang_filter(sp, nic->ifindex, nic->mac, ip);
	if (r < 0)
		return r;
	*ret_step = STEP_TAP_UP;
	r = fault_at(SPAWNER_FD_FAULT, STEP_TAP_UP);
	return r < 0 ? r : set_up(sp, nic->ifindex);
}

/* ---- start ------------------------------------------------------------------------------------------------------ */

/* What this kernel's bridge ports can do, tried on a port that never goes up. */
static uint8_t probe_port(struct spawner *sp)
{
	struct wire_lease lease = { .id = UINT32_MAX >> 3, .uid = sp->table->first_uid };
	struct wire_nic nic = { .queues = 1 };
	uint8_t outcome = WIRE_BY_FAILED;
	static const uint8_t mac[6] = { 2 };
	enum wire_step step;
	uint32_t bridge;
	int fd = -1, r;

	r = tap_open_queues(sp, &lease, &nic, 0, &fd, &step);
	if (r == 0)
		r = switch_link(sp, "br0", 0, &bridge, NULL);
	if (r == 0)
		r = set_master(sp, nic.ifindex, bridge);
	if (r == 0)
		r = set_port_flags(sp, nic.ifindex, true);
	if (r == 0)
		r = check_port(sp, nic.ifindex, true);
	if (r >= 0) {
		bool programs = hang_filter(sp, nic.ifindex, mac, 1) == 0;

		outcome = r == 0 && programs ? WIRE_BY_GRANTED : r == 0 || programs ? WIRE_BY_PARTIAL : WIRE_BY_NO_KERNEL;
	} else {
		log_warn("bridge ports cannot be probed: %s", strerror(-r));
	}
	fd_close(&fd);
	return outcome;
}

int switch_open(struct spawner *sp)
{
	int r = 0;

	if (setns(sp->p[P_SWITCH], CLONE_NEWNET) < 0)
		return -errno;
	sp->netlink = nl_open();
	if (setns(sp->p[P_EMPTY], CLONE_NEWNET) < 0)
		return -errno;
	if (sp->netlink < 0)
		return sp->netlink;
	for (uint32_t i = 0; r == 0 && i < sp->table->network_count; i++) {
		r = make_bridge(sp, i);
		if (r == 0 && sp->table->networks[i].has_uplink)
			r = attach_uplink(sp, i);
		if (r < 0)
			log_error("network \"%s\": cannot build its bridge: %s", sp->table->networks[i].name, strerror(-r));
	}
	if (r == 0)
		sp->port_outcome = sp->table->network_count > 0 ? probe_port(sp) : WIRE_BY_NOT_ASKED;
	return r;
}
