/* SPDX-License-Identifier: Apache-2.0
 * Runs: every process. One line per event on stderr, with a syslog priority prefix when the journal reads it.
 *
 * Who gives up logs; who returns an error does not. Text from a peer never gets in unescaped: log_line() replaces every
 * byte that is not printable ASCII. No allocation; safe after a privilege drop and under the daemons'
 * filters. Lines are cut at 1 KB. A daemon ignores SIGPIPE, or a closed stderr would end it. */
#pragma once

#include <stdarg.h>

enum log_level { LOG_LEVEL_ERROR = 3, LOG_LEVEL_WARN = 4, LOG_LEVEL_NOTICE = 5, LOG_LEVEL_INFO = 6, LOG_LEVEL_DEBUG = 7 };

/* program: static text put before each line. Reads JOURNAL_STREAM once; levels above max are dropped. */
void log_init(const char *program, enum log_level max);

void log_line(enum log_level level, const char *format, ...) __attribute__((format(printf, 2, 3)));

#define log_error(...) log_line(LOG_LEVEL_ERROR, __VA_ARGS__)
#define log_warn(...) log_line(LOG_LEVEL_WARN, __VA_ARGS__)
#define log_notice(...) log_line(LOG_LEVEL_NOTICE, __VA_ARGS__)
#define log_info(...) log_line(LOG_LEVEL_INFO, __VA_ARGS__)
#define log_debug(...) log_line(LOG_LEVEL_DEBUG, __VA_ARGS__)
