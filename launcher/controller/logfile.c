/* SPDX-License-Identifier: Apache-2.0
 * Runs: controller (the user). */
#include "logfile.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "failure.h"

int logfile_open(struct logfile *log, int dir, const char *name)
{
	cleanup_fd int fd = openat(dir, name, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);

	if (fd < 0)
		return -errno;
	if (fchmod(fd, 0600) < 0)
		return -errno;
	*log = (struct logfile){ .fd = fd_take(&fd) };
	return 0;
}

void logfile_close(struct logfile *log)
{
	fd_close(&log->fd);
}

/* Keep the newer half. Moved inside the file, so that a reader who follows it keeps a good descriptor: it sees the file
 * shrink and starts again from its beginning. */
static void halve(struct logfile *log)
{
	size_t keep = LOGFILE_MAX / 2, from = 0;
	char *tail = malloc(keep);
	const char *end;
	ssize_t got = -1;

	if (tail != NULL && log->size > keep)
		got = pread(log->fd, tail, keep, (off_t)(log->size - keep));
	/* From the next line on: the rest of a cut one could look like a line of ours. */
	end = got > 0 ? memchr(tail, '\n', (size_t)got) : NULL;
	if (end != NULL)
		from = (size_t)(end - tail) + 1;
	else if (got > 0)
		tail[0] = '~';
	if (ftruncate(log->fd, 0) == 0) {
		ssize_t put = got > 0 ? pwrite(log->fd, tail + from, (size_t)got - from, 0) : 0;

		log->size = put > 0 ? (size_t)put : 0;
	}
	free(tail);
}

void logfile_write(struct logfile *log, const char *bytes, size_t len)
{
	if (log->fd < 0)
		return;
	while (len > 0) {
		size_t part = len < LOGFILE_MAX / 4 ? len : LOGFILE_MAX / 4;
		ssize_t put;

		if (log->size + part > LOGFILE_MAX)
			halve(log);
		put = pwrite(log->fd, bytes, part, (off_t)log->size);
		if (put < 0 && errno == EINTR)
			continue;
		if (put <= 0)
			return;
		log->size += (size_t)put;
		log->open_line = bytes[put - 1] != '\n';
		bytes += put;
		len -= (size_t)put;
	}
}

void logfile_vmm(struct logfile *log, const char *bytes, size_t len)
{
	static const char mark[] = LOGFILE_MARK, instead[] = " (VMM)";
	const unsigned whole = sizeof(mark) - 1;
	size_t from = 0;

	for (size_t i = 0; i < len; i++) {
		if (bytes[i] == '\n') {
			log->matched = 0;
			continue;
		}
		/* Behind the first byte that differs the line is free. */
		log->matched = log->matched < whole && bytes[i] == mark[log->matched] ? log->matched + 1 : whole + 1;
		if (log->matched == whole) {
			logfile_write(log, bytes + from, i - from);
			logfile_write(log, instead, sizeof(instead) - 1);
			from = i;
		}
	}
	logfile_write(log, bytes + from, len - from);
}

void logfile_note(struct logfile *log, const char *format, ...)
{
	char line[512] = LOGFILE_MARK " ";
	size_t at = strlen(line);
	va_list args;
	int len;

	va_start(args, format);
	len = vsnprintf(line + at, sizeof(line) - at - 1, format, args);
	va_end(args);
	if (len < 0)
		return;
	failure_clean(line);
	at = strlen(line);
	if (log->open_line)
		logfile_write(log, "\n", 1);
	log->matched = 0;
	line[at++] = '\n';
	logfile_write(log, line, at);
}
