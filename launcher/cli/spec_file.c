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

#define SPEC_FILE_MAX ((size_t)256 * 1024)

/* All of a file; "-" is standard input. -1 and *ret_len, or the exit status. */
static int read_file(const char *path, char *text, size_t *ret_len)
{
	cleanup_fd int fd = strcmp(path, "-") == 0 ? dup(STDIN_FILENO) : open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY);
	size_t used = 0;
	ssize_t got = 1;

	if (fd < 0)
		return say_error(EXIT_FILE, "spec file %s: %s; check the path", path, strerror(errno));
	while (used <= SPEC_FILE_MAX && (got = read(fd, text + used, SPEC_FILE_MAX + 1 - used)) > 0)
		used += (size_t)got;
	if (got < 0)
		return say_error(EXIT_FILE, "spec file %s: %s; name a readable file", path, strerror(errno));
	if (used > SPEC_FILE_MAX)
		return say_error(EXIT_FILE, "spec file %s: it is longer than %zu bytes; shorten it", path, SPEC_FILE_MAX);
	*ret_len = used;
	return -1;
}

static int parse_file(struct spec *spec, const char *path)
{
	char *text = malloc(SPEC_FILE_MAX + 1);
	struct spec_error why = { 0 };
	size_t len = 0;
	int r;

	if (text == NULL)
		return say_error(EXIT_FAILED, "read the spec: out of memory; stop something");
	r = read_file(path, text, &len);
	if (r < 0 && spec_parse(spec, text, len, &why) < 0)
		r = say_spec_error(&why);
	free(text);
	return r;
}

/* The options must come after the file, which is known only once they were looked at. words: room for argc. */
static int parse_both(const struct command *self, const struct option_row *rows, size_t count, int argc, char **argv,
		      char **words, struct spec *scratch, struct spec *spec)
{
	struct spec_error why = { 0 };
	size_t word_count = 0;
	int r;

	memcpy(words, argv, (size_t)argc * sizeof(*words));
	r = options_parse(self, rows, count, scratch, argc, words, &word_count);
	if (r < 0 && word_count > 1)
		r = say_error(EXIT_USAGE, "argument %s: one spec file is enough; see postern %s --help", words[1],
			      self->name);
	if (r < 0 && word_count == 1)
		r = parse_file(spec, words[0]);
	memcpy(words, argv, (size_t)argc * sizeof(*words));
	if (r < 0)
		r = options_parse(self, rows, count, spec, argc, words, &word_count);
	if (r < 0 && spec_check(spec, &why) < 0)
		r = say_spec_error(&why);
	return r;
}

int spec_from_arguments(const struct command *self, const struct option_row *rows, size_t count, int argc, char **argv,
			struct spec **ret)
{
	char **words = calloc((size_t)argc + 1, sizeof(*words));
	struct spec *spec = spec_new(), *scratch = spec_new();
	int r;

	*ret = spec;
	if (words == NULL || spec == NULL || scratch == NULL)
		r = say_error(EXIT_FAILED, "read the spec: out of memory; stop something");
	else
		r = parse_both(self, rows, count, argc, argv, words, scratch, spec);
	spec_free(scratch);
	free(words);
	return r;
}
