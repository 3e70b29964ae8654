/* SPDX-License-Identifier: Apache-2.0
 * Runs: controller (the user). */
#include "passt.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/pidfd.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/cleanup.h"

/* Number of the socket in passt: behind the standard descriptors. */
#define PASST_SOCKET 3

struct passt {
	pid_t pid;
	int pidfd;
};

static int refuse(struct spec_error *ret, int error, const char *text, const char *remedy)
{
	memset(ret, 0, sizeof(*ret));
	(void)snprintf(ret->where, sizeof(ret->where), ".nics");
	(void)snprintf(ret->text, sizeof(ret->text), "%s: %s", text, strerror(-error));
	(void)snprintf(ret->allowed, sizeof(ret->allowed), "%s", remedy);
	return error;
}

/* No port of the host is forwarded to the guest, and the gateway's address is not the host: without --no-map-gw a guest
 * reaches what listens on the user's loopback. It speaks with the guest, so it gets nothing of ours but its socket: not the
 * user's terminal, and no descriptor that somebody forgot to mark. What it has to say goes to syslog. */
static int spawn(int socket, pid_t *ret_pid)
{
	static char name[] = "passt", foreground[] = "--foreground", quiet[] = "--quiet", fd[] = "--fd=3",
		    no_gateway[] = "--no-map-gw", tcp[] = "--tcp-ports=none", udp[] = "--udp-ports=none";
	char *const words[] = { name, foreground, quiet, fd, no_gateway, tcp, udp, NULL };
	posix_spawn_file_actions_t actions;
	int r = posix_spawn_file_actions_init(&actions);

	if (r != 0)
		return -r;
	r = posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0);
	if (r == 0)
		r = posix_spawn_file_actions_addopen(&actions, 1, "/dev/null", O_WRONLY, 0);
	if (r == 0)
		r = posix_spawn_file_actions_addopen(&actions, 2, "/dev/null", O_WRONLY, 0);
	/* dup2 onto itself, too, clears close-on-exec here. */
	if (r == 0)
		r = posix_spawn_file_actions_adddup2(&actions, socket, PASST_SOCKET);
	if (r == 0)
		r = posix_spawn_file_actions_addclosefrom_np(&actions, PASST_SOCKET + 1);
	if (r == 0)
		r = posix_spawnp(ret_pid, name, &actions, NULL, words, environ);
	(void)posix_spawn_file_actions_destroy(&actions);
	return -r;
}

int passt_start(struct passt **ret, int *ret_socket, struct spec_error *ret_why)
{
	struct passt *passt = calloc(1, sizeof(*passt));
	cleanup_fd int ours = -1, theirs = -1;
	int pair[2], r;

	if (passt == NULL)
		return refuse(ret_why, -ENOMEM, "start passt", "stop something");
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0) {
		r = refuse(ret_why, -errno, "make a socket for passt", "raise ulimit -n");
		free(passt);
		return r;
	}
	ours = pair[0];
	theirs = pair[1];
	r = spawn(theirs, &passt->pid);
	if (r < 0) {
		free(passt);
		return refuse(ret_why, r, "start passt",
			      r == -ENOENT ? "install passt, or use a network of the policy"
					   : "use a network of the policy");
	}
	passt->pidfd = pidfd_open(passt->pid, 0);
	if (passt->pidfd < 0) {
		r = -errno;
		passt_stop(passt);
		return refuse(ret_why, r, "watch passt", "use a network of the policy");
	}
	*ret = passt;
	*ret_socket = fd_take(&ours);
	return 0;
}

int passt_pidfd(const struct passt *passt)
{
	return passt->pidfd;
}

pid_t passt_pid(const struct passt *passt)
{
	return passt != NULL ? passt->pid : 0;
}

void passt_stop(struct passt *passt)
{
	if (passt == NULL)
		return;
	/* Not reaped yet, so the number is still its own. passt keeps nothing that an orderly end would save. */
	(void)kill(passt->pid, SIGKILL);
	while (waitpid(passt->pid, NULL, 0) < 0 && errno == EINTR)
		;
	fd_close(&passt->pidfd);
	free(passt);
}
