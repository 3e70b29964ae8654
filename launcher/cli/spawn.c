/* SPDX-License-Identifier: Apache-2.0
 * Runs: CLI (the user). Starting a controller. */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/socket.h>
#include <unistd.h>

#include "cli.h"
#include "common/cleanup.h"
#include "config.h"

enum { SPAWN_FD_SPEC = 3, SPAWN_FD_REPORT = 4, SPAWN_FD_END = 5 };

/* Beside ourselves first, so that a tree installed anywhere works. */
static int controller_path(char *ret, size_t size)
{
	char self[PATH_MAX];
	ssize_t len = readlink("/proc/self/exe", self, sizeof(self) - 1);
	char *slash;

	if (len > 0) {
		self[len] = '\0';
		slash = strrchr(self, '/');
		if (slash != NULL) {
			*slash = '\0';
			if ((size_t)snprintf(ret, size, "%s/../libexec/postern/postern-controller", self) < size &&
			    access(ret, X_OK) == 0)
				return 0;
		}
	}
	(void)snprintf(ret, size, "%s/postern-controller", POSTERN_LIBEXECDIR);
	return access(ret, X_OK) == 0 ? 0 : -errno;
}

/* The spec with every default filled in, so that both sides mean the same. A memfd, so that nothing is left of it. */
static int spec_memfd(const struct spec *spec)
{
	json_t *json = spec_to_json(spec);
	cleanup_free char *text = json != NULL ? json_dumps(json, 0) : NULL;
	cleanup_fd int fd = memfd_create("postern-spec", MFD_CLOEXEC);
	size_t len = text != NULL ? strlen(text) : 0;

	json_decref(json);
	if (text == NULL)
		return -ENOMEM;
	if (fd < 0 || fchmod(fd, 0600) < 0 || write(fd, text, len) != (ssize_t)len || lseek(fd, 0, SEEK_SET) != 0)
		return -errno;
	return fd_take(&fd);
}

/* In the child: only async-signal-safe calls. */
static _Noreturn void become(const char *path, char *const argv[], int spec, int report, bool detach)
{
	int null = open("/dev/null", O_RDWR | O_CLOEXEC);
	/* Out of the way first: a source may sit on another's target. */
	int high_spec = fcntl(spec, F_DUPFD_CLOEXEC, SPAWN_FD_END),
	    high_report = fcntl(report, F_DUPFD_CLOEXEC, SPAWN_FD_END);
	sigset_t none;

	/* A session of its own: Ctrl-C at the terminal is for us, and a closed terminal does not kill it. */
	(void)setsid();
	(void)sigemptyset(&none);
	(void)sigprocmask(SIG_SETMASK, &none, NULL);
	(void)signal(SIGPIPE, SIG_DFL);
	if (null < 0 || high_spec < 0 || high_report < 0 || dup2(null, STDIN_FILENO) < 0 || dup2(null, STDOUT_FILENO) < 0 ||
	    (detach && dup2(null, STDERR_FILENO) < 0) || dup2(high_spec, SPAWN_FD_SPEC) < 0 ||
	    dup2(high_report, SPAWN_FD_REPORT) < 0 || close_range(SPAWN_FD_END, ~0u, 0) < 0)
		_exit(EXIT_FAILED);
	(void)execv(path, argv);
	_exit(EXIT_FAILED);
}

int spawn_controller(const struct spec *spec, bool detach, int timeout_ms, struct channel *ret_channel,
		     struct failure *failure)
{
	char path[PATH_MAX], timeout[32], socket_arg[PATH_MAX + 16];
	const char *argv[] = { "postern-controller", "--spec-fd=3", "--report-fd=4", timeout, NULL, NULL, NULL };
	cleanup_fd int memfd = -1, ours = -1, theirs = -1;
	int pair[2], r = controller_path(path, sizeof(path)), n = 4;
	pid_t pid;

	_Static_assert(SPAWN_FD_SPEC == 3 && SPAWN_FD_REPORT == 4, "the numbers in argv");
	if (r < 0)
		return fail(failure, r, EXIT_FAILED, "start %s: %s; reinstall postern", path, strerror(-r));
	memfd = spec_memfd(spec);
	if (memfd < 0 || socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0)
		return fail(failure, -errno, EXIT_FAILED, "start the controller: %s; raise ulimit -n", strerror(errno));
	ours = pair[0];
	theirs = pair[1];
	(void)snprintf(timeout, sizeof(timeout), "--timeout-ms=%d", timeout_ms);
	if (detach)
		argv[n++] = "--detach";
	if (options_socket() != NULL) {
		(void)snprintf(socket_arg, sizeof(socket_arg), "--socket=%s", options_socket());
		argv[n] = socket_arg;
	}
	pid = fork();
	if (pid < 0)
		return fail(failure, -errno, EXIT_FAILED, "start the controller: %s; raise ulimit -u", strerror(errno));
	if (pid == 0)
		become(path, (char *const *)(uintptr_t)argv, memfd, theirs, detach);
	channel_open(ret_channel, fd_take(&ours), CHANNEL_REPLY_MAX);
	return pid;
}
