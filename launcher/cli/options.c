/* SPDX-License-Identifier: Apache-2.0
 * Runs: CLI (the user). Options from tables; those of a spec come from the table of its fields. */
#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli.h"
#include "common/cleanup.h"

static const char *socket_path;

/* Options that append to a list of the spec. */
static const struct {
	const char *option, *field, *argument, *meaning;
} lists[] = {
	{ "disk", "disks+", "PATH[,readonly][,id=ID]", "add a raw image; may be given several times" },
	{ "net", "nics+", "NETWORK|passt|none", "add a NIC; may be given several times" },
};

const char *options_socket(void)
{
	return socket_path;
}

/* "limits.cpu_percent" is --limits-cpu-percent. False for fields of list elements. */
static bool option_of_field(const char *path, char *option, size_t size)
{
	size_t i;

	if (strchr(path, '[') != NULL || strlen(path) >= size)
		return false;
	for (i = 0; path[i] != '\0'; i++)
		option[i] = path[i] == '.' || path[i] == '_' ? '-' : path[i];
	option[i] = '\0';
	return true;
}

/* ---- help ------------------------------------------------------------------------------------------------------- */

static void help_line(const char *name, const char *argument, const char *meaning, const char *fallback)
{
	char left[64];

	(void)snprintf(left, sizeof(left), "--%s%s%s", name, argument != NULL ? " " : "", argument != NULL ? argument : "");
	if (strlen(left) > 28)
		(void)printf("  %s\n  %-28s", left, "");
	else
		(void)printf("  %-28s", left);
	(void)printf("  %s", meaning);
	if (fallback != NULL && fallback[0] != '\0')
		(void)printf(" (default %s)", fallback);
	(void)putchar('\n');
}

/* "auto, kvm, tcg" is auto|kvm|tcg; anything else is its type. */
static void argument_of_field(const struct spec_field *field, char *argument, size_t size)
{
	bool choice = strcmp(field->type, "choice") == 0;
	size_t used = 0;

	for (const char *c = choice ? field->allowed : field->type; *c != '\0' && used + 1 < size; c++) {
		if (*c == ' ')
			continue;
		argument[used++] = *c == ',' ? '|' : choice ? *c : (char)toupper((unsigned char)*c);
	}
	argument[used] = '\0';
}

static void help_spec(void)
{
	size_t count;
	const struct spec_field *fields = spec_fields(&count);

	(void)printf("\nfields of the spec (each wins over the file):\n");
	for (size_t i = 0; i < count; i++) {
		bool flag = strcmp(fields[i].type, "boolean") == 0;
		char option[64], argument[32];

		if (!option_of_field(fields[i].path, option, sizeof(option)))
			continue;
		argument_of_field(&fields[i], argument, sizeof(argument));
		help_line(option, flag ? NULL : argument, fields[i].meaning, flag ? NULL : fields[i].fallback);
	}
	for (size_t i = 0; i < ARRAY_SIZE(lists); i++)
		help_line(lists[i].option, lists[i].argument, lists[i].meaning, NULL);
}

static int help(const struct command *self, const struct option_row *rows, size_t count, bool spec)
{
	(void)printf("usage: postern %s%s%s [options]\n%s\n\noptions:\n", self->name, self->arguments[0] != '\0' ? " " : "",
		     self->arguments, self->meaning);
	for (size_t i = 0; i < count; i++)
		help_line(rows[i].name, rows[i].argument, rows[i].meaning, NULL);
	help_line("socket", "PATH", "the broker's socket (or POSTERN_SOCKET)", NULL);
	help_line("help", NULL, "print this", NULL);
	if (spec)
		help_spec();
	return fflush(stdout) == 0 ? EXIT_OK : EXIT_FAILED;
}

/* ---- parsing ---------------------------------------------------------------------------------------------------- */

/* One option on the command line, split. */
struct given {
	const struct command *command;
	const char *value; /* behind '=', or NULL */
	char name[64];
	char **next;    /* following words */
	int left, used; /* how many there are, how many were taken */
};

static const char *value_of(struct given *given)
{
	if (given->value == NULL && given->left > 0) {
		given->used++;
		return given->next[0];
	}
	return given->value;
}

static int no_value(const struct given *given)
{
	return say_error(EXIT_USAGE, "option --%s: it needs a value; see postern %s --help", given->name,
			 given->command->name);
}

static int set_row(const struct option_row *row, struct given *given)
{
	const char *value;
	char *end;
	double seconds;

	if (row->kind == OPTION_FLAG) {
		if (given->value != NULL)
			return say_error(EXIT_USAGE, "option --%s: it takes no value; leave =%s away", given->name,
					 given->value);
		*(bool *)row->target = true;
		return -1;
	}
	value = value_of(given);
	if (value == NULL)
		return no_value(given);
	if (row->kind == OPTION_TEXT) {
		*(const char **)row->target = value;
		return -1;
	}
	seconds = strtod(value, &end);
	if (!isdigit((unsigned char)value[0]) || *end != '\0' || !(seconds >= 0) || seconds > OPTION_TIMEOUT_MAX)
		return say_error(EXIT_USAGE, "option --%s: %s is not a number of seconds from 0 to %d", given->name, value,
				 OPTION_TIMEOUT_MAX);
	*(int *)row->target = (int)(seconds * 1000);
	return -1;
}

/* -1: set; -2: no such field; else the exit status. */
static int set_field(struct spec *spec, struct given *given)
{
	struct spec_error why = { 0 };
	const char *field = NULL, *value;
	bool flag = false;
	size_t count;
	const struct spec_field *fields = spec_fields(&count);

	for (size_t i = 0; i < ARRAY_SIZE(lists); i++)
		if (strcmp(lists[i].option, given->name) == 0)
			field = lists[i].field;
	for (size_t i = 0; i < count && field == NULL; i++) {
		char option[64];

		if (option_of_field(fields[i].path, option, sizeof(option)) && strcmp(option, given->name) == 0) {
			field = fields[i].path;
			flag = strcmp(fields[i].type, "boolean") == 0;
		}
	}
	if (field == NULL)
		return -2;
	value = flag ? (given->value != NULL ? given->value : "true") : value_of(given);
	if (value == NULL)
		return no_value(given);
	if (spec_set(spec, field, value, &why) < 0)
		return say_error(EXIT_USAGE, "option --%s: %s%s%s", given->name, why.text,
				 why.allowed[0] != '\0' ? "; allowed: " : "", why.allowed);
	return -1;
}

static int set_any(const struct option_row *rows, size_t count, struct spec *spec, struct given *given)
{
	int r;

	if (strcmp(given->name, "socket") == 0) {
		socket_path = value_of(given);
		return socket_path != NULL ? -1 : no_value(given);
	}
	for (size_t i = 0; i < count; i++)
		if (strcmp(rows[i].name, given->name) == 0)
			return set_row(&rows[i], given);
	r = spec != NULL ? set_field(spec, given) : -2;
	if (r != -2)
		return r;
	return say_error(EXIT_USAGE, "option --%s: postern %s does not know it; see postern %s --help", given->name,
			 given->command->name, given->command->name);
}

int options_parse(const struct command *self, const struct option_row *rows, size_t count, struct spec *spec, int argc,
		  char **argv, size_t *ret_words)
{
	size_t words = 0;
	bool only_words = false;

	for (int i = 1; i < argc; i++) {
		const char *word = argv[i], *equals;
		struct given given = { .command = self, .next = argv + i + 1, .left = argc - i - 1 };
		int r;

		if (only_words || word[0] != '-' || word[1] == '\0') {
			argv[words++] = argv[i];
			continue;
		}
		if (strcmp(word, "--") == 0) {
			only_words = true;
			continue;
		}
		if (strcmp(word, "--help") == 0 || strcmp(word, "-h") == 0)
			return help(self, rows, count, spec != NULL);
		if (word[1] != '-')
			return say_error(EXIT_USAGE, "option %s: there are no short options; see postern %s --help", word,
					 self->name);
		equals = strchr(word, '=');
		given.value = equals != NULL ? equals + 1 : NULL;
		(void)snprintf(given.name, sizeof(given.name), "%.*s",
			       equals != NULL ? (int)(equals - word - 2) : (int)strlen(word) - 2, word + 2);
		r = set_any(rows, count, spec, &given);
		if (r >= 0)
			return r;
		i += given.used;
	}
	*ret_words = words;
	return -1;
}
