/* SPDX-License-Identifier: Apache-2.0
 * Runs: broker (no privilege). How the last sandboxes ended, for the controllers that ask: they cannot see it themselves,
 * since the kernel's OOM killer takes a sandbox whole. A ring of fixed size; a restarted broker knows nothing. */
#pragma once

#include <stdint.h>
#include <sys/types.h>

#include "common/wire.h"

#define ENDED_MAX 256
#define ENDED_USER_MAX 32 /* of one owner: nobody can push out the others' by ending many */

struct ended {
	uint64_t number; /* 0: empty; grows with each end */
	uint8_t uuid[16];
	uid_t owner;
	struct wire_ended what;
};

struct ended_ring {
	uint64_t last;
	struct ended table[ENDED_MAX];
};

/* Remember the end of the sandbox with this record in place of its owner's oldest, when he has his share, or of all. */
void ended_add(struct ended_ring *ring, const struct wire_lease *record, const struct wire_gone *gone);

/* The latest end of a sandbox with this uuid that asker may know of: his own, or anybody's for root. NULL: none. */
const struct wire_ended *ended_find(const struct ended_ring *ring, const uint8_t uuid[16], uid_t asker);
