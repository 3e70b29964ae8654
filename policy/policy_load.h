/* SPDX-License-Identifier: Apache-2.0
 * Runs: start (root), broker (no privilege). What the files of the loader share; nobody else includes it.
 *
 * The loader walks the document with the path it has taken in hand, so that every refusal can name line and JSON path
 * without anybody passing them around. */
#pragma once

#include <jansson.h>
#include <stddef.h>
#include <stdint.h>

#include "policy.h"

#define LOAD_DEPTH_MAX 8 /* deepest path of the schema is rules[0].quota.taps */

struct loader {
	const char *text;           /* the whole document, NUL-terminated; jansson has accepted it */
	struct policy *policy;
	struct policy_error *error;
	size_t depth;
	struct {
		const char *key;    /* NULL: element of an array */
		size_t ordinal;     /* n-th member or element */
	} path[LOAD_DEPTH_MAX];
};

/* What may stand under one key. Tables of these are the schema; the man page is compared with them. */
enum field_kind { FIELD_BOOL, FIELD_U8, FIELD_U32, FIELD_U64, FIELD_OTHER };

struct field {
	const char *key;
	size_t offset;              /* of what the value fills, in the struct being filled */
	uint64_t min, max;
	int (*load)(struct loader *l, json_t *value, void *out); /* FIELD_OTHER */
	enum field_kind kind;
	bool required;
};

/* Rows of such tables: a key that must be there (NEEDS) or may (TAKES), and a number of which width and range, a bool, a
 * part of the struct with a function of its own, or a function that gets the whole struct. */
#define FIELD_ROW(key, kind, offset, min, max, load, required) { key, offset, min, max, load, kind, required }
#define NEEDS(key, load) FIELD_ROW(key, FIELD_OTHER, 0, 0, 0, load, true)
#define TAKES(key, load) FIELD_ROW(key, FIELD_OTHER, 0, 0, 0, load, false)
#define TAKES_PART(key, load, type, member) FIELD_ROW(key, FIELD_OTHER, offsetof(type, member), 0, 0, load, false)
#define TAKES_BOOL(key, type, member) FIELD_ROW(key, FIELD_BOOL, offsetof(type, member), 0, 0, NULL, false)
#define TAKES_U8(key, type, member, min, max) FIELD_ROW(key, FIELD_U8, offsetof(type, member), min, max, NULL, false)
#define TAKES_U32(key, type, member, min, max) FIELD_ROW(key, FIELD_U32, offsetof(type, member), min, max, NULL, false)
#define TAKES_U64(key, type, member, min, max) FIELD_ROW(key, FIELD_U64, offsetof(type, member), min, max, NULL, false)
#define NEEDS_U32(key, type, member, min, max) FIELD_ROW(key, FIELD_U32, offsetof(type, member), min, max, NULL, true)

/* Refuse the thing the path leads to. Always -EINVAL. */
int load_fail(struct loader *l, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* Step into a member or element, and back. Overflow of the path is impossible by the schema's depth; it aborts nothing,
 * deeper steps are simply not recorded. */
void load_push(struct loader *l, const char *key, size_t ordinal);
void load_pop(struct loader *l);

/* Fill out from an object: unknown keys refused first, then every field in the order of the table. */
int load_object(struct loader *l, json_t *object, const struct field *fields, size_t count, void *out);

/* Call load for every element of an array of at most max; for every member of an object (ordinal order). */
int load_each(struct loader *l, json_t *array, size_t max, int (*load)(struct loader *, json_t *, void *), void *out);

/* A string's text, or NULL after load_fail. */
const char *load_string(struct loader *l, const json_t *value);

/* The sections, one file each. out is the struct policy or a part of it. */
int load_daemon(struct loader *l, json_t *value, void *out);
int load_ids(struct loader *l, json_t *value, void *out);
int load_hypervisors(struct loader *l, json_t *value, void *out);
int load_networks(struct loader *l, json_t *value, void *out);
int load_template(struct loader *l, json_t *value, void *out);
int load_rules(struct loader *l, json_t *value, void *out);
int load_quota(struct loader *l, json_t *value, void *out);

/* A user or group: number, or name looked up in NSS. *ret_gid (may be NULL) is the user's own group. */
int load_user(struct loader *l, const json_t *value, uint32_t *ret, gid_t *ret_gid);
int load_group(struct loader *l, const json_t *value, uint32_t *ret);
