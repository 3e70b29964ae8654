/* SPDX-License-Identifier: Apache-2.0
 * Runs: controller and `postern check` (the user). Opening what the spec names, with the user's own rights. */
#pragma once

#include <stdbool.h>

#include "failure.h"
#include "postern/driver.h"
#include "postern/spec.h"

/* Open one regular file or block device. what: "kernel", "disk disk0": for the error. */
int files_open(const char *what, const char *path, bool writable, int *ret_fd, struct failure *failure);

/* Open kernel, initrd and disks of spec into ctx, whose descriptors must all be -1. On failure those opened so far are
 * the caller's to close, as on success: files_close(). */
int files_open_all(const struct spec *spec, struct driver_context *ctx, struct failure *failure);
void files_none(struct driver_context *ctx);
void files_close(struct driver_context *ctx);
