/* SPDX-License-Identifier: Apache-2.0
 * Runs: inside a sandbox (uid X, nothing else). What a VMM finds when it looks around itself. */
#pragma once

#include <stddef.h>

#define SELF_REPORT_MAX 65536u

/* One line, the reply to command id:
 *   uids, gids [real, effective, saved]; groups; capabilities {inheritable, permitted, effective, bounding, ambient} as hex
 *   strings; no_new_privs, seccomp, dumpable; pid, label (null: unreadable); fds [{fd, type, access, dev, ino}];
 *   files: names below / down to the third level, those of procfs aside; environment: number of variables; cwd.
 * A thing that could not be asked is null. Static text, valid until the next call. */
const char *self_report(unsigned long id, size_t *ret_len);
