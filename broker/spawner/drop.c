/* SPDX-License-Identifier: Apache-2.0
 * Runs: the spawner's child: from all capabilities of a fresh namespace (direct mode: the spawner's on the host) to none.
 * See drop.h; DESIGN.md 2.3.
 *
 * drop_and_exec() reads from top to bottom as the order of the drop. Nothing that anybody outside the broker wrote is
 * looked at before the last capability is gone. After the first step there is no way back: any failure ends the process,
 * and with it, since it is PID 1, the sandbox. */
#include "drop.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/capability.h>
#include <linux/securebits.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "common/fault.h"
#include "common/kernel_calls.h"
#include "common/label_text.h"
#include "common/slots.h"

#define DROP_FD_PROGRAM (INIT_FD_END + 1) /* close-on-exec: gone when init runs */
#define DROP_FD_END (INIT_FD_END + 2)
#define DROP_FDS_MAX (2 * WIRE_TAP_FDS_MAX + 9) /* list_descriptors() with all there can be, and the standard three */
#define RUN_SIZE "256M" /* kernel and initrd are copied there; pages count against the memory limit */
#define RUN_INODES "1024"
#define STATUS_BYTES 4096 /* of /proc/self/status; the lines we look for come before those that grow */
#define BOOT_WAIT_MS 30000
#define NOFILE_MAX 4096
#define NPROC_MAX 4096 /* threads of one VMM; the pids controller is the finer limit where there is one */
#define MEMLOCK_MAX (64ull << 20)
#define SECUREBITS \
	(SECBIT_NOROOT | SECBIT_NOROOT_LOCKED | SECBIT_NO_SETUID_FIXUP | SECBIT_NO_SETUID_FIXUP_LOCKED | \
	 SECBIT_KEEP_CAPS_LOCKED | SECBIT_NO_CAP_AMBIENT_RAISE | SECBIT_NO_CAP_AMBIENT_RAISE_LOCKED)

/* Where to complain, and about what. */
struct dropping {
	uint64_t id;
	int control, keeper, fault;
	enum wire_step step;
};

static _Noreturn void give_up(const struct dropping *s, int error)
{
	struct wire_step_failed failed = { .id = s->id, .step = s->step, .error = (uint32_t)-error, .burn = 1 };

	/* Both may be gone already; there is nobody else to tell. */
	(void)wire_send(s->keeper, WIRE_OP_K_FAILED, WIRE_REQUEST, 0, &failed, NULL, 0);
	(void)wire_send(s->control, WIRE_OP_C_FAILED, WIRE_REQUEST, 0, &failed, NULL, 0);
	_exit(EXIT_FAILURE);
}

static void check(const struct dropping *s, int r)
{
	if (r < 0)
		give_up(s, r);
}

static void begin(struct dropping *s, enum wire_step step)
{
	s->step = step;
	check(s, fault_at(s->fault, step));
}

static int result(long r)
{
	return r < 0 ? -errno : 0;
}

/* ---- descriptors ------------------------------------------------------------------------------------------------- */

struct placing {
	int from, to;
	bool close_on_exec;
};

static size_t list_descriptors(const struct drop *d, struct placing *ret)
{
	size_t n = 0;

	ret[n++] = (struct placing){ d->control, INIT_FD_CONTROL, false };
	ret[n++] = (struct placing){ d->keeper, INIT_FD_KEEPER, false };
	ret[n++] = (struct placing){ d->program, DROP_FD_PROGRAM, true };
#ifdef POSTERN_FAULT_INJECTION
	if (fcntl(SPAWNER_FD_FAULT, F_GETFD) >= 0)
		ret[n++] = (struct placing){ SPAWNER_FD_FAULT, INIT_FD_FAULT, false };
#endif
	if (d->kvm >= 0)
		ret[n++] = (struct placing){ d->kvm, SLOT_KVM, false };
	if (d->vsock >= 0)
		ret[n++] = (struct placing){ d->vsock, SLOT_VSOCK, false };
	for (uint32_t i = 0; i < d->tap_count; i++)
		ret[n++] = (struct placing){ d->taps[i], SLOT_TAP + (int)i, false };
	for (uint32_t i = 0; i < d->vhost_count; i++)
		ret[n++] = (struct placing){ d->vhosts[i], SLOT_VHOST + (int)i, false };
	return n;
}

/* A gap at a time: most numbers are free, and a close() for each of them costs more than all that is open. */
static int close_gaps(const bool wanted[DROP_FD_END])
{
	unsigned first = 0;

	for (unsigned fd = 0; fd < DROP_FD_END; fd++) {
		if (wanted[fd] && fd > first && close_range(first, fd - 1, 0) < 0)
			return -errno;
		if (wanted[fd])
			first = fd + 1;
	}
	return result(close_range(first, ~0u, 0));
}

/* Every descriptor that stays goes to its number, everything else is closed: other sandboxes' taps and keepers, the
 * handles of P, the broker's link. First copies above the numbers in use, then down, so that nothing is overwritten
 * before it was copied. Standard descriptors become the template's /dev/null. */
static int place_descriptors(const struct drop *d)
{
	struct placing list[DROP_FDS_MAX];
	bool wanted[DROP_FD_END] = { false };
	size_t count = list_descriptors(d, list);
	int null = open("/dev/null", O_RDWR | O_CLOEXEC | O_NOFOLLOW);

	if (null < 0)
		return -errno;
	for (int i = STDIN_FILENO; i <= STDERR_FILENO; i++)
		list[count++] = (struct placing){ null, i, false };
	for (size_t i = 0; i < count; i++) {
		list[i].from = fcntl(list[i].from, F_DUPFD_CLOEXEC, DROP_FD_END);
		if (list[i].from < 0)
			return -errno;
	}
	for (size_t i = 0; i < count; i++) {
		if (dup3(list[i].from, list[i].to, list[i].close_on_exec ? O_CLOEXEC : 0) < 0)
			return -errno;
		wanted[list[i].to] = true;
	}
	return close_gaps(wanted);
}

/* What the spawner ignores and blocks is its own affair: a VMM shall be stopped by SIGTERM. */
static int reset_signals(void)
{
	static const int changed[] = { SIGPIPE, SIGINT, SIGHUP };
	const struct sigaction usual = { .sa_handler = SIG_DFL };
	sigset_t none;

	for (size_t i = 0; i < ARRAY_SIZE(changed); i++)
		if (sigaction(changed[i], &usual, NULL) < 0)
			return -errno;
	(void)sigemptyset(&none);
	return result(sigprocmask(SIG_SETMASK, &none, NULL));
}

/* K_BOOT's arrival says that the id maps are written; it stays in the queue for init. A hang-up means that the spawner
 * gave up or died before it had told the broker of us: then nobody may know of us, and we go. If it died right after, the
 * broker's copy keeps the keeper open and nobody will ever send K_BOOT: that takes a moment, so a long wait tells. */
static int wait_for_boot(void)
{
	struct pollfd p = { .fd = INIT_FD_KEEPER, .events = POLLIN };

	int r;

	while ((r = poll(&p, 1, BOOT_WAIT_MS)) < 0)
		if (errno != EINTR)
			return -errno;
	if (r == 0)
		return -ETIMEDOUT;
	return (p.revents & POLLIN) != 0 && (p.revents & (POLLERR | POLLNVAL)) == 0 ? 0 : -EPIPE;
}

/* ---- mounts ------------------------------------------------------------------------------------------------------ */

static int set_string(int fs, const char *key, const char *value)
{
	return result(fsconfig(fs, FSCONFIG_SET_STRING, key, value, 0));
}

/* The sandbox's only writable place: its own, private to X, and nothing in it can be executed or gain privilege. */
static int mount_run(const struct wire_lease *lease)
{
	char uid[16], gid[16], label[LABEL_TEXT_MAX];
	cleanup_fd int fs = fsopen("tmpfs", FSOPEN_CLOEXEC), mount = -1;
	int r;

	if (fs < 0)
		return -errno;
	(void)snprintf(uid, sizeof(uid), "%u", lease->uid);
	(void)snprintf(gid, sizeof(gid), "%u", lease->gid);
	r = set_string(fs, "source", "run");
	r = r < 0 ? r : set_string(fs, "size", RUN_SIZE);
	r = r < 0 ? r : set_string(fs, "nr_inodes", RUN_INODES);
	r = r < 0 ? r : set_string(fs, "mode", "0700");
	r = r < 0 ? r : set_string(fs, "uid", uid);
	r = r < 0 ? r : set_string(fs, "gid", gid);
	/* For everything in it, now and later: a file's label with the categories of this sandbox, so that no other VMM can
	 * use it even with the same uid. */
	if (r == 0 && lease->label[0] != '\0')
		r = label_text_file(lease->label, LABEL_RUN_TYPE, label, sizeof(label));
	if (r == 0 && lease->label[0] != '\0')
		r = set_string(fs, "context", label);
	r = r < 0 ? r : result(fsconfig(fs, FSCONFIG_CMD_CREATE, NULL, NULL, 0));
	if (r < 0)
		return r;
	mount = fsmount(fs, FSMOUNT_CLOEXEC, MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC);
	if (mount < 0)
		return -errno;
	return result(move_mount(mount, "", AT_FDCWD, "/run", MOVE_MOUNT_F_EMPTY_PATH));
}

/* The template has the node for those who are granted it; for everybody else a file that cannot be opened lies over it. */
static int hide_kvm(void)
{
	cleanup_fd int tree = -1;

	if (access("/dev/kvm", F_OK) < 0)
		return errno == ENOENT ? 0 : -errno;
	tree = open_tree(AT_FDCWD, "/dev/none", OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC);
	if (tree < 0)
		return -errno;
	return result(move_mount(tree, "", AT_FDCWD, "/dev/kvm", MOVE_MOUNT_F_EMPTY_PATH));
}

/* For init's receipt: the processes of this sandbox, nothing of the kernel, mounted nowhere. The one of nobody that the
 * template has is what allows us to mount ours; after that it may be read-only like everything else. */
static int make_procfs(void)
{
	struct mount_attr read_only = { .attr_set = MOUNT_ATTR_RDONLY };
	cleanup_fd int fs = fsopen("proc", FSOPEN_CLOEXEC), mount = -1;
	int r;

	if (fs < 0)
		return -errno;
	r = set_string(fs, "subset", "pid");
	r = r < 0 ? r : result(fsconfig(fs, FSCONFIG_CMD_CREATE, NULL, NULL, 0));
	if (r < 0)
		return r;
	mount = fsmount(fs, FSMOUNT_CLOEXEC, MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC);
	if (mount < 0)
		return -errno;
	r = result(dup3(mount, INIT_FD_PROCFS, 0));
	return r < 0 ? r : result(mount_setattr(AT_FDCWD, "/proc", 0, &read_only, sizeof(read_only)));
}

/* ---- limits, capabilities ---------------------------------------------------------------------------------------- */

static int set_limit(int resource, rlim_t value)
{
	struct rlimit limit;

	if (getrlimit(resource, &limit) < 0)
		return -errno;
	/* Never upwards: that would need a capability over the host. */
	if (limit.rlim_max == RLIM_INFINITY || limit.rlim_max > value)
		limit.rlim_max = value;
	limit.rlim_cur = limit.rlim_max;
	return result(setrlimit(resource, &limit));
}

static int set_limits(const struct wire_lease *lease)
{
	rlim_t processes =
		lease->limits[0].pids > 0 && lease->limits[0].pids < NPROC_MAX ? lease->limits[0].pids : NPROC_MAX;
	int r;

	r = set_limit(RLIMIT_CORE, 0); /* guest memory does not belong on the host's disk */
	r = r < 0 ? r : set_limit(RLIMIT_NOFILE, NOFILE_MAX);
	r = r < 0 ? r : set_limit(RLIMIT_NPROC, processes);
	r = r < 0 ? r : set_limit(RLIMIT_MEMLOCK, MEMLOCK_MAX);
	r = r < 0 ? r : set_limit(RLIMIT_MSGQUEUE, 0);
	r = r < 0 ? r : set_limit(RLIMIT_RTPRIO, 0);
	return r < 0 ? r : set_limit(RLIMIT_NICE, 0);
}

static int set_groups(const struct drop *d)
{
	gid_t kvm = d->kvm_gid;

	/* Called even for none: until then we carry the groups of whoever started the spawner. */
	return result(setgroups(d->lease->grants[WIRE_GRANT_KVM] == WIRE_BY_BY_GROUP ? 1 : 0, &kvm));
}

static int drop_bounding(void)
{
	int cap = 0;

	while (prctl(PR_CAPBSET_DROP, cap, 0, 0, 0) == 0)
		cap++;
	/* EINVAL is the kernel's word for "no such capability"; verify() sees whether the set is empty. */
	return errno == EINVAL && cap > CAP_AUDIT_READ ? 0 : -errno;
}

static int clear_capabilities(void)
{
	struct __user_cap_header_struct head = { .version = _LINUX_CAPABILITY_VERSION_3 };
	struct __user_cap_data_struct none[_LINUX_CAPABILITY_U32S_3] = { { 0, 0, 0 } };

	return result(syscall(SYS_capset, &head, none));
}

/* All sets at once, as the kernel prints them, bits that we have no name for included. The name of the process, the only
 * text here that is not the kernel's own, is ours, and comes without a line's end. */
static int verify_capabilities(void)
{
	static const char *const lines[] = { "\nCapInh:\t0000000000000000\n", "\nCapPrm:\t0000000000000000\n",
					     "\nCapEff:\t0000000000000000\n", "\nCapBnd:\t0000000000000000\n",
					     "\nCapAmb:\t0000000000000000\n", "\nNoNewPrivs:\t1\n" };
	char status[STATUS_BYTES];
	cleanup_fd int fd = openat(INIT_FD_PROCFS, "self/status", O_RDONLY | O_CLOEXEC);
	ssize_t n = fd < 0 ? -1 : read(fd, status, sizeof(status) - 1);

	if (n < 0)
		return -errno;
	status[n] = '\0';
	for (size_t i = 0; i < ARRAY_SIZE(lines); i++)
		if (strstr(status, lines[i]) == NULL)
			return -EPERM;
	return 0;
}

/* Read back what the steps above claim; a filter or a module that answered for the kernel is found here. */
static int verify(const struct drop *d)
{
	bool group = d->lease->grants[WIRE_GRANT_KVM] == WIRE_BY_BY_GROUP;
	uid_t uid = d->lease->uid, u[3];
	gid_t gid = d->lease->gid, g[3], groups[2];
	int n;

	if (getresuid(&u[0], &u[1], &u[2]) < 0 || getresgid(&g[0], &g[1], &g[2]) < 0)
		return -errno;
	n = getgroups(ARRAY_SIZE(groups), groups);
	if (u[0] != uid || u[1] != uid || u[2] != uid || g[0] != gid || g[1] != gid || g[2] != gid)
		return -EPERM;
	if (n != (group ? 1 : 0) || (group && groups[0] != d->kvm_gid))
		return -EPERM;
	if (prctl(PR_GET_SECUREBITS, 0, 0, 0, 0) != SECUREBITS || prctl(PR_GET_DUMPABLE, 0, 0, 0, 0) != 0)
		return -EPERM;
	return verify_capabilities();
}

/* ---- the order --------------------------------------------------------------------------------------------------- */

_Noreturn void drop_and_exec(const struct drop *d)
{
	struct dropping s = { d->lease->id, d->control, d->keeper, SPAWNER_FD_FAULT, STEP_NONE };
	char *const argv[] = { (char[]){ "postern-init" }, NULL }, *const environment[] = { NULL };
	bool node =
		d->lease->grants[WIRE_GRANT_KVM] == WIRE_BY_BY_NODE || d->lease->grants[WIRE_GRANT_KVM] == WIRE_BY_BY_GROUP;

	/* First, so that no later mistake can touch another sandbox or P. The descriptors we keep are this one's own. */
	begin(&s, STEP_DROP_FDS);
	check(&s, place_descriptors(d));
	s.control = INIT_FD_CONTROL;
	s.keeper = INIT_FD_KEEPER;
	s.fault = INIT_FD_FAULT;
	check(&s, reset_signals());

	/* Without maps there is no uid to become. */
	begin(&s, STEP_DROP_WAIT);
	check(&s, wait_for_boot());

	/* Only now are we in our cgroups; a namespace made by the clone itself would show the spawner's as its root. */
	begin(&s, STEP_CGROUP_ENTER);
	check(&s, result(unshare(CLONE_NEWCGROUP)));

	/* Groups, then gid, then uid: each needs a capability that a change of uid could take. */
	begin(&s, STEP_DROP_GROUPS);
	check(&s, set_groups(d));
	begin(&s, STEP_DROP_GID);
	check(&s, result(setresgid(d->lease->gid, d->lease->gid, d->lease->gid)));
	/* uid 0 is not mapped here, and in direct mode we come from the spawner's uid, not from 0: this is no "root becomes
	 * a user", so without any SECBIT_KEEP_CAPS the capabilities stay for the mounts. */
	begin(&s, STEP_DROP_UID);
	check(&s, result(setresuid(d->lease->uid, d->lease->uid, d->lease->uid)));
	/* Explicitly, since each change of ids resets it, and to a value that a sysctl chooses. */
	begin(&s, STEP_DROP_DUMPABLE);
	check(&s, result(prctl(PR_SET_DUMPABLE, 0, 0, 0, 0)));

	/* The rest of the root is the template, read-only, as the spawner has it. As X, so that what is made is X's. */
	begin(&s, STEP_DROP_MOUNT_RUN);
	check(&s, mount_run(d->lease));
	begin(&s, STEP_DROP_MOUNT_MASK);
	if (!node)
		check(&s, hide_kvm());
	begin(&s, STEP_DROP_PROCFS);
	check(&s, make_procfs());

	begin(&s, STEP_DROP_HOSTNAME);
	check(&s, result(sethostname("sandbox", strlen("sandbox"))));
	begin(&s, STEP_DROP_RLIMITS);
	check(&s, set_limits(d->lease));

	/* From here on privilege only goes. Securebits and the bounding set need CAP_SETPCAP, so they come before capset. */
	begin(&s, STEP_DROP_SECUREBITS);
	check(&s, result(prctl(PR_SET_SECUREBITS, SECUREBITS, 0, 0, 0)));
	begin(&s, STEP_DROP_BOUNDING);
	check(&s, drop_bounding());
	begin(&s, STEP_DROP_AMBIENT);
	check(&s, result(prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0)));
	begin(&s, STEP_DROP_CAPSET);
	check(&s, clear_capabilities());
	/* Last of the drops: nothing executed from now on can gain anything, set-uid or not. */
	begin(&s, STEP_DROP_NNP);
	check(&s, result(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)));

	begin(&s, STEP_DROP_VERIFY);
	check(&s, verify(d));

	/* A program of its own, by descriptor: what parses the plan has never had this process's privilege or memory. */
	begin(&s, STEP_DROP_EXEC);
	(void)syscall(SYS_execveat, DROP_FD_PROGRAM, "", argv, environment, AT_EMPTY_PATH);
	give_up(&s, -errno);
}
