/* SPDX-License-Identifier: Apache-2.0
 * Runs: controller and CLI (the user). What went wrong, in the words the user will read, and the exit status for it. */
#pragma once

#include "postern/exit.h"

struct failure {
	enum postern_exit exit_status;
	char text[512]; /* "<what> <object>: <reason>; <remedy>", without "postern: " and without a newline */
};

/* Fill *failure and return error, so that a caller can write `return fail(...)`. Bytes that could move a terminal's
 * cursor are replaced: parts of the text come from files and from a VMM. */
int fail(struct failure *failure, int error, enum postern_exit exit_status, const char *format, ...)
	__attribute__((format(printf, 4, 5)));

/* Replace everything in s that is not printable. Bytes of UTF-8 sequences stay. */
void failure_clean(char *s);
