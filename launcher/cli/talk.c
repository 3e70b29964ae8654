/* SPDX-License-Identifier: Apache-2.0
 * Runs: CLI (the user). Talking to a controller. */
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "cli.h"
#include "common/cleanup.h"

#define TALK_CONNECT_MS 2000
#define TALK_NAP_NS 20000000

static int64_t now_ms(void)
{
	struct timespec now;

	(void)clock_gettime(CLOCK_MONOTONIC, &now);
	return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

/* A controller that stands still takes nobody from its queue, and a connect() to a full one would wait for ever. */
static int connect_in_time(int fd, const struct sockaddr_un *name)
{
	const struct timespec nap = { .tv_nsec = TALK_NAP_NS };
	int64_t end = now_ms() + TALK_CONNECT_MS;

	while (connect(fd, (const struct sockaddr *)name, sizeof(*name)) < 0) {
		if (errno != EAGAIN && errno != EINTR)
			return -errno;
		if (now_ms() >= end)
			return -ETIMEDOUT;
		(void)nanosleep(&nap, NULL);
	}
	return 0;
}

int talk_open(const struct found *found, const struct home_entry *entry, struct channel *ret, struct failure *failure)
{
	struct sockaddr_un name = { .sun_family = AF_UNIX };
	cleanup_fd int dir = -1, fd = -1;
	int r;

	if (entry->dead)
		return fail(failure, -ESRCH, EXIT_NOT_FOUND, "sandbox %s: it has ended (%s); see postern logs %.8s",
			    entry->state.uuid, entry->state.reason, entry->state.uuid);
	if (entry->state.status == STATE_ELSEWHERE)
		return fail(
			failure, -ESRCH, EXIT_FAILED,
			"sandbox %s: this state directory does not know it; use the XDG_RUNTIME_DIR it was started with, "
			"or postern kill %.8s",
			entry->state.uuid, entry->state.uuid);
	if (!entry->running)
		return fail(failure, -ESRCH, EXIT_FAILED,
			    "sandbox %s: it has no controller any more; postern kill %.8s ends it", entry->state.uuid,
			    entry->state.uuid);
	dir = home_open(found->base, entry->state.uuid, false);
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (dir < 0 || fd < 0)
		return fail(failure, -ESRCH, EXIT_NOT_FOUND, "sandbox %s: it has just ended; see postern ps",
			    entry->state.uuid);
	(void)snprintf(name.sun_path, sizeof(name.sun_path), "/proc/self/fd/%d/" HOME_API, dir);
	r = connect_in_time(fd, &name);
	if (r == -ENOENT)
		return fail(failure, -EAGAIN, EXIT_FAILED, "sandbox %s: it is still starting; try again", entry->state.uuid);
	if (r < 0)
		return fail(failure, r, r == -ETIMEDOUT ? EXIT_TIMEOUT : EXIT_FAILED,
			    "sandbox %s: its controller does not answer (%s); postern kill ends it", entry->state.uuid,
			    strerror(-r));
	channel_open(ret, fd_take(&fd), CHANNEL_REPLY_MAX);
	return 0;
}

int talk_ask(struct channel *channel, json_t *request, struct failure *failure)
{
	int r = channel_send(channel, request, -1);

	return r == 0 ? 0 : fail(failure, r, EXIT_FAILED, "controller: cannot be asked: %s; see postern ps", strerror(-r));
}

int talk_next(struct channel *channel, int timeout_ms, json_t **ret, struct failure *failure)
{
	int64_t start = now_ms();

	for (;;) {
		struct pollfd fd = { .fd = channel->fd, .events = POLLIN };
		int left = timeout_ms < 0 ? -1 : timeout_ms - (int)(now_ms() - start), r = channel_next(channel, ret);

		if (r > 0)
			return 0;
		if (r < 0)
			return fail(failure, r, EXIT_FAILED, "controller: it sends what is not JSON; postern kill ends it");
		if (timeout_ms >= 0 && left <= 0)
			return fail(failure, -ETIMEDOUT, EXIT_TIMEOUT,
				    "controller: no answer in time; postern kill ends the sandbox");
		if (poll(&fd, 1, left) <= 0)
			continue;
		r = channel_read(channel);
		if (r == 0 || (r < 0 && r != -EAGAIN))
			return fail(failure, -EPIPE, EXIT_FAILED, "controller: it died; see postern ps");
	}
}

int talk_call(struct channel *channel, const char *shown, json_t *request, int timeout_ms, json_t **ret,
	      struct failure *failure)
{
	json_t *answer = NULL;
	int r = talk_ask(channel, request, failure);

	if (r == -EPIPE)
		r = 0; /* hung up before we asked: why, it has said */
	while (r == 0) {
		const json_t *ok;

		r = talk_next(channel, timeout_ms, &answer, failure);
		if (r < 0) { /* its text knows no sandbox */
			struct failure why = *failure;

			return fail(failure, r, why.exit_status, "sandbox %s: %s", shown, why.text);
		}
		ok = json_object_get(answer, "ok");
		if (ok == NULL) { /* an event that came between */
			json_decref(answer);
			continue;
		}
		if (json_is_true(ok)) {
			*ret = answer;
			return 0;
		}
		r = fail(failure, -EREMOTEIO, (enum postern_exit)json_integer_value(json_object_get(answer, "exit")),
			 "sandbox %s: %s", shown,
			 json_is_string(json_object_get(answer, "error"))
				 ? json_string_value(json_object_get(answer, "error"))
				 : "?");
		json_decref(answer);
	}
	return r;
}

int talk_to(const char *id, json_t *request, int timeout_ms, json_t **ret, struct failure *failure)
{
	struct channel channel = { .fd = -1, .passed = -1 };
	const struct home_entry *entry = NULL;
	struct found found;
	int r = find_all(&found, failure);

	if (r == 0) {
		entry = find_one(&found, id, false, failure);
		r = entry != NULL ? talk_open(&found, entry, &channel, failure) : -ENOENT;
	}
	if (r == 0)
		r = talk_call(&channel, entry->state.uuid, request, timeout_ms, ret, failure);
	else
		json_decref(request);
	channel_close(&channel);
	find_done(&found);
	return r;
}
