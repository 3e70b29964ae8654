/* SPDX-License-Identifier: Apache-2.0
 * Runs: every process. Ownership by attribute: what is acquired is released on every path out of the scope. */
#pragma once

#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

#define ARRAY_SIZE(a) (sizeof(a) / sizeof((a)[0]))

/* Close a descriptor and forget it; keeps errno, so that it may stand on an error path. */
static inline void fd_close(int *fd)
{
	if (*fd >= 0) {
		int saved = errno;

		(void)close(*fd);
		errno = saved;
	}
	*fd = -1;
}

/* Hand a descriptor on: the variable no longer owns it. */
static inline int fd_take(int *fd)
{
	int out = *fd;

	*fd = -1;
	return out;
}

static inline void free_ptr(void *pointer_to_pointer)
{
	void **pp = pointer_to_pointer;

	free(*pp);
	*pp = NULL;
}

#define cleanup_fd __attribute__((cleanup(fd_close)))
#define cleanup_free __attribute__((cleanup(free_ptr)))
