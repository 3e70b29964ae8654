/* SPDX-License-Identifier: Apache-2.0
 * Runs: controller and CLI (the user). The table of all fields of a spec: one row drives parsing, checking, printing, the
 * command line, the schema, and the test of the man page. A new field is a new row (and a member of struct spec). */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "postern/spec.h"

#define SPEC_TEXT_MAX 262144u  /* bytes of a spec file */
#define SPEC_DEPTH_MAX 4u      /* deepest path: .nics[0].queues */
#define SPEC_PATH_MAX 4095u    /* PATH_MAX without its NUL */
#define SPEC_NAME_MAX 31u      /* NAME fields of the wire hold 32 bytes */
#define SPEC_ID_MAX 20u        /* what virtio-blk shows as a serial number */
#define SPEC_CMDLINE_MAX 1900u /* x86 kernels take 2047; the driver puts its own words first */
#define SPEC_STOP_MAX_MS 600000u

/* Which struct a row's offset is into. */
enum field_scope { SCOPE_SPEC, SCOPE_DISK, SCOPE_NIC };

enum field_type {
	FIELD_PATH, /* file name: anything but control characters */
	FIELD_NAME, /* [a-z0-9][a-z0-9._-]* */
	FIELD_ID,   /* [a-z0-9][a-z0-9-]* */
	FIELD_LINE, /* printable text */
	FIELD_NUMBER,
	FIELD_SIZE, /* MiB, or with a unit */
	FIELD_TIME, /* seconds, or with a unit; kept in ms */
	FIELD_BOOL,
	FIELD_CHOICE
};

struct field_choice {
	const char *name; /* NULL ends the list */
	int value;
};

struct field {
	struct spec_field doc;
	enum field_scope scope;
	enum field_type type;
	size_t offset;
	uint32_t min, max; /* numbers: closed range; strings: length */
	const struct field_choice *choices;
};

/* All rows. */
const struct field *field_all(size_t *ret_count);

/* The key of a row inside its own object: "queues" of "nics[].queues". */
const char *field_key(const struct field *field);

/* The row for key in scope (for SCOPE_SPEC the full path, "limits.pids"); NULL: there is none. */
const struct field *field_find(enum field_scope scope, const char *key);

/* Set the row's member of base from text as the command line or the table's default gives it. where is for the error. */
int field_set_text(const struct field *field, void *base, const char *text, const char *where, struct spec_error *ret);

/* The same from a JSON value. */
struct json_t;
int field_set_json(const struct field *field, void *base, const struct json_t *value, const char *where,
		   struct spec_error *ret);

/* Whether the member is a string that was not set: there is nothing to print then. */
bool field_unset(const struct field *field, const void *base);

/* The member as JSON; NULL: it is unset, cannot be JSON, or out of memory. New reference, the caller's. */
struct json_t *field_to_json(const struct field *field, const void *base);

/* Give every member of scope its default. */
int field_defaults(enum field_scope scope, void *base);

/* Free the strings of scope in base. */
void field_free(enum field_scope scope, void *base);

/* Fill *ret and return -EINVAL: what is wrong, where, and what would have been accepted (allowed may be NULL). Whatever
 * came from outside is made printable. */
int spec_fail(struct spec_error *ret, const char *where, const char *allowed, const char *format, ...)
	__attribute__((format(printf, 4, 5)));

/* Refuse key, which scope has no row for, and suggest the nearest that it has. */
int spec_fail_unknown(struct spec_error *ret, enum field_scope scope, const char *where, const char *key);
