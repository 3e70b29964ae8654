/* SPDX-License-Identifier: Apache-2.0
 * Runs: broker, once, before the first client is heard. */
#include "confine.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "common/log.h"
#include "policy/policy.h"

#define DESCRIPTORS_USEFUL 16384 /* two for each lease and each session there can be, and some */
#define GROUPS_USEFUL 8          /* its own and those of two nodes, and room to see a surplus */
#define STATUS_MAX 8192

static _Noreturn void die(const char *what, int error)
{
	log_error("cannot confine the broker: %s%s%s", what, error != 0 ? ": " : "", error != 0 ? strerror(error) : "");
	_exit(1);
}

int confine_descriptors(size_t *ret_limit)
{
	struct rlimit limit;

	if (getrlimit(RLIMIT_NOFILE, &limit) < 0)
		return -errno;
	limit.rlim_cur = limit.rlim_max < DESCRIPTORS_USEFUL ? limit.rlim_max : DESCRIPTORS_USEFUL;
	limit.rlim_max = limit.rlim_cur;
	if (setrlimit(RLIMIT_NOFILE, &limit) < 0)
		return -errno;
	*ret_limit = (size_t)limit.rlim_cur;
	return 0;
}

/* A supplementary group is there to open a vhost node and for nothing else; root's is never one. */
static bool group_needed(gid_t group)
{
	static const char *const nodes[] = { "/dev/vhost-net", "/dev/vhost-vsock" };
	struct stat st;

	for (size_t i = 0; i < ARRAY_SIZE(nodes); i++)
		if (group != 0 && stat(nodes[i], &st) == 0 && st.st_gid == group)
			return true;
	return false;
}

/* postern-start became us by exec, having given up root; a broker started in any other way would keep its caller's ids. */
static void check_ids(uid_t uid, gid_t gid)
{
	gid_t groups[GROUPS_USEFUL];
	uid_t r, e, s;
	gid_t rg, eg, sg;
	int count;

	if (getresuid(&r, &e, &s) < 0 || getresgid(&rg, &eg, &sg) < 0)
		die("read our ids", errno);
	if (uid == 0 || r != uid || e != uid || s != uid)
		die("not running as the broker's user of the policy (start it with postern-start)", 0);
	if (rg != gid || eg != gid || sg != gid)
		die("not running as the broker's group of the policy (start it with postern-start)", 0);
	count = getgroups(GROUPS_USEFUL, groups);
	if (count < 0)
		die("more supplementary groups than the broker has any use for", 0);
	for (int i = 0; i < count; i++)
		if (groups[i] != gid && !group_needed(groups[i]))
			die("in a supplementary group that is neither its own nor a vhost node's", 0);
}

/* Bounding set first: dropping from it takes CAP_SETPCAP, which the next step would take away. When we have none, as it
 * should be, postern-start has emptied the set already and there is nothing to drop. */
static void drop_capabilities(void)
{
	struct __user_cap_header_struct header = { .version = _LINUX_CAPABILITY_VERSION_3 };
	const struct __user_cap_data_struct none[2] = { { 0 }, { 0 } };

	for (unsigned long cap = 0; prctl(PR_CAPBSET_READ, cap, 0, 0, 0) >= 0; cap++)
		if (prctl(PR_CAPBSET_READ, cap, 0, 0, 0) == 1 && prctl(PR_CAPBSET_DROP, cap, 0, 0, 0) < 0)
			die("empty the bounding set (postern-start does that)", errno);
	if (prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0) < 0)
		die("clear the ambient set", errno);
	if (syscall(SYS_capset, &header, none) < 0)
		die("clear the capability sets", errno);
}

static void limit(int resource, const char *what)
{
	const struct rlimit zero = { 0, 0 };

	if (setrlimit((__rlimit_resource_t)resource, &zero) < 0)
		die(what, errno);
}

static void load_filter(void)
{
	size_t count;
	const struct sock_filter *filter = syscall_profile_program(PROFILE_BROKER, &count);
	struct sock_fprog program = { .len = (unsigned short)count, .filter = (struct sock_filter *)(uintptr_t)filter };

	if (filter == NULL || count == 0 || count > BPF_MAXINSNS)
		die("the broker's syscall filter is not built in", 0);
	if (prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program, 0, 0) < 0)
		die("load the syscall filter", errno);
}

/* The lines of /proc/self/status as they must be. A program that believes its own return codes is how fail-open drops
 * happen (ATTACKS D15). */
static void verify(int status, uid_t uid, gid_t gid)
{
	static const char *const wanted[] = {
		"\nCapInh:\t0000000000000000\n",
		"\nCapPrm:\t0000000000000000\n",
		"\nCapEff:\t0000000000000000\n",
		"\nCapBnd:\t0000000000000000\n",
		"\nCapAmb:\t0000000000000000\n",
		"\nNoNewPrivs:\t1\n",
		"\nSeccomp:\t2\n",
	};
	char text[STATUS_MAX], ids[128];
	ssize_t n = pread(status, text, sizeof(text) - 1, 0);

	if (n <= 0)
		die("read /proc/self/status", n < 0 ? errno : 0);
	text[n] = '\0';
	for (size_t i = 0; i < ARRAY_SIZE(wanted); i++)
		if (strstr(text, wanted[i]) == NULL)
			die(wanted[i], 0);
	(void)snprintf(ids, sizeof(ids), "\nUid:\t%u\t%u\t%u\t%u\nGid:\t%u\t%u\t%u\t%u\n", uid, uid, uid, uid, gid, gid, gid,
		       gid);
	if (strstr(text, ids) == NULL)
		die("the kernel shows other ids than ours", 0);
}

void confine_enter(uid_t uid, gid_t gid)
{
	cleanup_fd int status = -1;

	/* Who we are comes first: nothing below could put it right. */
	check_ids(uid, gid);
	limit(RLIMIT_CORE, "forbid core files"); /* they would hold what other users asked for */
	limit(RLIMIT_NPROC, "forbid processes"); /* the filter does too; two locks */
	drop_capabilities();
	/* Before the filter, which the kernel takes from the unprivileged only with this. */
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
		die("set no_new_privs", errno);
	/* After the last change of ids and capabilities, each of which sets it anew. A process of the same uid (there should
	 * be none) can then neither trace us nor take our descriptors. */
	if (prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) < 0 || prctl(PR_GET_DUMPABLE, 0, 0, 0, 0) != 0)
		die("clear dumpable", errno);
	/* Opened before the filter and read after it: the text is made when it is read. */
	status = open("/proc/self/status", O_RDONLY | O_CLOEXEC);
	if (status < 0)
		die("open /proc/self/status", errno);
	load_filter();
	verify(status, uid, gid);
}
