/* SPDX-License-Identifier: Apache-2.0
 * Runs: test (the user). Any text as a spec. What is accepted must survive printing and parsing; what is refused must leave
 * the spec alone. Before the first line feed: a field for the command line; after it: its value, and the spec. */
#include <jansson.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "postern/spec.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void round_trip(const struct spec *spec)
{
	struct spec *again = spec_new();
	struct spec_error error;
	json_t *json = spec_to_json(spec), *json2;
	char *text = json_dumps(json, JSON_ENSURE_ASCII);

	if (again == NULL || json == NULL || text == NULL || spec_parse(again, text, strlen(text), &error) != 0)
		abort();
	json2 = spec_to_json(again);
	if (!json_equal(json, json2))
		abort();
	free(text);
	json_decref(json);
	json_decref(json2);
	spec_free(again);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct spec *spec = spec_new();
	char *text = malloc(size + 1), *end;
	struct spec_error error = { 0 };

	if (spec == NULL || text == NULL)
		abort();
	memcpy(text, data, size);
	text[size] = '\0';
	if (spec_parse(spec, text, size, &error) != 0 && error.text[0] == '\0')
		abort();
	round_trip(spec);
	end = strchr(text, '\n');
	if (end != NULL) {
		*end = '\0';
		(void)spec_set(spec, text, end + 1, &error);
		(void)spec_set(spec, "disks+", end + 1, &error);
		(void)spec_set(spec, "nics+", end + 1, &error);
		if (spec_check(spec, &error) == 0)
			round_trip(spec);
		(void)spec_parse(spec, end + 1, strlen(end + 1), &error);
	}
	free(text);
	spec_free(spec);
	return 0;
}
