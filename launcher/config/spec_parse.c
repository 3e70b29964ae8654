/* SPDX-License-Identifier: Apache-2.0
 * Runs: controller and CLI (the user). A whole spec from JSON text, and single fields from the command line. */
#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <string.h>

#include "common/cleanup.h"
#include "spec_table.h"

#define WHERE_MAX 128u

/* A list of objects in a spec: "disks" and "nics". */
struct list {
	const char *key;
	enum field_scope scope;
	size_t max, size;
	size_t items, count; /* offsets into struct spec */
};

static const struct list lists[] = {
	{ "disks", SCOPE_DISK, SPEC_DISKS_MAX, sizeof(struct spec_disk), offsetof(struct spec, disks),
	  offsetof(struct spec, disk_count) },
	{ "nics", SCOPE_NIC, SPEC_NICS_MAX, sizeof(struct spec_nic), offsetof(struct spec, nics),
	  offsetof(struct spec, nic_count) },
};

static const struct list *list_find(const char *key, size_t len)
{
	for (size_t i = 0; i < ARRAY_SIZE(lists); i++)
		if (strlen(lists[i].key) == len && memcmp(lists[i].key, key, len) == 0)
			return &lists[i];
	return NULL;
}

static void *list_item(const struct list *list, struct spec *spec, size_t index)
{
	return (char *)spec + list->items + index * list->size;
}

static size_t *list_count(const struct list *list, struct spec *spec)
{
	return (size_t *)(void *)((char *)spec + list->count);
}

/* Start one more element, with defaults. It counts only once list_commit() has taken it. */
static int list_begin(const struct list *list, struct spec *spec, void **ret_item, struct spec_error *ret)
{
	size_t index = *list_count(list, spec);

	if (index == list->max)
		return spec_fail(ret, list->key, NULL, "has more than %zu elements", list->max);
	memset(list_item(list, spec, index), 0, list->size);
	if (field_defaults(list->scope, list_item(list, spec, index)) < 0)
		return spec_fail(ret, list->key, NULL, "out of memory");
	*ret_item = list_item(list, spec, index);
	return 0;
}

static int list_commit(const struct list *list, struct spec *spec, struct spec_error *ret)
{
	size_t index = (*list_count(list, spec))++;

	if (list->scope == SCOPE_DISK && spec->disks[index].id == NULL &&
	    asprintf(&spec->disks[index].id, "disk%zu", index) < 0) {
		spec->disks[index].id = NULL;
		(*list_count(list, spec))--;
		return spec_fail(ret, list->key, NULL, "out of memory");
	}
	return 0;
}

/* ---- JSON -------------------------------------------------------------------------------------------------------- */

/* The members of one object that are plain fields of scope; prefix is "limits." inside that group. */
static int parse_member(enum field_scope scope, void *base, const char *prefix, const char *key, json_t *value,
			const char *where, struct spec_error *ret)
{
	char path[WHERE_MAX], full[64];
	const struct field *field = NULL;

	(void)snprintf(path, sizeof(path), "%s.%s", where, key);
	/* A dot in a key would be a second way to write a grouped field. */
	if (strchr(key, '.') == NULL && (size_t)snprintf(full, sizeof(full), "%s%s", prefix, key) < sizeof(full))
		field = field_find(scope, full);
	if (field == NULL)
		return spec_fail_unknown(ret, scope, path, key);
	return field_set_json(field, base, value, path, ret);
}

static int parse_list(const struct list *list, struct spec *spec, json_t *value, struct spec_error *ret)
{
	char where[WHERE_MAX];
	size_t index;
	json_t *object;

	if (!json_is_array(value))
		return spec_fail(ret, list->key, "a list of objects", "is not a list");
	json_array_foreach(value, index, object)
	{
		const char *key;
		json_t *member;
		void *item = NULL;
		int r = list_begin(list, spec, &item, ret);

		(void)snprintf(where, sizeof(where), ".%s[%zu]", list->key, index);
		if (r == 0 && !json_is_object(object))
			r = spec_fail(ret, where, "an object", "is not an object");
		if (r < 0)
			return r;
		json_object_foreach(object, key, member)
		{
			r = parse_member(list->scope, item, "", key, member, where, ret);
			if (r < 0) {
				field_free(list->scope, item);
				return r;
			}
		}
		r = list_commit(list, spec, ret);
		if (r < 0)
			return r;
	}
	return 0;
}

static bool is_group(const char *key)
{
	size_t count, len = strlen(key);
	const struct field *rows = field_all(&count);

	for (size_t i = 0; i < count; i++)
		if (rows[i].scope == SCOPE_SPEC && strncmp(rows[i].doc.path, key, len) == 0 && rows[i].doc.path[len] == '.')
			return true;
	return false;
}

static int parse_group(struct spec *spec, const char *group, json_t *object, struct spec_error *ret)
{
	char prefix[64], where[WHERE_MAX];
	const char *key;
	json_t *value;

	(void)snprintf(prefix, sizeof(prefix), "%s.", group);
	(void)snprintf(where, sizeof(where), ".%s", group);
	if (!json_is_object(object))
		return spec_fail(ret, where, "an object", "is not an object");
	json_object_foreach(object, key, value)
	{
		int r = parse_member(SCOPE_SPEC, spec, prefix, key, value, where, ret);

		if (r < 0)
			return r;
	}
	return 0;
}

static int parse_top(struct spec *spec, json_t *object, struct spec_error *ret)
{
	const char *key;
	json_t *value;

	if (!json_is_object(object))
		return spec_fail(ret, "", "an object", "the text is not a JSON object");
	json_object_foreach(object, key, value)
	{
		const struct list *list = list_find(key, strlen(key));
		int r;

		if (list != NULL)
			r = parse_list(list, spec, value, ret);
		else if (is_group(key))
			r = parse_group(spec, key, value, ret);
		else
			r = parse_member(SCOPE_SPEC, spec, "", key, value, "", ret);
		if (r < 0)
			return r;
	}
	return 0;
}

/* Nesting of the text, strings aside: jansson recurses, so what is too deep for a spec does not get that far. */
static bool too_deep(const char *text, size_t len)
{
	size_t depth = 0;
	bool quoted = false;

	for (size_t i = 0; i < len; i++) {
		if (quoted && text[i] == '\\')
			i++;
		else if (text[i] == '"')
			quoted = !quoted;
		else if (!quoted && (text[i] == '{' || text[i] == '[') && ++depth > SPEC_DEPTH_MAX)
			return true;
		else if (!quoted && (text[i] == '}' || text[i] == ']') && depth > 0)
			depth--;
	}
	return false;
}

int spec_parse(struct spec *spec, const char *text, size_t len, struct spec_error *ret)
{
	json_error_t error;
	json_t *object;
	struct spec *parsed, swap;
	int r;

	if (len > SPEC_TEXT_MAX)
		return spec_fail(ret, "", NULL, "the text has more than %u bytes", SPEC_TEXT_MAX);
	if (too_deep(text, len))
		return spec_fail(ret, "", NULL, "the text is nested deeper than a spec is");
	object = json_loadb(text, len, JSON_REJECT_DUPLICATES, &error);
	if (object == NULL) {
		r = spec_fail(ret, "", NULL, "line %d column %d: %s", error.line, error.column, error.text);
		ret->line = error.line;
		return r;
	}
	parsed = spec_new();
	r = parsed == NULL ? spec_fail(ret, "", NULL, "out of memory") : parse_top(parsed, object, ret);
	json_decref(object);
	if (r == 0) {
		swap = *spec;
		*spec = *parsed;
		*parsed = swap;
	}
	spec_free(parsed);
	return r;
}

/* ---- command line ------------------------------------------------------------------------------------------------ */

/* "PATH,readonly,id=x": options are taken off the end, so that a comma in a path stays where it is as long as no option's
 * name follows it. */
static int append_options(const struct list *list, void *item, char *text, struct spec_error *ret)
{
	char *comma, where[WHERE_MAX];

	while ((comma = strrchr(text, ',')) != NULL) {
		char *key = comma + 1, *equals = strchr(key, '=');
		const struct field *field;
		int r;

		if (equals != NULL)
			*equals = '\0';
		(void)snprintf(where, sizeof(where), ".%s+.%s", list->key, key);
		field = field_find(list->scope, key);
		if (field == NULL && list->scope == SCOPE_DISK) {
			if (equals != NULL)
				*equals = '=';
			return 0;
		}
		if (field == NULL)
			return spec_fail_unknown(ret, list->scope, where, key);
		if (equals == NULL && field->type != FIELD_BOOL)
			return spec_fail(ret, where, field->doc.allowed, "has no value");
		r = field_set_text(field, item, equals != NULL ? equals + 1 : "true", where, ret);
		if (r < 0)
			return r;
		*comma = '\0';
	}
	return 0;
}

static int append(const struct list *list, struct spec *spec, const char *value, struct spec_error *ret)
{
	const char *first = list->scope == SCOPE_DISK ? "path" : "network";
	char where[WHERE_MAX], *text;
	void *item = NULL;
	int r = list_begin(list, spec, &item, ret);

	if (r < 0)
		return r;
	text = strdup(value);
	if (text == NULL)
		return spec_fail(ret, list->key, NULL, "out of memory");
	r = append_options(list, item, text, ret);
	if (list->scope == SCOPE_NIC && strcmp(text, "passt") == 0)
		first = "type";
	(void)snprintf(where, sizeof(where), ".%s+", list->key);
	if (r == 0)
		r = field_set_text(field_find(list->scope, first), item, text, where, ret);
	free(text);
	if (r == 0)
		r = list_commit(list, spec, ret);
	if (r < 0)
		field_free(list->scope, item);
	return r;
}

/* "disks[2].readonly": the element must exist. */
static int set_element(const struct list *list, struct spec *spec, const char *field, const char *value,
		       struct spec_error *ret)
{
	const char *p = field + strlen(list->key) + 1;
	size_t index = 0, count = *list_count(list, spec);
	const struct field *row;

	if (*p < '0' || *p > '9')
		return spec_fail(ret, field, NULL, "is not the path of a field");
	for (; *p >= '0' && *p <= '9' && index <= list->max; p++)
		index = index * 10 + (size_t)(*p - '0');
	if (p[0] != ']' || p[1] != '.')
		return spec_fail(ret, field, NULL, "is not the path of a field");
	if (index >= count)
		return spec_fail(ret, field, NULL, "there are only %zu elements in %s", count, list->key);
	row = field_find(list->scope, p + 2);
	if (row == NULL)
		return spec_fail_unknown(ret, list->scope, field, p + 2);
	return field_set_text(row, list_item(list, spec, index), value, field, ret);
}

int spec_set(struct spec *spec, const char *field, const char *value, struct spec_error *ret)
{
	size_t word = strcspn(field, "[+");
	const struct list *list = list_find(field, word);
	const struct field *row;

	if (list != NULL && strcmp(field + word, "+") == 0)
		return append(list, spec, value, ret);
	if (list != NULL && field[word] == '[')
		return set_element(list, spec, field, value, ret);
	row = field_find(SCOPE_SPEC, field);
	if (row == NULL)
		return spec_fail_unknown(ret, SCOPE_SPEC, field, field);
	return field_set_text(row, spec, value, field, ret);
}
