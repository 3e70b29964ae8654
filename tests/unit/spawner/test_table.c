/* SPDX-License-Identifier: Apache-2.0
 * Runs: tests (no privilege). The table that the spawner gets from start: each single thing wrong is refused. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <errno.h>

#include "broker/spawner/spawner.h"

static struct spawn_table good(void)
{
	struct spawn_table t = { .magic = TABLE_MAGIC,
				 .size = sizeof(t),
				 .first_uid = 0x70000000,
				 .uid_count = 65536,
				 .kvm_gid = WIRE_UID_NONE,
				 .hypervisor_count = 1,
				 .network_count = 1,
				 .cgroup = "/postern-012345" };

	memcpy(t.hypervisors[0].name, "qemu", 5);
	memcpy(t.hypervisors[0].path, "/usr/bin/qemu", 14);
	memcpy(t.networks[0].name, "lan", 4);
	t.networks[0].prefix = 24;
	return t;
}

static void accepted(void **state)
{
	struct spawn_table t = good();

	(void)state;
	assert_int_equal(table_check(&t, sizeof(t)), 0);
	t.direct_mode = 1;
	assert_int_equal(table_check(&t, sizeof(t)), 0);
	t.hypervisor_count = t.network_count = 0;
	assert_int_equal(table_check(&t, sizeof(t)), 0);
}

#define REFUSED(change) \
	do { \
		struct spawn_table t = good(); \
		change; \
		assert_int_equal(table_check(&t, sizeof(t)), -EINVAL); \
	} while (0)

static void refused(void **state)
{
	struct spawn_table whole = good();

	(void)state;
	assert_int_equal(table_check(&whole, sizeof(whole) - 1), -EINVAL);
	assert_int_equal(table_check(&whole, sizeof(whole) + 1), -EINVAL);
	REFUSED(t.magic++);
	REFUSED(t.size--);
	REFUSED(t.hypervisor_count = TABLE_HYPERVISORS + 1);
	REFUSED(t.network_count = TABLE_NETWORKS + 1);
	REFUSED(t.bind_count = TABLE_BINDS + 1);
	REFUSED(t.first_uid = 0);
	REFUSED(t.uid_count = 0);
	REFUSED(t.first_uid = UINT32_MAX - 10);
	REFUSED(t.kvm_gid = 0);
	REFUSED(t.direct_mode = 2);
	REFUSED(t.label = 2);
	REFUSED(t.hypervisors[0].path[0] = 'u');
	REFUSED(memset(t.hypervisors[0].path, '/', sizeof(t.hypervisors[0].path)));
	REFUSED(t.hypervisors[0].name[0] = '/');
	REFUSED(t.networks[0].name[0] = ' ');
	REFUSED(t.networks[0].prefix = 33);
	REFUSED(memset(t.cgroup, 'x', sizeof(t.cgroup)));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(accepted),
		cmocka_unit_test(refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
