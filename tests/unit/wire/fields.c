/* SPDX-License-Identifier: Apache-2.0
 * Runs: tests (whoever runs them). */
#include "fields.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/cleanup.h"

/* clang-format off */
#define F_NUM(n, l, h, bytes) { .kind = FIELD_NUM, .name = #n, .lo = (l), .hi = (h), .size = bytes },
#define F_8(n, l, h) F_NUM(n, l, h, 1)
#define F_16(n, l, h) F_NUM(n, l, h, 2)
#define F_32(n, l, h) F_NUM(n, l, h, 4)
#define F_64(n, l, h) F_NUM(n, l, h, 8)
#define F_FLAGS(n, mask) { .kind = FIELD_FLAGS, .name = #n, .hi = (mask), .size = 4 },
#define F_NAME(n, s) { .kind = FIELD_NAME, .name = #n, .size = (s) },
#define F_TEXT(n, s) { .kind = FIELD_TEXT, .name = #n, .size = (s) },
#define F_BYTES(n, s) { .kind = FIELD_BYTES, .name = #n, .size = (s) },
#define F_SUB(n, c, m) { .kind = FIELD_SUB, .name = #n, .size = WIRE_SIZE_##m, .count = (c), .part = #m },
/* The last entry is only there because a message may have no field at all. */
#define FIELDS(m) static const struct field fields_##m[] = { \
	MSG_##m(F_8, F_16, F_32, F_64, F_FLAGS, F_NAME, F_TEXT, F_BYTES, F_SUB) { .name = NULL } };
WIRE_MESSAGES(FIELDS)

#define MESSAGE(m) { #m, WIRE_SIZE_##m, sizeof(struct wire_##m), fields_##m, ARRAY_SIZE(fields_##m) - 1 },
static const struct message messages[] = { WIRE_MESSAGES(MESSAGE) };

#define OPERATION(num, NAME, LINK, FROM, req, req_fds, rep, rep_fds, ph) \
	{ num, #NAME, #LINK, #FROM, #req, #rep, #req_fds, #rep_fds, #ph, LINK_##LINK, FROM, ph },
static const struct operation operations[] = { WIRE_OPS(OPERATION) };
/* clang-format on */

const struct operation *operations_all(size_t *ret_count)
{
	*ret_count = ARRAY_SIZE(operations);
	return operations;
}

bool operation_has_reply(const struct operation *op)
{
	return strcmp(op->reply_fds, "NO_REPLY") != 0;
}

const struct message *messages_all(size_t *ret_count)
{
	*ret_count = ARRAY_SIZE(messages);
	return messages;
}

const struct message *message_by_name(const char *name)
{
	for (size_t i = 0; i < ARRAY_SIZE(messages); i++)
		if (strcmp(messages[i].name, name) == 0)
			return &messages[i];
	abort();
}

static size_t count_leaves(const struct message *message)
{
	size_t count = 0;

	for (size_t i = 0; i < message->field_count; i++) {
		const struct field *f = &message->fields[i];

		count += f->kind == FIELD_SUB ? f->count * count_leaves(message_by_name(f->part)) : 1;
	}
	return count;
}

static size_t add_leaves(const struct message *message, const char *prefix, size_t offset, struct leaf *out)
{
	size_t count = 0;

	for (size_t i = 0; i < message->field_count; i++) {
		const struct field *f = &message->fields[i];

		if (f->kind != FIELD_SUB) {
			out[count].field = f;
			out[count].offset = offset;
			(void)snprintf(out[count].path, sizeof(out[count].path), "%s.%s", prefix, f->name);
			count++;
			offset += f->size;
			continue;
		}
		for (size_t n = 0; n < f->count; n++) {
			char inner[96];

			(void)snprintf(inner, sizeof(inner), "%s.%s[%zu]", prefix, f->name, n);
			count += add_leaves(message_by_name(f->part), inner, offset, out + count);
			offset += f->size;
		}
	}
	return count;
}

struct leaf *message_leaves(const struct message *message, size_t *ret_count)
{
	size_t count = count_leaves(message);
	struct leaf *leaves = calloc(count + 1, sizeof(*leaves));

	if (leaves == NULL)
		abort();
	if (add_leaves(message, message->name, 0, leaves) != count)
		abort();
	*ret_count = count;
	return leaves;
}

/* splitmix64: the same bytes on every machine. */
static uint64_t next_random(uint64_t *state)
{
	uint64_t z = (*state += 0x9e3779b97f4a7c15u);

	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
	z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
	return z ^ (z >> 31);
}

static uint64_t pick_number(const struct field *f, unsigned variant, uint64_t *state)
{
	uint64_t r = next_random(state);

	if (f->kind == FIELD_FLAGS)
		return variant == 0 ? 0 : variant == 1 ? f->hi : r & f->hi;
	if (variant < 2)
		return variant == 0 ? f->lo : f->hi;
	return f->hi - f->lo == UINT64_MAX ? r : f->lo + r % (f->hi - f->lo + 1);
}

void message_fill(const struct message *message, unsigned variant, uint8_t *body)
{
	static const char letters[] = "abcxyz0189._-";
	uint64_t state = variant;
	size_t count;
	struct leaf *leaves = message_leaves(message, &count);

	memset(body, 0, message->wire_size);
	for (size_t i = 0; i < count; i++) {
		const struct field *f = leaves[i].field;
		uint8_t *at = body + leaves[i].offset;
		uint64_t number = pick_number(f, variant, &state);
		size_t len = variant == 0 ? 0 : variant == 1 ? f->size - 1 : next_random(&state) % f->size;

		if (f->kind == FIELD_NUM || f->kind == FIELD_FLAGS) {
			for (size_t b = 0; b < f->size; b++)
				at[b] = (uint8_t)(number >> (8 * b));
			continue;
		}
		if (f->kind == FIELD_BYTES)
			len = f->size;
		for (size_t b = 0; b < len; b++) {
			uint64_t r = next_random(&state);

			if (f->kind == FIELD_BYTES)
				at[b] = variant == 0 ? 0 : (uint8_t)r;
			else if (f->kind == FIELD_TEXT)
				at[b] = (uint8_t)(0x20 + r % 0x5f);
			else
				at[b] = (uint8_t)letters[r % (b == 0 ? 10 : sizeof(letters) - 1)];
		}
	}
	free(leaves);
}

/* Sum of the one-byte fields with these names, or bits of a u32 field. */
static size_t value_of(const char *message, const uint8_t *body, const char *field)
{
	const struct message *m = message_by_name(message);
	size_t offset = 0;

	for (size_t i = 0; i < m->field_count; i++) {
		const struct field *f = &m->fields[i];
		size_t value = 0;

		if (f->kind == FIELD_SUB) {
			offset += f->size * f->count;
			continue;
		}
		if (strcmp(f->name, field) == 0) {
			for (size_t b = 0; b < f->size; b++)
				value |= (size_t)body[offset + b] << (8 * b);
			return value;
		}
		offset += f->size;
	}
	abort();
}

size_t operation_fds(const struct operation *op, enum wire_kind kind, const uint8_t *body)
{
	const char *text = kind == WIRE_REQUEST ? op->request_fds : op->reply_fds;

	if (kind == WIRE_ERROR)
		return 0;
	if (strcmp(text, "fds_of_start") == 0)
		return 1 + value_of("start", body, "vhost_fds") + value_of("start", body, "vsock_fd");
	if (strcmp(text, "fds_of_plan") == 0)
		return value_of("plan", body, "asset_count");
	if (strcmp(text, "fds_of_joined") == 0) {
		size_t bits = 0;

		for (size_t v = value_of("joined", body, "present"); v != 0; v &= v - 1)
			bits++;
		return bits;
	}
	if (text[0] < '0' || text[0] > '9') {
		(void)fprintf(stderr, "%s: teach operation_fds() what %s means\n", op->name, text);
		abort();
	}
	return strtoul(text, NULL, 10);
}

struct wire_session operation_session(const struct operation *op, enum wire_kind kind)
{
	struct wire_session session = { .link = op->link_id, .peer = op->from_id, .replies = true };

	session.phase = (op->phase_mask & PHASE_READY) != 0  ? PHASE_READY
			: (op->phase_mask & PHASE_SYNC) != 0 ? PHASE_SYNC
							     : PHASE_NEW;
	if (kind != WIRE_REQUEST) /* replies come from the side that does not ask */
		session.peer = (enum wire_side)(op->from_id == FROM_CLIENT ? FROM_BROKER : FROM_CLIENT);
	return session;
}
