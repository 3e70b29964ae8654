/* SPDX-License-Identifier: Apache-2.0
 * Runs: tests (whoever runs them). Golden bytes: messages written out by hand, so that table,
 * encoder and decoder cannot err together. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "common/wire.h"

static uint8_t buf[WIRE_MESSAGE_MAX];
static struct wire_in in;

/* clang-format off */
/* What op's message looks like on the wire: compares header and body byte by byte, then decodes it again. */
static void golden(enum wire_op op, enum wire_kind kind, uint32_t sequence, const void *msg, const char *expected,
		   size_t len, struct wire_session session, size_t fds)
{
	assert_int_equal(wire_encode(op, kind, sequence, msg, buf, sizeof(buf)), len);
	assert_memory_equal(buf, expected, len);
	assert_int_equal(wire_decode(&session, expected, len, fds, &in), 0);
	assert_int_equal(in.op, op);
	assert_int_equal(in.kind, kind);
	assert_int_equal(in.sequence, sequence);
	assert_null(in.why);
}

#define GOLDEN(op, kind, sequence, msg, bytes, session, fds) \
	golden(op, kind, sequence, msg, bytes, sizeof(bytes) - 1, session, fds)

static const struct wire_session at_broker_new = { LINK_CLIENT, FROM_CLIENT, PHASE_NEW, false };
static const struct wire_session at_broker = { LINK_CLIENT, FROM_CLIENT, PHASE_READY, false };
static const struct wire_session at_client = { LINK_CLIENT, FROM_BROKER, PHASE_READY, true };
static const struct wire_session broker_from_spawner = { LINK_SPAWNER, FROM_SPAWNER, PHASE_READY, false };
static const struct wire_session at_init = { LINK_CONTROL, FROM_CONTROLLER, PHASE_READY, false };
static const struct wire_session at_controller = { LINK_CONTROL, FROM_INIT, PHASE_READY, false };

static void golden_small_messages(void **state)
{
	struct wire_hello hello = { .version = 1 };
	struct wire_cursor cursor = { .after = 0x1122334455667788u };
	struct wire_stop stop = { .signal = 15, .grace_ms = 10000 };
	struct wire_exited exited = { .status = 0x8b };
	struct wire_step_failed failed = { .id = 7, .step = 0x0c, .error = 12, .burn = 1 };
	struct wire_gone gone = { .id = 0x0100, .status = 9, .clean = 1, .oom = 2 };
	struct wire_ended ended = { .status = 9, .clean = 1, .oom = 1, .memory_mib = 768, .ended_ns = 0x1122334455667788u };
	struct wire_uuid uuid = { .uuid = { 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15 } };

	(void)state;
	GOLDEN(WIRE_OP_HELLO, WIRE_REQUEST, 0, &hello, "\x01\0" "\0\0" "\0\0\0\0" "\x01\0\0\0", at_broker_new, 0);
	GOLDEN(WIRE_OP_HOST, WIRE_REQUEST, 0x01020304, &hello, "\x02\0" "\0\0" "\x04\x03\x02\x01", at_broker, 0);
	GOLDEN(WIRE_OP_NEXT, WIRE_REQUEST, 1, &cursor,
	       "\x07\0" "\0\0" "\x01\0\0\0" "\x88\x77\x66\x55\x44\x33\x22\x11", at_broker, 0);
	GOLDEN(WIRE_OP_KILL, WIRE_REQUEST, 2, &uuid,
	       "\x08\0" "\0\0" "\x02\0\0\0"
	       "\x00\x01\x02\x03\x04\x05\x06\x07\x08\x09\x0a\x0b\x0c\x0d\x0e\x0f", at_broker, 0);
	GOLDEN(WIRE_OP_KILL, WIRE_REPLY, 2, &uuid, "\x08\0" "\x01\0" "\x02\0\0\0", at_client, 0);
	GOLDEN(WIRE_OP_ENDED, WIRE_REPLY, 2, &ended,
	       "\x09\0" "\x01\0" "\x02\0\0\0" "\x09\0\0\0" "\x01" "\x01" "\x00\x03\0\0"
	       "\x88\x77\x66\x55\x44\x33\x22\x11", at_client, 0);
	GOLDEN(WIRE_OP_S_FAILED, WIRE_REQUEST, 0, &failed,
	       "\x2b\0" "\0\0" "\0\0\0\0" "\x07\0\0\0\0\0\0\0" "\x0c\0\0\0" "\x0c\0\0\0" "\x01", broker_from_spawner, 0);
	GOLDEN(WIRE_OP_S_GONE, WIRE_REQUEST, 0, &gone,
	       "\x2c\0" "\0\0" "\0\0\0\0" "\x00\x01\0\0\0\0\0\0" "\x09\0\0\0" "\x01" "\x02", broker_from_spawner, 0);
	GOLDEN(WIRE_OP_C_STOP, WIRE_REQUEST, 3, &stop,
	       "\x52\0" "\0\0" "\x03\0\0\0" "\x0f\0\0\0" "\x10\x27\0\0", at_init, 0);
	GOLDEN(WIRE_OP_C_KEEP, WIRE_REQUEST, 4, &stop, "\x53\0" "\0\0" "\x04\0\0\0", at_init, 0);
	GOLDEN(WIRE_OP_C_EXITED, WIRE_REQUEST, 0, &exited, "\x5d\0" "\0\0" "\0\0\0\0" "\x8b\0\0\0", at_controller, 0);
}

static void golden_text_messages(void **state)
{
	struct wire_name name = { .name = "qemu" };
	struct wire_error error = { .code = WIRE_ERR_QUOTA_TAPS_USER, .step = 0, .number = 4, .object = "lan" };
	struct wire_hypervisor_reply hypervisor = { .kind = 1, .path = "/usr/bin/qemu-system-x86_64" };
	char expected[8 + 1 + 256] = "\x03\0" "\x01\0" "\x05\0\0\0" "\x01" "/usr/bin/qemu-system-x86_64";
	struct wire_network_reply network = { .gateway = 0x0a2c0001, .prefix = 24, .isolated = 1, .max_queues = 8 };

	(void)state;
	GOLDEN(WIRE_OP_HYPERVISOR, WIRE_REQUEST, 5, &name,
	       "\x03\0" "\0\0" "\x05\0\0\0" "qemu\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0", at_broker, 0);
	/* The error's code is written as a number here on purpose: inserting into the middle of WIRE_ERRORS would make
	 * an old client tell its user nonsense, and this line fails. */
	GOLDEN(WIRE_OP_ACQUIRE, WIRE_ERROR, 6, &error,
	       "\x05\0" "\x02\0" "\x06\0\0\0" "\x14\0\0\0" "\0\0\0\0" "\x04\0\0\0\0\0\0\0"
	       "lan\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0", at_client, 0);
	golden(WIRE_OP_HYPERVISOR, WIRE_REPLY, 5, &hypervisor, expected, sizeof(expected), at_client, 0);
	GOLDEN(WIRE_OP_NETWORK, WIRE_REPLY, 5, &network,
	       "\x04\0" "\x01\0" "\x05\0\0\0" "\x01\0\x2c\x0a" "\x18" "\x01" "\0" "\x08", at_client, 0);
}

/* The largest request an unprivileged peer may send: every offset counted by hand. */
static void golden_acquire(void **state)
{
	struct wire_acquire a = { .uuid = { 0xaa }, .hypervisor = "qemu", .vcpus = 2, .memory_mib = 512, .flags = 0x81,
		.nic_count = 1, .nics = { { .network = "lan", .queues = 4, .flags = 1 } },
		.limits = { { .memory_mib = 0x010203, .pids = 0x0405 } }, .label_type = "svirt" };
	uint8_t e[8 + 16 + 32 + 4 + 4 + 4 + 1 + 8 * 37 + 20 + 32] = { 5, 0, 0, 0, 9, 0, 0, 0, 0xaa };

	(void)state;
	memcpy(e + 24, "qemu", 4);
	e[56] = 2;              /* vcpus */
	e[61] = 2;              /* memory_mib: 0x200 */
	e[64] = 0x81;           /* flags */
	e[68] = 1;              /* nic_count */
	memcpy(e + 69, "lan", 3);
	e[69 + 32] = 4;         /* queues */
	e[69 + 33] = 1;         /* NIC flags */
	e[365] = 3, e[366] = 2, e[367] = 1; /* limits.memory_mib */
	e[365 + 8] = 5, e[365 + 9] = 4;     /* limits.pids */
	memcpy(e + 385, "svirt", 5);
	golden(WIRE_OP_ACQUIRE, WIRE_REQUEST, 9, &a, (const char *)e, sizeof(e), at_broker, 1);
	assert_string_equal(in.msg.acquire.label_type, "svirt");
	assert_int_equal(in.msg.acquire.nics[0].queues, 4);
	assert_int_equal(in.msg.acquire.limits[0].pids, 0x0405);
}
/* clang-format on */

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(golden_small_messages),
		cmocka_unit_test(golden_text_messages),
		cmocka_unit_test(golden_acquire),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
