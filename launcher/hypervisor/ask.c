/* SPDX-License-Identifier: Apache-2.0
 * Runs: controller and CLI (the user). */
#include "ask.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

int ask_refuse(struct spec_error *ret, const char *where, const char *allowed, const char *format, ...)
{
	va_list args;

	memset(ret, 0, sizeof(*ret));
	(void)snprintf(ret->where, sizeof(ret->where), "%s", where);
	(void)snprintf(ret->allowed, sizeof(ret->allowed), "%s", allowed);
	va_start(args, format);
	(void)vsnprintf(ret->text, sizeof(ret->text), format, args);
	va_end(args);
	return -EINVAL;
}

static int check_nic(const struct driver *driver, const struct spec_nic *nic, size_t index, struct spec_error *ret)
{
	char where[64];

	(void)snprintf(where, sizeof(where), ".nics[%zu]", index);
	if (nic->kind == SPEC_NET_TAP && !driver->can.tap_by_fd)
		return ask_refuse(ret, where, "no NIC", "driver %s takes no tap", driver->name);
	if (nic->kind == SPEC_NET_PASST && !driver->can.passt)
		return ask_refuse(ret, where, "tap", "driver %s does not speak to passt", driver->name);
	(void)snprintf(where, sizeof(where), ".nics[%zu].vhost", index);
	if (nic->vhost == SPEC_WANT_REQUIRE && !driver->can.vhost_net)
		return ask_refuse(ret, where, "no, prefer", "driver %s has no vhost-net", driver->name);
	return 0;
}

/* A spec may be right and still be more than this VMM can do. */
static int check_abilities(const struct driver *driver, const struct spec *spec, struct spec_error *ret)
{
	char allowed[32];

	(void)snprintf(allowed, sizeof(allowed), "1 to %u", driver->can.vcpus_max);
	if (spec->vcpus > driver->can.vcpus_max)
		return ask_refuse(ret, ".vcpus", allowed, "%u are more than driver %s has", spec->vcpus, driver->name);
	if (spec->accel == SPEC_ACCEL_KVM && !driver->can.kvm)
		return ask_refuse(ret, ".accel", "auto, tcg", "driver %s has no KVM", driver->name);
	if (spec->accel == SPEC_ACCEL_TCG && !driver->can.tcg)
		return ask_refuse(ret, ".accel", "auto, kvm", "driver %s has no emulation", driver->name);
	if (spec->initrd != NULL && !driver->can.initrd)
		return ask_refuse(ret, ".initrd", "no initrd", "driver %s takes no initrd", driver->name);
	if (spec->disk_count > 0 && !driver->can.block)
		return ask_refuse(ret, ".disks", "no disk", "driver %s has no disks", driver->name);
	if (spec->vsock == SPEC_WANT_REQUIRE && !driver->can.vsock)
		return ask_refuse(ret, ".vsock", "no, prefer", "driver %s has no vsock", driver->name);
	for (size_t i = 0; i < spec->nic_count; i++) {
		int r = check_nic(driver, &spec->nics[i], i, ret);

		if (r < 0)
			return r;
	}
	return 0;
}

static uint32_t want_flags(enum spec_want want, bool able, uint32_t prefer, uint32_t require)
{
	switch (want) {
	case SPEC_WANT_NO:
		return 0;
	case SPEC_WANT_PREFER:
		return able ? prefer : 0;
	case SPEC_WANT_REQUIRE:
		return prefer | require;
	}
	return 0;
}

static int fill_nics(const struct driver *driver, const struct spec *spec, struct wire_acquire *ask, struct spec_error *ret)
{
	char where[64];

	ask->nic_count = 0;
	for (size_t i = 0; i < spec->nic_count; i++) {
		struct wire_nic_ask *nic = &ask->nics[ask->nic_count];

		/* passt needs nothing of the broker. */
		if (spec->nics[i].kind == SPEC_NET_PASST)
			continue;
		(void)snprintf(where, sizeof(where), ".nics[%zu].network", i);
		if (wire_set_chars(nic->network, sizeof(nic->network), spec->nics[i].network) < 0)
			return ask_refuse(ret, where, "at most 31 characters", "is too long");
		nic->queues = (uint8_t)spec->nics[i].queues;
		nic->flags =
			want_flags(spec->nics[i].vhost, driver->can.vhost_net, WIRE_NIC_VHOST_WANT, WIRE_NIC_VHOST_REQUIRE);
		ask->nic_count++;
	}
	return 0;
}

int ask_fill(const struct driver *driver, const struct spec *spec, struct wire_acquire *ask, struct spec_error *ret)
{
	int r = check_abilities(driver, spec, ret);

	if (r == 0)
		r = fill_nics(driver, spec, ask, ret);
	if (r < 0)
		return r;
	if (wire_set_chars(ask->hypervisor, sizeof(ask->hypervisor), spec->hypervisor) < 0)
		return ask_refuse(ret, ".hypervisor", "at most 31 characters", "is too long");
	if (spec->label_type != NULL && wire_set_chars(ask->label_type, sizeof(ask->label_type), spec->label_type) < 0)
		return ask_refuse(ret, ".label_type", "at most 31 characters", "is too long");
	ask->vcpus = spec->vcpus;
	ask->memory_mib = spec->memory_mib;
	ask->flags |= want_flags(spec->vsock, driver->can.vsock, WIRE_VSOCK_WANT, WIRE_VSOCK_REQUIRE);
	ask->flags |= spec->label == SPEC_WANT_REQUIRE ? WIRE_LABEL_REQUIRE : 0;
	ask->flags |= spec->shared_netns ? WIRE_NETNS_SHARED : 0;
	ask->flags |= spec->survive ? WIRE_SURVIVE : 0;
	ask->limits[0] = (struct wire_limits){ .memory_mib = spec->limit_memory_mib,
					       .swap_mib = spec->limit_swap_mib,
					       .pids = spec->limit_pids,
					       .cpu_percent = spec->limit_cpu_percent,
					       .io_weight = spec->limit_io_weight };
	return 0;
}

uint32_t ask_kvm(const struct driver *driver, const struct spec *spec, uint32_t auto_flags, bool by_fd)
{
	uint32_t flags = 0;

	switch (spec->accel) {
	case SPEC_ACCEL_AUTO:
		flags = auto_flags;
		break;
	case SPEC_ACCEL_KVM:
		flags = WIRE_KVM_WANT | WIRE_KVM_REQUIRE;
		break;
	case SPEC_ACCEL_TCG:
		return 0;
	}
	return flags != 0 && by_fd && driver->can.kvm_by_fd ? flags | WIRE_KVM_FD_OK : flags;
}
