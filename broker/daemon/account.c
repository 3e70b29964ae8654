/* SPDX-License-Identifier: Apache-2.0
 * Runs: broker (no privilege). */
#include "account.h"

#include <string.h>

void account_reset(struct account *account, uid_t uid, uint64_t now)
{
	memset(account, 0, sizeof(*account));
	account->used = true;
	account->uid = uid;
	account->starts_slot = now / RATE_SLOT_NS;
	account->audit_tokens = AUDIT_BURST;
	account->audit_refilled = now;
}

/* Not before its ration of lines is full again: two users in turn would get each other a fresh one otherwise. */
static bool idle(struct account *account, uint64_t now)
{
	bool full = account->audit_tokens == AUDIT_BURST || now - account->audit_refilled >= AUDIT_BURST * AUDIT_REFILL_NS;

	return account->sessions == 0 && full && account->usage.sandboxes == 0 &&
	       account_usage(account, now)->starts_last_minute == 0;
}

struct account *account_of(struct accounts *accounts, uid_t uid, uint64_t now)
{
	struct account *spare = NULL;

	for (size_t i = 0; i < accounts->high; i++) {
		struct account *account = &accounts->table[i];

		if (account->used && account->uid == uid)
			return account;
		if (spare == NULL && (!account->used || idle(account, now)))
			spare = account;
	}
	if (spare == NULL && accounts->high < ACCOUNTS_MAX)
		spare = &accounts->table[accounts->high++];
	if (spare != NULL)
		account_reset(spare, uid, now);
	return spare;
}

const struct policy_usage *account_usage(struct account *account, uint64_t now)
{
	uint64_t slot = now / RATE_SLOT_NS;
	uint32_t sum = 0;

	/* Empty the slots that time has passed over since the last look, at most all of them. */
	for (unsigned n = 0; account->starts_slot < slot && n < RATE_SLOTS; n++)
		account->starts[++account->starts_slot % RATE_SLOTS] = 0;
	account->starts_slot = slot;
	for (unsigned i = 0; i < RATE_SLOTS; i++)
		sum += account->starts[i];
	account->usage.starts_last_minute = sum;
	return &account->usage;
}

void account_started(struct account *account, uint64_t now)
{
	(void)account_usage(account, now);
	account->starts[account->starts_slot % RATE_SLOTS]++;
}

void account_charge(struct account *account, int sign, uint32_t taps, uint32_t vcpus, uint32_t memory_mib)
{
	if (sign > 0) {
		account->usage.sandboxes++;
		account->usage.taps += taps;
		account->usage.vcpus += vcpus;
		account->usage.memory_mib += memory_mib;
	} else {
		account->usage.sandboxes--;
		account->usage.taps -= taps;
		account->usage.vcpus -= vcpus;
		account->usage.memory_mib -= memory_mib;
	}
}

bool account_may_log(struct account *account, uint64_t now, uint32_t *ret_suppressed)
{
	uint64_t refill = (now - account->audit_refilled) / AUDIT_REFILL_NS;

	if (refill > 0) {
		account->audit_tokens = refill >= AUDIT_BURST ? AUDIT_BURST : account->audit_tokens + (uint32_t)refill;
		if (account->audit_tokens > AUDIT_BURST)
			account->audit_tokens = AUDIT_BURST;
		account->audit_refilled += refill * AUDIT_REFILL_NS;
	}
	if (account->audit_tokens == 0) {
		account->audit_suppressed++;
		return false;
	}
	account->audit_tokens--;
	*ret_suppressed = account->audit_suppressed;
	account->audit_suppressed = 0;
	return true;
}
