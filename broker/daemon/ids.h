/* SPDX-License-Identifier: Apache-2.0
 * Runs: broker (no privilege). Which host uid a sandbox gets.
 *
 * A ticket counter goes through a keyed permutation of the range: ids look random, and none comes twice before all
 * others had their turn. Then the range is keyed anew, and ids that live, rest or are burnt are skipped. Key, counter
 * and quarantine are in the file "ids" of the runtime directory, so that a restart continues where it was. The gid
 * of a sandbox is the same number as its uid. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#define IDS_QUARANTINE 1024                     /* ids remembered after their end */
#define IDS_REST_NS (60 * UINT64_C(1000000000)) /* how long a freed id rests before a later round may use it */
#define IDS_FOREVER UINT64_MAX                  /* burnt: something of it may be left */

/* The file, in the host's byte order: it never leaves the machine. */
struct ids_state {
	uint32_t magic, version;
	uint32_t first, count;
	uint64_t issued;        /* tickets taken so far; never goes back, so it is also the lease id */
	uint64_t round_start;   /* value of issued when this round began */
	uint64_t blocked_until; /* a resting id had to be forgotten: no reuse at all before this time */
	uint32_t reused;        /* 1: not the first round any more, so skip what lives, rests or is burnt */
	uint32_t quarantine_next;
	uint8_t key[16];
	struct {
		uint64_t until; /* CLOCK_MONOTONIC, which a restarted broker shares */
		uint64_t uid;
	} quarantine[IDS_QUARANTINE];
};

struct ids {
	int fd;
	struct ids_state state;
};

/* Whether a live lease has this uid. */
typedef bool (*ids_live_fn)(const void *context, uint32_t uid);

/* Open or make the file in dirfd for this range. -EUCLEAN: it is not what we left there (wrong type, owner, mode,
 * links, size or content). The caller ends it with ids_close(). */
int ids_open(int dirfd, uint32_t first, uint32_t count, uint64_t now, struct ids *ret);
void ids_close(struct ids *ids);

/* The next id. The counter is on file before the id is returned: a crash can lose an id, never repeat it.
 * -ENOSPC: all live, resting or burnt; else the errno of the write. */
int ids_take(struct ids *ids, uint64_t now, ids_live_fn live, const void *context, uint64_t *ret_ticket, uint32_t *ret_uid);

/* A lease with this ticket lives (another process of ours gave it): never go below. When the file was lost, start a
 * round that looks at what lives. 0 or -errno. */
int ids_saw(struct ids *ids, uint64_t ticket);

/* uid's sandbox has ended. burn: it may not be used again as long as this file exists. */
void ids_rest(struct ids *ids, uint32_t uid, bool burn, uint64_t now);

/* Position index of the permutation of [0, count) that key chooses. Pure; declared for the tests. */
uint32_t ids_permute(const uint8_t key[16], uint32_t count, uint32_t index);
