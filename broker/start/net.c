/* SPDX-License-Identifier: Apache-2.0
 * Runs: start (root, for a moment). One veth per network with an uplink: our end has the gateway's address, the other end
 * goes into P's switch namespace. The pair ends with that namespace. */
#include "start.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/if_addr.h>
#include <linux/if_link.h>
#include <linux/rtnetlink.h>
#include <linux/veth.h>
#include <net/if.h>
#include <stdio.h>
#include <string.h>

#include "broker/spawner/filter.h"
#include "broker/spawner/netlink.h"
#include "common/cleanup.h"
#include "common/log.h"

/* pv<tag>-<index>: 14 bytes at most of the 15 there are. An index is below TABLE_NETWORKS: one byte, for the compiler. */
static void host_name(const struct start *s, uint32_t index, char ret[IFNAMSIZ])
{
	(void)snprintf(ret, IFNAMSIZ, "pv%.8s-%hhu", s->tag, (unsigned char)index);
}

/* What a start that failed half way may have left; the other end goes with it. */
static void delete_link(int nl, const char *name)
{
	struct ifinfomsg info = { 0 };
	struct nl_msg m;

	nl_begin(&m, RTM_DELLINK, 0, &info, sizeof(info));
	nl_put_string(&m, IFLA_IFNAME, name);
	(void)nl_talk(nl, &m, NULL);
}

static int create_pair(int nl, const char *name, uint32_t index, int switch_ns)
{
	struct ifinfomsg info = { 0 };
	size_t link, data, peer;
	char inner[IFNAMSIZ];
	struct nl_msg m;

	(void)snprintf(inner, sizeof(inner), "up%u", index);
	nl_begin(&m, RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, &info, sizeof(info));
	nl_put_string(&m, IFLA_IFNAME, name);
	link = nl_nest(&m, IFLA_LINKINFO);
	nl_put_string(&m, IFLA_INFO_KIND, "veth");
	data = nl_nest(&m, IFLA_INFO_DATA);
	peer = nl_nest(&m, VETH_INFO_PEER);
	nl_raw(&m, &info, sizeof(info));
	nl_put_string(&m, IFLA_IFNAME, inner);
	nl_put_u32(&m, IFLA_NET_NS_FD, (uint32_t)switch_ns);
	nl_end(&m, peer);
	nl_end(&m, data);
	nl_end(&m, link);
	return nl_talk(nl, &m, NULL);
}

/* The policy speaks of IPv4 only, so the host shall have no other address there. */
static void no_ipv6(int nl, int ifindex)
{
	struct ifinfomsg info = { .ifi_index = ifindex };
	size_t spec, family;
	struct nl_msg m;

	nl_begin(&m, RTM_NEWLINK, 0, &info, sizeof(info));
	spec = nl_nest(&m, IFLA_AF_SPEC);
	family = nl_nest(&m, AF_INET6);
	nl_put_u8(&m, IFLA_INET6_ADDR_GEN_MODE, IN6_ADDR_GEN_MODE_NONE);
	nl_end(&m, family);
	nl_end(&m, spec);
	(void)nl_talk(nl, &m, NULL); /* refused where there is no IPv6, which is what we want */
}

static int set_address(int nl, int ifindex, uint32_t gateway, uint32_t prefix)
{
	struct ifaddrmsg address = { .ifa_family = AF_INET,
				     .ifa_prefixlen = (uint8_t)prefix,
				     .ifa_index = (unsigned)ifindex };
	struct nl_msg m;

	nl_begin(&m, RTM_NEWADDR, NLM_F_CREATE | NLM_F_EXCL, &address, sizeof(address));
	nl_put_u32(&m, IFA_LOCAL, htonl(gateway));
	nl_put_u32(&m, IFA_ADDRESS, htonl(gateway));
	if (prefix < 31)
		nl_put_u32(&m, IFA_BROADCAST, htonl(gateway | (prefix == 0 ? UINT32_MAX : UINT32_MAX >> prefix)));
	return nl_talk(nl, &m, NULL);
}

static int set_up(int nl, int ifindex)
{
	struct ifinfomsg info = { .ifi_index = ifindex, .ifi_flags = IFF_UP, .ifi_change = IFF_UP };
	struct nl_msg m;

	nl_begin(&m, RTM_NEWLINK, 0, &info, sizeof(info));
	return nl_talk(nl, &m, NULL);
}

/* Port isolation holds on the bridge only: a host that forwards would carry one guest's packets to another. The program
 * hangs on our end and ends with it, unlike a firewall rule. Without cls_bpf: no forwarding for this interface at all.
 * true: the program is there. */
static int close_hairpin(const struct start *s, int nl, const char *name, int ifindex, uint32_t index, bool *ret_program)
{
	struct sock_filter program[FILTER_UPLINK_MAX];
	size_t count = filter_uplink(&s->table, index, program);
	char path[64 + IFNAMSIZ];
	cleanup_fd int fd = -1;
	struct nl_msg m;
	int r;

	filter_qdisc_message(&m, ifindex);
	r = nl_talk(nl, &m, NULL);
	if (r == 0) {
		filter_message(&m, ifindex, program, count);
		r = nl_talk(nl, &m, NULL);
	}
	*ret_program = r == 0;
	if (r == 0)
		return 0;
	log_warn("network \"%s\": no cls_bpf filter on %s (%s): the host will not forward for it",
		 s->table.networks[index].name, name, strerror(-r));
	(void)snprintf(path, sizeof(path), "/proc/sys/net/ipv4/conf/%s/forwarding", name);
	fd = open(path, O_WRONLY | O_CLOEXEC);
	return fd < 0 || write(fd, "0", 1) != 1 ? -errno : 0;
}

static int make_uplink(struct start *s, int nl, uint32_t index)
{
	uint8_t *outcome = &s->table.host.outcomes[WIRE_GRANT_PORT_FILTER];
	char name[IFNAMSIZ];
	bool program = false;
	int ifindex, r;

	host_name(s, index, name);
	delete_link(nl, name);
	r = create_pair(nl, name, index, s->p[P_SWITCH]);
	if (r < 0)
		return r;
	ifindex = (int)if_nametoindex(name);
	no_ipv6(nl, ifindex);
	r = close_hairpin(s, nl, name, ifindex, index, &program);
	if (r == 0)
		r = set_address(nl, ifindex, s->table.networks[index].gateway, s->table.networks[index].prefix);
	if (r == 0)
		r = set_up(nl, ifindex); /* last: the filter is there before the first frame */
	if (r < 0)
		delete_link(nl, name);
	else if (!program)
		*outcome = WIRE_BY_PARTIAL;
	return r;
}

int net_uplinks(struct start *s)
{
	cleanup_fd int nl = nl_open();
	int r = nl < 0 ? nl : 0;

	s->table.host.outcomes[WIRE_GRANT_PORT_FILTER] = WIRE_BY_GRANTED;
	for (uint32_t i = 0; r == 0 && i < s->table.network_count; i++) {
		if (!s->table.networks[i].has_uplink)
			continue;
		r = make_uplink(s, nl, i);
		if (r < 0)
			log_error("network \"%s\": its uplink cannot be made: %s%s", s->table.networks[i].name, strerror(-r),
				  r == -EOPNOTSUPP ? " (is the veth module there?)" : "");
	}
	return r;
}
