/* SPDX-License-Identifier: Apache-2.0
 * Runs: broker (its own uid, no capability; see confine.c). postern-start becomes this program by exec. */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "common/log.h"
#include "config.h"
#include "confine.h"
#include "server.h"

#define EXIT_START 1       /* could not start, or sandboxes were left behind */
#define EXIT_USE 2         /* command line, or a policy that is refused */
#define DESCRIPTORS_OWN 64 /* besides those of leases and sessions */
#define LEASES_MIN 16

struct options {
	const char *check;
	bool stop_sandboxes;
	enum log_level level;
};

static const char usage[] = "Usage: postern-broker [--stop-sandboxes-on-exit] [--foreground-log-level LEVEL]\n"
			    "       postern-broker --check-policy FILE\n"
			    "       postern-broker --help | --version\n"
			    "\n"
			    "Decides who may start which sandbox. Started by postern-start, not by hand.\n"
			    "\n"
			    "      --check-policy FILE          say OK, or where and why FILE would be refused\n"
			    "      --stop-sandboxes-on-exit     SIGTERM and SIGINT end every sandbox first\n"
			    "      --foreground-log-level LEVEL error, warn, notice, info (default) or debug\n";

/* ---- --check-policy: for anybody who can read the file ------------------------------------------------------------- */

static int refuse_policy(const char *path, const struct policy_error *error)
{
	if (error->line != 0)
		printf("%s:%u: %s: %s\n", path, error->line, error->where[0] != '\0' ? error->where : "policy", error->text);
	else
		printf("%s: %s%s%s\n", path, error->where, error->where[0] != '\0' ? ": " : "", error->text);
	return EXIT_USE;
}

static int check_policy(const char *path)
{
	static struct policy policy;
	struct policy_error error = { 0 };
	cleanup_fd int fd = policy_open(path, &error);

	if (fd < 0 || policy_load(fd, &policy, &error) < 0)
		return refuse_policy(path, &error);
	printf("OK\n");
	return 0;
}

/* ---- start ------------------------------------------------------------------------------------------------------------ */

static int level_of(const char *name, enum log_level *ret)
{
	static const struct {
		const char *name;
		enum log_level level;
	} levels[] = { { "error", LOG_LEVEL_ERROR },
		       { "warn", LOG_LEVEL_WARN },
		       { "notice", LOG_LEVEL_NOTICE },
		       { "info", LOG_LEVEL_INFO },
		       { "debug", LOG_LEVEL_DEBUG } };

	for (size_t i = 0; i < ARRAY_SIZE(levels); i++) {
		if (strcmp(levels[i].name, name) == 0) {
			*ret = levels[i].level;
			return 0;
		}
	}
	return -EINVAL;
}

/* -1: go on; else the exit status. */
static int parse(int argc, char **argv, struct options *ret)
{
	enum { OPT_CHECK = 256, OPT_STOP, OPT_LEVEL, OPT_HELP, OPT_VERSION };
	static const struct option longs[] = { { "check-policy", required_argument, NULL, OPT_CHECK },
					       { "stop-sandboxes-on-exit", no_argument, NULL, OPT_STOP },
					       { "foreground-log-level", required_argument, NULL, OPT_LEVEL },
					       { "help", no_argument, NULL, OPT_HELP },
					       { "version", no_argument, NULL, OPT_VERSION },
					       { 0 } };
	int c;

	while ((c = getopt_long(argc, argv, "", longs, NULL)) != -1) {
		if (c == OPT_CHECK) {
			ret->check = optarg;
		} else if (c == OPT_STOP) {
			ret->stop_sandboxes = true;
		} else if (c == OPT_LEVEL && level_of(optarg, &ret->level) == 0) {
			continue;
		} else if (c == OPT_HELP) {
			return fputs(usage, stdout) < 0 ? EXIT_START : 0;
		} else if (c == OPT_VERSION) {
			return printf("postern-broker %s\n", POSTERN_VERSION) < 0 ? EXIT_START : 0;
		} else {
			if (c == OPT_LEVEL)
				(void)fprintf(stderr,
					      "postern-broker: no log level \"%s\": error, warn, notice, info or debug\n",
					      optarg);
			return EXIT_USE;
		}
	}
	if (optind < argc) {
		(void)fprintf(stderr, "postern-broker: unexpected argument \"%s\"; see --help\n", argv[optind]);
		return EXIT_USE;
	}
	return -1;
}

static bool is_open(int fd)
{
	return fcntl(fd, F_GETFD) >= 0;
}

/* What postern-start left us (broker/inherit.h), and nothing else. -EBADF: it was not postern-start. */
static int inherit(struct server_fds *ret)
{
	static const int needed[] = { STDIN_FILENO,     STDOUT_FILENO,    STDERR_FILENO,     BROKER_FD_SPAWNER,
				      BROKER_FD_POLICY, BROKER_FD_LISTEN, BROKER_FD_RUNTIME, BROKER_FD_HOST };

	for (size_t i = 0; i < ARRAY_SIZE(needed); i++)
		if (!is_open(needed[i]))
			return -EBADF;
	if (close_range(BROKER_FD_IDS_LOCK + 1, BROKER_FD_P_FIRST - 1, 0) < 0 ||
	    close_range(BROKER_FD_P_FIRST + P_COUNT, ~0U, 0) < 0)
		return -errno;
	*ret = (struct server_fds){ .listen = BROKER_FD_LISTEN,
				    .spawner = BROKER_FD_SPAWNER,
				    .signals = -1,
				    .notify = -1,
				    .rendezvous = is_open(BROKER_FD_RENDEZVOUS) ? BROKER_FD_RENDEZVOUS : -1 };
	for (int i = 0; i < P_COUNT; i++)
		ret->kept[i] = is_open(BROKER_FD_P_FIRST + i) ? BROKER_FD_P_FIRST + i : -1;
	return 0;
}

static int read_host(struct host_table *ret)
{
	struct host_table host;

	if (!table_sealed(BROKER_FD_HOST) || pread(BROKER_FD_HOST, &host, sizeof(host), 0) != (ssize_t)sizeof(host) ||
	    host.magic != TABLE_MAGIC || host.size != sizeof(host))
		return -EINVAL;
	*ret = host;
	return 0;
}

/* Signals become messages; those that would end us for somebody else's reason are ignored. */
static int open_signals(void)
{
	sigset_t set;

	(void)sigemptyset(&set);
	(void)sigaddset(&set, SIGTERM);
	(void)sigaddset(&set, SIGINT);
	(void)signal(SIGHUP, SIG_IGN);
	(void)signal(SIGPIPE, SIG_IGN);
	(void)signal(SIGCHLD, SIG_IGN); /* the spawner may be our child; nobody else would reap it */
	if (sigprocmask(SIG_SETMASK, &set, NULL) < 0)
		return -errno;
	return signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
}

/* How many leases our descriptors allow: two each, and two for each session. */
static int lease_capacity(const struct policy *policy, size_t *ret)
{
	size_t limit, used = DESCRIPTORS_OWN + 2 * (size_t)policy->sessions_max;
	int r = confine_descriptors(&limit);

	if (r < 0)
		return r;
	if (limit < used + (size_t)2 * LEASES_MIN)
		return -EMFILE;
	*ret = (limit - used) / 2 < LEASES_MAX ? (limit - used) / 2 : LEASES_MAX;
	return 0;
}

/* Start has decided whether there are labels; that there is then no way to make one is the end. */
static int prepare_labels(const struct host_table *host, struct label_pool *labels)
{
	labels->categories = LABEL_CATEGORIES;
	return wire_outcome_ok(host->outcomes[WIRE_GRANT_LABEL]) ? label_open(labels) : 0;
}

static int give_up(const char *what, int error, const char *remedy)
{
	log_error("%s%s%s; %s", what, error != 0 ? ": " : "", error != 0 ? strerror(-error) : "", remedy);
	return EXIT_START;
}

/* Everything that needs more than the filter allows, in the order in which one needs the other. */
static int start(struct server *server, struct policy *policy, struct label_pool *labels)
{
	struct policy_error why = { 0 };
	struct host_table host;
	struct server_fds fds;
	struct ids ids;
	size_t capacity;
	int r = inherit(&fds);

	if (r < 0)
		return give_up("descriptors are missing", r,
			       "postern-broker is started by postern-start, see postern-start(8)");
	if (!table_sealed(BROKER_FD_POLICY))
		return give_up("the policy could still be changed", 0, "postern-broker is started by postern-start");
	if (policy_load(BROKER_FD_POLICY, policy, &why) < 0) {
		log_error("policy:%u: %s: %s; see postern-policy(5)", why.line, why.where, why.text);
		return EXIT_USE;
	}
	if (read_host(&host) < 0)
		return give_up("the host table is not one", 0,
			       "postern-start and postern-broker must be of the same version");
	r = prepare_labels(&host, labels);
	if (r < 0)
		return give_up("our own SELinux label", r, "see docs/selinux.md");
	r = lease_capacity(policy, &capacity);
	if (r < 0)
		return give_up("RLIMIT_NOFILE is too low", r,
			       "raise it for postern-start, or lower sessions_max in the policy");
	r = ids_open(BROKER_FD_RUNTIME, policy->first_uid, policy->uid_count, now_ns(), &ids);
	if (r < 0)
		return give_up("the file \"ids\" in the runtime directory", r,
			       "when no sandbox runs, remove it: it must be a file of the broker's with mode 0600");
	fds.signals = open_signals();
	if (fds.signals < 0)
		return give_up("signalfd", fds.signals, "see errno");
	fds.notify = notify_open();
	if (server_init(server, policy, &host, labels, &ids, &fds, capacity) < 0)
		return give_up("tables", -ENOMEM, "free some memory");
	confine_enter(policy->broker_uid, policy->broker_gid);
	return 0;
}

static int serve(const struct options *options)
{
	static struct policy policy;
	static struct label_pool labels;
	static struct server server;
	int r;

	(void)umask(077);
	r = start(&server, &policy, &labels);
	if (r != 0)
		return r;
	server.stop_sandboxes = options->stop_sandboxes;
	log_info("confined; at most %zu sandboxes", server.leases.capacity);
	while (!server.finished) {
		r = server_step(&server, -1);
		if (r < 0)
			return give_up("poll", r, "this is a bug");
	}
	return server.failed || (options->stop_sandboxes && server.leases.count > 0) ? EXIT_START : 0;
}

int main(int argc, char **argv)
{
	struct options options = { .level = LOG_LEVEL_INFO };
	int r = parse(argc, argv, &options);

	if (r >= 0)
		return r;
	log_init("postern-broker", options.level);
	return options.check != NULL ? check_policy(options.check) : serve(&options);
}
