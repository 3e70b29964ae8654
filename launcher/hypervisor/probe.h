/* SPDX-License-Identifier: Apache-2.0
 * Runs: controller and CLI (the user). Asking a program for its version, outside any sandbox, as the user. */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "postern/driver.h"

#define PROBE_TIMEOUT_MS 5000
#define PROBE_OUTPUT_MAX 4096u

/* Run `path --version` with an empty environment and the null device as standard input; its output, cut at
 * PROBE_OUTPUT_MAX, NUL-terminated. -ETIMEDOUT; -ENOEXEC when it exits with an error; -errno of starting it. */
int probe_run(const char *path, int timeout_ms, char ret_output[PROBE_OUTPUT_MAX + 1]);

/* "... version 7.2.22 (Debian ...)" to numbers and text. -EPROTO: no version in it. Pure. */
int probe_parse(const char *output, struct driver_probe *ret);

/* Whether /dev/kvm of this host is the paravirtual one (KVM without VMX or SVM), which interprets kernel code. */
bool probe_kvm_pvm(void);
