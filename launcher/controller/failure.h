/* SPDX-License-Identifier: Apache-2.0
 * Runs: controller and CLI (the user). What went wrong, in the words the user will read, and the exit status for it. */
#pragma once

#include <stddef.h>

#include "postern/exit.h"

struct failure {
	enum postern_exit exit_status;
	char text[512]; /* "<what> <object>: <reason>; <remedy>", without "postern: " and without a newline */
};

/* Fill *failure and return error, so that a caller can write `return fail(...)`. Bytes that could move a terminal's
 * cursor are replaced: parts of the text come from files and from a VMM. */
int fail(struct failure *failure, int error, enum postern_exit exit_status, const char *format, ...)
	__attribute__((format(printf, 4, 5)));

/* Replace everything in s that is not printable: what is left is UTF-8 without control characters, which JSON takes and a
 * terminal shows. A control character becomes a blank; C1 and bytes that are no UTF-8, also a sequence cut at the end, a
 * question mark. s may get shorter. */
void failure_clean(char *s);

/* The same for len bytes, in place, of several lines: those in keep stay. Returns the new length. */
size_t failure_clean_bytes(char *s, size_t len, const char *keep);

/* How many bytes at the end of s are the beginning of a sequence whose rest may still come. */
size_t failure_cut_tail(const char *s, size_t len);
