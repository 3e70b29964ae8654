/* SPDX-License-Identifier: Apache-2.0
 * Runs: controller (the user). The rows of struct driver that are the same for every VMM that speaks QMP. */
#pragma once

#include "postern/driver.h"

struct driver_vm *qmp_vm_attach(int control_fd);
void qmp_vm_detach(struct driver_vm *vm);
int qmp_vm_ready(struct driver_vm *vm, int deadline_ms);
int qmp_vm_resume(struct driver_vm *vm, int deadline_ms);
int qmp_vm_pause(struct driver_vm *vm, int deadline_ms);
int qmp_vm_powerdown(struct driver_vm *vm, int deadline_ms);
int qmp_vm_quit(struct driver_vm *vm, int deadline_ms);
int qmp_vm_fd(const struct driver_vm *vm);
int qmp_vm_dispatch(struct driver_vm *vm);
enum driver_state qmp_vm_state(const struct driver_vm *vm);
const char *qmp_vm_trouble(const struct driver_vm *vm);
