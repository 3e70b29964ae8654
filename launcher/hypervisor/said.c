/* SPDX-License-Identifier: Apache-2.0
 * Runs: controller (the user). */
#include "said.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define FDSET "/dev/fdset/"

/* The disk whose word of argv opens that set: which number it has depends on what else was handed over. */
static const char *disk_path(const struct spec *spec, const struct plan *plan, unsigned long set)
{
	const char *word = plan != NULL ? plan->words : NULL;
	char wanted[96];

	for (size_t w = 0; plan != NULL && w < plan->word_count; w++, word += strlen(word) + 1)
		for (size_t i = 0; i < spec->disk_count; i++) {
			(void)snprintf(wanted, sizeof(wanted), "node-name=file-%.40s,filename=" FDSET "%lu,",
				       spec->disks[i].id, set);
			if (strstr(word, wanted) != NULL)
				return spec->disks[i].path;
		}
	return NULL;
}

/* The user's name for what stands at said, and how long that is; NULL: nothing of the user's. */
static const char *own_name(const struct spec *spec, const struct plan *plan, const char *said, size_t *ret_len)
{
	static const char kernel[] = "/run/kernel", initrd[] = "/run/initrd", fdset[] = FDSET;
	const char *name = NULL;
	char *end;

	if (strncmp(said, kernel, sizeof(kernel) - 1) == 0) {
		name = spec->kernel;
		*ret_len = sizeof(kernel) - 1;
	} else if (strncmp(said, initrd, sizeof(initrd) - 1) == 0) {
		name = spec->initrd;
		*ret_len = sizeof(initrd) - 1;
	} else if (strncmp(said, fdset, sizeof(fdset) - 1) == 0) {
		name = disk_path(spec, plan, strtoul(said + sizeof(fdset) - 1, &end, 10));
		*ret_len = (size_t)(end - said);
	}
	return name;
}

void said_names(const struct spec *spec, const struct plan *plan, const char *said, char *ret, size_t size)
{
	size_t used = 0;

	while (*said != '\0' && used + 1 < size) {
		size_t len = 1;
		const char *name = *said == '/' ? own_name(spec, plan, said, &len) : NULL;
		int n;

		if (name == NULL) {
			ret[used++] = *said++;
			continue;
		}
		n = snprintf(ret + used, size - used, "%s", name);
		used = n < 0 ? used : (size_t)n < size - used ? used + (size_t)n : size - 1;
		said += len;
	}
	ret[used] = '\0';
}
