/* SPDX-License-Identifier: Apache-2.0
 * Runs: init (uid X, no capability). What the parts of postern-init share. Single-threaded; nothing is allocated. */
#pragma once

#include <stddef.h>
#include <sys/types.h>

#include "common/cleanup.h"
#include "common/slots.h"
#include "common/wire.h"

/* Everything init holds for itself lies at or above this number, so that no slot can be overwritten by accident. */
#define INIT_FD_STAGE INIT_FD_END

/* Exit statuses of init itself; otherwise it exits as the VMM did (its status, or 128 + signal). */
enum init_exit { INIT_EXIT_HANGUP = 124, INIT_EXIT_FAILED = 125 };

/* The three stream channels between VMM and controller, in the order of C_CHANNELS. */
enum channel { CHANNEL_CONTROL, CHANNEL_CONSOLE, CHANNEL_LOG, CHANNEL_COUNT };

struct slot_source {
	int slot, fd;
};

struct init {
	struct wire_boot boot;
	/* One for all: 36 KB, of which on a stack each page would be touched, and stay ours as long as the sandbox lives. */
	struct wire_in in;
	const struct wire_plan *plan; /* where it was received; good until serve() receives the next message */
	int assets[WIRE_ASSETS_MAX]; /* by plan index; -1 when copied and closed */
	int control, keeper, procfs;
	int signals; /* signalfd for SIGCHLD */
	int null;
	int ours[CHANNEL_COUNT];   /* the VMM's ends, until it has them */
	int theirs[CHANNEL_COUNT]; /* the controller's ends; kept only to serve a later controller (WIRE_SURVIVE) */
	int verdict[2];            /* close-on-exec pipe: the VMM child says what failed, or its exec closes it */
	struct slot_source slots[SLOT_END];
	size_t slot_count;
	pid_t vmm;
	uint64_t ignored;        /* signals that we were started with ignored: not the VMM's habit */
	uint32_t failed_step;    /* step of the VMM child that failed, when that is the reason */
	struct wire_facts facts; /* "given" is filled before the fork */
};

/* One step of a launch and its place in the order. */
struct step {
	uint32_t step; /* enum wire_step */
	int (*run)(struct init *init);
};

/* Run steps in order; the first failure ends it: -errno, *ret_step says which. */
int steps_run(struct init *init, const struct step *steps, size_t count, uint32_t *ret_step);

/* status.c: a file of procfs as a string. */
int procfs_read(int dir, const char *path, char *buf, size_t size);
/* ... and a process's status. ret_ignored (or NULL): the signals it ignores, bit N-1 for signal N. */
int status_read(int procfs, const char *path, struct wire_fact_ids *ids, uint64_t *ret_ignored);

/* verify.c: read our own state back from the kernel; -EPERM unless no privilege is left. */
int verify_self(struct init *init);
/* ... and that it is the identity of the boot record. */
int verify_identity(const struct wire_boot *boot);

/* assets.c */
int assets_take(struct init *init);

/* vmm.c: fork the VMM ... */
int vmm_start(struct init *init);
/* ... and wait until it stands still at its first instruction. */
int vmm_wait_held(struct init *init);
/* Load a generated filter on the calling thread. */
int filter_load(unsigned profile);

/* landlock.c: newest ABI we make use of; what is older is a partial grant. */
#define LANDLOCK_ABI_USED 6
/* The kernel's ABI, 0 without Landlock. */
int landlock_abi(void);
int landlock_apply(const struct wire_boot *boot);

/* facts.c */
int facts_given(struct init *init);
/* What of the receipt is about init itself; under the strict filter, so that it shows that one. */
int facts_own(struct init *init);
int facts_read(struct init *init);

/* serve.c: milliseconds of CLOCK_MONOTONIC */
int64_t now_ms(void);
/* ... until the VMM is gone; returns the exit status of init. */
int serve(struct init *init);
/* Send the controller its ends of the channels. */
int channels_send(const struct init *init);
