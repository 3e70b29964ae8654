/* SPDX-License-Identifier: Apache-2.0
 * Runs: controller and CLI (the user). Shared by home.c and home_sweep.c only. */
#pragma once

#include "home.h"

#define HOME_LOCK "lock"
#define HOME_DEAD "dead"
#define HOME_LOCK_TRIES 500 /* of 10 ms */

/* Take the lock of the base; a descriptor to close, or -errno. */
int home_lock_base(int base);

/* Remove the directory of a sandbox and the files in it. */
void home_remove(int base, const char *path);

/* Move state and logs of a sandbox below dead/, drop the oldest there. */
void home_bury(int base, const char *uuid);
