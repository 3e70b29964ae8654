/* SPDX-License-Identifier: Apache-2.0
 * Runs: CLI (the user). postern logs. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "cli.h"
#include "common/cleanup.h"

#define LOGS_NAP_NS 200000000

/* The VMM's and the guest's words, as they are into a file or a pipe; a terminal they shall not steer. */
static int put(char *bytes, size_t len)
{
	if (isatty(STDOUT_FILENO) == 1)
		len = failure_clean_bytes(bytes, len, "\n\t");
	return fwrite(bytes, 1, len, stdout) == len ? 0 : -EIO;
}

/* Copy what is new. A log that shrank has lost its older half: what is there now is all new. */
static int copy(int fd, off_t *at)
{
	char bytes[16384];
	struct stat st;
	ssize_t got;

	if (fstat(fd, &st) == 0 && st.st_size < *at)
		*at = 0;
	while ((got = pread(fd, bytes, sizeof(bytes), *at)) > 0) {
		if (got == (ssize_t)sizeof(bytes)) /* more follows: a character cut in two is left to the next round */
			got -= (ssize_t)failure_cut_tail(bytes, (size_t)got);
		*at += got;
		if (put(bytes, (size_t)got) < 0)
			return -EIO;
	}
	return fflush(stdout) == 0 ? 0 : -EIO;
}

static int print_log(int dir, const char *name, bool follow, const char *uuid)
{
	const struct timespec nap = { .tv_nsec = LOGS_NAP_NS };
	cleanup_fd int fd = openat(dir, name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
	bool alive = true;
	off_t at = 0;

	if (fd < 0)
		return say_error(EXIT_NOT_FOUND, "logs of %s: there are none; it kept nothing or has just ended", uuid);
	for (;;) {
		if (copy(fd, &at) < 0)
			return EXIT_FAILED; /* nobody reads our output any more */
		if (!follow || !alive)
			return EXIT_OK;
		/* In this order: what was printed before the end is copied after it was seen. */
		alive = home_running(dir);
		(void)nanosleep(&nap, NULL);
	}
}

int command_logs(const struct command *self, int argc, char **argv)
{
	const struct home_entry *entry;
	struct failure failure;
	struct found found;
	bool follow = false, console = false;
	const struct option_row rows[] = {
		{ "follow", NULL, "go on until the sandbox ends", OPTION_FLAG, &follow },
		{ "console", NULL, "what the guest printed on its console, instead of the VMM's output", OPTION_FLAG,
		  &console },
	};
	cleanup_fd int dir = -1;
	size_t words;
	int r = options_parse(self, rows, ARRAY_SIZE(rows), NULL, argc, argv, &words);

	if (r < 0 && words != 1)
		r = say_error(EXIT_USAGE, "logs: it takes one id; see postern ps --all");
	if (r < 0 && find_all(&found, &failure) < 0)
		r = say_failure(&failure);
	if (r >= 0)
		return r;
	entry = find_one(&found, argv[0], true, &failure);
	dir = entry != NULL ? home_open(found.base, entry->state.uuid, entry->dead) : -1;
	if (entry == NULL)
		r = say_failure(&failure);
	else if (dir < 0)
		r = say_error(EXIT_NOT_FOUND, "logs of %s: there are none on this host", entry->state.uuid);
	else
		r = print_log(dir, console ? HOME_CONSOLE_LOG : HOME_VMM_LOG, follow, entry->state.uuid);
	find_done(&found);
	return r;
}
