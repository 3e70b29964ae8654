/* SPDX-License-Identifier: Apache-2.0
 * Runs: controller (the user). The loop of a running sandbox. */
#include "server.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "common/cleanup.h"

#define SERVE_GONE_MS 3000  /* a VMM whose channel broke, or whose guest is off, gets this long to end by itself */
#define SERVE_FLUSH_MS 2000 /* for readers of the console to take the last words */
#define SERVE_IDLE_MS 1000  /* a client that asks nothing for so long gives way to another */
#define SERVE_INPUT_ROOM 1024u

/* Fixed places in the poll array; clients and viewers follow. */
enum { AT_SIGNAL, AT_LISTEN, AT_PIDFD, AT_INIT, AT_VMM, AT_CONSOLE, AT_LOG, AT_CLIENTS };
#define AT_VIEWERS (AT_CLIENTS + SERVER_CLIENTS_MAX)
#define AT_END (AT_VIEWERS + SERVER_VIEWERS_MAX)

int64_t server_now(void)
{
	struct timespec now;

	(void)clock_gettime(CLOCK_MONOTONIC, &now);
	return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

/* ---- clients --------------------------------------------------------------------------------------------------- */

void client_drop(struct client *client)
{
	channel_close(&client->channel);
	*client = (struct client){ .channel = { .fd = -1, .passed = -1 } };
}

void client_send(struct client *client, json_t *json, int passed)
{
	if (!client->used)
		json_decref(json);
	else if (channel_send(&client->channel, json, passed) < 0)
		client_drop(client);
}

struct client *server_adopt(struct server *server, int fd, bool parent)
{
	for (size_t i = 0; i < SERVER_CLIENTS_MAX; i++) {
		struct client *client = &server->clients[i];

		if (client->used)
			continue;
		*client = (struct client){ .used = true, .parent = parent, .wants_end = parent, .since = server_now() };
		channel_open(&client->channel, fd, CHANNEL_REQUEST_MAX);
		return client;
	}
	(void)close(fd);
	return NULL;
}

/* All places are taken: the one that has been silent longest goes, when it waits for nothing and is silent for a while. */
static void make_room(struct server *server)
{
	struct client *oldest = NULL;

	for (size_t i = 0; i < SERVER_CLIENTS_MAX; i++) {
		struct client *client = &server->clients[i];

		if (!client->used)
			return;
		if (client->parent || client->wants_end || client->wants_audit || client->channel.out_used > 0)
			continue;
		if (oldest == NULL || client->since < oldest->since)
			oldest = client;
	}
	if (oldest != NULL && server_now() - oldest->since >= SERVE_IDLE_MS)
		client_drop(oldest);
}

static void accept_client(struct server *server)
{
	cleanup_fd int fd = accept4(server->listen, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
	static const char busy[] = "{\"ok\":false,\"exit\":1,\"error\":\"too many are asking its controller; try again\"}\n";
	struct ucred peer = { .uid = (uid_t)-1 };
	socklen_t len = sizeof(peer);

	if (fd < 0)
		return;
	/* The directory is 0700 already; a descriptor of the socket may have been handed around all the same. */
	if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &len) < 0 || peer.uid != geteuid())
		return;
	make_room(server);
	for (size_t i = 0; i < SERVER_CLIENTS_MAX; i++)
		if (!server->clients[i].used) {
			(void)server_adopt(server, fd_take(&fd), false);
			return;
		}
	(void)send(fd, busy, sizeof(busy) - 1, MSG_NOSIGNAL | MSG_DONTWAIT);
}

/* ---- opening and closing --------------------------------------------------------------------------------------- */

int server_open(struct server *server, struct failure *failure)
{
	struct sockaddr_un name = { .sun_family = AF_UNIX };
	sigset_t set;
	int r;

	if (ring_init(&server->backlog, SERVER_BACKLOG) < 0 || ring_init(&server->input, SERVER_INPUT_MAX) < 0 ||
	    (server->in = calloc(1, sizeof(*server->in))) == NULL)
		return fail(failure, -ENOMEM, EXIT_FAILED, "serve the API: out of memory; stop something");
	(void)sigemptyset(&set);
	(void)sigaddset(&set, SIGTERM);
	(void)sigaddset(&set, SIGINT);
	(void)sigprocmask(SIG_BLOCK, &set, NULL);
	server->signals = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
	server->listen = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (server->signals < 0 || server->listen < 0)
		return fail(failure, -errno, EXIT_FAILED, "serve the API: %s; raise ulimit -n", strerror(errno));
	/* By way of the directory's descriptor: a path could be longer than a socket's name may be. */
	(void)snprintf(name.sun_path, sizeof(name.sun_path), "/proc/self/fd/%d/" HOME_API, server->home->dir);
	if (bind(server->listen, (const struct sockaddr *)&name, sizeof(name)) < 0 ||
	    fchmodat(server->home->dir, HOME_API, 0600, 0) < 0 || listen(server->listen, SERVER_CLIENTS_MAX) < 0) {
		r = -errno;
		return fail(failure, r, EXIT_FAILED, "serve the API of %s: %s; is /proc mounted?", server->home->uuid,
			    strerror(-r));
	}
	return 0;
}

void server_close(struct server *server)
{
	console_flush(server, SERVE_FLUSH_MS);
	for (size_t i = 0; i < SERVER_CLIENTS_MAX; i++)
		if (server->clients[i].used)
			client_drop(&server->clients[i]);
	fd_close(&server->signals);
	fd_close(&server->listen);
	ring_done(&server->backlog);
	ring_done(&server->input);
	free(server->in);
	server->in = NULL;
}

void server_set_status(struct server *server, enum state_status status)
{
	server->state->status = status;
	/* A full disk must not end a sandbox; the file then says what was true before. */
	if (state_save(server->state, server->home->dir) < 0)
		logfile_note(&server->vmm_log, "state.json could not be written");
}

/* ---- events ---------------------------------------------------------------------------------------------------- */

static void on_signal(struct server *server)
{
	struct signalfd_siginfo info;

	while (read(server->signals, &info, sizeof(info)) == (ssize_t)sizeof(info)) {
		bool again = server->stop != STOP_NONE;

		stop_begin(server, again ? STOP_KILL : STOP_POWERDOWN, server->guest->spec->stop_ms);
	}
}

static void on_init(struct server *server)
{
	struct guest *guest = server->guest;
	int r = wire_recv(guest->init, &guest->phase, server->in);

	if (r == -EAGAIN)
		return;
	if (r <= 0) {
		/* Gone, or no longer to be trusted. Its pidfd says which; the hang-up ends what is left. */
		if (r < 0)
			logfile_note(&server->vmm_log, "init broke the protocol: %s",
				     server->in->why != NULL ? server->in->why : strerror(-r));
		fd_close(&guest->init);
		if (server->stop < STOP_TERM) {
			server->stop = STOP_TERM;
			server->stop_deadline = server_now() + SERVE_GONE_MS;
		}
		return;
	}
	if (server->in->op == WIRE_OP_C_EXITED) {
		server->exited = true;
		server->vmm_status = server->in->msg.exited.status;
	} else if (server->in->op == WIRE_OP_C_FACTS) {
		verbs_audited(server, &server->in->msg.facts);
	} else if (server->in->op == WIRE_OP_C_FAILED) {
		logfile_note(&server->vmm_log, "init failed to %s: %s", wire_step_text(server->in->msg.step_failed.step),
			     strerror((int)server->in->msg.step_failed.error));
	}
	wire_in_close(server->in);
}

void server_over(struct server *server, bool gone)
{
	server->vmm_gone = server->vmm_gone || gone;
	if (server->stop != STOP_NONE)
		return;
	/* As if that stage had been tried: the next one follows. Nobody asked, so nothing is announced. */
	server->stop = gone ? STOP_QUIT : STOP_POWERDOWN;
	server->stop_deadline = server_now() + SERVE_GONE_MS;
}

static void on_vmm(struct server *server)
{
	struct guest *guest = server->guest;
	int r = guest->driver->dispatch(guest->vm);
	enum driver_state state = guest->driver->state(guest->vm);
	bool over = r < 0 || state == DRIVER_SHUTDOWN || state == DRIVER_CRASHED || state == DRIVER_GONE;

	if (!over && server->stop == STOP_NONE) {
		enum state_status status = state == DRIVER_PAUSED ? STATE_PAUSED : STATE_RUNNING;

		if (status != server->state->status)
			server_set_status(server, status);
	}
	if (over)
		server_over(server, r < 0);
}

/* The VMM's channel is dead weight once it is broken, but the driver knows how the guest ended: keep it, do not poll. */
static bool vmm_open(const struct server *server)
{
	return server->guest->vm != NULL && !server->vmm_gone;
}

/* ---- the loop -------------------------------------------------------------------------------------------------- */

static void fill(const struct server *server, struct pollfd *fds)
{
	const struct guest *guest = server->guest;
	bool room = server->input.size - server->input.used >= SERVE_INPUT_ROOM;

	for (size_t i = 0; i < AT_END; i++)
		fds[i] = (struct pollfd){ .fd = -1, .events = POLLIN };
	fds[AT_SIGNAL].fd = server->signals;
	fds[AT_LISTEN].fd = server->listen;
	fds[AT_PIDFD].fd = guest->pidfd;
	fds[AT_INIT].fd = guest->init;
	fds[AT_VMM].fd = vmm_open(server) ? guest->driver->fd(guest->vm) : -1;
	fds[AT_CONSOLE].fd = guest->console;
	fds[AT_CONSOLE].events = (short)(POLLIN | (server->input.used > 0 ? POLLOUT : 0));
	fds[AT_LOG].fd = guest->log;
	for (size_t i = 0; i < SERVER_CLIENTS_MAX; i++)
		if (server->clients[i].used) {
			fds[AT_CLIENTS + i].fd = server->clients[i].channel.fd;
			fds[AT_CLIENTS + i].events =
				(short)(POLLIN | (server->clients[i].channel.out_used > 0 ? POLLOUT : 0));
		}
	for (size_t i = 0; i < SERVER_VIEWERS_MAX; i++) {
		const struct viewer *viewer = &server->viewers[i];

		if (viewer->used) {
			fds[AT_VIEWERS + i].fd = viewer->fd;
			fds[AT_VIEWERS + i].events =
				(short)((room && !viewer->closing ? POLLIN : 0) | (viewer->out.used > 0 ? POLLOUT : 0));
		}
	}
}

static void on_client(struct server *server, struct client *client, short events)
{
	bool parent = client->parent;

	if ((events & POLLOUT) != 0 && channel_flush(&client->channel) < 0)
		client_drop(client);
	else if ((events & (POLLIN | POLLHUP | POLLERR)) != 0)
		verbs_serve(server, client);
	/* A foreground sandbox ends with its `postern run`, however that ended. */
	if (parent && !client->used && !server->detached) {
		logfile_note(&server->vmm_log, "postern run has gone");
		stop_begin(server, STOP_POWERDOWN, server->guest->spec->stop_ms);
	}
}

static void turn(struct server *server, const struct pollfd *fds)
{
	struct guest *guest = server->guest;

	if (fds[AT_SIGNAL].revents != 0)
		on_signal(server);
	if (fds[AT_CONSOLE].revents != 0 && guest->console >= 0) {
		if ((fds[AT_CONSOLE].revents & POLLOUT) != 0)
			console_input(server);
		if ((fds[AT_CONSOLE].revents & ~POLLOUT) != 0 && guest->console >= 0)
			console_output(server);
	}
	if (fds[AT_LOG].revents != 0 && guest->log >= 0)
		console_vmm_log(server);
	if (fds[AT_VMM].revents != 0 && guest->vm != NULL)
		on_vmm(server);
	if (fds[AT_INIT].revents != 0 && guest->init >= 0)
		on_init(server);
	for (size_t i = 0; i < SERVER_CLIENTS_MAX; i++)
		if (fds[AT_CLIENTS + i].revents != 0 && server->clients[i].used)
			on_client(server, &server->clients[i], fds[AT_CLIENTS + i].revents);
	for (size_t i = 0; i < SERVER_VIEWERS_MAX; i++)
		if (fds[AT_VIEWERS + i].revents != 0 && server->viewers[i].used)
			console_viewer(&server->viewers[i], server, fds[AT_VIEWERS + i].revents);
	if (fds[AT_LISTEN].revents != 0)
		accept_client(server);
}

/* Everything that was said before the end counts: take it in before the verdict. */
static void last_words(struct server *server)
{
	struct guest *guest = server->guest;

	for (int i = 0; i < 64 && guest->init >= 0 && !server->exited; i++) {
		struct pollfd fd = { .fd = guest->init, .events = POLLIN };

		if (poll(&fd, 1, 0) <= 0)
			break;
		on_init(server);
	}
	for (int i = 0; i < 1024 && guest->console >= 0; i++) {
		struct pollfd fd = { .fd = guest->console, .events = POLLIN };

		if (poll(&fd, 1, 0) <= 0)
			break;
		console_output(server);
	}
	for (int i = 0; i < 256 && guest->log >= 0; i++) {
		struct pollfd fd = { .fd = guest->log, .events = POLLIN };

		if (poll(&fd, 1, 0) <= 0)
			break;
		console_vmm_log(server);
	}
	if (vmm_open(server))
		(void)guest->driver->dispatch(guest->vm);
}

bool server_run(struct server *server)
{
	struct pollfd fds[AT_END];
	bool keep;

	for (;;) {
		int timeout = -1;

		if (server->stop != STOP_NONE) {
			int64_t left = server->stop_deadline - server_now();

			timeout = left > 0 ? (int)left : 0;
		}
		fill(server, fds);
		if (poll(fds, AT_END, timeout) < 0)
			continue; /* EINTR: a stopped process was continued */
		turn(server, fds);
		if (fds[AT_PIDFD].revents != 0)
			break;
		stop_tick(server);
		if (server->stop == STOP_LOST)
			break;
	}
	last_words(server);
	/* A kill that is not ours. The memory may have run out after a stop began, so by_user says nothing. */
	if (server->stop != STOP_LOST && !server->forced &&
	    (!server->exited || (WIFSIGNALED(server->vmm_status) && WTERMSIG(server->vmm_status) == SIGKILL)))
		server->oom = guest_oom(server->guest);
	keep = stop_judge(server);
	logfile_note(&server->vmm_log, "ended: %s", server->state->reason);
	(void)state_save(server->state, server->home->dir);
	return keep;
}
