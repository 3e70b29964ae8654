/* SPDX-License-Identifier: Apache-2.0
 * Runs: controller and CLI (the user). The part of needs() that is the same for every driver. Pure. */
#pragma once

#include "postern/driver.h"

/* Refuse what the driver's row cannot do, then fill ask: hypervisor, sizes, NICs, limits, flags other than KVM's. */
int ask_fill(const struct driver *driver, const struct spec *spec, struct wire_acquire *ask, struct spec_error *ret);

/* KVM's flags: auto_flags for "auto" (0: do not ask). */
uint32_t ask_kvm(const struct driver *driver, const struct spec *spec, uint32_t auto_flags, bool by_fd);

/* Fill *ret; returns -EINVAL. */
int ask_refuse(struct spec_error *ret, const char *where, const char *allowed, const char *format, ...)
	__attribute__((format(printf, 4, 5)));
