/* SPDX-License-Identifier: Apache-2.0
 * Runs: tests. Host uids: never twice before all others had their turn, across restarts, and never from a file that
 * somebody else prepared (KERNEL 3 rows 6, 11, 12; ATTACKS D01, D17). */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "broker/daemon/ids.h"
#include "fixture.h"

#define RANGE (UINT32_C(1) << 27) /* the default: 0x70000000-0x77FFFFFF */
#define MANY 1000000u

struct room {
	char dir[64];
	int fd;
};

static int open_room(void **state)
{
	struct room *room = calloc(1, sizeof(*room));

	strcpy(room->dir, "/tmp/postern-ids-XXXXXX");
	assert_non_null(mkdtemp(room->dir));
	room->fd = open(room->dir, O_PATH | O_DIRECTORY);
	*state = room;
	return 0;
}

static int close_room(void **state)
{
	struct room *room = *state;

	(void)unlinkat(room->fd, "ids", 0);
	(void)unlinkat(room->fd, "ids", AT_REMOVEDIR);
	(void)unlinkat(room->fd, "other", 0);
	(void)close(room->fd);
	assert_return_code(rmdir(room->dir), errno);
	free(room);
	return 0;
}

static bool nobody_lives(const void *context, uint32_t uid)
{
	(void)context;
	(void)uid;
	return false;
}

static bool lives(const void *context, uint32_t uid)
{
	return *(const uint32_t *)context == uid;
}

static int take(struct ids *ids, uint64_t now, uint32_t *uid)
{
	uint64_t ticket;

	return ids_take(ids, now, nobody_lives, NULL, &ticket, uid);
}

static void distinct_over_a_million_and_a_restart(void **state)
{
	struct room *room = *state;
	uint8_t *seen = calloc(RANGE / 8, 1);
	uint64_t ticket, last = 0;
	struct ids ids;
	uint32_t uid;

	assert_int_equal(ids_open(room->fd, FIRST_UID, RANGE, 0, &ids), 0);
	for (unsigned i = 0; i < MANY; i++) {
		if (i % 100000 == 50000) { /* as if killed: nothing is written at the end */
			ids_close(&ids);
			assert_int_equal(ids_open(room->fd, FIRST_UID, RANGE, 0, &ids), 0);
		}
		assert_int_equal(ids_take(&ids, 0, nobody_lives, NULL, &ticket, &uid), 0);
		assert_true(uid >= FIRST_UID && uid - FIRST_UID < RANGE);
		assert_true(ticket > last);
		last = ticket;
		uid -= FIRST_UID;
		assert_false(seen[uid / 8] >> (uid % 8) & 1);
		seen[uid / 8] |= (uint8_t)(1u << (uid % 8));
	}
	ids_close(&ids);
	free(seen);
}

static void permutation_of_any_range(void **state)
{
	static const uint32_t counts[] = { 1, 2, 3, 5, 16, 17, 1000, 65536, 65537 };
	uint8_t key[16] = { 1, 2, 3 };

	(void)state;
	for (size_t c = 0; c < sizeof(counts) / sizeof(counts[0]); c++) {
		bool *seen = calloc(counts[c], sizeof(*seen));

		for (uint32_t i = 0; i < counts[c]; i++) {
			uint32_t value = ids_permute(key, counts[c], i);

			assert_true(value < counts[c]);
			assert_false(seen[value]);
			seen[value] = true;
		}
		free(seen);
	}
	/* At the far end of what 32 bits hold (D16). */
	assert_true(ids_permute(key, UINT32_MAX, UINT32_MAX - 1) < UINT32_MAX);
}

static void two_keys_differ(void **state)
{
	uint8_t one[16] = { 1 }, other[16] = { 2 };
	unsigned same = 0;

	(void)state;
	for (uint32_t i = 0; i < 1000; i++)
		same += ids_permute(one, RANGE, i) == ids_permute(other, RANGE, i);
	assert_true(same < 3);
}

static void second_round_skips_what_lives_rests_or_is_burnt(void **state)
{
	struct room *room = *state;
	uint32_t uids[8], uid, alive;
	uint64_t ticket, now = IDS_REST_NS;
	struct ids ids;

	assert_int_equal(ids_open(room->fd, FIRST_UID, 8, now, &ids), 0);
	for (int i = 0; i < 8; i++)
		assert_int_equal(take(&ids, now, &uids[i]), 0);
	alive = uids[0];
	ids_rest(&ids, uids[1], true, now); /* burnt (K06) */
	for (int i = 2; i < 8; i++)
		ids_rest(&ids, uids[i], false, now);
	/* All are burnt, resting or alive. */
	assert_int_equal(ids_take(&ids, now + 1, lives, &alive, &ticket, &uid), -ENOSPC);
	/* A restart forgets nothing of it (K12). */
	ids_close(&ids);
	assert_int_equal(ids_open(room->fd, FIRST_UID, 8, now + 2, &ids), 0);
	assert_int_equal(ids_take(&ids, now + 2, lives, &alive, &ticket, &uid), -ENOSPC);
	for (int i = 0; i < 100; i++) {
		assert_int_equal(ids_take(&ids, now + IDS_REST_NS + 3, lives, &alive, &ticket, &uid), 0);
		assert_int_not_equal(uid, alive);
		assert_int_not_equal(uid, uids[1]);
	}
	ids_close(&ids);
}

static void more_rest_than_can_be_remembered(void **state)
{
	struct room *room = *state;
	uint64_t now = IDS_REST_NS;
	struct ids ids;
	uint32_t uid;

	/* Forgetting one that rests stops all reuse until it has rested, but not the first round. */
	assert_int_equal(ids_open(room->fd, FIRST_UID, IDS_QUARANTINE + 2, now, &ids), 0);
	for (uint32_t i = 0; i < IDS_QUARANTINE + 2; i++) {
		assert_int_equal(take(&ids, now, &uid), 0);
		ids_rest(&ids, uid, false, now);
	}
	assert_int_equal(take(&ids, now + 1, &uid), -ENOSPC);
	assert_int_equal(take(&ids, now + IDS_REST_NS + 1, &uid), 0);
	ids_close(&ids);
}

static void burnt_ones_are_never_forgotten(void **state)
{
	struct room *room = *state;
	uint64_t now = IDS_REST_NS;
	struct ids ids;
	uint32_t uid;

	assert_int_equal(ids_open(room->fd, FIRST_UID, IDS_QUARANTINE + 2, now, &ids), 0);
	for (uint32_t i = 0; i < IDS_QUARANTINE + 2; i++) {
		assert_int_equal(take(&ids, now, &uid), 0);
		ids_rest(&ids, uid, i <= IDS_QUARANTINE, now);
	}
	/* One more burnt than there is room for: this was the last round of this file. */
	assert_int_equal(take(&ids, now + 1000 * IDS_REST_NS, &uid), -ENOSPC);
	ids_close(&ids);
	assert_int_equal(ids_open(room->fd, FIRST_UID, IDS_QUARANTINE + 2, now, &ids), 0);
	assert_int_equal(take(&ids, now + 1000 * IDS_REST_NS, &uid), -ENOSPC);
	ids_close(&ids);
}

static void another_range_looks_at_what_lives(void **state)
{
	struct room *room = *state;
	uint64_t ticket, before;
	uint32_t uid, alive = FIRST_UID + 100;
	struct ids ids;

	assert_int_equal(ids_open(room->fd, FIRST_UID, 256, 0, &ids), 0);
	assert_int_equal(ids_take(&ids, 0, nobody_lives, NULL, &before, &uid), 0);
	ids_close(&ids);
	assert_int_equal(ids_open(room->fd, FIRST_UID + 100, 2, 0, &ids), 0);
	for (int i = 0; i < 10; i++) {
		assert_int_equal(ids_take(&ids, 0, lives, &alive, &ticket, &uid), 0);
		assert_int_equal(uid, FIRST_UID + 101);
		assert_true(ticket > before);
	}
	ids_close(&ids);
}

static void a_lost_file_does_not_give_what_lives_again(void **state)
{
	struct room *room = *state;
	uint32_t uid, alive = FIRST_UID;
	uint64_t ticket;
	struct ids ids;

	assert_int_equal(ids_open(room->fd, FIRST_UID, 2, 0, &ids), 0);
	assert_int_equal(ids_saw(&ids, 5000), 0);
	for (int i = 0; i < 10; i++) {
		assert_int_equal(ids_take(&ids, 0, lives, &alive, &ticket, &uid), 0);
		assert_int_equal(uid, FIRST_UID + 1);
		assert_true(ticket > 5000);
	}
	ids_close(&ids);
}

static void D01_planted_files_are_refused(void **state)
{
	struct room *room = *state;
	struct ids ids;
	struct stat st;
	int fd;

	/* symlink: the target stays as it was */
	fd = openat(room->fd, "other", O_CREAT | O_WRONLY, 0600);
	assert_true(fd >= 0);
	(void)close(fd);
	assert_return_code(symlinkat("other", room->fd, "ids"), errno);
	assert_int_equal(ids_open(room->fd, FIRST_UID, 8, 0, &ids), -EUCLEAN);
	assert_return_code(fstatat(room->fd, "other", &st, 0), errno);
	assert_int_equal(st.st_size, 0);
	(void)unlinkat(room->fd, "ids", 0);
	/* hard link */
	assert_return_code(linkat(room->fd, "other", room->fd, "ids", 0), errno);
	assert_int_equal(ids_open(room->fd, FIRST_UID, 8, 0, &ids), -EUCLEAN);
	(void)unlinkat(room->fd, "ids", 0);
	/* FIFO, must not block either */
	assert_return_code(mkfifoat(room->fd, "ids", 0600), errno);
	assert_int_equal(ids_open(room->fd, FIRST_UID, 8, 0, &ids), -EUCLEAN);
	(void)unlinkat(room->fd, "ids", 0);
	/* directory */
	assert_return_code(mkdirat(room->fd, "ids", 0700), errno);
	assert_int_equal(ids_open(room->fd, FIRST_UID, 8, 0, &ids), -EUCLEAN);
	(void)unlinkat(room->fd, "ids", AT_REMOVEDIR);
	/* readable by others: they would know the ids to come */
	fd = openat(room->fd, "ids", O_CREAT | O_WRONLY, 0600);
	assert_return_code(fchmod(fd, 0640), errno);
	(void)close(fd);
	assert_int_equal(ids_open(room->fd, FIRST_UID, 8, 0, &ids), -EUCLEAN);
}

static void a_damaged_file_is_refused(void **state)
{
	struct room *room = *state;
	struct ids ids;
	uint32_t uid;
	int fd;

	assert_int_equal(ids_open(room->fd, FIRST_UID, 8, 0, &ids), 0);
	assert_int_equal(take(&ids, 0, &uid), 0);
	ids_close(&ids);
	fd = openat(room->fd, "ids", O_WRONLY);
	assert_int_equal(pwrite(fd, "x", 1, 0), 1);
	assert_int_equal(ids_open(room->fd, FIRST_UID, 8, 0, &ids), -EUCLEAN);
	assert_return_code(ftruncate(fd, 10), errno);
	assert_int_equal(ids_open(room->fd, FIRST_UID, 8, 0, &ids), -EUCLEAN);
	(void)close(fd);
}

static void no_id_that_is_not_on_file(void **state)
{
	struct room *room = *state;
	uint32_t uid;
	struct ids ids;
	int real;

	assert_int_equal(ids_open(room->fd, FIRST_UID, 8, 0, &ids), 0);
	real = ids.fd;
	ids.fd = open("/dev/full", O_RDWR);
	assert_int_equal(take(&ids, 0, &uid), -ENOSPC);
	(void)close(ids.fd);
	ids.fd = real;
	assert_int_equal(ids.state.issued, 0);
	assert_int_equal(take(&ids, 0, &uid), 0);
	ids_close(&ids);
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, open_room, close_room)
	const struct CMUnitTest tests[] = {
		T(distinct_over_a_million_and_a_restart),
		T(permutation_of_any_range),
		T(two_keys_differ),
		T(second_round_skips_what_lives_rests_or_is_burnt),
		T(more_rest_than_can_be_remembered),
		T(burnt_ones_are_never_forgotten),
		T(another_range_looks_at_what_lives),
		T(a_lost_file_does_not_give_what_lives_again),
		T(D01_planted_files_are_refused),
		T(a_damaged_file_is_refused),
		T(no_id_that_is_not_on_file),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
