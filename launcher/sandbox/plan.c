/* SPDX-License-Identifier: Apache-2.0
 * Runs: controller (the user). Collects argv and descriptors for postern-init. init checks every rule again; here the
 * same rules give an error that still knows which file it was. */
#include "postern/plan.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include "common/cleanup.h"

#define WORDS_MAX 1024 /* messages.h: plan.word_count */

struct plan *plan_new(void)
{
	return calloc(1, sizeof(struct plan));
}

void plan_free(struct plan *plan)
{
	if (plan == NULL)
		return;
	for (size_t i = 0; i < plan->asset_count; i++)
		fd_close(&plan->assets[i].fd);
	free(plan);
}

int plan_word(struct plan *plan, const char *format, ...)
{
	size_t room = sizeof(plan->words) - plan->word_bytes;
	va_list ap;
	int n;

	if (plan->word_count >= WORDS_MAX || room == 0)
		return -E2BIG;
	va_start(ap, format);
	n = vsnprintf(plan->words + plan->word_bytes, room, format, ap);
	va_end(ap);
	if (n < 0 || (size_t)n >= room) {
		(void)memset(plan->words + plan->word_bytes, 0, room); /* nothing may stand behind the last word */
		return n < 0 ? -EINVAL : -E2BIG;
	}
	plan->word_bytes += (size_t)n + 1;
	plan->word_count++;
	return 0;
}

/* What kind of descriptor may go into a sandbox: files, disks, unix sockets and pipes; never something that leads to
 * other files. Sets *ret_st. */
static int check_kind(int fd, bool copy, bool writable, struct stat *ret_st)
{
	int flags = fcntl(fd, F_GETFL);
	int domain = AF_UNIX;
	socklen_t len = sizeof(domain);
	struct stat st;

	if (flags < 0 || fstat(fd, &st) < 0)
		return -errno;
	if (S_ISDIR(st.st_mode))
		return -EISDIR;
	if (!S_ISREG(st.st_mode) && !S_ISBLK(st.st_mode) && !S_ISSOCK(st.st_mode) && !S_ISFIFO(st.st_mode))
		return -EPERM;
	if (copy && (writable || !S_ISREG(st.st_mode)))
		return -EINVAL;
	if ((flags & O_PATH) != 0) {
		if (!S_ISSOCK(st.st_mode) || writable)
			return -EPERM;
	} else if (writable != ((flags & O_ACCMODE) != O_RDONLY)) {
		return -EACCES;
	} else if (S_ISSOCK(st.st_mode) && (getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &domain, &len) < 0 || domain != AF_UNIX)) {
		return -EPERM;
	}
	*ret_st = st;
	return 0;
}

static int check_name(const struct plan *plan, const char *name, bool copy)
{
	struct wire_asset probe = { 0 };

	if (wire_set_chars(probe.name, sizeof(probe.name), name) < 0 || !wire_name_ok(probe.name, sizeof(probe.name)))
		return -EINVAL;
	if (copy && name[0] == '\0')
		return -EINVAL;
	for (size_t i = 0; i < plan->asset_count && name[0] != '\0'; i++)
		if (strcmp(plan->assets[i].name, name) == 0)
			return -EEXIST;
	return 0;
}

int plan_asset(struct plan *plan, int fd, const char *name, bool copy, bool writable)
{
	struct plan_asset *asset;
	struct stat st = { 0 };
	int r = check_kind(fd, copy, writable, &st);

	if (r == 0)
		r = check_name(plan, name, copy);
	if (r < 0)
		return r;
	if (plan->asset_count >= WIRE_ASSETS_MAX)
		return -ENFILE;
	asset = &plan->assets[plan->asset_count];
	*asset = (struct plan_asset){ .fd = fd,
				      .copy = copy,
				      .writable = writable,
				      .dev = st.st_dev,
				      .rdev = st.st_rdev,
				      .ino = st.st_ino,
				      .mode = st.st_mode };
	(void)wire_set_chars(asset->name, sizeof(asset->name), name); /* check_name() has measured it */
	return (int)plan->asset_count++;
}

int plan_send(const struct plan *plan, int control)
{
	struct wire_plan msg = { 0 };
	int fds[WIRE_ASSETS_MAX];

	if (plan->word_count == 0)
		return -EINVAL;
	msg.word_count = (uint16_t)plan->word_count;
	msg.word_bytes = (uint16_t)plan->word_bytes;
	msg.asset_count = (uint8_t)plan->asset_count;
	(void)memcpy(msg.words, plan->words, plan->word_bytes);
	for (size_t i = 0; i < plan->asset_count; i++) {
		const struct plan_asset *asset = &plan->assets[i];

		msg.assets[i].use = asset->copy ? 1 : 0;
		msg.assets[i].writable = asset->writable ? 1 : 0;
		(void)memcpy(msg.assets[i].name, asset->name, sizeof(asset->name));
		fds[i] = asset->fd;
	}
	return wire_send(control, WIRE_OP_C_PLAN, WIRE_REQUEST, 0, &msg, fds, plan->asset_count);
}
