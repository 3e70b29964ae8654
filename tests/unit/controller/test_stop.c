/* SPDX-License-Identifier: Apache-2.0
 * Runs: tests. How a sandbox ended, when somebody stops it at the moment it fails by itself. */
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <string.h>

#include "common/cleanup.h"
#include "launcher/controller/server.h" /* first: cmocka takes the name fail */

#include <cmocka.h>

#define EXITED(status) ((uint32_t)(status) << 8)

static const struct row {
	const char *what;
	bool by_user, forced, exited;
	uint32_t status;
	uint8_t oom;
	enum postern_exit exit_status;
	bool keep;
	const char *reason;
} rows[] = {
	{ "it powered off when asked", true, false, true, EXITED(0), 0, EXIT_OK, false, "stopped" },
	{ "it failed before the stop", true, false, true, EXITED(3), 0, EXIT_GUEST, true, "the VMM exited with status 3" },
	{ "it crashed before the stop", true, false, true, SIGSEGV, 0, EXIT_GUEST, true, "the VMM was killed by signal 11" },
	{ "and the stop went on to signals", true, true, true, SIGSEGV, 0, EXIT_GUEST, true,
	  "the VMM was killed by signal 11" },
	{ "it failed and the stop went on", true, true, true, EXITED(1), 0, EXIT_GUEST, true, "the VMM exited with status 1" },
	{ "SIGTERM that it caught", true, true, true, EXITED(0), 0, EXIT_GUEST, false, "killed" },
	{ "SIGTERM", true, true, true, SIGTERM, 0, EXIT_GUEST, false, "killed" },
	{ "SIGKILL", true, true, true, SIGKILL, 0, EXIT_GUEST, false, "killed" },
	{ "by the broker", true, true, false, 0, 0, EXIT_GUEST, false, "killed" },
	{ "nobody asked", false, false, true, EXITED(0), 0, EXIT_OK, false, "the VMM exited" },
	{ "nobody asked, it failed", false, false, true, EXITED(1), 0, EXIT_GUEST, true, "the VMM exited with status 1" },
	{ "somebody killed its init", false, false, false, 0, 0, EXIT_GUEST, true, "the sandbox was killed" },
	{ "out of memory, whole", false, false, false, 0, WIRE_OOM_LIMIT, EXIT_MEMORY, true,
	  "killed: out of memory (limit 768 MiB): raise limits.memory, or have limits.overhead_mib raised in the policy" },
	{ "out of memory, only the VMM", false, false, true, SIGKILL, WIRE_OOM_LIMIT, EXIT_MEMORY, true,
	  "killed: out of memory (limit 768 MiB)" },
	{ "while it was asked to stop", true, false, false, 0, WIRE_OOM_LIMIT, EXIT_MEMORY, true, "killed: out of memory" },
	{ "the host's memory", false, false, false, 0, WIRE_OOM_HOST, EXIT_MEMORY, true, "killed: the host ran out of memory" },
};

static void test_verdicts(void **unused)
{
	static struct guest guest;
	static struct server server;
	static struct state state;

	(void)unused;
	guest.lease.limits[0].memory_mib = 768;
	for (const struct row *row = rows; row < rows + ARRAY_SIZE(rows); row++) {
		memset(&state, 0, sizeof(state));
		server = (struct server){ .guest = &guest,
					  .state = &state,
					  .by_user = row->by_user,
					  .forced = row->forced,
					  .exited = row->exited,
					  .vmm_status = row->status,
					  .oom = row->oom };
		if (stop_judge(&server) != row->keep || state.exit_status != (int)row->exit_status ||
		    strncmp(state.reason, row->reason, strlen(row->reason)) != 0)
			fail_msg("%s: %d, %s", row->what, state.exit_status, state.reason);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(test_verdicts) };

	return cmocka_run_group_tests(tests, NULL, NULL);
}
