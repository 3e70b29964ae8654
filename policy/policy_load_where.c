/* SPDX-License-Identifier: Apache-2.0
 * Runs: start (root), broker (no privilege). The path the loader has in hand, and its line in the document.
 *
 * jansson tells where a value stands only when it cannot parse it. So the loader remembers which child of which it is
 * looking at, and after a refusal the document is walked once more, counting children, to find line and column. */
#include "policy_load.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

static const char *skip_space(const char *p)
{
	return p + strspn(p, " \t\r\n");
}

/* Past one JSON value. The document is valid (jansson read it), so this needs to know strings and nesting only. */
static const char *skip_value(const char *p)
{
	size_t nesting = 0;

	do {
		p = skip_space(p);
		if (*p == '"') {
			for (p++; *p != '"' && *p != '\0'; p++)
				if (*p == '\\' && p[1] != '\0')
					p++;
			p += *p == '"';
		} else if (*p == '{' || *p == '[') {
			nesting++;
			p++;
		} else if (*p == '}' || *p == ']') {
			nesting--;
			p++;
		} else if (nesting > 0 && (*p == ',' || *p == ':')) {
			p++;
		} else {
			p += strcspn(p, " \t\r\n,:]}[{\"");
		}
		if (nesting > 0)
			p = skip_space(p);
	} while (nesting > 0 && *p != '\0');
	return p;
}

/* The n-th child of the container at p: its key in an object, itself in an array. *value is where its value starts. */
static const char *find_child(const char *p, bool object, size_t ordinal, const char **value)
{
	p = skip_space(p);
	p = skip_space(p + (*p != '\0')); /* past the bracket */
	for (size_t i = 0;; i++) {
		const char *start = p;

		if (object) {
			p = skip_space(skip_value(p));
			p = skip_space(p + (*p == ':'));
		}
		*value = p;
		if (i == ordinal)
			return start;
		p = skip_space(skip_value(p));
		if (*p != ',')
			return start;
		p = skip_space(p + 1);
	}
}

static void locate(const struct loader *l, struct policy_error *error)
{
	const char *value = skip_space(l->text), *at = value;
	size_t used = 0;

	error->where[0] = '\0';
	for (size_t i = 0; i < l->depth && i < LOAD_DEPTH_MAX; i++) {
		const char *key = l->path[i].key;
		size_t room = sizeof(error->where) - used;
		int n;

		at = find_child(value, key != NULL, l->path[i].ordinal, &value);
		if (key != NULL)
			n = snprintf(error->where + used, room, "%s%s", i > 0 ? "." : "", key);
		else
			n = snprintf(error->where + used, room, "[%zu]", l->path[i].ordinal);
		used += n < 0 ? 0 : (size_t)n < room ? (size_t)n : room - 1;
	}
	error->line = 1;
	error->column = 1;
	for (const char *p = l->text; p < at; p++) {
		error->column = *p == '\n' ? 1 : error->column + 1;
		error->line += *p == '\n';
	}
}

int load_fail(struct loader *l, const char *format, ...)
{
	va_list args;

	locate(l, l->error);
	va_start(args, format);
	(void)vsnprintf(l->error->text, sizeof(l->error->text), format, args);
	va_end(args);
	return -EINVAL;
}

void load_push(struct loader *l, const char *key, size_t ordinal)
{
	if (l->depth < LOAD_DEPTH_MAX) {
		l->path[l->depth].key = key;
		l->path[l->depth].ordinal = ordinal;
	}
	l->depth++;
}

void load_pop(struct loader *l)
{
	l->depth--;
}
