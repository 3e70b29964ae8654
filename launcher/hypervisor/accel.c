/* SPDX-License-Identifier: Apache-2.0
 * Runs: controller (the user). */
#include "accel.h"

#include <errno.h>

#include "ask.h"
#include "probe.h"

#define TCG_BECAUSE_PVM "/dev/kvm is the paravirtual KVM (kvm_pvm), which cannot run an ordinary kernel; accel kvm forces it"

int accel_decide(const struct spec *spec, const struct wire_lease *lease, const struct driver *driver, bool kvm_pvm,
		 bool *ret_kvm, const char **ret_reason, struct spec_error *ret)
{
	unsigned outcome = lease->grants[WIRE_GRANT_KVM];
	bool granted = wire_outcome_ok(outcome) && driver->can.kvm;

	switch (spec->accel) {
	case SPEC_ACCEL_TCG:
		*ret_kvm = false;
		*ret_reason = "the spec says so";
		return 0;
	case SPEC_ACCEL_KVM:
		if (!granted)
			return ask_refuse(ret, ".accel", "auto, tcg",
					  "KVM %s; say accel tcg, or ask the administrator for KVM",
					  wire_outcome_text(outcome));
		*ret_kvm = true;
		*ret_reason = "the spec says so";
		return 0;
	case SPEC_ACCEL_AUTO:
		*ret_kvm = granted && !kvm_pvm;
		if (*ret_kvm)
			*ret_reason = "granted";
		else if (!driver->can.tcg)
			*ret_reason = "this VMM runs no guest code";
		else
			*ret_reason = kvm_pvm ? TCG_BECAUSE_PVM : wire_outcome_text(outcome);
		return 0;
	}
	return -EINVAL;
}

int driver_accel(const struct spec *spec, const struct wire_lease *lease, const struct driver *driver, bool *ret_kvm,
		 const char **ret_reason, struct spec_error *ret)
{
	return accel_decide(spec, lease, driver, probe_kvm_pvm(), ret_kvm, ret_reason, ret);
}
