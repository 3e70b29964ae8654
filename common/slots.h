/* SPDX-License-Identifier: Apache-2.0
 * Runs: spawner, init, controller. Numbers that descriptors have inside a sandbox.
 *
 * Fixed, so that argv can name them, a receipt can list them, and a restored snapshot finds the same number again. */
#pragma once

#include "messages.h"

/* In the VMM, at exec. Slots that a sandbox was not granted are closed. */
enum slot {
	SLOT_STDIN = 0,   /* /dev/null */
	SLOT_STDOUT = 1,  /* log channel (a stream socket to the controller), same as SLOT_STDERR */
	SLOT_STDERR = 2,
	SLOT_CONTROL = 3, /* QMP or REST: stream socket to the controller */
	SLOT_CONSOLE = 4, /* serial console: stream socket to the controller */
	SLOT_KVM = 5,     /* /dev/kvm when granted by descriptor */
	SLOT_VSOCK = 6,   /* /dev/vhost-vsock, CID already set */
	SLOT_TAP = 16,    /* taps: NIC 0 queue 0, NIC 0 queue 1, ..., NIC 1 queue 0, ... */
	SLOT_VHOST = SLOT_TAP + WIRE_TAP_FDS_MAX, /* vhost-net, in the same order, for the NICs that have it */
	SLOT_ASSET = SLOT_VHOST + WIRE_TAP_FDS_MAX, /* assets with use 0, in plan order; asset i has slot SLOT_ASSET + i */
	SLOT_END = SLOT_ASSET + WIRE_ASSETS_MAX,

	/* In init only, close-on-exec, out of the way of the slots. */
	INIT_FD_CONTROL = 200, /* to the controller */
	INIT_FD_KEEPER = 201,  /* to spawner and broker */
	INIT_FD_PROCFS = 202,  /* detached procfs of the sandbox's pid namespace, O_PATH */
	INIT_FD_FAULT = 203,   /* test builds: which step shall fail (common/fault.h) */
	INIT_FD_END = 204
};
