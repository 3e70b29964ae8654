/* SPDX-License-Identifier: Apache-2.0
 * Runs: init (uid X, no capability). What a process is, in the kernel's words: /proc/PID/status through the procfs that
 * the spawner opened. Numbers and fixed formats of the kernel only. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "init.h"

#define STATUS_BYTES 4096

int procfs_read(int dir, const char *path, char *buf, size_t size)
{
	cleanup_fd int fd = openat(dir, path, O_RDONLY | O_CLOEXEC);
	size_t used = 0;
	ssize_t n;

	if (fd < 0)
		return -errno;
	do {
		n = read(fd, buf + used, size - 1 - used);
		if (n < 0)
			return -errno;
		used += (size_t)n;
	} while (n > 0 && used < size - 1);
	buf[used] = '\0';
	return 0;
}

/* The text after "\nKey:\t", or NULL. The only field a process chooses, Name, is escaped by the kernel. */
static const char *field(const char *status, const char *key)
{
	const char *p = strstr(status, key);

	return p != NULL ? p + strlen(key) : NULL;
}

static int number(const char *status, const char *key, int base, uint64_t *ret)
{
	const char *p = field(status, key);
	char *end;
	uint64_t value;

	if (p == NULL)
		return -EBADMSG;
	errno = 0;
	value = strtoull(p, &end, base);
	if (errno != 0 || end == p)
		return -EBADMSG;
	*ret = value;
	return 0;
}

/* A line of ids; returns how many there are, even beyond the table. */
static long id_list(const char *status, const char *key, struct wire_fact_id *table, size_t size)
{
	const char *p = field(status, key);
	size_t count = 0;

	if (p == NULL)
		return -EBADMSG;
	for (;;) {
		char *end;
		unsigned long id;

		while (*p == ' ' || *p == '\t')
			p++;
		if (*p == '\n' || *p == '\0')
			return (long)count;
		id = strtoul(p, &end, 10);
		if (end == p)
			return -EBADMSG;
		if (count < size)
			table[count].id = (uint32_t)id;
		count++;
		p = end;
	}
}

int status_read(int procfs, const char *path, struct wire_fact_ids *ids, uint64_t *ret_ignored)
{
	static const char *const sets[] = { "\nCapInh:\t", "\nCapPrm:\t", "\nCapEff:\t", "\nCapBnd:\t", "\nCapAmb:\t" };
	uint64_t *const values[] = { &ids->cap_inh, &ids->cap_prm, &ids->cap_eff, &ids->cap_bnd, &ids->cap_amb };
	char status[STATUS_BYTES];
	uint64_t nnp, seccomp, ignored, filters = 0;
	long groups;
	int r = procfs_read(procfs, path, status, sizeof(status));

	if (r < 0)
		return r;
	if (id_list(status, "\nUid:\t", ids->uids, ARRAY_SIZE(ids->uids)) != 4 ||
	    id_list(status, "\nGid:\t", ids->gids, ARRAY_SIZE(ids->gids)) != 4)
		return -EBADMSG;
	groups = id_list(status, "\nGroups:", ids->groups, ARRAY_SIZE(ids->groups));
	if (groups < 0)
		return -EBADMSG;
	ids->group_count = (uint32_t)groups;
	for (size_t i = 0; i < ARRAY_SIZE(sets); i++)
		if (number(status, sets[i], 16, values[i]) < 0)
			return -EBADMSG;
	if (number(status, "\nSigIgn:\t", 16, &ignored) < 0)
		return -EBADMSG;
	if (number(status, "\nNoNewPrivs:\t", 10, &nnp) < 0 || number(status, "\nSeccomp:\t", 10, &seccomp) < 0)
		return -EBADMSG;
	(void)number(status, "\nSeccomp_filters:\t", 10, &filters); /* since Linux 5.9 */
	ids->no_new_privs = (uint8_t)nnp;
	ids->seccomp = (uint8_t)seccomp;
	ids->seccomp_filters = (uint32_t)filters;
	if (ret_ignored != NULL)
		*ret_ignored = ignored;
	return 0;
}
