/* SPDX-License-Identifier: Apache-2.0
 * Runs: controller (the user). The choice behind driver_accel() without its look at the host. Pure. */
#pragma once

#include "postern/driver.h"

int accel_decide(const struct spec *spec, const struct wire_lease *lease, const struct driver *driver, bool kvm_pvm,
		 bool *ret_kvm, const char **ret_reason, struct spec_error *ret);
