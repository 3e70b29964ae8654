/* SPDX-License-Identifier: Apache-2.0
 * Runs: controller and CLI (the user). */
#include "state.h"

#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <string.h>

#include "common/cleanup.h"
#include "home.h"

#define STATE_TEXT(NAME, text) text,
static const char *const texts[] = { STATE_STATUSES(STATE_TEXT) };

const char *state_status_text(enum state_status status)
{
	return (size_t)status < ARRAY_SIZE(texts) ? texts[status] : texts[STATE_UNKNOWN];
}

bool state_uuid_ok(const char *s)
{
	for (size_t i = 0; i < STATE_UUID_SIZE - 1; i++) {
		bool dash = i == 8 || i == 13 || i == 18 || i == 23;

		if (dash ? s[i] != '-' : !((s[i] >= '0' && s[i] <= '9') || (s[i] >= 'a' && s[i] <= 'f')))
			return false;
	}
	return s[STATE_UUID_SIZE - 1] == '\0';
}

json_t *state_to_json(const struct state *s)
{
	return json_pack("{s:i s:s s:s s:s s:s s:s s:s s:i s:i s:i s:I s:I s:I s:I s:I s:b s:b s:I s:I s:i s:s}", "version",
			 STATE_VERSION, "uuid", s->uuid, "name", s->name, "status", state_status_text(s->status),
			 "hypervisor", s->hypervisor, "accel", s->accel, "networks", s->networks, "controller_pid",
			 s->controller_pid, "init_pid", s->init_pid, "vmm_pid", s->vmm_pid, "uid", (json_int_t)s->uid, "gid",
			 (json_int_t)s->gid, "vcpus", (json_int_t)s->vcpus, "memory_mib", (json_int_t)s->memory_mib, "cid",
			 (json_int_t)s->cid, "survive", s->survive, "direct", s->direct, "started",
			 (json_int_t)s->started, "ended", (json_int_t)s->ended, "exit_status", s->exit_status, "reason",
			 s->reason);
}

/* Copy a text that must fit. */
static bool take(char *to, size_t size, const char *from)
{
	return (size_t)snprintf(to, size, "%s", from) < size;
}

int state_from_json(const json_t *json, struct state *ret)
{
	const char *uuid, *name, *status, *hypervisor, *accel, *networks, *reason;
	json_int_t uid, gid, vcpus, memory, cid, started, ended;
	struct state s = { 0 };
	int version, survive, direct = 0;
	json_t *unconst = json_incref((json_t *)(uintptr_t)json);
	int bad = json_unpack(unconst,
			      "{s:i s:s s:s s:s s:s s:s s:s s:i s:i s:i s:I s:I s:I s:I s:I s:b s?:b s:I s:I s:i s:s}",
			      "version", &version, "uuid", &uuid, "name", &name, "status", &status, "hypervisor",
			      &hypervisor, "accel", &accel, "networks", &networks, "controller_pid", &s.controller_pid,
			      "init_pid", &s.init_pid, "vmm_pid", &s.vmm_pid, "uid", &uid, "gid", &gid, "vcpus", &vcpus,
			      "memory_mib", &memory, "cid", &cid, "survive", &survive, "direct", &direct, "started",
			      &started, "ended", &ended, "exit_status", &s.exit_status, "reason", &reason);

	json_decref(unconst);
	if (bad != 0 || version != STATE_VERSION || !state_uuid_ok(uuid))
		return -EINVAL;
	if (!take(s.uuid, sizeof(s.uuid), uuid) || !take(s.name, sizeof(s.name), name) ||
	    !take(s.hypervisor, sizeof(s.hypervisor), hypervisor) || !take(s.accel, sizeof(s.accel), accel) ||
	    !take(s.networks, sizeof(s.networks), networks) || !take(s.reason, sizeof(s.reason), reason))
		return -EINVAL;
	for (size_t i = 0; i < ARRAY_SIZE(texts); i++)
		if (strcmp(texts[i], status) == 0)
			s.status = (enum state_status)i;
	s.uid = (uint32_t)uid;
	s.gid = (uint32_t)gid;
	s.vcpus = (uint32_t)vcpus;
	s.memory_mib = (uint32_t)memory;
	s.cid = (uint32_t)cid;
	s.survive = survive != 0;
	s.direct = direct != 0;
	s.started = started;
	s.ended = ended;
	*ret = s;
	return 0;
}

int state_save(const struct state *state, int dir)
{
	json_t *json = state_to_json(state);
	cleanup_free char *text = json != NULL ? json_dumps(json, JSON_INDENT(1)) : NULL;

	json_decref(json);
	return text == NULL ? -ENOMEM : home_write(dir, HOME_STATE, text, strlen(text));
}

int state_load(struct state *ret, int dir)
{
	cleanup_free char *text = NULL;
	int r = home_read(dir, HOME_STATE, STATE_FILE_MAX, &text);
	json_t *json;

	if (r < 0)
		return r;
	json = json_loads(text, JSON_REJECT_DUPLICATES, NULL);
	if (json == NULL)
		return -EINVAL;
	r = state_from_json(json, ret);
	json_decref(json);
	return r;
}
