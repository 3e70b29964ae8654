/* SPDX-License-Identifier: Apache-2.0
 * Runs: spawner (capabilities of P only). The spawner's state and what its files offer each other.
 *
 * One thread, one loop, fixed tables, no allocator: a fork of this process is what a sandbox starts as, and fork costs
 * what is dirty. Whoever breaks the spawner has every sandbox but nothing of the host. */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "broker/inherit.h"
#include "common/wire.h"

#define SANDBOXES_MAX 2048u

/* A sandbox from its first step to its last trace. GONE is told to the broker, then the entry is FREE again. */
enum sandbox_state {
	BOX_FREE,
	BOX_LIVE,   /* init runs */
	BOX_TAPS,   /* init is dead; taps wait for the worker */
	BOX_WORKER, /* the running worker deletes its taps */
	BOX_CGROUP, /* its cgroups do not let themselves be removed yet */
	BOX_GONE,   /* nothing is left; the broker does not know yet */
};

struct sandbox {
	enum sandbox_state state;
	struct wire_lease lease;
	int pidfd, keeper;
	uint32_t status; /* waitpid's */
	unsigned tries;  /* to remove the cgroup */
	bool known;      /* the broker has had S_STARTED or S_HAVE: it is owed an S_GONE */
	bool have_due;   /* S_HAVE of the inventory not sent yet */
	bool dirty;      /* something could not be removed */
	uint8_t oom;     /* WIRE_OOM_*, read when it died */
	bool watched;    /* its pidfd is in the epoll set; else the timer looks after it */
	bool doomed;     /* to be killed, and the kernel has not done it yet */
	bool said;       /* init has had its one message: more would be a flood of the log */
};

struct spawner {
	const struct spawn_table *table;
	int p[P_COUNT]; /* -1 where this host has none */
	int epoll, timer, signals;
	int link; /* to the broker, -1 while there is none */
	int rendezvous;
	int netlink; /* route netlink of the switch namespace */
	int worker;  /* pidfd of the child that deletes taps, -1 */
	struct wire_session session;
	uint32_t known_left; /* S_KNOWN still to come */
	uint32_t have_left;  /* S_HAVE still to go; no S_GONE before the last of them */
	uint32_t live;       /* entries that are not FREE */
	uint8_t cgroup_outcome, port_outcome;
	unsigned sweeps; /* times that cgroups nobody knows are still to be looked for */
	bool timer_on, stopping, out_blocked;
	bool has_broker; /* when we started */
	bool asked;      /* to end, by who keeps us: only then is it a success */
	bool out_later;  /* no descriptor may be sent now; the timer tries again */
	bool unadopted;  /* a sandbox of the broker's is not in the table */
	struct sandbox boxes[SANDBOXES_MAX];
};

/* What an epoll event is about: kind in the upper half of data.u64, index of the sandbox in the lower. */
enum event_kind { EVENT_LINK = 1, EVENT_RENDEZVOUS, EVENT_PIDFD, EVENT_KEEPER, EVENT_WORKER, EVENT_TIMER, EVENT_SIGNAL };

/* loop.c */
int loop_watch(struct spawner *sp, int fd, uint32_t events, enum event_kind kind, uint32_t index);
void loop_timer(struct spawner *sp, bool on);
int loop_run(struct spawner *sp); /* returns when S_SHUTDOWN has been fulfilled, or -errno */

/* link.c: the session with the broker */
void link_adopt(struct spawner *sp, int fd); /* a fresh link: says hello and sends the inventory */
void link_event(struct spawner *sp, uint32_t events);
void link_end(struct spawner *sp, const char *why); /* the sandboxes go on */
void link_flush(struct spawner *sp);                /* whatever is owed to the broker and fits into its queue */
int link_send_started(struct spawner *sp, const struct sandbox *box);
void link_send_failed(struct spawner *sp, uint64_t id, enum wire_step step, int error, bool burn);

/* sandbox.c: the table */
struct sandbox *sandbox_new(struct spawner *sp, const struct wire_lease *lease);
struct sandbox *sandbox_find(struct spawner *sp, uint64_t id);
bool sandbox_has_uid(const struct spawner *sp, uint32_t uid);
void sandbox_free(struct spawner *sp, struct sandbox *box);
int sandbox_adopt(struct spawner *sp, const struct wire_lease *lease, int *pidfd, int *keeper);
int sandbox_watch(struct spawner *sp, struct sandbox *box);
void sandbox_keeper_event(struct spawner *sp, uint32_t index);
int sandbox_kill(const struct sandbox *box);
void sandbox_doom(struct spawner *sp, struct sandbox *box); /* kill it, as often as it takes */
bool sandbox_tend(struct spawner *sp, struct sandbox *box); /* tick of the timer; true: one more is needed */
void sandbox_kill_all(struct spawner *sp);

/* death.c: from a readable pidfd to nothing left */
void death_begin(struct spawner *sp, struct sandbox *box);
void death_worker_done(struct spawner *sp);
void death_retry(struct spawner *sp);

/* launch.c: one S_START; takes what it needs out of in->fds */
void launch(struct spawner *sp, struct wire_in *in);

/* switch.c: bridges and ports of the switch namespace */
struct nl_msg;
int switch_open(struct spawner *sp); /* the netlink socket, the bridges, the probe for what ports can do */
int switch_link(const struct spawner *sp, const char *name, uint32_t ifindex, uint32_t *ret_ifindex, struct nl_msg *reply);
int tap_port(struct spawner *sp, const struct wire_nic *nic, bool require_lock, enum wire_step *ret_step);

/* tap.c */
int tap_open_queues(struct spawner *sp, const struct wire_lease *lease, struct wire_nic *nic, uint32_t number, int *ret_fds,
		    enum wire_step *ret_step);
bool tap_exists(struct spawner *sp, uint32_t ifindex);
int tap_delete(int netlink, uint32_t ifindex); /* blocks some 15 ms; 0 also when it was gone already */

/* cgroup.c */
uint8_t cgroup_probe(const struct spawner *sp); /* enum wire_outcome */
int cgroup_make(const struct spawner *sp, struct wire_lease *lease, int *ret_fd, enum wire_step *ret_step);
int cgroup_enter_v1(const struct spawner *sp, const struct wire_lease *lease, pid_t pid);
uint8_t cgroup_oom(const struct spawner *sp, const struct wire_lease *lease); /* WIRE_OOM_*; before it is removed */
int cgroup_kill(const struct spawner *sp, const struct wire_lease *lease);    /* everything in it; needs version 2 */
int cgroup_remove(const struct spawner *sp, const struct wire_lease *lease);  /* -EBUSY: try again */
bool cgroup_sweep(const struct spawner *sp); /* end and remove what no entry stands for; false: some are still there */

/* maps.c: id maps of a child, through the host's procfs */
int maps_write(const struct spawner *sp, pid_t pid, const struct wire_lease *lease);

/* clone.c: fork semantics; returns 0 in the child, the pid in the parent, -errno */
long clone_child(uint64_t flags, int cgroup, int *ret_pidfd);

/* rendezvous.c: a later postern-start joins a new broker */
void rendezvous_event(struct spawner *sp);

/* table.c: whether the table makes sense; pure */
int table_check(const void *bytes, size_t size);

/* confine.c: what the spawner takes from itself before it serves */
int confine(bool direct);
