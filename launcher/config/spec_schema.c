/* SPDX-License-Identifier: Apache-2.0
 * Runs: CLI (the user). The table as a JSON schema (draft 2020-12), for editors. */
#include <jansson.h>
#include <stdio.h>
#include <string.h>

#include "spec_table.h"

static json_t *choices_schema(const struct field *field)
{
	json_t *names = json_array();

	for (const struct field_choice *c = field->choices; c->name != NULL; c++)
		(void)json_array_append_new(names, json_string(c->name));
	return json_pack("{s:o}", "enum", names);
}

/* What the parser accepts for one row, as far as a schema can say it. */
static json_t *type_schema(const struct field *field)
{
	long long min = field->min, max = field->max;

	switch (field->type) {
	case FIELD_PATH:
		return json_pack("{s:s s:I s:I}", "type", "string", "minLength", min, "maxLength", max);
	case FIELD_NAME:
		return json_pack("{s:s s:s s:I}", "type", "string", "pattern", "^[a-z0-9][a-z0-9._-]*$", "maxLength", max);
	case FIELD_ID:
		return json_pack("{s:s s:s s:I}", "type", "string", "pattern", "^[a-z0-9][a-z0-9-]*$", "maxLength", max);
	case FIELD_LINE:
		return json_pack("{s:s s:s s:I}", "type", "string", "pattern", "^[ -~]*$", "maxLength", max);
	case FIELD_NUMBER:
		return json_pack("{s:s s:I s:I}", "type", "integer", "minimum", min, "maximum", max);
	case FIELD_SIZE:
		return json_pack("{s:[ss] s:I s:I s:s}", "type", "integer", "string", "minimum", min, "maximum", max,
				 "pattern", "^[0-9]+(M|MiB|G|GiB|T|TiB)?$");
	case FIELD_TIME:
		return json_pack("{s:[ss] s:I s:I s:s}", "type", "integer", "string", "minimum", min / 1000, "maximum",
				 max / 1000, "pattern", "^[0-9]+(ms|s|m)?$");
	case FIELD_BOOL:
		return json_pack("{s:s}", "type", "boolean");
	case FIELD_CHOICE:
		return choices_schema(field);
	}
	return NULL;
}

static json_t *default_schema(const struct field *field)
{
	const char *text = field->doc.fallback;

	if (field->type == FIELD_BOOL)
		return json_boolean(strcmp(text, "true") == 0);
	if (field->type == FIELD_NUMBER || field->type == FIELD_SIZE || field->type == FIELD_TIME)
		return json_integer(strtoll(text, NULL, 10));
	return text[0] != '\0' ? json_string(text) : NULL;
}

static json_t *object_schema(json_t *properties)
{
	return json_pack("{s:s s:b s:o}", "type", "object", "additionalProperties", 0, "properties", properties);
}

static void add_row(json_t *properties, const struct field *field)
{
	json_t *schema = type_schema(field), *fallback = default_schema(field);

	(void)json_object_set_new(schema, "description", json_string(field->doc.meaning));
	if (fallback != NULL)
		(void)json_object_set_new(schema, "default", fallback);
	(void)json_object_set_new(properties, field_key(field), schema);
}

static void add_list(json_t *top, const char *key, json_t *properties, const char *required, unsigned max)
{
	json_t *item = object_schema(properties);

	if (required != NULL)
		(void)json_object_set_new(item, "required", json_pack("[s]", required));
	(void)json_object_set_new(top, key,
				  json_pack("{s:s s:i s:o}", "type", "array", "maxItems", (int)max, "items", item));
}

struct json_t *spec_schema(void)
{
	json_t *top = json_object(), *disk = json_object(), *nic = json_object();
	json_t *schema;
	size_t count;
	const struct field *rows = field_all(&count);

	for (size_t i = 0; i < count; i++) {
		const char *dot = strchr(rows[i].doc.path, '.');
		json_t *into = rows[i].scope == SCOPE_DISK ? disk : rows[i].scope == SCOPE_NIC ? nic : top;
		char group[32];

		if (rows[i].scope == SCOPE_SPEC && dot != NULL) {
			(void)snprintf(group, sizeof(group), "%.*s", (int)(dot - rows[i].doc.path), rows[i].doc.path);
			if (json_object_get(top, group) == NULL)
				(void)json_object_set_new(top, group, object_schema(json_object()));
			into = json_object_get(json_object_get(top, group), "properties");
		}
		add_row(into, &rows[i]);
	}
	add_list(top, "disks", disk, "path", SPEC_DISKS_MAX);
	add_list(top, "nics", nic, NULL, SPEC_NICS_MAX);
	schema = object_schema(top);
	(void)json_object_set_new(schema, "$schema", json_string("https://json-schema.org/draft/2020-12/schema"));
	(void)json_object_set_new(schema, "title", json_string("Postern sandbox specification"));
	return schema;
}
