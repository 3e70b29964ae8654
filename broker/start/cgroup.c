/* SPDX-License-Identifier: Apache-2.0
 * Runs: start (root, for a moment). The cgroup directories that the spawner may use.
 *
 * Version 2: postern-<tag>/ is the spawner's user's, with the controllers that there are switched on; the daemons sit in
 * its leaf "daemons", since a child can only be born into a group whose common ancestor with ours is also ours to write.
 * Version 1, for hosts whose controllers are there: the same directory in pids, memory and cpu. */
#include "start.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <dirent.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/xattr.h>
#include <time.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "common/log.h"

#define KILL_WAITS 200 /* of 10 ms: how long what an earlier P left may take to die */
#define PATH_BYTES 512
#define CONTROL_LEAF ".control"    /* where systemd starts what is not the main process of a unit with Delegate= */
#define START_LEAF "postern-start" /* where we move, out of a delegated group's way */

static int write_text(int dir, const char *file, const char *text)
{
	cleanup_fd int fd = openat(dir, file, O_WRONLY | O_CLOEXEC | O_NOFOLLOW);

	if (fd < 0)
		return -errno;
	return write(fd, text, strlen(text)) < 0 ? -errno : 0;
}

static bool read_text(int dir, const char *file, char *ret, size_t size)
{
	cleanup_fd int fd = openat(dir, file, O_RDONLY | O_CLOEXEC);
	ssize_t n = fd < 0 ? -1 : read(fd, ret, size - 1);

	if (n < 0)
		return false;
	ret[n] = '\0';
	return true;
}

static bool has_word(const char *words, const char *word)
{
	size_t len = strlen(word);

	for (const char *at = strstr(words, word); at != NULL; at = strstr(at + 1, word))
		if ((at == words || at[-1] == ' ' || at[-1] == ',') && strchr(" ,\n", at[len]) != NULL)
			return true;
	return false;
}

/* Where a hierarchy is mounted: the one of version 2 (controller NULL, wherever it is, "unified" included), or the one of
 * version 1 with this controller. */
static bool find_mount(const char *controller, char ret[PATH_BYTES])
{
	FILE *file = fopen("/proc/self/mountinfo", "re");
	char line[4096], path[PATH_BYTES], type[32], options[PATH_BYTES];
	bool found = false;

	while (file != NULL && !found && fgets(line, sizeof(line), file) != NULL) {
		const char *tail = strstr(line, " - ");

		if (tail == NULL || sscanf(line, "%*s %*s %*s %*s %511s", path) != 1 ||
		    sscanf(tail, " - %31s %*s %511s", type, options) != 2)
			continue;
		found = controller == NULL ? strcmp(type, "cgroup2") == 0
					   : strcmp(type, "cgroup") == 0 && has_word(options, controller);
	}
	if (file != NULL)
		(void)fclose(file);
	if (found)
		memcpy(ret, path, PATH_BYTES);
	return found;
}

/* Our own group's path in version 2 when systemd has delegated it to us (Delegate=yes), else "". */
static void delegated_path(const char *mount, char ret[PATH_BYTES])
{
	char own[PATH_BYTES] = "", path[2 * PATH_BYTES], value[8] = "", *end;
	const char *line;

	ret[0] = '\0';
	if (!read_text(AT_FDCWD, "/proc/self/cgroup", own, sizeof(own)))
		return;
	line = strstr(own, "0::");
	if (line == NULL)
		return;
	line += strlen("0::");
	end = strchr(line, '\n');
	if (end != NULL)
		*end = '\0';
	/* Inside a leaf the delegated one is above: in the one we were started in before, or where systemd puts what is not
	 * a unit's main process. Only the whole name: a unit may be called postern-start.service. */
	end = strrchr(line, '/');
	if (end != NULL && (strcmp(end, "/" START_LEAF) == 0 || strcmp(end, "/" CONTROL_LEAF) == 0))
		*end = '\0';
	(void)snprintf(path, sizeof(path), "%s%s", mount, line);
	if (getxattr(path, "trusted.delegate", value, sizeof(value) - 1) > 0 && value[0] == '1')
		(void)snprintf(ret, PATH_BYTES, "%s", line);
}

/* ---- what an earlier P left ------------------------------------------------------------------------------------- */

static void sleep_ms(long ms)
{
	struct timespec t = { .tv_nsec = ms * 1000000 };

	(void)nanosleep(&t, NULL);
}

/* Remove dir/name and the groups in it; two levels is all there ever are. */
static void remove_group(int dir, const char *name)
{
	int fd = openat(dir, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
	DIR *list = fd < 0 ? NULL : fdopendir(fd);
	struct dirent *entry;

	if (list == NULL) {
		fd_close(&fd);
		return;
	}
	while ((entry = readdir(list)) != NULL)
		if (entry->d_type == DT_DIR && entry->d_name[0] != '.')
			(void)unlinkat(dirfd(list), entry->d_name, AT_REMOVEDIR);
	(void)closedir(list);
	if (unlinkat(dir, name, AT_REMOVEDIR) < 0 && errno != ENOENT)
		log_warn("cgroup %s of an earlier start: %m", name);
}

/* Nobody is left who could know or end what is in there, so it ends now; and while it has not ended, nothing starts: its
 * ids would be given out again. */
static int kill_leftovers(int base, const char *name)
{
	cleanup_fd int dir = openat(base, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
	char events[256] = "";

	if (dir < 0)
		return errno == ENOENT ? 0 : -errno;
	if (read_text(dir, "cgroup.events", events, sizeof(events)) && strstr(events, "populated 1") != NULL) {
		log_notice("sandboxes of an earlier start are left without daemons: ending them");
		if (write_text(dir, "cgroup.kill", "1") < 0)
			log_warn("cgroup.kill: %m (Linux 5.14 is needed)");
		for (int i = 0; i < KILL_WAITS && strstr(events, "populated 1") != NULL; i++) {
			sleep_ms(10);
			(void)read_text(dir, "cgroup.events", events, sizeof(events));
		}
		if (strstr(events, "populated 1") != NULL) {
			log_error("cgroup %s: sandboxes of an earlier start do not end; end the processes in it", name);
			return -EBUSY;
		}
	}
	fd_close(&dir);
	remove_group(base, name);
	return 0;
}

/* ---- making ------------------------------------------------------------------------------------------------------ */

/* Give the directory and the files by which children are made and moved, and nothing else of it: its limits stay root's. */
static int delegate(int base, const char *name, uid_t uid, gid_t gid, const char *const *files, int *ret_tree)
{
	cleanup_fd int dir = -1;

	if (mkdirat(base, name, 0755) < 0 && errno != EEXIST)
		return -errno;
	dir = openat(base, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
	if (dir < 0 || fchown(dir, uid, gid) < 0)
		return -errno;
	for (; *files != NULL; files++) {
		cleanup_fd int file = openat(dir, *files, O_WRONLY | O_CLOEXEC | O_NOFOLLOW);

		if (file < 0 || fchown(file, uid, gid) < 0)
			return -errno;
	}
	/* A tree of its own: ".." from it leads nowhere. */
	*ret_tree = open_tree(base, name, OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_SYMLINK_NOFOLLOW);
	return *ret_tree < 0 ? -errno : 0;
}

/* Switch a controller on for the groups below; most hosts have only some. */
static void enable_all(int dir)
{
	static const char *const controllers[] = { "+memory", "+pids", "+cpu", "+io" };

	for (size_t i = 0; i < ARRAY_SIZE(controllers); i++)
		(void)write_text(dir, "cgroup.subtree_control", controllers[i]);
}

static int open_base(char delegated[PATH_BYTES], int *ret_fd)
{
	char mount[PATH_BYTES], path[2 * PATH_BYTES];
	cleanup_fd int base = -1;

	if (!find_mount(NULL, mount))
		return -ENOENT;
	delegated_path(mount, delegated);
	(void)snprintf(path, sizeof(path), "%s%s", mount, delegated);
	base = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (base < 0)
		return -errno;
	*ret_fd = fd_take(&base);
	return 0;
}

/* systemd removes the groups of a unit when nobody is in them any more: when a spawner without sandboxes died. */
static bool tree_is_gone(const struct start *s)
{
	return s->p[P_CGROUP] >= 0 && faccessat(s->p[P_CGROUP], "cgroup.procs", F_OK, 0) < 0;
}

static int prepare_v2(struct start *s, bool fresh, bool *ret_controllers)
{
	static const char *const files[] = { "cgroup.procs", "cgroup.threads", "cgroup.subtree_control", NULL };
	char delegated[PATH_BYTES], name[32], leaf[64], controllers[256] = "";
	cleanup_fd int base = -1, own = -1;
	int r = open_base(delegated, &base);

	if (r < 0)
		return r;
	(void)snprintf(name, sizeof(name), "postern-%s", s->tag);
	(void)snprintf(leaf, sizeof(leaf), "%s/daemons", name);
	/* The delegated group may not hold processes and give controllers to its children: we move to a leaf first. */
	if (delegated[0] != '\0') {
		if (mkdirat(base, START_LEAF, 0755) < 0 && errno != EEXIST)
			return -errno;
		r = write_text(base, START_LEAF "/cgroup.procs", "0");
		if (r < 0)
			return r;
	}
	enable_all(base);
	if (fresh || tree_is_gone(s)) {
		fd_close(&s->p[P_CGROUP]);
		r = delegate(base, name, s->policy.spawn_uid, s->policy.spawn_gid, files, &s->p[P_CGROUP]);
		if (r < 0)
			return r;
		r = snprintf(s->table.cgroup, sizeof(s->table.cgroup), "%s/%s", delegated, name);
		if (r < 0 || (size_t)r >= sizeof(s->table.cgroup))
			return -ENAMETOOLONG; /* compared before it would be cut */
	}
	own = openat(base, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (own < 0 || (mkdirat(base, leaf, 0755) < 0 && errno != EEXIST))
		return -errno;
	enable_all(own);
	(void)snprintf(leaf, sizeof(leaf), "%s/daemons/cgroup.procs", name);
	s->cgroup_leaf = openat(base, leaf, O_WRONLY | O_CLOEXEC | O_NOFOLLOW);
	if (s->cgroup_leaf < 0)
		return -errno;
	*ret_controllers = read_text(own, "cgroup.subtree_control", controllers, sizeof(controllers)) &&
			   has_word(controllers, "memory") && has_word(controllers, "pids");
	return 0;
}

static const struct {
	enum p_fd tree;
	const char *controller;
} v1[] = { { P_CGROUP_PIDS, "pids" }, { P_CGROUP_MEMORY, "memory" }, { P_CGROUP_CPU, "cpu" } };

static void prepare_v1(struct start *s)
{
	static const char *const files[] = { "cgroup.procs", NULL };
	char mount[PATH_BYTES], name[32];

	(void)snprintf(name, sizeof(name), "postern-%s", s->tag);
	for (size_t i = 0; i < ARRAY_SIZE(v1); i++) {
		cleanup_fd int base = -1;

		if (!find_mount(v1[i].controller, mount))
			continue;
		base = open(mount, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		if (base < 0)
			continue;
		if (delegate(base, name, s->policy.spawn_uid, s->policy.spawn_gid, files, &s->p[v1[i].tree]) < 0)
			log_warn("cgroup v1 %s: cannot be delegated: %m", v1[i].controller);
	}
}

int cgroup_prepare(struct start *s, bool fresh)
{
	uint8_t *outcome = &s->table.host.outcomes[WIRE_GRANT_CGROUP];
	bool controllers = false;
	int r = prepare_v2(s, fresh, &controllers);

	if (r < 0)
		log_warn("no cgroup v2 for the sandboxes: %s; they can still be ended, but not found after a crash of both "
			 "daemons",
			 strerror(-r));
	if (!fresh)
		return 0; /* the running half has the rest */
	if (!controllers)
		prepare_v1(s);
	if (controllers)
		*outcome = WIRE_BY_BY_CGROUP2;
	else if (s->p[P_CGROUP_PIDS] >= 0 && s->p[P_CGROUP_MEMORY] >= 0)
		*outcome = WIRE_BY_BY_CGROUP1;
	else
		*outcome = WIRE_BY_BY_RLIMIT;
	return 0;
}

/* The same question without making anything, for --check. */
enum wire_outcome cgroup_foresee(void)
{
	char delegated[PATH_BYTES], mount[PATH_BYTES], controllers[256];
	cleanup_fd int base = -1;

	if (open_base(delegated, &base) == 0 && read_text(base, "cgroup.controllers", controllers, sizeof(controllers)) &&
	    has_word(controllers, "memory") && has_word(controllers, "pids"))
		return WIRE_BY_BY_CGROUP2;
	return find_mount("pids", mount) && find_mount("memory", mount) ? WIRE_BY_BY_CGROUP1 : WIRE_BY_BY_RLIMIT;
}

void cgroup_enter(const struct start *s, pid_t pid)
{
	char text[16];
	int len = snprintf(text, sizeof(text), "%d", pid);

	if (s->cgroup_leaf >= 0 && pwrite(s->cgroup_leaf, text, (size_t)len, 0) != len)
		log_warn("cgroup of the daemons: %m");
}

int cgroup_end_leftovers(const struct start *s)
{
	char mount[PATH_BYTES], delegated[PATH_BYTES], name[32];
	cleanup_fd int base = -1;
	int r;

	(void)snprintf(name, sizeof(name), "postern-%s", s->tag);
	if (open_base(delegated, &base) == 0) {
		r = kill_leftovers(base, name);
		if (r < 0)
			return r;
	}
	for (size_t i = 0; i < ARRAY_SIZE(v1); i++) {
		cleanup_fd int dir = -1;

		if (find_mount(v1[i].controller, mount))
			dir = open(mount, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		if (dir >= 0)
			remove_group(dir, name);
	}
	return 0;
}
