/* SPDX-License-Identifier: Apache-2.0
 * Runs: broker (no privilege, group of the device nodes). vhost descriptors, un-owned: the VMM must become the owner. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "common/wire.h"

/* First usable CID: 0 to 2 are the hypervisor, loopback and the host. Below 2^31 so that no tool's int goes negative. */
#define VHOST_CID_MIN 3u
#define VHOST_CID_MAX 0x7fffffffu

/* Whether a lease has this CID. */
typedef bool (*vhost_cid_fn)(const void *context, uint32_t cid);

/* Whether the node can be opened now (modules come and go while we run): WIRE_BY_BY_FD, else why not. */
enum wire_outcome vhost_net_probe(void);
enum wire_outcome vhost_vsock_probe(void);

/* Open one /dev/vhost-net. WIRE_BY_BY_FD and *ret_fd, the caller's; else why not. */
enum wire_outcome vhost_net(int *ret_fd);

/* Open /dev/vhost-vsock and give it a CID that nobody has. WIRE_BY_BY_FD, *ret_fd (the caller's) and *ret_cid; else why
 * not: WIRE_BY_FAILED when no CID could be had. */
enum wire_outcome vhost_vsock(vhost_cid_fn taken, const void *context, int *ret_fd, uint32_t *ret_cid);
