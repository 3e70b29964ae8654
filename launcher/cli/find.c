/* SPDX-License-Identifier: Apache-2.0
 * Runs: CLI (the user). Which sandboxes there are, and which one an id means. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#include <uuid/uuid.h>

#include "cli.h"
#include "common/cleanup.h"
#include "launcher/sandbox/broker_client.h"

#define FIND_LEASES_MAX 4096u
#define FIND_GONE_TRIES 100
#define FIND_GONE_NAP_NS 20000000

/* What the broker says is alive. */
struct leases {
	struct wire_lease *items;
	size_t count;
	bool answered;
};

static void ask_broker(struct leases *leases, struct failure *trouble)
{
	struct broker_failure why = { 0 };
	struct broker *broker = NULL;
	uint64_t after = 0;
	int r = broker_connect(options_socket(), &broker, &why);
	bool connected = r == 0;

	while (r == 0 && leases->count < FIND_LEASES_MAX) {
		struct wire_lease *items = realloc(leases->items, (leases->count + 1) * sizeof(*items));

		if (items == NULL)
			break;
		leases->items = items;
		r = broker_next(broker, after, &items[leases->count], &why);
		if (r == 0)
			after = items[leases->count++].id;
	}
	leases->answered = connected && r == -ENOENT; /* the walk came to its end */
	if (!leases->answered)
		(void)fail(trouble, r, why.exit_status, "%s", why.text);
	broker_close(broker);
}

static const struct wire_lease *lease_of(const struct leases *leases, const char *uuid)
{
	uuid_t raw;

	if (uuid_parse(uuid, raw) < 0)
		return NULL;
	for (size_t i = 0; i < leases->count; i++)
		if (memcmp(leases->items[i].uuid, raw, sizeof(raw)) == 0)
			return &leases->items[i];
	return NULL;
}

static int alive(void *context, const char *uuid)
{
	const struct leases *leases = context;

	if (!leases->answered)
		return -1;
	return lease_of(leases, uuid) != NULL;
}

/* A lease that our state directory does not know. */
static void from_lease(const struct wire_lease *lease, struct state *state)
{
	size_t at = 0;

	uuid_unparse_lower(lease->uuid, state->uuid);
	state->status = STATE_ELSEWHERE;
	(void)snprintf(state->hypervisor, sizeof(state->hypervisor), "%s", lease->hypervisor);
	state->init_pid = (pid_t)lease->init_pid;
	state->uid = lease->uid;
	state->gid = lease->gid;
	state->vcpus = lease->vcpus;
	state->memory_mib = lease->memory_mib;
	state->cid = lease->cid;
	state->survive = (lease->flags & WIRE_SURVIVE) != 0;
	state->direct = (lease->flags & WIRE_DIRECT) != 0;
	state->started = (int64_t)(lease->started_ns / 1000000000u);
	for (size_t i = 0; i < lease->nic_count && at < sizeof(state->networks); i++)
		at += (size_t)snprintf(state->networks + at, sizeof(state->networks) - at, "%s%s", i > 0 ? "," : "",
				       lease->nics[i].network);
}

static int add_unknown(struct home_list *list, const struct leases *leases)
{
	size_t known = list->count;

	for (size_t i = 0; i < leases->count; i++) {
		struct home_entry *items, entry = { 0 };
		bool seen = false;

		from_lease(&leases->items[i], &entry.state);
		for (size_t k = 0; k < known && !seen; k++)
			seen = !list->items[k].dead && strcmp(list->items[k].state.uuid, entry.state.uuid) == 0;
		if (seen)
			continue;
		items = realloc(list->items, (list->count + 1) * sizeof(*items));
		if (items == NULL)
			return -ENOMEM;
		list->items = items;
		items[list->count++] = entry;
	}
	return 0;
}

int find_all(struct found *found, struct failure *failure)
{
	struct leases leases = { 0 };
	int r;

	*found = (struct found){ .base = -1 };
	r = home_base(false, &found->base, failure);
	if (r < 0 && r != -ENOENT)
		return r;
	ask_broker(&leases, &found->trouble);
	found->broker = leases.answered;
	r = 0;
	if (found->base >= 0) {
		(void)home_sweep(found->base, alive, &leases);
		r = home_scan(found->base, &found->list);
	}
	for (size_t i = 0; i < found->list.count; i++)
		if (!found->list.items[i].dead && !found->list.items[i].running)
			found->list.items[i].state.status = STATE_ORPHANED;
	if (r == 0)
		r = add_unknown(&found->list, &leases);
	free(leases.items);
	if (r < 0)
		(void)fail(failure, r, EXIT_FAILED, "read the state directory: %s; check its permissions", strerror(-r));
	return r;
}

void find_done(struct found *found)
{
	home_list_free(&found->list);
	fd_close(&found->base);
}

bool find_wait_gone(const char *uuid)
{
	for (int i = 0; i < FIND_GONE_TRIES; i++) {
		const struct timespec nap = { .tv_nsec = FIND_GONE_NAP_NS };
		struct leases leases = { 0 };
		struct failure ignored;
		bool there;

		ask_broker(&leases, &ignored);
		there = leases.answered && lease_of(&leases, uuid) != NULL;
		free(leases.items);
		if (!there)
			return true;
		(void)nanosleep(&nap, NULL);
	}
	return false;
}

/* ---- ids --------------------------------------------------------------------------------------------------------- */

static bool means(const struct state *state, const char *id)
{
	size_t len = strlen(id);

	return (state->name[0] != '\0' && strcmp(state->name, id) == 0) ||
	       (len >= FIND_PREFIX && strncmp(state->uuid, id, len) == 0);
}

const struct home_entry *find_in(const struct home_list *list, const char *id, bool dead, struct failure *failure)
{
	const struct home_entry *hit = NULL;
	char several[256] = "";
	size_t hits = 0, at = 0;

	/* The living first: a name that is in use again means the one in use. */
	for (int pass = 0; pass < (dead ? 2 : 1) && hits == 0; pass++)
		for (size_t i = 0; i < list->count; i++) {
			const struct home_entry *entry = &list->items[i];

			if (entry->dead != (pass == 1) || !means(&entry->state, id))
				continue;
			/* Of dead namesakes the last one. */
			if (pass == 1 && hit != NULL && strcmp(hit->state.name, id) == 0 &&
			    strcmp(entry->state.name, id) == 0) {
				hit = entry;
				continue;
			}
			hit = entry;
			hits++;
			if (at < sizeof(several) - STATE_UUID_SIZE - 2)
				at += (size_t)snprintf(several + at, sizeof(several) - at, "%s%s", at > 0 ? ", " : "",
						       entry->state.uuid);
		}
	if (hits == 1)
		return hit;
	if (hits > 1)
		(void)fail(failure, -EINVAL, EXIT_USAGE, "sandbox %s: it could be %s; give more characters", id, several);
	else if (strlen(id) < FIND_PREFIX)
		(void)fail(failure, -ENOENT, EXIT_NOT_FOUND,
			   "sandbox %s: none has this name, and of a uuid at least %d characters are needed; see postern ps",
			   id, FIND_PREFIX);
	else
		(void)fail(failure, -ENOENT, EXIT_NOT_FOUND,
			   "sandbox %s: you have none with this uuid or name; see postern ps", id);
	return NULL;
}

const struct home_entry *find_one(const struct found *found, const char *id, bool dead, struct failure *failure)
{
	return find_in(&found->list, id, dead, failure);
}
