/* SPDX-License-Identifier: Apache-2.0
 * Runs: controller (the user). A log that cannot fill the disk: when it is full its older half goes. */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#define LOGFILE_MARK "postern:" /* what a line of ours begins with, and none of the VMM's */
#define LOGFILE_MAX ((size_t)512 * 1024) /* bytes; a runtime directory usually is memory */

struct logfile {
	int fd; /* -1: nothing is kept */
	size_t size;
	bool open_line;   /* the last byte was not the end of a line */
	unsigned matched; /* bytes of LOGFILE_MARK that the VMM's line begins with */
};

/* Make the file (0600 whatever the umask) in dir; it must not exist. 0 or -errno. */
int logfile_open(struct logfile *log, int dir, const char *name);
void logfile_close(struct logfile *log);

/* Append. A full disk loses the bytes, not the sandbox. */
void logfile_write(struct logfile *log, const char *bytes, size_t len);

/* Append what a VMM printed. One of its lines that begins as ours do gets "postern (VMM):" instead. */
void logfile_vmm(struct logfile *log, const char *bytes, size_t len);

/* One line of our own among the VMM's, as "postern: ...". A line that the VMM has not ended ends here. */
void logfile_note(struct logfile *log, const char *format, ...) __attribute__((format(printf, 2, 3)));
