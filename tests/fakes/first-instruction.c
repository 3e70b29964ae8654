/* SPDX-License-Identifier: Apache-2.0
 * Runs: VMM (inside a sandbox, no privilege), and the same under bwrap and bare clone3 for comparison.
 *
 * The first thing this program does is to read the clock, the second to write it to its standard output: 8 bytes,
 * CLOCK_MONOTONIC in nanoseconds. No libc, so that nothing else is between execve and that. Then it waits until its
 * control channel (descriptor 3, SLOT_CONTROL) hangs up, or ends at once when there is none.
 */
#include <sys/syscall.h>

static long call3(long number, long a, long b, long c)
{
	long result;

	__asm__ volatile("syscall" : "=a"(result) : "a"(number), "D"(a), "S"(b), "d"(c) : "rcx", "r11", "memory");
	return result;
}

/* The kernel enters with an aligned stack, a compiler expects a return address on it. */
__attribute__((used, noreturn, force_align_arg_pointer)) void _start(void);

void _start(void)
{
	long t[2] = { 0, 0 }, now;
	char byte;

	call3(SYS_clock_gettime, 1, (long)t, 0);
	now = t[0] * 1000000000 + t[1];
	call3(SYS_write, 1, (long)&now, sizeof(now));
	while (call3(SYS_read, 3, (long)&byte, 1) > 0)
		;
	for (;;)
		call3(SYS_exit_group, 0, 0, 0);
}
