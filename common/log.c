/* SPDX-License-Identifier: Apache-2.0
 * Runs: every process. */
#include "log.h"

#include <errno.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define LINE_MAX_BYTES 1024 /* longer lines are cut: a peer's text must not fill a disk */

static const char *program_name = "postern";
static enum log_level level_max = LOG_LEVEL_INFO;
static bool for_journal;

/* JOURNAL_STREAM names the journal's socket as device:inode. It is inherited by children whose stderr is something
 * else, so the variable alone proves nothing. */
static bool stderr_is_journal(void)
{
	const char *stream = getenv("JOURNAL_STREAM");
	char expected[64];
	struct stat st;

	if (stream == NULL || fstat(STDERR_FILENO, &st) < 0)
		return false;
	(void)snprintf(expected, sizeof(expected), "%ju:%ju", (uintmax_t)st.st_dev, (uintmax_t)st.st_ino);
	return strcmp(stream, expected) == 0;
}

void log_init(const char *program, enum log_level max)
{
	program_name = program;
	level_max = max;
	for_journal = stderr_is_journal();
}

void log_line(enum log_level level, const char *format, ...)
{
	char line[LINE_MAX_BYTES];
	int saved = errno;
	size_t used;
	int n;
	va_list ap;

	if (level > level_max)
		return;
	if (for_journal)
		n = snprintf(line, sizeof(line) - 1, "<%d>", level);
	else
		n = snprintf(line, sizeof(line) - 1, "%s: ", program_name);
	used = n < 0 ? 0 : (size_t)n < sizeof(line) - 2 ? (size_t)n : sizeof(line) - 2;
	errno = saved; /* so that %m means what the caller meant */
	va_start(ap, format);
	n = vsnprintf(line + used, sizeof(line) - 1 - used, format, ap);
	va_end(ap);
	if (n > 0)
		used = (size_t)n < sizeof(line) - 1 - used ? used + (size_t)n : sizeof(line) - 2;
	/* One event is one line, whatever is in it: no newline, no escape sequence, no byte of another character set. */
	for (size_t i = 0; i < used; i++)
		if (line[i] < 0x20 || line[i] > 0x7e)
			line[i] = '?';
	line[used] = '\n';
	/* A line that cannot be written is lost; there is nobody left to tell. */
	if (write(STDERR_FILENO, line, used + 1) < 0)
		(void)0;
	errno = saved;
}
