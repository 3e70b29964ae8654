/* SPDX-License-Identifier: Apache-2.0
 * Runs: inside a sandbox (uid X, nothing else). */
#include "self.h"

#include <dirent.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "common/slots.h"

#define FDS_LOOKED_AT 1024
#define GROUPS_MAX 64
#define DEPTH_MAX 3
#define DIRECTORY_MAX 64 /* entries of one directory that are named */
#define TAIL_ROOM 64u    /* what closes the line */

static char report[SELF_REPORT_MAX];
static size_t used;

static void __attribute__((format(printf, 1, 2))) put(const char *format, ...)
{
	va_list args;
	int len;

	va_start(args, format);
	len = vsnprintf(report + used, sizeof(report) - used - TAIL_ROOM, format, args);
	va_end(args);
	/* What does not fit is left out whole. */
	if (len > 0 && (size_t)len < sizeof(report) - used - TAIL_ROOM)
		used += (size_t)len;
	else
		report[used] = '\0';
}

/* A number the kernel may refuse to tell: a filter's EPERM must not read as "none". */
static void put_number(const char *name, int value)
{
	if (value < 0)
		put("\"%s\":null,", name);
	else
		put("\"%s\":%d,", name, value);
}

static void put_ids(void)
{
	uid_t ruid, euid, suid;
	gid_t rgid, egid, sgid, groups[GROUPS_MAX];
	int count = getgroups(GROUPS_MAX, groups);

	if (getresuid(&ruid, &euid, &suid) == 0)
		put("\"uids\":[%u,%u,%u],", ruid, euid, suid);
	else
		put("\"uids\":[%u,%u,null],", getuid(), geteuid());
	if (getresgid(&rgid, &egid, &sgid) == 0)
		put("\"gids\":[%u,%u,%u],", rgid, egid, sgid);
	else
		put("\"gids\":[%u,%u,null],", getgid(), getegid());
	if (count < 0) {
		put("\"groups\":null,");
		return;
	}
	put("\"groups\":[");
	for (int i = 0; i < count; i++)
		put("%s%u", i > 0 ? "," : "", groups[i]);
	put("],");
}

/* A set that is read capability by capability; a capability this kernel does not know is an error, the first is known. */
static void put_set(const char *name, int option, unsigned long operation, const char *end)
{
	uint64_t mask = 0;

	for (unsigned long cap = 0; cap < 64; cap++) {
		int r = option == PR_CAPBSET_READ ? prctl(option, cap, 0, 0, 0) : prctl(option, operation, cap, 0, 0);

		if (r < 0 && cap == 0) {
			put("\"%s\":null%s", name, end);
			return;
		}
		if (r > 0)
			mask |= UINT64_C(1) << cap;
	}
	put("\"%s\":\"%016llx\"%s", name, (unsigned long long)mask, end);
}

static void put_caps(void)
{
	struct __user_cap_header_struct header = { .version = _LINUX_CAPABILITY_VERSION_3 };
	struct __user_cap_data_struct data[2];

	put("\"capabilities\":{");
	if (syscall(SYS_capget, &header, data) == 0)
		put("\"inheritable\":\"%08x%08x\",\"permitted\":\"%08x%08x\",\"effective\":\"%08x%08x\",",
		    data[1].inheritable, data[0].inheritable, data[1].permitted, data[0].permitted, data[1].effective,
		    data[0].effective);
	else
		put("\"inheritable\":null,\"permitted\":null,\"effective\":null,");
	put_set("bounding", PR_CAPBSET_READ, 0, ",");
	put_set("ambient", PR_CAP_AMBIENT, PR_CAP_AMBIENT_IS_SET, "},");
}

static const char *type_of(mode_t mode)
{
	switch (mode & S_IFMT) {
	case S_IFREG:
		return "file";
	case S_IFDIR:
		return "directory";
	case S_IFCHR:
		return "character device";
	case S_IFBLK:
		return "block device";
	case S_IFIFO:
		return "pipe";
	case S_IFSOCK:
		return "socket";
	case S_IFLNK:
		return "link";
	}
	return "other";
}

static const char *access_of(int flags)
{
	if ((flags & O_PATH) != 0)
		return "path";
	switch (flags & O_ACCMODE) {
	case O_RDONLY:
		return "read";
	case O_WRONLY:
		return "write";
	}
	return "both";
}

static void put_fds(void)
{
	const char *comma = "";

	put("\"fds\":[");
	for (int fd = 0; fd < FDS_LOOKED_AT; fd++) {
		int flags = fcntl(fd, F_GETFL);
		struct stat st;

		if (flags < 0)
			continue;
		if (fstat(fd, &st) < 0)
			memset(&st, 0, sizeof(st));
		put("%s{\"fd\":%d,\"type\":\"%s\",\"access\":\"%s\",\"dev\":%llu,\"ino\":%llu}", comma, fd,
		    type_of(st.st_mode), access_of(flags), (unsigned long long)st.st_dev, (unsigned long long)st.st_ino);
		comma = ",";
	}
	put("],");
}

/* A name that needs no escapes; others are shown as "?": there are none in a template. */
static const char *plain(const char *name)
{
	for (const char *p = name; *p != '\0'; p++)
		if (*p < 0x20 || *p > 0x7e || *p == '"' || *p == '\\')
			return "?";
	return name;
}

static void put_tree(const char *path, int depth)
{
	DIR *directory = opendir(path[0] == '\0' ? "/" : path);
	struct dirent *entry;
	int count = 0;

	if (directory == NULL)
		return;
	while ((entry = readdir(directory)) != NULL && count < DIRECTORY_MAX) {
		char below[256];
		int len = snprintf(below, sizeof(below), "%s/%s", path, plain(entry->d_name));

		if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0 || len < 0 ||
		    (size_t)len >= sizeof(below))
			continue;
		count++;
		put("%s\"%s\"", report[used - 1] == '[' ? "" : ",", below);
		/* /usr is the host's; /proc says nothing about what was given. */
		if (depth < DEPTH_MAX && entry->d_type == DT_DIR && strcmp(below, "/proc") != 0 &&
		    strcmp(below, "/usr") != 0)
			put_tree(below, depth + 1);
	}
	(void)closedir(directory);
}

static void put_label(void)
{
	char label[256];
	int fd = open("/proc/self/attr/current", O_RDONLY | O_CLOEXEC);
	ssize_t n = fd < 0 ? -1 : read(fd, label, sizeof(label) - 1);

	if (fd >= 0)
		(void)close(fd);
	if (n <= 0) {
		put("\"label\":null,");
		return;
	}
	label[n] = '\0';
	label[strcspn(label, "\n")] = '\0';
	put("\"label\":\"%s\",", plain(label));
}

const char *self_report(unsigned long id, size_t *ret_len)
{
	DIR *root = opendir("/");
	const char *closing = "";
	size_t variables = 0;
	char cwd[256];

	used = 0;
	while (environ[variables] != NULL)
		variables++;
	put("{\"return\":{");
	put_ids();
	put_caps();
	put_number("no_new_privs", prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0));
	put_number("seccomp", prctl(PR_GET_SECCOMP));
	put_number("dumpable", prctl(PR_GET_DUMPABLE));
	put_number("pid", getpid());
	put_label();
	put_fds();
	put("\"environment\":%zu,\"cwd\":\"%s\",", variables, getcwd(cwd, sizeof(cwd)) != NULL ? plain(cwd) : "?");
	/* A list that may not be read is not an empty one. */
	if (root != NULL && readdir(root) != NULL) {
		put("\"files\":[");
		put_tree("", 1);
		closing = "]";
	} else {
		put("\"files\":null");
	}
	if (root != NULL)
		(void)closedir(root);
	/* TAIL_ROOM was kept for this. */
	used += (size_t)snprintf(report + used, sizeof(report) - used, "%s},\"id\":%lu}\r\n", closing, id);
	*ret_len = used;
	return report;
}
