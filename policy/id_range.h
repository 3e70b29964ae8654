/* SPDX-License-Identifier: Apache-2.0
 * Runs: start (root), broker (no privilege), tests. Is this range of ids nobody's but ours?
 *
 * A sandbox's uid is safe only while nothing else on the host has it, so a range is refused when anybody could: users
 * that exist, ranges given to users, ranges that systemd hands out without telling NSS. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "policy.h"

/* Where to look. Any file may be NULL (do not look) or absent on the host (nothing there). */
struct id_range_sources {
	const char *passwd, *group;  /* usually /etc/passwd, /etc/group: read also when NSS is broken */
	const char *subuid, *subgid; /* usually /etc/subuid, /etc/subgid */
	const char *exempt[2];       /* owners of subordinate ranges that are us: the broker's and the spawner's names */
	bool nss;                    /* also everybody NSS enumerates */
};
#define ID_RANGE_HOST { "/etc/passwd", "/etc/group", "/etc/subuid", "/etc/subgid", { NULL, NULL }, true }

/* Both ends belong to it. */
struct id_span {
	uint32_t first, last;
};

/* The uids that users may take in namespaces of their own: all of this file in the format of /etc/subuid (absent: nobody
 * has any) and systemd's containers. In order, apart, merged where they touch; ids below 65536 are left out, for those
 * are people's, and whoever was lent a person's uid is that person. -ENOSPC: more than max; -errno: cannot be read. */
int id_range_subordinate(const char *path, struct id_span *spans, size_t max, size_t *ret_count);

/* Limits and fixed ranges only: below 65536, from 2^31 on, systemd's. Pure. 0, or -EINVAL with text filled. */
int id_range_check_static(uint64_t first, uint64_t count, char *text, size_t size);

/* All of it. 0; -EADDRINUSE with text saying who has what; -EINVAL from the static check; -errno when a file that is
 * there cannot be read (fail closed). Opens files, asks NSS. A line of /etc/subuid that belongs to an exempt owner (name
 * or number) is how an administrator reserves the range for us and is no conflict. */
int id_range_check(uint32_t first, uint32_t count, const struct id_range_sources *sources, char *text, size_t size);
