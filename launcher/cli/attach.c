/* SPDX-License-Identifier: Apache-2.0
 * Runs: CLI (the user). A terminal at a guest's serial port. */
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include "cli.h"
#include "common/cleanup.h"

#define ATTACH_ESCAPE 0x1d /* Ctrl-] */

#define ATTACH_PENDING 4096 /* typed bytes that wait for a guest that does not read */
#define ATTACH_OUTPUT 4096  /* one write: what poll() calls writable takes as much (PIPE_BUF) */

enum { AT_STDIN, AT_STDOUT, AT_CONSOLE, AT_CHANNEL, AT_SIGNALS, AT_END };

struct session {
	struct channel *channel;
	int console, signals;
	bool foreground, raw, escaped, input, stopping;
	bool stuck; /* our output does not take what the guest prints */
	char pending[ATTACH_PENDING];
	size_t pending_used;
	const char *shown;
	struct attach_end *end;
	struct failure *failure;
};

/* A line of ours in the middle of the guest's: in raw mode the cursor does not return by itself. */
static void note(const struct session *session, const char *text)
{
	(void)fprintf(stderr, "%spostern: %s%s\n", session->raw ? "\r\n" : "", text, session->raw ? "\r" : "");
}

static int write_all(int fd, const char *bytes, size_t len)
{
	while (len > 0) {
		ssize_t put = write(fd, bytes, len);

		if (put < 0 && errno == EINTR)
			continue;
		if (put < 0 && errno == EAGAIN) { /* somebody made our stdout non-blocking */
			struct pollfd wait = { .fd = fd, .events = POLLOUT };

			(void)poll(&wait, 1, -1);
			continue;
		}
		if (put < 0)
			return -errno;
		bytes += put;
		len -= (size_t)put;
	}
	return 0;
}

static void ask(struct session *session, const char *verb)
{
	(void)channel_send(session->channel, json_pack("{s:s}", "verb", verb), -1);
}

static void stop(struct session *session)
{
	note(session, session->stopping ? "killing the sandbox" : "stopping the guest; again kills it");
	ask(session, session->stopping ? "kill" : "stop");
	session->stopping = true;
}

/* Hand on what the guest takes. Nobody waits for it: while it does not read, signals and escapes must work. */
static void feed(struct session *session)
{
	while (session->console >= 0 && session->pending_used > 0) {
		ssize_t put = send(session->console, session->pending, session->pending_used, MSG_DONTWAIT | MSG_NOSIGNAL);

		if (put < 0 && errno == EINTR)
			continue;
		if (put < 0 && errno == EAGAIN)
			return;
		if (put < 0) /* its end is seen where it is read */
			break;
		session->pending_used -= (size_t)put;
		memmove(session->pending, session->pending + put, session->pending_used);
	}
	session->pending_used = 0;
	if (!session->input && session->console >= 0)
		(void)shutdown(session->console, SHUT_WR);
}

/* For the guest. What a person types beyond the room is lost, as at any serial port; a pipe is not read beyond it. */
static void queue(struct session *session, const char *bytes, size_t len)
{
	size_t room = sizeof(session->pending) - session->pending_used;

	len = len < room ? len : room;
	memcpy(session->pending + session->pending_used, bytes, len);
	session->pending_used += len;
}

/* ---- what the user types --------------------------------------------------------------------------------------- */

static void escape(struct session *session, char key)
{
	static const char literal = ATTACH_ESCAPE;

	if (key == 'd' || key == 'q') {
		if (session->foreground)
			ask(session, "detach");
		session->end->detached = true;
	} else if (key == 's') {
		session->stopping = false;
		stop(session);
	} else if (key == 'k') {
		session->stopping = true;
		stop(session);
	} else if (key == ATTACH_ESCAPE) {
		queue(session, &literal, 1);
	} else {
		note(session, "Ctrl-] then: d leaves it running, s stops it, k kills it, Ctrl-] sends Ctrl-]");
	}
}

static void typed(struct session *session)
{
	char bytes[512];
	size_t from = 0, room = sizeof(session->pending) - session->pending_used;
	ssize_t got = read(STDIN_FILENO, bytes, session->raw || room > sizeof(bytes) ? sizeof(bytes) : room);

	if (got < 0 && (errno == EINTR || errno == EAGAIN))
		return;
	if (got <= 0) {
		session->input = false;
		feed(session);
		return;
	}
	if (!session->raw) { /* a file or a pipe: every byte is meant for the guest */
		queue(session, bytes, (size_t)got);
		feed(session);
		return;
	}
	for (size_t i = 0; i < (size_t)got; i++) {
		bool begins = !session->escaped && bytes[i] == ATTACH_ESCAPE;

		if (!session->escaped && !begins)
			continue;
		queue(session, bytes + from, i - from);
		from = i + 1;
		if (session->escaped)
			escape(session, bytes[i]);
		session->escaped = begins;
	}
	if (!session->escaped)
		queue(session, bytes + from, (size_t)got - from);
	feed(session);
}

/* ---- what comes back -------------------------------------------------------------------------------------------- */

static void printed(struct session *session)
{
	struct pollfd out = { .fd = STDOUT_FILENO, .events = POLLOUT };
	char bytes[ATTACH_OUTPUT];
	ssize_t got;

	/* A reader of ours that does not read must not keep signals away from us either. */
	session->stuck = poll(&out, 1, 0) == 0;
	if (session->stuck)
		return;
	got = read(session->console, bytes, sizeof(bytes));
	if (got < 0 && (errno == EINTR || errno == EAGAIN))
		return;
	/* Without a reader of our output there is nothing left to do here; a foreground guest ends with us. */
	if (got > 0 && write_all(STDOUT_FILENO, bytes, (size_t)got) == 0)
		return;
	if (got > 0 && session->foreground && !session->stopping)
		stop(session);
	fd_close(&session->console);
}

static void on_event(struct session *session, const json_t *line)
{
	const char *event = json_string_value(json_object_get(line, "event"));
	struct attach_end *end = session->end;

	if (event == NULL)
		return;
	if (strcmp(event, "stage") == 0 && session->stopping && isatty(STDERR_FILENO) == 1)
		note(session, json_string_value(json_object_get(line, "text")));
	if (strcmp(event, "ended") != 0)
		return;
	end->ended = true;
	end->exit_status = (int)json_integer_value(json_object_get(line, "exit"));
	end->kept = json_is_true(json_object_get(line, "kept"));
	(void)snprintf(end->uuid, sizeof(end->uuid), "%s", json_string_value(json_object_get(line, "uuid")));
	(void)snprintf(end->reason, sizeof(end->reason), "%s", json_string_value(json_object_get(line, "reason")));
}

/* 0, or -errno with the failure filled. */
static int on_channel(struct session *session)
{
	json_t *line = NULL;
	int r = channel_read(session->channel);

	while (channel_next(session->channel, &line) > 0) {
		on_event(session, line);
		json_decref(line);
	}
	if (r > 0 || r == -EAGAIN || session->end->ended)
		return 0;
	return fail(session->failure, -EPIPE, EXIT_GUEST,
		    "sandbox %s: its controller died, and the sandbox with it; see postern ps", session->shown);
}

static void on_signals(struct session *session)
{
	struct signalfd_siginfo info;

	while (read(session->signals, &info, sizeof(info)) == (ssize_t)sizeof(info)) {
		if (session->end->ended) /* only its last output is left, and nobody takes it */
			fd_close(&session->console);
		else if (session->foreground)
			stop(session);
		else
			session->end->detached = true;
	}
}

static int pump(struct session *session)
{
	int r = 0;

	while (r == 0 && !session->end->detached && !(session->end->ended && session->console < 0)) {
		bool room = session->raw || session->pending_used < sizeof(session->pending);
		short wanted = (short)((session->stuck ? 0 : POLLIN) | (session->pending_used > 0 ? POLLOUT : 0));
		struct pollfd fds[AT_END] = {
			[AT_STDIN] = { .fd = session->input && room ? STDIN_FILENO : -1, .events = POLLIN },
			[AT_STDOUT] = { .fd = session->stuck ? STDOUT_FILENO : -1, .events = POLLOUT },
			/* With nothing to ask of it it is not polled: its hang-up would be told without end. */
			[AT_CONSOLE] = { .fd = wanted != 0 ? session->console : -1, .events = wanted },
			[AT_CHANNEL] = { .fd = session->end->ended ? -1 : session->channel->fd, .events = POLLIN },
			[AT_SIGNALS] = { .fd = session->signals, .events = POLLIN },
		};

		if (poll(fds, AT_END, -1) < 0)
			continue;
		if (fds[AT_CONSOLE].revents & POLLOUT)
			feed(session);
		if ((fds[AT_CONSOLE].revents & ~POLLOUT) != 0 || fds[AT_STDOUT].revents != 0)
			printed(session);
		if (fds[AT_STDIN].revents != 0)
			typed(session);
		if (fds[AT_SIGNALS].revents != 0)
			on_signals(session);
		if (fds[AT_CHANNEL].revents != 0)
			r = on_channel(session);
	}
	return r;
}

int attach(struct channel *channel, int console, bool foreground, const char *shown, struct attach_end *ret,
	   struct failure *failure)
{
	struct session session = { .channel = channel,
				   .console = console,
				   .foreground = foreground,
				   .shown = shown,
				   .end = ret,
				   .failure = failure,
				   .input = console >= 0 };
	sigset_t set;
	int r;

	*ret = (struct attach_end){ 0 };
	(void)sigemptyset(&set);
	(void)sigaddset(&set, SIGINT);
	(void)sigaddset(&set, SIGTERM);
	(void)sigaddset(&set, SIGHUP);
	(void)sigprocmask(SIG_BLOCK, &set, NULL);
	session.signals = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
	if (session.signals < 0)
		return fail(failure, -errno, EXIT_FAILED, "console of %s: %s; raise ulimit -n", shown, strerror(errno));
	if (console >= 0 && isatty(STDIN_FILENO) == 1 && isatty(STDERR_FILENO) == 1)
		note(&session, "connected; Ctrl-] then ? for help");
	else if (console < 0 && isatty(STDERR_FILENO) == 1)
		note(&session, "running without a console; Ctrl-C stops it");
	session.raw = console >= 0 && tty_raw();
	r = pump(&session);
	tty_restore();
	if (session.raw)
		(void)fputc('\n', stderr);
	fd_close(&session.console);
	fd_close(&session.signals);
	return r;
}
