/* SPDX-License-Identifier: Apache-2.0
 * Runs: init (uid X, no capability). */
#include "plan_check.h"

#include <errno.h>
#include <string.h>

static int refuse(const char **ret_why, const char *why)
{
	*ret_why = why;
	return -EINVAL;
}

static bool all_zero(const void *data, size_t len)
{
	const uint8_t *bytes = data;

	for (size_t i = 0; i < len; i++)
		if (bytes[i] != 0)
			return false;
	return true;
}

/* word_count words, each with its NUL, that fill word_bytes to the byte: then splitting them cannot read outside. */
static int check_words(const struct wire_plan *plan, const char **ret_why)
{
	size_t words = 0;

	if (plan->word_bytes == 0 || plan->word_bytes > sizeof(plan->words) || plan->words[plan->word_bytes - 1] != '\0')
		return refuse(ret_why, "the words do not end in NUL");
	if (plan->words[0] == '\0')
		return refuse(ret_why, "the first word is empty");
	for (size_t i = 0; i < plan->word_bytes; i++)
		if (plan->words[i] == '\0')
			words++;
	if (words != plan->word_count)
		return refuse(ret_why, "the number of words is wrong");
	if (!all_zero(plan->words + plan->word_bytes, sizeof(plan->words) - plan->word_bytes))
		return refuse(ret_why, "there are bytes behind the last word");
	return 0;
}

/* A copy becomes /run/<name>: the form of a NAME has no '/' and no leading dot, so the name stays in /run. */
static int check_asset(const struct wire_plan *plan, size_t index, const char **ret_why)
{
	const struct wire_asset *asset = &plan->assets[index];

	if (!wire_name_ok(asset->name, sizeof(asset->name)))
		return refuse(ret_why, "an asset's name has a wrong form");
	if (asset->use > 1 || asset->writable > 1)
		return refuse(ret_why, "an asset's use is unknown");
	if (asset->use == 1 && asset->name[0] == '\0')
		return refuse(ret_why, "an asset to be copied has no name");
	if (asset->use == 1 && asset->writable != 0)
		return refuse(ret_why, "a copy is never writable");
	if (asset->name[0] == '\0')
		return 0;
	for (size_t i = 0; i < index; i++)
		if (strncmp(plan->assets[i].name, asset->name, sizeof(asset->name)) == 0)
			return refuse(ret_why, "two assets have the same name");
	return 0;
}

int plan_check(const struct wire_plan *plan, const char **ret_why)
{
	int r = check_words(plan, ret_why);

	if (r < 0)
		return r;
	if (plan->asset_count > WIRE_ASSETS_MAX)
		return refuse(ret_why, "too many assets");
	for (size_t i = 0; i < plan->asset_count; i++) {
		r = check_asset(plan, i, ret_why);
		if (r < 0)
			return r;
	}
	for (size_t i = plan->asset_count; i < WIRE_ASSETS_MAX; i++)
		if (plan->assets[i].use != 0 || plan->assets[i].writable != 0 ||
		    !all_zero(plan->assets[i].name, sizeof(plan->assets[i].name)))
			return refuse(ret_why, "an asset behind the last one");
	return 0;
}
