/* SPDX-License-Identifier: Apache-2.0
 * Runs: tests (whoever runs them). Prints the tables of common/messages.h as Markdown; docs/protocol.md must contain
 * exactly this (tests/style/protocol.py compares). */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "common/cleanup.h"
#include "fields.h"

static void print_operations(void)
{
	static const char *const link_texts[] = { [LINK_CLIENT] = "client - broker",
						  [LINK_SPAWNER] = "broker - spawner",
						  [LINK_RENDEZVOUS] = "postern-start - broker or spawner",
						  [LINK_KEEPER] = "spawner, broker - init",
						  [LINK_CONTROL] = "controller - init" };
	size_t count;
	const struct operation *ops = operations_all(&count);

	for (unsigned link = LINK_CLIENT; link <= LINK_CONTROL; link++) {
		(void)printf("### Operations: %s\n\n", link_texts[link]);
		(void)printf("| number | operation | sent by | request | descriptors | reply | descriptors | phases of the "
			     "receiver |\n");
		(void)printf("|---|---|---|---|---|---|---|---|\n");
		for (size_t i = 0; i < count; i++) {
			const struct operation *op = &ops[i];
			bool reply = operation_has_reply(op);

			if (op->link_id != link)
				continue;
			(void)printf("| %u | %s | %s | %s | %s | %s | %s |", op->number, op->name,
				     op->from + strlen("FROM_"), op->request, op->request_fds, reply ? op->reply : "-",
				     reply ? op->reply_fds : "-");
			(void)printf("%s%s%s |\n", (op->phase_mask & PHASE_NEW) != 0 ? " NEW" : "",
				     (op->phase_mask & PHASE_SYNC) != 0 ? " SYNC" : "",
				     (op->phase_mask & PHASE_READY) != 0 ? " READY" : "");
		}
		(void)printf("\n");
	}
}

static void print_range(const struct field *f)
{
	switch (f->kind) {
	case FIELD_NUM:
		(void)printf("u%zu | %" PRIu64 " to %" PRIu64, 8 * f->size, f->lo, f->hi);
		return;
	case FIELD_FLAGS:
		(void)printf("flags (u32) | no bit outside 0x%" PRIx64, f->hi);
		return;
	case FIELD_NAME:
		(void)printf("name | empty, or `[a-z0-9][a-z0-9._-]*`; at most %zu bytes and NULs", f->size - 1);
		return;
	case FIELD_TEXT:
		(void)printf("text | printable ASCII; at most %zu bytes and NULs", f->size - 1);
		return;
	case FIELD_BYTES:
		(void)printf("bytes | any");
		return;
	case FIELD_SUB:
		(void)printf("%zu of `%s` | as there", f->count, f->part);
		return;
	}
}

static void print_messages(void)
{
	size_t count;
	const struct message *messages = messages_all(&count);

	for (size_t i = 0; i < count; i++) {
		const struct message *m = &messages[i];
		size_t offset = 0;

		(void)printf("### Message `%s`: %zu bytes\n\n", m->name, m->wire_size);
		if (m->field_count == 0) {
			(void)printf("No fields.\n\n");
			continue;
		}
		(void)printf("| offset | bytes | field | kind | accepted |\n|---|---|---|---|---|\n");
		for (size_t n = 0; n < m->field_count; n++) {
			const struct field *f = &m->fields[n];
			size_t bytes = f->kind == FIELD_SUB ? f->size * f->count : f->size;

			(void)printf("| %zu | %zu | %s | ", offset, bytes, f->name);
			print_range(f);
			(void)printf(" |\n");
			offset += bytes;
		}
		(void)printf("\n");
	}
}

/* clang-format off */
#define LIMIT(name) { #name, name },
static const struct { const char *name; unsigned value; } limits[] = {
	LIMIT(WIRE_VERSION) LIMIT(WIRE_NICS_MAX) LIMIT(WIRE_QUEUES_MAX) LIMIT(WIRE_TAP_FDS_MAX) LIMIT(WIRE_VCPUS_MAX)
	LIMIT(WIRE_MEMORY_MAX)
	LIMIT(WIRE_ASSETS_MAX) LIMIT(WIRE_FDS_MAX) LIMIT(WIRE_WORDS_MAX) LIMIT(WIRE_FACT_FDS_MAX)
	LIMIT(WIRE_KVM_WANT) LIMIT(WIRE_KVM_REQUIRE) LIMIT(WIRE_KVM_FD_OK) LIMIT(WIRE_VSOCK_WANT) LIMIT(WIRE_VSOCK_REQUIRE)
	LIMIT(WIRE_LABEL_REQUIRE) LIMIT(WIRE_NETNS_SHARED) LIMIT(WIRE_SURVIVE) LIMIT(WIRE_CGROUP_REQUIRE)
	LIMIT(WIRE_NIC_VHOST_WANT) LIMIT(WIRE_NIC_VHOST_REQUIRE) LIMIT(WIRE_NIC_ISOLATED) LIMIT(WIRE_NIC_PIN_IP)
};

#define TEXT_ROW(NAME, text) (void)printf("| %u | %s | %s |\n", number++, #NAME, text);
#define NAME_ROW(NAME) (void)printf("| %u | %s |\n", number++, #NAME);
/* clang-format on */

static void print_numbers(void)
{
	unsigned number = 0;

	(void)printf("### Limits and flags\n\n| name | value |\n|---|---|\n");
	for (size_t i = 0; i < ARRAY_SIZE(limits); i++)
		(void)printf("| %s | %u (0x%x) |\n", limits[i].name, limits[i].value, limits[i].value);
	(void)printf("\n### Grants\n\n| number | name | text |\n|---|---|---|\n");
	WIRE_GRANTS(TEXT_ROW)
	number = 0;
	(void)printf("\n### Outcomes of a grant\n\n| number | name | text |\n|---|---|---|\n");
	WIRE_OUTCOMES(TEXT_ROW)
	number = 0;
	(void)printf("\n### Errors\n\n| number | name |\n|---|---|\n");
	WIRE_ERRORS(NAME_ROW)
	number = 0;
	(void)printf("\n### Steps of a launch\n\n| number | name | text |\n|---|---|---|\n");
	WIRE_STEPS(TEXT_ROW)
}

int main(void)
{
	print_operations();
	print_messages();
	print_numbers();
	return ferror(stdout) != 0;
}
