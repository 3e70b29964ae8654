/* SPDX-License-Identifier: Apache-2.0
 * Runs: start (root, for a moment). The command line. */
#include "start.h"

#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "config.h"

/* clang-format off */
static const char usage[] =
	"Usage: postern-start [OPTION]...\n"
	"Prepare this host for sandboxes, then become postern-broker. Needs root; keeps none of it.\n"
	"If one of the two daemons died, start again: the other one and the sandboxes are kept.\n"
	"\n"
	"  --policy FILE      who may start what (default " POSTERN_POLICY ")\n"
	"  --runtime DIR      sockets and state (default " POSTERN_RUNTIME ")\n"
	"  --libexec DIR      where postern-spawner and postern-init are (default: beside this program)\n"
	"  --foreground       stay (default)\n"
	"  --daemon           return when clients can connect\n"
	"  --log FILE         append the daemons' messages to FILE instead of standard error\n"
	"  --only HALF        broker or spawner: start this one alone, for a service manager that keeps each by itself\n"
	"  --stop-sandboxes-on-exit\n"
	"                     an orderly end of the broker ends the sandboxes and the spawner too\n"
	"  --check            look at the policy and this host, print what works and what is missing, start nothing\n"
	"  --cleanup          after both daemons have ended: kill what they left, remove sockets and cgroups\n"
	"  --help, --version\n";

enum { OPTION_POLICY = 256, OPTION_RUNTIME, OPTION_LIBEXEC, OPTION_FOREGROUND, OPTION_DAEMON, OPTION_LOG, OPTION_ONLY,
       OPTION_STOP, OPTION_CHECK, OPTION_CLEANUP, OPTION_HELP, OPTION_VERSION, OPTION_FAULT };
/* clang-format on */

static const struct option table[] = {
	{ "policy", required_argument, NULL, OPTION_POLICY },
	{ "runtime", required_argument, NULL, OPTION_RUNTIME },
	{ "libexec", required_argument, NULL, OPTION_LIBEXEC },
	{ "foreground", no_argument, NULL, OPTION_FOREGROUND },
	{ "daemon", no_argument, NULL, OPTION_DAEMON },
	{ "log", required_argument, NULL, OPTION_LOG },
	{ "only", required_argument, NULL, OPTION_ONLY },
	{ "stop-sandboxes-on-exit", no_argument, NULL, OPTION_STOP },
	{ "check", no_argument, NULL, OPTION_CHECK },
	{ "cleanup", no_argument, NULL, OPTION_CLEANUP },
	{ "help", no_argument, NULL, OPTION_HELP },
	{ "version", no_argument, NULL, OPTION_VERSION },
#ifdef POSTERN_FAULT_INJECTION
	{ "fault-fd", required_argument, NULL, OPTION_FAULT },
#endif
	{ NULL, 0, NULL, 0 },
};

static int bad(const char *what)
{
	(void)fprintf(stderr, "postern-start: %s\nTry 'postern-start --help'.\n", what);
	return -EINVAL;
}

/* 0 taken, 1 done, -EINVAL. */
static int take(int option, struct options *o)
{
	switch (option) {
	case OPTION_POLICY:
		o->policy = optarg;
		return 0;
	case OPTION_RUNTIME:
		o->runtime = optarg;
		return 0;
	case OPTION_LIBEXEC:
		o->libexec = optarg;
		return 0;
	case OPTION_FOREGROUND:
		o->daemon = false;
		return 0;
	case OPTION_DAEMON:
		o->daemon = true;
		return 0;
	case OPTION_LOG:
		o->log = optarg;
		return 0;
	case OPTION_ONLY:
		o->only_broker = strcmp(optarg, "broker") == 0;
		o->only_spawner = strcmp(optarg, "spawner") == 0;
		return o->only_broker || o->only_spawner ? 0 : -EINVAL;
	case OPTION_STOP:
		o->stop_sandboxes = true;
		return 0;
	case OPTION_CHECK:
		o->check = true;
		return 0;
	case OPTION_CLEANUP:
		o->cleanup = true;
		return 0;
	case OPTION_HELP:
		(void)fputs(usage, stdout);
		return 1;
	case OPTION_VERSION:
		(void)printf("postern-start %s\n", POSTERN_VERSION);
		return 1;
	case OPTION_FAULT:
		o->fault_fd = (int)strtol(optarg, NULL, 10);
		return 0;
	default: /* getopt_long() has said what is wrong */
		return -EINVAL;
	}
}

int options_parse(int argc, char **argv, struct options *ret)
{
	struct options o = { .policy = POSTERN_POLICY, .runtime = POSTERN_RUNTIME, .fault_fd = -1 };
	int option;

	while ((option = getopt_long(argc, argv, "", table, NULL)) >= 0) {
		int r = take(option, &o);

		if (r != 0)
			return r < 0 ? bad("bad option") : r;
	}
	if (optind < argc)
		return bad("only options are expected");
	if (o.daemon && (o.only_broker || o.only_spawner))
		return bad("--daemon starts both");
	/* Relative paths would depend on where root happened to stand. */
	if (o.policy[0] != '/' || o.runtime[0] != '/' || (o.libexec != NULL && o.libexec[0] != '/') ||
	    (o.log != NULL && o.log[0] != '/'))
		return bad("paths must be absolute");
	if (strlen(o.runtime) > RUNTIME_PATH_MAX)
		return bad("the runtime directory's path is too long");
	*ret = o;
	return 0;
}
