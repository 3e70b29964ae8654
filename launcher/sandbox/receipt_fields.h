/* SPDX-License-Identifier: Apache-2.0
 * Runs: controller and CLI (the user). The rows of a receipt, in the order in which they are shown. docs/receipt.md has a
 * line for each; a test compares the two. */
#pragma once

#include "receipt.h"

/* Rows that exist four times: for VMM and init, as init read them and as the host's /proc shows them. */
#define RECEIPT_IDS(X, P, p) \
	X(P##_UIDS, p ".uids") \
	X(P##_GIDS, p ".gids") X(P##_GROUPS, p ".groups") X(P##_CAP_INH, p ".capabilities.inheritable") \
		X(P##_CAP_PRM, p ".capabilities.permitted") X(P##_CAP_EFF, p ".capabilities.effective") \
			X(P##_CAP_BND, p ".capabilities.bounding") X(P##_CAP_AMB, p ".capabilities.ambient") \
				X(P##_NNP, p ".no_new_privs") X(P##_SECCOMP, p ".seccomp") \
					X(P##_FILTERS, p ".seccomp_filters")

#define RECEIPT_FIELDS(X) \
	RECEIPT_IDS(X, VMM, "vmm") \
	X(VMM_TASKS, "vmm.tasks") \
	X(VMM_HELD, "vmm.held") X(VMM_PID, "vmm.pid") X(VMM_EXE, "vmm.exe") X(VMM_LABEL, "vmm.label") X( \
		NS_USER, "vmm.namespace.user") X(NS_PID, "vmm.namespace.pid") X(NS_MNT, "vmm.namespace.mnt") \
		X(NS_NET, "vmm.namespace.net") X(NS_IPC, "vmm.namespace.ipc") X(NS_UTS, "vmm.namespace.uts") X( \
			NS_CGROUP, "vmm.namespace.cgroup") X(NS_TIME, "vmm.namespace.time") X(VMM_ROOT, "vmm.root") \
			X(VMM_CWD, "vmm.cwd") X(GIVEN, "vmm.descriptors.given") X(DESCRIPTORS, "vmm.descriptors") X( \
				VMM_CGROUP, "vmm.cgroup") X(LANDLOCK, "vmm.landlock") X(OOM, "vmm.oom_score_adj") \
				X(RLIMIT_NOFILE, "vmm.rlimit.nofile") X(RLIMIT_CORE, "vmm.rlimit.core") X( \
					RLIMIT_MEMLOCK, "vmm.rlimit.memlock") X(RLIMIT_NPROC, "vmm.rlimit.nproc") \
					RECEIPT_IDS(X, INIT, "init") RECEIPT_IDS(X, OUT_VMM, "outside.vmm") X( \
						OUT_VMM_TASKS, "outside.vmm.tasks") X(OUT_VMM_MAPS, "outside.vmm.id_maps") \
						X(OUT_VMM_CGROUP, "outside.vmm.cgroup") X(OUT_VMM_MEMORY, \
											  "outside.vmm.memory_max") \
							X(OUT_VMM_PIDS, "outside.vmm.pids_max") \
							X(OUT_VMM_SWAP, "outside.vmm.swap_max") \
							X(OUT_VMM_CPU, "outside.vmm.cpu_max") \
							X(OUT_VMM_IO, "outside.vmm.io_weight") RECEIPT_IDS( \
								X, OUT_INIT, "outside.init") X(OUT_INIT_MAPS, \
											       "outside.init.id_maps") \
								X(OUT_INIT_CGROUP, "outside.init.cgroup") \
								X(OUT_INIT_RUN_LABEL, "outside.init.run_label") X( \
									GRANT_KVM, "grant.kvm") X(GRANT_TAP, "grant.tap") \
									X(GRANT_VHOST_NET, "grant.vhost-net") X( \
										GRANT_VHOST_VSOCK, "grant.vhost-vsock") \
										X(GRANT_LABEL, "grant.label") X( \
											GRANT_CGROUP, "grant.cgroup") \
											X(GRANT_LANDLOCK, "grant.landlock") \
												X(GRANT_PORT_FILTER, \
												  "grant.port-filter") \
													X(ACCEL, \
													  "accelerator")

#define RECEIPT_ENUM(NAME, text) FIELD_##NAME,
/* clang-format off */
enum receipt_field { RECEIPT_FIELDS(RECEIPT_ENUM) };
/* clang-format on */

/* NULL outside the table; static text. */
const char *receipt_field_name(unsigned field);
/* -1: no such row. */
int receipt_field_number(const char *name);

/* Append a row; the texts are printf-like and cut at the size of a row. */
void receipt_row(struct receipt *receipt, enum receipt_field field, enum receipt_mark mark, const char *expected,
		 const char *found_format, ...) __attribute__((format(printf, 5, 6)));

/* receipt_fds.c: the two descriptor rows. */
void receipt_check_fds(struct receipt *receipt, const struct plan *plan);
