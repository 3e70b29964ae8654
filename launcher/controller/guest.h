/* SPDX-License-Identifier: Apache-2.0
 * Runs: controller (the user). One virtual machine: what was asked, what was granted, and the descriptors to talk to it. */
#pragma once

#include <jansson.h>
#include <stdbool.h>

#include "failure.h"
#include "launcher/sandbox/broker_client.h"
#include "launcher/sandbox/receipt.h"
#include "postern/driver.h"
#include "postern/plan.h"
#include "postern/spec.h"

struct passt; /* launcher/net/passt.h */

struct guest {
	struct spec *spec;
	const struct driver *driver;
	struct driver_vm *vm;      /* NULL: the VMM's channel is closed */
	struct wire_lease lease;   /* valid once pidfd >= 0 */
	struct wire_session phase; /* of the control channel */
	struct plan *plan;         /* what the receipt is compared with; its descriptors are closed */
	struct receipt *receipt;   /* the one of the launch */
	struct passt *passt;
	const char *socket; /* the broker's; NULL: the default */
	bool kvm;
	const char *accel_reason;
	int pidfd, init, console, log;
};

/* How a launch tells what it is doing and what the VMM says meanwhile. */
struct launch_watch {
	void (*step)(void *context, const char *text);
	void (*log)(void *context, const char *bytes, size_t len);
	void *context;
};

void guest_init(struct guest *guest);

/* Steps 1 to 5 of a launch: open files, ask the broker, plan, hold the VMM, compare the receipt. On success the guest
 * is held and guest->receipt is good. On failure whatever was started has ended; *failure says why. receipt is filled
 * (and wrong) when that was the reason. */
int guest_launch(struct guest *guest, const uint8_t uuid[16], int timeout_ms, const struct launch_watch *watch,
		 struct failure *failure);

/* A fresh receipt from facts that init has just sent; NULL: out of memory or /proc unreadable. */
struct receipt *guest_receipt(const struct guest *guest, const struct wire_facts *facts);

/* Ask init to end the VMM: SIGTERM, SIGKILL after grace_ms. */
int guest_stop(const struct guest *guest, uint32_t grace_ms);

/* Have the broker end the sandbox. Blocks for one round trip. */
int guest_kill(const struct guest *guest, struct failure *failure);

/* Once pidfd is readable: whether the kernel's OOM killer did it (WIRE_OOM_*). Only the broker hears that, and only when
 * everything of the sandbox is gone; so this waits, a little. A broker that does not know says NONE. */
uint8_t guest_oom(const struct guest *guest);

/* The same in words, for the user. */
void guest_oom_text(const struct guest *guest, uint8_t oom, char *out, size_t size);

/* End whatever still lives, wait for it, close and free everything. Safe in every state. */
void guest_done(struct guest *guest);
