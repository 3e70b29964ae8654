/* SPDX-License-Identifier: Apache-2.0
 * Runs: tests. SELinux categories (ATTACKS D13: libvirt could give one category, which every pair with it dominates). */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "broker/daemon/label.h"
#include "fixture.h"

#define MANY 1000000u
#define ALIVE 4096u

static struct label_pool *new_pool(uint32_t categories)
{
	struct label_pool *pool = calloc(1, sizeof(*pool));

	assert_non_null(pool);
	pool->categories = categories;
	strcpy(pool->own, "system_u:system_r:postern_t:s0");
	return pool;
}

static uint32_t draw(uint32_t *state, uint32_t below) /* xorshift: the same order in each run */
{
	*state ^= *state << 13;
	*state ^= *state >> 17;
	*state ^= *state << 5;
	return *state % below;
}

/* One label dominates another when its set of categories contains the other's. A set of two contains another of two only
 * when they are equal, and sets have one number each: so it is enough that no live pair's number is given out again. */
static void check_pair(uint32_t pair, uint32_t categories, const bool *alive)
{
	uint32_t low, high;

	label_categories(pair, &low, &high);
	assert_true(low < high && high < categories);
	assert_int_equal(low + high * (high - 1) / 2, pair);
	assert_false(alive[pair]);
}

/* As many pairs as there is room for, in waves up to the limit and down again; any of those that live may be the next to
 * end. With a limit above the number of pairs each wave runs into exhaustion. */
static void give_and_take(uint32_t categories, uint32_t limit)
{
	const uint32_t pairs = categories * (categories - 1) / 2;
	struct label_pool *pool = new_pool(categories);
	bool *alive = calloc(LABEL_PAIRS, sizeof(*alive)), *known = calloc(LABEL_PAIRS, sizeof(*known));
	uint32_t *list = calloc(limit, sizeof(*list)), count = 0, taken = 0, reused = 0, refused = 0, seed = 2463534242u,
		 pair;
	bool rising = true;

	while (taken < MANY) {
		/* Three steps forward, one back, and the other way round. */
		if ((draw(&seed, 4) != 0) == rising || count == 0) {
			if (count == limit || label_take(pool, &pair) == -ENOSPC) {
				assert_true(count == limit || count == pairs);
				refused += count == pairs;
				rising = false;
				continue;
			}
			check_pair(pair, categories, alive);
			reused += known[pair];
			alive[pair] = known[pair] = true;
			list[count++] = pair;
			taken++;
		} else {
			uint32_t which = draw(&seed, count);

			label_release(pool, list[which]);
			alive[list[which]] = false;
			list[which] = list[--count];
			rising = rising || count == 0;
		}
		assert_int_equal(pool->used_count, count);
	}
	assert_true(reused > MANY / 4);
	assert_true(limit < pairs ? refused == 0 : refused > 100);
	free(list);
	free(known);
	free(alive);
	free(pool);
}

static void D13_two_distinct_categories_and_no_dominance(void **state)
{
	(void)state;
	give_and_take(LABEL_CATEGORIES, ALIVE);
}

/* The same where nearly every pair is taken, and now and then all are. */
static void D13_no_dominance_at_exhaustion(void **state)
{
	(void)state;
	give_and_take(33, 33 * 32 / 2 + 1);
}

static void D13_numbering_is_one_to_one(void **state)
{
	uint32_t pair = 0, low, high;

	(void)state;
	for (uint32_t b = 1; b < LABEL_CATEGORIES; b++) {
		for (uint32_t a = 0; a < b; a++) {
			label_categories(pair++, &low, &high);
			assert_true(low == a && high == b);
		}
	}
	assert_int_equal(pair, LABEL_PAIRS);
}

static void D13_exhaustion_is_an_error(void **state)
{
	struct label_pool *pool = new_pool(5);
	uint32_t pairs[10], extra;

	(void)state;
	for (int i = 0; i < 10; i++)
		assert_int_equal(label_take(pool, &pairs[i]), 0);
	assert_int_equal(label_take(pool, &extra), -ENOSPC);
	label_release(pool, pairs[3]);
	label_release(pool, pairs[3]); /* twice does nothing */
	assert_int_equal(label_take(pool, &extra), 0);
	assert_int_equal(extra, pairs[3]);
	assert_int_equal(label_take(pool, &extra), -ENOSPC);
	free(pool);
}

static void context_and_back(void **state)
{
	struct label_pool *pool = new_pool(LABEL_CATEGORIES);
	char text[128], tiny[16];
	uint32_t pair;

	(void)state;
	for (int i = 0; i < 1000; i++) {
		assert_int_equal(label_take(pool, &pair), 0);
		assert_int_equal(label_context(pool, LABEL_TYPE_DEFAULT, pair, text, sizeof(text)), 0);
		assert_int_equal(strncmp(text, "system_u:system_r:postern_vmm_t:s0:c", 36), 0);
		/* taken: adopting it again would make two live leases share it */
		assert_int_equal(label_adopt(pool, text), LABEL_NONE);
		label_release(pool, pair);
		assert_int_equal(label_adopt(pool, text), pair);
		assert_int_equal(label_context(pool, LABEL_TYPE_DEFAULT, pair, tiny, sizeof(tiny)), -ENAMETOOLONG);
	}
	free(pool);
}

static void D16_labels_that_are_not_ours(void **state)
{
	static const char *const bad[] = { "",
					   "s0",
					   ":",
					   ":c1",
					   ":c1,",
					   ":c1,c1",
					   ":c2,c1",
					   ":c1,c1024",
					   ":c1,c2 ",
					   ":c1,c2,c3",
					   ":c01,c2",
					   ":c-1,c2",
					   ":c1,c+2",
					   ":c1.c2",
					   ":c1,c4294967298",
					   ":c1,c99999999999999999999" };
	struct label_pool *pool = new_pool(LABEL_CATEGORIES);

	(void)state;
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		assert_int_equal(label_adopt(pool, bad[i]), LABEL_NONE);
	assert_int_equal(pool->used_count, 0);
	free(pool);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(D13_two_distinct_categories_and_no_dominance),
		cmocka_unit_test(D13_no_dominance_at_exhaustion),
		cmocka_unit_test(D13_numbering_is_one_to_one),
		cmocka_unit_test(D13_exhaustion_is_an_error),
		cmocka_unit_test(context_and_back),
		cmocka_unit_test(D16_labels_that_are_not_ours),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
