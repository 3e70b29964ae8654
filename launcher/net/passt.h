/* SPDX-License-Identifier: Apache-2.0
 * Runs: controller (the user). User-mode networking: passt runs as the user and reaches the VMM by one socket. */
#pragma once

#include <sys/types.h>

#include "postern/spec.h"

struct passt;

/* Start passt. *ret_socket is the VMM's end (stream, the framing of QEMU's -netdev stream), the caller's to pass on and
 * close; passt ends when that end is closed everywhere. The caller ends *ret with passt_stop(). On failure *ret_why says
 * what to do. */
int passt_start(struct passt **ret, int *ret_socket, struct spec_error *ret_why);

/* A pidfd that becomes readable when passt ends; passt's. */
int passt_pidfd(const struct passt *passt);

pid_t passt_pid(const struct passt *passt); /* nobody else's until passt_stop(); 0 for NULL */

void passt_stop(struct passt *passt); /* ends and reaps it; NULL is fine */
