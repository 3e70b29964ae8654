/* SPDX-License-Identifier: Apache-2.0
 * Runs: controller and CLI (the user). The command line of QEMU.
 *
 * No text of the user's becomes part of an option: files are named by descriptor, ids and machine names are checked against
 * sets without comma, and the kernel command line is a word of its own behind -append, where QEMU looks for no option. */
#include "qemu.h"

#include <errno.h>
#include <stdio.h>
#include <sys/stat.h>

#include "common/slots.h"
#include "launcher/hypervisor/ask.h"

#define RUN_KERNEL "/run/kernel"
#define RUN_INITRD "/run/initrd"
#define UUID_TEXT 37u

/* One plan being written. The first failure sticks, so that a line of argv is a line here. */
struct writer {
	struct driver_context *ctx;
	const struct qemu_machine *machine;
	struct plan *plan;
	int error;
	unsigned fdsets;
};

#define WORD(w, ...) ((w)->error = (w)->error < 0 ? (w)->error : plan_word((w)->plan, __VA_ARGS__))
#define OPTION(w, name, ...) (WORD(w, "%s", name), WORD(w, __VA_ARGS__))

static void uuid_text(const uint8_t uuid[16], char text[UUID_TEXT])
{
	static const char digits[] = "0123456789abcdef";

	for (unsigned i = 0; i < 16; i++) {
		if (i == 4 || i == 6 || i == 8 || i == 10)
			*text++ = '-';
		*text++ = digits[uuid[i] >> 4];
		*text++ = digits[uuid[i] & 15];
	}
	*text = '\0';
}

/* A descriptor that QEMU opens by name: it becomes a set of one. Returns the set's number. */
static unsigned fdset(struct writer *w, int fd)
{
	unsigned set = ++w->fdsets;

	OPTION(w, "-add-fd", "fd=%d,set=%u", fd, set);
	return set;
}

/* Hand a descriptor of the context over. Returns its index in the plan. */
static int take(struct writer *w, int *fd, const char *name, bool copy, bool writable)
{
	int index;

	if (w->error < 0)
		return 0;
	index = plan_asset(w->plan, *fd, name, copy, writable);
	if (index < 0)
		w->error = index;
	else
		*fd = -1;
	return index < 0 ? 0 : index;
}

/* ---- the machine ------------------------------------------------------------------------------------------------- */

/* Under KVM only the local APICs are the kernel's: PIC, PIT and I/O APIC are old, are a guest's way into the kernel, and the
 * PIT has a kernel thread that stays outside of the sandbox's cgroup. Interrupts of virtio do not come by any of them. */
#define KVM_OPTIONS "kvm,kernel-irqchip=split"

static void write_accel(struct writer *w)
{
	const struct driver_context *ctx = w->ctx;
	unsigned set;

	if (!ctx->kvm) {
		OPTION(w, "-accel", "tcg");
	} else if (ctx->lease->grants[WIRE_GRANT_KVM] == WIRE_BY_BY_FD) {
		set = fdset(w, SLOT_KVM);
		OPTION(w, "-accel", KVM_OPTIONS ",device=/dev/fdset/%u", set);
	} else {
		OPTION(w, "-accel", KVM_OPTIONS);
	}
}

/* Under KVM the host's own model, but for the paravirtual KVM, where it ends in an abort over MSR 0x10a. Emulated: all that
 * TCG can do; before 8.0 its cmpxchg16b now and then loses the flags, on which kernels of 6.x die at random. */
static const char *cpu_model(const struct driver_context *ctx)
{
	if (ctx->kvm)
		return ctx->probe->kvm_pvm ? "host,-arch-capabilities" : "host";
	return ctx->probe->major < 8 ? "max,-cx16" : "max";
}

static void write_machine(struct writer *w)
{
	const struct spec *spec = w->ctx->spec;
	char uuid[UUID_TEXT];

	uuid_text(w->ctx->lease->uuid, uuid);
	OPTION(w, "-name", "sandbox-%s", uuid);
	OPTION(w, "-uuid", "%s", uuid);
	/* Nothing from configuration files, no default devices, no display, and no guest instruction before `cont`. A guest
	 * that resets has ended: what starts anew is a new sandbox. */
	WORD(w, "-no-user-config");
	WORD(w, "-nodefaults");
	OPTION(w, "-display", "none");
	OPTION(w, "-vga", "none");
	WORD(w, "-no-reboot");
	WORD(w, "-S");
	OPTION(w, "-machine", "%s%s", w->machine->name, w->machine->options);
	write_accel(w);
	OPTION(w, "-cpu", "%s", cpu_model(w->ctx));
	OPTION(w, "-smp", "%u,cores=1,threads=1,sockets=%u,maxcpus=%u", spec->vcpus, spec->vcpus, spec->vcpus);
	OPTION(w, "-m", "%uM", spec->memory_mib);
	OPTION(w, "-rtc", "base=utc,driftfix=slew,clock=host");
}

static void write_channels(struct writer *w)
{
	OPTION(w, "-chardev", "socket,id=control,fd=%d", SLOT_CONTROL);
	OPTION(w, "-mon", "chardev=control,mode=control");
	if (w->ctx->spec->console == SPEC_CONSOLE_NONE) {
		OPTION(w, "-serial", "none");
		return;
	}
	OPTION(w, "-chardev", "socket,id=console,fd=%d", SLOT_CONSOLE);
	OPTION(w, "-serial", "chardev:console");
}

/* QEMU opens kernel and initrd by path and by nothing else: init makes copies of them. */
static void write_boot(struct writer *w)
{
	const struct spec *spec = w->ctx->spec;
	const char *console = spec->console == SPEC_CONSOLE_SERIAL ? "console=ttyS0 " : "";

	(void)take(w, &w->ctx->kernel, "kernel", true, false);
	OPTION(w, "-kernel", RUN_KERNEL);
	if (w->ctx->initrd >= 0) {
		(void)take(w, &w->ctx->initrd, "initrd", true, false);
		OPTION(w, "-initrd", RUN_INITRD);
	}
	/* The user's words last: of a parameter that comes twice the kernel takes the last. */
	OPTION(w, "-append", "%spanic=1%s%s", console, spec->cmdline != NULL ? " " : "",
	       spec->cmdline != NULL ? spec->cmdline : "");
}

/* ---- devices ----------------------------------------------------------------------------------------------------- */

/* "virtio-blk" to "virtio-blk-pci" or "virtio-blk-device"; a PCI device has a ROM, and needs none. */
static const char *bus(const struct writer *w)
{
	return w->machine->pci ? "pci" : "device";
}

static const char *no_rom(const struct writer *w)
{
	return w->machine->pci ? ",romfile=" : "";
}

/* The format is always said: a guest could write another one's header into a raw image. QEMU's own file locks stay on: they
 * keep two sandboxes from writing one image, and belong to the descriptor, so they work in here as anywhere. */
static void write_disk(struct writer *w, size_t index)
{
	const struct spec_disk *disk = &w->ctx->spec->disks[index];
	const char *readonly = disk->readonly ? "on" : "off", *driver;
	char name[32];
	unsigned set;
	int slot;

	/* Names of a plan are unique, and "kernel" may be the id of a disk. */
	(void)snprintf(name, sizeof(name), "disk-%s", disk->id);
	slot = SLOT_ASSET + take(w, &w->ctx->disks[index], name, false, !disk->readonly);
	if (w->error < 0)
		return;
	driver = S_ISBLK(w->plan->assets[slot - SLOT_ASSET].mode) ? "host_device" : "file";
	set = fdset(w, slot);
	OPTION(w, "-blockdev",
	       "driver=%s,node-name=file-%s,filename=/dev/fdset/%u,aio=threads,read-only=%s,auto-read-only=off", driver,
	       disk->id, set, readonly);
	OPTION(w, "-blockdev", "driver=raw,node-name=raw-%s,file=file-%s,read-only=%s", disk->id, disk->id, readonly);
	OPTION(w, "-device", "virtio-blk-%s,id=virtio-%s,drive=raw-%s,serial=%s,config-wce=off%s", bus(w), disk->id,
	       disk->id, disk->id, no_rom(w));
}

/* "a" or "a:b:c" */
static void fd_list(char *text, size_t size, unsigned first, unsigned count)
{
	size_t used = 0;

	for (unsigned i = 0; i < count && used < size; i++)
		used += (size_t)snprintf(text + used, size - used, "%s%u", i > 0 ? ":" : "", first + i);
}

/* Slots go round in the order of the lease: tap is the first free tap slot, vhost the first free vhost slot. */
static void write_tap(struct writer *w, size_t index, const struct wire_nic *nic, unsigned *tap, unsigned *vhost)
{
	char taps[WIRE_QUEUES_MAX * 4], vhosts[WIRE_QUEUES_MAX * 4], queues[32] = "";
	unsigned count = nic->queues > 0 ? nic->queues : 1;
	const uint8_t *mac = nic->mac;

	fd_list(taps, sizeof(taps), *tap, count);
	*tap += count;
	if (nic->vhost != 0) {
		fd_list(vhosts, sizeof(vhosts), *vhost, count);
		*vhost += count;
		OPTION(w, "-netdev", "tap,id=net%zu,fds=%s,vhost=on,vhostfds=%s", index, taps, vhosts);
	} else {
		OPTION(w, "-netdev", "tap,id=net%zu,fds=%s,vhost=off", index, taps);
	}
	/* One vector for each direction of a queue, one for configuration, one for control. Without PCI there are none. */
	if (count > 1 && w->machine->pci)
		(void)snprintf(queues, sizeof(queues), ",mq=on,vectors=%u", 2 * count + 2);
	else if (count > 1)
		(void)snprintf(queues, sizeof(queues), ",mq=on");
	OPTION(w, "-device", "virtio-net-%s,id=nic%zu,netdev=net%zu,mac=%02x:%02x:%02x:%02x:%02x:%02x%s%s", bus(w), index,
	       index, mac[0], mac[1], mac[2], mac[3], mac[4], mac[5], queues, no_rom(w));
}

/* passt shares its network with nobody, so the address needs only to be stable: it is made from the sandbox's UUID. */
static void write_passt(struct writer *w, size_t index)
{
	const uint8_t *uuid = w->ctx->lease->uuid;
	int slot = SLOT_ASSET + take(w, &w->ctx->passt, "passt", false, true);

	OPTION(w, "-netdev", "stream,id=net%zu,server=off,addr.type=fd,addr.str=%d", index, slot);
	OPTION(w, "-device", "virtio-net-%s,id=nic%zu,netdev=net%zu,mac=52:54:00:%02x:%02x:%02x%s", bus(w), index, index,
	       uuid[13], uuid[14], uuid[15], no_rom(w));
}

static int write_nics(struct writer *w, struct spec_error *ret)
{
	const struct spec *spec = w->ctx->spec;
	const struct wire_lease *lease = w->ctx->lease;
	unsigned tap = SLOT_TAP, vhost = SLOT_VHOST;
	size_t granted = 0;

	for (size_t i = 0; i < spec->nic_count; i++) {
		if (spec->nics[i].kind == SPEC_NET_PASST) {
			write_passt(w, i);
			continue;
		}
		if (granted == lease->nic_count)
			return ask_refuse(ret, ".nics", "as many as were granted", "the lease has only %zu taps", granted);
		write_tap(w, i, &lease->nics[granted++], &tap, &vhost);
	}
	if (granted != lease->nic_count)
		return ask_refuse(ret, ".nics", "as many as were granted", "the lease has %u taps", lease->nic_count);
	return 0;
}

static void write_devices(struct writer *w)
{
	for (size_t i = 0; i < w->ctx->spec->disk_count; i++)
		write_disk(w, i);
	OPTION(w, "-object", "rng-random,id=rng0,filename=/dev/urandom");
	OPTION(w, "-device", "virtio-rng-%s,rng=rng0%s", bus(w), no_rom(w));
	/* The id must be the lease's: the broker has set it already, and the filter answers an attempt to change it with
	 * success without doing anything. */
	if (wire_outcome_ok(w->ctx->lease->grants[WIRE_GRANT_VHOST_VSOCK]))
		OPTION(w, "-device", "vhost-vsock-%s,id=vsock0,vhostfd=%d,guest-cid=%u%s", bus(w), SLOT_VSOCK,
		       w->ctx->lease->cid, no_rom(w));
}

/* Whether everything the spec names was opened. */
static int check_files(const struct driver_context *ctx, struct spec_error *ret)
{
	if (ctx->kernel < 0)
		return ask_refuse(ret, ".kernel", "path of a file", "was not opened");
	if (ctx->spec->initrd != NULL && ctx->initrd < 0)
		return ask_refuse(ret, ".initrd", "path of a file", "was not opened");
	for (size_t i = 0; i < ctx->spec->disk_count; i++)
		if (ctx->disks[i] < 0)
			return ask_refuse(ret, ".disks", "path of a file", "disk %zu was not opened", i);
	for (size_t i = 0; i < ctx->spec->nic_count; i++)
		if (ctx->spec->nics[i].kind == SPEC_NET_PASST && ctx->passt < 0)
			return ask_refuse(ret, ".nics", "tap", "passt was not started");
	return 0;
}

int qemu_plan(struct driver_context *ctx, struct plan *plan, struct spec_error *ret)
{
	struct writer w = { .ctx = ctx, .machine = qemu_machine(ctx->spec->machine), .plan = plan };
	int r;

	if (w.machine == NULL)
		return ask_refuse(ret, ".machine", QEMU_MACHINES, "\"%s\" is no machine of this driver", ctx->spec->machine);
	r = check_files(ctx, ret);
	if (r < 0)
		return r;
	WORD(&w, "%s", ctx->path);
	write_machine(&w);
	write_channels(&w);
	write_boot(&w);
	r = write_nics(&w, ret);
	if (r < 0)
		return r;
	write_devices(&w);
	if (w.error == -E2BIG)
		return ask_refuse(ret, ".cmdline", "a shorter one", "the command line of the VMM is too long");
	if (w.error < 0) {
		(void)ask_refuse(ret, "", "", "a file cannot be passed to the VMM");
		return w.error;
	}
	return 0;
}
