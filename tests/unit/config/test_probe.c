/* SPDX-License-Identifier: Apache-2.0
 * Runs: test (the user). Versions out of what programs print, and programs that print the wrong thing, or for ever. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "launcher/hypervisor/probe.h"
#include "launcher/hypervisor/qmp_channel.h"

static void versions(void **state)
{
	static const struct {
		const char *text;
		int result;
		uint32_t major, minor;
		const char *version;
	} rows[] = {
		{ "QEMU emulator version 7.2.22 (Debian 1:7.2+dfsg-7+deb12u18)\nCopyright", 0, 7, 2, "7.2.22" },
		{ "QEMU emulator version 10.0.2", 0, 10, 0, "10.0.2" },
		{ "postern-mock-vmm version 0.1.0\n", 0, 0, 1, "0.1.0" },
		{ "x version 9.0-rc1 y", 0, 9, 0, "9.0-rc1" },
		{ "", -EPROTO, 0, 0, "" },
		{ "version", -EPROTO, 0, 0, "" },
		{ "version 7", -EPROTO, 0, 0, "" },
		{ "version 7.", -EPROTO, 0, 0, "" },
		{ "version .2", -EPROTO, 0, 0, "" },
		{ "version 12345.1", -EPROTO, 0, 0, "" },
		{ "version 7.99999", -EPROTO, 0, 0, "" },
		{ "version -7.2", -EPROTO, 0, 0, "" },
		{ "version 7.2\x1b[31m", -EPROTO, 0, 0, "" },
		{ "version 7.2.0000000000000000000000000000000000000000000000000000000000000000000000", -EPROTO, 0, 0, "" },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		struct driver_probe probe = { 0 };

		if (probe_parse(rows[i].text, &probe) != rows[i].result)
			fail_msg("%s", rows[i].text);
		assert_int_equal(probe.major, rows[i].major);
		assert_int_equal(probe.minor, rows[i].minor);
		assert_string_equal(probe.version, rows[i].version);
	}
}

static char directory[] = "/tmp/postern-probe-XXXXXX";

static const char *script(const char *text)
{
	static char path[64];
	FILE *file;

	(void)snprintf(path, sizeof(path), "%s/vmm", directory);
	file = fopen(path, "w");
	assert_non_null(file);
	(void)fprintf(file, "#!/bin/sh\n%s\n", text);
	(void)fclose(file);
	assert_int_equal(chmod(path, 0755), 0);
	return path;
}

static int open_descriptors(void)
{
	DIR *fds = opendir("/proc/self/fd");
	int count = 0;

	while (readdir(fds) != NULL)
		count++;
	(void)closedir(fds);
	return count;
}

static void programs(void **state)
{
	char output[PROBE_OUTPUT_MAX + 1] = "";
	uint64_t begin;
	int before, stray;

	(void)state;
	assert_non_null(mkdtemp(directory));
	before = open_descriptors();
	assert_int_equal(probe_run(script("echo version 1.2; echo $1; exit 0"), 2000, output), 0);
	assert_string_equal(output, "version 1.2\n--version\n");
	/* Nothing but the three standard descriptors (and the script itself, which sh has open), and one variable. */
	assert_int_equal(probe_run(script("tr '\\0' '\\n' </proc/$$/environ"), 2000, output), 0);
	assert_string_equal(output, "LC_ALL=C\n");
	stray = open("/etc/passwd", O_RDONLY); /* NOLINT(android-cloexec-open): on purpose */
	assert_true(stray > 2);
	assert_int_equal(probe_run(script("cd /proc/$$/fd; readlink 0 2 1 *; exit 0"), 2000, output), 0);
	assert_null(strstr(output, "passwd"));
	assert_ptr_equal(strstr(output, "/dev/null\n/dev/null\npipe:"), output);
	(void)close(stray);
	assert_int_equal(probe_run(script("exit 3"), 2000, output), -ENOEXEC);
	assert_int_equal(probe_run(script("kill -9 $$"), 2000, output), -ENOEXEC);
	assert_int_equal(probe_run("/nonexistent/vmm", 2000, output), -ENOENT);
	assert_int_equal(probe_run("/etc/passwd", 2000, output), -EACCES);
	begin = qmp_now_ms();
	assert_int_equal(probe_run(script("exec sleep 60"), 200, output), -ETIMEDOUT);
	assert_int_equal(probe_run(script("exec >&-; exec sleep 60"), 200, output), -ENOEXEC);
	/* More than there is room for: cut, and the program does not stay. */
	assert_int_equal(probe_run(script("exec yes version 1.2"), 1000, output), -ENOEXEC);
	assert_true(qmp_now_ms() - begin < 3000);
	assert_int_equal(open_descriptors(), before);
	(void)unlink(script(""));
	(void)rmdir(directory);
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(versions), cmocka_unit_test(programs) };

	return cmocka_run_group_tests_name("probe", tests, NULL, NULL);
}
