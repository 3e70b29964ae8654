/* SPDX-License-Identifier: Apache-2.0
 * Runs: test (the user). The schema and the man page say what the table says. With POSTERN_GOLDEN=write the schema is
 * written anew. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/cleanup.h"
#include "postern/spec.h"

#define TEXT_MAX 65536u

static char *text_of(const char *name)
{
	char path[512];
	char *text = calloc(1, TEXT_MAX);
	FILE *file;

	(void)snprintf(path, sizeof(path), "%s/docs/%s", SOURCE_ROOT, name);
	file = fopen(path, "r");
	if (file == NULL)
		fail_msg("%s cannot be read", path);
	assert_true(fread(text, 1, TEXT_MAX - 1, file) > 0);
	(void)fclose(file);
	return text;
}

static void schema_is_the_table(void **state)
{
	const char *golden = getenv("POSTERN_GOLDEN");
	json_t *schema = spec_schema(), *file;

	(void)state;
	if (golden != NULL && strcmp(golden, "write") == 0)
		assert_int_equal(
			json_dump_file(schema, SOURCE_ROOT "/docs/spec.schema.json", JSON_INDENT(2) | JSON_SORT_KEYS), 0);
	file = json_load_file(SOURCE_ROOT "/docs/spec.schema.json", JSON_REJECT_DUPLICATES, NULL);
	if (!json_equal(schema, file))
		fail_msg("docs/spec.schema.json is not what spec_schema() says: run this test with POSTERN_GOLDEN=write");
	json_decref(file);
	json_decref(schema);
}

/* Each field has an item of its own: ".It Cm name Pq Ar type", its default in the text, its meaning word for word. */
static void man_page_has_every_field(void **state)
{
	char *page = text_of("man/postern-spec.5");
	size_t count;
	const struct spec_field *fields = spec_fields(&count);

	(void)state;
	for (size_t i = 0; i < count; i++) {
		char item[160], fallback[80];
		char *at, *end;

		(void)snprintf(item, sizeof(item), ".It Cm %s Pq %s\n", fields[i].path, fields[i].type);
		at = strstr(page, item);
		if (at == NULL)
			fail_msg("postern-spec.5 has no line \"%s\"", item);
		end = strstr(at + strlen(item), "\n.It ");
		if (end != NULL)
			*end = '\0';
		if (strstr(at, fields[i].meaning) == NULL)
			fail_msg("postern-spec.5, %s: does not say \"%s\"", fields[i].path, fields[i].meaning);
		if (strstr(at, fields[i].allowed) == NULL)
			fail_msg("postern-spec.5, %s: does not say \"%s\"", fields[i].path, fields[i].allowed);
		(void)snprintf(fallback, sizeof(fallback), "Default: %s.", fields[i].fallback);
		if (fields[i].fallback[0] != '\0' && strstr(at, fallback) == NULL)
			fail_msg("postern-spec.5, %s: does not say \"%s\"", fields[i].path, fallback);
		if (end != NULL)
			*end = '\n';
	}
	free(page);
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(schema_is_the_table),
					    cmocka_unit_test(man_page_has_every_field) };

	return cmocka_run_group_tests_name("spec docs", tests, NULL, NULL);
}
