/* SPDX-License-Identifier: Apache-2.0
 * Runs: tests (whoever runs them). Validation of every message: round trips, and every way to be refused. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "common/cleanup.h"
#include "fields.h"

static uint8_t buf[WIRE_MESSAGE_MAX + 1];
static struct wire_in in;

/* ---- every message of every operation, from the table ---------------------------------------------------------- */

/* Put a valid message of this kind into buf; returns its length. */
static size_t build(const struct operation *op, enum wire_kind kind, unsigned variant, size_t *ret_fds)
{
	const struct message *m = message_by_name(kind == WIRE_ERROR   ? "error"
						  : kind == WIRE_REPLY ? op->reply
								       : op->request);

	memset(buf, 0, sizeof(buf));
	buf[0] = (uint8_t)op->number, buf[1] = (uint8_t)(op->number >> 8);
	buf[2] = (uint8_t)kind;
	buf[4] = 0xef, buf[5] = 0xbe, buf[6] = 0xad, buf[7] = 0xde;
	message_fill(m, variant, buf + WIRE_HEADER_SIZE);
	*ret_fds = operation_fds(op, kind, buf + WIRE_HEADER_SIZE);
	return WIRE_HEADER_SIZE + m->wire_size;
}

/* Call check for every operation and every kind of message it has. */
static void each_message(void (*check)(const struct operation *op, enum wire_kind kind))
{
	size_t count;
	const struct operation *ops = operations_all(&count);

	assert_true(count >= 29);
	for (size_t i = 0; i < count; i++)
		for (unsigned kind = WIRE_REQUEST; kind <= WIRE_ERROR; kind++)
			if (kind == WIRE_REQUEST || operation_has_reply(&ops[i]))
				check(&ops[i], (enum wire_kind)kind);
}

static void expect_refused(const struct wire_session *session, size_t len, size_t fds, const char *why)
{
	memset(&in, 0x5a, sizeof(in));
	assert_int_equal(wire_decode(session, buf, len, fds, &in), -EPROTO);
	assert_non_null(in.why);
	if (why != NULL)
		assert_string_equal(in.why, why);
}

static void check_round_trip(const struct operation *op, enum wire_kind kind)
{
	static uint8_t again[WIRE_MESSAGE_MAX];
	struct wire_session session = operation_session(op, kind);

	for (unsigned variant = 0; variant < 32; variant++) {
		size_t fds, len = build(op, kind, variant, &fds);

		assert_int_equal(wire_decode(&session, buf, len, fds, &in), 0);
		assert_int_equal(in.op, op->number);
		assert_int_equal(in.kind, kind);
		assert_int_equal(in.sequence, 0xdeadbeef);
		assert_int_equal(wire_fd_count(in.op, in.kind, &in.msg), fds);
		assert_int_equal(wire_encode(in.op, in.kind, in.sequence, &in.msg, again, sizeof(again)), len);
		assert_memory_equal(again, buf, len);
	}
}

static void check_lengths(const struct operation *op, enum wire_kind kind)
{
	struct wire_session session = operation_session(op, kind);
	size_t fds, len = build(op, kind, 3, &fds);

	for (size_t cut = 0; cut < len; cut++)
		expect_refused(&session, cut, fds, cut < WIRE_HEADER_SIZE ? "shorter than a header" : "wrong length");
	expect_refused(&session, len + 1, fds, "wrong length");
	assert_int_equal(wire_encode((enum wire_op)op->number, kind, 0, &in.msg, buf, len - 1), -ENOSPC);
}

static void check_fd_counts(const struct operation *op, enum wire_kind kind)
{
	struct wire_session session = operation_session(op, kind);

	for (unsigned variant = 0; variant < 8; variant++) {
		size_t fds, len = build(op, kind, variant, &fds);

		for (size_t n = 0; n <= WIRE_FDS_MAX; n++) {
			if (n == fds)
				assert_int_equal(wire_decode(&session, buf, len, n, &in), 0);
			else
				expect_refused(&session, len, n, "wrong number of descriptors");
		}
	}
}

/* Who may say it, and when: every session that is not the right one refuses it. */
static void check_sessions(const struct operation *op, enum wire_kind kind)
{
	struct wire_session good = operation_session(op, kind);
	size_t fds, len = build(op, kind, 4, &fds);

	for (unsigned link = LINK_CLIENT; link <= LINK_CONTROL; link++)
		for (unsigned peer = FROM_CLIENT; peer <= FROM_CONTROLLER; peer++)
			for (unsigned phase = PHASE_NEW; phase <= PHASE_READY; phase *= 2)
				for (unsigned replies = 0; replies < 2; replies++) {
					struct wire_session s = { (enum wire_link)link, (enum wire_side)peer,
								  (enum wire_phase)phase, replies != 0 };
					bool allowed = s.link == op->link_id;

					if (kind == WIRE_REQUEST)
						allowed = allowed && s.peer == op->from_id && (op->phase_mask & phase) != 0;
					else
						allowed = allowed && s.peer != op->from_id && s.replies;
					if (allowed)
						assert_int_equal(wire_decode(&s, buf, len, fds, &in), 0);
					else
						expect_refused(&s, len, fds, NULL);
				}
	/* No other number has this body, and no other kind exists. */
	buf[2] = 3;
	expect_refused(&good, len, fds, "unknown kind of message");
	buf[2] = 0, buf[3] = 1;
	expect_refused(&good, len, fds, "unknown kind of message");
	buf[3] = 0, buf[0] = 200;
	expect_refused(&good, len, fds, "unknown operation");
	buf[0] = (uint8_t)op->number, buf[1] = 1;
	expect_refused(&good, len, fds, "unknown operation");
}

static void set_number(uint8_t *at, size_t size, uint64_t value)
{
	for (size_t b = 0; b < size; b++)
		at[b] = (uint8_t)(value >> (8 * b));
}

/* Each number of each message: below, above and at both ends of its range; each flag word: every bit outside. */
static size_t violate_number(const struct wire_session *session, const struct leaf *leaf, size_t len, size_t fds)
{
	const struct field *f = leaf->field;
	uint8_t *at = buf + WIRE_HEADER_SIZE + leaf->offset;
	uint64_t top = f->size == 8 ? UINT64_MAX : (UINT64_C(1) << (8 * f->size)) - 1;
	uint8_t saved[8];
	size_t tried = 0;

	memcpy(saved, at, f->size);
	if (f->kind == FIELD_FLAGS) {
		for (unsigned bit = 0; bit < 32; bit++) {
			if ((f->hi >> bit & 1) != 0)
				continue;
			set_number(at, 4, UINT64_C(1) << bit);
			expect_refused(session, len, fds, NULL);
			assert_non_null(strstr(in.why, "has an unknown bit"));
			tried++;
		}
	} else {
		const uint64_t bad[] = { f->lo - 1, f->hi + 1, top, 0 };

		for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
			if (bad[i] > top || (bad[i] >= f->lo && bad[i] <= f->hi))
				continue;
			set_number(at, f->size, bad[i]);
			expect_refused(session, len, fds, NULL);
			assert_non_null(strstr(in.why, "is outside its range"));
			tried++;
		}
	}
	memcpy(at, saved, f->size);
	return tried;
}

static size_t violate_chars(const struct wire_session *session, const struct leaf *leaf, size_t len, size_t fds)
{
	static const char *const bad_names[] = { "-rf",
						 ".hidden",
						 "_x",
						 "a/b",
						 "/",
						 "..",
						 "a%d",
						 "%d",
						 "A",
						 "aB",
						 "a b",
						 " ",
						 "a\n",
						 "a\x7f",
						 "a\xc3\xa9",
						 "\xe2\x80\xae-",
						 "a*",
						 "a:b",
						 "a=b",
						 "a,b",
						 "a\x01" };
	static const char *const bad_texts[] = { "a\n", "\t", "a\x1b[2J", "a\x7f", "\xc3\xa9", "a\x01", "\xff" };
	const struct field *f = leaf->field;
	bool name = f->kind == FIELD_NAME;
	const char *const *bad = name ? bad_names : bad_texts;
	size_t count = name ? ARRAY_SIZE(bad_names) : ARRAY_SIZE(bad_texts);
	uint8_t *at = buf + WIRE_HEADER_SIZE + leaf->offset;
	uint8_t saved[256];

	assert_true(f->size <= sizeof(saved));
	memcpy(saved, at, f->size);
	for (size_t i = 0; i < count; i++) {
		memset(at, 0, f->size);
		memcpy(at, bad[i], strlen(bad[i]));
		expect_refused(session, len, fds, NULL);
		assert_non_null(strstr(in.why, name ? "is not a name" : "is not plain text"));
	}
	memset(at, 'a', f->size); /* no NUL at all */
	expect_refused(session, len, fds, NULL);
	memset(at, 0, f->size);
	memcpy(at, "a\0b", 3); /* an embedded NUL */
	expect_refused(session, len, fds, NULL);
	memset(at, 0, f->size);
	at[f->size - 1] = 'a'; /* empty, with something behind it */
	expect_refused(session, len, fds, NULL);
	memcpy(at, saved, f->size);
	return count + 3;
}

static void check_fields(const struct operation *op, enum wire_kind kind)
{
	struct wire_session session = operation_session(op, kind);
	size_t fds, len = build(op, kind, 5, &fds), leaf_count, tried = 0;
	const struct message *m = message_by_name(kind == WIRE_ERROR   ? "error"
						  : kind == WIRE_REPLY ? op->reply
								       : op->request);
	struct leaf *leaves = message_leaves(m, &leaf_count);

	for (size_t i = 0; i < leaf_count; i++) {
		const struct field *f = leaves[i].field;

		if (f->kind == FIELD_NUM || f->kind == FIELD_FLAGS)
			tried += violate_number(&session, &leaves[i], len, fds);
		else if (f->kind != FIELD_BYTES)
			tried += violate_chars(&session, &leaves[i], len, fds);
	}
	assert_int_equal(wire_decode(&session, buf, len, fds, &in), 0); /* and everything was put back */
	if (strcmp(m->name, "acquire") == 0)
		assert_true(tried > 500);
	free(leaves);
}

static void every_message_round_trips(void **state)
{
	(void)state;
	each_message(check_round_trip);
}

static void every_other_length_is_refused(void **state)
{
	(void)state;
	each_message(check_lengths);
}

static void descriptor_counts_are_exact(void **state)
{
	(void)state;
	each_message(check_fd_counts);
}

static void wrong_link_direction_phase_kind(void **state)
{
	(void)state;
	each_message(check_sessions);
}

static void every_range_and_form_violation(void **state)
{
	(void)state;
	each_message(check_fields);
}

/* ---- the encoder refuses what the decoder would ------------------------------------------------------------------- */

static void encoder_refuses_bad_fields(void **state)
{
	struct wire_stop stop = { .signal = 65 };
	struct wire_acquire acquire = { .hypervisor = "qemu", .vcpus = 0, .memory_mib = 1 };
	struct wire_name name = { .name = "No" };
	struct wire_lease_id id = { .id = 0 };

	(void)state;
	assert_int_equal(wire_encode(WIRE_OP_C_STOP, WIRE_REQUEST, 0, &stop, buf, sizeof(buf)), -EINVAL);
	assert_int_equal(wire_encode(WIRE_OP_ACQUIRE, WIRE_REQUEST, 0, &acquire, buf, sizeof(buf)), -EINVAL);
	acquire.vcpus = 1;
	assert_true(wire_encode(WIRE_OP_ACQUIRE, WIRE_REQUEST, 0, &acquire, buf, sizeof(buf)) > 0);
	acquire.nics[7].flags = 4; /* unused, yet checked: nothing hides in it */
	assert_int_equal(wire_encode(WIRE_OP_ACQUIRE, WIRE_REQUEST, 0, &acquire, buf, sizeof(buf)), -EINVAL);
	assert_int_equal(wire_encode(WIRE_OP_HYPERVISOR, WIRE_REQUEST, 0, &name, buf, sizeof(buf)), -EINVAL);
	assert_int_equal(wire_encode(WIRE_OP_S_KILL, WIRE_REQUEST, 0, &id, buf, sizeof(buf)), -EINVAL);
	assert_int_equal(wire_encode(WIRE_OP_S_KILL, WIRE_REPLY, 0, &id, buf, sizeof(buf)), -EINVAL);
	assert_int_equal(wire_encode(WIRE_OP_S_KILL, WIRE_ERROR, 0, &id, buf, sizeof(buf)), -EINVAL);
	assert_int_equal(wire_encode((enum wire_op)250, WIRE_REQUEST, 0, &id, buf, sizeof(buf)), -EINVAL);
	assert_int_equal(wire_fd_count((enum wire_op)250, WIRE_REQUEST, &id), -1);
	assert_int_equal(wire_fd_count(WIRE_OP_S_KILL, WIRE_REPLY, &id), -1);
	assert_int_equal(wire_fd_count(WIRE_OP_S_KILL, WIRE_ERROR, &id), -1);
}

/* D20: names are compared before they could be truncated, at the sizes where interface names break. */
static void d20_name_lengths(void **state)
{
	static const size_t lengths[] = { 0, 1, 14, 15, 16, 17, 31 };
	struct wire_name name;
	char longer[300];

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(lengths); i++) {
		memset(longer, 'a', sizeof(longer));
		longer[lengths[i]] = '\0';
		assert_int_equal(wire_set_chars(name.name, sizeof(name.name), longer), 0);
		assert_true(wire_name_ok(name.name, sizeof(name.name)));
		assert_string_equal(name.name, longer);
	}
	for (size_t len = 32; len <= 255; len++) {
		memset(longer, 'a', sizeof(longer));
		longer[len] = '\0';
		memset(&name, 'z', sizeof(name));
		assert_int_equal(wire_set_chars(name.name, sizeof(name.name), longer), -ENAMETOOLONG);
		assert_int_equal(name.name[0], 'z'); /* untouched, not truncated */
	}
	assert_false(wire_name_ok("", 0));
}

/* No message from an unprivileged peer may carry a path, an argv word or any free text. */
static void clients_cannot_send_text(void **state)
{
	size_t count, leaf_count;
	const struct operation *ops = operations_all(&count);

	(void)state;
	for (size_t i = 0; i < count; i++) {
		struct leaf *leaves = message_leaves(message_by_name(ops[i].request), &leaf_count);

		if (ops[i].from_id == FROM_CLIENT)
			for (size_t l = 0; l < leaf_count; l++)
				assert_int_not_equal(leaves[l].field->kind, FIELD_TEXT);
		free(leaves);
	}
}

static void texts_for_people(void **state)
{
	(void)state;
	assert_string_equal(wire_op_name(WIRE_OP_ACQUIRE), "ACQUIRE");
	assert_string_equal(wire_op_name(0), "?");
	assert_string_equal(wire_op_name(10), "?");
	assert_string_equal(wire_op_name(100000), "?");
	assert_string_equal(wire_grant_name(WIRE_GRANT_VHOST_NET), "vhost-net");
	assert_string_equal(wire_grant_name(WIRE_GRANT_COUNT), "?");
	assert_string_equal(wire_step_name(STEP_DROP_CAPSET), "DROP_CAPSET");
	assert_string_equal(wire_step_text(STEP_DROP_CAPSET), "clear the capability sets");
	assert_string_equal(wire_step_text(255), "?");
	assert_string_equal(wire_step_name(255), "?");
	assert_string_equal(wire_error_name(WIRE_ERR_INTERNAL), "INTERNAL");
	assert_string_equal(wire_error_name(255), "?");
	assert_string_equal(wire_outcome_text(WIRE_BY_BY_FD), "granted: descriptor");
	assert_string_equal(wire_outcome_text(255), "?");
	for (unsigned i = 0; i < 256; i++) /* what the text says and what the predicate says agree */
		assert_int_equal(wire_outcome_ok(i), strncmp(wire_outcome_text(i), "granted", 7) == 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_message_round_trips),
		cmocka_unit_test(every_other_length_is_refused),
		cmocka_unit_test(descriptor_counts_are_exact),
		cmocka_unit_test(wrong_link_direction_phase_kind),
		cmocka_unit_test(every_range_and_form_violation),
		cmocka_unit_test(encoder_refuses_bad_fields),
		cmocka_unit_test(d20_name_lengths),
		cmocka_unit_test(clients_cannot_send_text),
		cmocka_unit_test(texts_for_people),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
