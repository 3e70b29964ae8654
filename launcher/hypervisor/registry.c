/* SPDX-License-Identifier: Apache-2.0
 * Runs: controller and CLI (the user). Every driver there is. A new VMM is a room, a line here and one in meson.build. */
#include <string.h>

#include "common/cleanup.h"
#include "mock/mock.h"
#include "postern/driver.h"
#include "qemu/qemu.h"

static const struct driver *const drivers[] = { &driver_qemu, &driver_mock };

const struct driver *driver_by_kind(uint8_t kind)
{
	for (size_t i = 0; i < ARRAY_SIZE(drivers); i++)
		if (drivers[i]->kind == kind)
			return drivers[i];
	return NULL;
}

const struct driver *driver_by_name(const char *name)
{
	for (size_t i = 0; i < ARRAY_SIZE(drivers); i++)
		if (strcmp(drivers[i]->name, name) == 0)
			return drivers[i];
	return NULL;
}

const struct driver *const *driver_all(size_t *ret_count)
{
	*ret_count = ARRAY_SIZE(drivers);
	return drivers;
}
