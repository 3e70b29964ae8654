/* SPDX-License-Identifier: Apache-2.0
 * Runs: broker (no privilege). The table of leases: every sandbox that lives, starts or ends.
 *
 * State by state:
 *   FREE       the slot is empty
 *   STARTING   S_START is with the spawner; a session waits for the answer
 *   ABANDONED  the same, but nobody waits any more: killed as soon as the spawner says that it lives, forgotten with its
 *              uid burnt when the spawner never says anything
 *   RUNNING    the record is complete, pidfd and keeper are held; never changes but to STOPPING
 *   STOPPING   S_KILL was asked for; ends with S_GONE like RUNNING */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "account.h"
#include "common/wire.h"
#include "ids.h"
#include "label.h"

#define LEASES_MAX 2048 /* as many as the spawner has room for */

enum lease_state { LEASE_FREE, LEASE_STARTING, LEASE_ABANDONED, LEASE_RUNNING, LEASE_STOPPING };

/* Small, so that a walk over all of them touches few cache lines; the record is apart. */
struct lease {
	enum lease_state state;
	bool announce; /* S_KNOWN for this one is still to be sent on the present link */
	bool kill;     /* S_KILL is still to be sent */
	uint32_t pair; /* label pair, or LABEL_NONE */
	uint64_t id;
	uint32_t uid, cid;
	uid_t owner;
	uint32_t taps;     /* queue pairs, as charged */
	int pidfd, keeper; /* -1 until RUNNING */
	int session;       /* index of the waiting session while STARTING, else -1 */
	uint64_t deadline; /* while ABANDONED: when to forget it */
	struct wire_lease *record;
};

struct leases {
	size_t capacity, high, count; /* no lease in use at or behind high */
	struct lease *table;
	struct wire_lease *records;
};

/* Allocate the table, once. -ENOMEM. */
int leases_init(struct leases *leases, size_t capacity);
void leases_free(struct leases *leases); /* closes what the leases hold; for tests */

/* An empty slot, still FREE, with an all-zero record; NULL when full. Becomes real with lease_enter(). */
struct lease *lease_slot(struct leases *leases);

/* The slot's record is filled: take it into the table and the accounts of its owner and of all. */
void lease_enter(struct leases *leases, struct accounts *accounts, struct lease *lease, enum lease_state state,
		 uint64_t now);

/* End of a lease: give back what it was charged, its label (unless keep_label) and close its descriptors. The caller
 * says ids_rest() what to do with the uid. */
void lease_leave(struct leases *leases, struct accounts *accounts, struct label_pool *labels, struct lease *lease,
		 bool keep_label, uint64_t now);

struct lease *lease_by_id(const struct leases *leases, uint64_t id);

/* Live lease with this uuid that owner may know of: his own, or anybody's for root (who sees the oldest). */
struct lease *lease_by_uuid(const struct leases *leases, const uint8_t uuid[16], uid_t owner);

/* The lease with the smallest id above after that owner may know of and that has been started. */
struct lease *lease_next(const struct leases *leases, uint64_t after, uid_t owner);

/* For ids_take() and vhost_vsock(); context is a struct leases. */
bool lease_has_uid(const void *context, uint32_t uid);
bool lease_has_cid(const void *context, uint32_t cid);
