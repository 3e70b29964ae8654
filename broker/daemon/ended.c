/* SPDX-License-Identifier: Apache-2.0
 * Runs: broker (no privilege). */
#include "ended.h"

#include <string.h>
#include <time.h>

void ended_add(struct ended_ring *ring, const struct wire_lease *record, const struct wire_gone *gone)
{
	struct ended *oldest = &ring->table[0], *own = NULL;
	uint32_t count = 0;
	struct timespec ts;

	for (size_t i = 0; i < ENDED_MAX; i++) {
		struct ended *entry = &ring->table[i];

		if (entry->number < oldest->number)
			oldest = entry;
		if (entry->number == 0 || entry->owner != record->owner)
			continue;
		count++;
		if (own == NULL || entry->number < own->number)
			own = entry;
	}
	if (count >= ENDED_USER_MAX)
		oldest = own;
	(void)clock_gettime(CLOCK_REALTIME, &ts);
	oldest->number = ++ring->last;
	oldest->owner = record->owner;
	memcpy(oldest->uuid, record->uuid, sizeof(oldest->uuid));
	oldest->what = (struct wire_ended){ .status = gone->status,
					    .clean = gone->clean,
					    .oom = gone->oom,
					    .memory_mib = record->limits[0].memory_mib,
					    .ended_ns = (uint64_t)ts.tv_sec * UINT64_C(1000000000) + (uint64_t)ts.tv_nsec };
}

const struct wire_ended *ended_find(const struct ended_ring *ring, const uint8_t uuid[16], uid_t asker)
{
	const struct ended *best = NULL;

	for (size_t i = 0; i < ENDED_MAX; i++) {
		const struct ended *entry = &ring->table[i];

		if (entry->number > (best != NULL ? best->number : 0) && (entry->owner == asker || asker == 0) &&
		    memcmp(entry->uuid, uuid, sizeof(entry->uuid)) == 0)
			best = entry;
	}
	return best != NULL ? &best->what : NULL;
}
