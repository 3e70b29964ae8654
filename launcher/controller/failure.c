/* SPDX-License-Identifier: Apache-2.0
 * Runs: controller and CLI (the user). */
#include "failure.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

/* Length that the first byte promises; 1 also for what cannot be a first byte. */
static size_t promised(unsigned char first)
{
	return first >= 0xf0 && first <= 0xf4  ? 4
	       : first >= 0xe0 && first < 0xf0 ? 3
	       : first >= 0xc2 && first < 0xe0 ? 2
					       : 1;
}

/* Length of the whole sequence of several bytes that begins at s; 0: there is none, or it is C1. */
static size_t sequence(const unsigned char *s, size_t len)
{
	size_t want = promised(s[0]);

	if (want == 1 || want > len)
		return 0;
	for (size_t i = 1; i < want; i++)
		if ((s[i] & 0xc0) != 0x80)
			return 0;
	/* Written longer than needed, a surrogate, behind the last character; U+0080 to U+009F steer a terminal. */
	if ((s[0] == 0xe0 && s[1] < 0xa0) || (s[0] == 0xed && s[1] > 0x9f) || (s[0] == 0xf0 && s[1] < 0x90) ||
	    (s[0] == 0xf4 && s[1] > 0x8f) || (s[0] == 0xc2 && s[1] < 0xa0))
		return 0;
	return want;
}

size_t failure_clean_bytes(char *s, size_t len, const char *keep)
{
	size_t put = 0;

	for (size_t at = 0; at < len;) {
		unsigned char c = (unsigned char)s[at];
		size_t whole = sequence((const unsigned char *)s + at, len - at);

		if (whole > 0) {
			memmove(s + put, s + at, whole);
			put += whole;
			at += whole;
			continue;
		}
		if (c >= 0x80) {
			s[put++] = '?';
			at += c == 0xc2 && at + 1 < len && ((unsigned char)s[at + 1] & 0xe0) == 0x80 ? 2 : 1;
			continue;
		}
		s[put++] = (c < 0x20 && (c == 0 || strchr(keep, c) == NULL)) || c == 0x7f ? ' ' : (char)c;
		at++;
	}
	return put;
}

size_t failure_cut_tail(const char *s, size_t len)
{
	for (size_t back = 1; back <= 3 && back <= len; back++) {
		unsigned char c = (unsigned char)s[len - back];

		if ((c & 0xc0) != 0x80)
			return promised(c) > back ? back : 0;
	}
	return 0;
}

void failure_clean(char *s)
{
	s[failure_clean_bytes(s, strlen(s), "")] = '\0';
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
