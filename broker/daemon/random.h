/* SPDX-License-Identifier: Apache-2.0
 * Runs: broker (no privilege). Random numbers from the kernel. */
#pragma once

#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/random.h>

/* A broker without randomness would hand out guessable ids, so there is no error to handle: getrandom() of so few
 * bytes cannot fail or be short once the pool is ready, and postern-start waits for that by its own first use. */
static inline void random_fill(void *buf, size_t size)
{
	if (getrandom(buf, size, 0) != (ssize_t)size)
		abort();
}

/* A number in [0, limit), limit at most 2^32: the bias of the remainder is below 2^-32. */
static inline uint32_t random_below(uint64_t limit)
{
	uint64_t value;

	random_fill(&value, sizeof(value));
	return (uint32_t)(value % limit);
}
