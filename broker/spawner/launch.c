/* SPDX-License-Identifier: Apache-2.0
 * Runs: spawner (capabilities of P only). One S_START: taps, cgroup, clone, maps, record, release.
 *
 * Every step can fail and says so by its number. Before the clone a failure costs nothing; after it X is burnt, since a
 * process has or may have had it. What a failed launch leaves goes the way of every death. */
#include "spawner.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/sched.h>
#include <string.h>
#include <sys/socket.h>

#include "common/cleanup.h"
#include "common/fault.h"
#include "common/log.h"
#include "drop.h"

#define KEEPER_QUEUE_BYTES 1 /* the kernel's least: K_BOOT fits, and then a handful of K_ATTACH */
#define SANDBOX_NAMESPACES (CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWIPC | CLONE_NEWUTS)

/* Descriptors of one launch. The spawner gives all of them up when the launch is over, whatever its outcome: the
 * child has copies of what it needs, and a tap that we kept could be revived by whoever has our capabilities. */
struct launching {
	int control, vsock, kvm, keeper_init, cgroup;
	int taps[WIRE_TAP_FDS_MAX], vhosts[WIRE_TAP_FDS_MAX];
	uint32_t tap_count, vhost_count;
	enum wire_step step;
	bool cloned;
};

static void begin_with(struct launching *l, struct wire_in *in)
{
	const struct wire_start *start = &in->msg.start;
	size_t n = 0;

	*l = (struct launching){ .vsock = -1, .kvm = -1, .keeper_init = -1, .cgroup = -1 };
	/* In the order of the message; wire_decode() has compared the count. */
	l->control = fd_take(&in->fds[n++]);
	for (uint32_t i = 0; i < start->vhost_fds; i++)
		l->vhosts[l->vhost_count++] = fd_take(&in->fds[n++]);
	if (start->vsock_fd)
		l->vsock = fd_take(&in->fds[n++]);
}

static void close_all(struct launching *l)
{
	fd_close(&l->control);
	fd_close(&l->vsock);
	fd_close(&l->kvm);
	fd_close(&l->keeper_init);
	fd_close(&l->cgroup);
	for (uint32_t i = 0; i < l->tap_count; i++)
		fd_close(&l->taps[i]);
	for (uint32_t i = 0; i < l->vhost_count; i++)
		fd_close(&l->vhosts[i]);
}

/* The broker decided; this is only so that a bug of its cannot make us reach beside our arrays or our range. */
static int check_start(const struct spawner *sp, const struct wire_start *start)
{
	const struct wire_lease *lease = start->lease;
	uint32_t queues = 0;

	if (start->hypervisor >= sp->table->hypervisor_count || lease->id == 0)
		return -EINVAL;
	if (lease->uid < sp->table->first_uid || lease->uid - sp->table->first_uid >= sp->table->uid_count ||
	    lease->gid < sp->table->first_uid || lease->gid - sp->table->first_uid >= sp->table->uid_count)
		return -ERANGE;
	for (uint32_t i = 0; i < lease->nic_count; i++) {
		if (lease->nics[i].bridge >= sp->table->network_count)
			return -EINVAL;
		queues += lease->nics[i].queues > 0 ? lease->nics[i].queues : 1;
	}
	if (queues > WIRE_TAP_FDS_MAX)
		return -EINVAL;
	if (lease->grants[WIRE_GRANT_KVM] == WIRE_BY_BY_GROUP && sp->table->kvm_gid == WIRE_UID_NONE)
		return -EINVAL;
	if ((lease->label[0] != '\0') != (sp->table->label != 0))
		return -EINVAL;
	/* The receipt will be compared with what the lease says about the user namespace. */
	if (((lease->flags & WIRE_DIRECT) != 0) != (sp->table->direct_mode != 0))
		return -EINVAL;
	return 0;
}

static int make_taps(struct spawner *sp, struct wire_lease *lease, struct launching *l)
{
	/* What the broker was told at S_WELCOME and promised in the lease is required here. */
	bool require_lock = lease->grants[WIRE_GRANT_PORT_FILTER] == WIRE_BY_GRANTED;
	int r;

	for (uint32_t i = 0; i < lease->nic_count; i++) {
		struct wire_nic *nic = &lease->nics[i];

		r = tap_open_queues(sp, lease, nic, i, &l->taps[l->tap_count], &l->step);
		if (r < 0)
			return r;
		l->tap_count += nic->queues > 0 ? nic->queues : 1;
		r = tap_port(sp, nic, require_lock, &l->step);
		if (r < 0)
			return r;
	}
	if (lease->nic_count > 0)
		lease->grants[WIRE_GRANT_PORT_FILTER] = sp->port_outcome;
	return 0;
}

/* The broker's copy of our end reads nothing, it only writes; so this end may be non-blocking for both. init's stays
 * blocking: it has one loop and polls. The queue is short: descriptors that wait in it count against all of the broker's,
 * and an init that does not read must not use them up. */
static int make_keeper(struct sandbox *box, struct launching *l)
{
	const int queue = KEEPER_QUEUE_BYTES;
	int ends[2], r;

	l->step = STEP_SOCKETS;
	r = fault_at(SPAWNER_FD_FAULT, STEP_SOCKETS);
	if (r < 0)
		return r;
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) < 0)
		return -errno;
	box->keeper = ends[0];
	l->keeper_init = ends[1];
	if (setsockopt(ends[0], SOL_SOCKET, SO_SNDBUF, &queue, sizeof(queue)) < 0)
		return -errno;
	return fcntl(ends[0], F_SETFL, O_NONBLOCK) < 0 ? -errno : 0;
}

static int open_kvm(struct launching *l)
{
	l->step = STEP_SOCKETS;
	l->kvm = open("/dev/kvm", O_RDWR | O_CLOEXEC | O_NOFOLLOW);
	return l->kvm < 0 ? -errno : 0;
}

static int clone_and_map(struct spawner *sp, struct sandbox *box, struct launching *l)
{
	uint64_t own_network = (box->lease.flags & WIRE_NETNS_SHARED) != 0 ? 0 : CLONE_NEWNET;
	/* Direct mode: the child stays in the host's user namespace, with our capabilities instead of fresh ones, and
	 * there are no maps: it becomes the host's X itself. */
	uint64_t own_user = sp->table->direct_mode ? 0 : CLONE_NEWUSER;
	long pid;
	int r;

	l->step = STEP_CLONE;
	r = fault_at(SPAWNER_FD_FAULT, STEP_CLONE);
	if (r < 0)
		return r;
	pid = clone_child(SANDBOX_NAMESPACES | own_user | own_network, l->cgroup, &box->pidfd);
	if (pid == 0)
		drop_and_exec(&(struct drop){ .lease = &box->lease,
					      .control = l->control,
					      .keeper = l->keeper_init,
					      .kvm = l->kvm,
					      .vsock = l->vsock,
					      .taps = l->taps,
					      .vhosts = l->vhosts,
					      .tap_count = l->tap_count,
					      .vhost_count = l->vhost_count,
					      .program = sp->p[P_INIT],
					      .kvm_gid = sp->table->kvm_gid });
	if (pid < 0)
		return (int)pid;
	l->cloned = true;
	box->lease.init_pid = (uint32_t)pid;
	/* Before anything else can fail: without a watch its death would go unnoticed. */
	r = sandbox_watch(sp, box);
	if (r < 0)
		return r;
	l->step = STEP_CGROUP_ENTER;
	r = cgroup_enter_v1(sp, &box->lease, (pid_t)pid);
	if (r < 0)
		return r;
	l->step = STEP_MAP;
	r = fault_at(SPAWNER_FD_FAULT, STEP_MAP);
	return r < 0 || own_user == 0 ? r : maps_write(sp, (pid_t)pid, &box->lease);
}

/* The record goes out before the child may run: should we die in between, the broker knows of it, or the child sees our
 * end close and goes. */
static int record_and_release(struct spawner *sp, const struct wire_start *start, struct sandbox *box, struct launching *l)
{
	struct wire_boot boot = {
		.lease = { box->lease },
		.profile = (uint8_t)sp->table->hypervisors[start->hypervisor].profile,
		.kvm_node = box->lease.grants[WIRE_GRANT_KVM] == WIRE_BY_BY_NODE ||
			    box->lease.grants[WIRE_GRANT_KVM] == WIRE_BY_BY_GROUP,
		.kvm_fd = l->kvm >= 0,
		.tap_fds = (uint8_t)l->tap_count,
		.vhost_fds = (uint8_t)l->vhost_count,
		.vsock_fd = l->vsock >= 0,
		.kvm_group = box->lease.grants[WIRE_GRANT_KVM] == WIRE_BY_BY_GROUP,
		.kvm_gid = sp->table->kvm_gid,
	};
	int r;

	_Static_assert(sizeof(boot.path) == sizeof(sp->table->hypervisors[0].path), "the path fits");
	memcpy(boot.path, sp->table->hypervisors[start->hypervisor].path, sizeof(boot.path));
	l->step = STEP_RECORD;
	r = fault_at(SPAWNER_FD_FAULT, STEP_RECORD);
	if (r == 0)
		r = link_send_started(sp, box);
	if (r < 0)
		return r;
	box->known = true;
	l->step = STEP_RELEASE;
	r = fault_at(SPAWNER_FD_FAULT, STEP_RELEASE);
	return r < 0 ? r : wire_send(box->keeper, WIRE_OP_K_BOOT, WIRE_REQUEST, 0, &boot, NULL, 0);
}

static int run_steps(struct spawner *sp, const struct wire_start *start, struct sandbox *box, struct launching *l)
{
	int r = make_taps(sp, &box->lease, l);

	if (r == 0 && start->kvm_fd)
		r = open_kvm(l);
	if (r == 0)
		r = cgroup_make(sp, &box->lease, &l->cgroup, &l->step);
	if (r == 0)
		r = make_keeper(box, l);
	if (r == 0)
		r = clone_and_map(sp, box, l);
	return r < 0 ? r : record_and_release(sp, start, box, l);
}

/* The child may have failed first: its own words say more than our step that ran into its death. true: it has also told
 * the controller. */
static bool child_said(const struct sandbox *box, struct launching *l, int *error)
{
	const struct wire_session session = { .link = LINK_KEEPER, .peer = FROM_INIT, .phase = PHASE_READY };
	static struct wire_in in;

	if (!l->cloned || wire_recv(box->keeper, &session, &in) != 1)
		return false;
	l->step = (enum wire_step)in.msg.step_failed.step;
	*error = -(int)in.msg.step_failed.error;
	wire_in_close(&in);
	return true;
}

/* Tell who waits: the broker, or, when it has answered the controller already, the controller itself. */
static void report(struct spawner *sp, const struct wire_lease *lease, const struct sandbox *box, struct launching *l,
		   int error)
{
	bool said = box != NULL && child_said(box, l, &error);
	struct wire_step_failed failed = { .id = lease->id, .step = l->step, .error = (uint32_t)-error, .burn = 1 };

	log_warn("sandbox %u: %s failed: %s", lease->uid, wire_step_text(l->step), strerror(-error));
	if (box == NULL || !box->known)
		link_send_failed(sp, lease->id, l->step, -error, l->cloned);
	else if (!said)
		(void)wire_send(l->control, WIRE_OP_C_FAILED, WIRE_REQUEST, 0, &failed, NULL, 0);
}

void launch(struct spawner *sp, struct wire_in *in)
{
	const struct wire_start *start = &in->msg.start;
	struct sandbox *box = NULL;
	struct launching l;
	int r;

	begin_with(&l, in);
	r = sp->stopping ? -ESHUTDOWN : sandbox_find(sp, start->lease->id) != NULL ? -EEXIST : check_start(sp, start);
	if (r == 0) {
		box = sandbox_new(sp, start->lease);
		r = box == NULL ? -ENOSPC : run_steps(sp, start, box, &l);
	}
	if (r < 0)
		report(sp, start->lease, box, &l, r);
	close_all(&l);
	if (r == 0 || box == NULL)
		return;
	/* A child that exists dies, and its pidfd does the rest; else the rest is done now. */
	if (l.cloned)
		sandbox_doom(sp, box);
	else
		death_begin(sp, box);
}
