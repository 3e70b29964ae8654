/* SPDX-License-Identifier: Apache-2.0
 * Runs: tests (whoever runs them). The field lists of common/messages.h as data, expanded independently of wire.c, so
 * that tests and docs/protocol.md can walk over every field without a second hand-written list. */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "common/wire.h"

enum field_kind { FIELD_NUM, FIELD_FLAGS, FIELD_NAME, FIELD_TEXT, FIELD_BYTES, FIELD_SUB };

struct field {
	enum field_kind kind;
	const char *name;
	uint64_t lo, hi;  /* NUM: range; FLAGS: hi is the mask */
	size_t size;      /* bytes on the wire; of one part for SUB */
	size_t count;     /* SUB: how many */
	const char *part; /* SUB: which message */
};

struct message {
	const char *name;
	size_t wire_size; /* body, without header */
	size_t struct_size;
	const struct field *fields;
	size_t field_count;
};

struct operation {
	unsigned number;
	const char *name, *link, *from, *request, *reply, *request_fds, *reply_fds, *phases;
	enum wire_link link_id;
	enum wire_side from_id;
	unsigned phase_mask;
};

/* By name; never NULL for a name that comes from the tables. */
const struct message *message_by_name(const char *name);
const struct message *messages_all(size_t *ret_count);
const struct operation *operations_all(size_t *ret_count);
bool operation_has_reply(const struct operation *op);

/* One leaf of a message: a field that is not SUB, at its place in the body. */
struct leaf {
	const struct field *field;
	size_t offset;
	char path[96];
};

/* All leaves of a message, parts unrolled; a heap array that the caller frees. */
struct leaf *message_leaves(const struct message *message, size_t *ret_count);

/* Fill a body with bytes that are valid: variant 0 lowest values and empty strings, 1 highest values and full strings,
 * anything else pseudo-random. */
void message_fill(const struct message *message, unsigned variant, uint8_t *body);

/* Number of descriptors that this body asks for, from the text in the table (written here by hand, not by wire.c). */
size_t operation_fds(const struct operation *op, enum wire_kind kind, const uint8_t *body);

/* A session in which op's message of this kind may arrive. */
struct wire_session operation_session(const struct operation *op, enum wire_kind kind);
