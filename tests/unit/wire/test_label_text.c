/* SPDX-License-Identifier: Apache-2.0
 * Runs: tests. SELinux labels made from another: what comes out goes into a mount option and into /proc/self/attr. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "common/label_text.h"

static void from_another(void **state)
{
	static const char vmm[] = "system_u:system_r:postern_vmm_t:s0:c17,c901";
	char out[LABEL_TEXT_MAX];

	(void)state;
	assert_int_equal(label_text_file(vmm, LABEL_RUN_TYPE, out, sizeof(out)), 0);
	assert_string_equal(out, "system_u:object_r:postern_run_t:s0:c17,c901");
	assert_int_equal(label_text(vmm, NULL, "strict_t", NULL, out, sizeof(out)), 0);
	assert_string_equal(out, "system_u:system_r:strict_t:s0:c17,c901");
	assert_int_equal(label_text("a.b-c:r:t:s0-s15:c0.c1023", NULL, "x", "s0:c1,c2", out, sizeof(out)), 0);
	assert_string_equal(out, "a.b-c:r:x:s0:c1,c2");
	assert_int_equal(label_text_is(vmm, "postern_vmm_t"), 1);
	assert_int_equal(label_text_is(vmm, "postern_vmm"), 0);
	assert_int_equal(label_text_is(vmm, "postern_vmm_tt"), 0);
	assert_int_equal(label_text_is(vmm, ""), 0);
}

/* Anything that could be more than one option, more than one line, or another label in the eyes of somebody. */
static void what_is_no_label(void **state)
{
	static const char *const bad[] = { "",
					   ":",
					   ":::",
					   "kernel",
					   "u:r:t",
					   "u:r:t:",
					   "u:r::s0",
					   ":r:t:s0",
					   "u::t:s0",
					   "u:r:t:c1,c2",
					   "u:r:t:s0:c1,c2 ",
					   " u:r:t:s0",
					   "u:r:t:s0:c1,c2\n",
					   "u:r:t:s0:c1\"",
					   "u:r:t:s0,mode=0777",
					   "u:r:t:s0:c1,c2,uid=0",
					   "u:r:t,size=1g:s0",
					   "u:r=:t:s0",
					   "u/../x:r:t:s0",
					   "u:r:t:s0\\134",
					   "u:r:t:s0%s",
					   "\xc3\xbc:r:t:s0" };
	char long_one[LABEL_TEXT_MAX + 8], out[LABEL_TEXT_MAX] = "untouched";

	(void)state;
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		assert_int_equal(label_text_file(bad[i], LABEL_RUN_TYPE, out, sizeof(out)), -EINVAL);
		assert_int_equal(label_text_is(bad[i], "t"), -EINVAL);
	}
	memset(long_one, 'u', sizeof(long_one));
	memcpy(long_one + sizeof(long_one) - 8, ":r:t:s0", 8);
	assert_int_equal(label_text_file(long_one, LABEL_RUN_TYPE, out, sizeof(out)), -EINVAL);
	assert_string_equal(out, "untouched");
}

static void no_room(void **state)
{
	static const char label[] = "system_u:system_r:postern_vmm_t:s0:c1,c2";
	static const char made[] = "system_u:object_r:postern_run_t:s0:c1,c2";

	(void)state;
	for (size_t size = 0; size <= sizeof(made); size++) {
		char *out = malloc(size > 0 ? size : 1); /* of exactly that size, for the sanitizers */

		assert_non_null(out);
		assert_int_equal(label_text_file(label, LABEL_RUN_TYPE, out, size), size < sizeof(made) ? -ENAMETOOLONG : 0);
		free(out);
	}
}

/* Whatever bytes come in: refused, or a result that is a label of the same form. */
static void any_bytes(void **state)
{
	static const char bytes[] = "us:rt0,c.-_=\n\" %\\";
	char in[40], out[LABEL_TEXT_MAX], again[LABEL_TEXT_MAX];
	unsigned seed = 1, made = 0;

	(void)state;
	for (int i = 0; i < 2000000; i++) {
		size_t n = (size_t)rand_r(&seed) % (sizeof(in) - 1);

		for (size_t k = 0; k < n; k++)
			in[k] = bytes[(size_t)rand_r(&seed) % (i % 2 == 0 ? 7 : sizeof(bytes) - 1)];
		in[n] = '\0';
		if (label_text_file(in, "t", out, sizeof(out)) < 0)
			continue;
		made++;
		assert_null(strpbrk(out, "=\n\" %\\/"));
		assert_int_equal(label_text_file(out, "t", again, sizeof(again)), 0);
		assert_string_equal(out, again);
	}
	assert_true(made > 100);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(from_another),
		cmocka_unit_test(what_is_no_label),
		cmocka_unit_test(no_room),
		cmocka_unit_test(any_bytes),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
