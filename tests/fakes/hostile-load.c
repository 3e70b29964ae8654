/* SPDX-License-Identifier: Apache-2.0
 * Runs: VMM (inside a sandbox, no privilege). A VMM that takes what there is: memory, threads, CPU time. */
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>

#include "hostile.h"

/* So many MiB of memory, written to. */
long try_eat(char **a)
{
	for (long i = 0; i < number(a[0]); i++) {
		void *p = mmap(NULL, 1 << 20, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

		if (p == MAP_FAILED)
			return -errno;
		memset(p, 1, 1 << 20);
	}
	return 0;
}

static void *spin(void *busy)
{
	volatile bool on = true;

	while (on)
		if (busy == NULL)
			poll(NULL, 0, -1);
	return NULL;
}

/* So many threads, which sleep, or with a second word compute; {"threads":N} says how many there are in the end. */
long try_threads(char **a)
{
	char line[64];
	long made = 0;
	int r = 0;

	while (made < number(a[0]) && r == 0) {
		pthread_t thread;
		pthread_attr_t attr;

		pthread_attr_init(&attr);
		pthread_attr_setstacksize(&attr, 65536);
		r = pthread_create(&thread, &attr, spin, a[1][0] != '\0' ? line : NULL);
		pthread_attr_destroy(&attr);
		made += r == 0;
	}
	snprintf(line, sizeof(line), "{\"threads\":%ld}\n", made);
	say(line);
	return -r;
}
