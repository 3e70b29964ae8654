/* SPDX-License-Identifier: Apache-2.0
 * Runs: controller and CLI (the user). The driver of postern-mock-vmm: a VMM without a guest, for tests and for looking. */
#pragma once

#include "postern/driver.h"

extern const struct driver driver_mock;
