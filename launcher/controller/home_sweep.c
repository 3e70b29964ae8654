/* SPDX-License-Identifier: Apache-2.0
 * Runs: controller and CLI (the user). Listing sandboxes, and cleaning up behind those that are gone. */
#include "home.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "home_internal.h"

/* Call fn for each name in a directory. */
static int each(int dir, int (*fn)(int dir, const char *name, void *context), void *context)
{
	int copy = openat(dir, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC), r = 0;
	DIR *stream = copy >= 0 ? fdopendir(copy) : NULL; /* takes copy over */
	const struct dirent *entry;

	if (stream == NULL) {
		r = -errno;
		if (copy >= 0)
			(void)close(copy);
		return r;
	}
	while (r >= 0 && (entry = readdir(stream)) != NULL) /* NOLINT(concurrency-mt-unsafe): own stream */
		if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0)
			r = fn(dir, entry->d_name, context);
	(void)closedir(stream);
	return r;
}

static int unlink_one(int dir, const char *name, void *context)
{
	(void)context;
	(void)unlinkat(dir, name, 0);
	return 0;
}

/* Flat on purpose: nothing of ours makes directories inside, and a recursive removal is a weapon in somebody's hand. */
void home_remove(int base, const char *path)
{
	cleanup_fd int dir = openat(base, path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);

	if (dir < 0)
		return;
	(void)each(dir, unlink_one, NULL);
	(void)unlinkat(base, path, AT_REMOVEDIR);
}

/* ---- listing --------------------------------------------------------------------------------------------------- */

struct scan {
	struct home_list *list;
	size_t room;
	bool dead;
};

bool home_running(int dir)
{
	cleanup_fd int lock = openat(dir, HOME_LOCK, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);

	return lock >= 0 && flock(lock, LOCK_SH | LOCK_NB) < 0 && errno == EWOULDBLOCK;
}

static int count_one(int dir, const char *name, void *context)
{
	(void)dir;
	*(size_t *)context += state_uuid_ok(name);
	return 0;
}

static int scan_one(int parent, const char *name, void *context)
{
	struct scan *scan = context;
	struct home_entry entry = { .dead = scan->dead };
	cleanup_fd int dir = -1;

	if (!state_uuid_ok(name) || scan->list->count >= scan->room)
		return 0;
	dir = openat(parent, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (dir < 0)
		return 0;
	/* A directory without a readable state still counts: somebody must be able to see and sweep it. */
	if (state_load(&entry.state, dir) < 0 || strcmp(entry.state.uuid, name) != 0) {
		entry.state = (struct state){ .status = STATE_UNKNOWN };
		(void)snprintf(entry.state.uuid, sizeof(entry.state.uuid), "%s", name);
	}
	entry.running = !scan->dead && home_running(dir);
	scan->list->items[scan->list->count++] = entry;
	return 0;
}

static int by_age(const void *a, const void *b)
{
	const struct home_entry *x = a, *y = b;

	if (x->dead != y->dead)
		return x->dead ? 1 : -1;
	if (x->state.started != y->state.started)
		return x->state.started < y->state.started ? -1 : 1;
	return strcmp(x->state.uuid, y->state.uuid);
}

int home_scan(int base, struct home_list *ret)
{
	struct home_list list = { 0 };
	struct scan scan = { .list = &list };
	cleanup_fd int dead = openat(base, HOME_DEAD, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	int r = each(base, count_one, &scan.room);

	if (r >= 0 && dead >= 0)
		r = each(dead, count_one, &scan.room);
	if (r < 0)
		return r;
	/* What comes into being between the two looks waits for the next scan. */
	scan.room = scan.room < HOME_ENTRIES_MAX ? scan.room : HOME_ENTRIES_MAX;
	list.items = calloc(scan.room + 1, sizeof(*list.items));
	if (list.items == NULL)
		return -ENOMEM;
	(void)each(base, scan_one, &scan);
	scan.dead = true;
	if (dead >= 0)
		(void)each(dead, scan_one, &scan);
	if (list.count > 1)
		qsort(list.items, list.count, sizeof(*list.items), by_age);
	*ret = list;
	return 0;
}

void home_list_free(struct home_list *list)
{
	free(list->items);
	*list = (struct home_list){ 0 };
}

/* ---- the dead -------------------------------------------------------------------------------------------------- */

static int by_end(const void *a, const void *b)
{
	const struct home_entry *x = a, *y = b;

	if (x->dead != y->dead)
		return x->dead ? -1 : 1;
	return x->state.ended < y->state.ended ? 1 : x->state.ended > y->state.ended ? -1 : 0;
}

static void drop_oldest(int base)
{
	struct home_list list = { 0 };
	size_t dead = 0;

	if (home_scan(base, &list) < 0)
		return;
	if (list.count > 1)
		qsort(list.items, list.count, sizeof(*list.items), by_end);
	for (size_t i = 0; i < list.count; i++) {
		char path[STATE_UUID_SIZE + 8];

		if (!list.items[i].dead || ++dead <= HOME_DEAD_MAX)
			continue;
		(void)snprintf(path, sizeof(path), HOME_DEAD "/%s", list.items[i].state.uuid);
		home_remove(base, path);
	}
	home_list_free(&list);
}

void home_bury(int base, const char *uuid)
{
	char path[STATE_UUID_SIZE + 8];
	cleanup_fd int dir = home_open(base, uuid, false);

	if (dir < 0)
		return;
	(void)unlinkat(dir, HOME_API, 0);
	(void)unlinkat(dir, HOME_LOCK, 0);
	(void)snprintf(path, sizeof(path), HOME_DEAD "/%s", uuid);
	(void)mkdirat(base, HOME_DEAD, 0700);
	if (renameat(base, uuid, base, path) < 0)
		home_remove(base, uuid);
	drop_oldest(base);
}

size_t home_sweep(int base, home_alive alive, void *context)
{
	cleanup_fd int base_lock = home_lock_base(base);
	struct home_list list = { 0 };
	size_t swept = 0;

	if (base_lock < 0 || home_scan(base, &list) < 0)
		return 0;
	for (size_t i = 0; i < list.count; i++) {
		struct state *state = &list.items[i].state;
		cleanup_fd int dir = -1;

		if (list.items[i].dead || list.items[i].running)
			continue;
		if (state->survive && alive != NULL && alive(context, state->uuid) != 0)
			continue;
		swept++;
		dir = home_open(base, state->uuid, false);
		if (dir >= 0 && state->status != STATE_UNKNOWN) {
			state->status = STATE_ENDED;
			state->ended = (int64_t)time(NULL);
			state->exit_status = EXIT_FAILED;
			(void)snprintf(state->reason, sizeof(state->reason), "its controller was killed");
			(void)state_save(state, dir);
			home_bury(base, state->uuid);
		} else {
			home_remove(base, state->uuid);
		}
	}
	home_list_free(&list);
	return swept;
}
