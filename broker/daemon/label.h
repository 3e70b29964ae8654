/* SPDX-License-Identifier: Apache-2.0
 * Runs: broker (no privilege). SELinux label of a sandbox: two categories that no other live sandbox has both of.
 *
 * Two distinct categories always, so no label dominates another: a set of two contains another set of two only when
 * they are equal, and equal ones are never live together. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/label_text.h"

#define LABEL_CATEGORIES 1024u
#define LABEL_PAIRS (LABEL_CATEGORIES * (LABEL_CATEGORIES - 1) / 2)
#define LABEL_NONE UINT32_MAX
#define LABEL_TYPE_DEFAULT "postern_vmm_t"

struct label_pool {
	uint32_t categories; /* c0 to c<categories - 1>; LABEL_CATEGORIES but for tests */
	uint32_t used_count;
	char own[LABEL_TEXT_MAX]; /* our own label: user and role of all others */
	uint8_t used[(LABEL_PAIRS + 7) / 8];
};

/* Learn our own label. -errno when there is none; whether the policy knows the VMMs' types, start has asked it. */
int label_open(struct label_pool *pool);

/* Take a free pair. -ENOSPC when there is none. */
int label_take(struct label_pool *pool, uint32_t *ret_pair);
void label_release(struct label_pool *pool, uint32_t pair); /* LABEL_NONE is fine */

/* Mark the pair in a label of a lease that we take over; LABEL_NONE when it has none or is already taken. */
uint32_t label_adopt(struct label_pool *pool, const char *label);

/* The two categories of a pair, low < high. Pure. */
void label_categories(uint32_t pair, uint32_t *ret_low, uint32_t *ret_high);

/* user:role:type:s0:cA,cB into out. -EINVAL: our own label is none; -ENAMETOOLONG. Pure. */
int label_context(const struct label_pool *pool, const char *type, uint32_t pair, char *out, size_t size);
