/* SPDX-License-Identifier: Apache-2.0
 * Runs: tests. Leases, accounts and addresses: who sees what, what is counted, what is unique. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "broker/daemon/nic.h"
#include "fixture.h"

#define SECOND UINT64_C(1000000000)

struct room {
	struct leases leases;
	struct accounts accounts;
	struct label_pool labels;
};

static int open_room(void **state)
{
	struct room *room = calloc(1, sizeof(*room));

	room->labels.categories = LABEL_CATEGORIES;
	account_reset(&room->accounts.all, (uid_t)-1, 0);
	assert_int_equal(leases_init(&room->leases, LEASES), 0);
	*state = room;
	return 0;
}

static int close_room(void **state)
{
	struct room *room = *state;

	leases_free(&room->leases);
	free(room);
	return 0;
}

static struct lease *enter(struct room *room, uint64_t id, uid_t owner, enum lease_state state)
{
	struct lease *lease = lease_slot(&room->leases);

	assert_non_null(lease);
	lease->record->id = id;
	lease->record->uid = (uint32_t)(FIRST_UID + id);
	lease->record->owner = owner;
	lease->record->vcpus = 2;
	lease->record->memory_mib = 128;
	lease->record->uuid[0] = 1;
	lease->record->nic_count = 1;
	lease->record->nics[0].queues = 3;
	lease_enter(&room->leases, &room->accounts, lease, state, 0);
	return lease;
}

static void table_is_bounded_and_slots_come_back(void **state)
{
	struct room *room = *state;
	struct lease *leases[LEASES];

	for (uint64_t i = 0; i < LEASES; i++)
		leases[i] = enter(room, i + 1, 1000, LEASE_RUNNING);
	assert_null(lease_slot(&room->leases));
	lease_leave(&room->leases, &room->accounts, &room->labels, leases[3], false, 0);
	assert_ptr_equal(lease_slot(&room->leases), leases[3]);
	assert_null(lease_by_id(&room->leases, 4));
	assert_false(lease_has_uid(&room->leases, FIRST_UID + 4));
	assert_true(lease_has_uid(&room->leases, FIRST_UID + 5));
}

static void usage_is_given_back(void **state)
{
	struct room *room = *state;
	struct account *account = account_of(&room->accounts, 1000, 0);
	struct lease *a = enter(room, 1, 1000, LEASE_STARTING), *b = enter(room, 2, 1001, LEASE_RUNNING);

	assert_int_equal(account->usage.sandboxes, 1);
	assert_int_equal(account->usage.taps, 3);
	assert_int_equal(account->usage.vcpus, 2);
	assert_int_equal(account->usage.memory_mib, 128);
	assert_int_equal(room->accounts.all.usage.sandboxes, 2);
	lease_leave(&room->leases, &room->accounts, &room->labels, a, false, 0);
	lease_leave(&room->leases, &room->accounts, &room->labels, b, false, 0);
	assert_int_equal(account->usage.sandboxes + account->usage.taps + account->usage.vcpus + account->usage.memory_mib,
			 0);
	assert_int_equal(room->accounts.all.usage.sandboxes + room->accounts.all.usage.taps, 0);
}

static void D19_others_leases_do_not_exist(void **state)
{
	struct room *room = *state;
	uint8_t uuid[16] = { 1 };
	struct lease *mine = enter(room, 7, 1000, LEASE_RUNNING), *other = enter(room, 5, 1001, LEASE_RUNNING);

	/* the same uuid twice: each sees his own, root the older */
	assert_ptr_equal(lease_by_uuid(&room->leases, uuid, 1000), mine);
	assert_ptr_equal(lease_by_uuid(&room->leases, uuid, 1001), other);
	assert_ptr_equal(lease_by_uuid(&room->leases, uuid, 0), other);
	assert_null(lease_by_uuid(&room->leases, uuid, 1002));
	assert_ptr_equal(lease_next(&room->leases, 0, 1000), mine);
	assert_null(lease_next(&room->leases, 7, 1000));
	assert_ptr_equal(lease_next(&room->leases, 0, 0), other);
	assert_ptr_equal(lease_next(&room->leases, 5, 0), mine);
	assert_null(lease_next(&room->leases, UINT64_MAX, 0));
}

static void next_shows_only_what_has_started(void **state)
{
	struct room *room = *state;
	struct lease *stopping;

	(void)enter(room, 1, 1000, LEASE_STARTING);
	(void)enter(room, 2, 1000, LEASE_ABANDONED);
	stopping = enter(room, 3, 1000, LEASE_STOPPING);
	assert_ptr_equal(lease_next(&room->leases, 0, 1000), stopping);
}

static void start_rate_counts_a_minute(void **state)
{
	struct account account;

	(void)state;
	account_reset(&account, 1000, 100 * SECOND);
	for (int i = 0; i < 5; i++)
		account_started(&account, 100 * SECOND);
	account_started(&account, 130 * SECOND);
	assert_int_equal(account_usage(&account, 130 * SECOND)->starts_last_minute, 6);
	assert_int_equal(account_usage(&account, 159 * SECOND)->starts_last_minute, 6);
	assert_int_equal(account_usage(&account, 165 * SECOND)->starts_last_minute, 1);
	assert_int_equal(account_usage(&account, 195 * SECOND)->starts_last_minute, 0);
	account_started(&account, 10000 * SECOND);
	assert_int_equal(account_usage(&account, 10000 * SECOND)->starts_last_minute, 1);
}

static void K15_accounts_are_bounded_and_reused(void **state)
{
	struct room *room = *state;
	struct account *first = account_of(&room->accounts, 5000, 0);

	first->sessions = 1;
	for (uid_t uid = 5001; uid < 5000 + 3 * ACCOUNTS_MAX; uid++) /* nothing keeps these */
		assert_non_null(account_of(&room->accounts, uid, 0));
	assert_int_equal(room->accounts.high, 2);
	for (uid_t uid = 5001; uid < 5000 + ACCOUNTS_MAX; uid++)
		account_of(&room->accounts, uid, 0)->sessions = 1;
	assert_null(account_of(&room->accounts, 4999, 0));
	assert_ptr_equal(account_of(&room->accounts, 5000, 0), first);
	first->sessions = 0;
	account_started(first, 0);
	assert_null(account_of(&room->accounts, 4999, SECOND)); /* its starts still count: no fresh minute by coming anew */
	assert_ptr_equal(account_of(&room->accounts, 4999, 70 * SECOND), first);
}

static void K15_two_users_in_turn_get_no_fresh_ration(void **state)
{
	struct room *room = *state;
	uint32_t lines = 0, suppressed = 0;

	for (int i = 0; i < 1000; i++)
		lines += account_may_log(account_of(&room->accounts, 5000 + (uid_t)(i % 2), 0), 0, &suppressed);
	assert_int_equal(lines, 2 * AUDIT_BURST);
	/* once it would be full anyway, the place is anybody's */
	assert_int_equal(room->accounts.high, 2);
	(void)account_of(&room->accounts, 5002, AUDIT_BURST * AUDIT_REFILL_NS);
	assert_int_equal(room->accounts.high, 2);
}

static void K15_refusals_cannot_fill_the_log(void **state)
{
	struct account account;
	uint32_t suppressed = 0, lines = 0;

	(void)state;
	account_reset(&account, 1000, 0);
	for (int i = 0; i < 100000; i++)
		lines += account_may_log(&account, SECOND / 2, &suppressed);
	assert_int_equal(lines, AUDIT_BURST);
	assert_true(account_may_log(&account, 2 * SECOND, &suppressed));
	assert_int_equal(suppressed, 100000 - AUDIT_BURST);
}

static void macs_are_local_unicast_and_unique(void **state)
{
	struct room *room = *state;
	struct wire_lease record = { 0 };

	for (int i = 0; i < 1000; i++) {
		nic_mac(&room->leases, &record, record.nics[0].mac);
		assert_int_equal(record.nics[0].mac[0] & 3, 2);
	}
}

static void D20_addresses_of_a_network(void **state)
{
	struct policy_network network = { .name = "lan",
					  .gateway = 0x0a090001,
					  .prefix = 29 }; /* .1 is the gateway, .2-.6 */
	struct room *room = *state;
	struct wire_lease other = { 0 };
	uint32_t ip, seen = 0;

	for (uint64_t i = 1; i <= 5; i++) {
		struct lease *lease = enter(room, i, 1000, LEASE_RUNNING);

		strcpy(lease->record->nics[0].network, "lan");
		lease->record->nics[0].ip = 0; /* its own NIC must not be in the way */
		assert_int_equal(nic_ip(&room->leases, &other, &network, &ip), 0);
		assert_true(ip > 0x0a090001 && ip < 0x0a090007);
		assert_false(seen & 1u << (ip & 7));
		seen |= 1u << (ip & 7);
		lease->record->nics[0].ip = ip;
	}
	assert_int_equal(nic_ip(&room->leases, &other, &network, &ip), -ENOSPC);
	strcpy(network.name, "dmz"); /* the same address in another network is another address */
	assert_int_equal(nic_ip(&room->leases, &other, &network, &ip), 0);
	lease_leave(&room->leases, &room->accounts, &room->labels, &room->leases.table[2], false, 0);
	strcpy(network.name, "lan");
	assert_int_equal(nic_ip(&room->leases, &other, &network, &ip), 0);
	network.prefix = 31;
	assert_int_equal(nic_ip(&room->leases, &other, &network, &ip), -EINVAL);
	network.prefix = 24;
	network.gateway = 0;
	assert_int_equal(nic_ip(&room->leases, &other, &network, &ip), -EINVAL);
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, open_room, close_room)
	const struct CMUnitTest tests[] = {
		T(table_is_bounded_and_slots_come_back),
		T(usage_is_given_back),
		T(D19_others_leases_do_not_exist),
		T(next_shows_only_what_has_started),
		T(start_rate_counts_a_minute),
		T(K15_accounts_are_bounded_and_reused),
		T(K15_two_users_in_turn_get_no_fresh_ration),
		T(K15_refusals_cannot_fill_the_log),
		T(macs_are_local_unicast_and_unique),
		T(D20_addresses_of_a_network),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
