/* SPDX-License-Identifier: Apache-2.0
 * Runs: start (root), broker (no privilege). The administrator's JSON into struct policy: file, walk, top level.
 *
 * Nothing is guessed: unknown keys, duplicates, wrong types and numbers outside their range are refused with line and
 * path (policy_load_where.c). What is absent has a default that grants nothing. The sections are in
 * policy_load_sections.c and policy_load_rules.c, the file itself is checked by policy_open.c. */
#include "policy_load.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/cleanup.h"

/* ---- values ----------------------------------------------------------------------------------------------------- */

static const char *type_name(const json_t *value)
{
	switch (json_typeof(value)) {
	case JSON_OBJECT:
		return "an object";
	case JSON_ARRAY:
		return "an array";
	case JSON_STRING:
		return "a string";
	case JSON_INTEGER:
		return "an integer";
	case JSON_REAL:
		return "a number with a fraction or exponent";
	case JSON_TRUE:
	case JSON_FALSE:
		return "a boolean";
	case JSON_NULL:
		return "null";
	}
	return "something else";
}

const char *load_string(struct loader *l, const json_t *value)
{
	if (!json_is_string(value)) {
		(void)load_fail(l, "must be a string, is %s", type_name(value));
		return NULL;
	}
	return json_string_value(value);
}

static int load_field(struct loader *l, const struct field *field, json_t *value, char *out)
{
	uint64_t number;

	if (field->kind == FIELD_OTHER)
		return field->load(l, value, out + field->offset);
	if (field->kind == FIELD_BOOL) {
		if (!json_is_boolean(value))
			return load_fail(l, "must be true or false, is %s", type_name(value));
		*(bool *)(void *)(out + field->offset) = json_is_true(value);
		return 0;
	}
	if (!json_is_integer(value))
		return load_fail(l, "must be an integer, is %s", type_name(value));
	number = (uint64_t)json_integer_value(value);
	if (json_integer_value(value) < 0 || number < field->min || number > field->max)
		return load_fail(l, "must be between %llu and %llu, is %lld", (unsigned long long)field->min,
				 (unsigned long long)field->max, (long long)json_integer_value(value));
	/* Every range in the tables fits its field; the kind says how wide that is. */
	if (field->kind == FIELD_U8)
		*(uint8_t *)(out + field->offset) = (uint8_t)number;
	else if (field->kind == FIELD_U32)
		*(uint32_t *)(void *)(out + field->offset) = (uint32_t)number;
	else
		*(uint64_t *)(void *)(out + field->offset) = number;
	return 0;
}

static int check_keys(struct loader *l, json_t *object, const struct field *fields, size_t count)
{
	char known[160] = "";
	size_t ordinal = 0;

	for (void *it = json_object_iter(object); it != NULL; it = json_object_iter_next(object, it), ordinal++) {
		const char *key = json_object_iter_key(it);
		bool found = false;

		for (size_t i = 0; i < count; i++)
			found = found || strcmp(fields[i].key, key) == 0;
		if (found)
			continue;
		for (size_t i = 0, used = 0; i < count && used < sizeof(known); i++)
			used += (size_t)snprintf(known + used, sizeof(known) - used, "%s%s", i > 0 ? ", " : "",
						 fields[i].key);
		load_push(l, key, ordinal);
		return load_fail(l, "unknown key; known here: %s", known);
	}
	return 0;
}

/* jansson keeps members in the order of the document, and duplicates were refused: the ordinal finds the line. */
static size_t ordinal_of(json_t *object, const char *key)
{
	size_t ordinal = 0;

	for (void *it = json_object_iter(object); it != NULL; it = json_object_iter_next(object, it), ordinal++)
		if (strcmp(json_object_iter_key(it), key) == 0)
			break;
	return ordinal;
}

int load_object(struct loader *l, json_t *object, const struct field *fields, size_t count, void *out)
{
	int r;

	if (!json_is_object(object))
		return load_fail(l, "must be an object, is %s", type_name(object));
	r = check_keys(l, object, fields, count);
	for (size_t i = 0; r == 0 && i < count; i++) {
		json_t *value = json_object_get(object, fields[i].key);

		if (value == NULL) {
			if (fields[i].required)
				return load_fail(l, "lacks the key \"%s\"", fields[i].key);
			continue;
		}
		load_push(l, fields[i].key, ordinal_of(object, fields[i].key));
		r = load_field(l, &fields[i], value, out);
		if (r == 0)
			load_pop(l);
	}
	return r;
}

int load_each(struct loader *l, json_t *array, size_t max, int (*load)(struct loader *, json_t *, void *), void *out)
{
	int r = 0;

	if (!json_is_array(array))
		return load_fail(l, "must be an array, is %s", type_name(array));
	if (json_array_size(array) > max)
		return load_fail(l, "has %zu elements, at most %zu are possible", json_array_size(array), max);
	for (size_t i = 0; r == 0 && i < json_array_size(array); i++) {
		load_push(l, NULL, i);
		r = load(l, json_array_get(array, i), out);
		if (r == 0)
			load_pop(l);
	}
	return r;
}

/* ---- top level -------------------------------------------------------------------------------------------------- */

static int load_version(struct loader *l, json_t *value, void *out)
{
	(void)out;
	if (!json_is_integer(value) || json_integer_value(value) != 1)
		return load_fail(l, "must be 1: this Postern knows no other version of the format");
	return 0;
}

static int load_required_one(struct loader *l, json_t *value, void *out)
{
	const char *name = load_string(l, value);
	uint32_t *required = out;

	if (name == NULL)
		return -EINVAL;
	for (unsigned i = 0; i < WIRE_GRANT_COUNT; i++) {
		if (strcmp(wire_grant_name(i), name) == 0) {
			*required |= 1u << i;
			return 0;
		}
	}
	return load_fail(l, "must be one of kvm, tap, vhost-net, vhost-vsock, label, cgroup, landlock, port-filter");
}

static int load_required(struct loader *l, json_t *value, void *out)
{
	return load_each(l, value, WIRE_GRANT_COUNT, load_required_one, out);
}

static int load_kvm(struct loader *l, json_t *value, void *out)
{
	static const char *const names[] = { "auto", "fd", "node", "group" };
	const char *name = load_string(l, value);
	enum policy_kvm *kvm = out;

	_Static_assert(POLICY_KVM_GROUP + 1 == ARRAY_SIZE(names), "a name for every strategy");
	if (name == NULL)
		return -EINVAL;
	for (unsigned i = 0; i < ARRAY_SIZE(names); i++) {
		if (strcmp(names[i], name) == 0) {
			*kvm = (enum policy_kvm)i;
			return 0;
		}
	}
	return load_fail(l, "must be one of auto, fd, node, group");
}

/* After "required", which may say the same of labels and must not say the opposite. */
static int load_labels(struct loader *l, json_t *value, void *out)
{
	static const char *const names[] = { "prefer", "require", "forbid" };
	const char *name = load_string(l, value);
	struct policy *p = out;
	size_t i = 0;

	_Static_assert(POLICY_LABELS_FORBID + 1 == ARRAY_SIZE(names), "a name for every way");
	if (name == NULL)
		return -EINVAL;
	while (i < ARRAY_SIZE(names) && strcmp(names[i], name) != 0)
		i++;
	if (i == ARRAY_SIZE(names))
		return load_fail(l, "must be one of prefer, require, forbid");
	p->labels = (enum policy_labels)i;
	if (p->labels == POLICY_LABELS_REQUIRE)
		p->required |= 1u << WIRE_GRANT_LABEL;
	if (p->labels == POLICY_LABELS_FORBID && (p->required & 1u << WIRE_GRANT_LABEL) != 0)
		return load_fail(l, "must not be \"forbid\" when \"required\" has \"label\"");
	return 0;
}

static int load_limits(struct loader *l, json_t *value, void *out)
{
	static const struct field fields[] = {
		TAKES_U32("overhead_mib", struct wire_limits, memory_mib, 0, WIRE_MEMORY_MAX),
		TAKES_U32("swap_mib", struct wire_limits, swap_mib, 0, WIRE_MEMORY_MAX),
		TAKES_U32("pids", struct wire_limits, pids, 0, 65535),
		TAKES_U32("cpu_percent", struct wire_limits, cpu_percent, 0, 1000000),
		TAKES_U32("io_weight", struct wire_limits, io_weight, 0, 10000),
	};

	return load_object(l, value, fields, ARRAY_SIZE(fields), out);
}

static int load_timeouts(struct loader *l, json_t *value, void *out)
{
	static const struct field fields[] = {
		TAKES_U32("hello_ms", struct policy, hello_ms, 10, 600000),
		TAKES_U32("idle_ms", struct policy, idle_ms, 10, 86400000),
		TAKES_U32("launch_ms", struct policy, launch_ms, 10, 600000),
	};

	return load_object(l, value, fields, ARRAY_SIZE(fields), out);
}

static int load_sessions(struct loader *l, json_t *value, void *out)
{
	static const struct field fields[] = {
		TAKES_U32("all", struct policy, sessions_max, 1, 4096),
		TAKES_U32("user", struct policy, sessions_user_max, 1, 4096),
	};

	return load_object(l, value, fields, ARRAY_SIZE(fields), out);
}

/* In the order in which they depend on each other, which need not be the document's. */
static const struct field top[] = {
	NEEDS("version", load_version),
	TAKES("ids", load_ids),
	NEEDS("daemon", load_daemon),
	TAKES("template", load_template),
	NEEDS("hypervisors", load_hypervisors),
	TAKES("networks", load_networks),
	NEEDS("rules", load_rules),
	TAKES_PART("quota", load_quota, struct policy, quota),
	TAKES_PART("required", load_required, struct policy, required),
	TAKES_PART("kvm", load_kvm, struct policy, kvm),
	TAKES("labels", load_labels),
	TAKES_PART("limits", load_limits, struct policy, limits),
	TAKES("timeouts", load_timeouts),
	TAKES("sessions", load_sessions),
};

/* postern-policy(5) documents these; a test compares. */
static void set_defaults(struct policy *policy)
{
	memset(policy, 0, sizeof(*policy));
	policy->socket_mode = 0666; /* who may do what is decided by the rules, from the kernel's word on who connected */
	policy->first_uid = POLICY_FIRST_UID;
	policy->uid_count = POLICY_UID_COUNT;
	policy->limits.memory_mib = 512; /* without an overhead the memory a VMM really takes would have no limit */
	policy->limits.pids = 2048;
	policy->hello_ms = 2000;
	policy->idle_ms = 60000;
	policy->launch_ms = 10000;
	policy->sessions_max = 256;
	policy->sessions_user_max = 64;
}

/* The whole file, NUL-terminated; the caller frees it. pread, so that a shared descriptor's offset stays. */
static char *read_all(int fd, size_t *ret_len, struct policy_error *error)
{
	char *text = malloc(POLICY_FILE_MAX + 2);
	size_t len = 0;

	while (text != NULL && len <= POLICY_FILE_MAX) {
		ssize_t n = pread(fd, text + len, POLICY_FILE_MAX + 1 - len, (off_t)len);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0) {
			(void)snprintf(error->text, sizeof(error->text), "cannot read: %s", strerror(errno));
			free(text);
			return NULL;
		}
		if (n == 0) {
			text[len] = '\0';
			*ret_len = len;
			return text;
		}
		len += (size_t)n;
	}
	(void)snprintf(error->text, sizeof(error->text),
		       text == NULL ? "out of memory" : "larger than the limit of %d bytes", POLICY_FILE_MAX);
	free(text);
	return NULL;
}

static int load_text(const char *text, size_t len, struct policy *policy, struct policy_error *ret)
{
	struct loader l = { .text = text, .policy = policy, .error = ret };
	json_error_t error;
	json_t *root = json_loadb(text, len, JSON_REJECT_DUPLICATES, &error);
	int r;

	if (root == NULL) {
		ret->line = error.line > 0 ? (unsigned)error.line : 0;
		ret->column = error.column > 0 ? (unsigned)error.column : 0;
		(void)snprintf(ret->text, sizeof(ret->text), "not JSON: %s", error.text);
		return -EINVAL;
	}
	set_defaults(policy);
	r = load_object(&l, root, top, ARRAY_SIZE(top), policy);
	json_decref(root);
	return r;
}

int policy_load(int fd, struct policy *ret_policy, struct policy_error *ret)
{
	struct policy *policy = malloc(sizeof(*policy)); /* 70 KB: not on a stack, and ret_policy stays untouched */
	char *text;
	size_t len = 0;
	int r = -EINVAL;

	memset(ret, 0, sizeof(*ret));
	text = read_all(fd, &len, ret);
	if (policy == NULL)
		(void)snprintf(ret->text, sizeof(ret->text), "out of memory");
	else if (text != NULL)
		r = load_text(text, len, policy, ret);
	if (r == 0)
		*ret_policy = *policy;
	free(text);
	free(policy);
	return r;
}
