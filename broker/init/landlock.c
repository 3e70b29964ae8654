/* SPDX-License-Identifier: Apache-2.0
 * Runs: the VMM's process, before its exec (uid X, no capability). The VMM's own Landlock layer: init has none, so the
 * scopes also keep the VMM from signalling init, which has the same uid.
 *
 * Numbers and structs are our own copies of the kernel's interface: the headers of the build host may be older than
 * the kernel that runs it. */
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <string.h>
#include <sys/syscall.h>

#include "init.h"

#define CREATE_VERSION 1u
#define RULE_PATH_BENEATH 1
enum {
	FS_EXECUTE = 1 << 0,
	FS_WRITE_FILE = 1 << 1,
	FS_READ_FILE = 1 << 2,
	FS_READ_DIR = 1 << 3,
	FS_TRUNCATE = 1 << 14,
	FS_IOCTL_DEV = 1 << 15,
};
#define FS_ABI1 ((1u << 13) - 1) /* EXECUTE to MAKE_SYM */
#define NET_BIND_AND_CONNECT_TCP 3u
#define SCOPE_ABSTRACT_UNIX_AND_SIGNAL 3u

struct ruleset_attr {
	uint64_t fs, net, scoped;
};

struct path_beneath_attr {
	uint64_t access;
	int32_t parent_fd;
} __attribute__((packed));

int landlock_abi(void)
{
	long abi = syscall(SYS_landlock_create_ruleset, NULL, 0, CREATE_VERSION);

	return abi < 0 ? 0 : abi > UINT8_MAX ? UINT8_MAX : (int)abi;
}

/* Handle everything this ABI can handle: what is handled and has no rule is refused. */
static int make_ruleset(int abi, struct ruleset_attr *attr)
{
	size_t size = abi >= 6   ? sizeof(*attr)
		      : abi >= 4 ? offsetof(struct ruleset_attr, scoped)
				 : offsetof(struct ruleset_attr, net);
	long fd;

	attr->fs = FS_ABI1 | (abi >= 2 ? 1u << 13 : 0) | (abi >= 3 ? FS_TRUNCATE : 0) | (abi >= 5 ? FS_IOCTL_DEV : 0);
	attr->net = abi >= 4 ? NET_BIND_AND_CONNECT_TCP : 0;
	attr->scoped = abi >= 6 ? SCOPE_ABSTRACT_UNIX_AND_SIGNAL : 0;
	fd = syscall(SYS_landlock_create_ruleset, attr, size, 0);
	return fd < 0 ? -errno : (int)fd;
}

struct rule {
	const char *path;
	uint32_t access;
	bool needed; /* otherwise: where it exists */
};

static int add_rule(int ruleset, const struct ruleset_attr *attr, const struct rule *rule)
{
	cleanup_fd int fd = open(rule->path, O_PATH | O_CLOEXEC);
	struct path_beneath_attr beneath = { .access = rule->access & attr->fs, .parent_fd = fd };

	if (fd < 0)
		return errno == ENOENT && !rule->needed ? 0 : -errno;
	return syscall(SYS_landlock_add_rule, ruleset, RULE_PATH_BENEATH, &beneath, 0) < 0 ? -errno : 0;
}

/* What a program needs to start and to find its own data. Nothing is writable but the null device and, when granted,
 * kvm. Only the VMM itself and the dynamic loaders may be executed; a loader started by hand can map what is readable
 * (libraries), with the same uid, layer and filter: nothing is won by it. */
static const struct rule common_rules[] = {
	{ "/lib64/ld-linux-x86-64.so.2", FS_EXECUTE | FS_READ_FILE, false },
	{ "/lib/ld-linux-aarch64.so.1", FS_EXECUTE | FS_READ_FILE, false },
	{ "/lib/ld-musl-x86_64.so.1", FS_EXECUTE | FS_READ_FILE, false },
	{ "/usr/lib", FS_READ_FILE | FS_READ_DIR, false },
	{ "/usr/lib64", FS_READ_FILE | FS_READ_DIR, false },
	{ "/usr/share", FS_READ_FILE | FS_READ_DIR, false },
	{ "/run", FS_READ_FILE | FS_READ_DIR, true },
	{ "/dev/null", FS_READ_FILE | FS_WRITE_FILE, true },
	{ "/dev/urandom", FS_READ_FILE, false },
};

int landlock_apply(const struct wire_boot *boot)
{
	struct rule vmm = { boot->path, FS_EXECUTE | FS_READ_FILE, true };
	struct rule kvm = { "/dev/kvm", FS_READ_FILE | FS_WRITE_FILE | FS_IOCTL_DEV, true };
	char directory[sizeof(boot->path)];
	struct rule data = { directory, FS_READ_FILE | FS_READ_DIR, true };
	struct ruleset_attr attr;
	int abi = landlock_abi();
	cleanup_fd int ruleset = -1;
	char *slash;
	int r = 0;

	if (abi == 0) /* the policy decided that this host may lack it, and the lease says so; anything else is a failure */
		return wire_outcome_ok(boot->lease[0].grants[WIRE_GRANT_LANDLOCK]) ? -EOPNOTSUPP : 0;
	ruleset = make_ruleset(abi, &attr);
	if (ruleset < 0)
		return ruleset;
	for (size_t i = 0; i < ARRAY_SIZE(common_rules) && r == 0; i++)
		r = add_rule(ruleset, &attr, &common_rules[i]);
	if (r == 0)
		r = add_rule(ruleset, &attr, &vmm);
	/* A VMM in a template bind of its own (/opt/x/vmm) has its libraries beside it; under /usr the rules above do. */
	(void)memcpy(directory, boot->path, sizeof(directory));
	slash = strrchr(directory, '/');
	if (r == 0 && slash != NULL && slash != directory && strncmp(directory, "/usr/", 5) != 0) {
		*slash = '\0';
		r = add_rule(ruleset, &attr, &data);
	}
	if (r == 0 && (boot->kvm_node != 0 || boot->kvm_group != 0))
		r = add_rule(ruleset, &attr, &kvm);
	if (r < 0)
		return r;
	return syscall(SYS_landlock_restrict_self, ruleset, 0) < 0 ? -errno : 0;
}
