/* SPDX-License-Identifier: Apache-2.0
 * Runs: start (root, once), broker (no privilege), controller never. Who may start what, and how much of it.
 *
 * policy_load.c turns the administrator's JSON into struct policy; policy.c decides, and is pure: no I/O, no clock, no
 * state, so a table can test it and a reader can believe it.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "common/wire.h"

#define POLICY_HYPERVISORS_MAX 32
#define POLICY_NETWORKS_MAX 32
#define POLICY_RULES_MAX 64
#define POLICY_PRINCIPALS_MAX 64 /* users plus groups of one rule */
#define POLICY_BINDS_MAX 16
#define POLICY_LABELS_MAX 8
#define POLICY_FILE_MAX 262144   /* bytes */
#define POLICY_ANY_USER 0xffffffffu
#define POLICY_FIRST_UID 0x70000000u /* default id range: what systemd's map of uids leaves free below 2^31 */
#define POLICY_UID_COUNT 0x08000000u

/* Which program speaks behind a registered id; also wire hypervisor_reply.kind. */
enum policy_driver {
	POLICY_DRIVER_QEMU = 1,
	POLICY_DRIVER_MOCK,
	POLICY_DRIVER_FIRECRACKER,
	POLICY_DRIVER_CLH,
	POLICY_DRIVER_ACRN
};

/* Syscall filter of the VMM; index into the table that policy/syscalls generates. */
enum syscall_profile { PROFILE_BASE, PROFILE_INIT, PROFILE_QEMU, PROFILE_MOCK, PROFILE_BROKER, PROFILE_SPAWNER };

/* Where the spawner's capabilities count: in a user namespace of its own, or (direct mode) on the host. */
enum policy_mode { POLICY_MODE_NAMESPACE, POLICY_MODE_DIRECT };

enum policy_labels { POLICY_LABELS_PREFER, POLICY_LABELS_REQUIRE, POLICY_LABELS_FORBID };
enum policy_kvm { POLICY_KVM_AUTO, POLICY_KVM_FD, POLICY_KVM_NODE, POLICY_KVM_GROUP };

struct policy_hypervisor {
	char name[32];
	char path[256];           /* absolute, under /usr or a template bind */
	enum policy_driver driver;
	enum syscall_profile profile;
};

struct policy_network {
	char name[32];
	bool uplink;              /* a veth to the host with gateway/prefix on the host's end */
	uint32_t gateway;         /* IPv4, host order; 0 without uplink */
	uint8_t prefix;
	bool isolated;            /* ports cannot talk to each other (default true) */
	bool pin_ip;              /* each lease gets one IPv4 of the network and may use no other */
	bool vhost;               /* vhost-net allowed */
	uint8_t max_queues;
};

/* 0 = no limit of this kind. */
struct policy_quota {
	uint32_t sandboxes, taps, vcpus;
	uint64_t memory_mib;
	uint32_t starts_per_minute;
};

struct policy_rule {
	uint32_t users[POLICY_PRINCIPALS_MAX];  /* POLICY_ANY_USER for "*" */
	size_t user_count;
	uint32_t groups[POLICY_PRINCIPALS_MAX];
	size_t group_count;
	uint32_t hypervisors;                   /* bit per index */
	uint32_t networks;                      /* bit per index */
	bool kvm, vsock, survive, shared_netns;
	char labels[POLICY_LABELS_MAX][32];     /* label types besides the default */
	size_t label_count;
	struct policy_quota quota;              /* per user */
};

struct policy {
	uid_t broker_uid, spawn_uid;
	gid_t broker_gid, spawn_gid;
	enum policy_mode mode;
	gid_t kvm_gid;                          /* group "kvm_group" when named, else the node's */
	bool kvm_gid_set;
	mode_t socket_mode;
	gid_t socket_gid;
	uint32_t first_uid, uid_count;
	struct policy_hypervisor hypervisors[POLICY_HYPERVISORS_MAX];
	size_t hypervisor_count;
	struct policy_network networks[POLICY_NETWORKS_MAX];
	size_t network_count;
	char binds[POLICY_BINDS_MAX][256];
	size_t bind_count;
	struct policy_rule rules[POLICY_RULES_MAX];
	size_t rule_count;
	struct policy_quota quota;              /* all users together */
	uint32_t required;                      /* bit per enum wire_grant that may not be missing on the host */
	enum policy_kvm kvm;
	enum policy_labels labels;
	struct wire_limits limits;              /* default and ceiling of each; memory_mib comes on top of the guest's */
	uint32_t hello_ms, idle_ms, launch_ms;  /* timeouts: first message, quiet session, launch */
	uint32_t sessions_max, sessions_user_max;
};

/* Where and why a policy was refused. */
struct policy_error {
	unsigned line, column; /* 0 when the file itself is the problem */
	char where[128];       /* JSON path, e.g. rules[2].users[0] */
	char text[256];
};

/* Open and check the file itself: a regular file, owner root, not writable by others, no symlink in the last
 * component, every parent directory root's and not writable by others, at most POLICY_FILE_MAX. Returns a descriptor
 * the caller owns, or -errno with *ret filled. */
int policy_open(const char *path, struct policy_error *ret);

/* Parse and check all of fd (any seekable descriptor). Resolves user and group names (NSS). 0 or -EINVAL with *ret
 * filled. Allocates while it runs, keeps nothing. */
int policy_load(int fd, struct policy *ret_policy, struct policy_error *ret);

/* Who asks: from SO_PEERCRED and SO_PEERGROUPS, never from the message. */
struct policy_caller {
	uid_t uid;
	gid_t gid;
	const gid_t *groups;
	size_t group_count;
};

/* What is in use, counted by the broker. */
struct policy_usage {
	uint32_t sandboxes, taps, vcpus;
	uint64_t memory_mib;
	uint32_t starts_last_minute;
};

/* What the host can do, found at start: enum wire_outcome by enum wire_grant; kvm_strategies as in host_table. */
struct policy_host {
	uint8_t outcomes[WIRE_GRANT_COUNT];
	uint32_t kvm_strategies;
};

/* The answer. code WIRE_ERR_OK: go on with these; else object and number say what was refused (for the error message). */
struct policy_verdict {
	enum wire_error_code code;
	char object[32];
	uint64_t number;
	uint32_t rule;             /* index of the rule that allowed it */
	uint32_t hypervisor;       /* index */
	uint32_t network[WIRE_NICS_MAX];
	uint32_t taps;             /* queue pairs in all */
	uint32_t vhost_fds;
	struct wire_limits limits;
	uint8_t outcomes[WIRE_GRANT_COUNT]; /* as far as known before the spawner works */
	uint32_t flags;            /* WIRE_* flags of the lease */
	uint32_t nic_flags[WIRE_NICS_MAX]; /* ISOLATED and PIN_IP of the network; the VHOST bits asked for if it gets it */
	bool nic_vhost[WIRE_NICS_MAX];     /* this NIC gets vhost-net: one descriptor a queue pair */
};

/* Decide an ACQUIRE. Rules are tried in order; the first that names the caller decides (no merging: what a rule does
 * not give is refused even if a later rule would give it). Pure. */
void policy_decide(const struct policy *policy, const struct policy_caller *caller, const struct policy_usage *user,
		   const struct policy_usage *all, const struct policy_host *host, const struct wire_acquire *ask,
		   struct policy_verdict *ret);

/* The rule that names the caller, or NULL: everything is refused. Pure. */
const struct policy_rule *policy_rule_for(const struct policy *policy, const struct policy_caller *caller);

/* Whether a rule names this very uid, not by group nor as one of all. Pure. */
bool policy_names_uid(const struct policy *policy, uid_t uid);

/* Index by name, or -1. Pure. */
int policy_hypervisor_index(const struct policy *policy, const char *name);
int policy_network_index(const struct policy *policy, const char *name);

/* The filters generated from policy/syscalls/<profile>.syscalls. */
struct sock_filter;
const struct sock_filter *syscall_profile_program(enum syscall_profile profile, size_t *ret_count);
