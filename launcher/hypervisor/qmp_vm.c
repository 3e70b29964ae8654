/* SPDX-License-Identifier: Apache-2.0
 * Runs: controller (the user). */
#include "qmp_vm.h"

#include <errno.h>
#include <stdlib.h>

#include "common/cleanup.h"
#include "qmp.h"
#include "qmp_channel.h"

struct driver_vm {
	struct qmp *qmp;
	const char *trouble; /* our own, when it is not the protocol's; NULL none */
};

struct driver_vm *qmp_vm_attach(int control_fd)
{
	struct driver_vm *vm = calloc(1, sizeof(*vm));

	if (vm == NULL) {
		fd_close(&control_fd);
		return NULL;
	}
	vm->qmp = qmp_new(control_fd);
	if (vm->qmp == NULL) {
		free(vm);
		return NULL;
	}
	return vm;
}

void qmp_vm_detach(struct driver_vm *vm)
{
	if (vm == NULL)
		return;
	qmp_free(vm->qmp);
	free(vm);
}

int qmp_vm_ready(struct driver_vm *vm, int deadline_ms)
{
	int r = qmp_handshake(vm->qmp, deadline_ms);

	if (r < 0)
		return r;
	/* No guest instruction before the receipt: a VMM that did not hold the guest is not waited for, it is refused. */
	if (qmp_state(vm->qmp) != DRIVER_HELD) {
		vm->trouble = "the VMM does not hold the guest";
		return -EPROTO;
	}
	return 0;
}

/* The command was taken and did nothing. A panic or a full disk, which the protocol has told us, explains more. */
static int not_done(struct driver_vm *vm, const char *text)
{
	if (qmp_trouble(vm->qmp)[0] == '\0')
		vm->trouble = text;
	return -EIO;
}

int qmp_vm_resume(struct driver_vm *vm, int deadline_ms)
{
	uint64_t deadline = qmp_now_ms() + (uint64_t)(deadline_ms > 0 ? deadline_ms : 0);
	int r;

	vm->trouble = NULL;
	r = qmp_command(vm->qmp, "cont", deadline_ms, NULL);
	if (r == 0)
		r = qmp_refresh(vm->qmp, qmp_left_ms(deadline));
	/* A guest may be done before we look. */
	if (qmp_state(vm->qmp) == DRIVER_SHUTDOWN)
		return 0;
	if (r < 0)
		return r;
	if (qmp_state(vm->qmp) == DRIVER_RUNNING)
		return 0;
	return not_done(vm, "the VMM says yes to cont, and does not let the guest run");
}

int qmp_vm_pause(struct driver_vm *vm, int deadline_ms)
{
	uint64_t deadline = qmp_now_ms() + (uint64_t)(deadline_ms > 0 ? deadline_ms : 0);
	int r;

	vm->trouble = NULL;
	r = qmp_command(vm->qmp, "stop", deadline_ms, NULL);
	if (r == 0)
		r = qmp_refresh(vm->qmp, qmp_left_ms(deadline));
	if (r < 0)
		return r;
	if (qmp_state(vm->qmp) == DRIVER_PAUSED || qmp_state(vm->qmp) == DRIVER_HELD)
		return 0;
	return not_done(vm, "the VMM says yes to stop, and the guest still runs");
}

int qmp_vm_powerdown(struct driver_vm *vm, int deadline_ms)
{
	vm->trouble = NULL;
	return qmp_command(vm->qmp, "system_powerdown", deadline_ms, NULL);
}

int qmp_vm_quit(struct driver_vm *vm, int deadline_ms)
{
	int r = qmp_command(vm->qmp, "quit", deadline_ms, NULL);

	/* It may go before it answers. */
	return r == -EPIPE ? 0 : r;
}

int qmp_vm_fd(const struct driver_vm *vm)
{
	return qmp_fd(vm->qmp);
}

int qmp_vm_dispatch(struct driver_vm *vm)
{
	return qmp_dispatch(vm->qmp);
}

enum driver_state qmp_vm_state(const struct driver_vm *vm)
{
	return qmp_state(vm->qmp);
}

const char *qmp_vm_trouble(const struct driver_vm *vm)
{
	return vm->trouble != NULL ? vm->trouble : qmp_trouble(vm->qmp);
}
