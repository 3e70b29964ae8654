/* SPDX-License-Identifier: Apache-2.0
 * Runs: start's child (root, in a mount namespace of its own). The root that every sandbox starts in.
 *
 * Built once: /usr read-only, three device nodes, an empty /run to mount on, a procfs of nobody, and what the policy
 * adds. Nothing in it can be written, set-uid bits mean nothing, and the host's files are not below it. Made and entered
 * before P exists: across its border the mounts are locked as they are, so no sandbox can undo a flag. */
#include "start.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/mount.h>
#include <linux/openat2.h>
#include <linux/sched.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>

#include "common/cleanup.h"
#include "common/log.h"
#include "label.h"

static int fail(const char *what)
{
	int r = errno > 0 ? -errno : -EIO;

	log_error("template root: %s: %s", what, strerror(-r));
	return r;
}

/* Attached over the working directory, our private one, which only this mount namespace then sees so. */
static int mount_root(const struct start *s, int *ret_root)
{
	cleanup_fd int fs = fsopen("tmpfs", FSOPEN_CLOEXEC), root = -1;
	char label[LABEL_TEXT_MAX];

	if (label_wanted(s) && (label_file(s, LABEL_ROOT_TYPE, label, sizeof(label)) < 0 || fs < 0 ||
				fsconfig(fs, FSCONFIG_SET_STRING, "rootcontext", label, 0) < 0))
		return fail("label of the tmpfs");
	if (fs < 0 || fsconfig(fs, FSCONFIG_SET_STRING, "mode", "0755", 0) < 0 ||
	    fsconfig(fs, FSCONFIG_SET_STRING, "size", "256k", 0) < 0 ||
	    fsconfig(fs, FSCONFIG_SET_STRING, "nr_inodes", "256", 0) < 0 ||
	    fsconfig(fs, FSCONFIG_CMD_CREATE, NULL, NULL, 0) < 0)
		return fail("tmpfs");
	root = fsmount(fs, FSMOUNT_CLOEXEC, MOUNT_ATTR_NOSUID | MOUNT_ATTR_NOEXEC);
	if (root < 0 || move_mount(root, "", AT_FDCWD, ".", MOVE_MOUNT_F_EMPTY_PATH) < 0)
		return fail("tmpfs");
	*ret_root = fd_take(&root);
	return 0;
}

/* The label is that of the host's node, which a tmpfs would not give it. */
static int make_node(const struct start *s, int root, const char *path, const char *type, mode_t mode, dev_t device)
{
	int r = label_next_files(s, type);

	if (r < 0)
		return r;
	if (mknodat(root, path, S_IFCHR | mode, device) < 0)
		return fail(path);
	return label_next_files(s, NULL);
}

/* Open to all here, and here is only inside sandboxes, where who is not granted it finds it covered. With the group
 * strategy it is the host's own rule: root and the group. */
static int make_kvm(const struct start *s, int root)
{
	bool group = s->table.kvm_gid != WIRE_UID_NONE;
	int r = make_node(s, root, "dev/kvm", "kvm_device_t", group ? 0660 : 0666, makedev(10, 232));
	cleanup_fd int kvm = -1;

	if (r < 0 || !group)
		return r;
	kvm = openat(root, "dev/kvm", O_PATH | O_NOFOLLOW | O_CLOEXEC);
	return kvm < 0 || fchownat(kvm, "", 0, s->table.kvm_gid, AT_EMPTY_PATH) < 0 ? fail("/dev/kvm") : 0;
}

/* Nodes of our own rather than binds of the host's: their modes are ours, and tun is not among them. */
static int make_nodes(const struct start *s, int root)
{
	int r;

	if (mkdirat(root, "dev", 0755) < 0 || mknodat(root, "dev/none", S_IFREG, 0) < 0)
		return fail("/dev");
	r = make_node(s, root, "dev/null", "null_device_t", 0666, makedev(1, 3));
	if (r == 0)
		r = make_node(s, root, "dev/urandom", "urandom_device_t", 0444, makedev(1, 9));
	if (r == 0 && s->table.host.kvm_strategies != 0)
		r = make_kvm(s, root);
	return r;
}

/* Bind from (a path of root's) at to below root, with everything mounted under it, read-only and without privilege. */
static int bind(int root, const char *from, const char *to)
{
	struct mount_attr flags = { .attr_set = MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV,
				    .propagation = MS_PRIVATE };
	struct open_how how = { .flags = O_PATH | O_CLOEXEC, .resolve = RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS };
	cleanup_fd int source = (int)syscall(SYS_openat2, AT_FDCWD, from, &how, sizeof(how)), tree = -1;

	if (source < 0)
		return fail(from);
	tree = open_tree(source, "", AT_EMPTY_PATH | AT_RECURSIVE | OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC);
	if (tree < 0 || mount_setattr(tree, "", AT_EMPTY_PATH | AT_RECURSIVE, &flags, sizeof(flags)) < 0 ||
	    move_mount(tree, "", root, to, MOVE_MOUNT_F_EMPTY_PATH) < 0)
		return fail(from);
	return 0;
}

/* /bin, /lib64...: where the host has links to usr/, the same links; a directory of its own is bound. */
static int link_or_bind(int root, const char *name)
{
	char path[32], target[64];
	struct stat st;
	ssize_t n;

	(void)snprintf(path, sizeof(path), "/%s", name);
	if (lstat(path, &st) < 0)
		return 0;
	if (S_ISDIR(st.st_mode))
		return mkdirat(root, name, 0755) < 0 ? fail(path) : bind(root, path, name);
	n = readlink(path, target, sizeof(target) - 1);
	if (n < 0)
		return fail(path);
	target[n] = '\0';
	return symlinkat(target, root, name) < 0 ? fail(path) : 0;
}

static int make_usr(int root)
{
	static const char *const names[] = { "bin", "sbin", "lib", "lib32", "lib64", "libx32" };
	int r;

	if (mkdirat(root, "usr", 0755) < 0 || mkdirat(root, "run", 0755) < 0 || mkdirat(root, "proc", 0555) < 0)
		return fail("directories");
	r = bind(root, "/usr", "usr");
	for (size_t i = 0; r == 0 && i < ARRAY_SIZE(names); i++)
		r = link_or_bind(root, names[i]);
	return r;
}

/* The place for a policy's bind: directories down to it, and a directory or file to mount on. */
static int make_place(int root, const char *path, bool directory)
{
	char copy[sizeof(((struct policy *)0)->binds[0])];
	int fd;

	(void)snprintf(copy, sizeof(copy), "%s", path + 1);
	for (char *slash = strchr(copy, '/'); slash != NULL; slash = strchr(slash + 1, '/')) {
		*slash = '\0';
		if (mkdirat(root, copy, 0755) < 0 && errno != EEXIST)
			return -errno;
		*slash = '/';
	}
	if (directory)
		return mkdirat(root, copy, 0755) < 0 && errno != EEXIST ? -errno : 0;
	fd = openat(root, copy, O_WRONLY | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0444);
	if (fd < 0)
		return -errno;
	fd_close(&fd);
	return 0;
}

static int make_binds(const struct start *s, int root)
{
	int r = 0;

	for (size_t i = 0; r == 0 && i < s->policy.bind_count; i++) {
		const char *path = s->policy.binds[i];
		struct stat st;

		if (strncmp(path, "/usr/", 5) == 0)
			continue; /* there already */
		if (lstat(path, &st) < 0 || (!S_ISDIR(st.st_mode) && !S_ISREG(st.st_mode))) {
			log_error("policy: template bind %s: not a file or directory", path);
			return -ENOENT;
		}
		r = make_place(root, path, S_ISDIR(st.st_mode));
		if (r < 0) {
			log_error("policy: template bind %s: no place for it in the template: %s", path, strerror(-r));
			return r;
		}
		r = bind(root, path, path + 1);
	}
	return r;
}

/* A sandbox may mount a procfs only where one is fully visible already. This one belongs to a pid namespace whose only
 * process, the one that mounts it here, is gone a moment later: it shows nobody, ever. */
static int mount_dead_procfs(int root)
{
	struct clone_args args = { .flags = CLONE_NEWPID, .exit_signal = SIGCHLD };
	int status = 0;
	long pid = syscall(SYS_clone3, &args, sizeof(args));

	if (pid == 0) {
		int fs = fsopen("proc", FSOPEN_CLOEXEC), mount = -1;

		if (fs >= 0 && fsconfig(fs, FSCONFIG_SET_STRING, "subset", "pid", 0) == 0 &&
		    fsconfig(fs, FSCONFIG_CMD_CREATE, NULL, NULL, 0) == 0)
			mount = fsmount(fs, FSMOUNT_CLOEXEC, MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC);
		_exit(mount >= 0 && move_mount(mount, "", root, "proc", MOVE_MOUNT_F_EMPTY_PATH) == 0 ? 0 : errno & 0x7f);
	}
	if (pid < 0 || waitpid((pid_t)pid, &status, 0) < 0)
		return fail("procfs");
	if (!WIFEXITED(status) || WEXITSTATUS(status) != 0) {
		errno = WEXITSTATUS(status);
		return fail("procfs");
	}
	return 0;
}

/* A hypervisor that cannot be found inside is a policy that cannot work; better said now than at every launch. */
static void check_hypervisors(const struct start *s)
{
	for (size_t i = 0; i < s->policy.hypervisor_count; i++)
		if (access(s->policy.hypervisors[i].path, X_OK) < 0)
			log_warn("hypervisor \"%s\": %s cannot be executed inside a sandbox: %m (add its directory to the "
				 "policy's "
				 "template binds?)",
				 s->policy.hypervisors[i].name, s->policy.hypervisors[i].path);
}

int template_enter(const struct start *s)
{
	struct mount_attr read_only = { .attr_set = MOUNT_ATTR_RDONLY };
	cleanup_fd int root = -1;
	int r;

	/* Nothing of this may reach the host, and nothing the host mounts later may reach the sandboxes. The descriptor of
	 * the directory stays with the old namespace, the working directory comes along. */
	if (fchdir(s->private_dir) < 0 || unshare(CLONE_NEWNS) < 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0)
		return fail("mount namespace");
	(void)umask(0);
	r = mount_root(s, &root);
	if (r == 0)
		r = make_nodes(s, root);
	if (r == 0)
		r = make_usr(root);
	if (r == 0)
		r = make_binds(s, root);
	if (r == 0)
		r = mount_dead_procfs(root);
	(void)umask(077);
	if (r < 0)
		return r;
	if (mount_setattr(root, "", AT_EMPTY_PATH, &read_only, sizeof(read_only)) < 0)
		return fail("read-only");
	/* Now, as root of the host: after crossing into P a pivot is refused. */
	if (fchdir(root) < 0 || syscall(SYS_pivot_root, ".", ".") < 0 || umount2(".", MNT_DETACH) < 0 || chdir("/") < 0)
		return fail("pivot_root");
	check_hypervisors(s);
	return 0;
}
