/* SPDX-License-Identifier: Apache-2.0
 * Runs: start, broker, spawner. What postern-start leaves in the two daemons: descriptor numbers and a table.
 *
 * Both daemons find their descriptors at these numbers and close everything else first. A number whose thing this
 * host does not have is closed, and the daemon sees EBADF. Both start with SIGCHLD ignored: the spawner may be a child
 * of the broker, and nobody waits for it; the spawner puts SIGCHLD back to its default for its own children.
 * Environment: nothing but NOTIFY_SOCKET, WATCHDOG_* and JOURNAL_STREAM when start had them. The broker's argv:
 * --stop-sandboxes-on-exit when start was given it.
 */
#pragma once

#include <fcntl.h>
#include <linux/capability.h>
#include <stdbool.h>
#include <stdint.h>

#include "common/messages.h"

/* postern-broker. Order matters to nobody; gaps are closed. */
enum broker_fd {
	BROKER_FD_SPAWNER = 3,  /* SEQPACKET to the spawner */
	BROKER_FD_POLICY = 4,   /* sealed memfd: the bytes of the policy file, checked by start, read again unprivileged */
	BROKER_FD_LISTEN = 5,   /* listening SEQPACKET socket for clients */
	BROKER_FD_RUNTIME = 6,  /* O_PATH directory of the broker's own (0700): the id counter */
	BROKER_FD_HOST = 7,     /* sealed memfd: struct host_table */
	BROKER_FD_RENDEZVOUS = 8, /* listening socket in a root-only directory: a later postern-start connects here */
	BROKER_FD_IDS_LOCK = 9, /* holds the OFD lock on our id range; never read */
	/* The namespaces of P and what a new spawner needs. They give the broker no power (setns needs capabilities). */
	BROKER_FD_P_FIRST = 16,
};

/* postern-spawner. The same set, from BROKER_FD_P_FIRST on in the same order, is kept by the broker for a new spawner. */
enum spawner_fd {
	SPAWNER_FD_BROKER = 3, /* closed when the broker is somebody else's to start: it joins later */
	SPAWNER_FD_RENDEZVOUS = 4,
	SPAWNER_FD_P_FIRST = 8,
};

/* Order of the kept set: SPAWNER_FD_P_FIRST + i in the spawner, BROKER_FD_P_FIRST + i in the broker. What a broker hands
 * over for a new spawner is verified or made anew by start: survivor_verify(). */
enum p_fd {
	P_USERNS,   /* user namespace P; in direct mode the host's own, where entering it gives nobody anything */
	P_MNTNS,    /* mount namespace whose root is the template */
	P_SWITCH,   /* network namespace with the bridges */
	P_EMPTY,    /* network namespace with nothing, where the spawner sits */
	P_PROCFS,   /* the host's procfs (pid directories only) as a detached tree: to write id maps of children */
	P_PRIVATE,  /* detached tmpfs with one node, "tun" */
	P_CGROUP,   /* cgroup v2 directory delegated to the spawner (a detached tree), may be absent */
	P_CGROUP_PIDS,   /* cgroup v1 directories delegated to it, when v2 has no controllers; may be absent */
	P_CGROUP_MEMORY,
	P_CGROUP_CPU,
	P_INIT,     /* postern-init, opened for execveat */
	P_TABLE,    /* sealed memfd: struct spawn_table */
	P_IDS_LOCK, /* so that the range stays locked while either daemon lives */
	P_COUNT
};

/* Direct mode: what the spawner is started with, of the host, in every set; no other capability is in its bounding set.
 * No child gets a fresh set with a namespace of its own there, so what a child's drop needs the spawner must have. A test
 * takes each of them away and looks what no longer works. */
/* clang-format off */
#define DIRECT_CAPABILITIES \
	(1ull << CAP_SYS_ADMIN    /* setns into the switch and back; a child's namespaces and mounts */ \
	 | 1ull << CAP_SETUID     /* a child becomes X; setfsuid for a tap's sender */ \
	 | 1ull << CAP_SETGID     /* a child's gid and groups */ \
	 | 1ull << CAP_SETPCAP    /* a child's securebits and bounding set */ \
	 | 1ull << CAP_NET_ADMIN  /* taps, ports, filters in the switch */ \
	 | 1ull << CAP_KILL)      /* S_KILL without cgroup version 2: init has another uid */
/* clang-format on */

/* A table is believed only with all of these: the one who handed it over, which at a restart is the surviving daemon, may
 * hold it writable, and what was checked must be what is used. */
#define TABLE_SEALS (F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE)

static inline bool table_sealed(int fd)
{
	int seals = fcntl(fd, F_GET_SEALS);

	return seals >= 0 && (seals & TABLE_SEALS) == TABLE_SEALS;
}

#define TABLE_MAGIC 0x504f5354u /* "POST" */
#define TABLE_HYPERVISORS 32
#define TABLE_NETWORKS 32
#define TABLE_BINDS 16
#define TABLE_SUBIDS 64

/* What start found out about the host as root, for the broker. Outcomes are enum wire_outcome. */
struct host_table {
	uint32_t magic, size;
	uint8_t outcomes[8];             /* by enum wire_grant */
	uint32_t landlock_abi;
	uint32_t kvm_strategies;         /* bit 0 fd, 1 node, 2 group: which would work here */
	uint32_t spawn_uid;
	uint64_t boot_id;                /* differs after each fresh start of P: a handle of an older one is refused */
	/* Uids that people can take in namespaces of their own (/etc/subuid, systemd's containers), in order and apart.
	 * Read again for each new broker; what P_TABLE keeps of them means nothing. */
	uint32_t subid_count, reserved;
	struct {
		uint32_t first, count;
	} subids[TABLE_SUBIDS];
};

enum host_kvm { HOST_KVM_FD = 1, HOST_KVM_NODE = 2, HOST_KVM_GROUP = 4 };

/* What the spawner needs of the policy, made by start as root: the spawner parses no text. Indices are the policy's. */
struct spawn_table {
	uint32_t magic, size;
	uint32_t first_uid, uid_count;   /* range mapped into P */
	uint32_t kvm_gid;                /* WIRE_UID_NONE unless the group strategy is in use */
	uint32_t label;                  /* 1: label every sandbox (SELinux is on and the policy has types) */
	uint32_t direct_mode;            /* 1: direct mode: no P, what is said of it is the host */
	uint32_t hypervisor_count, network_count, bind_count;
	struct {
		char name[32];
		char path[256];          /* as seen inside the template */
		uint32_t profile;        /* enum syscall_profile */
	} hypervisors[TABLE_HYPERVISORS];
	struct {
		char name[32];           /* bridge is "br<index>", the uplink's inner end "up<index>" */
		uint32_t has_uplink, gateway, prefix;
	} networks[TABLE_NETWORKS];
	char binds[TABLE_BINDS][256];    /* in the template besides /usr; kept to be compared at a restart */
	/* Below: facts of this P, not of the policy. A restarted half gets the same ones. */
	char cgroup[96];                 /* path of P_CGROUP in its hierarchy, "" without one: the receipt shows it */
	struct host_table host;
};
