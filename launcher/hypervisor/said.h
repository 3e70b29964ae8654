/* SPDX-License-Identifier: Apache-2.0
 * Runs: controller (the user). A VMM's words about files, for somebody who knows them by their own names. */
#pragma once

#include <stddef.h>

#include "postern/plan.h"
#include "postern/spec.h"

/* Copy said, with the user's paths in place of the names that kernel, initrd and disks have inside the sandbox. plan may be
 * NULL: then disks keep theirs. What does not fit is cut. */
void said_names(const struct spec *spec, const struct plan *plan, const char *said, char *ret, size_t size);
