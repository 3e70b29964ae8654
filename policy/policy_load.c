/* SPDX-License-Identifier: Apache-2.0
 * Runs: start (root), broker (no privilege). The administrator's JSON into struct policy: file, walk, top level.
 *
 * Nothing is guessed: unknown keys, duplicates, wrong types and numbers outside their range are refused with line and
 * path. What is absent has a default that grants nothing. The sections are in policy_load_sections.c and
 * policy_load_rules.c, the file itself is checked by policy_open.c. */
#include "policy_load.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/cleanup.h"

/* ---- where are we ----------------------------------------------------------------------------------------------- */

static const char *skip_space(const char *p)
{
	return p + strspn(p, " \t\r\n");
}

/* Past one JSON value. The document is valid (jansson read it), so this needs to know strings and nesting only. */
static const char *skip_value(const char *p)
{
	size_t nesting = 0;

	do {
		p = skip_space(p);
		if (*p == '"') {
			for (p++; *p != '"' && *p != '\0'; p++)
				if (*p == '\\' && p[1] != '\0')
					p++;
			p += *p == '"';
		} else if (*p == '{' || *p == '[') {
			nesting++;
			p++;
		} else if (*p == '}' || *p == ']') {
			nesting--;
			p++;
		} else if (nesting > 0 && (*p == ',' || *p == ':')) {
			p++;
		} else {
			p += strcspn(p, " \t\r\n,:]}[{\"");
		}
		if (nesting > 0)
			p = skip_space(p);
	} while (nesting > 0 && *p != '\0');
	return p;
}

/* The n-th child of the container at p: its key in an object, itself in an array. *value is where its value starts. */
static const char *find_child(const char *p, bool object, size_t ordinal, const char **value)
{
	p = skip_space(p);
	p = skip_space(p + (*p != '\0')); /* past the bracket */
	for (size_t i = 0;; i++) {
		const char *start = p;

		if (object) {
			p = skip_space(skip_value(p));
			p = skip_space(p + (*p == ':'));
		}
		*value = p;
		if (i == ordinal)
			return start;
		p = skip_space(skip_value(p));
		if (*p != ',')
			return start;
		p = skip_space(p + 1);
	}
}

static void locate(const struct loader *l, struct policy_error *error)
{
	const char *value = skip_space(l->text), *at = value;
	size_t used = 0;

	error->where[0] = '\0';
	for (size_t i = 0; i < l->depth && i < LOAD_DEPTH_MAX; i++) {
		const char *key = l->path[i].key;
		size_t room = sizeof(error->where) - used;
		int n;

		at = find_child(value, key != NULL, l->path[i].ordinal, &value);
		if (key != NULL)
			n = snprintf(error->where + used, room, "%s%s", i > 0 ? "." : "", key);
		else
			n = snprintf(error->where + used, room, "[%zu]", l->path[i].ordinal);
		used += n < 0 ? 0 : (size_t)n < room ? (size_t)n : room - 1;
	}
	error->line = 1;
	error->column = 1;
	for (const char *p = l->text; p < at; p++) {
		error->column = *p == '\n' ? 1 : error->column + 1;
		error->line += *p == '\n';
	}
}

int load_fail(struct loader *l, const char *format, ...)
{
	va_list args;

	locate(l, l->error);
	va_start(args, format);
	(void)vsnprintf(l->error->text, sizeof(l->error->text), format, args);
	va_end(args);
	return -EINVAL;
}

void load_push(struct loader *l, const char *key, size_t ordinal)
{
	if (l->depth < LOAD_DEPTH_MAX) {
		l->path[l->depth].key = key;
		l->path[l->depth].ordinal = ordinal;
	}
	l->depth++;
}

void load_pop(struct loader *l)
{
	l->depth--;
}

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
			used += (size_t)snprintf(known + used, sizeof(known) - used, "%s%s", i > 0 ? ", " : "", fields[i].key);
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

static int load_limits(struct loader *l, json_t *value, void *out)
{
	static const struct field fields[] = {
		{ "overhead_mib", FIELD_U32, offsetof(struct wire_limits, memory_mib), 0, WIRE_MEMORY_MAX, NULL, false },
		{ "swap_mib", FIELD_U32, offsetof(struct wire_limits, swap_mib), 0, WIRE_MEMORY_MAX, NULL, false },
		{ "pids", FIELD_U32, offsetof(struct wire_limits, pids), 0, 65535, NULL, false },
		{ "cpu_percent", FIELD_U32, offsetof(struct wire_limits, cpu_percent), 0, 1000000, NULL, false },
		{ "io_weight", FIELD_U32, offsetof(struct wire_limits, io_weight), 0, 10000, NULL, false },
	};

	return load_object(l, value, fields, ARRAY_SIZE(fields), out);
}

static int load_timeouts(struct loader *l, json_t *value, void *out)
{
	static const struct field fields[] = {
		{ "hello_ms", FIELD_U32, offsetof(struct policy, hello_ms), 10, 600000, NULL, false },
		{ "idle_ms", FIELD_U32, offsetof(struct policy, idle_ms), 10, 86400000, NULL, false },
		{ "launch_ms", FIELD_U32, offsetof(struct policy, launch_ms), 10, 600000, NULL, false },
	};

	return load_object(l, value, fields, ARRAY_SIZE(fields), out);
}

static int load_sessions(struct loader *l, json_t *value, void *out)
{
	static const struct field fields[] = {
		{ "all", FIELD_U32, offsetof(struct policy, sessions_max), 1, 4096, NULL, false },
		{ "user", FIELD_U32, offsetof(struct policy, sessions_user_max), 1, 4096, NULL, false },
	};

	return load_object(l, value, fields, ARRAY_SIZE(fields), out);
}

/* In the order in which they depend on each other, which need not be the document's. */
static const struct field top[] = {
	{ "version", FIELD_OTHER, 0, 0, 0, load_version, true },
	{ "ids", FIELD_OTHER, 0, 0, 0, load_ids, false },
	{ "daemon", FIELD_OTHER, 0, 0, 0, load_daemon, true },
	{ "template", FIELD_OTHER, 0, 0, 0, load_template, false },
	{ "hypervisors", FIELD_OTHER, 0, 0, 0, load_hypervisors, true },
	{ "networks", FIELD_OTHER, 0, 0, 0, load_networks, false },
	{ "rules", FIELD_OTHER, 0, 0, 0, load_rules, true },
	{ "quota", FIELD_OTHER, offsetof(struct policy, quota), 0, 0, load_quota, false },
	{ "required", FIELD_OTHER, offsetof(struct policy, required), 0, 0, load_required, false },
	{ "kvm", FIELD_OTHER, offsetof(struct policy, kvm), 0, 0, load_kvm, false },
	{ "limits", FIELD_OTHER, offsetof(struct policy, limits), 0, 0, load_limits, false },
	{ "timeouts", FIELD_OTHER, 0, 0, 0, load_timeouts, false },
	{ "sessions", FIELD_OTHER, 0, 0, 0, load_sessions, false },
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

int policy_load(int fd, struct policy *ret_policy, struct policy_error *ret)
{
	cleanup_free struct policy *policy = malloc(sizeof(*policy));
	cleanup_free char *text = NULL;
	struct loader l = { .policy = policy, .error = ret };
	json_error_t error;
	json_t *root;
	size_t len = 0;
	int r;

	memset(ret, 0, sizeof(*ret));
	text = policy != NULL ? read_all(fd, &len, ret) : NULL;
	if (text == NULL)
		return -EINVAL;
	root = json_loadb(text, len, JSON_REJECT_DUPLICATES, &error);
	if (root == NULL) {
		ret->line = error.line > 0 ? (unsigned)error.line : 0;
		ret->column = error.column > 0 ? (unsigned)error.column : 0;
		(void)snprintf(ret->text, sizeof(ret->text), "not JSON: %s", error.text);
		return -EINVAL;
	}
	l.text = text;
	set_defaults(policy);
	r = load_object(&l, root, top, ARRAY_SIZE(top), policy);
	if (r == 0)
		*ret_policy = *policy;
	json_decref(root);
	return r;
}
