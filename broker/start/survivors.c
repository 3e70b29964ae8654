/* SPDX-License-Identifier: Apache-2.0
 * Runs: start (root, for a moment). Broker and spawner of an earlier start: who lives, and how a new half joins. */
#include "start.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/nsfs.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include "common/cleanup.h"
#include "common/log.h"
#include "label.h"

#define ANSWER_WAIT_S 5

static const char *const names[] = { [SURVIVOR_BROKER] = "broker.sock", [SURVIVOR_SPAWNER] = "spawner.sock" };

/* Only the daemon itself holds the listening end, so a connection means that it lives. */
static int reach(const struct start *s, enum survivor who)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	const struct timeval wait = { .tv_sec = ANSWER_WAIT_S };
	cleanup_fd int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);

	if (fd < 0)
		return -errno;
	(void)snprintf(address.sun_path, sizeof(address.sun_path), "/proc/self/fd/%d/%s", s->private_dir, names[who]);
	(void)setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &wait, sizeof(wait));
	(void)setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &wait, sizeof(wait));
	if (connect(fd, (const struct sockaddr *)&address, sizeof(address)) < 0)
		return -errno;
	return fd_take(&fd);
}

/* Dead is only who left no socket, or one that nobody listens at. A full backlog is somebody alive, too; anything else
 * (no descriptor, no memory) says nothing about the daemon, and to take a living one for dead would end its sandboxes. */
int survivor_alive(const struct start *s, enum survivor who, bool *ret_alive)
{
	cleanup_fd int fd = reach(s, who);

	if (fd < 0 && fd != -EAGAIN && fd != -ENOENT && fd != -ECONNREFUSED) {
		log_error("%s/private/%s: cannot tell whether its daemon lives: %s%s", s->options.runtime, names[who],
			  strerror(-fd),
			  fd == -EACCES && label_wanted(s)
				  ? "; one from before SELinux's module was loaded does: end it (then postern-start "
				    "--cleanup), or label the directory: docs/selinux.md, \"Install\""
				  : "");
		return fd;
	}
	*ret_alive = fd >= 0 || fd == -EAGAIN;
	return 0;
}

/* Of the running table: what P has become. All else was found equal, or is asked of the host by each start anew. */
static int take_table(struct start *s)
{
	static const enum wire_grant facts[] = { WIRE_GRANT_KVM, WIRE_GRANT_CGROUP, WIRE_GRANT_PORT_FILTER };
	struct spawn_table *running = &(struct spawn_table){ 0 };
	ssize_t n = pread(s->p[P_TABLE], running, sizeof(*running), 0);
	struct host_table *host = &s->table.host;
	int r;

	if (!table_sealed(s->p[P_TABLE])) {
		log_error("the running half's table could still be changed: it is not one that postern-start made");
		return -EPERM;
	}
	if (n < 0 || (size_t)n != sizeof(*running))
		running->size = 0;
	r = table_same(running, &s->table);
	if (r < 0)
		return r;
	memcpy(s->table.cgroup, running->cgroup, sizeof(s->table.cgroup));
	host->boot_id = running->host.boot_id;
	host->kvm_strategies = running->host.kvm_strategies;
	for (size_t i = 0; i < ARRAY_SIZE(facts); i++)
		host->outcomes[facts[i]] = running->host.outcomes[facts[i]];
	return 0;
}

/* The other half's label: its user and role are those of every init and VMM to come, and none of them may change user or
 * role. A half of another one would find each launch refused, so it is refused itself. The socket has start's own label. */
static int same_label(const struct start *s, enum survivor who, int fd)
{
	char label[LABEL_TEXT_MAX] = "";
	socklen_t size = sizeof(label) - 1;

	if (!label_wanted(s))
		return 0;
	if (getsockopt(fd, SOL_SOCKET, SO_PEERSEC, label, &size) < 0)
		return -errno;
	if (strcmp(label, s->label) == 0)
		return 0;
	log_error("%s: it was started as %s, and this is %s: start both halves in the same way, through the service manager "
		  "or from root's shell",
		  names[who], label, s->label);
	return -EPERM;
}

int survivor_join(struct start *s, enum survivor who)
{
	const struct wire_session session = { .link = LINK_RENDEZVOUS,
					      .peer = who == SURVIVOR_BROKER ? FROM_BROKER : FROM_SPAWNER,
					      .phase = PHASE_READY,
					      .replies = true };
	const struct wire_empty nothing = {};
	cleanup_fd int fd = reach(s, who);
	static struct wire_in in; /* 35 KB */
	size_t next = 0;
	int r;

	r = fd < 0 ? fd : same_label(s, who, fd);
	if (r == -EPERM)
		return r;
	if (r == 0)
		r = wire_send(fd, WIRE_OP_R_JOIN, WIRE_REQUEST, 1, &nothing, &s->link[who == SURVIVOR_BROKER ? 0 : 1], 1);
	if (r == 0)
		r = wire_recv(fd, &session, &in);
	if (r == 1 && in.kind != WIRE_REPLY) {
		wire_in_close(&in);
		return -EALREADY;
	}
	if (r != 1) {
		log_error("%s does not take a new partner: %s", names[who],
			  r == -EPROTO ? in.why
			  : r < 0      ? strerror(-r)
				       : "it hung up");
		return -EBUSY;
	}
	/* P_INIT is ours: a program that was updated is used from now on. */
	for (int i = 0; i < P_COUNT; i++)
		if ((in.msg.joined.present & 1u << i) != 0) {
			if (i != P_INIT) {
				fd_close(&s->p[i]); /* of the other one, when both are joined */
				s->p[i] = fd_take(&in.fds[next]);
			}
			next++;
		}
	log_notice("%s lives and keeps %u sandboxes", names[who], in.msg.joined.leases);
	wire_in_close(&in);
	for (int i = P_USERNS; i <= P_PRIVATE; i++)
		if (s->p[i] < 0) {
			log_error("%s does not have all of P", names[who]);
			return -EBADF;
		}
	return take_table(s);
}

static bool same_file(int a, int b)
{
	struct stat x, y;

	return fstat(a, &x) == 0 && fstat(b, &y) == 0 && x.st_dev == y.st_dev && x.st_ino == y.st_ino;
}

static bool is_p(const struct start *s)
{
	cleanup_fd int own = open("/proc/self/ns/user", O_RDONLY | O_CLOEXEC);
	uid_t owner = 0;
	bool ours;

	if (own < 0 || ioctl(s->p[P_USERNS], NS_GET_NSTYPE) != CLONE_NEWUSER)
		return false;
	ours = same_file(own, s->p[P_USERNS]);
	if (s->table.direct_mode != 0)
		return ours;
	return !ours && ioctl(s->p[P_USERNS], NS_GET_OWNER_UID, &owner) == 0 && owner == s->policy.spawn_uid;
}

/* Of this kind (a pidfd would be entered too), made in P (in direct mode: by root), and not the one that we are in. */
static bool is_of_p(const struct start *s, enum p_fd which, int kind, const char *own_path)
{
	cleanup_fd int own = open(own_path, O_RDONLY | O_CLOEXEC), owner = -1;

	if (own < 0 || ioctl(s->p[which], NS_GET_NSTYPE) != kind || same_file(own, s->p[which]))
		return false;
	owner = ioctl(s->p[which], NS_GET_USERNS);
	return owner >= 0 && same_file(owner, s->p[P_USERNS]);
}

/* The broker speaks with every user, so what it hands over for a new spawner is taken for a lie until it is proved. It
 * could have been made by any user; root enters it, and in direct mode the spawner then acts in it with capabilities of the
 * host. So nothing is taken that start or its child can make itself, and of the rest:
 *   P_MNTNS, P_SWITCH  are verified here, and the mount namespace again from inside (parent_ns.c);
 *   P_TABLE            has told what it is asked (take_table()); the spawner gets one of our making;
 *   P_IDS_LOCK         is verified here: without the lock another Postern could give the same ids away;
 *   P_CGROUP*          may be any directory: all that is done there is done as the spawner's user without a capability over
 *                      files, so it reaches what root has given to that user. Limits in a wrong place are no limits, but
 *                      those are the broker's to choose anyway. */
int survivor_verify(struct start *s)
{
	static const enum p_fd made_anew[] = { P_EMPTY, P_PROCFS, P_PRIVATE, P_TABLE };
	const char *wrong = NULL;

	for (size_t i = 0; i < ARRAY_SIZE(made_anew); i++)
		fd_close(&s->p[made_anew[i]]);
	if (!is_p(s))
		wrong = "user namespace";
	else if (!is_of_p(s, P_MNTNS, CLONE_NEWNS, "/proc/self/ns/mnt"))
		wrong = "mount namespace";
	else if (!is_of_p(s, P_SWITCH, CLONE_NEWNET, "/proc/self/ns/net"))
		wrong = "network namespace";
	else if (!ids_is_lock(s, s->p[P_IDS_LOCK]))
		wrong = "lock on the ids";
	if (wrong == NULL)
		return 0;
	log_error("the running broker hands over a %s that postern-start did not make: end it, and all sandboxes, and start "
		  "both halves anew",
		  wrong);
	return -EPERM;
}
