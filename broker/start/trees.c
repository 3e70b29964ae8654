/* SPDX-License-Identifier: Apache-2.0
 * Runs: start (root, for a moment). Detached mounts that the spawner carries as descriptors: no sandbox can see them,
 * they are in nobody's mount namespace. */
#include "start.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/mount.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include "common/cleanup.h"
#include "common/log.h"
#include "label.h"

static int set(int fs, const char *key, const char *value)
{
	return fsconfig(fs, FSCONFIG_SET_STRING, key, value, 0) < 0 ? -errno : 0;
}

static int mounted(int fs, unsigned attributes, int *ret_fd)
{
	if (fsconfig(fs, FSCONFIG_CMD_CREATE, NULL, NULL, 0) < 0)
		return -errno;
	*ret_fd = fsmount(fs, FSMOUNT_CLOEXEC, attributes);
	return *ret_fd < 0 ? -errno : 0;
}

/* The host's processes, since that is the pid namespace we are in: the spawner needs the map files of its children.
 * Others' processes are hidden from it, and so is everything in /proc that is no process. */
static int make_procfs(struct start *s)
{
	cleanup_fd int fs = fsopen("proc", FSOPEN_CLOEXEC);
	int r = fs < 0 ? -errno : set(fs, "subset", "pid");

	if (r == 0)
		r = set(fs, "hidepid", "invisible");
	return r < 0 ? r : mounted(fs, MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC, &s->p[P_PROCFS]);
}

/* The tun node for the spawner alone. Any of our ids may open it, since taps are opened as the sandbox's (the directory
 * cannot be reached without its descriptor), and opening it gives nothing without CAP_NET_ADMIN. */
static int make_private(struct start *s)
{
	struct mount_attr read_only = { .attr_set = MOUNT_ATTR_RDONLY };
	cleanup_fd int fs = fsopen("tmpfs", FSOPEN_CLOEXEC);
	char label[LABEL_TEXT_MAX];
	mode_t before;
	int r = fs < 0 ? -errno : set(fs, "mode", "0711");

	if (r == 0 && label_wanted(s))
		r = label_file(s, LABEL_ROOT_TYPE, label, sizeof(label));
	if (r == 0 && label_wanted(s))
		r = set(fs, "rootcontext", label);
	if (r == 0)
		r = mounted(fs, MOUNT_ATTR_NOSUID | MOUNT_ATTR_NOEXEC, &s->p[P_PRIVATE]);
	if (r < 0)
		return r;
	r = label_next_files(s, "tun_tap_device_t");
	if (r < 0)
		return r;
	before = umask(0);
	r = mknodat(s->p[P_PRIVATE], "tun", S_IFCHR | 0666, makedev(10, 200)) < 0 ? -errno : 0;
	(void)umask(before);
	if (r == 0)
		r = label_next_files(s, NULL);
	if (r < 0)
		return r;
	return mount_setattr(s->p[P_PRIVATE], "", AT_EMPTY_PATH, &read_only, sizeof(read_only)) < 0 ? -errno : 0;
}

int trees_make(struct start *s)
{
	int r = make_procfs(s);

	if (r < 0) {
		log_error("procfs for the spawner: %s (Linux 5.14 is needed)", strerror(-r));
		return r;
	}
	r = make_private(s);
	if (r < 0)
		log_error("tmpfs for the spawner: %s", strerror(-r));
	return r;
}
