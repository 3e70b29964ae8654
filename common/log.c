/* SPDX-License-Identifier: Apache-2.0
 * Runs: every process. */
#include "log.h"

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static const char *program_name = "postern";
static enum log_level level_max = LOG_LEVEL_INFO;
static bool for_journal;

void log_init(const char *program, enum log_level max)
{
	program_name = program;
	level_max = max;
	for_journal = getenv("JOURNAL_STREAM") != NULL;
}

void log_line(enum log_level level, const char *format, ...)
{
	char line[1024];
	int saved = errno;
	int used;
	va_list ap;

	if (level > level_max)
		return;
	if (for_journal)
		used = snprintf(line, sizeof(line), "<%d>", level);
	else
		used = snprintf(line, sizeof(line), "%s: ", program_name);
	va_start(ap, format);
	if (used > 0 && (size_t)used < sizeof(line)) {
		int more;

		errno = saved; /* so that %m means what the caller meant */
		more = vsnprintf(line + used, sizeof(line) - (size_t)used, format, ap);
		used = more < 0 ? used : used + more;
	}
	va_end(ap);
	if (used > (int)sizeof(line) - 2)
		used = (int)sizeof(line) - 2;
	for (int i = 0; i < used; i++)
		if (line[i] < 0x20 || line[i] > 0x7e)
			line[i] = '?';
	line[used] = '\n';
	/* A line that cannot be written is lost; there is nobody left to tell. */
	if (write(STDERR_FILENO, line, (size_t)used + 1) < 0)
		(void)0;
	errno = saved;
}
