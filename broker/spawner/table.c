/* SPDX-License-Identifier: Apache-2.0
 * Runs: spawner (capabilities of P only). */
#include "spawner.h"

#include <errno.h>
#include <string.h>

/* The table comes from root through a sealed memfd (map_table() has looked); this is for the day when the two programs
 * differ in version. */
int table_check(const void *bytes, size_t size)
{
	const struct spawn_table *t = bytes;

	if (size != sizeof(*t) || t->magic != TABLE_MAGIC || t->size != sizeof(*t))
		return -EINVAL;
	if (t->hypervisor_count > TABLE_HYPERVISORS || t->network_count > TABLE_NETWORKS || t->bind_count > TABLE_BINDS)
		return -EINVAL;
	/* uid 0 of the host can never be in the range: it would be root's files for the sandbox. */
	if (t->first_uid == 0 || t->uid_count == 0 || t->first_uid > UINT32_MAX - t->uid_count || t->kvm_gid == 0)
		return -EINVAL;
	if (t->direct_mode > 1 || t->label > 1)
		return -EINVAL;
	for (uint32_t i = 0; i < t->hypervisor_count; i++)
		if (!wire_name_ok(t->hypervisors[i].name, sizeof(t->hypervisors[i].name)) ||
		    t->hypervisors[i].path[0] != '/' ||
		    strnlen(t->hypervisors[i].path, sizeof(t->hypervisors[i].path)) == sizeof(t->hypervisors[i].path))
			return -EINVAL;
	for (uint32_t i = 0; i < t->network_count; i++)
		if (!wire_name_ok(t->networks[i].name, sizeof(t->networks[i].name)) || t->networks[i].prefix > 32)
			return -EINVAL;
	if (strnlen(t->cgroup, sizeof(t->cgroup)) == sizeof(t->cgroup))
		return -EINVAL;
	return 0;
}
