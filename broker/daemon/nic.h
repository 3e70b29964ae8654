/* SPDX-License-Identifier: Apache-2.0
 * Runs: broker (no privilege). Addresses of a NIC, unique among all live leases. */
#pragma once

#include <stdint.h>

#include "lease.h"
#include "policy/policy.h"

/* A random MAC, locally administered and unicast, that no live lease and no other NIC of record has. */
void nic_mac(const struct leases *leases, const struct wire_lease *record, uint8_t ret_mac[6]);

/* An IPv4 of the network that no live lease and no other NIC of record has: not the gateway, not the network's own or
 * its broadcast address. -ENOSPC: none is left; -EINVAL: the network has no addresses. */
int nic_ip(const struct leases *leases, const struct wire_lease *record, const struct policy_network *network,
	   uint32_t *ret_ip);
