/* SPDX-License-Identifier: Apache-2.0
 * Runs: CLI (the user). The table of commands. */
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "cli.h"
#include "common/cleanup.h"
#include "common/log.h"

static const struct command commands[] = {
	{ "run", "[SPEC.json]", "start a sandbox and connect to its console", command_run },
	{ "ps", "", "list your sandboxes", command_ps },
	{ "status", "ID", "say what is known about one", command_status },
	{ "console", "ID", "connect to its serial console", command_console },
	{ "stop", "ID...", "ask the guest to power off; quit, then kill when it does not", command_stop },
	{ "kill", "ID... | --all", "end it at once", command_kill },
	{ "pause", "ID", "stop its virtual CPUs", command_pause },
	{ "resume", "ID", "let them go on", command_resume },
	{ "receipt", "ID", "show what the kernel said about it before the guest ran", command_receipt },
	{ "audit", "ID", "ask the kernel again and compare", command_audit },
	{ "logs", "ID", "show what the VMM or the console printed", command_logs },
	{ "check", "[SPEC.json]", "say what run would do, and start nothing", command_check },
	{ "version", "", "print the version", command_version },
	{ "help", "[COMMAND]", "explain", command_help },
};

const struct command *command_all(size_t *ret_count)
{
	*ret_count = ARRAY_SIZE(commands);
	return commands;
}

/* Where the command's name is: behind --socket, which may stand before it. */
static int command_at(int argc, char **argv)
{
	int at = 1;

	while (at < argc && (strcmp(argv[at], "--socket") == 0 || strncmp(argv[at], "--socket=", 9) == 0))
		at += argv[at][8] == '=' ? 1 : 2;
	return at < argc ? at : argc;
}

int main(int argc, char **argv)
{
	int at = command_at(argc, argv);
	const char *name;

	(void)signal(SIGPIPE, SIG_IGN);
	(void)umask(077); /* whatever we make is ours alone */
	log_init("postern", LOG_LEVEL_WARN);
	if (at >= argc)
		return say_error(EXIT_USAGE, "%s; see postern help",
				 argc > 1 && strcmp(argv[argc - 1], "--socket") == 0
					 ? "option --socket: its value is missing"
					 : "command: there is none");
	name = argv[at];
	if (strcmp(name, "--help") == 0 || strcmp(name, "-h") == 0)
		name = "help";
	else if (strcmp(name, "--version") == 0)
		name = "version";
	for (size_t i = 0; i < ARRAY_SIZE(commands); i++)
		if (strcmp(commands[i].name, name) == 0) {
			/* What stood before the name is an option of the command: rotate it behind. */
			for (int moved = at; moved > 1 && at < argc; moved--) {
				char *word = argv[moved];

				argv[moved] = argv[moved - 1];
				argv[moved - 1] = word;
			}
			return commands[i].run(&commands[i], argc > 1 ? argc - 1 : 1, argc > 1 ? argv + 1 : argv);
		}
	return say_error(EXIT_USAGE, "command %s: there is none of that name; see postern help", name);
}
