/* SPDX-License-Identifier: Apache-2.0
 * Runs: controller and CLI (the user). */
#include "failure.h"

#include <stdarg.h>
#include <stdio.h>

void failure_clean(char *s)
{
	for (; *s != '\0'; s++)
		if ((unsigned char)*s < 0x20 || *s == 0x7f)
			*s = ' ';
}

int fail(struct failure *failure, int error, enum postern_exit exit_status, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	(void)vsnprintf(failure->text, sizeof(failure->text), format, args);
	va_end(args);
	failure_clean(failure->text);
	failure->exit_status = exit_status;
	return error;
}
