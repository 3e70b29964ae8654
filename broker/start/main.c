/* SPDX-License-Identifier: Apache-2.0
 * Runs: start (root, for a moment). Prepares the host and becomes postern-broker; DESIGN.md 2.2.
 *
 * By hand, beside anything installed (root; the users may be numbers):
 *   DESTDIR=/var/tmp/p meson install -C build
 *   /var/tmp/p/usr/local/sbin/postern-start --runtime /run/p --policy /etc/p.json [--check | --daemon --log /var/log/p]
 * Kill either daemon and run the same line again: it is restarted beside the other. End: kill the broker, then the spawner
 * (with --stop-sandboxes-on-exit it follows by itself), then the same line with --cleanup. */
#include "start.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "common/log.h"
#include "label.h"

#define LINK_QUEUE_BYTES (4 << 20) /* an inventory of a thousand leases fits without waiting */

/* The two daemons' only way to know each other: inherited, never looked up. */
static int make_link(struct start *s)
{
	int size = LINK_QUEUE_BYTES;

	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, s->link) < 0) {
		log_error("socketpair: %m");
		return -errno;
	}
	for (int i = 0; i < 2; i++)
		(void)setsockopt(s->link[i], SOL_SOCKET, SO_SNDBUFFORCE, &size, sizeof(size));
	return 0;
}

static int make_host_memfd(struct start *s)
{
	int r = host_subordinate_ids(s);

	if (r == 0)
		r = memfd_make("host", &s->host_fd);
	return r < 0 ? r : memfd_fill(s->host_fd, &s->table.host, sizeof(s->table.host));
}

static int make_rendezvous(struct start *s, enum survivor who)
{
	bool broker = who == SURVIVOR_BROKER;

	return runtime_socket(s->private_dir, broker ? "broker.sock" : "spawner.sock", 0600, 0, 4,
			      broker ? &s->broker_rendezvous : &s->spawner_rendezvous);
}

/* For --daemon, see await_daemon(). */
static void say_ready(const struct start *s)
{
	if (s->ready >= 0)
		(void)!write(s->ready, "k", 1);
}

/* The lock was the daemons': sandboxes that outlived both hold nothing but their ids, and those must not be given out
 * again. First those end that are ours to know; then nobody may be left. */
static int end_leftovers(struct start *s)
{
	int r = ids_lock(s);

	if (r == 0)
		r = cgroup_end_leftovers(s);
	return r < 0 ? r : ids_unused(s);
}

static int make_broker_ends(struct start *s)
{
	int r = make_rendezvous(s, SURVIVOR_BROKER);

	if (r == 0)
		r = runtime_listen(s);
	return r < 0 ? r : make_link(s);
}

/* Nobody lives: everything anew. */
static int start_fresh(struct start *s, struct spawning *spawning)
{
	int r = parent_ns_possible(s);

	if (r == 0)
		r = end_leftovers(s);
	if (r == 0)
		r = cgroup_prepare(s, true);
	if (r == 0)
		r = host_check_required(s);
	if (r == 0)
		r = trees_make(s);
	if (r == 0)
		r = make_rendezvous(s, SURVIVOR_SPAWNER);
	if (r == 0 && !s->options.only_spawner)
		r = make_broker_ends(s);
	if (r == 0)
		r = memfd_make("table", &s->p[P_TABLE]);
	return r < 0 ? r : parent_ns_create(s, spawning);
}

/* The last of the fresh start's work needs P: uplinks into its switch. Then the tables are final; the waiting child has
 * the memfd of its own since before. */
static int finish_fresh(struct start *s)
{
	int r = net_uplinks(s);

	if (r == 0)
		r = host_check_required(s);
	if (r == 0)
		r = memfd_fill(s->p[P_TABLE], &s->table, sizeof(s->table));
	return r < 0 ? r : make_host_memfd(s);
}

/* The other one is unreachable, but its partner sees it alive: it is on its way out. */
static int join(struct start *s, enum survivor who)
{
	int r = survivor_join(s, who);

	if (r != -EALREADY)
		return r;
	log_error("%s: the other daemon is ending but not dead yet; try again in a moment", s->options.runtime);
	return -EBUSY;
}

/* The spawner lives: a new broker beside it. */
static int start_broker(struct start *s)
{
	int r = make_link(s);

	if (r == 0)
		r = join(s, SURVIVOR_SPAWNER);
	/* A service of its own has a group of its own. */
	if (r == 0 && !s->options.only_broker)
		r = cgroup_prepare(s, false);
	if (r == 0)
		r = make_rendezvous(s, SURVIVOR_BROKER);
	if (r == 0)
		r = runtime_listen(s);
	return r < 0 ? r : make_host_memfd(s);
}

/* A spawner that lives without us, from here on. */
static int release_spawner(const struct start *s, struct spawning *spawning)
{
	int r = s->options.only_spawner ? runtime_pid_file(s, spawning->pid) : 0;

	if (r < 0)
		spawning_abort(spawning);
	else
		fd_close(&spawning->sync); /* go */
	return r;
}

/* Nobody lives, and who keeps the broker starts it later: it joins the spawner, which waits for it. */
static int start_fresh_spawner(struct start *s)
{
	struct spawning spawning = { .pid = -1, .sync = -1 };
	int r = start_fresh(s, &spawning);

	if (r == 0)
		r = finish_fresh(s);
	if (r == 0)
		return release_spawner(s, &spawning);
	spawning_abort(&spawning);
	return r;
}

/* The broker lives: a new spawner beside it; we end when it runs. */
static int start_spawner(struct start *s)
{
	struct spawning spawning = { .pid = -1, .sync = -1 };
	int r = make_link(s);

	if (r == 0)
		r = join(s, SURVIVOR_BROKER);
	if (r == 0)
		r = survivor_verify(s);
	if (r == 0)
		r = trees_make(s);
	if (r == 0)
		r = cgroup_prepare(s, false);
	if (r == 0)
		r = make_rendezvous(s, SURVIVOR_SPAWNER);
	if (r == 0)
		r = memfd_make("table", &s->p[P_TABLE]);
	if (r == 0)
		r = memfd_fill(s->p[P_TABLE], &s->table, sizeof(s->table));
	if (r == 0)
		r = parent_ns_rejoin(s, &spawning);
	if (r < 0)
		return r;
	log_notice("new spawner %d beside the running broker", spawning.pid);
	r = release_spawner(s, &spawning);
	if (r < 0)
		return r;
	say_ready(s);
	return 0;
}

/* Both live. Mostly that is all there is to say; but when the link between them broke, each waits for a new one. Each
 * knows best whether it does, and refuses when not. */
static int join_both(struct start *s)
{
	int r = make_link(s);

	if (r == 0)
		r = survivor_join(s, SURVIVOR_BROKER);
	if (r == 0)
		r = survivor_join(s, SURVIVOR_SPAWNER);
	if (r < 0)
		return r;
	log_notice("both daemons live; the broken link between them is replaced");
	say_ready(s);
	return 0;
}

static int clean_up(struct start *s, bool broker, bool spawner)
{
	int r;

	if (broker || spawner) {
		log_error("%s: %s lives: end it%s first", s->options.runtime, broker ? "postern-broker" : "postern-spawner",
			  broker && spawner ? ", and then postern-spawner," : "");
		return -EBUSY;
	}
	r = end_leftovers(s);
	if (r == 0)
		runtime_clean(s);
	return r;
}

/* What there is to do depends on who lives; -EALREADY: nothing. */
static int run(struct start *s)
{
	struct spawning spawning = { .pid = -1, .sync = -1 };
	bool broker = false, spawner = false;
	int r = survivor_alive(s, SURVIVOR_BROKER, &broker);

	if (r == 0)
		r = survivor_alive(s, SURVIVOR_SPAWNER, &spawner);
	if (r < 0)
		return r;
	if (s->options.cleanup)
		return clean_up(s, broker, spawner);
	if (broker && spawner)
		return join_both(s);
	if ((broker && s->options.only_broker) || (spawner && s->options.only_spawner))
		return -EALREADY;
	if (broker)
		return start_spawner(s);
	if (s->options.only_spawner)
		return start_fresh_spawner(s);
	if (!spawner && s->options.only_broker) {
		log_error("%s: no spawner to join; start it first, or see why its service failed", s->options.runtime);
		return -ESRCH;
	}
	if (spawner) {
		r = start_broker(s);
	} else {
		r = start_fresh(s, &spawning);
		if (r == 0)
			r = finish_fresh(s);
	}
	if (r == 0) {
		cgroup_enter(s, getpid());
		say_ready(s);
		r = become_broker(s, &spawning);
	}
	spawning_abort(&spawning);
	return r;
}

static int open_log(struct start *s)
{
	struct stat st;

	if (s->options.log == NULL) {
		/* A daemon must not keep the terminal. */
		s->log = s->options.daemon ? open("/dev/null", O_WRONLY | O_CLOEXEC) : -1;
		return 0;
	}
	s->log = open(s->options.log, O_WRONLY | O_APPEND | O_CREAT | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC, 0640);
	if (s->log < 0 || fstat(s->log, &st) < 0 || !S_ISREG(st.st_mode) || st.st_uid != 0 || st.st_nlink != 1) {
		log_error("log %s: must be a plain file of root's", s->options.log);
		return -EPERM;
	}
	return 0;
}

static int check_or_run(struct start *s)
{
	struct rlimit files;
	int r;

	host_load_modules();
	host_probe(s);
	r = label_decide(s);
	if (r < 0)
		return r;
	if (s->options.check) {
		s->table.host.outcomes[WIRE_GRANT_CGROUP] = (uint8_t)cgroup_foresee();
		host_print(s);
		r = parent_ns_possible(s);
		if (r == 0)
			r = host_subordinate_ids(s);
		return r < 0 ? r : host_check_required(s);
	}
	if (s->table.direct_mode != 0 && !s->options.cleanup)
		log_warn("%s", HOST_DIRECT_TEXT);
	/* Three descriptors a sandbox in each daemon. */
	if (getrlimit(RLIMIT_NOFILE, &files) == 0) {
		files.rlim_cur = files.rlim_max;
		(void)setrlimit(RLIMIT_NOFILE, &files);
	}
	r = programs_open(s);
	if (r == 0)
		r = open_log(s);
	if (r == 0 && s->runtime < 0)
		r = runtime_open(s);
	if (r == 0)
		r = run(s);
	if (r == -EALREADY)
		log_error("%s: already running", s->options.runtime);
	return r;
}

/* The parent's half of --daemon: our child says 'k' on the pipe when it is about to become the broker, and the pipe closes
 * when both daemons are executed; anything after the 'k' means that this failed. Whether they then stand is asked of each:
 * one that has its partner refuses another. */
static int await_daemon(struct start *s, int pipe_end)
{
	char text[8];
	ssize_t n;
	size_t used = 0;

	while (used < sizeof(text) && (n = read(pipe_end, text + used, sizeof(text) - used)) > 0)
		used += (size_t)n;
	if (used != 1 || text[0] != 'k')
		return EXIT_FAILURE;
	if (make_link(s) == 0 && survivor_join(s, SURVIVOR_SPAWNER) == -EALREADY &&
	    survivor_join(s, SURVIVOR_BROKER) == -EALREADY)
		return EXIT_SUCCESS;
	log_error("a daemon did not stay; its log says why");
	return EXIT_FAILURE;
}

int main(int argc, char **argv)
{
	static struct start s; /* the policy is large */
	int r, ready[2];
	pid_t pid;

	log_init("postern-start", LOG_LEVEL_INFO);
	memset(&s, 0xff, sizeof(s)); /* every descriptor -1 */
	memset(&s.policy, 0, sizeof(s.policy));
	memset(s.groups, 0, sizeof(s.groups));
	s.group_count = 0;
	r = options_parse(argc, argv, &s.options);
	if (r != 0)
		return r < 0 ? 2 : EXIT_SUCCESS;
	if (geteuid() != 0) {
		log_error("must be started by root");
		return EXIT_FAILURE;
	}
	if (policy_take(&s) < 0 || table_make(&s) < 0)
		return EXIT_FAILURE;
	if (!s.options.daemon || s.options.check || s.options.cleanup)
		return check_or_run(&s) < 0 ? EXIT_FAILURE : EXIT_SUCCESS;
	/* Before the fork: the lock of the directory is held until it is known how it went. */
	if (runtime_open(&s) < 0)
		return EXIT_FAILURE;
	if (pipe2(ready, O_CLOEXEC) < 0 || (pid = fork()) < 0) {
		log_error("--daemon: %m");
		return EXIT_FAILURE;
	}
	if (pid > 0) {
		fd_close(&ready[1]);
		return await_daemon(&s, ready[0]);
	}
	(void)setsid();
	s.ready = ready[1];
	r = check_or_run(&s);
	if (r < 0)
		(void)!write(s.ready, "x", 1);
	return r < 0 ? EXIT_FAILURE : EXIT_SUCCESS;
}
