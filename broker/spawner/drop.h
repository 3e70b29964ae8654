/* SPDX-License-Identifier: Apache-2.0
 * Runs: the spawner's child: from all capabilities of a fresh namespace to none. */
#pragma once

#include <stdbool.h>

#include "common/wire.h"

struct drop {
	const struct wire_lease *lease;
	int control, keeper; /* init's ends */
	int kvm, vsock;      /* -1 when not granted by descriptor */
	const int *taps, *vhosts;
	uint32_t tap_count, vhost_count;
	int program;      /* postern-init */
	uint32_t kvm_gid; /* used with the group strategy only */
};

/* Child side of clone_child(). Never returns: either postern-init runs with no privilege, or the process ends. */
_Noreturn void drop_and_exec(const struct drop *d);
