/* SPDX-License-Identifier: Apache-2.0
 * Runs: controller and CLI (the user). Receipts as JSON and back. Lease and facts are made from the field lists of
 * common/messages.h, so that a new field is in the JSON at once; docs/receipt.schema.json describes the whole.
 *
 * Numbers above 2^53 are decimal strings: a JSON reader that thinks in doubles would round them. */
#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/cleanup.h"
#include "receipt_fields.h"

#define RECEIPT_VERSION 1
#define EXACT_MAX (1ull << 53)

/* ---- values ------------------------------------------------------------------------------------------------------ */

static json_t *from_number(uint64_t value)
{
	char text[24];

	if (value <= EXACT_MAX)
		return json_integer((json_int_t)value);
	(void)snprintf(text, sizeof(text), "%llu", (unsigned long long)value);
	return json_string(text);
}

static bool to_number(const json_t *json, uint64_t min, uint64_t max, uint64_t *ret)
{
	uint64_t value;

	if (json_is_integer(json) && json_integer_value(json) >= 0) {
		value = (uint64_t)json_integer_value(json);
	} else if (json_is_string(json)) {
		const char *text = json_string_value(json);
		char *end;

		if (text[0] < '0' || text[0] > '9')
			return false;
		errno = 0;
		value = strtoull(text, &end, 10);
		if (errno != 0 || *end != '\0')
			return false;
	} else {
		return false;
	}
	if (value < min || value > max)
		return false;
	*ret = value;
	return true;
}

static json_t *from_bytes(const uint8_t *bytes, size_t size)
{
	char text[2 * 64 + 1] = "";

	for (size_t i = 0; i < size && i < 64; i++)
		(void)snprintf(text + 2 * i, 3, "%02x", bytes[i]);
	return json_string(text);
}

static bool to_bytes(const json_t *json, uint8_t *bytes, size_t size)
{
	const char *text = json_string_value(json);

	if (text == NULL || strlen(text) != 2 * size)
		return false;
	for (size_t i = 0; i < size; i++) {
		char pair[3] = { text[2 * i], text[2 * i + 1], '\0' };

		if (strspn(pair, "0123456789abcdef") != 2)
			return false;
		bytes[i] = (uint8_t)strtoul(pair, NULL, 16);
	}
	return true;
}

static bool to_chars(const json_t *json, char *chars, size_t size)
{
	const char *text = json_string_value(json);

	return text != NULL && strlen(text) == json_string_length(json) && wire_set_chars(chars, size, text) == 0;
}

/* ---- messages, made from their field lists ------------------------------------------------------------------------ */

static bool all_zero(const void *data, size_t size)
{
	const unsigned char *bytes = data;

	for (size_t i = 0; i < size; i++)
		if (bytes[i] != 0)
			return false;
	return true;
}

/* clang-format off */
#define JSON_MESSAGES(X) X(nic) X(limits) X(lease) X(fact_id) X(fact_ids) X(fact_ns) X(fact_fd) X(facts)

#define J_NUM(n, lo, hi) json_object_set_new(o, #n, from_number(m->n));
#define J_FLAGS(n, mask) json_object_set_new(o, #n, from_number(m->n));
#define J_CHARS(n, size) json_object_set_new(o, #n, json_string(m->n));
#define J_BYTES(n, size) json_object_set_new(o, #n, from_bytes(m->n, size));
/* One of a kind is an object; a table is an array without the empty rows at its end. */
#define J_SUB(n, count, kind) { \
		size_t used = (count); \
		json_t *list = json_array(); \
		while (used > 0 && all_zero(&m->n[used - 1], sizeof(m->n[0]))) used--; \
		for (size_t i = 0; i < used; i++) json_array_append_new(list, json_of_##kind(&m->n[i])); \
		if ((count) == 1) { json_decref(list); list = json_of_##kind(&m->n[0]); } \
		json_object_set_new(o, #n, list); \
	}
#define TO_JSON(name) \
	static json_t *json_of_##name(const struct wire_##name *m) \
	{ \
		json_t *o = json_object(); \
		MSG_##name(J_NUM, J_NUM, J_NUM, J_NUM, J_FLAGS, J_CHARS, J_CHARS, J_BYTES, J_SUB) \
		return o; \
	}
JSON_MESSAGES(TO_JSON)

#define L_NUM(n, lo, hi) \
	{ uint64_t v = 0; ok = ok && to_number(json_object_get(o, #n), (lo), (hi), &v); m->n = (__typeof__(m->n))v; \
	  fields++; }
#define L_FLAGS(n, mask) \
	{ uint64_t v = 0; ok = ok && to_number(json_object_get(o, #n), 0, (mask), &v) && (v & ~(uint64_t)(mask)) == 0; \
	  m->n = (uint32_t)v; fields++; }
#define L_CHARS(n, size) ok = ok && to_chars(json_object_get(o, #n), m->n, size); fields++;
#define L_BYTES(n, size) ok = ok && to_bytes(json_object_get(o, #n), m->n, size); fields++;
#define L_SUB(n, count, kind) { \
		const json_t *list = json_object_get(o, #n); \
		fields++; \
		if ((count) == 1) ok = ok && load_##kind(list, &m->n[0]); \
		else ok = ok && json_is_array(list) && json_array_size(list) <= (count); \
		for (size_t i = 0; ok && (count) > 1 && i < json_array_size(list); i++) \
			ok = load_##kind(json_array_get(list, i), &m->n[i]); \
	}
#define FROM_JSON(name) \
	static bool load_##name(const json_t *o, struct wire_##name *m) \
	{ \
		bool ok = json_is_object(o); \
		size_t fields = 0; \
		MSG_##name(L_NUM, L_NUM, L_NUM, L_NUM, L_FLAGS, L_CHARS, L_CHARS, L_BYTES, L_SUB) \
		return ok && json_object_size(o) == fields; \
	}
JSON_MESSAGES(FROM_JSON)
/* clang-format on */

/* ---- views ------------------------------------------------------------------------------------------------------- */

static json_t *json_of_view(const struct receipt_view *view)
{
	json_t *o = json_object();

	json_object_set_new(o, "seen", json_boolean(view->seen));
	json_object_set_new(o, "pid", from_number((uint64_t)view->pid));
	json_object_set_new(o, "inner", from_number((uint64_t)view->inner));
	json_object_set_new(o, "ids", json_of_fact_ids(&view->ids));
	json_object_set_new(o, "cgroup", json_string(view->cgroup));
	json_object_set_new(o, "uid_map", json_string(view->uid_map));
	json_object_set_new(o, "gid_map", json_string(view->gid_map));
	json_object_set_new(o, "run_label", json_string(view->run_label));
	json_object_set_new(o, "threads", from_number(view->threads));
	json_object_set_new(o, "threads_filtered", from_number(view->threads_filtered));
	json_object_set_new(o, "memory_max", from_number(view->memory_max));
	json_object_set_new(o, "pids_max", from_number(view->pids_max));
	json_object_set_new(o, "swap_max", from_number(view->swap_max));
	json_object_set_new(o, "cpu_max", from_number(view->cpu_max));
	json_object_set_new(o, "io_weight", from_number(view->io_weight));
	return o;
}

static bool load_view(const json_t *o, struct receipt_view *view)
{
	uint64_t pid, inner, threads, filtered;

	if (!json_is_boolean(json_object_get(o, "seen")) || !to_number(json_object_get(o, "pid"), 0, INT32_MAX, &pid) ||
	    !to_number(json_object_get(o, "inner"), 0, INT32_MAX, &inner) ||
	    !to_number(json_object_get(o, "threads"), 0, UINT32_MAX, &threads) ||
	    !to_number(json_object_get(o, "threads_filtered"), 0, UINT32_MAX, &filtered) ||
	    !to_number(json_object_get(o, "memory_max"), 0, UINT64_MAX, &view->memory_max) ||
	    !to_number(json_object_get(o, "pids_max"), 0, UINT64_MAX, &view->pids_max) ||
	    !to_number(json_object_get(o, "swap_max"), 0, UINT64_MAX, &view->swap_max) ||
	    !to_number(json_object_get(o, "cpu_max"), 0, UINT64_MAX, &view->cpu_max) ||
	    !to_number(json_object_get(o, "io_weight"), 0, UINT64_MAX, &view->io_weight))
		return false;
	view->seen = json_is_true(json_object_get(o, "seen"));
	view->pid = (pid_t)pid;
	view->inner = (pid_t)inner;
	view->threads = (uint32_t)threads;
	view->threads_filtered = (uint32_t)filtered;
	return load_fact_ids(json_object_get(o, "ids"), &view->ids) &&
	       to_chars(json_object_get(o, "cgroup"), view->cgroup, sizeof(view->cgroup)) &&
	       to_chars(json_object_get(o, "uid_map"), view->uid_map, sizeof(view->uid_map)) &&
	       to_chars(json_object_get(o, "gid_map"), view->gid_map, sizeof(view->gid_map)) &&
	       to_chars(json_object_get(o, "run_label"), view->run_label, sizeof(view->run_label)) &&
	       json_object_size(o) == 15;
}

/* ---- rows -------------------------------------------------------------------------------------------------------- */

static const char *const mark_names[] = {
	[RECEIPT_OK] = "ok", [RECEIPT_WRONG] = "wrong", [RECEIPT_ABSENT] = "absent", [RECEIPT_INFO] = "info"
};

static json_t *json_of_row(const struct receipt_row *row)
{
	json_t *o = json_object();

	json_object_set_new(o, "field", json_string(row->field));
	json_object_set_new(o, "mark", json_string(mark_names[row->mark]));
	json_object_set_new(o, "expected", json_string(row->expected));
	json_object_set_new(o, "found", json_string(row->found));
	return o;
}

static bool load_row(const json_t *o, struct receipt_row *row)
{
	const char *name = json_string_value(json_object_get(o, "field"));
	const char *mark = json_string_value(json_object_get(o, "mark"));
	int field = name != NULL ? receipt_field_number(name) : -1;

	if (field < 0 || mark == NULL || json_object_size(o) != 4)
		return false;
	row->field = receipt_field_name((unsigned)field); /* static text, as the rows of a fresh receipt have */
	for (unsigned i = 0; i < ARRAY_SIZE(mark_names); i++) {
		if (strcmp(mark_names[i], mark) == 0) {
			row->mark = (enum receipt_mark)i;
			return to_chars(json_object_get(o, "expected"), row->expected, sizeof(row->expected)) &&
			       to_chars(json_object_get(o, "found"), row->found, sizeof(row->found));
		}
	}
	return false;
}

/* ---- the whole --------------------------------------------------------------------------------------------------- */

json_t *receipt_to_json(const struct receipt *receipt)
{
	json_t *o = json_object(), *rows = json_array(), *outside = json_object();

	json_object_set_new(outside, "init", json_of_view(&receipt->init));
	json_object_set_new(outside, "vmm", json_of_view(&receipt->vmm));
	for (size_t i = 0; i < receipt->row_count; i++)
		json_array_append_new(rows, json_of_row(&receipt->rows[i]));
	json_object_set_new(o, "version", json_integer(RECEIPT_VERSION));
	json_object_set_new(o, "good", json_boolean(receipt->good));
	json_object_set_new(o, "taken_ns", from_number(receipt->taken_ns));
	json_object_set_new(o, "accelerator", json_string(receipt->accel));
	json_object_set_new(o, "rows", rows);
	json_object_set_new(o, "lease", json_of_lease(&receipt->lease));
	json_object_set_new(o, "facts", json_of_facts(&receipt->facts));
	json_object_set_new(o, "outside", outside);
	return o;
}

int receipt_from_json(const json_t *json, struct receipt *ret)
{
	struct receipt receipt = { .row_count = 0 };
	const json_t *rows = json_object_get(json, "rows"), *outside = json_object_get(json, "outside");
	uint64_t version;
	bool wrong = false;

	if (!json_is_object(json) || json_object_size(json) != 8 || !json_is_boolean(json_object_get(json, "good")) ||
	    !to_number(json_object_get(json, "version"), RECEIPT_VERSION, RECEIPT_VERSION, &version) ||
	    !to_number(json_object_get(json, "taken_ns"), 0, UINT64_MAX, &receipt.taken_ns) ||
	    !to_chars(json_object_get(json, "accelerator"), receipt.accel, sizeof(receipt.accel)) || !json_is_array(rows) ||
	    json_array_size(rows) > RECEIPT_ROWS_MAX || !load_lease(json_object_get(json, "lease"), &receipt.lease) ||
	    !load_facts(json_object_get(json, "facts"), &receipt.facts) || json_object_size(outside) != 2 ||
	    !load_view(json_object_get(outside, "init"), &receipt.init) ||
	    !load_view(json_object_get(outside, "vmm"), &receipt.vmm))
		return -EINVAL;
	for (size_t i = 0; i < json_array_size(rows); i++) {
		if (!load_row(json_array_get(rows, i), &receipt.rows[i]))
			return -EINVAL;
		wrong = wrong || receipt.rows[i].mark == RECEIPT_WRONG;
	}
	receipt.row_count = json_array_size(rows);
	/* A file that calls itself good and shows a wrong row was not written by us. */
	receipt.good = json_is_true(json_object_get(json, "good"));
	if (receipt.good == wrong)
		return -EINVAL;
	*ret = receipt;
	return 0;
}
