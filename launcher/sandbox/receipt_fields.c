/* SPDX-License-Identifier: Apache-2.0
 * Runs: controller and CLI (the user). */
#include "receipt_fields.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "common/cleanup.h"

#define NAME_OF(NAME, text) text,
/* clang-format off */
static const char *const names[] = { RECEIPT_FIELDS(NAME_OF) };
/* clang-format on */
_Static_assert(ARRAY_SIZE(names) <= RECEIPT_ROWS_MAX, "a receipt has room for every row");

const char *receipt_field_name(unsigned field)
{
	return field < ARRAY_SIZE(names) ? names[field] : NULL;
}

int receipt_field_number(const char *name)
{
	for (size_t i = 0; i < ARRAY_SIZE(names); i++)
		if (strcmp(names[i], name) == 0)
			return (int)i;
	return -1;
}

void receipt_row(struct receipt *receipt, enum receipt_field field, enum receipt_mark mark, const char *expected,
		 const char *found_format, ...)
{
	struct receipt_row *row = &receipt->rows[receipt->row_count];
	va_list ap;

	if (receipt->row_count >= RECEIPT_ROWS_MAX) { /* cannot happen while the assertion above holds; never in silence */
		receipt->good = false;
		return;
	}
	receipt->row_count++;
	row->field = names[field];
	row->mark = mark;
	(void)snprintf(row->expected, sizeof(row->expected), "%s", expected);
	va_start(ap, found_format);
	(void)vsnprintf(row->found, sizeof(row->found), found_format, ap);
	va_end(ap);
	if (mark == RECEIPT_WRONG)
		receipt->good = false;
}
