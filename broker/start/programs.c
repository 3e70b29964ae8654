/* SPDX-License-Identifier: Apache-2.0
 * Runs: start (root, for a moment). Our own executables: opened once, checked, and executed by that descriptor. */
#include "start.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "common/cleanup.h"
#include "common/log.h"

#ifdef POSTERN_FAULT_INJECTION
#define VARIANT "-fault"
#else
#define VARIANT ""
#endif

/* Root is about to run it, or every sandbox is: only root may have written it. */
static int open_program(const char *dir, const char *name, int *ret_fd)
{
	char path[PATH_MAX + 64];
	struct stat st;
	int fd;

	(void)snprintf(path, sizeof(path), "%s/%s", dir, name);
	fd = open(path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
	if (fd < 0 || fstat(fd, &st) < 0) {
		log_error("%s: %m (%s)", path,
			  errno == EACCES ? HOST_RELABEL_TEXT : "is Postern installed completely? see --libexec");
		fd_close(&fd);
		return -ENOENT;
	}
	if (!S_ISREG(st.st_mode) || st.st_uid != 0 || (st.st_mode & 022) != 0 || (st.st_mode & 0111) != 0111) {
		log_error("%s: must be an executable file, owned by root and writable by nobody else", path);
		fd_close(&fd);
		return -EPERM;
	}
	*ret_fd = fd;
	return 0;
}

int programs_open(struct start *s)
{
	char self[PATH_MAX], libexec[PATH_MAX + 32];
	ssize_t n = readlink("/proc/self/exe", self, sizeof(self) - 1);
	char *slash;
	int r;

	if (n < 0) {
		log_error("/proc/self/exe: %m (is /proc mounted?)");
		return -errno;
	}
	self[n] = '\0';
	slash = strrchr(self, '/');
	if (slash == NULL)
		return -ENOENT;
	*slash = '\0';
	(void)snprintf(libexec, sizeof(libexec), "%s/../libexec/postern", self);
	if (s->options.libexec != NULL)
		(void)snprintf(libexec, sizeof(libexec), "%s", s->options.libexec);
	r = open_program(self, "postern-broker", &s->broker_program);
	if (r == 0)
		r = open_program(libexec, "postern-spawner" VARIANT, &s->spawner_program);
	if (r == 0)
		r = open_program(libexec, "postern-init" VARIANT, &s->p[P_INIT]);
	return r;
}
