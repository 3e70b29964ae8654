/* SPDX-License-Identifier: Apache-2.0
 * Runs: test (the user). Specs: rows CFG-* of the behaviour specification in Postern's form, refusals, round trips. */
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
#include "launcher/config/spec_table.h"

static struct spec *parsed(const char *text)
{
	struct spec *spec = spec_new();
	struct spec_error error = { 0 };

	assert_non_null(spec);
	if (spec_parse(spec, text, strlen(text), &error) != 0)
		fail_msg("%s: %s: %s", text, error.where, error.text);
	return spec;
}

static void refused(const char *text, const char *where, const char *part)
{
	struct spec *spec = spec_new();
	struct spec_error error = { 0 };
	int r = spec_parse(spec, text, strlen(text), &error);

	if (r == 0)
		r = spec_check(spec, &error);
	if (r != -EINVAL || strcmp(error.where, where) != 0 || strstr(error.text, part) == NULL)
		fail_msg("%s: %d, at \"%s\": \"%s\"", text, r, error.where, error.text);
	spec_free(spec);
}

static void same(const struct spec *a, const struct spec *b)
{
	json_t *one = spec_to_json(a), *two = spec_to_json(b);

	assert_true(json_equal(one, two));
	json_decref(one);
	json_decref(two);
}

/* CFG-06, CFG-13: here "unset" is a missing field; a zero is refused rather than replaced, 128 MiB pass. */
static void cfg_06_defaults(void **state)
{
	struct spec *spec = parsed("{}");

	(void)state;
	assert_int_equal(spec->vcpus, 1);
	assert_int_equal(spec->memory_mib, 2048);
	assert_string_equal(spec->hypervisor, "qemu");
	assert_int_equal(spec->accel, SPEC_ACCEL_AUTO);
	assert_int_equal(spec->label, SPEC_WANT_PREFER);
	assert_int_equal(spec->stop_ms, 10000);
	spec_free(spec);
	spec = parsed("{\"vcpus\": 7, \"memory\": 128}");
	assert_int_equal(spec->vcpus, 7);
	assert_int_equal(spec->memory_mib, 128);
	spec_free(spec);
	refused("{\"vcpus\": 0}", ".vcpus", "range");
	refused("{\"memory\": 0}", ".memory", "range");
}

/* CFG-03: both together are accepted; there is no strict mode, because no root= is ever added for an image. */
static void cfg_03_initrd_and_disk(void **state)
{
	struct spec *spec = parsed("{\"kernel\": \"k\", \"initrd\": \"i\", \"disks\": [{\"path\": \"d\"}]}");
	struct spec_error error;

	(void)state;
	assert_int_equal(spec_check(spec, &error), 0);
	spec_free(spec);
}

/* CFG-10: a refused text leaves the spec as it was. CFG-11 has the opposite form here: checking changes nothing. */
static void cfg_10_failure_changes_nothing(void **state)
{
	static const char *const bad[] = { "{\"vcpus\": 3, \"disks\": [{\"path\": \"x\"}, {\"pth\": \"y\"}]}",
					   "{",
					   "[]",
					   "{\"name\": \"b\", \"label\": 4}",
					   "{\"limits\": {\"pids\": 4, \"x\": 1}}",
					   "{\"nics\": [{\"network\": \"lan\"}, 4]}" };
	struct spec *spec = parsed("{\"name\": \"a\", \"vcpus\": 2, \"nics\": [{\"network\": \"lan\"}]}"), *before;
	struct spec_error error;

	(void)state;
	before = parsed("{\"name\": \"a\", \"vcpus\": 2, \"nics\": [{\"network\": \"lan\"}]}");
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		assert_int_equal(spec_parse(spec, bad[i], strlen(bad[i]), &error), -EINVAL);
		same(spec, before);
	}
	assert_int_equal(spec_set(spec, "disks+", "p,id=UPPER", &error), -EINVAL);
	assert_int_equal(spec_set(spec, "nics+", "lan,queues=99", &error), -EINVAL);
	assert_int_equal(spec_set(spec, "vcpus", "x", &error), -EINVAL);
	same(spec, before);
	assert_int_equal(spec_check(spec, &error), 0);
	same(spec, before);
	spec_free(spec);
	spec_free(before);
}

/* A value that every row must accept and that is not its default. */
static const char *sample(const struct field *field)
{
	switch (field->type) {
	case FIELD_PATH:
		return "/srv/a file, with = and ü.img";
	case FIELD_NAME:
	case FIELD_ID:
		return "some-name9";
	case FIELD_LINE:
		return "root=/dev/vda1,x=y -- \"quoted\" \\";
	case FIELD_NUMBER:
		return "5";
	case FIELD_SIZE:
		return "3G";
	case FIELD_TIME:
		return "1500ms";
	case FIELD_BOOL:
		return "true";
	case FIELD_CHOICE:
		return field->choices[strcmp(field->choices[0].name, field->doc.fallback) == 0].name;
	}
	return "";
}

/* CFG-14: every field of the table can be set, read back, and survives JSON. There are no custom assets. */
static void cfg_14_every_field_round_trips(void **state)
{
	size_t count;
	const struct field *rows = field_all(&count);

	(void)state;
	for (size_t i = 0; i < count; i++) {
		struct spec *spec = spec_new(), *again = spec_new();
		struct spec_error error = { 0 };
		char path[64];
		json_t *json, *was;
		char *text;

		(void)snprintf(path, sizeof(path), "%s%s",
			       rows[i].scope == SCOPE_DISK  ? "disks[0]."
			       : rows[i].scope == SCOPE_NIC ? "nics[0]."
							    : "",
			       rows[i].scope == SCOPE_SPEC ? rows[i].doc.path : field_key(&rows[i]));
		if (rows[i].scope == SCOPE_DISK)
			assert_int_equal(spec_set(spec, "disks+", "/d", &error), 0);
		if (rows[i].scope == SCOPE_NIC)
			assert_int_equal(spec_set(spec, "nics+", "lan", &error), 0);
		was = spec_to_json(spec);
		if (spec_set(spec, path, sample(&rows[i]), &error) != 0)
			fail_msg("%s: %s", path, error.text);
		json = spec_to_json(spec);
		assert_false(json_equal(was, json));
		text = json_dumps(json, 0);
		if (spec_parse(again, text, strlen(text), &error) != 0)
			fail_msg("%s: %s: %s", text, error.where, error.text);
		same(spec, again);
		free(text);
		json_decref(json);
		json_decref(was);
		spec_free(spec);
		spec_free(again);
	}
}

static void unknown_fields(void **state)
{
	(void)state;
	refused("{\"memroy\": 1}", ".memroy", "did you mean \"memory\"?");
	refused("{\"memory_mib\": 1}", ".memory_mib", "did you mean \"memory\"?");
	refused("{\"Kernel\": \"k\"}", ".Kernel", "did you mean \"kernel\"?");
	refused("{\"zzzzzzzzz\": 1}", ".zzzzzzzzz", "there is no field");
	refused("{\"nics\": [{\"netwrok\": \"lan\"}]}", ".nics[0].netwrok", "did you mean \"nics[].network\"?");
	refused("{\"limits\": {\"cpu\": 1}}", ".limits.cpu", "there is no field");
	/* A second way to write a field would be a way around the duplicate check. */
	refused("{\"limits.pids\": 4}", ".limits.pids", "there is no field");
	refused("{\"a\\u001b[31mb\": 1}", ".a?[31mb", "there is no field");
}

static void wrong_values(void **state)
{
	(void)state;
	refused("", ".", "line 1");
	refused("{\"vcpus\": 1} x", ".", "line 1");
	refused("{\"vcpus\": 1,\n \"vcpus\": 2}", ".", "duplicate");
	refused("{\"nics\": [{\"network\": \"a\", \"network\": \"b\"}]}", ".", "duplicate");
	refused("[]", ".", "not a JSON object");
	refused("[[[[[[[[]]]]]]]]", ".", "nested");
	refused("{\"vcpus\": \"2\"}", ".vcpus", "is a string, not a number");
	refused("{\"vcpus\": 2.0}", ".vcpus", "is a number, not a number");
	refused("{\"vcpus\": -1}", ".vcpus", "range");
	refused("{\"vcpus\": 4294967297}", ".vcpus", "range");
	refused("{\"vcpus\": 99999999999999999999}", ".", "too big");
	refused("{\"kernel\": 1}", ".kernel", "is a number, not a path");
	refused("{\"kernel\": null}", ".kernel", "is null");
	refused("{\"kernel\": \"\"}", ".kernel", "empty");
	refused("{\"kernel\": \"a\\nb\"}", ".kernel", "not allowed");
	refused("{\"kernel\": \"a\\u0000b\"}", ".", "line 1");
	refused("{\"name\": \"-x\"}", ".name", "not allowed");
	refused("{\"name\": \"Abc\"}", ".name", "not allowed");
	refused("{\"name\": \"a23456789012345678901234567890xx\"}", ".name", "more than 31");
	refused("{\"accel\": \"xen\"}", ".accel", "xen");
	refused("{\"label\": \"no\"}", ".label", "no");
	refused("{\"survive\": 1}", ".survive", "is a number");
	refused("{\"memory\": \"1.5G\"}", ".memory", "not a size");
	refused("{\"memory\": \"0x10\"}", ".memory", "not a size");
	refused("{\"memory\": \" 5\"}", ".memory", "not a size");
	refused("{\"memory\": \"M\"}", ".memory", "not a size");
	refused("{\"memory\": \"4294967296\"}", ".memory", "range");
	refused("{\"memory\": \"17T\"}", ".memory", "range");
	refused("{\"stop_timeout\": 601}", ".stop_timeout", "range");
	refused("{\"disks\": {}}", ".disks", "not a list");
	refused("{\"disks\": [\"d\"]}", ".disks[0]", "not an object");
	refused("{\"limits\": []}", ".limits", "not an object");
	refused("{\"nics\": [{}, {}, {}, {}, {}, {}, {}, {}, {}]}", ".nics", "more than 8");
}

static void rules_between_fields(void **state)
{
	(void)state;
	refused("{\"initrd\": \"i\"}", ".kernel", "initrd needs a kernel");
	refused("{\"cmdline\": \"x\"}", ".kernel", "command line needs a kernel");
	refused("{\"kernel\": \"k\", \"initrd\": \"i\", \"kernel_only\": true}", ".kernel_only", "an initrd");
	refused("{\"disks\": [{}]}", ".disks[0].path", "missing");
	refused("{\"disks\": [{\"path\": \"a\", \"id\": \"disk1\"}, {\"path\": \"b\"}]}", ".disks[1].id", "disk 0 too");
	refused("{\"nics\": [{}]}", ".nics[0].network", "missing");
	refused("{\"nics\": [{\"type\": \"passt\", \"network\": \"lan\"}]}", ".nics[0].network", "passt");
	refused("{\"nics\": [{\"type\": \"passt\", \"queues\": 2}]}", ".nics[0]", "one queue");
	refused("{\"nics\": [{\"type\": \"passt\"}, {\"type\": \"passt\"}]}", ".nics[1]", "second");
	refused("{\"nics\": "
		"[{\"network\":\"a\",\"queues\":8},{\"network\":\"a\",\"queues\":8},{\"network\":\"a\",\"queues\":8},"
		"{\"network\":\"a\",\"queues\":8},{\"network\":\"a\"}]}",
		".nics", "33 queue pairs");
}

static void command_line(void **state)
{
	struct spec *spec = spec_new();
	struct spec_error error = { 0 };

	(void)state;
	assert_int_equal(spec_set(spec, "memory", "512", &error), 0);
	assert_int_equal(spec->memory_mib, 512);
	assert_int_equal(spec_set(spec, "memory", "2G", &error), 0);
	assert_int_equal(spec->memory_mib, 2048);
	assert_int_equal(spec_set(spec, "limits.pids", "9", &error), 0);
	assert_int_equal(spec->limit_pids, 9);
	assert_int_equal(spec_set(spec, "nics+", "lan,queues=4,vhost=no", &error), 0);
	assert_int_equal(spec_set(spec, "nics+", "passt", &error), 0);
	assert_string_equal(spec->nics[0].network, "lan");
	assert_int_equal(spec->nics[0].queues, 4);
	assert_int_equal(spec->nics[0].vhost, SPEC_WANT_NO);
	assert_int_equal(spec->nics[1].kind, SPEC_NET_PASST);
	assert_int_equal(spec_set(spec, "disks+", "a,b.img", &error), 0);
	assert_int_equal(spec_set(spec, "disks+", "a,b.img,readonly,id=root", &error), 0);
	assert_int_equal(spec_set(spec, "disks+", "a,x=y,readonly=false", &error), 0);
	assert_string_equal(spec->disks[0].path, "a,b.img");
	assert_string_equal(spec->disks[0].id, "disk0");
	assert_string_equal(spec->disks[1].path, "a,b.img");
	assert_string_equal(spec->disks[1].id, "root");
	assert_true(spec->disks[1].readonly);
	assert_string_equal(spec->disks[2].path, "a,x=y");
	assert_int_equal(spec_check(spec, &error), 0);
	assert_int_equal(spec_set(spec, "disks[3].readonly", "true", &error), -EINVAL);
	assert_int_equal(spec_set(spec, "disks[99999999999999999999].readonly", "true", &error), -EINVAL);
	assert_int_equal(spec_set(spec, "disks[].readonly", "true", &error), -EINVAL);
	assert_int_equal(spec_set(spec, "disks", "x", &error), -EINVAL);
	assert_int_equal(spec_set(spec, "vcpu", "1", &error), -EINVAL);
	assert_non_null(strstr(error.text, "did you mean \"vcpus\"?"));
	assert_int_equal(spec_set(spec, "nics+", "lan,quees=4", &error), -EINVAL);
	assert_non_null(strstr(error.text, "nics[].queues"));
	spec_free(spec);
}

/* On its way to the controller a spec is JSON: what that cannot hold must be refused, not be missing there. */
static void only_utf_8(void **state)
{
	static const char *const bad[] = { "/nonexist\xff",
					   "\xc3",
					   "a\xc3(",
					   "\xed\xa0\x80",
					   "\xc0\xaf",
					   "\xf5\x80\x80\x80",
					   ("\xc2\x9b" "31m") };
	struct spec *spec = parsed("{\"kernel\": \"k\"}");
	struct spec_error error;
	json_t *json;
	char *kept;

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		assert_int_equal(spec_set(spec, "initrd", bad[i], &error), -EINVAL);
		assert_string_equal(error.where, ".initrd");
		assert_int_equal(spec_set(spec, "disks+", bad[i], &error), -EINVAL);
		assert_null(spec->initrd);
	}
	refused("{\"initrd\": \"\\u009b\"}", ".initrd", "UTF-8");
	assert_int_equal(spec_set(spec, "initrd", "/sr\xc3\xbc/\xe2\x82\xac/\xf0\x9f\x90\x84", &error), 0);
	json = spec_to_json(spec);
	assert_non_null(json);
	json_decref(json);
	/* Whoever gets around spec_set() gets no spec rather than another one. */
	kept = spec->initrd;
	spec->initrd = strdup("\xff");
	assert_null(spec_to_json(spec));
	free(spec->initrd);
	spec->initrd = kept;
	spec_free(spec);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(cfg_03_initrd_and_disk),
		cmocka_unit_test(cfg_06_defaults),
		cmocka_unit_test(cfg_10_failure_changes_nothing),
		cmocka_unit_test(cfg_14_every_field_round_trips),
		cmocka_unit_test(unknown_fields),
		cmocka_unit_test(wrong_values),
		cmocka_unit_test(rules_between_fields),
		cmocka_unit_test(command_line),
		cmocka_unit_test(only_utf_8),
	};

	return cmocka_run_group_tests_name("spec", tests, NULL, NULL);
}
