/* SPDX-License-Identifier: Apache-2.0
 * Runs: spawner (capabilities of P only). */
#include "spawner.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>

#include "common/cleanup.h"
#include "common/fault.h"

static int write_map(const struct spawner *sp, pid_t pid, const char *file, const char *text)
{
	char path[64];
	cleanup_fd int fd = -1;
	ssize_t n;

	(void)snprintf(path, sizeof(path), "%d/%s", pid, file);
	fd = openat(sp->p[P_PROCFS], path, O_WRONLY | O_CLOEXEC | O_NOFOLLOW);
	if (fd < 0)
		return -errno;
	n = write(fd, text, strlen(text)); /* the kernel takes a map whole or not at all */
	if (n < 0)
		return -errno;
	return (size_t)n == strlen(text) ? 0 : -EIO;
}

/* Identity, and never uid 0: then no program the sandbox executes gains a capability by being executed, and a number
 * means the same inside and outside. The child cannot be a recycled pid: it is ours and not reaped. */
int maps_write(const struct spawner *sp, pid_t pid, const struct wire_lease *lease)
{
	char text[96];
	int r;

	(void)snprintf(text, sizeof(text), "%u %u 1\n", lease->uid, fault_id(SPAWNER_FD_FAULT, lease->uid));
	r = write_map(sp, pid, "uid_map", text);
	if (r < 0)
		return r;
	if (lease->grants[WIRE_GRANT_KVM] == WIRE_BY_BY_GROUP)
		(void)snprintf(text, sizeof(text), "%u %u 1\n%u %u 1\n", lease->gid, lease->gid, sp->table->kvm_gid,
			       sp->table->kvm_gid);
	else
		(void)snprintf(text, sizeof(text), "%u %u 1\n", lease->gid, fault_id(SPAWNER_FD_FAULT, lease->gid));
	return write_map(sp, pid, "gid_map", text);
}
