/* SPDX-License-Identifier: Apache-2.0
 * Runs: broker, once, before the first client is heard. Gives up all that is left to give up, and checks. */
#pragma once

#include <stddef.h>
#include <sys/types.h>

/* Descriptors this process may have: raises the soft limit to the hard one, within what we can use. 0 or -errno. */
int confine_descriptors(size_t *ret_limit);

/* Capabilities, no_new_privs, dumpable, limits, syscall filter; then read back from the kernel that it is so. Either all
 * of it holds when this returns, or the process has ended with status 1: there is no way back from a half-done drop.
 * uid, gid: who we must be already; besides only the groups of the vhost nodes are allowed. */
void confine_enter(uid_t uid, gid_t gid);
