/* SPDX-License-Identifier: Apache-2.0
 * Runs: controller and CLI (the user). A hypervisor driver: a room behind one table. needs() and plan() are pure apart
 * from opening nothing; the others act on descriptors they are given. A driver never talks to the broker or to another
 * driver. Single-threaded. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "common/wire.h"
#include "postern/plan.h"
#include "postern/spec.h"

/* What hypervisor_reply.kind says; the policy's numbers (a test compares them with enum policy_driver). */
enum driver_kind { DRIVER_KIND_QEMU = 1, DRIVER_KIND_MOCK, DRIVER_KIND_FIRECRACKER, DRIVER_KIND_CLH, DRIVER_KIND_ACRN };

struct driver_vm; /* a driver's own state for one running VMM */

/* What a driver can do, as data: `postern capabilities`, validation and docs read the same row. */
struct driver_can {
	bool kvm, tcg, kvm_by_fd, tap_by_fd, vhost_net, vsock, pause, passt, block, initrd, graceful_stop;
	uint32_t vcpus_max;
};

/* What the probe of a VMM binary found (run as the user, outside the sandbox, before the lease). */
struct driver_probe {
	uint32_t major, minor;
	char version[64];
	bool kvm_pvm; /* /dev/kvm here is the paravirtual KVM, which cannot run an ordinary kernel */
};

/* Facts a plan depends on besides spec and lease. */
struct driver_context {
	const struct spec *spec;
	const struct wire_lease *lease;
	const struct driver_probe *probe;
	const char *path;        /* argv[0] */
	bool kvm;                /* use KVM: decided by driver_accel() */
	int kernel, initrd;      /* opened as the user; -1 absent. plan() takes descriptors over and sets them to -1 here. */
	int disks[SPEC_DISKS_MAX];
	int passt;               /* connected socket to passt, -1 none */
};

/* State of the guest as the driver sees it. */
enum driver_state {
	DRIVER_STARTING,
	DRIVER_HELD,
	DRIVER_RUNNING,
	DRIVER_PAUSED,
	DRIVER_SHUTDOWN,
	DRIVER_CRASHED,
	DRIVER_GONE
};

struct driver {
	const char *name;  /* "qemu" */
	uint8_t kind;      /* enum driver_kind */
	struct driver_can can;

	/* Find out the version of the binary at path. 0 or -errno. May fork and exec path as the caller. */
	int (*probe)(const char *path, struct driver_probe *ret);
	/* What to ask of the broker: fills hypervisor, vcpus, memory, flags, nics, limits of ask. Pure. */
	int (*needs)(const struct spec *spec, const struct driver_probe *probe, struct wire_acquire *ask,
		     struct spec_error *ret);
	/* argv and assets. Pure: opens nothing. A descriptor of ctx that the plan took over is -1 in ctx afterwards,
	 * whatever the result; the others stay the caller's. */
	int (*plan)(struct driver_context *ctx, struct plan *plan, struct spec_error *ret);
	/* Take over the control channel (stream socket). NULL: out of memory. */
	struct driver_vm *(*attach)(int control_fd);
	void (*detach)(struct driver_vm *vm); /* closes the channel; NULL is fine */
	/* Wait until the VMM answers and the guest is held; deadline_ms from now. -ETIMEDOUT, -EPROTO, -EPIPE. */
	int (*ready)(struct driver_vm *vm, int deadline_ms);
	int (*resume)(struct driver_vm *vm, int deadline_ms);
	int (*pause)(struct driver_vm *vm, int deadline_ms);
	/* Ask the guest to power off (ACPI); returns at once. -ENOTSUP when the VMM cannot. */
	int (*powerdown)(struct driver_vm *vm, int deadline_ms);
	/* Ask the VMM to quit; returns at once. */
	int (*quit)(struct driver_vm *vm, int deadline_ms);
	/* Descriptor to poll, and what to do when it is readable: updates the state. -EPIPE when the VMM is gone. */
	int (*fd)(const struct driver_vm *vm);
	int (*dispatch)(struct driver_vm *vm);
	/* SHUTDOWN and CRASHED stay what they are when the VMM is gone; from any other state that is GONE. */
	enum driver_state (*state)(const struct driver_vm *vm);
	/* Last error text of the VMM or of the protocol; static or owned by vm. */
	const char *(*trouble)(const struct driver_vm *vm);
};

/* By kind or by name; NULL: none. */
const struct driver *driver_by_kind(uint8_t kind);
const struct driver *driver_by_name(const char *name);
const struct driver *const *driver_all(size_t *ret_count);

/* The accelerator for this spec, lease and host: true KVM, false TCG. reason: static text for status and receipt.
 * -EINVAL when the spec forces one that is not to be had, with *ret filled. */
int driver_accel(const struct spec *spec, const struct wire_lease *lease, const struct driver *driver, bool *ret_kvm,
		 const char **ret_reason, struct spec_error *ret);
