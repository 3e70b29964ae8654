/* SPDX-License-Identifier: Apache-2.0
 * Runs: tests. Which sandbox an id means, and what options set. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "launcher/cli/cli.h"

#include <cmocka.h> /* last: it makes a macro of fail() */

/* ---- ids --------------------------------------------------------------------------------------------------------- */

static struct home_entry entries[] = {
	{ .state = { .uuid = "aaaa1111-0000-4000-8000-000000000001", .name = "web" }, .running = true },
	{ .state = { .uuid = "aaaa2222-0000-4000-8000-000000000002", .name = "" }, .running = true },
	{ .state = { .uuid = "bbbb3333-0000-4000-8000-000000000003", .name = "aaaa" } },
	{ .state = { .uuid = "cccc4444-0000-4000-8000-000000000004", .name = "gone", .started = 1 }, .dead = true },
	{ .state = { .uuid = "cccc5555-0000-4000-8000-000000000005", .name = "gone", .started = 2 }, .dead = true },
	{ .state = { .uuid = "aaaa1111-ffff-4000-8000-000000000006", .name = "web" }, .dead = true },
};
static const struct home_list list = { entries, ARRAY_SIZE(entries) };

static const struct {
	const char *id;
	bool dead;
	int found; /* index, or -1 */
	enum postern_exit exit_status;
} ids[] = {
	{ "aaaa1111-0000-4000-8000-000000000001", false, 0, EXIT_OK },
	{ "aaaa1111-0000-4000-8000-00000000000", false, 0, EXIT_OK },
	{ "aaaa1", false, 0, EXIT_OK },
	{ "aaaa2", false, 1, EXIT_OK },
	{ "web", false, 0, EXIT_OK },
	{ "web", true, 0, EXIT_OK }, /* the living one */
	{ "aaaa1111", true, 0, EXIT_OK },
	{ "bbbb", false, 2, EXIT_OK },
	{ "aaaa", false, -1, EXIT_USAGE },    /* prefix of two, name of a third */
	{ "aaa", false, -1, EXIT_NOT_FOUND }, /* too short for a prefix */
	{ "bbb", false, -1, EXIT_NOT_FOUND },
	{ "", false, -1, EXIT_NOT_FOUND }, /* not the one without a name */
	{ "gone", false, -1, EXIT_NOT_FOUND },
	{ "gone", true, 4, EXIT_OK }, /* the later one */
	{ "cccc4", true, 3, EXIT_OK },
	{ "cccc", true, -1, EXIT_USAGE },
	{ "AAAA1111", false, -1, EXIT_NOT_FOUND },
	{ "aaaa1111-0000-4000-8000-0000000000011", false, -1, EXIT_NOT_FOUND },
	{ "../aaaa1", false, -1, EXIT_NOT_FOUND },
	{ "we", false, -1, EXIT_NOT_FOUND },
	{ "webb", false, -1, EXIT_NOT_FOUND },
};

static void test_ids(void **unused)
{
	(void)unused;
	for (size_t i = 0; i < ARRAY_SIZE(ids); i++) {
		struct failure failure = { .exit_status = EXIT_OK };
		const struct home_entry *entry = find_in(&list, ids[i].id, ids[i].dead, &failure);

		print_message("%s\n", ids[i].id);
		assert_ptr_equal(entry, ids[i].found >= 0 ? &entries[ids[i].found] : NULL);
		assert_int_equal(failure.exit_status, ids[i].exit_status);
		if (entry == NULL)
			assert_non_null(strchr(failure.text, ';'));
	}
}

static void test_ambiguous_ids_are_listed(void **unused)
{
	struct failure failure;

	(void)unused;
	assert_null(find_in(&list, "aaaa", false, &failure));
	assert_non_null(strstr(failure.text, entries[0].state.uuid));
	assert_non_null(strstr(failure.text, entries[1].state.uuid));
	assert_non_null(strstr(failure.text, entries[2].state.uuid));
}

/* ---- options ----------------------------------------------------------------------------------------------------- */

static const struct command self = { "run", "", "", NULL };

struct outcome {
	bool flag;
	const char *text;
	int ms;
	struct spec *spec;
	size_t words;
	int r;
};

#define WORDS_MAX 8

static struct outcome parse(const char *const *given)
{
	struct outcome out = { .ms = -1, .spec = spec_new() };
	const struct option_row rows[] = {
		{ "flag", NULL, "", OPTION_FLAG, &out.flag },
		{ "text", "TEXT", "", OPTION_TEXT, &out.text },
		{ "wait", "SECONDS", "", OPTION_SECONDS, &out.ms },
	};
	char *argv[WORDS_MAX + 2] = { strdup("run") };
	int argc = 1;

	for (; *given != NULL; given++)
		argv[argc++] = (char *)(uintptr_t)*given;
	{
		char *first = argv[0];

		out.r = options_parse(&self, rows, ARRAY_SIZE(rows), out.spec, argc, argv, &out.words);
		free(first);
	}
	return out;
}

#define PARSE(...) parse((const char *const[]){ __VA_ARGS__, NULL })

static void test_options(void **unused)
{
	struct outcome out = PARSE("a", "--flag", "--text=x=y", "b", "--wait", "1.5", "--", "--text");

	(void)unused;
	assert_int_equal(out.r, -1);
	assert_true(out.flag);
	assert_string_equal(out.text, "x=y");
	assert_int_equal(out.ms, 1500);
	assert_int_equal(out.words, 3);
	spec_free(out.spec);
	out = PARSE("--text", "--flag"); /* a value may begin with a dash */
	assert_int_equal(out.r, -1);
	assert_string_equal(out.text, "--flag");
	assert_false(out.flag);
	spec_free(out.spec);
	out = PARSE("-"); /* standard input */
	assert_int_equal(out.words, 1);
	spec_free(out.spec);
}

static void test_options_of_a_spec(void **unused)
{
	struct outcome out =
		PARSE("--memory", "1G", "--survive", "--limits-pids=77", "--disk", "/x,readonly", "--net", "lan");

	(void)unused;
	assert_int_equal(out.r, -1);
	assert_int_equal(out.spec->memory_mib, 1024);
	assert_true(out.spec->survive);
	assert_int_equal(out.spec->limit_pids, 77);
	assert_int_equal(out.spec->disk_count, 1);
	assert_true(out.spec->disks[0].readonly);
	assert_string_equal(out.spec->nics[0].network, "lan");
	spec_free(out.spec);
	out = PARSE("--survive=false", "--accel=tcg");
	assert_int_equal(out.r, -1);
	assert_false(out.spec->survive);
	assert_int_equal(out.spec->accel, SPEC_ACCEL_TCG);
	spec_free(out.spec);
}

/* Every scalar field of a spec has an option. */
static void test_every_field_has_an_option(void **unused)
{
	size_t count;
	const struct spec_field *fields = spec_fields(&count);

	(void)unused;
	for (size_t i = 0; i < count; i++) {
		char option[80];
		struct outcome out;

		if (strchr(fields[i].path, '[') != NULL || fields[i].fallback[0] == '\0')
			continue;
		(void)snprintf(option, sizeof(option), "--%s=%s", fields[i].path, fields[i].fallback);
		for (char *c = option; *c != '='; c++)
			if (*c == '_' || *c == '.')
				*c = '-';
		out = PARSE(option);
		assert_int_equal(out.r, -1);
		spec_free(out.spec);
	}
}

static void test_wrong_options(void **unused)
{
	static const char *const bad[][3] = {
		{ "--bogus" },
		{ "-x" },
		{ "--text" },
		{ "--flag=1" },
		{ "--wait", "x" },
		{ "--wait", "-1" },
		{ "--wait", "601" },
		{ "--wait", "nan" },
		{ "--wait", "1s" },
		{ "--wait=" },
		{ "--memory" },
		{ "--memory", "x" },
		{ "--memory=" },
		{ "--accel", "x" },
		{ "--disk" },
		{ "--disks" },
		{ "--limits.pids", "1" },
		{ "--limits_pids", "1" },
		{ "--survive=maybe" },
		{ "---flag" },
		{ "--fla" },
	};

	(void)unused;
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		struct outcome out = PARSE(bad[i][0], bad[i][1], bad[i][2]);

		print_message("%s %s\n", bad[i][0], bad[i][1] != NULL ? bad[i][1] : "");
		assert_int_equal(out.r, EXIT_USAGE);
		spec_free(out.spec);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_ids),
		cmocka_unit_test(test_ambiguous_ids_are_listed),
		cmocka_unit_test(test_options),
		cmocka_unit_test(test_options_of_a_spec),
		cmocka_unit_test(test_every_field_has_an_option),
		cmocka_unit_test(test_wrong_options),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
