/* SPDX-License-Identifier: Apache-2.0
 * Runs: tests. Prints the fixture's receipt as JSON; with --fields the names of all rows. */
#include <jansson.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "launcher/sandbox/receipt_fields.h"
#include "receipt_fixture.h"

int main(int argc, char **argv)
{
	static struct receipt receipt;
	static struct plan plan;
	json_t *json;
	int r;

	if (argc > 1 && strcmp(argv[1], "--fields") == 0) {
		for (unsigned i = 0; receipt_field_name(i) != NULL; i++)
			puts(receipt_field_name(i));
		return 0;
	}
	fixture_fill(&receipt, &plan);
	receipt_check(&receipt, &plan, getpid());
	json = receipt_to_json(&receipt);
	r = json_dumpf(json, stdout, JSON_INDENT(1));
	json_decref(json);
	return r == 0 ? 0 : 1;
}
