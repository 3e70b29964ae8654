/* SPDX-License-Identifier: Apache-2.0
 * Runs: spawner (capabilities of P only). One cgroup a sandbox, inside the directories that start delegated to us.
 *
 * Version 2 where it is: the child is born in it, and that it can be removed proves that nothing is left in it. Where
 * the controllers are on version 1, directories there carry the limits. */
#include "spawner.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysinfo.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "common/fault.h"

#define CPU_PERIOD_US 100000ull
#define MIB (1024ull * 1024ull)

static const enum p_fd v1_trees[] = { P_CGROUP_PIDS, P_CGROUP_MEMORY, P_CGROUP_CPU };

/* Named after X: unique while it lives, since X is not given out again before its cgroup is gone. */
static void name_of(const struct wire_lease *lease, char ret[16])
{
	(void)snprintf(ret, 16, "x%u", lease->uid);
}

static int write_number(int dir, const char *file, const char *prefix, uint64_t value, const char *suffix)
{
	char text[64];
	cleanup_fd int fd = openat(dir, file, O_WRONLY | O_CLOEXEC | O_NOFOLLOW);
	int len;

	if (fd < 0)
		return -errno;
	len = snprintf(text, sizeof(text), "%s%llu%s", prefix, (unsigned long long)value, suffix);
	return write(fd, text, (size_t)len) == len ? 0 : -errno;
}

static bool has_file(int dir, const char *child, const char *file)
{
	struct stat st;
	char path[64];

	(void)snprintf(path, sizeof(path), "%s/%s", child, file);
	return fstatat(dir, path, &st, AT_SYMLINK_NOFOLLOW) == 0;
}

/* A throw-away group shows which controllers reach the children. */
uint8_t cgroup_probe(const struct spawner *sp)
{
	bool v2 = false;

	/* There already: left by a spawner that was killed right here. */
	if (sp->p[P_CGROUP] >= 0 && (mkdirat(sp->p[P_CGROUP], "probe", 0755) == 0 || errno == EEXIST)) {
		v2 = has_file(sp->p[P_CGROUP], "probe", "memory.max") && has_file(sp->p[P_CGROUP], "probe", "pids.max");
		(void)unlinkat(sp->p[P_CGROUP], "probe", AT_REMOVEDIR);
	}
	if (v2)
		return WIRE_BY_BY_CGROUP2;
	if (sp->p[P_CGROUP_PIDS] >= 0 && sp->p[P_CGROUP_MEMORY] >= 0)
		return WIRE_BY_BY_CGROUP1;
	return WIRE_BY_BY_RLIMIT;
}

/* A limit whose controller is not there (io, cpu and swap are often missing) is noted when somebody asked for it; one that
 * is there and refuses fails. */
static int limit(int dir, const char *file, const char *prefix, uint64_t value, const char *suffix, bool *missing)
{
	int r = write_number(dir, file, prefix, value, suffix);

	if (r != -ENOENT)
		return r;
	*missing = true;
	return 0;
}

/* No limit of its own means no swap: guest memory on the host's disk is the administrator's decision. So where no limit can
 * be set, because this kernel has no such file, a host that has swap does not keep that promise. */
static bool swap_matters(const struct wire_limits *l)
{
	struct sysinfo host;

	return l->swap_mib > 0 || sysinfo(&host) < 0 || host.totalswap > 0;
}

static int limits_v2(int dir, const struct wire_limits *l, bool *missing)
{
	bool ignored;
	int r = 0;

	if (l->pids > 0)
		r = write_number(dir, "pids.max", "", l->pids, "");
	if (r == 0 && l->memory_mib > 0)
		r = write_number(dir, "memory.max", "", l->memory_mib * MIB, "");
	if (r == 0)
		r = limit(dir, "memory.swap.max", "", l->swap_mib * MIB, "", swap_matters(l) ? missing : &ignored);
	/* A sandbox that runs out dies whole, not one thread of it. */
	if (r == 0)
		r = limit(dir, "memory.oom.group", "", 1, "", &ignored);
	if (r == 0 && l->cpu_percent > 0)
		r = limit(dir, "cpu.max", "", l->cpu_percent * CPU_PERIOD_US / 100, " 100000", missing);
	if (r == 0 && l->io_weight > 0)
		r = limit(dir, "io.weight", "default ", l->io_weight, "", missing);
	return r;
}

static int limits_v1(enum p_fd tree, int dir, const struct wire_limits *l, bool *missing)
{
	bool ignored;
	int r;

	if (tree == P_CGROUP_PIDS)
		return l->pids > 0 ? write_number(dir, "pids.max", "", l->pids, "") : 0;
	if (tree == P_CGROUP_CPU)
		return limit(dir, "cpu.cfs_quota_us", "", l->cpu_percent * CPU_PERIOD_US / 100, "", missing);
	/* Memory and swap in one, and never below memory alone; not there when the kernel does not count swap. */
	r = write_number(dir, "memory.limit_in_bytes", "", l->memory_mib * MIB, "");
	return r < 0 ? r
		     : limit(dir, "memory.memsw.limit_in_bytes", "", ((uint64_t)l->memory_mib + l->swap_mib) * MIB, "",
			     swap_matters(l) ? missing : &ignored);
}

static int make_dir(int parent, const char *name, int *ret_fd)
{
	int fd;

	if (mkdirat(parent, name, 0755) < 0)
		return -errno;
	fd = openat(parent, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
	if (fd < 0)
		return -errno;
	*ret_fd = fd;
	return 0;
}

/* Moving a process into a version 1 group waits for an RCU grace period of the whole host, some 5 ms; so only where there
 * is a limit to be kept, and once for all hierarchies, which share the wait when they follow each other. */
static bool wants_v1(const struct spawner *sp, enum p_fd tree, const struct wire_lease *lease)
{
	const struct wire_limits *l = lease->limits;

	if (sp->p[tree] < 0)
		return false;
	if (tree == P_CGROUP_PIDS)
		return l->pids > 0 || (lease->flags & WIRE_CGROUP_REQUIRE) != 0;
	return tree == P_CGROUP_MEMORY ? l->memory_mib > 0 : l->cpu_percent > 0;
}

static int make_v1(const struct spawner *sp, const struct wire_lease *lease, const char *name, bool *missing,
		   enum wire_step *ret_step)
{
	const struct wire_limits *l = lease->limits;

	/* A share of the disk is not to be had here, swap only together with memory, and CPU may have no hierarchy. */
	*missing = l->io_weight > 0 || (swap_matters(l) && l->memory_mib == 0) ||
		   (l->cpu_percent > 0 && sp->p[P_CGROUP_CPU] < 0);
	for (size_t i = 0; i < ARRAY_SIZE(v1_trees); i++) {
		cleanup_fd int dir = -1;
		int r;

		if (!wants_v1(sp, v1_trees[i], lease))
			continue;
		*ret_step = STEP_CGROUP_MAKE;
		r = make_dir(sp->p[v1_trees[i]], name, &dir);
		if (r < 0)
			return r;
		*ret_step = STEP_CGROUP_LIMIT;
		r = limits_v1(v1_trees[i], dir, l, missing);
		if (r < 0)
			return r;
	}
	return 0;
}

/* Makes the groups and sets their limits; fills in lease->cgroup and the outcome. What a failure leaves behind goes with
 * cgroup_remove(). *ret_fd: the v2 group to clone into, -1 without v2. */
int cgroup_make(const struct spawner *sp, struct wire_lease *lease, int *ret_fd, enum wire_step *ret_step)
{
	char name[16];
	cleanup_fd int dir = -1;
	bool missing = false;
	int r;

	name_of(lease, name);
	*ret_step = STEP_CGROUP_MAKE;
	r = fault_at(SPAWNER_FD_FAULT, STEP_CGROUP_MAKE);
	if (r == 0 && sp->p[P_CGROUP] >= 0)
		r = make_dir(sp->p[P_CGROUP], name, &dir);
	if (r < 0)
		return r;
	if (dir >= 0)
		(void)snprintf(lease->cgroup, sizeof(lease->cgroup), "%s/%s", sp->table->cgroup, name);
	*ret_step = STEP_CGROUP_LIMIT;
	r = fault_at(SPAWNER_FD_FAULT, STEP_CGROUP_LIMIT);
	if (r == 0 && sp->cgroup_outcome == WIRE_BY_BY_CGROUP2)
		r = limits_v2(dir, lease->limits, &missing);
	if (r == 0 && sp->cgroup_outcome == WIRE_BY_BY_CGROUP1)
		r = make_v1(sp, lease, name, &missing, ret_step);
	if (r == 0 && missing && (lease->flags & WIRE_CGROUP_REQUIRE) != 0)
		r = -EOPNOTSUPP;
	if (r < 0)
		return r;
	lease->grants[WIRE_GRANT_CGROUP] = missing ? WIRE_BY_PARTIAL : sp->cgroup_outcome;
	*ret_fd = fd_take(&dir);
	return 0;
}

/* Version 1 cannot be born into: move the child while it still has our uid, before it is released. */
int cgroup_enter_v1(const struct spawner *sp, const struct wire_lease *lease, pid_t pid)
{
	char name[16];

	name_of(lease, name);
	if (sp->cgroup_outcome != WIRE_BY_BY_CGROUP1)
		return 0;
	for (size_t i = 0; i < ARRAY_SIZE(v1_trees); i++) {
		cleanup_fd int dir = -1;
		int r;

		if (!wants_v1(sp, v1_trees[i], lease))
			continue;
		dir = openat(sp->p[v1_trees[i]], name, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
		if (dir < 0)
			return -errno;
		r = write_number(dir, "cgroup.procs", "", (uint64_t)pid, "");
		if (r < 0)
			return r;
	}
	return 0;
}

/* The number behind " key " in a file of "key number" lines, not the first one; 0 when there is none. */
static uint64_t counter(int dir, const char *path, const char *key)
{
	cleanup_fd int fd = openat(dir, path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	char text[512];
	ssize_t n = fd < 0 ? -1 : read(fd, text, sizeof(text) - 1);
	const char *at;

	if (n <= 0)
		return 0;
	text[n] = '\0';
	at = strstr(text, key);
	return at == NULL ? 0 : strtoull(at + strlen(key), NULL, 10);
}

/* Without a memory controller there is no group that counts, and none that could run out. */
uint8_t cgroup_oom(const struct spawner *sp, const struct wire_lease *lease)
{
	char name[16], path[48];

	name_of(lease, name);
	if (sp->p[P_CGROUP_MEMORY] >= 0) {
		(void)snprintf(path, sizeof(path), "%s/memory.oom_control", name);
		return counter(sp->p[P_CGROUP_MEMORY], path, "\noom_kill ") > 0 ? WIRE_OOM_LIMIT : WIRE_OOM_NONE;
	}
	(void)snprintf(path, sizeof(path), "%s/memory.events", name);
	if (sp->p[P_CGROUP] < 0 || counter(sp->p[P_CGROUP], path, "\noom_kill ") == 0)
		return WIRE_OOM_NONE;
	/* "oom" is counted where the limit is that was reached, "oom_kill" where the victim was. */
	return counter(sp->p[P_CGROUP], path, "\noom ") > 0 ? WIRE_OOM_LIMIT : WIRE_OOM_HOST;
}

static int kill_all(int tree, const char *name)
{
	char path[32];

	(void)snprintf(path, sizeof(path), "%.15s/cgroup.kill", name);
	return write_number(tree, path, "", 1, "");
}

int cgroup_kill(const struct spawner *sp, const struct wire_lease *lease)
{
	char name[16];

	name_of(lease, name);
	return sp->p[P_CGROUP] < 0 ? -ENOENT : kill_all(sp->p[P_CGROUP], name);
}

int cgroup_remove(const struct spawner *sp, const struct wire_lease *lease)
{
	char name[16];
	int r = 0;

	name_of(lease, name);
	if (sp->p[P_CGROUP] >= 0 && unlinkat(sp->p[P_CGROUP], name, AT_REMOVEDIR) < 0 && errno != ENOENT)
		r = -errno;
	for (size_t i = 0; i < ARRAY_SIZE(v1_trees); i++)
		if (sp->p[v1_trees[i]] >= 0 && unlinkat(sp->p[v1_trees[i]], name, AT_REMOVEDIR) < 0 && errno != ENOENT)
			r = -errno;
	return r;
}

/* Whether the name is one of name_of()'s, and whose. */
static bool is_ours(const char *name, uint32_t *ret_uid)
{
	char again[16], *end;
	unsigned long uid;

	if (name[0] != 'x' || name[1] < '0' || name[1] > '9')
		return false;
	uid = strtoul(name + 1, &end, 10);
	(void)snprintf(again, sizeof(again), "x%lu", uid & UINT32_MAX);
	if (*end != '\0' || strcmp(name, again) != 0)
		return false;
	*ret_uid = (uint32_t)uid;
	return true;
}

/* False: it is still there. Who is in it, a child that was never released, is ended (version 1 knows no such thing; there
 * the child ends by itself, since nobody holds the other end of its keeper). */
static bool sweep_one(int tree, const char *name)
{
	if (unlinkat(tree, name, AT_REMOVEDIR) == 0 || errno == ENOENT)
		return true;
	(void)kill_all(tree, name);
	return false;
}

static bool sweep_tree(const struct spawner *sp, int tree)
{
	cleanup_fd int list = openat(tree, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	union {
		struct dirent align;
		char bytes[2048];
	} buf;
	bool done = true;
	long n;

	/* Not opendir(): the spawner has no allocator. */
	while (list >= 0 && (n = syscall(SYS_getdents64, list, buf.bytes, sizeof(buf.bytes))) > 0) {
		for (long at = 0; at < n;) {
			const struct dirent *entry = (const struct dirent *)(const void *)(buf.bytes + at);
			uint32_t uid;

			if (is_ours(entry->d_name, &uid) && !sandbox_has_uid(sp, uid))
				done = sweep_one(tree, entry->d_name) && done;
			at += entry->d_reclen;
		}
	}
	return done;
}

bool cgroup_sweep(const struct spawner *sp)
{
	bool done = sp->p[P_CGROUP] < 0 || sweep_tree(sp, sp->p[P_CGROUP]);

	for (size_t i = 0; i < ARRAY_SIZE(v1_trees); i++)
		if (sp->p[v1_trees[i]] >= 0)
			done = sweep_tree(sp, sp->p[v1_trees[i]]) && done;
	return done;
}
