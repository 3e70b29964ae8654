/* SPDX-License-Identifier: Apache-2.0
 * Runs: start (root, for a moment). SELinux: see label.c. Without labels all of these do nothing and succeed. */
#pragma once

#include "common/label_text.h"
#include "start.h"

#define LABEL_ROOT_TYPE "postern_root_t"
#define LABEL_BROKER_TYPE "postern_t"

/* Whether sandboxes get labels: fills in the host's outcome. -EPERM: SELinux is enforcing and we cannot label, or the
 * policy forbids what we would have to do; has logged why and what helps. */
int label_decide(struct start *s);
bool label_wanted(const struct start *s);

/* A file's label with our user, at our level. */
int label_file(const struct start *s, const char *type, char *out, size_t size);

/* What this process makes next has this type; NULL: what the loaded policy says. */
int label_next_files(const struct start *s, const char *type);
int label_next_sockets(const struct start *s, const char *type);
