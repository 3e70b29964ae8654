/* SPDX-License-Identifier: Apache-2.0
 * Runs: controller (the user). The receipt: what the kernel says about a VMM, compared with what was meant.
 *
 * init reads what the user may not look at and sends the facts (messages.h: facts); receipt_outside() reads again from
 * the host's /proc what everybody may see; receipt_check() compares both with lease and plan. Pure but for
 * receipt_outside(). Single-threaded. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#include "common/label_text.h"
#include "common/wire.h"
#include "postern/plan.h"
#include "postern/spec.h"

#define RECEIPT_ROWS_MAX 96

/* The host's /proc view of one process. seen false: /proc hides it (hidepid), said so in the receipt. */
struct receipt_view {
	bool seen;
	pid_t pid;
	pid_t inner; /* its number inside the sandbox: 1 for init */
	struct wire_fact_ids ids;
	char cgroup[256];
	char uid_map[128], gid_map[128];
	char run_label[LABEL_TEXT_MAX]; /* of its /run: "none" without one, "" when the mount table cannot be read */
	uint32_t threads, threads_filtered;
	/* Of its cgroup: bytes, tasks, bytes, percent of a CPU, weight. RECEIPT_UNKNOWN when no file says so, UINT64_MAX - 1
	 * for "max". */
	uint64_t memory_max, pids_max, swap_max, cpu_max, io_weight;
};
#define RECEIPT_UNKNOWN UINT64_MAX
#define RECEIPT_UNLIMITED (UINT64_MAX - 1)

enum receipt_mark {
	RECEIPT_OK,
	RECEIPT_WRONG,
	RECEIPT_ABSENT /* the host does not offer it; policy accepted that */,
	RECEIPT_INFO
};

/* One line of the table: what, what was expected, what the kernel says. */
struct receipt_row {
	const char *field; /* stable name, e.g. "vmm.capabilities.effective": documented in docs/receipt.md */
	enum receipt_mark mark;
	char expected[160], found[160];
};

struct receipt {
	struct wire_lease lease;
	struct wire_facts facts;
	struct receipt_view init, vmm;
	char accel[128];   /* which accelerator and why */
	uint64_t taken_ns; /* CLOCK_REALTIME */
	struct receipt_row rows[RECEIPT_ROWS_MAX];
	size_t row_count;
	bool good; /* no row is RECEIPT_WRONG */
};

/* Read the outside view of init (pid as the broker gave it) and find the VMM below it. 0 or -errno. */
int receipt_outside(const struct wire_lease *lease, struct receipt_view *ret_init, struct receipt_view *ret_vmm);

/* Compare everything; fills rows and good. receipt->lease, facts, init, vmm must be filled. plan may be NULL for an audit
 * without it: then what the user handed in is not compared with what init was given. Facts of a held VMM (facts.held) must
 * show exactly the given descriptors; a running one may have opened and closed some, which is shown. self: whose
 * namespaces and root a sandbox must not have. */
void receipt_check(struct receipt *receipt, const struct plan *plan, pid_t self);

/* Rows of now that differ from then; number written to diff (at most max). Pids and times do not count. */
size_t receipt_diff(const struct receipt *then, const struct receipt *now, struct receipt_row *diff, size_t max);

/* Name of the first wrong field, for the one-line error; NULL when good. */
const char *receipt_first_wrong(const struct receipt *receipt);

struct json_t; /* jansson */
/* docs/receipt.schema.json describes it. New reference, the caller's. */
struct json_t *receipt_to_json(const struct receipt *receipt);
/* 0 or -EINVAL: for `postern receipt` reading what the controller stored. */
int receipt_from_json(const struct json_t *json, struct receipt *ret);

/* The human table, aligned; colour when asked. Returns 0 or -errno of writing. */
int receipt_print(const struct receipt *receipt, int fd, bool colour);
