/* SPDX-License-Identifier: Apache-2.0
 * Runs: start (root, for a moment). What this machine can do, asked of the kernel; absence is reported, not fatal, unless
 * the policy requires the thing. */
#include "start.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/kvm.h>
#include <linux/landlock.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "common/log.h"
#include "policy/id_range.h"

#define KVM_API 12
#define SUBUID_FILE "/etc/subuid"
#define LANDLOCK_NEWEST 6 /* scopes: what the second layer of a VMM wants */

/* ---- modules ---------------------------------------------------------------------------------------------------- */

static void modprobe(const char *module)
{
	char *const argv[] = { (char[]){ "modprobe" }, (char[]){ "-q" }, (char[]){ "--" }, strdupa(module), NULL };
	char *const environment[] = { (char[]){ "PATH=/usr/sbin:/usr/bin:/sbin:/bin" }, NULL };
	pid_t pid = fork();

	if (pid == 0) {
		(void)execve("/sbin/modprobe", argv, environment);
		_exit(EXIT_FAILURE);
	}
	/* Whether it worked shows when the thing is used. */
	if (pid > 0)
		(void)waitpid(pid, NULL, 0);
}

/* Inside P nothing can load a module any more, so what a sandbox may need is loaded here. */
void host_load_modules(void)
{
	static const struct {
		const char *module, *loaded;
	} wanted[] = {
		{ "bridge", "/sys/module/bridge" },
		{ "veth", "/sys/module/veth" },
		{ "cls_bpf", "/sys/module/cls_bpf" },
		{ "sch_ingress", "/sys/module/sch_ingress" },
		{ "tun", "/sys/module/tun" },
		{ "vhost_net", "/sys/module/vhost_net" },
		{ "vhost_vsock", "/sys/module/vhost_vsock" },
	};

	if (access("/proc/modules", F_OK) < 0)
		return; /* a kernel without modules has everything or will never have it */
	for (size_t i = 0; i < ARRAY_SIZE(wanted); i++)
		if (access(wanted[i].loaded, F_OK) < 0)
			modprobe(wanted[i].module);
}

/* ---- nodes ------------------------------------------------------------------------------------------------------ */

static bool character_node(const char *path, struct stat *ret)
{
	return stat(path, ret) == 0 && S_ISCHR(ret->st_mode);
}

static bool kvm_answers(void)
{
	cleanup_fd int fd = open("/dev/kvm", O_RDWR | O_CLOEXEC);

	return fd >= 0 && ioctl(fd, KVM_GET_API_VERSION, 0ul) == KVM_API;
}

/* Which ways to /dev/kvm would work; the policy may force one. By descriptor and by a node of our own in the template need
 * nobody's group, so the group is used only when the policy says so. Never gid 0: that is root's own group. */
static enum wire_outcome probe_kvm(struct start *s)
{
	gid_t group;
	struct stat st;

	if (!character_node("/dev/kvm", &st))
		return WIRE_BY_NO_NODE;
	if (!kvm_answers())
		return WIRE_BY_NO_KERNEL;
	group = s->policy.kvm_gid_set ? s->policy.kvm_gid : st.st_gid;
	switch (s->policy.kvm) {
	case POLICY_KVM_AUTO:
		s->table.host.kvm_strategies = HOST_KVM_FD | HOST_KVM_NODE;
		return WIRE_BY_BY_NODE;
	case POLICY_KVM_FD:
		s->table.host.kvm_strategies = HOST_KVM_FD;
		return WIRE_BY_BY_FD;
	case POLICY_KVM_NODE:
		s->table.host.kvm_strategies = HOST_KVM_NODE;
		return WIRE_BY_BY_NODE;
	case POLICY_KVM_GROUP:
		break;
	}
	if (group == 0) {
		log_warn("kvm by group: the group would be root's; set \"daemon.kvm_group\" or give /dev/kvm a group");
		return WIRE_BY_NO_ACCESS;
	}
	s->table.kvm_gid = group;
	s->table.host.kvm_strategies = HOST_KVM_GROUP;
	return WIRE_BY_BY_GROUP;
}

/* The broker opens these itself, at run time, as an ordinary member of their group. */
static enum wire_outcome probe_vhost(struct start *s, const char *path)
{
	bool have = false;
	struct stat st;

	if (!character_node(path, &st))
		return WIRE_BY_NO_NODE;
	if ((st.st_mode & 06) == 06 || st.st_uid == s->policy.broker_uid)
		return WIRE_BY_BY_FD;
	if (st.st_gid == 0 || (st.st_mode & 060) != 060)
		return WIRE_BY_NO_ACCESS;
	for (size_t i = 0; i < s->group_count; i++)
		have = have || s->groups[i] == st.st_gid;
	if (!have && s->group_count < ARRAY_SIZE(s->groups))
		s->groups[s->group_count++] = st.st_gid;
	return WIRE_BY_BY_FD;
}

/* ---- the rest --------------------------------------------------------------------------------------------------- */

static enum wire_outcome probe_landlock(struct start *s)
{
	long abi = syscall(SYS_landlock_create_ruleset, NULL, 0, LANDLOCK_CREATE_RULESET_VERSION);

	if (abi <= 0)
		return WIRE_BY_NO_KERNEL;
	s->table.host.landlock_abi = (uint32_t)abi;
	return abi >= LANDLOCK_NEWEST ? WIRE_BY_GRANTED : WIRE_BY_PARTIAL;
}

/* CGROUP and PORT_FILTER are filled in where they are set up, LABEL by label_decide(); here is what is known without
 * changing anything. */
void host_probe(struct start *s)
{
	uint8_t *out = s->table.host.outcomes;
	struct stat st;

	out[WIRE_GRANT_KVM] = probe_kvm(s);
	out[WIRE_GRANT_TAP] = character_node("/dev/net/tun", &st) ? WIRE_BY_GRANTED : WIRE_BY_NO_NODE;
	out[WIRE_GRANT_VHOST_NET] = probe_vhost(s, "/dev/vhost-net");
	out[WIRE_GRANT_VHOST_VSOCK] = probe_vhost(s, "/dev/vhost-vsock");
	out[WIRE_GRANT_LANDLOCK] = probe_landlock(s);
}

/* A process keeps its groups when it becomes one of its user's subordinate uids: with one quota each, 65536 of them
 * would be 65536 users. The broker cannot read the file, so it gets the ranges. */
int host_subordinate_ids(struct start *s)
{
	struct id_span spans[TABLE_SUBIDS];
	struct host_table *host = &s->table.host;
	size_t count;
	int r = id_range_subordinate(SUBUID_FILE, spans, ARRAY_SIZE(spans), &count);

	if (r < 0) {
		if (r == -ENOSPC)
			log_error("%s: more than %zu ranges that do not touch; give users adjacent ones", SUBUID_FILE,
				  ARRAY_SIZE(spans));
		else
			log_error("%s: %s", SUBUID_FILE, strerror(-r));
		return r;
	}
	for (size_t i = 0; i < count; i++) {
		host->subids[i].first = spans[i].first;
		host->subids[i].count = spans[i].last - spans[i].first + 1;
	}
	host->subid_count = (uint32_t)count;
	return 0;
}

int host_check_required(const struct start *s)
{
	int r = 0;

	for (unsigned grant = 0; grant < WIRE_GRANT_COUNT; grant++) {
		uint8_t outcome = s->table.host.outcomes[grant];

		/* Limits by rlimit alone are what "cgroup" may be required not to be. What was not tried yet (port filters)
		 * the broker requires of each sandbox that needs it. */
		if ((s->policy.required & 1u << grant) == 0 || outcome == WIRE_BY_NOT_ASKED ||
		    (wire_outcome_ok(outcome) && !(grant == WIRE_GRANT_CGROUP && outcome == WIRE_BY_BY_RLIMIT)))
			continue;
		log_error("the policy requires \"%s\", but: %s", wire_grant_name(grant), wire_outcome_text(outcome));
		r = -ENOTSUP;
	}
	return r;
}

void host_print(const struct start *s)
{
	for (unsigned grant = 0; grant < WIRE_GRANT_COUNT; grant++) {
		bool later = grant == WIRE_GRANT_PORT_FILTER && s->policy.network_count > 0;

		(void)printf("%-12s %s%s\n", wire_grant_name(grant),
			     later ? "tried on the bridge, when it is made"
				   : wire_outcome_text(s->table.host.outcomes[grant]),
			     (s->policy.required & 1u << grant) != 0 ? " (required)" : "");
	}
	(void)printf("%-12s %s\n", "mode",
		     s->table.direct_mode != 0 ? HOST_DIRECT_TEXT
					       : "namespace: the spawner's capabilities count in a user namespace only");
	(void)printf("%-12s %u-%u, free\n", "ids", s->policy.first_uid, s->policy.first_uid + (s->policy.uid_count - 1));
	(void)printf("%-12s broker %u, spawner %u\n", "daemons", s->policy.broker_uid, s->policy.spawn_uid);
}
