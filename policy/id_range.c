/* SPDX-License-Identifier: Apache-2.0
 * Runs: start (root), broker (no privilege), tests. See id_range.h. */
#include "id_range.h"

#include <errno.h>
#include <grp.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/cleanup.h"

#define IDS_LOWEST 65536u        /* below: 16-bit ids, people, services, systemd's dynamic users, nobody */
#define IDS_END 0x80000000u      /* from here on ids are negative somewhere */
#define IDS_LAST 0xfffffffeu     /* (uid_t)-1 is nobody */
#define CONTAINERS_FIRST 524288u /* nspawn and nsresourced lend these to anybody who asks */
#define CONTAINERS_LAST 1879048191u

/* What systemd allocates without an entry anywhere (systemd.io/UIDS-GIDS). Those below IDS_LOWEST are named first, so
 * that the message says why. */
static const struct {
	uint64_t first, last;
	const char *what;
} taken[] = {
	{ 0, 0, "root" },
	{ 60001, 60577, "home directories of systemd-homed" },
	{ 61184, 65519, "dynamic users of systemd" },
	{ 65534, 65534, "nobody, the id that stands for all unmapped ones" },
	{ 65535, 65535, "the 16-bit (uid_t)-1" },
	{ CONTAINERS_FIRST, CONTAINERS_LAST, "containers of systemd (524288-1879048191)" },
	{ 2147352576, 2147418111, "foreign ids of systemd (2147352576-2147418111)" },
};

static bool meets(uint64_t first, uint64_t last, uint64_t other_first, uint64_t other_last)
{
	return first <= other_last && other_first <= last;
}

int id_range_check_static(uint64_t first, uint64_t count, char *text, size_t size)
{
	/* Compared before it is added: first and count may be anything. */
	if (count == 0 || count > IDS_END || first >= IDS_END || first + count > IDS_END) {
		(void)snprintf(text, size, "a range needs at least one id and must end below 2147483648 (2^31)");
		return -EINVAL;
	}
	for (size_t i = 0; i < ARRAY_SIZE(taken); i++) {
		if (meets(first, first + count - 1, taken[i].first, taken[i].last)) {
			(void)snprintf(text, size, "meets ids that are taken: %s", taken[i].what);
			return -EINVAL;
		}
	}
	if (first < IDS_LOWEST) {
		(void)snprintf(text, size, "must begin at %u or above: the ids below belong to people and services",
			       IDS_LOWEST);
		return -EINVAL;
	}
	return 0;
}

struct search {
	uint64_t first, last;
	const struct id_range_sources *sources;
	char *text;
	size_t size;
};

static int conflict(const struct search *s, const char *where, const char *who, uint64_t from, uint64_t to)
{
	(void)snprintf(s->text, s->size, "meets %s of \"%s\" (%llu-%llu)", where, who, (unsigned long long)from,
		       (unsigned long long)to);
	return -EADDRINUSE;
}

/* Field n of a line of colon-separated fields as a number; false when there is none. */
static bool field_number(const char *line, unsigned n, uint64_t *ret)
{
	char *end;

	for (; n > 0; n--) {
		line = strchr(line, ':');
		if (line == NULL)
			return false;
		line++;
	}
	if (*line < '0' || *line > '9')
		return false;
	errno = 0;
	*ret = strtoull(line, &end, 10);
	return errno == 0 && (*end == ':' || *end == '\n' || *end == '\0');
}

static bool exempt(const struct id_range_sources *sources, const char *owner)
{
	for (size_t i = 0; i < ARRAY_SIZE(sources->exempt); i++)
		if (sources->exempt[i] != NULL && strcmp(sources->exempt[i], owner) == 0)
			return true;
	return false;
}

/* passwd and group lines have one id in field 2 (passwd a gid in field 3 too); subuid lines first and count in 1 and 2. */
static int check_line(const struct search *s, const char *path, char *line, bool subordinate)
{
	uint64_t a = 0, b = 0;
	bool has_a = field_number(line, subordinate ? 1 : 2, &a);
	bool has_b = field_number(line, subordinate ? 2 : 3, &b);

	line[strcspn(line, ":\n")] = '\0'; /* what is left is the owner's name */
	if (subordinate) {
		if (!has_a || !has_b || b == 0 || exempt(s->sources, line))
			return 0;
		b = a + b - 1 < a ? UINT64_MAX : a + b - 1;
		return meets(s->first, s->last, a, b) ? conflict(s, path, line, a, b) : 0;
	}
	if (has_a && meets(s->first, s->last, a, a))
		return conflict(s, path, line, a, a);
	return has_b && meets(s->first, s->last, b, b) ? conflict(s, path, line, b, b) : 0;
}

static int check_file(const struct search *s, const char *path, bool subordinate)
{
	cleanup_free char *line = NULL;
	size_t size = 0;
	FILE *f;
	int r = 0;

	if (path == NULL)
		return 0;
	f = fopen(path, "re");
	if (f == NULL && errno == ENOENT)
		return 0; /* a host without it gives nobody such ids */
	if (f == NULL) {
		r = -errno;
		(void)snprintf(s->text, s->size, "cannot read %s to see whose ids these are: %s", path, strerror(errno));
		return r;
	}
	while (r == 0 && getline(&line, &size, f) >= 0)
		r = check_line(s, path, line, subordinate);
	if (r == 0 && ferror(f)) {
		r = -EIO;
		(void)snprintf(s->text, s->size, "cannot read all of %s", path);
	}
	(void)fclose(f);
	return r;
}

/* Everybody NSS can list. Directory services may not list (sssd with enumeration off); then the first and last id are
 * at least asked for by number, and the broker asks for each id it allocates. */
static int check_nss(const struct search *s)
{
	const uint64_t probes[] = { s->first, s->last };
	const struct passwd *user;
	const struct group *group;
	int r = 0;

	setpwent();
	while (r == 0 && (user = getpwent()) != NULL)
		if (meets(s->first, s->last, user->pw_uid, user->pw_uid) ||
		    meets(s->first, s->last, user->pw_gid, user->pw_gid))
			r = conflict(s, "a user in NSS", user->pw_name, user->pw_uid, user->pw_uid);
	endpwent();
	setgrent();
	while (r == 0 && (group = getgrent()) != NULL)
		if (meets(s->first, s->last, group->gr_gid, group->gr_gid))
			r = conflict(s, "a group in NSS", group->gr_name, group->gr_gid, group->gr_gid);
	endgrent();
	for (size_t i = 0; r == 0 && i < ARRAY_SIZE(probes); i++) {
		user = getpwuid((uid_t)probes[i]);
		group = getgrgid((gid_t)probes[i]);
		if (user != NULL)
			r = conflict(s, "a user in NSS", user->pw_name, probes[i], probes[i]);
		else if (group != NULL)
			r = conflict(s, "a group in NSS", group->gr_name, probes[i], probes[i]);
	}
	return r;
}

int id_range_check(uint32_t first, uint32_t count, const struct id_range_sources *sources, char *text, size_t size)
{
	const struct search s = { first, (uint64_t)first + count - 1, sources, text, size };
	int r = id_range_check_static(first, count, text, size);

	r = r == 0 ? check_file(&s, sources->passwd, false) : r;
	r = r == 0 ? check_file(&s, sources->group, false) : r;
	r = r == 0 ? check_file(&s, sources->subuid, true) : r;
	r = r == 0 ? check_file(&s, sources->subgid, true) : r;
	return r == 0 && sources->nss ? check_nss(&s) : r;
}

/* ---- whose uids are not a person's -------------------------------------------------------------------------------- */

/* Take first..last into the list, in its place and as one with all it touches. */
static int span_add(struct id_span *spans, size_t max, size_t *count, uint64_t first, uint64_t last)
{
	size_t at = 0, after;

	while (at < *count && (uint64_t)spans[at].last + 1 < first)
		at++;
	for (after = at; after < *count && spans[after].first <= last + 1; after++) {
		first = spans[after].first < first ? spans[after].first : first;
		last = spans[after].last > last ? spans[after].last : last;
	}
	if (after == at && *count == max)
		return -ENOSPC;
	memmove(&spans[at + 1], &spans[after], (*count - after) * sizeof(*spans));
	*count = *count - (after - at) + 1;
	spans[at] = (struct id_span){ (uint32_t)first, (uint32_t)last };
	return 0;
}

/* A line that makes no sense to newuidmap either gives nobody anything. */
static int span_line(struct id_span *spans, size_t max, size_t *count, const char *line)
{
	uint64_t first, last, number;

	if (!field_number(line, 1, &first) || !field_number(line, 2, &number) || number == 0)
		return 0;
	last = first + number - 1 < first || first + number - 1 > IDS_LAST ? IDS_LAST : first + number - 1;
	first = first < IDS_LOWEST ? IDS_LOWEST : first;
	return first <= last ? span_add(spans, max, count, first, last) : 0;
}

int id_range_subordinate(const char *path, struct id_span *spans, size_t max, size_t *ret_count)
{
	cleanup_free char *line = NULL;
	size_t size = 0, count = 0;
	int r = span_add(spans, max, &count, CONTAINERS_FIRST, CONTAINERS_LAST);
	FILE *f = fopen(path, "re");

	if (f == NULL && errno != ENOENT)
		return -errno;
	if (f != NULL) {
		while (r == 0 && getline(&line, &size, f) >= 0)
			r = span_line(spans, max, &count, line);
		if (r == 0 && ferror(f))
			r = -EIO;
		(void)fclose(f);
	}
	if (r == 0)
		*ret_count = count;
	return r;
}
