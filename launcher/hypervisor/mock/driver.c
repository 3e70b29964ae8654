/* SPDX-License-Identifier: Apache-2.0
 * Runs: controller and CLI (the user). */
#include "mock.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "common/slots.h"
#include "config.h"
#include "launcher/hypervisor/ask.h"
#include "launcher/hypervisor/probe.h"
#include "launcher/hypervisor/qmp_vm.h"

/* It is built with us and has our version: no reason to start it for that. */
static int probe(const char *path, struct driver_probe *ret)
{
	struct driver_probe found = { .kvm_pvm = probe_kvm_pvm() };
	int r;

	if (access(path, X_OK) < 0)
		return -errno;
	r = probe_parse("version " POSTERN_VERSION, &found);
	if (r == 0)
		*ret = found;
	return r;
}

static int needs(const struct spec *spec, const struct driver_probe *found, struct wire_acquire *ask, struct spec_error *ret)
{
	int r;

	(void)found;
	if (spec->machine != NULL)
		return ask_refuse(ret, ".machine", "none", "driver mock has no machines");
	r = ask_fill(&driver_mock, spec, ask, ret);
	/* It has no guest: KVM only to show that it was passed. */
	if (r == 0)
		ask->flags |= ask_kvm(&driver_mock, spec, 0, true);
	return r;
}

/* Take over what there is: the mock needs none of it. Returns the index, -ENOENT for nothing. */
static int take(struct plan *plan, int *fd, const char *name, bool copy, bool writable)
{
	int index;

	if (*fd < 0)
		return -ENOENT;
	index = plan_asset(plan, *fd, name, copy, writable);
	if (index >= 0)
		*fd = -1;
	return index;
}

static int plan_files(struct driver_context *ctx, struct plan *plan)
{
	int r = take(plan, &ctx->kernel, "kernel", true, false);

	if (r >= 0)
		r = plan_word(plan, "--kernel=/run/kernel");
	if (r == 0 || r == -ENOENT)
		r = take(plan, &ctx->initrd, "initrd", true, false);
	if (r >= 0)
		r = plan_word(plan, "--initrd=/run/initrd");
	for (size_t i = 0; i < ctx->spec->disk_count && (r == 0 || r == -ENOENT); i++) {
		char name[32];

		/* Names of a plan are unique, and "kernel" may be the id of a disk. */
		(void)snprintf(name, sizeof(name), "disk-%s", ctx->spec->disks[i].id);
		r = take(plan, &ctx->disks[i], name, false, !ctx->spec->disks[i].readonly);
		if (r >= 0)
			r = plan_word(plan, "--disk=%d", SLOT_ASSET + r);
	}
	return r == -ENOENT ? 0 : r;
}

static int plan_words(struct driver_context *ctx, struct plan *plan)
{
	unsigned taps = 0, vhosts = 0;
	int r = plan_word(plan, "%s", ctx->path);

	for (size_t i = 0; i < ctx->lease->nic_count; i++) {
		taps += ctx->lease->nics[i].queues;
		vhosts += ctx->lease->nics[i].vhost != 0 ? ctx->lease->nics[i].queues : 0;
	}
	if (r == 0)
		r = plan_word(plan, "--memory=%u", ctx->spec->memory_mib);
	if (r == 0)
		r = plan_word(plan, "--vcpus=%u", ctx->spec->vcpus);
	if (r == 0)
		r = plan_word(plan, "--taps=%u", taps);
	if (r == 0)
		r = plan_word(plan, "--vhosts=%u", vhosts);
	if (r == 0 && ctx->spec->cmdline != NULL)
		r = plan_word(plan, "--append=%s", ctx->spec->cmdline);
	return r == 0 ? plan_files(ctx, plan) : r;
}

static int mock_plan(struct driver_context *ctx, struct plan *plan, struct spec_error *ret)
{
	int r = plan_words(ctx, plan);

	if (r < 0)
		(void)ask_refuse(ret, "", "", "a file cannot be passed to the VMM, or there are too many");
	return r;
}

const struct driver driver_mock = {
	.name = "mock",
	.kind = DRIVER_KIND_MOCK,
	.can = { .kvm = true,
		 .kvm_by_fd = true,
		 .tap_by_fd = true,
		 .vhost_net = true,
		 .vsock = true,
		 .pause = true,
		 .block = true,
		 .initrd = true,
		 .graceful_stop = true,
		 .vcpus_max = WIRE_VCPUS_MAX },
	.probe = probe,
	.needs = needs,
	.plan = mock_plan,
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
