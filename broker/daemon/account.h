/* SPDX-License-Identifier: Apache-2.0
 * Runs: broker (no privilege). What each user has: sessions, sandboxes, recent starts, lines in the audit log. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "policy/policy.h"

#define ACCOUNTS_MAX 4096
#define RATE_SLOTS 16 /* 16 slots of 4 s: the last 60 to 64 s */
#define RATE_SLOT_NS (4 * UINT64_C(1000000000))
#define AUDIT_BURST 16u                      /* refusals logged at once for one user ... */
#define AUDIT_REFILL_NS UINT64_C(1000000000) /* ... and then one a second; the rest is counted */

struct account {
	bool used;
	uid_t uid;
	uint32_t sessions;
	struct policy_usage usage; /* starts_last_minute is brought up to date by account_usage() */
	uint32_t starts[RATE_SLOTS];
	uint64_t starts_slot; /* number of the 4 s slot that was current at the last look */
	uint32_t audit_tokens, audit_suppressed;
	uint64_t audit_refilled;
};

struct accounts {
	struct account all; /* everybody together */
	size_t high;        /* no account behind this index is in use */
	struct account table[ACCOUNTS_MAX];
};

/* Make *account an empty one of uid. */
void account_reset(struct account *account, uid_t uid, uint64_t now);

/* The account of uid, made if need be from one that means nothing any more (no session, no sandbox, no start within the
 * last minute). NULL: the table is full of live ones. */
struct account *account_of(struct accounts *accounts, uid_t uid, uint64_t now);

/* Usage with starts_last_minute as of now. */
const struct policy_usage *account_usage(struct account *account, uint64_t now);

/* One more start, now: counted whether or not it succeeds. */
void account_started(struct account *account, uint64_t now);

/* Add (sign 1) or take back (sign -1) what one lease uses. */
void account_charge(struct account *account, int sign, uint32_t taps, uint32_t vcpus, uint32_t memory_mib);

/* Whether one more line about a refusal of this user may be logged; *ret_suppressed: how many were not since the last. */
bool account_may_log(struct account *account, uint64_t now, uint32_t *ret_suppressed);
