/* SPDX-License-Identifier: Apache-2.0
 * Runs: tests (no privilege). Limits where the kernel lacks the file: a directory that is no cgroup stands for such a group. */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sysinfo.h>
#include <unistd.h>

#include <cmocka.h>

#include "broker/spawner/spawner.h"
#include "common/cleanup.h"

static unsigned long swap_of_host;

/* Instead of libc's. */
int sysinfo(struct sysinfo *ret)
{
	memset(ret, 0, sizeof(*ret));
	ret->totalswap = swap_of_host;
	return 0;
}

/* Of the sweep, which is not tried here. */
bool sandbox_has_uid(const struct spawner *sp, uint32_t uid)
{
	(void)sp;
	(void)uid;
	return false;
}

/* The outcome of cgroup_make() in such a group, or its error. */
static int made(uint32_t swap_mib, bool host_swaps, bool require)
{
	static struct spawn_table table = { .cgroup = "/test" };
	static struct spawner spawner;
	struct wire_lease lease = { .uid = 7, .flags = require ? WIRE_CGROUP_REQUIRE : 0 };
	char top[] = "/tmp/postern-cgroup-XXXXXX";
	cleanup_fd int dir = -1;
	enum wire_step step;
	int r;

	assert_non_null(mkdtemp(top));
	memset(spawner.p, 0xff, sizeof(spawner.p));
	spawner.p[P_CGROUP] = open(top, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	spawner.cgroup_outcome = WIRE_BY_BY_CGROUP2;
	spawner.table = &table;
	lease.limits->swap_mib = swap_mib;
	swap_of_host = host_swaps ? 4096 : 0;
	r = cgroup_make(&spawner, &lease, &dir, &step);
	assert_return_code(unlinkat(spawner.p[P_CGROUP], "x7", AT_REMOVEDIR), errno);
	fd_close(&spawner.p[P_CGROUP]);
	assert_return_code(rmdir(top), errno);
	return r < 0 ? r : lease.grants[WIRE_GRANT_CGROUP];
}

static void no_swap_is_a_limit_where_the_host_swaps(void **state)
{
	(void)state;
	assert_int_equal(made(0, false, false), WIRE_BY_BY_CGROUP2);
	assert_int_equal(made(0, false, true), WIRE_BY_BY_CGROUP2);
	assert_int_equal(made(0, true, false), WIRE_BY_PARTIAL);
	assert_int_equal(made(0, true, true), -EOPNOTSUPP);
}

static void swap_that_was_asked_for_is_one_anyway(void **state)
{
	(void)state;
	assert_int_equal(made(64, false, false), WIRE_BY_PARTIAL);
	assert_int_equal(made(64, false, true), -EOPNOTSUPP);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(no_swap_is_a_limit_where_the_host_swaps),
		cmocka_unit_test(swap_that_was_asked_for_is_one_anyway),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
