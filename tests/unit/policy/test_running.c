/* SPDX-License-Identifier: Apache-2.0
 * Runs: tests (no privilege). A start beside a running half: it must be of one mind with it about everything that P is. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "broker/start/start.h"

static struct spawn_table good(void)
{
	return (struct spawn_table){ .magic = TABLE_MAGIC,
				     .size = sizeof(struct spawn_table),
				     .first_uid = 0x70000000,
				     .uid_count = 65536,
				     .label = 1,
				     .hypervisor_count = 1,
				     .hypervisors = { { "qemu", "/usr/bin/qemu", 1 } },
				     .network_count = 1,
				     .networks = { { "lan", 1, 2, 24 } },
				     .bind_count = 1,
				     .binds = { "/opt" },
				     .host = { .spawn_uid = 64801 } };
}

#define DIFFERS(change) \
	do { \
		struct spawn_table wanted = good(), t = good(); \
		change; \
		assert_int_equal(table_same(&t, &wanted), -EEXIST); \
	} while (0)

static void every_difference_is_refused(void **state)
{
	struct spawn_table one = good(), other = good();

	(void)state;
	assert_int_equal(table_same(&one, &other), 0);
	DIFFERS(t.magic++);
	DIFFERS(t.size--);
	DIFFERS(t.first_uid++);
	DIFFERS(t.uid_count--);
	DIFFERS(t.host.spawn_uid++);
	DIFFERS(t.direct_mode = 1);
	DIFFERS(t.hypervisors[0].path[5] = 'x');
	DIFFERS(t.hypervisor_count = 0);
	DIFFERS(t.networks[0].prefix = 25);
	DIFFERS(t.network_count = 0);
	DIFFERS(t.binds[0][1] = 'u');
	DIFFERS(t.bind_count = 0);
	DIFFERS(t.kvm_gid = 107);
	DIFFERS(t.label = 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_difference_is_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
