/* SPDX-License-Identifier: Apache-2.0
 * Runs: controller and CLI (the user). Reading one value, from text or from JSON, and refusing it well. */
#include "spec_table.h"

#include <errno.h>
#include <jansson.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "common/cleanup.h"

/* Texts of an error go to a terminal; a spec may come from somebody else. */
static void make_printable(char *text)
{
	for (; *text != '\0'; text++)
		if (*text < 0x20 || *text > 0x7e)
			*text = '?';
}

int spec_fail(struct spec_error *ret, const char *where, const char *allowed, const char *format, ...)
{
	va_list args;

	memset(ret, 0, sizeof(*ret));
	(void)snprintf(ret->where, sizeof(ret->where), "%s%s", where[0] == '.' ? "" : ".", where);
	(void)snprintf(ret->allowed, sizeof(ret->allowed), "%s", allowed != NULL ? allowed : "");
	va_start(args, format);
	(void)vsnprintf(ret->text, sizeof(ret->text), format, args);
	va_end(args);
	make_printable(ret->where);
	make_printable(ret->text);
	return -EINVAL;
}

/* ---- the nearest known field ------------------------------------------------------------------------------------- */

#define NEAR_KEY_MAX 32u /* longer words are no typing errors */
#define NEAR_DISTANCE_MAX 3u

static size_t smaller(size_t a, size_t b)
{
	return a < b ? a : b;
}

/* Edit distance, one row at a time. */
static size_t distance(const char *a, const char *b)
{
	size_t row[NEAR_KEY_MAX + 1], a_len = strlen(a), b_len = strlen(b);

	if (a_len > NEAR_KEY_MAX || b_len > NEAR_KEY_MAX)
		return NEAR_KEY_MAX;
	for (size_t j = 0; j <= b_len; j++)
		row[j] = j;
	for (size_t i = 1; i <= a_len; i++) {
		size_t diagonal = row[0];

		row[0] = i;
		for (size_t j = 1; j <= b_len; j++) {
			size_t replace = diagonal + (a[i - 1] != b[j - 1]);

			diagonal = row[j];
			row[j] = smaller(replace, smaller(row[j], row[j - 1]) + 1);
		}
	}
	return row[b_len];
}

int spec_fail_unknown(struct spec_error *ret, enum field_scope scope, const char *where, const char *key)
{
	const struct field *rows, *nearest = NULL;
	size_t count, best = NEAR_DISTANCE_MAX + 1;
	char allowed[sizeof(ret->allowed)] = "";
	size_t used = 0;

	rows = field_all(&count);
	for (size_t i = 0; i < count; i++) {
		const char *name = field_key(&rows[i]);
		size_t d = distance(key, name);

		if (rows[i].scope != scope)
			continue;
		/* "memory_mib" means "memory" though it is four letters off. */
		if (strncmp(key, name, strlen(name)) == 0)
			d = smaller(d, 1);
		if (d < best && d < strlen(name)) {
			best = d;
			nearest = &rows[i];
		}
		used += (size_t)snprintf(allowed + used, sizeof(allowed) - used, "%s%s", used > 0 ? ", " : "",
					 rows[i].doc.path);
		if (used >= sizeof(allowed))
			used = sizeof(allowed) - 1;
	}
	/* A cut list must not look like a complete one. */
	if (used == sizeof(allowed) - 1)
		(void)snprintf(allowed + used - 3, 4, "...");
	if (nearest != NULL)
		return spec_fail(ret, where, allowed, "there is no field \"%s\"; did you mean \"%s\"?", key,
				 nearest->doc.path);
	return spec_fail(ret, where, allowed, "there is no field \"%s\"", key);
}

/* ---- strings ----------------------------------------------------------------------------------------------------- */

static bool char_ok(enum field_type type, char c, bool first)
{
	bool plain = (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9');

	if (type == FIELD_NAME)
		return plain || (!first && (c == '.' || c == '_' || c == '-'));
	if (type == FIELD_ID)
		return plain || (!first && c == '-');
	if (type == FIELD_LINE)
		return c >= 0x20 && c <= 0x7e;
	/* A path may hold any UTF-8, but nothing that could end a line or steer a terminal. */
	return (unsigned char)c >= 0x20 && c != 0x7f;
}

/* What jansson would not take is refused where it comes in: on its way to the controller a spec is JSON, and a value that
 * cannot be written there would be one that silently is not there. U+0080 to U+009F steer a terminal as ESC does. */
static bool text_ok(const char *text)
{
	json_t *value = json_string(text);
	bool ok = value != NULL;

	json_decref(value);
	for (const char *p = text; ok && (p = strchr(p, '\xc2')) != NULL; p++)
		ok = (unsigned char)p[1] > 0x9f;
	return ok;
}

static int set_string(const struct field *field, char **member, const char *text, const char *where, struct spec_error *ret)
{
	size_t len = strlen(text);
	char *copy;

	if (len < field->min)
		return spec_fail(ret, where, field->doc.allowed, "is empty");
	if (len > field->max)
		return spec_fail(ret, where, field->doc.allowed, "has %zu characters, more than %u", len, field->max);
	for (size_t i = 0; i < len; i++)
		if (!char_ok(field->type, text[i], i == 0))
			return spec_fail(ret, where, field->doc.allowed,
					 "\"%.100s\" has a character that is not allowed, at %zu", text, i + 1);
	if (!text_ok(text))
		return spec_fail(ret, where, field->doc.allowed,
				 "\"%.100s\" is not UTF-8 without control characters; rename the file", text);
	copy = strdup(text);
	if (copy == NULL)
		return spec_fail(ret, where, NULL, "out of memory");
	free(*member);
	*member = copy;
	return 0;
}

/* ---- numbers ----------------------------------------------------------------------------------------------------- */

struct unit {
	const char *suffix; /* NULL ends the list */
	uint64_t factor;
};

static const struct unit size_units[] = { { "", 1 },       { "M", 1 },       { "MiB", 1 },       { "G", 1024 },
					  { "GiB", 1024 }, { "T", 1048576 }, { "TiB", 1048576 }, { 0 } };
static const struct unit time_units[] = { { "", 1000 }, { "ms", 1 }, { "s", 1000 }, { "m", 60000 }, { 0 } };
static const struct unit no_units[] = { { "", 1 }, { 0 } };

static const struct unit *units_of(enum field_type type)
{
	return type == FIELD_SIZE ? size_units : type == FIELD_TIME ? time_units : no_units;
}

static int set_number(const struct field *field, uint32_t *member, uint64_t value, const char *where, struct spec_error *ret)
{
	if (value < field->min || value > field->max)
		return spec_fail(ret, where, field->doc.allowed, "is outside its range");
	*member = (uint32_t)value;
	return 0;
}

/* Digits and a unit, nothing else: no sign, no blank, no other base, nothing that wraps. */
static int set_number_text(const struct field *field, uint32_t *member, const char *text, const char *where,
			   struct spec_error *ret)
{
	uint64_t value = 0;
	const char *p = text;

	for (; *p >= '0' && *p <= '9'; p++) {
		value = value * 10 + (uint64_t)(*p - '0');
		if (value > UINT32_MAX)
			return spec_fail(ret, where, field->doc.allowed, "\"%.40s\" is outside its range", text);
	}
	if (p != text)
		for (const struct unit *unit = units_of(field->type); unit->suffix != NULL; unit++)
			if (strcmp(p, unit->suffix) == 0)
				return set_number(field, member, value * unit->factor, where, ret);
	return spec_fail(ret, where, field->doc.allowed, "\"%.40s\" is not a %s", text, field->doc.type);
}

/* ---- the rest ---------------------------------------------------------------------------------------------------- */

static int set_bool_text(const struct field *field, bool *member, const char *text, const char *where,
			 struct spec_error *ret)
{
	static const char *const yes[] = { "true", "yes", "on", "1" }, *const no[] = { "false", "no", "off", "0" };

	for (size_t i = 0; i < ARRAY_SIZE(yes); i++) {
		if (strcmp(text, yes[i]) == 0 || strcmp(text, no[i]) == 0) {
			*member = strcmp(text, yes[i]) == 0;
			return 0;
		}
	}
	return spec_fail(ret, where, field->doc.allowed, "\"%.40s\" is neither true nor false", text);
}

static int set_choice(const struct field *field, void *member, const char *text, const char *where, struct spec_error *ret)
{
	for (const struct field_choice *c = field->choices; c->name != NULL; c++) {
		if (strcmp(c->name, text) == 0) {
			memcpy(member, &c->value, sizeof(c->value));
			return 0;
		}
	}
	return spec_fail(ret, where, field->doc.allowed, "\"%.40s\" is not one of the values it can have", text);
}

int field_set_text(const struct field *field, void *base, const char *text, const char *where, struct spec_error *ret)
{
	void *member = (char *)base + field->offset;

	switch (field->type) {
	case FIELD_PATH:
	case FIELD_NAME:
	case FIELD_ID:
	case FIELD_LINE:
		return set_string(field, member, text, where, ret);
	case FIELD_NUMBER:
	case FIELD_SIZE:
	case FIELD_TIME:
		return set_number_text(field, member, text, where, ret);
	case FIELD_BOOL:
		return set_bool_text(field, member, text, where, ret);
	case FIELD_CHOICE:
		return set_choice(field, member, text, where, ret);
	}
	return -EINVAL;
}

static const char *json_type_name(const json_t *value)
{
	switch (json_typeof(value)) {
	case JSON_OBJECT:
		return "an object";
	case JSON_ARRAY:
		return "a list";
	case JSON_STRING:
		return "a string";
	case JSON_INTEGER:
	case JSON_REAL:
		return "a number";
	case JSON_TRUE:
	case JSON_FALSE:
		return "true or false";
	case JSON_NULL:
		return "null";
	}
	return "?";
}

/* JSON keeps types apart: "vcpus": "2" and "survive": "yes" are mistakes, while sizes and times have a text form. */
int field_set_json(const struct field *field, void *base, const json_t *value, const char *where, struct spec_error *ret)
{
	void *member = (char *)base + field->offset;
	bool number = field->type == FIELD_NUMBER || field->type == FIELD_SIZE || field->type == FIELD_TIME;

	if (json_is_boolean(value) && field->type == FIELD_BOOL) {
		*(bool *)member = json_is_true(value);
		return 0;
	}
	if (json_is_integer(value) && number) {
		json_int_t n = json_integer_value(value);

		if (n < 0 || n > UINT32_MAX)
			return spec_fail(ret, where, field->doc.allowed, "%lld is outside its range", (long long)n);
		return set_number(field, member, (uint64_t)n * (field->type == FIELD_TIME ? 1000u : 1u), where, ret);
	}
	if (json_is_string(value) && field->type != FIELD_NUMBER && field->type != FIELD_BOOL)
		return field_set_text(field, base, json_string_value(value), where, ret);
	return spec_fail(ret, where, field->doc.allowed, "is %s, not a %s", json_type_name(value), field->doc.type);
}
