/* SPDX-License-Identifier: Apache-2.0
 * Runs: controller (the user). What the host's /proc shows to everybody about a sandbox: a second pair of eyes, that does
 * not depend on postern-init telling the truth. */
#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "receipt.h"

#define STATUS_BYTES 4096
#define PATH_BYTES 512
#define SECCOMP_FILTERING 2
#define CGROUPS "/sys/fs/cgroup"

static void file_close(FILE **file)
{
	if (*file != NULL)
		(void)fclose(*file);
}
static void dir_close(DIR **dir)
{
	if (*dir != NULL)
		(void)closedir(*dir);
}
#define cleanup_file __attribute__((cleanup(file_close)))
#define cleanup_dir __attribute__((cleanup(dir_close)))

static int read_text(const char *path, char *buf, size_t size)
{
	cleanup_file FILE *file = fopen(path, "re");
	size_t n;

	if (file == NULL)
		return -errno;
	n = fread(buf, 1, size - 1, file);
	if (ferror(file))
		return -EIO;
	buf[n] = '\0';
	return 0;
}

static const char *field(const char *status, const char *key)
{
	const char *p = strstr(status, key);

	return p != NULL ? p + strlen(key) : NULL;
}

static uint64_t number(const char *status, const char *key, int base, bool *ok)
{
	const char *p = field(status, key);
	char *end;
	uint64_t value;

	if (p == NULL) {
		*ok = false;
		return 0;
	}
	value = strtoull(p, &end, base);
	if (end == p)
		*ok = false;
	return value;
}

/* Numbers up to the end of the line; how many there are, -1 without the line. last, when not NULL, gets the last one. */
static long numbers(const char *status, const char *key, struct wire_fact_id *table, size_t size, uint32_t *last)
{
	const char *p = field(status, key);
	long count = 0;

	while (p != NULL) {
		char *end;
		unsigned long id;

		while (*p == ' ' || *p == '\t')
			p++;
		if (*p == '\n' || *p == '\0')
			return count;
		id = strtoul(p, &end, 10);
		if (end == p)
			return -1;
		if ((size_t)count < size)
			table[count].id = (uint32_t)id;
		if (last != NULL)
			*last = (uint32_t)id;
		count++;
		p = end;
	}
	return -1;
}

static bool parse_ids(const char *status, struct wire_fact_ids *ids)
{
	bool ok = numbers(status, "\nUid:", ids->uids, ARRAY_SIZE(ids->uids), NULL) == 4 &&
		  numbers(status, "\nGid:", ids->gids, ARRAY_SIZE(ids->gids), NULL) == 4;
	long groups = numbers(status, "\nGroups:", ids->groups, ARRAY_SIZE(ids->groups), NULL);
	bool since_5_9 = true;

	ids->group_count = groups < 0 ? UINT32_MAX : (uint32_t)groups;
	ids->cap_inh = number(status, "\nCapInh:", 16, &ok);
	ids->cap_prm = number(status, "\nCapPrm:", 16, &ok);
	ids->cap_eff = number(status, "\nCapEff:", 16, &ok);
	ids->cap_bnd = number(status, "\nCapBnd:", 16, &ok);
	ids->cap_amb = number(status, "\nCapAmb:", 16, &ok);
	ids->no_new_privs = (uint8_t)number(status, "\nNoNewPrivs:", 10, &ok);
	ids->seccomp = (uint8_t)number(status, "\nSeccomp:", 10, &ok);
	ids->seccomp_filters = (uint32_t)number(status, "\nSeccomp_filters:", 10, &since_5_9);
	return ok;
}

static int count_threads(pid_t pid, struct receipt_view *view)
{
	char path[PATH_BYTES], status[STATUS_BYTES];
	cleanup_dir DIR *dir = NULL;
	const struct dirent *entry;

	(void)snprintf(path, sizeof(path), "/proc/%d/task", pid);
	dir = opendir(path);
	if (dir == NULL)
		return -errno;
	while ((entry = readdir(dir)) != NULL) {
		bool ok = true;

		if (entry->d_name[0] < '0' || entry->d_name[0] > '9')
			continue;
		(void)snprintf(path, sizeof(path), "/proc/%d/task/%.20s/status", pid, entry->d_name);
		if (read_text(path, status, sizeof(status)) < 0)
			continue; /* ended meanwhile */
		view->threads++;
		if (number(status, "\nSeccomp:", 10, &ok) == SECCOMP_FILTERING && ok)
			view->threads_filtered++;
	}
	return 0;
}

/* "0 1 2" whatever the padding; lines are joined by ", ". */
static void read_map(pid_t pid, const char *name, char *out, size_t size)
{
	char path[PATH_BYTES], text[STATUS_BYTES] = "";
	size_t used = 0;
	bool gap = false;

	out[0] = '\0';
	(void)snprintf(path, sizeof(path), "/proc/%d/%s", pid, name);
	if (read_text(path, text, sizeof(text)) < 0)
		return;
	for (const char *p = text; *p != '\0' && used < size - 3; p++) {
		if (*p == ' ' || *p == '\t') {
			gap = used > 0 && out[used - 1] != ' ';
		} else if (*p == '\n') {
			gap = false;
			if (p[1] != '\0') {
				out[used++] = ',';
				out[used++] = ' ';
			}
		} else {
			if (gap)
				out[used++] = ' ';
			gap = false;
			out[used++] = *p;
		}
	}
	out[used] = '\0';
}

/* Whether word is in a list with commas, such as "cpu,cpuacct". */
static bool listed(const char *list, const char *word)
{
	size_t len = strlen(word);

	for (const char *at = list; at != NULL; at = strchr(at, ','), at += at != NULL ? 1 : 0)
		if (strncmp(at, word, len) == 0 && (at[len] == ',' || at[len] == '\0'))
			return true;
	return false;
}

/* The group in one hierarchy, from /proc/PID/cgroup. Controller "" is version 2, and out is the path in it; for one of
 * version 1 the usual place of its hierarchy, which is called as the list of its controllers, comes before that. */
static bool cgroup_path(const char *text, const char *controller, char *out, size_t size)
{
	for (const char *line = text; line != NULL && *line != '\0';
	     line = strchr(line, '\n'), line += line != NULL ? 1 : 0) {
		const char *names = strchr(line, ':'), *path = names != NULL ? strchr(names + 1, ':') : NULL;
		size_t len = path != NULL ? (size_t)(path - names - 1) : 0;
		char list[128];

		if (path == NULL || len >= sizeof(list))
			continue;
		(void)memcpy(list, names + 1, len);
		list[len] = '\0';
		if (controller[0] == '\0' ? len != 0 : !listed(list, controller))
			continue;
		(void)snprintf(out, size, "%s%s%.*s", len > 0 ? CGROUPS "/" : "", list, (int)strcspn(path + 1, "\n"),
			       path + 1);
		return true;
	}
	return false;
}

/* The label that every file in the sandbox's /run has, from the options of that mount: the kernel prints a label in
 * quotes, since it has a comma. The mount table is of any length; a line is not. */
static void read_run_label(pid_t pid, char *out, size_t size)
{
	char path[PATH_BYTES], line[STATUS_BYTES], point[16], type[16];
	cleanup_file FILE *file = NULL;

	(void)snprintf(path, sizeof(path), "/proc/%d/mountinfo", pid);
	file = fopen(path, "re");
	while (file != NULL && fgets(line, sizeof(line), file) != NULL) {
		const char *tail = strstr(line, " - "), *label = strstr(line, "context=\"");

		(void)snprintf(out, size, "none");
		if (sscanf(line, "%*s %*s %*s %*s %15s", point) != 1 || strcmp(point, "/run") != 0 || tail == NULL ||
		    sscanf(tail, " - %15s", type) != 1 || strcmp(type, "tmpfs") != 0)
			continue;
		if (label != NULL && label > tail && strchr(" ,", label[-1]) != NULL) {
			label += strlen("context=\"");
			(void)snprintf(out, size, "%.*s", (int)strcspn(label, "\"\n"), label);
		}
		return;
	}
}

static uint64_t read_limit(const char *mount, const char *group, const char *file)
{
	char path[PATH_BYTES], text[64] = "";
	const char *at;
	char *end;
	uint64_t value;

	(void)snprintf(path, sizeof(path), "%s%s/%s", mount, group, file);
	if (read_text(path, text, sizeof(text)) < 0)
		return RECEIPT_UNKNOWN;
	if (strncmp(text, "max", 3) == 0)
		return RECEIPT_UNLIMITED;
	at = strncmp(text, "default ", 8) == 0 ? text + 8 : text; /* io.weight */
	value = strtoull(at, &end, 10);
	if (*at == '-') /* version 1's cpu.cfs_quota_us */
		return RECEIPT_UNLIMITED;
	return end != at ? value : RECEIPT_UNKNOWN;
}

/* Of microseconds in a period of 100 ms, which is all that Postern sets. */
static uint64_t cpu_percent(uint64_t quota)
{
	return quota >= RECEIPT_UNLIMITED ? quota : quota / 1000;
}

/* What version 1 limits is memory and swap together. */
static uint64_t swap_alone(uint64_t both, uint64_t memory)
{
	return both >= RECEIPT_UNLIMITED || memory >= RECEIPT_UNLIMITED || both < memory ? RECEIPT_UNKNOWN : both - memory;
}

/* Version 2 where it has the controller, else version 1 at its usual place. */
static void read_cgroup(pid_t pid, struct receipt_view *view)
{
	char path[PATH_BYTES], text[STATUS_BYTES] = "", group[256] = "";

	(void)snprintf(path, sizeof(path), "/proc/%d/cgroup", pid);
	if (read_text(path, text, sizeof(text)) < 0)
		return;
	if (cgroup_path(text, "", view->cgroup, sizeof(view->cgroup))) {
		view->memory_max = read_limit(CGROUPS, view->cgroup, "memory.max");
		view->pids_max = read_limit(CGROUPS, view->cgroup, "pids.max");
		view->swap_max = read_limit(CGROUPS, view->cgroup, "memory.swap.max");
		view->cpu_max = cpu_percent(read_limit(CGROUPS, view->cgroup, "cpu.max"));
		view->io_weight = read_limit(CGROUPS, view->cgroup, "io.weight");
	}
	if (view->memory_max == RECEIPT_UNKNOWN && cgroup_path(text, "memory", group, sizeof(group))) {
		view->memory_max = read_limit("", group, "memory.limit_in_bytes");
		view->swap_max = swap_alone(read_limit("", group, "memory.memsw.limit_in_bytes"), view->memory_max);
	}
	if (view->cpu_max == RECEIPT_UNKNOWN && cgroup_path(text, "cpu", group, sizeof(group)))
		view->cpu_max = cpu_percent(read_limit("", group, "cpu.cfs_quota_us"));
	if (view->pids_max == RECEIPT_UNKNOWN && cgroup_path(text, "pids", group, sizeof(group)))
		view->pids_max = read_limit("", group, "pids.max");
}

static const struct receipt_view unseen = { .memory_max = RECEIPT_UNKNOWN,
					    .pids_max = RECEIPT_UNKNOWN,
					    .swap_max = RECEIPT_UNKNOWN,
					    .cpu_max = RECEIPT_UNKNOWN,
					    .io_weight = RECEIPT_UNKNOWN };

/* 0 with seen false when the process is hidden or gone: that is a finding, not a failure. */
static int read_view(pid_t pid, struct receipt_view *view)
{
	char path[PATH_BYTES], status[STATUS_BYTES];
	uint32_t inner = 0;
	int r;

	*view = unseen;
	(void)snprintf(path, sizeof(path), "/proc/%d/status", pid);
	r = read_text(path, status, sizeof(status));
	if (r == -ENOENT || r == -ESRCH || r == -EACCES)
		return 0;
	if (r < 0)
		return r;
	if (!parse_ids(status, &view->ids))
		return -EBADMSG;
	if (numbers(status, "\nNSpid:", NULL, 0, &inner) > 0)
		view->inner = (pid_t)inner;
	view->pid = pid;
	view->seen = true;
	read_map(pid, "uid_map", view->uid_map, sizeof(view->uid_map));
	read_map(pid, "gid_map", view->gid_map, sizeof(view->gid_map));
	read_run_label(pid, view->run_label, sizeof(view->run_label));
	read_cgroup(pid, view);
	r = count_threads(pid, view);
	return r == -ENOENT || r == -ESRCH ? 0 : r;
}

struct search {
	pid_t init, found;
	uint32_t lowest;
};

/* The VMM is init's first child: the one with the lowest number inside the sandbox (its own children may have been left
 * to init). */
static void consider(struct search *search, const char *pid)
{
	char path[PATH_BYTES], status[STATUS_BYTES];
	uint32_t inner = 0;
	bool ok = true;

	(void)snprintf(path, sizeof(path), "/proc/%.20s/status", pid);
	if (read_text(path, status, sizeof(status)) < 0 || number(status, "\nPPid:", 10, &ok) != (uint64_t)search->init ||
	    !ok)
		return;
	if (numbers(status, "\nNSpid:", NULL, 0, &inner) > 0 && inner < search->lowest) {
		search->lowest = inner;
		search->found = (pid_t)strtol(pid, NULL, 10);
	}
}

/* The list of children is not in every kernel; the walk over all processes is, and is slow on a full host. */
static pid_t find_vmm(pid_t init)
{
	struct search search = { .init = init, .lowest = UINT32_MAX };
	char path[PATH_BYTES], text[STATUS_BYTES];
	cleanup_dir DIR *dir = NULL;
	const struct dirent *entry;
	char *rest = NULL;

	(void)snprintf(path, sizeof(path), "/proc/%d/task/%d/children", init, init);
	if (read_text(path, text, sizeof(text)) == 0) {
		for (const char *pid = strtok_r(text, " \n", &rest); pid != NULL; pid = strtok_r(NULL, " \n", &rest))
			consider(&search, pid);
		/* The kernel promises a whole list only of stopped processes; without a VMM in it we look again. */
		if (search.found > 0)
			return search.found;
	}
	dir = opendir("/proc");
	while (dir != NULL && (entry = readdir(dir)) != NULL)
		if (entry->d_name[0] >= '0' && entry->d_name[0] <= '9')
			consider(&search, entry->d_name);
	return search.found;
}

int receipt_outside(const struct wire_lease *lease, struct receipt_view *ret_init, struct receipt_view *ret_vmm)
{
	struct receipt_view init, vmm = unseen;
	pid_t init_pid = (pid_t)lease->init_pid, vmm_pid;
	int r;

	if (init_pid <= 0)
		return -EINVAL;
	r = read_view(init_pid, &init);
	if (r < 0)
		return r;
	vmm_pid = init.seen ? find_vmm(init_pid) : 0;
	if (vmm_pid > 0)
		r = read_view(vmm_pid, &vmm);
	if (r < 0)
		return r;
	*ret_init = init;
	*ret_vmm = vmm;
	return 0;
}
