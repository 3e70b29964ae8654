/* SPDX-License-Identifier: Apache-2.0
 * Runs: start's child: root of the host, then the spawner's user, then root of P only. DESIGN.md 2.1 and 2.2.
 * In direct mode it stays the spawner's user, with DIRECT_CAPABILITIES instead of P's.
 *
 * P is one user namespace that maps the whole id range. It is owned by the spawner's user and maps him as its root, never
 * the host's. Who is in it has capabilities over what P owns and over nothing else. */
#include "start.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/capability.h>
#include <linux/magic.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "common/fault.h"
#include "common/fdpass.h"
#include "common/log.h"

/* What the two sides of the sync socket tell each other: one byte, some with descriptors. */
enum word { WORD_UNMAPPED = 'u', WORD_MAPPED = 'm', WORD_NAMESPACES = 'n', WORD_ABORT = 'x' };

#define NAMESPACES 4 /* P_USERNS, P_MNTNS, P_SWITCH, P_EMPTY, in the order of enum p_fd */
_Static_assert(P_EMPTY == NAMESPACES - 1, "the namespaces are the first of the kept set");

static int say(int sync, enum word word, const int *fds, size_t count)
{
	char byte = (char)word;

	return fdpass_send(sync, &byte, 1, fds, count);
}

static int hear(int sync, enum word word, int *fds, size_t max)
{
	size_t count = 0;
	char byte = 0;
	ssize_t n = fdpass_recv(sync, &byte, 1, fds, max, &count);

	if (n < 0)
		return (int)n;
	return n == 1 && byte == (char)word && count == max ? 0 : -EPIPE;
}

/* ---- in the child ------------------------------------------------------------------------------------------------ */

static _Noreturn void give_up(const char *what)
{
	log_error("parent user namespace: %s: %m", what);
	_exit(EXIT_FAILURE);
}

/* Direct mode. Before the change of uid: the bounding set, while we may. */
static void keep_through_uid(void)
{
	for (int cap = 0; prctl(PR_CAPBSET_READ, cap, 0, 0, 0) >= 0; cap++)
		if ((DIRECT_CAPABILITIES & 1ull << cap) == 0 && prctl(PR_CAPBSET_DROP, cap, 0, 0, 0) < 0)
			give_up("bounding set");
	if (prctl(PR_SET_KEEPCAPS, 1, 0, 0, 0) < 0)
		give_up("keep capabilities");
}

/* ... and after it: none but the six, and ambient, since exec by another uid than root keeps only those. The spawner, and
 * nobody else, is executed with them; it makes them its permitted set and clears the other two. */
static void keep_through_exec(void)
{
	struct __user_cap_header_struct head = { .version = _LINUX_CAPABILITY_VERSION_3 };
	const uint32_t low = (uint32_t)DIRECT_CAPABILITIES, high = (uint32_t)(DIRECT_CAPABILITIES >> 32);
	struct __user_cap_data_struct sets[_LINUX_CAPABILITY_U32S_3] = { { low, low, low }, { high, high, high } };

	if (prctl(PR_SET_KEEPCAPS, 0, 0, 0, 0) < 0 || syscall(SYS_capset, &head, sets) < 0)
		give_up("capabilities");
	for (unsigned cap = 0; cap < 64; cap++)
		if ((DIRECT_CAPABILITIES & 1ull << cap) != 0 &&
		    prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, cap, 0, 0) < 0)
			give_up("ambient capabilities");
}

static void become_spawn_user(const struct start *s)
{
	if (s->table.direct_mode != 0)
		keep_through_uid();
	if (setgroups(0, NULL) < 0 || setresgid(s->policy.spawn_gid, s->policy.spawn_gid, s->policy.spawn_gid) < 0 ||
	    setresuid(s->policy.spawn_uid, s->policy.spawn_uid, s->policy.spawn_uid) < 0)
		give_up("become the spawner's user");
	if (s->table.direct_mode != 0)
		keep_through_exec();
	/* Each change of ids resets it; the maps are written through our files in /proc, which must be ours for that. */
	else if (prctl(PR_SET_DUMPABLE, 1, 0, 0, 0) < 0)
		give_up("dumpable");
}

static void become_root_of_p(void)
{
	if (setresgid(0, 0, 0) < 0 || setresuid(0, 0, 0) < 0 || prctl(PR_SET_DUMPABLE, 1, 0, 0, 0) < 0)
		give_up("become root of P");
}

static int open_namespace(const struct start *s, const char *name)
{
	char path[32];
	int fd;

	(void)snprintf(path, sizeof(path), "self/ns/%s", name);
	fd = openat(s->p[P_PROCFS], path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		give_up("open a namespace of P");
	return fd;
}

/* The bridges have no business with IPv6, and a stack that answers there would be reachable for guests. net: /proc/sys/net,
 * opened before the pivot; what it shows follows the network namespace of the reader. */
static void no_ipv6(int net)
{
	static const char *const files[] = { "ipv6/conf/all/disable_ipv6", "ipv6/conf/default/disable_ipv6" };

	for (size_t i = 0; i < ARRAY_SIZE(files); i++) {
		cleanup_fd int fd = openat(net, files[i], O_WRONLY | O_CLOEXEC);

		/* Absent without IPv6 in the kernel. */
		if ((fd < 0 && errno != ENOENT) || (fd >= 0 && write(fd, "1", 1) != 1))
			give_up("disable IPv6 in the switch");
	}
}

/* The numbers of inherit.h, then the spawner's program. */
static _Noreturn void execute_spawner(struct start *s)
{
	char *const argv[] = { (char[]){ "postern-spawner" }, NULL };
	char *environment[8];
	int place[P_COUNT + 4][2];
	size_t count = 0;

	place[count][0] = s->link[1];
	place[count++][1] = SPAWNER_FD_BROKER;
	place[count][0] = s->spawner_rendezvous;
	place[count++][1] = SPAWNER_FD_RENDEZVOUS;
	for (int i = 0; i < P_COUNT; i++) {
		place[count][0] = s->p[i];
		place[count++][1] = SPAWNER_FD_P_FIRST + i;
	}
	if (s->options.fault_fd >= 0) {
		place[count][0] = s->options.fault_fd;
		place[count++][1] = SPAWNER_FD_FAULT;
	}
	daemons_environment(environment, ARRAY_SIZE(environment));
	/* All it creates are cgroups, and their limits are for everybody to read: receipts are compared with them. */
	(void)umask(022);
	if (daemons_lift(&s->spawner_program) < 0 || daemons_stdio(s->log) < 0 ||
	    daemons_place((const int(*)[2])place, count) < 0)
		give_up("arrange descriptors");
	(void)execveat(s->spawner_program, "", argv, environment, AT_EMPTY_PATH);
	give_up("execute postern-spawner");
}

/* Waits until the parent has become the broker (the socket closes with its exec), or gives up with it. */
static void wait_for_broker(int sync)
{
	char byte;

	if (recv(sync, &byte, 1, 0) != 0)
		_exit(EXIT_FAILURE);
}

static void enter_new_p(int sync)
{
	if (unshare(CLONE_NEWUSER) < 0)
		give_up("unshare");
	if (say(sync, WORD_UNMAPPED, NULL, 0) < 0 || hear(sync, WORD_MAPPED, NULL, 0) < 0)
		_exit(EXIT_FAILURE); /* the parent has said why */
	become_root_of_p();
}

static _Noreturn void create_child(struct start *s, int sync)
{
	cleanup_fd int net = open("/proc/sys/net", O_PATH | O_DIRECTORY | O_CLOEXEC);
	int ns[NAMESPACES];

	if (net < 0)
		give_up("/proc/sys/net");
	if (template_enter(s) < 0)
		_exit(EXIT_FAILURE);
	(void)setsid(); /* a terminal's ^C is for the broker */
	become_spawn_user(s);
	if (s->table.direct_mode == 0) /* else what follows is made, and owned, with capabilities of the host */
		enter_new_p(sync);
	/* In P mounts are locked as they are from here on, since P is less than the namespace they come from. In direct mode
	 * only the drop, after which nobody has a capability, keeps a sandbox from changing them. */
	if (unshare(CLONE_NEWNS) < 0 || unshare(CLONE_NEWNET) < 0)
		give_up("unshare mounts and network");
	no_ipv6(net);
	fd_close(&net); /* the last thing of the host's file system that we held */
	ns[P_USERNS] = open_namespace(s, "user");
	ns[P_MNTNS] = open_namespace(s, "mnt");
	ns[P_SWITCH] = open_namespace(s, "net");
	if (unshare(CLONE_NEWNET) < 0)
		give_up("unshare the empty network");
	ns[P_EMPTY] = open_namespace(s, "net");
	if (say(sync, WORD_NAMESPACES, ns, NAMESPACES) < 0)
		_exit(EXIT_FAILURE);
	for (int i = 0; i < NAMESPACES; i++)
		s->p[i] = ns[i];
	wait_for_broker(sync);
	execute_spawner(s);
}

/* The broker said which mount namespace it was. survivor_verify() has refused what users made; but a session or a service
 * can have one that root made for it, full of the host's files, and hand it over; ours shows a tmpfs of its own. */
static void is_template(const struct stat *host)
{
	struct statfs fs;
	struct stat root;

	if (statfs("/", &fs) == 0 && fs.f_type == TMPFS_MAGIC && stat("/", &root) == 0 && root.st_dev != host->st_dev)
		return;
	errno = EPERM;
	give_up("the mount namespace that the broker keeps shows no template");
}

/* Into what another spawner left: first the user namespace, whose owner we are; its capabilities open the others. In
 * direct mode it is root who opens them: entering a mount namespace takes CAP_SYS_CHROOT, too. */
static _Noreturn void rejoin_child(struct start *s, int sync)
{
	bool direct = s->table.direct_mode != 0;
	struct stat host;

	(void)setsid();
	if (stat("/", &host) < 0)
		give_up("root directory");
	if (!direct)
		become_spawn_user(s);
	if ((!direct && setns(s->p[P_USERNS], CLONE_NEWUSER) < 0) || setns(s->p[P_MNTNS], CLONE_NEWNS) < 0)
		give_up("enter P");
	is_template(&host);
	if (direct)
		become_spawn_user(s);
	else
		become_root_of_p();
	if (unshare(CLONE_NEWNET) < 0)
		give_up("unshare the empty network");
	s->p[P_EMPTY] = open_namespace(s, "net");
	if (say(sync, WORD_NAMESPACES, NULL, 0) < 0)
		_exit(EXIT_FAILURE);
	wait_for_broker(sync);
	execute_spawner(s);
}

/* ---- in the parent ----------------------------------------------------------------------------------------------- */

static int write_map(pid_t pid, const char *file, const char *text)
{
	char path[64];
	cleanup_fd int fd = -1;

	(void)snprintf(path, sizeof(path), "/proc/%d/%s", pid, file);
	fd = open(path, O_WRONLY | O_CLOEXEC);
	if (fd < 0 || write(fd, text, strlen(text)) != (ssize_t)strlen(text)) {
		log_error("parent user namespace: %s: %m", path);
		return -errno;
	}
	return 0;
}

/* P's root is the spawner's user; the host's uid 0 has no number in P. */
static int write_maps(const struct start *s, pid_t pid)
{
	const struct spawn_table *t = &s->table;
	char text[128];
	int r, len;

	(void)snprintf(text, sizeof(text), "0 %u 1\n%u %u %u\n", s->policy.spawn_uid, t->first_uid, t->first_uid,
		       t->uid_count);
	r = write_map(pid, "uid_map", text);
	if (r < 0)
		return r;
	len = snprintf(text, sizeof(text), "0 %u 1\n%u %u %u\n", s->policy.spawn_gid, t->first_uid, t->first_uid,
		       t->uid_count);
	if (t->kvm_gid != WIRE_UID_NONE)
		(void)snprintf(text + len, sizeof(text) - (size_t)len, "%u %u 1\n", t->kvm_gid, t->kvm_gid);
	return write_map(pid, "gid_map", text);
}

static int map_new_p(const struct start *s, const struct spawning *spawning)
{
	int r = hear(spawning->sync, WORD_UNMAPPED, NULL, 0);

	if (r == 0)
		r = write_maps(s, spawning->pid);
	return r < 0 ? r : say(spawning->sync, WORD_MAPPED, NULL, 0);
}

static int fork_child(struct start *s, void (*child)(struct start *, int), struct spawning *ret)
{
	int sync[2];
	pid_t pid;

	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, sync) < 0)
		return -errno;
	pid = fork();
	if (pid == 0) {
		fd_close(&sync[0]);
		child(s, sync[1]);
	}
	fd_close(&sync[1]);
	if (pid < 0) {
		log_error("fork: %m");
		fd_close(&sync[0]);
		return -EAGAIN;
	}
	*ret = (struct spawning){ .pid = pid, .sync = sync[0] };
	return 0;
}

void spawning_abort(struct spawning *spawning)
{
	if (spawning->pid <= 0)
		return;
	(void)say(spawning->sync, WORD_ABORT, NULL, 0);
	fd_close(&spawning->sync);
	(void)kill(spawning->pid, SIGKILL);
	(void)waitpid(spawning->pid, NULL, 0);
	spawning->pid = -1;
}

static const char *why_no_user_namespace(int error)
{
	switch (error) {
	case ENOSPC:
		return "the sysctl user.max_user_namespaces is 0, or all it allows are in use";
	case EINVAL:
		return "this kernel is built without them";
	default:
		return "the sysctl kernel.unprivileged_userns_clone or a security module forbids it";
	}
}

/* Tried as the one who will make it. Never replaced by direct mode by ourselves: that is another promise. */
int parent_ns_possible(const struct start *s)
{
	enum { REFUSED = 0x80 }; /* and why; give_up() exits by EXIT_FAILURE */
	int status = 0, error;
	pid_t pid;

	if (s->table.direct_mode != 0)
		return 0;
	pid = fork();
	if (pid == 0) {
		become_spawn_user(s);
		_exit(unshare(CLONE_NEWUSER) < 0 ? REFUSED | errno : 0);
	}
	if (pid < 0 || waitpid(pid, &status, 0) < 0 || !WIFEXITED(status) || WEXITSTATUS(status) == EXIT_FAILURE) {
		log_error("user namespaces: cannot be tried: %m");
		return -EAGAIN;
	}
	if (WEXITSTATUS(status) == 0)
		return 0;
	error = WEXITSTATUS(status) & ~REFUSED;
	log_error("user namespaces: uid %u cannot make one: %s (%s). Allow them, or set \"mode\": \"direct\" in the "
		  "policy's \"daemon\"; in direct mode the spawner holds capabilities of the host, and who breaks it has "
		  "the host: see postern-policy(5)",
		  s->policy.spawn_uid, strerror(error), why_no_user_namespace(error));
	return -ENOTSUP;
}

int parent_ns_create(struct start *s, struct spawning *ret)
{
	int r = fork_child(s, create_child, ret);

	if (r < 0)
		return r;
	if (s->table.direct_mode == 0)
		r = map_new_p(s, ret);
	if (r == 0)
		r = hear(ret->sync, WORD_NAMESPACES, s->p, NAMESPACES);
	/* In the parent the child's process is still root's to place. */
	if (r == 0)
		cgroup_enter(s, ret->pid);
	else
		spawning_abort(ret);
	return r;
}

int parent_ns_rejoin(struct start *s, struct spawning *ret)
{
	int r = fork_child(s, rejoin_child, ret);

	if (r == 0)
		r = hear(ret->sync, WORD_NAMESPACES, NULL, 0); /* else it has said why */
	if (r == 0)
		cgroup_enter(s, ret->pid);
	else
		spawning_abort(ret);
	return r;
}
