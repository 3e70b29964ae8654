/* SPDX-License-Identifier: Apache-2.0
 * Runs: every process. SELinux labels as text: one made from another.
 *
 * Pure. A label is user:role:type:range; what is not exactly that is refused, since the result goes into a mount option. */
#pragma once

#include <stddef.h>

#define LABEL_TEXT_MAX 128
#define LABEL_RUN_TYPE "postern_run_t" /* of a sandbox's /run; its user and range are the VMM's */

/* The label with another type and, unless they are NULL, another role and range. -EINVAL: not a label; -ENAMETOOLONG. */
int label_text(const char *label, const char *role, const char *type, const char *range, char *out, size_t size);

/* What a process of this label makes as a file of this type, at the level of that label. */
int label_text_file(const char *label, const char *type, char *out, size_t size);

/* 1: the label's type is this one; 0: another; -EINVAL. */
int label_text_is(const char *label, const char *type);
