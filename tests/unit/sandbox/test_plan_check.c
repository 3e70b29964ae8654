/* SPDX-License-Identifier: Apache-2.0
 * Runs: tests. What init accepts as a plan, by table, and that every truncation of a good one is refused. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <errno.h>
#include <string.h>

#include "broker/init/plan_check.h"

static const char words[] = "qemu\0-m\0" "512\0-append\0console=ttyS0 quiet"; /* the literal's NUL ends the last */

static struct wire_plan good(void)
{
	struct wire_plan plan = { .word_count = 5, .word_bytes = sizeof(words), .asset_count = 3 };

	memcpy(plan.words, words, sizeof(words));
	strcpy(plan.assets[0].name, "kernel");
	plan.assets[0].use = 1;
	strcpy(plan.assets[1].name, "disk0");
	plan.assets[1].writable = 1;
	return plan; /* the third has no name: only those that are copied need one */
}

static void accepts(void **state)
{
	struct wire_plan plan = good();
	const char *why = NULL;

	(void)state;
	assert_int_equal(plan_check(&plan, &why), 0);
	assert_null(why);
	plan = (struct wire_plan){ .word_count = 1, .word_bytes = 2, .words = "x" };
	assert_int_equal(plan_check(&plan, &why), 0);
	plan.word_bytes = WIRE_WORDS_MAX; /* one word as long as it gets */
	memset(plan.words, 'x', WIRE_WORDS_MAX - 1);
	plan.words[WIRE_WORDS_MAX - 1] = 0;
	assert_int_equal(plan_check(&plan, &why), 0);
}

static void spoil_count_low(struct wire_plan *p) { p->word_count--; }
static void spoil_count_high(struct wire_plan *p) { p->word_count++; }
static void spoil_bytes_zero(struct wire_plan *p) { p->word_bytes = 0; }
static void spoil_bytes_high(struct wire_plan *p) { p->word_bytes++; }
static void spoil_bytes_beyond(struct wire_plan *p) { p->word_bytes = 65535; }
static void spoil_first_empty(struct wire_plan *p) { p->words[0] = 0; }
static void spoil_no_nul(struct wire_plan *p) { p->words[p->word_bytes - 1] = 'x'; }
static void spoil_behind(struct wire_plan *p) { p->words[WIRE_WORDS_MAX - 1] = 1; }
static void spoil_asset_count(struct wire_plan *p) { p->asset_count = WIRE_ASSETS_MAX + 1; }
static void spoil_asset_unused_name(struct wire_plan *p) { p->assets[3].name[0] = 'a'; }
static void spoil_asset_unused_use(struct wire_plan *p) { p->assets[WIRE_ASSETS_MAX - 1].use = 1; }
static void spoil_asset_unused_writable(struct wire_plan *p) { p->assets[4].writable = 1; }
static void spoil_asset_fewer(struct wire_plan *p) { p->asset_count = 1; }
static void spoil_copy_unnamed(struct wire_plan *p) { p->assets[2].use = 1; }
static void spoil_copy_writable(struct wire_plan *p) { p->assets[0].writable = 1; }
static void spoil_use(struct wire_plan *p) { p->assets[0].use = 2; }
static void spoil_writable(struct wire_plan *p) { p->assets[1].writable = 2; }
static void spoil_same_name(struct wire_plan *p) { strcpy(p->assets[2].name, "kernel"); }
static void spoil_slash(struct wire_plan *p) { strcpy(p->assets[0].name, "../x"); }
static void spoil_slash_inside(struct wire_plan *p) { strcpy(p->assets[0].name, "a/b"); }
static void spoil_dot(struct wire_plan *p) { strcpy(p->assets[0].name, "."); }
static void spoil_dotdot(struct wire_plan *p) { strcpy(p->assets[0].name, ".."); }
static void spoil_name_unended(struct wire_plan *p) { memset(p->assets[0].name, 'a', sizeof(p->assets[0].name)); }
static void spoil_name_padding(struct wire_plan *p) { p->assets[0].name[20] = 'a'; }
static void spoil_name_upper(struct wire_plan *p) { p->assets[0].name[0] = 'K'; }

static void refuses(void **state)
{
	static void (*const spoils[])(struct wire_plan *) = {
		spoil_count_low, spoil_count_high, spoil_bytes_zero, spoil_bytes_high, spoil_bytes_beyond, spoil_first_empty,
		spoil_no_nul, spoil_behind, spoil_asset_count, spoil_asset_unused_name, spoil_asset_unused_use,
		spoil_asset_unused_writable, spoil_asset_fewer, spoil_copy_unnamed, spoil_copy_writable, spoil_use, spoil_writable,
		spoil_same_name, spoil_slash, spoil_slash_inside, spoil_dot, spoil_dotdot, spoil_name_unended, spoil_name_padding,
		spoil_name_upper,
	};

	(void)state;
	for (size_t i = 0; i < sizeof(spoils) / sizeof(spoils[0]); i++) {
		struct wire_plan plan = good();
		const char *why = NULL;

		spoils[i](&plan);
		if (plan_check(&plan, &why) != -EINVAL || why == NULL)
			fail_msg("spoilt plan %zu was accepted", i);
	}
}

/* Every shorter word_bytes, with the rest left standing or cleared: never a plan. */
static void refuses_truncations(void **state)
{
	(void)state;
	for (uint16_t len = 0; len < sizeof(words); len++) {
		struct wire_plan plan = good();
		const char *why = NULL;

		plan.word_bytes = len;
		assert_int_equal(plan_check(&plan, &why), -EINVAL);
		memset(plan.words + len, 0, sizeof(plan.words) - len);
		assert_int_equal(plan_check(&plan, &why), -EINVAL);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(accepts),
		cmocka_unit_test(refuses),
		cmocka_unit_test(refuses_truncations),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
