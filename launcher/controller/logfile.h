/* SPDX-License-Identifier: Apache-2.0
 * Runs: controller (the user). A log that cannot fill the disk: when it is full its older half goes. */
#pragma once

#include <stddef.h>

#define LOGFILE_MAX ((size_t)512 * 1024) /* bytes; a runtime directory usually is memory */

struct logfile {
	int fd; /* -1: nothing is kept */
	size_t size;
};

/* Make the file (0600 whatever the umask) in dir; it must not exist. 0 or -errno. */
int logfile_open(struct logfile *log, int dir, const char *name);
void logfile_close(struct logfile *log);

/* Append. A full disk loses the bytes, not the sandbox. */
void logfile_write(struct logfile *log, const char *bytes, size_t len);

/* One line of our own among the VMM's, as "postern: ...". */
void logfile_note(struct logfile *log, const char *format, ...) __attribute__((format(printf, 2, 3)));
