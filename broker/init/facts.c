/* SPDX-License-Identifier: Apache-2.0
 * Runs: init (uid X, no capability, strict filter). Reads what the kernel says about the VMM, through the procfs that
 * the spawner opened. Numbers and fixed formats of the kernel only: nothing here that the VMM could have written. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "init.h"

#define TEXT_BYTES 4096
#define PATH_BYTES 64
#define DIRENT_BYTES 2048
#define TASKS_MAX 65536
#define SECCOMP_FILTERING 2

/* Call visit for each numeric name in a directory of procfs. */
static int each_number(int dir, int (*visit)(struct init *init, int dir, const char *name), struct init *init)
{
	char buf[DIRENT_BYTES] __attribute__((aligned(8)));
	ssize_t n;

	while ((n = getdents64(dir, (void *)buf, sizeof(buf))) > 0) {
		for (ssize_t at = 0; at < n;) {
			const struct dirent64 *entry = (const void *)(buf + at);
			int r = entry->d_name[0] >= '0' && entry->d_name[0] <= '9' ? visit(init, dir, entry->d_name) : 0;

			if (r < 0)
				return r;
			at += entry->d_reclen;
		}
	}
	return n < 0 ? -errno : 0;
}

static int visit_task(struct init *init, int dir, const char *name)
{
	struct wire_fact_ids ids = { 0 };
	char path[PATH_BYTES];
	int r = 0;

	if (init->facts.tasks >= TASKS_MAX)
		return -E2BIG;
	(void)snprintf(path, sizeof(path), "%.20s/status", name);
	if (strtoul(name, NULL, 10) == (unsigned long)init->vmm)
		ids = init->facts.vmm_ids[0]; /* the first thread: its status is the process's, just read */
	else
		r = status_read(dir, path, &ids, NULL);
	if (r == -ENOENT || r == -ESRCH)
		return 0; /* a thread that ended meanwhile */
	if (r < 0)
		return r;
	init->facts.tasks++;
	init->facts.tasks_filtered += ids.seccomp == SECCOMP_FILTERING ? 1 : 0;
	return 0;
}

static void describe(const struct stat *st, struct wire_fact_fd *ret)
{
	ret->mode = st->st_mode;
	ret->dev = st->st_dev;
	ret->ino = st->st_ino;
	ret->rdev = st->st_rdev;
}

/* The entry itself is a link whose permission bits are the access mode (none: O_PATH); behind it is the file. */
static int visit_fd(struct init *init, int dir, const char *name)
{
	struct wire_fact_fd *fact = &init->facts.fds[init->facts.fd_count];
	struct stat link, st;

	if (init->facts.fd_count >= WIRE_FACT_FDS_MAX)
		return -E2BIG; /* a manifest that is not whole proves nothing */
	if (fstatat(dir, name, &link, AT_SYMLINK_NOFOLLOW) < 0 || fstatat(dir, name, &st, 0) < 0)
		return errno == ENOENT ? 0 : -errno;
	fact->fd = (uint32_t)strtoul(name, NULL, 10);
	fact->access = (link.st_mode & 0600) == 0600 ? 2
		       : (link.st_mode & 0400) != 0  ? 0
		       : (link.st_mode & 0200) != 0  ? 1
						     : 3;
	describe(&st, fact);
	init->facts.fd_count++;
	return 0;
}

/* Open a directory of a process (0: init itself): one walk through procfs instead of one for each thing in it.
 * O_PATH where nothing is listed: our own, since we are not dumpable, is not ours to read. */
static int open_process(const struct init *init, pid_t pid, const char *what, int how)
{
	char path[PATH_BYTES];
	int fd;

	if (pid != 0)
		(void)snprintf(path, sizeof(path), "%d%s", pid, what);
	else
		(void)snprintf(path, sizeof(path), "self%s", what);
	fd = openat(init->procfs, path, how | O_DIRECTORY | O_CLOEXEC);
	return fd < 0 ? -errno : fd;
}

static int walk(struct init *init, const char *what, int (*visit)(struct init *init, int dir, const char *name))
{
	cleanup_fd int dir = open_process(init, init->vmm, what, O_RDONLY);

	return dir < 0 ? dir : each_number(dir, visit, init);
}

/* Identity of what a magic link leads to. */
static int identity(int dir, const char *link, uint64_t *ret_dev, uint64_t *ret_ino)
{
	struct stat st;

	if (fstatat(dir, link, &st, 0) < 0)
		return -errno;
	*ret_dev = st.st_dev;
	*ret_ino = st.st_ino;
	return 0;
}

static const char *const namespaces[] = { "user", "pid", "mnt", "net", "ipc", "uts", "cgroup", "time" };

static int read_namespaces(const struct init *init, pid_t pid, uint64_t ret[ARRAY_SIZE(namespaces)])
{
	cleanup_fd int dir = open_process(init, pid, "/ns", O_PATH);
	uint64_t dev;
	int r = 0;

	if (dir < 0)
		return dir;
	for (size_t i = 0; i < ARRAY_SIZE(namespaces) && r == 0; i++) {
		r = identity(dir, namespaces[i], &dev, &ret[i]);
		/* Linux before 5.6, or built without it: 0 says so to the reader */
		if (r == -ENOENT && i == ARRAY_SIZE(namespaces) - 1)
			r = 0;
	}
	return r;
}

static int read_places(struct init *init)
{
	struct wire_facts *facts = &init->facts;
	uint64_t spaces[ARRAY_SIZE(namespaces)] = { 0 };
	cleanup_fd int dir = -1;
	int r = read_namespaces(init, init->vmm, spaces);

	_Static_assert(ARRAY_SIZE(namespaces) == ARRAY_SIZE(facts->namespaces), "one row for each namespace");
	if (r < 0)
		return r;
	for (size_t i = 0; i < ARRAY_SIZE(spaces); i++)
		facts->namespaces[i].vmm = spaces[i];
	dir = open_process(init, init->vmm, "", O_PATH);
	if (dir < 0)
		return dir;
	r = identity(dir, "root", &facts->root_dev, &facts->root_ino);
	return r < 0 ? r : identity(dir, "cwd", &facts->cwd_dev, &facts->cwd_ino);
}

/* One line of kernel text into a TEXT field, cut at its end of line and where it would not be plain. */
static void set_text(char *text, size_t size, const char *line)
{
	size_t i = 0;

	(void)memset(text, 0, size);
	for (; i < size - 1 && line[i] >= 0x20 && line[i] <= 0x7e; i++)
		text[i] = line[i];
}

static int read_texts(struct init *init)
{
	struct wire_facts *facts = &init->facts;
	char path[PATH_BYTES], buf[TEXT_BYTES];
	const char *line;
	ssize_t n;
	int r;

	(void)snprintf(path, sizeof(path), "%d/exe", init->vmm);
	n = readlinkat(init->procfs, path, buf, sizeof(buf) - 1);
	if (n < 0)
		return -errno;
	buf[n] = '\0';
	set_text(facts->exe, sizeof(facts->exe), buf);
	(void)snprintf(path, sizeof(path), "%d/cgroup", init->vmm);
	r = procfs_read(init->procfs, path, buf, sizeof(buf));
	if (r < 0)
		return r;
	line = strstr(buf, "0::"); /* the v2 group, as seen from the sandbox's cgroup namespace */
	set_text(facts->cgroup, sizeof(facts->cgroup), line != NULL ? line + 3 : "");
	(void)snprintf(path, sizeof(path), "%d/oom_score_adj", init->vmm);
	r = procfs_read(init->procfs, path, buf, sizeof(buf));
	if (r < 0)
		return r;
	facts->oom_score_adj = (uint32_t)(int32_t)strtol(buf, NULL, 10);
	(void)snprintf(path, sizeof(path), "%d/attr/current", init->vmm);
	r = procfs_read(init->procfs, path, buf, sizeof(buf));
	if (r < 0 && r != -EINVAL && r != -ENOENT) /* no security module with labels on this kernel */
		return r;
	set_text(facts->label, sizeof(facts->label), r == 0 ? buf : "");
	return 0;
}

static int read_limits(struct init *init)
{
	uint64_t *const values[] = { &init->facts.rlimit_nofile, &init->facts.rlimit_core, &init->facts.rlimit_memlock,
				     &init->facts.rlimit_nproc };
	static const int kinds[] = { RLIMIT_NOFILE, RLIMIT_CORE, RLIMIT_MEMLOCK, RLIMIT_NPROC };

	for (size_t i = 0; i < ARRAY_SIZE(kinds); i++) {
		struct rlimit limit;

		if (prlimit(init->vmm, kinds[i], NULL, &limit) < 0)
			return -errno;
		*values[i] = limit.rlim_max; /* what the VMM could raise it to, which is what binds it */
	}
	return 0;
}

int facts_given(struct init *init)
{
	struct wire_facts *facts = &init->facts;

	for (size_t i = 0; i < init->slot_count; i++) {
		struct wire_fact_fd *fact = &facts->given[i];
		int flags = fcntl(init->slots[i].fd, F_GETFL);
		struct stat st;

		if (i >= WIRE_FACT_FDS_MAX)
			return -E2BIG;
		if (flags < 0 || fstat(init->slots[i].fd, &st) < 0)
			return -errno;
		fact->fd = (uint32_t)init->slots[i].slot;
		fact->access = (flags & O_PATH) != 0 ? 3 : (uint8_t)(flags & O_ACCMODE);
		describe(&st, fact);
	}
	facts->given_count = (uint16_t)init->slot_count;
	facts->landlock_abi = (uint8_t)landlock_abi();
	return 0;
}

int facts_own(struct init *init)
{
	struct wire_facts *facts = &init->facts;
	uint64_t spaces[ARRAY_SIZE(namespaces)] = { 0 };
	cleanup_fd int dir = -1;
	int r = status_read(init->procfs, "self/status", &facts->init_ids[0], NULL);

	if (r == 0)
		r = read_namespaces(init, 0, spaces);
	if (r < 0)
		return r;
	for (size_t i = 0; i < ARRAY_SIZE(spaces); i++)
		facts->namespaces[i].init = spaces[i];
	dir = open_process(init, 0, "", O_PATH);
	return dir < 0 ? dir : identity(dir, "root", &facts->init_root_dev, &facts->init_root_ino);
}

int facts_read(struct init *init)
{
	struct wire_facts *facts = &init->facts;
	char path[PATH_BYTES];
	int r;

	facts->vmm_pid = (uint32_t)init->vmm;
	facts->tasks = 0;
	facts->tasks_filtered = 0;
	facts->fd_count = 0;
	(void)memset(facts->fds, 0, sizeof(facts->fds));
	(void)snprintf(path, sizeof(path), "%d/status", init->vmm);
	r = status_read(init->procfs, path, &facts->vmm_ids[0], NULL);
	if (r == 0)
		r = walk(init, "/task", visit_task);
	if (r == 0)
		r = walk(init, "/fd", visit_fd);
	if (r == 0)
		r = read_places(init);
	if (r == 0)
		r = read_texts(init);
	return r == 0 ? read_limits(init) : r;
}
