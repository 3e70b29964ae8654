/* SPDX-License-Identifier: Apache-2.0
 * Runs: controller and CLI (the user). The QEMU driver, x86-64. */
#pragma once

#include "postern/driver.h"

#define QEMU_VCPUS_MAX 240u /* above that, x86 needs an interrupt remapper */
#define QEMU_MEMORY_MIN_MIB 8u
#define QEMU_PROBE_MAJOR_MIN 7u /* -netdev stream and the machine options used here */

extern const struct driver driver_qemu;

/* The transport of a machine: which virtio devices and options it has. */
struct qemu_machine {
	const char *name;
	const char *options; /* each with its comma in front */
	bool pci;            /* virtio-*-pci, else virtio-*-device */
};

/* The row for a spec's machine, the default for NULL; NULL: there is none. */
const struct qemu_machine *qemu_machine(const char *name);

/* For error texts. */
#define QEMU_MACHINES "pc, q35, microvm"

int qemu_plan(struct driver_context *ctx, struct plan *plan, struct spec_error *ret);
