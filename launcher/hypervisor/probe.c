/* SPDX-License-Identifier: Apache-2.0
 * Runs: controller and CLI (the user). */
#include "probe.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "qmp_channel.h"

#define KVM_PVM_MODULE "/sys/module/kvm_pvm"

/* Nothing of ours but the output pipe gets into the child, close-on-exec or not. */
static int start(const char *path, int output, pid_t *ret_pid)
{
	static char locale[] = "LC_ALL=C", version[] = "--version";
	char *const environment[] = { locale, NULL };
	char name[PATH_MAX];
	char *const words[] = { name, version, NULL };
	posix_spawn_file_actions_t actions;
	int r;

	if (snprintf(name, sizeof(name), "%s", path) >= (int)sizeof(name))
		return -ENAMETOOLONG;
	r = posix_spawn_file_actions_init(&actions);
	if (r != 0)
		return -r;
	r = posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDWR, 0);
	if (r == 0)
		r = posix_spawn_file_actions_adddup2(&actions, output, 1);
	if (r == 0)
		r = posix_spawn_file_actions_adddup2(&actions, 0, 2);
	if (r == 0)
		r = posix_spawn_file_actions_addclosefrom_np(&actions, 3);
	if (r == 0)
		r = posix_spawn(ret_pid, path, &actions, NULL, words, environment);
	(void)posix_spawn_file_actions_destroy(&actions);
	return -r;
}

/* Until the end of output, the end of room or the end of patience. */
static int collect(int output, int timeout_ms, char *text)
{
	uint64_t deadline = qmp_now_ms() + (uint64_t)timeout_ms;
	size_t used = 0;

	while (used < PROBE_OUTPUT_MAX) {
		struct pollfd pfd = { .fd = output, .events = POLLIN };
		uint64_t now = qmp_now_ms();
		ssize_t n;

		if (now >= deadline || poll(&pfd, 1, (int)(deadline - now)) == 0)
			return -ETIMEDOUT;
		n = read(output, text + used, PROBE_OUTPUT_MAX - used);
		if (n < 0 && errno != EINTR && errno != EAGAIN)
			return -errno;
		if (n == 0)
			break;
		used += n > 0 ? (size_t)n : 0;
	}
	text[used] = '\0';
	return 0;
}

/* Reap it before the deadline; a version that was printed by something which does not end is no version. */
static int reap(pid_t pid, int timeout_ms, bool kill_first)
{
	const struct timespec pause = { .tv_nsec = 2000000 };
	uint64_t deadline = qmp_now_ms() + (uint64_t)timeout_ms;
	int status = 0;
	pid_t got;

	for (;;) {
		if (kill_first)
			(void)kill(pid, SIGKILL);
		got = waitpid(pid, &status, kill_first ? 0 : WNOHANG);
		if (got == pid)
			return !kill_first && WIFEXITED(status) && WEXITSTATUS(status) == 0 ? 0 : -ENOEXEC;
		if (got < 0 && errno != EINTR)
			return -errno;
		if (got == 0 && qmp_now_ms() >= deadline)
			kill_first = true;
		else if (got == 0)
			(void)nanosleep(&pause, NULL);
	}
}

int probe_run(const char *path, int timeout_ms, char ret_output[PROBE_OUTPUT_MAX + 1])
{
	cleanup_fd int reader = -1, writer = -1;
	char text[PROBE_OUTPUT_MAX + 1];
	int pair[2], r, ended;
	pid_t pid = -1;

	if (pipe2(pair, O_CLOEXEC) < 0)
		return -errno;
	reader = pair[0];
	writer = pair[1];
	r = start(path, writer, &pid);
	if (r < 0)
		return r;
	fd_close(&writer);
	r = collect(reader, timeout_ms, text);
	/* Closed first: a program that still writes gets SIGPIPE rather than our patience. */
	fd_close(&reader);
	ended = reap(pid, timeout_ms, r < 0);
	if (r < 0)
		return r;
	if (ended < 0)
		return ended;
	memcpy(ret_output, text, sizeof(text));
	return 0;
}

/* At most four digits: nothing wraps. */
static bool number(const char **p, uint32_t *ret)
{
	const char *begin = *p;
	uint32_t value = 0;

	for (; **p >= '0' && **p <= '9' && *p - begin < 4; (*p)++)
		value = value * 10 + (uint32_t)(**p - '0');
	*ret = value;
	return *p != begin && (**p < '0' || **p > '9');
}

int probe_parse(const char *output, struct driver_probe *ret)
{
	static const char word[] = "version ";
	const char *p = strstr(output, word);
	struct driver_probe probe = { .kvm_pvm = ret->kvm_pvm };
	size_t len;

	if (p == NULL)
		return -EPROTO;
	p += sizeof(word) - 1;
	len = strcspn(p, " \t\r\n");
	if (len >= sizeof(probe.version))
		return -EPROTO;
	memcpy(probe.version, p, len);
	for (size_t i = 0; i < len; i++)
		if (probe.version[i] < 0x21 || probe.version[i] > 0x7e)
			return -EPROTO;
	if (!number(&p, &probe.major) || *p++ != '.' || !number(&p, &probe.minor))
		return -EPROTO;
	*ret = probe;
	return 0;
}

bool probe_kvm_pvm(void)
{
	return access(KVM_PVM_MODULE, F_OK) == 0;
}
