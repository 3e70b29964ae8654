/* SPDX-License-Identifier: Apache-2.0
 * Runs: broker (no privilege). */
#include "label.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "common/label_text.h"
#include "random.h"

/* Pairs are numbered so that all of the first n categories come first: low + high * (high - 1) / 2. */
void label_categories(uint32_t pair, uint32_t *ret_low, uint32_t *ret_high)
{
	uint32_t high = 1;

	while ((high + 1) * high / 2 <= pair)
		high++;
	*ret_high = high;
	*ret_low = pair - high * (high - 1) / 2;
}

static bool is_used(const struct label_pool *pool, uint32_t pair)
{
	return (pool->used[pair / 8] >> (pair % 8) & 1) != 0;
}

static void mark(struct label_pool *pool, uint32_t pair)
{
	pool->used[pair / 8] |= (uint8_t)(1u << (pair % 8));
	pool->used_count++;
}

int label_take(struct label_pool *pool, uint32_t *ret_pair)
{
	uint32_t pairs = pool->categories * (pool->categories - 1) / 2;
	uint32_t pair;

	if (pool->used_count >= pairs)
		return -ENOSPC;
	/* A random start, then the next free one: at most a lease table's worth of steps. */
	pair = random_below(pairs);
	while (is_used(pool, pair))
		pair = (pair + 1) % pairs;
	mark(pool, pair);
	*ret_pair = pair;
	return 0;
}

void label_release(struct label_pool *pool, uint32_t pair)
{
	if (pair == LABEL_NONE || !is_used(pool, pair))
		return;
	pool->used[pair / 8] &= (uint8_t) ~(1u << (pair % 8));
	pool->used_count--;
}

/* Read "c<number>" as label_context() writes it: no sign, no leading zero. Moves *text behind it. */
static bool category(const char **text, uint32_t *ret)
{
	const char *p = *text;
	uint32_t value = 0;

	if (*p++ != 'c' || *p < '0' || *p > '9' || (*p == '0' && p[1] >= '0' && p[1] <= '9'))
		return false;
	while (*p >= '0' && *p <= '9' && value < LABEL_CATEGORIES)
		value = value * 10 + (uint32_t)(*p++ - '0');
	*text = p;
	*ret = value;
	return value < LABEL_CATEGORIES;
}

uint32_t label_adopt(struct label_pool *pool, const char *label)
{
	const char *colon = strrchr(label, ':'), *range = colon != NULL ? colon + 1 : "";
	uint32_t low, high, pair;

	if (!category(&range, &low) || *range++ != ',' || !category(&range, &high) || *range != '\0' || low >= high)
		return LABEL_NONE;
	pair = low + high * (high - 1) / 2;
	if (is_used(pool, pair))
		return LABEL_NONE;
	mark(pool, pair);
	return pair;
}

int label_context(const struct label_pool *pool, const char *type, uint32_t pair, char *out, size_t size)
{
	char range[32];
	uint32_t low, high;

	label_categories(pair, &low, &high);
	(void)snprintf(range, sizeof(range), "s0:c%u,c%u", low, high);
	return label_text(pool->own, NULL, type, range, out, size);
}

int label_open(struct label_pool *pool)
{
	char example[LABEL_TEXT_MAX];
	cleanup_fd int fd = open("/proc/self/attr/current", O_RDONLY | O_CLOEXEC);
	ssize_t n = fd < 0 ? -1 : read(fd, pool->own, sizeof(pool->own) - 1);

	if (n < 0)
		return -errno;
	if ((size_t)n == sizeof(pool->own) - 1)
		return -ENAMETOOLONG;
	pool->own[n] = '\0';
	pool->own[strcspn(pool->own, "\n")] = '\0';
	return label_context(pool, LABEL_TYPE_DEFAULT, 0, example, sizeof(example));
}
