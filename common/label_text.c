/* SPDX-License-Identifier: Apache-2.0
 * Runs: every process. */
#include "label_text.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

static const char name_chars[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.-";
static const char range_chars[] = "sc0123456789.,:-";

struct parts {
	const char *user, *role, *type, *range;
	size_t user_len, role_len, type_len;
};

static const char *name(const char *p, const char **ret, size_t *ret_len)
{
	*ret = p;
	*ret_len = strspn(p, name_chars);
	return *ret_len > 0 && p[*ret_len] == ':' ? p + *ret_len + 1 : NULL;
}

static int split(const char *label, struct parts *ret)
{
	const char *p = name(label, &ret->user, &ret->user_len);

	p = p == NULL ? NULL : name(p, &ret->role, &ret->role_len);
	p = p == NULL ? NULL : name(p, &ret->type, &ret->type_len);
	if (p == NULL || *p != 's' || p[strspn(p, range_chars)] != '\0')
		return -EINVAL;
	ret->range = p;
	return 0;
}

int label_text(const char *label, const char *role, const char *type, const char *range, char *out, size_t size)
{
	struct parts parts;
	int r = split(label, &parts), n;

	if (r < 0 || strlen(label) >= LABEL_TEXT_MAX)
		return -EINVAL;
	n = snprintf(out, size, "%.*s:%.*s:%s:%s", (int)parts.user_len, parts.user,
		     role != NULL ? (int)strlen(role) : (int)parts.role_len, role != NULL ? role : parts.role, type,
		     range != NULL ? range : parts.range);
	return n > 0 && (size_t)n < size ? 0 : -ENAMETOOLONG;
}

int label_text_file(const char *label, const char *type, char *out, size_t size)
{
	return label_text(label, "object_r", type, NULL, out, size);
}

int label_text_is(const char *label, const char *type)
{
	struct parts parts;
	int r = split(label, &parts);

	return r < 0 ? r : parts.type_len == strlen(type) && memcmp(parts.type, type, parts.type_len) == 0;
}
