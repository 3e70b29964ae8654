/* SPDX-License-Identifier: Apache-2.0
 * Runs: start (root, for a moment). What the files of postern-start offer each other.
 *
 * Everything here runs once, before any client can speak, and reads nothing that a user wrote. Functions that return int
 * give 0 or -errno and have logged why: each knows best what to tell the administrator. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "broker/inherit.h"
#include "common/label_text.h"
#include "policy/policy.h"

#define TAG_BYTES 17
#define RUNTIME_PATH_MAX 200 /* leaves room for the names below it */

struct options {
	const char *policy, *runtime, *libexec, *log; /* libexec NULL: beside this program; log NULL: stderr */
	bool daemon, check, stop_sandboxes, cleanup;
	bool only_broker, only_spawner; /* the other half is started by somebody else; at most one is set */
	int fault_fd; /* test builds only */
};

/* All that start gathers before it becomes the broker. Descriptors are -1 until made. */
struct start {
	struct options options;
	struct policy policy;
	struct spawn_table table; /* becomes P_TABLE; its host part also BROKER_FD_HOST */
	char tag[TAG_BYTES];      /* from the runtime directory's path: names cgroups, its first eight interfaces */
	char label[LABEL_TEXT_MAX]; /* our own, when SELinux is on */
	int policy_fd, host_fd;
	int runtime, private_dir, broker_dir; /* directories */
	int listen, broker_rendezvous, spawner_rendezvous;
	int broker_program, spawner_program;
	int p[P_COUNT];
	int link[2];     /* broker's end, spawner's end */
	int cgroup_leaf; /* cgroup.procs of the daemons' own group, -1 without cgroup v2 */
	int log;
	int ready;       /* --daemon: whom to tell that it worked, else -1 */
	gid_t groups[2]; /* supplementary groups of the broker: those of the vhost nodes */
	size_t group_count;
};

/* options.c: 0 go on; 1 done (--help); -EINVAL */
int options_parse(int argc, char **argv, struct options *ret);

/* policy.c: policy and tables */
int policy_take(struct start *s); /* file -> sealed memfd -> struct policy; ids are nobody else's */
int table_make(struct start *s);  /* policy -> s->table, without its facts about this P */
int table_same(const struct spawn_table *running, const struct spawn_table *wanted);
int memfd_make(const char *name, int *ret_fd);          /* 0400, close-on-exec, empty */
int memfd_fill(int fd, const void *bytes, size_t size); /* once: sealed after it */

/* ids.c: the lock on the id range, and what the lock does not know: that nobody of an earlier start still has an id */
int ids_lock(struct start *s);
bool ids_is_lock(const struct start *s, int fd); /* of another start, and it holds */
int ids_unused(const struct start *s);

/* host.c: what this machine can do */
void host_load_modules(void);
void host_probe(struct start *s);
int host_subordinate_ids(struct start *s); /* as the host has them now, for each new broker */
int host_check_required(const struct start *s);
void host_print(const struct start *s);
#define HOST_DIRECT_TEXT \
	"direct mode: sandboxes have no user namespace of their own, and the spawner holds capabilities of the host"

/* A file without its label, which SELinux keeps even from root. */
#define HOST_RELABEL_TEXT \
	"not labelled? restorecon -RF /usr/sbin/postern-start /usr/sbin/postern-broker /usr/libexec/postern /etc/postern"

/* programs.c: our own executables, root's and nobody else's to write */
int programs_open(struct start *s);

/* runtime.c: directories and sockets; nothing that was there before us is believed */
int runtime_open(struct start *s);
int runtime_socket(int dir, const char *name, mode_t mode, gid_t gid, int backlog, int *ret_fd);
int runtime_listen(struct start *s); /* for clients: passed by systemd, or made */
void runtime_clean(struct start *s);
int runtime_pid_file(const struct start *s, pid_t spawner); /* for the service manager */

/* survivors.c: who of an earlier start is still alive */
enum survivor { SURVIVOR_BROKER, SURVIVOR_SPAWNER };
int survivor_alive(const struct start *s, enum survivor who, bool *ret_alive);
int survivor_join(struct start *s, enum survivor who); /* fills s->p and s->table; -EALREADY: it has a partner */
int survivor_verify(struct start *s); /* what the broker handed over, before root goes into it */

/* cgroup.c */
int cgroup_end_leftovers(const struct start *s); /* what an earlier P left is killed; its groups are removed */
int cgroup_prepare(struct start *s, bool fresh); /* delegated directories */
enum wire_outcome cgroup_foresee(void);          /* what cgroup_prepare() would find */
void cgroup_enter(const struct start *s, pid_t pid);

/* template.c: what a sandbox sees as its root; in a private mount namespace, ends inside it */
int template_enter(const struct start *s);

/* trees.c: detached mounts for the spawner */
int trees_make(struct start *s);

/* net.c: uplinks. A network without one needs nothing here. */
int net_uplinks(struct start *s);

/* parent_ns.c: the namespaces of P and the process in them, which becomes the spawner */
struct spawning {
	pid_t pid;
	int sync; /* closed by exec: then, and only then, the child goes on to execute the spawner */
};
int parent_ns_possible(const struct start *s); /* whether this host lets the spawner's user make a user namespace */
int parent_ns_create(struct start *s, struct spawning *ret);
int parent_ns_rejoin(struct start *s, struct spawning *ret);
void spawning_abort(struct spawning *spawning);

/* daemons.c: from here on no way back */
void daemons_environment(char **ret, size_t max);
int daemons_lift(int *fd); /* above every number that daemons_place() gives */
int daemons_place(const int (*placing)[2], size_t count);
int daemons_stdio(int log);
int become_broker(struct start *s, struct spawning *spawning); /* returns only on failure */
