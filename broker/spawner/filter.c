/* SPDX-License-Identifier: Apache-2.0
 * Runs: start (root, for the uplinks), spawner (capabilities of P only). */
#include "filter.h"

#include <arpa/inet.h>
#include <linux/if_ether.h>
#include <linux/pkt_cls.h>
#include <linux/pkt_sched.h>
#include <linux/rtnetlink.h>
#include <string.h>

/* Offsets in a frame at ingress; the kernel has taken an outer VLAN tag off by then. */
enum {
	MAC_SOURCE_HIGH = 6,
	MAC_SOURCE_LOW = 8,
	ETHER_TYPE = 12,
	IP_SOURCE = 26,
	ARP_SENDER = 28,
	IP_DESTINATION = 30,
	ARP_TARGET = 38
};

#define LOAD32(offset) BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offset)
#define LOAD16(offset) BPF_STMT(BPF_LD | BPF_H | BPF_ABS, offset)
#define IS(value, yes, no) BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, value, yes, no)
#define PASS BPF_STMT(BPF_RET | BPF_K, TC_ACT_OK)
#define DROP BPF_STMT(BPF_RET | BPF_K, TC_ACT_SHOT)

size_t filter_port(const uint8_t mac[6], uint32_t ip, struct sock_filter ret[FILTER_PORT_MAX])
{
	uint32_t high = (uint32_t)mac[0] << 8 | mac[1];
	uint32_t low = (uint32_t)mac[2] << 24 | (uint32_t)mac[3] << 16 | (uint32_t)mac[4] << 8 | mac[5];
	/* clang-format off */
	const struct sock_filter mac_only[] = {
		LOAD32(MAC_SOURCE_LOW), IS(low, 0, 3), LOAD16(MAC_SOURCE_HIGH), IS(high, 0, 1), PASS, DROP,
	};
	/* IPv6 falls into the drop: a port with a pinned IPv4 has no other address. */
	const struct sock_filter mac_and_ip[] = {
		LOAD32(MAC_SOURCE_LOW), IS(low, 0, 10),
		LOAD16(MAC_SOURCE_HIGH), IS(high, 0, 8),
		LOAD16(ETHER_TYPE), IS(ETH_P_IP, 0, 2),
		LOAD32(IP_SOURCE), IS(ip, 3, 4),
		IS(ETH_P_ARP, 0, 3),
		LOAD32(ARP_SENDER), IS(ip, 0, 1),
		PASS, DROP,
	};
	/* clang-format on */

	_Static_assert(sizeof(mac_and_ip) == FILTER_PORT_MAX * sizeof(struct sock_filter), "jumps are counted for 13");
	if (ip == 0) {
		memcpy(ret, mac_only, sizeof(mac_only));
		return sizeof(mac_only) / sizeof(mac_only[0]);
	}
	memcpy(ret, mac_and_ip, sizeof(mac_and_ip));
	return FILTER_PORT_MAX;
}

static uint32_t mask_of(uint32_t prefix)
{
	return prefix == 0 ? 0 : UINT32_MAX << (32 - prefix);
}

size_t filter_uplink(const struct spawn_table *table, uint32_t index, struct sock_filter ret[FILTER_UPLINK_MAX])
{
	uint32_t gateway = table->networks[index].gateway;
	uint32_t broadcast = gateway | ~mask_of(table->networks[index].prefix);
	uint32_t subnets = 0, at = 0, left;

	if (!table->networks[index].has_uplink)
		return 0;
	for (uint32_t i = 0; i < table->network_count; i++)
		subnets += table->networks[i].has_uplink != 0;
	/* Distances: PASS stands one before the end, DROP at it. */
	left = 3 * subnets;
	ret[at++] = (struct sock_filter)LOAD16(ETHER_TYPE);
	ret[at++] = (struct sock_filter)IS(ETH_P_IP, 3, 0);
	/* ARP only for the gateway: by itself the host answers on every interface for every address it has. */
	ret[at++] = (struct sock_filter)IS(ETH_P_ARP, 0, (uint8_t)(left + 6));
	ret[at++] = (struct sock_filter)LOAD32(ARP_TARGET);
	ret[at++] = (struct sock_filter)IS(gateway, (uint8_t)(left + 3), (uint8_t)(left + 4));
	ret[at++] = (struct sock_filter)LOAD32(IP_DESTINATION);
	ret[at++] = (struct sock_filter)IS(gateway, (uint8_t)(left + 1), 0);
	ret[at++] = (struct sock_filter)IS(broadcast, (uint8_t)left, 0);
	for (uint32_t i = 0; i < table->network_count; i++) {
		uint32_t mask = mask_of(table->networks[i].prefix);

		if (!table->networks[i].has_uplink)
			continue;
		left -= 3;
		/* The accumulator is masked away each time, so load it anew. */
		ret[at++] = (struct sock_filter)LOAD32(IP_DESTINATION);
		ret[at++] = (struct sock_filter)BPF_STMT(BPF_ALU | BPF_AND | BPF_K, mask);
		ret[at++] = (struct sock_filter)IS(table->networks[i].gateway & mask, (uint8_t)(left + 1), 0);
	}
	ret[at++] = (struct sock_filter)PASS;
	ret[at++] = (struct sock_filter)DROP;
	return at;
}

void filter_qdisc_message(struct nl_msg *m, int ifindex)
{
	struct tcmsg tc = { .tcm_ifindex = ifindex, .tcm_handle = TC_H_MAKE(TC_H_CLSACT, 0), .tcm_parent = TC_H_CLSACT };

	nl_begin(m, RTM_NEWQDISC, NLM_F_CREATE | NLM_F_EXCL, &tc, sizeof(tc));
	nl_put_string(m, TCA_KIND, "clsact");
}

void filter_message(struct nl_msg *m, int ifindex, const struct sock_filter *program, size_t count)
{
	struct tcmsg tc = {
		.tcm_ifindex = ifindex,
		.tcm_parent = TC_H_MAKE(TC_H_CLSACT, TC_H_MIN_INGRESS),
		.tcm_info = TC_H_MAKE(1u << 16, htons(ETH_P_ALL)), /* priority 1, every protocol */
	};
	size_t options;

	nl_begin(m, RTM_NEWTFILTER, NLM_F_CREATE | NLM_F_EXCL, &tc, sizeof(tc));
	nl_put_string(m, TCA_KIND, "bpf");
	options = nl_nest(m, TCA_OPTIONS);
	nl_put_u16(m, TCA_BPF_OPS_LEN, (uint16_t)count);
	nl_put(m, TCA_BPF_OPS, program, count * sizeof(*program));
	nl_put_u32(m, TCA_BPF_FLAGS, TCA_BPF_FLAG_ACT_DIRECT);
	nl_end(m, options);
}
