/* SPDX-License-Identifier: Apache-2.0
 * Runs: controller (the user). What lines of QMP mean. */
#include "qmp.h"

#include <errno.h>
#include <jansson.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/cleanup.h"
#include "qmp_channel.h"

struct qmp {
	struct qmp_channel channel;
	enum driver_state state;
	char trouble[QMP_TROUBLE_MAX];
	int over; /* error of a session that has ended, 0 while it lives */
	bool greeted;
	uint32_t last_id;   /* of the newest command */
	uint32_t wanted;    /* command whose reply somebody waits for; 0 none */
	json_t *reply;      /* and the reply, when it came */
	bool refused;       /* the reply was an error */
	uint32_t status_id; /* query-status sent by an event handler; 0 none */
	bool status_stale;  /* an event said that the status changed to something it does not name */
};

/* ---- state and trouble ------------------------------------------------------------------------------------------- */

/* Texts may hold the VMM's own words, and end up on a terminal. */
static void __attribute__((format(printf, 2, 3))) say(struct qmp *qmp, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	(void)vsnprintf(qmp->trouble, sizeof(qmp->trouble), format, args);
	va_end(args);
	for (char *p = qmp->trouble; *p != '\0'; p++)
		if (*p < 0x20 || *p > 0x7e)
			*p = '?';
}

/* How a guest ended does not change any more: a VMM that is gone must not hide that the guest crashed. */
static void set_state(struct qmp *qmp, enum driver_state state)
{
	if (qmp->state != DRIVER_SHUTDOWN && qmp->state != DRIVER_CRASHED)
		qmp->state = state;
}

static int end_session(struct qmp *qmp, int error, const char *why)
{
	if (qmp->over == 0) {
		qmp->over = error;
		if (error == -EPIPE)
			set_state(qmp, DRIVER_GONE);
		/* After an orderly end there is no trouble, and an earlier one explains more. */
		if (error == -EPIPE && qmp->state == DRIVER_GONE && qmp->trouble[0] == '\0')
			why = "the VMM has closed its control channel";
		if (why != NULL)
			say(qmp, "%s", why);
	}
	return qmp->over;
}

struct status_row {
	const char *name;
	enum driver_state state;
	const char *trouble; /* NULL: nothing is wrong */
};

static const struct status_row statuses[] = {
	{ "running", DRIVER_RUNNING, NULL },
	{ "prelaunch", DRIVER_HELD, NULL },
	{ "preconfig", DRIVER_STARTING, NULL },
	{ "inmigrate", DRIVER_STARTING, NULL },
	{ "shutdown", DRIVER_SHUTDOWN, NULL },
	/* QEMU stays alive after these two: nothing will ever run again. */
	{ "internal-error", DRIVER_CRASHED, "the accelerator gave up on the guest (internal-error)" },
	{ "guest-panicked", DRIVER_CRASHED, "the guest panicked" },
	{ "io-error", DRIVER_PAUSED,
	  "the guest is paused: an image could not be read or written; is its file system full?" },
	{ "watchdog", DRIVER_PAUSED, "the guest is paused: its watchdog fired" },
};

static int apply_status(struct qmp *qmp, const json_t *value)
{
	const char *name = json_string_value(json_object_get(value, "status"));
	const json_t *running = json_object_get(value, "running");

	if (name == NULL || !json_is_boolean(running))
		return end_session(qmp, -EPROTO, "the VMM answered query-status with something else");
	for (size_t i = 0; i < ARRAY_SIZE(statuses); i++) {
		if (strcmp(statuses[i].name, name) != 0)
			continue;
		if (statuses[i].trouble != NULL)
			say(qmp, "%s", statuses[i].trouble);
		set_state(qmp, json_is_true(running) ? DRIVER_RUNNING : statuses[i].state);
		return 0;
	}
	/* paused, debug, save-vm, postmigrate, ...: for us, one thing. */
	set_state(qmp, json_is_true(running) ? DRIVER_RUNNING : DRIVER_PAUSED);
	return 0;
}

/* ---- lines ------------------------------------------------------------------------------------------------------- */

static int handle_event(struct qmp *qmp, const char *event, const json_t *data)
{
	const char *reason = json_string_value(json_object_get(data, "reason"));

	if (strcmp(event, "STOP") == 0) {
		/* By us, by a full disk, by a crash: only the status says. */
		set_state(qmp, DRIVER_PAUSED);
		qmp->status_stale = true;
	} else if (strcmp(event, "RESUME") == 0) {
		set_state(qmp, DRIVER_RUNNING);
	} else if (strcmp(event, "GUEST_PANICKED") == 0 ||
		   (strcmp(event, "SHUTDOWN") == 0 && reason != NULL && strcmp(reason, "guest-panic") == 0)) {
		say(qmp, "the guest panicked");
		set_state(qmp, DRIVER_CRASHED);
	} else if (strcmp(event, "SHUTDOWN") == 0) {
		set_state(qmp, DRIVER_SHUTDOWN);
	} else if (strcmp(event, "BLOCK_IO_ERROR") == 0) {
		say(qmp, "the guest met an I/O error on one of its images");
	}
	/* RESET needs nothing: with -no-reboot it is followed by SHUTDOWN. Others are not our business. */
	return 0;
}

static int handle_reply(struct qmp *qmp, const json_t *object, json_t *value, bool refused)
{
	const json_t *id = json_object_get(object, "id");
	json_int_t number = json_is_integer(id) ? json_integer_value(id) : 0;

	if (number < 1 || number > qmp->last_id)
		return end_session(qmp, -EPROTO, "the VMM answered a question nobody asked");
	if (qmp->wanted != 0 && number == qmp->wanted) {
		qmp->wanted = 0;
		qmp->refused = refused;
		qmp->reply = json_incref(value);
	} else if (qmp->status_id != 0 && number == qmp->status_id) {
		qmp->status_id = 0;
		return refused ? end_session(qmp, -EPROTO, "the VMM refuses to tell its status") : apply_status(qmp, value);
	}
	/* Otherwise late: whoever asked has given up. */
	return 0;
}

static int handle_object(struct qmp *qmp, const json_t *object)
{
	const char *event = json_string_value(json_object_get(object, "event"));
	json_t *value;

	if (!qmp->greeted) {
		if (!json_is_object(json_object_get(object, "QMP")))
			return end_session(qmp, -EPROTO,
					   "the VMM did not greet: it does not speak QMP on its control channel");
		qmp->greeted = true;
		return 0;
	}
	if (event != NULL)
		return handle_event(qmp, event, json_object_get(object, "data"));
	value = json_object_get(object, "return");
	if (value != NULL)
		return handle_reply(qmp, object, value, false);
	value = json_object_get(object, "error");
	if (value != NULL)
		return handle_reply(qmp, object, value, true);
	return end_session(qmp, -EPROTO, "the VMM sent something that is neither event nor reply");
}

static int handle_line(struct qmp *qmp, const char *line, size_t len)
{
	json_error_t error;
	json_t *object = json_loadb(line, len, 0, &error);
	int r;

	if (!json_is_object(object))
		r = end_session(qmp, -EPROTO, "the VMM sent a line that is not a JSON object");
	else
		r = handle_object(qmp, object);
	json_decref(object);
	return r;
}

static int send_command(struct qmp *qmp, const char *command, uint64_t deadline, uint32_t *ret_id)
{
	char text[128];
	int r, len = snprintf(text, sizeof(text), "{\"execute\":\"%s\",\"id\":%u}\n", command, qmp->last_id + 1);

	if (len < 0 || (size_t)len >= sizeof(text))
		return -EINVAL;
	r = qmp_write(&qmp->channel, text, (size_t)len, deadline);
	if (r == -EPIPE)
		return end_session(qmp, -EPIPE, NULL);
	/* Perhaps half a command is out: what follows would make no sense to the VMM. */
	if (r < 0)
		return end_session(qmp, -EPROTO, "the VMM does not read its control channel");
	*ret_id = ++qmp->last_id;
	return 0;
}

/* Every whole line that is here. */
static int handle_lines(struct qmp *qmp)
{
	const char *line, *why;
	size_t len;
	int r;

	while ((r = qmp_line(&qmp->channel, &line, &len, &why)) > 0) {
		r = handle_line(qmp, line, len);
		if (r < 0)
			return r;
	}
	if (r < 0)
		return end_session(qmp, r, why);
	if (qmp->status_stale && qmp->status_id == 0) {
		qmp->status_stale = false;
		return send_command(qmp, "query-status", qmp_now_ms(), &qmp->status_id);
	}
	return 0;
}

/* Read once and handle it. -EAGAIN: nothing was there. */
static int pump(struct qmp *qmp)
{
	int r = qmp_fill(&qmp->channel);

	if (r == -EPIPE)
		return end_session(qmp, -EPIPE, NULL);
	return r < 0 ? r : handle_lines(qmp);
}

static bool greeting_came(const struct qmp *qmp)
{
	return qmp->greeted;
}

static bool reply_came(const struct qmp *qmp)
{
	return qmp->wanted == 0;
}

static int wait_until(struct qmp *qmp, bool (*done)(const struct qmp *qmp), uint64_t deadline)
{
	while (!done(qmp)) {
		int r = qmp_wait(&qmp->channel, deadline);

		if (r == 0)
			r = pump(qmp);
		/* A VMM that keeps talking must not push the end of our patience away. */
		if ((r == 0 || r == -EAGAIN) && !done(qmp) && qmp_now_ms() >= deadline)
			r = -ETIMEDOUT;
		/* A reply counts even when the session ended right behind it. */
		if (r < 0 && r != -EAGAIN && !done(qmp))
			return r;
	}
	return 0;
}

/* ---- calls ------------------------------------------------------------------------------------------------------- */

struct qmp *qmp_new(int fd)
{
	struct qmp *qmp = calloc(1, sizeof(*qmp));

	if (qmp == NULL || (qmp->channel.buffer = malloc(QMP_LINE_MAX)) == NULL) {
		free(qmp);
		fd_close(&fd);
		return NULL;
	}
	qmp->channel.fd = fd;
	qmp->state = DRIVER_STARTING;
	return qmp;
}

void qmp_free(struct qmp *qmp)
{
	if (qmp == NULL)
		return;
	fd_close(&qmp->channel.fd);
	json_decref(qmp->reply);
	free(qmp->channel.buffer);
	free(qmp);
}

int qmp_command(struct qmp *qmp, const char *command, int deadline_ms, struct json_t **ret)
{
	uint64_t deadline = qmp_now_ms() + (uint64_t)(deadline_ms > 0 ? deadline_ms : 0);
	json_t *value;
	int r = qmp->over;

	if (r == 0)
		r = send_command(qmp, command, deadline, &qmp->wanted);
	if (r == 0)
		r = wait_until(qmp, reply_came, deadline);
	qmp->wanted = 0;
	if (r == -ETIMEDOUT)
		say(qmp, "the VMM does not answer %s", command);
	if (r < 0)
		return r;
	value = qmp->reply;
	qmp->reply = NULL;
	if (qmp->refused) {
		const char *text = json_string_value(json_object_get(value, "desc"));

		say(qmp, "the VMM refuses %s: %s", command, text != NULL ? text : "no reason given");
		json_decref(value);
		return -EREMOTEIO;
	}
	if (ret != NULL)
		*ret = value;
	else
		json_decref(value);
	return 0;
}

int qmp_refresh(struct qmp *qmp, int deadline_ms)
{
	json_t *status = NULL;
	int r = qmp_command(qmp, "query-status", deadline_ms, &status);

	if (r == 0)
		r = apply_status(qmp, status);
	json_decref(status);
	return r;
}

int qmp_handshake(struct qmp *qmp, int deadline_ms)
{
	uint64_t deadline = qmp_now_ms() + (uint64_t)(deadline_ms > 0 ? deadline_ms : 0);
	int r = qmp->over;

	if (r == 0)
		r = wait_until(qmp, greeting_came, deadline);
	if (r == -ETIMEDOUT)
		say(qmp, "the VMM does not greet on its control channel");
	if (r == 0)
		r = qmp_command(qmp, "qmp_capabilities", qmp_left_ms(deadline), NULL);
	return r == 0 ? qmp_refresh(qmp, qmp_left_ms(deadline)) : r;
}

int qmp_dispatch(struct qmp *qmp)
{
	int r = qmp->over != 0 ? qmp->over : pump(qmp);

	return r == -EAGAIN ? 0 : r;
}

int qmp_fd(const struct qmp *qmp)
{
	return qmp->channel.fd;
}

enum driver_state qmp_state(const struct qmp *qmp)
{
	return qmp->state;
}

const char *qmp_trouble(const struct qmp *qmp)
{
	return qmp->trouble;
}
