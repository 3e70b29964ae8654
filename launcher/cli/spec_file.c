/* SPDX-License-Identifier: Apache-2.0
 * Runs: CLI (the user). */
#include "spec_file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/cleanup.h"

#define SPEC_FILE_MAX (256u * 1024u)

/* "-" is standard input. */
static int read_file(const char *path, char **ret, size_t *ret_len)
{
	cleanup_fd int opened = -1;
	cleanup_free char *text = malloc(SPEC_FILE_MAX + 1);
	int fd = STDIN_FILENO;
	size_t used = 0;
	ssize_t got = 1;

	if (strcmp(path, "-") != 0)
		fd = opened = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY);
	if (text == NULL || fd < 0)
		return say_error(EXIT_FILE, "spec file %s: %s; check the path", path, strerror(errno));
	while (used <= SPEC_FILE_MAX && (got = read(fd, text + used, SPEC_FILE_MAX + 1 - used)) > 0)
		used += (size_t)got;
	if (got < 0)
		return say_error(EXIT_FILE, "spec file %s: %s; name a readable file", path, strerror(errno));
	if (used > SPEC_FILE_MAX)
		return say_error(EXIT_FILE, "spec file %s: it is longer than %u bytes; shorten it", path, SPEC_FILE_MAX);
	*ret = text;
	*ret_len = used;
	text = NULL;
	return -1;
}

int spec_from_arguments(const struct command *self, const struct option_row *rows, size_t count, int argc, char **argv,
			struct spec **ret)
{
	cleanup_free char **words = calloc((size_t)argc + 1, sizeof(*words));
	cleanup_free char *text = NULL;
	struct spec_error why = { 0 };
	struct spec *spec = spec_new(), *scratch = spec_new();
	size_t word_count = 0, len = 0;
	int r = -1;

	*ret = spec;
	if (words == NULL || spec == NULL || scratch == NULL) {
		spec_free(scratch);
		return say_error(EXIT_FAILED, "read the spec: out of memory; stop something");
	}
	/* The options must come after the file, which is known only once they were looked at. */
	memcpy(words, argv, (size_t)argc * sizeof(*words));
	r = options_parse(self, rows, count, scratch, argc, words, &word_count);
	spec_free(scratch);
	if (r >= 0)
		return r;
	if (word_count > 1)
		return say_error(EXIT_USAGE, "argument %s: one spec file is enough; see postern %s --help", words[1], self->name);
	if (word_count == 1) {
		r = read_file(words[0], &text, &len);
		if (r >= 0)
			return r;
		if (spec_parse(spec, text, len, &why) < 0)
			return say_spec_error(&why);
	}
	memcpy(words, argv, (size_t)argc * sizeof(*words));
	r = options_parse(self, rows, count, spec, argc, words, &word_count);
	if (r >= 0)
		return r;
	return spec_check(spec, &why) < 0 ? say_spec_error(&why) : -1;
}
