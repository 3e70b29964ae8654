/* SPDX-License-Identifier: Apache-2.0
 * Runs: controller and CLI (the user). What the controller asks postern-init to execute: words, and
 * descriptors with their fixed numbers (common/slots.h). */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#include "common/slots.h"
#include "common/wire.h"

/* A file the user opened for the VMM. */
struct plan_asset {
	int fd;             /* owned by the plan */
	bool copy;          /* init copies it to /run/<name>, for programs that take only paths */
	bool writable;
	char name[32];
	dev_t dev, rdev;    /* identity, for the receipt */
	ino_t ino;
	mode_t mode;
};

struct plan {
	char words[WIRE_WORDS_MAX]; /* argv, NUL after each */
	size_t word_bytes, word_count;
	struct plan_asset assets[WIRE_ASSETS_MAX];
	size_t asset_count;
};

/* An empty plan; NULL: out of memory. */
struct plan *plan_new(void);
void plan_free(struct plan *plan); /* closes what it owns; NULL is fine */

/* Append one argv word (printf-like). -E2BIG when the plan is full. */
int plan_word(struct plan *plan, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* Take over fd as an asset. Returns its index (its slot is SLOT_ASSET + index unless copied), -EISDIR for directories
 * and anything else that leads to other files (see DESIGN 2.5), -ENFILE. On failure fd stays the caller's. */
int plan_asset(struct plan *plan, int fd, const char *name, bool copy, bool writable);

/* Send it to init: one message, all descriptors. */
int plan_send(const struct plan *plan, int control);
