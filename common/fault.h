/* SPDX-License-Identifier: Apache-2.0
 * Runs: spawner, init. Test hook: make one single step of a launch fail.
 *
 * In a normal build fault_at() is the constant 0 and nothing of it is in the binary (a test checks that). In a build
 * with -Dfault_injection=true the binaries have other names (postern-spawner-fault, postern-init-fault) and read the
 * number of the step that shall fail from a memfd (one u32, 0 = none) that the test harness holds too. A second u32, if
 * there is one, is the capability (plus one) that the spawner shall do without. A third is the id of the host that every
 * sandbox gets, whatever its lease says: then only labels keep them apart.
 */
#pragma once

/* Where the memfd is, in the spawner and, dup'ed by it, in each child. */
enum { SPAWNER_FD_FAULT = 40 };

#ifdef POSTERN_FAULT_INJECTION
#include <errno.h>
#include <stdint.h>
#include <unistd.h>

#include "slots.h"

/* -EIO when the harness asks this step to fail, else 0. fd: SPAWNER_FD_FAULT or INIT_FD_FAULT. */
static inline int fault_at(int fd, uint32_t step)
{
	uint32_t wanted = 0;

	if (pread(fd, &wanted, sizeof(wanted), 0) != (ssize_t)sizeof(wanted))
		return 0;
	return wanted == step ? -EIO : 0;
}

static inline uint64_t fault_capability(int fd, uint64_t kept)
{
	uint32_t cap = 0;

	if (pread(fd, &cap, sizeof(cap), sizeof(cap)) != (ssize_t)sizeof(cap) || cap == 0 || cap > 64)
		return kept;
	return kept & ~(1ull << (cap - 1));
}
static inline uint32_t fault_id(int fd, uint32_t id)
{
	uint32_t forced = 0;

	if (pread(fd, &forced, sizeof(forced), 2 * sizeof(forced)) != (ssize_t)sizeof(forced) || forced == 0)
		return id;
	return forced;
}
#else
#define fault_at(fd, step) 0
#define fault_id(fd, id) (id)
#define fault_capability(fd, kept) (kept)
#endif
