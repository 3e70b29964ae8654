/* SPDX-License-Identifier: Apache-2.0
 * Runs: controller and CLI (the user). What has changed between two receipts of one sandbox. */
#include <stdio.h>
#include <string.h>

#include "receipt_fields.h"

/* Rows whose text changes in normal life: counts of threads and of descriptors, a filter a VMM adds to itself, what a held
 * VMM and a running one differ in. For these only a change of the mark is a difference. */
static bool lively(int field)
{
	switch (field) {
	case FIELD_VMM_FILTERS:
	case FIELD_VMM_TASKS:
	case FIELD_VMM_HELD:
	case FIELD_VMM_PID:
	case FIELD_DESCRIPTORS:
	case FIELD_OUT_VMM_FILTERS:
	case FIELD_OUT_VMM_TASKS:
		return true;
	default: /* not an enum of states but a list of names: all the others are still */
		return false;
	}
}

static const struct receipt_row *find(const struct receipt *receipt, const char *field)
{
	for (size_t i = 0; i < receipt->row_count; i++)
		if (strcmp(receipt->rows[i].field, field) == 0)
			return &receipt->rows[i];
	return NULL;
}

static void add(const char *field, const struct receipt_row *then, const struct receipt_row *now, struct receipt_row *diff)
{
	diff->field = field;
	diff->mark = now != NULL ? now->mark : RECEIPT_WRONG;
	(void)snprintf(diff->expected, sizeof(diff->expected), "%s", then != NULL ? then->found : "no such row");
	(void)snprintf(diff->found, sizeof(diff->found), "%s", now != NULL ? now->found : "no such row");
}

size_t receipt_diff(const struct receipt *then, const struct receipt *now, struct receipt_row *diff, size_t max)
{
	size_t count = 0;

	for (unsigned field = 0; receipt_field_name(field) != NULL && count < max; field++) {
		const char *name = receipt_field_name(field);
		const struct receipt_row *a = find(then, name), *b = find(now, name);

		if (a == NULL && b == NULL)
			continue;
		if (a != NULL && b != NULL && a->mark == b->mark && (lively((int)field) || strcmp(a->found, b->found) == 0))
			continue;
		add(name, a, b, &diff[count++]);
	}
	return count;
}
