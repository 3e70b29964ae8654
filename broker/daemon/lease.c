/* SPDX-License-Identifier: Apache-2.0
 * Runs: broker (no privilege). */
#include "lease.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "common/cleanup.h"

int leases_init(struct leases *leases, size_t capacity)
{
	memset(leases, 0, sizeof(*leases));
	leases->table = calloc(capacity, sizeof(*leases->table));
	leases->records = calloc(capacity, sizeof(*leases->records));
	if (leases->table == NULL || leases->records == NULL) {
		leases_free(leases);
		return -ENOMEM;
	}
	leases->capacity = capacity;
	return 0;
}

void leases_free(struct leases *leases)
{
	for (size_t i = 0; leases->table != NULL && i < leases->high; i++) {
		fd_close(&leases->table[i].pidfd);
		fd_close(&leases->table[i].keeper);
	}
	free(leases->table);
	free(leases->records);
	memset(leases, 0, sizeof(*leases));
}

struct lease *lease_slot(struct leases *leases)
{
	for (size_t i = 0; i < leases->capacity; i++) {
		struct lease *lease = &leases->table[i];

		if (lease->state != LEASE_FREE)
			continue;
		memset(lease, 0, sizeof(*lease));
		lease->pidfd = lease->keeper = lease->session = -1;
		lease->pair = LABEL_NONE;
		lease->record = &leases->records[i];
		memset(lease->record, 0, sizeof(*lease->record));
		if (leases->high <= i)
			leases->high = i + 1;
		return lease;
	}
	return NULL;
}

void lease_enter(struct leases *leases, struct accounts *accounts, struct lease *lease, enum lease_state state, uint64_t now)
{
	const struct wire_lease *record = lease->record;
	struct account *account = account_of(accounts, record->owner, now);

	lease->state = state;
	lease->id = record->id;
	lease->uid = record->uid;
	lease->cid = record->cid;
	lease->owner = record->owner;
	lease->taps = 0;
	for (size_t i = 0; i < record->nic_count; i++)
		lease->taps += record->nics[i].queues;
	leases->count++;
	/* No account: more users than the table has, possible only for adopted leases. They count in all. */
	if (account != NULL)
		account_charge(account, 1, lease->taps, record->vcpus, record->memory_mib);
	account_charge(&accounts->all, 1, lease->taps, record->vcpus, record->memory_mib);
}

void lease_leave(struct leases *leases, struct accounts *accounts, struct label_pool *labels, struct lease *lease,
		 bool keep_label, uint64_t now)
{
	const struct wire_lease *record = lease->record;
	struct account *account = account_of(accounts, lease->owner, now);

	if (account != NULL && account->usage.sandboxes > 0)
		account_charge(account, -1, lease->taps, record->vcpus, record->memory_mib);
	account_charge(&accounts->all, -1, lease->taps, record->vcpus, record->memory_mib);
	if (!keep_label)
		label_release(labels, lease->pair);
	fd_close(&lease->pidfd);
	fd_close(&lease->keeper);
	lease->state = LEASE_FREE;
	leases->count--;
	while (leases->high > 0 && leases->table[leases->high - 1].state == LEASE_FREE)
		leases->high--;
}

struct lease *lease_by_id(const struct leases *leases, uint64_t id)
{
	for (size_t i = 0; i < leases->high; i++)
		if (leases->table[i].state != LEASE_FREE && leases->table[i].id == id)
			return &leases->table[i];
	return NULL;
}

/* Root may see every lease; to everybody else those of others do not exist. */
static bool visible(const struct lease *lease, uid_t asker)
{
	return lease->state != LEASE_FREE && (lease->owner == asker || asker == 0);
}

struct lease *lease_by_uuid(const struct leases *leases, const uint8_t uuid[16], uid_t owner)
{
	struct lease *best = NULL;

	/* A uuid is the client's choice, so two users may have the same one. For root the older lease is meant. */
	for (size_t i = 0; i < leases->high; i++) {
		struct lease *lease = &leases->table[i];

		if (visible(lease, owner) && memcmp(lease->record->uuid, uuid, 16) == 0 &&
		    (best == NULL || lease->id < best->id))
			best = lease;
	}
	return best;
}

struct lease *lease_next(const struct leases *leases, uint64_t after, uid_t owner)
{
	struct lease *best = NULL;

	for (size_t i = 0; i < leases->high; i++) {
		struct lease *lease = &leases->table[i];
		bool started = lease->state == LEASE_RUNNING || lease->state == LEASE_STOPPING;

		if (started && visible(lease, owner) && lease->id > after && (best == NULL || lease->id < best->id))
			best = lease;
	}
	return best;
}

bool lease_has_uid(const void *context, uint32_t uid)
{
	const struct leases *leases = context;

	for (size_t i = 0; i < leases->high; i++)
		if (leases->table[i].state != LEASE_FREE && leases->table[i].uid == uid)
			return true;
	return false;
}

bool lease_has_cid(const void *context, uint32_t cid)
{
	const struct leases *leases = context;

	for (size_t i = 0; i < leases->high; i++)
		if (leases->table[i].state != LEASE_FREE && leases->table[i].cid == cid)
			return true;
	return false;
}
