/* SPDX-License-Identifier: Apache-2.0
 * Runs: controller and CLI (the user). */
#include "qemu.h"

#include <errno.h>
#include <string.h>

#include "common/cleanup.h"
#include "launcher/hypervisor/ask.h"
#include "launcher/hypervisor/probe.h"
#include "launcher/hypervisor/qmp_vm.h"

/* What a server guest does not use is left out: no USB, no VMware port, no AHCI, no SMBus. The RAM of a guest is kept out of
 * core dumps, and out of same-page merging, through which guests can find out about each other (CVE-2015-2877). */
#define PRIVATE_RAM ",dump-guest-core=off,mem-merge=off"

static const struct qemu_machine machines[] = {
	{ "q35", ",usb=off,vmport=off,smbus=off,sata=off" PRIVATE_RAM, true }, /* first: the default */
	{ "pc", ",usb=off,vmport=off" PRIVATE_RAM, true },
	{ "microvm", ",auto-kernel-cmdline=on" PRIVATE_RAM, false },
};

const struct qemu_machine *qemu_machine(const char *name)
{
	for (size_t i = 0; i < ARRAY_SIZE(machines); i++)
		if (name == NULL || strcmp(name, machines[i].name) == 0)
			return &machines[i];
	return NULL;
}

static int probe(const char *path, struct driver_probe *ret)
{
	struct driver_probe found = { .kvm_pvm = probe_kvm_pvm() };
	char output[PROBE_OUTPUT_MAX + 1];
	int r = probe_run(path, PROBE_TIMEOUT_MS, output);

	if (r == 0)
		r = probe_parse(output, &found);
	if (r == 0)
		*ret = found;
	return r;
}

/* -accel kvm,device=/dev/fdset/N appeared in 9.0. */
static bool takes_kvm_fd(const struct driver_probe *found)
{
	return found->major >= 9;
}

static int needs(const struct spec *spec, const struct driver_probe *found, struct wire_acquire *ask, struct spec_error *ret)
{
	/* A host where KVM is there but of no use is not asked for it: what is not used is not granted. */
	uint32_t automatic = found->kvm_pvm ? 0 : WIRE_KVM_WANT;
	int r;

	/* First what boots, in this order; the rest may have defaults, this cannot. */
	if (spec->kernel == NULL)
		return ask_refuse(ret, ".kernel", "path of a file", "is missing");
	if (spec->initrd == NULL && spec->disk_count == 0 && !spec->kernel_only)
		return ask_refuse(ret, ".initrd", "an initrd, a disk, or kernel_only: true",
				  "is missing, and so is a disk: the kernel would find no root");
	if (qemu_machine(spec->machine) == NULL)
		return ask_refuse(ret, ".machine", QEMU_MACHINES, "\"%s\" is no machine of this driver", spec->machine);
	if (spec->memory_mib < QEMU_MEMORY_MIN_MIB)
		return ask_refuse(ret, ".memory", "8 MiB or more", "%u MiB are too few", spec->memory_mib);
	if (found->major < QEMU_PROBE_MAJOR_MIN || (found->major == QEMU_PROBE_MAJOR_MIN && found->minor < 2))
		return ask_refuse(ret, ".hypervisor", "QEMU 7.2 or newer", "QEMU %s is too old", found->version);
	r = ask_fill(&driver_qemu, spec, ask, ret);
	if (r == 0)
		ask->flags |= ask_kvm(&driver_qemu, spec, automatic, takes_kvm_fd(found));
	return r;
}

const struct driver driver_qemu = {
	.name = "qemu",
	.kind = DRIVER_KIND_QEMU,
	.can = { .kvm = true,
		 .tcg = true,
		 .kvm_by_fd = true,
		 .tap_by_fd = true,
		 .vhost_net = true,
		 .vsock = true,
		 .pause = true,
		 .passt = true,
		 .block = true,
		 .initrd = true,
		 .graceful_stop = true,
		 .vcpus_max = QEMU_VCPUS_MAX },
	.probe = probe,
	.needs = needs,
	.plan = qemu_plan,
	.attach = qmp_vm_attach,
	.detach = qmp_vm_detach,
	.ready = qmp_vm_ready,
	.resume = qmp_vm_resume,
	.pause = qmp_vm_pause,
	.powerdown = qmp_vm_powerdown,
	.quit = qmp_vm_quit,
	.fd = qmp_vm_fd,
	.dispatch = qmp_vm_dispatch,
	.state = qmp_vm_state,
	.trouble = qmp_vm_trouble,
};
