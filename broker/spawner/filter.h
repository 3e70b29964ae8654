/* SPDX-License-Identifier: Apache-2.0
 * Runs: start (root, for the uplinks), spawner (capabilities of P only). Classic BPF programs for cls_bpf: what a guest
 * may say. Pure.
 *
 * Classic, not eBPF: loading it needs no bpf(2) and no capability outside P. */
#pragma once

#include <linux/filter.h>
#include <stddef.h>
#include <stdint.h>

#include "broker/inherit.h"
#include "netlink.h"

#define FILTER_PORT_MAX 13u
#define FILTER_UPLINK_MAX (10u + 3u * TABLE_NETWORKS)

/* Frames of a tap: only this source MAC, and with ip != 0 only this IPv4 source (IPv4 and ARP); everything else is
 * dropped. Returns the number of instructions. */
size_t filter_port(const uint8_t mac[6], uint32_t ip, struct sock_filter ret[FILTER_PORT_MAX]);

/* Frames that reach the host from network index's bridge: IPv4 to the gateway, to the broadcast address and to the world
 * passes, ARP passes for the gateway. Dropped is IPv4 to any guest or gateway of a Postern network, so that the host does
 * not route around the port isolation, and every other protocol. 0: the network has no uplink. */
size_t filter_uplink(const struct spawn_table *table, uint32_t index, struct sock_filter ret[FILTER_UPLINK_MAX]);

/* Messages that hang a program at the ingress of ifindex: the clsact qdisc, then the filter. */
void filter_qdisc_message(struct nl_msg *m, int ifindex);
void filter_message(struct nl_msg *m, int ifindex, const struct sock_filter *program, size_t count);
