/* SPDX-License-Identifier: Apache-2.0
 * Runs: CLI (the user). Output. */
#include <errno.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cli.h"

int say_failure(const struct failure *failure)
{
	(void)fprintf(stderr, "postern: %s\n", failure->text);
	return (int)failure->exit_status;
}

int say_error(enum postern_exit exit_status, const char *format, ...)
{
	struct failure failure = { .exit_status = exit_status };
	va_list args;

	va_start(args, format);
	(void)vsnprintf(failure.text, sizeof(failure.text), format, args);
	va_end(args);
	failure_clean(failure.text);
	return say_failure(&failure);
}

int say_spec_error(const struct spec_error *error)
{
	char line[32] = "";

	if (error->line > 0)
		(void)snprintf(line, sizeof(line), " (line %d)", error->line);
	/* "." is all of it: no name to give. */
	return say_error(EXIT_USAGE, "spec%s%s%s: %s%s%s", strcmp(error->where, ".") == 0 ? "" : " ",
			 strcmp(error->where, ".") == 0 ? "" : error->where, line, error->text,
			 error->allowed[0] != '\0' ? "; allowed: " : "", error->allowed);
}

int say_json(json_t *json)
{
	int r = json != NULL ? json_dumpf(json, stdout, JSON_INDENT(2)) : -1;

	json_decref(json);
	if (r == 0)
		(void)putchar('\n');
	else if (ferror(stdout) == 0)
		return say_error(EXIT_FAILED, "print JSON: out of memory; stop something");
	return say_end();
}

int say_end(void)
{
	struct pollfd out = { .fd = STDOUT_FILENO, .events = POLLOUT };
	int error;

	errno = 0;
	if (fflush(stdout) == 0 && ferror(stdout) == 0)
		return EXIT_OK;
	error = errno;
	/* Whoever reads has seen enough: `postern receipt X | head`. An earlier flush may have met the error, so ask. */
	if (error == EPIPE || (error == 0 && poll(&out, 1, 0) == 1 && (out.revents & (POLLERR | POLLHUP)) != 0))
		return EXIT_FAILED;
	return say_error(EXIT_FAILED, "standard output: cannot be written (%s); is the disk full?",
			 error != 0 ? strerror(error) : "an earlier write failed");
}

bool say_colour(int fd)
{
	const char *no = getenv("NO_COLOR");

	return isatty(fd) == 1 && (no == NULL || no[0] == '\0');
}
