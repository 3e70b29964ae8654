/* SPDX-License-Identifier: Apache-2.0
 * Runs: broker (no privilege). */
#include "nic.h"

#include <errno.h>
#include <string.h>

#include "random.h"

#define IP_TRIES 65536u /* consecutive addresses looked at; far more than leases times NICs can occupy */

static bool record_has_mac(const struct wire_lease *record, const uint8_t mac[6])
{
	for (size_t i = 0; i < record->nic_count; i++)
		if (memcmp(record->nics[i].mac, mac, 6) == 0)
			return true;
	return false;
}

static bool record_has_ip(const struct wire_lease *record, const char *network, uint32_t ip)
{
	for (size_t i = 0; i < record->nic_count; i++)
		if (record->nics[i].ip == ip && strcmp(record->nics[i].network, network) == 0)
			return true;
	return false;
}

static bool mac_taken(const struct leases *leases, const struct wire_lease *record, const uint8_t mac[6])
{
	if (record_has_mac(record, mac))
		return true;
	for (size_t i = 0; i < leases->high; i++)
		if (leases->table[i].state != LEASE_FREE && record_has_mac(leases->table[i].record, mac))
			return true;
	return false;
}

static bool ip_taken(const struct leases *leases, const struct wire_lease *record, const char *network, uint32_t ip)
{
	if (record_has_ip(record, network, ip))
		return true;
	for (size_t i = 0; i < leases->high; i++)
		if (leases->table[i].state != LEASE_FREE && record_has_ip(leases->table[i].record, network, ip))
			return true;
	return false;
}

void nic_mac(const struct leases *leases, const struct wire_lease *record, uint8_t ret_mac[6])
{
	uint8_t mac[6];

	do {
		random_fill(mac, sizeof(mac));
		mac[0] = (uint8_t)((mac[0] & ~1u) | 2u); /* unicast, locally administered */
	} while (mac_taken(leases, record, mac));
	memcpy(ret_mac, mac, sizeof(mac));
}

int nic_ip(const struct leases *leases, const struct wire_lease *record, const struct policy_network *network,
	   uint32_t *ret_ip)
{
	uint32_t mask, base, hosts, start;

	/* /31 and /32 have no address besides the ends; no gateway means no addresses at all. */
	if (network->gateway == 0 || network->prefix == 0 || network->prefix > 30)
		return -EINVAL;
	mask = UINT32_MAX << (32 - network->prefix);
	base = network->gateway & mask;
	hosts = ~mask - 1; /* without network and broadcast address */
	start = random_below(hosts);
	for (uint32_t i = 0; i < hosts && i < IP_TRIES; i++) {
		uint32_t ip = base + 1 + (uint32_t)(((uint64_t)start + i) % hosts);

		if (ip == network->gateway || ip_taken(leases, record, network->name, ip))
			continue;
		*ret_ip = ip;
		return 0;
	}
	return -ENOSPC;
}
