/* SPDX-License-Identifier: Apache-2.0
 * Runs: controller and CLI (the user). The table for people. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "receipt_fields.h"

#define GREEN "\033[32m"
#define RED "\033[1;31m"
#define YELLOW "\033[33m"
#define DIM "\033[2m"
#define BOLD "\033[1m"
#define PLAIN "\033[0m"

struct look {
	const char *word, *colour;
};

static struct look look_of(enum receipt_mark mark)
{
	switch (mark) {
	case RECEIPT_OK:
		return (struct look){ "ok", GREEN };
	case RECEIPT_WRONG:
		return (struct look){ "WRONG", RED };
	case RECEIPT_ABSENT:
		return (struct look){ "absent", YELLOW };
	case RECEIPT_INFO:
		return (struct look){ "info", DIM };
	}
	return (struct look){ "?", RED };
}

/* The heading a row belongs under: the first part of its name. */
static const char *heading(const char *field)
{
	static const struct {
		const char *prefix, *text;
	} headings[] = {
		{ "vmm.", "The VMM, as postern-init reads it from the kernel" },
		{ "init.", "postern-init itself" },
		{ "outside.vmm.", "The VMM, as the host's /proc shows it to everybody" },
		{ "outside.init.", "postern-init, as the host's /proc shows it to everybody" },
		{ "grant.", "What was granted, how, and what this host did not offer" },
	};

	for (size_t i = 0; i < ARRAY_SIZE(headings); i++)
		if (strncmp(field, headings[i].prefix, strlen(headings[i].prefix)) == 0)
			return headings[i].text;
	return NULL;
}

static void print_head(FILE *out, const struct receipt *receipt, bool colour)
{
	const struct wire_lease *lease = &receipt->lease;
	time_t seconds = (time_t)(receipt->taken_ns / 1000000000u);
	struct tm tm = { 0 };
	char when[64] = "";

	if (gmtime_r(&seconds, &tm) != NULL)
		(void)strftime(when, sizeof(when), "%Y-%m-%d %H:%M:%S UTC", &tm);
	(void)fprintf(out, "%sReceipt%s of sandbox ", colour ? BOLD : "", colour ? PLAIN : "");
	for (size_t i = 0; i < sizeof(lease->uuid); i++)
		(void)fprintf(out, "%s%02x", i == 4 || i == 6 || i == 8 || i == 10 ? "-" : "", lease->uuid[i]);
	(void)fprintf(out, "\n%s, uid %u, gid %u, init %u, owner %u, taken %s\n", lease->hypervisor, lease->uid, lease->gid,
		      lease->init_pid, lease->owner, when);
}

static void print_row(FILE *out, const struct receipt_row *row, int width, bool colour)
{
	struct look look = look_of(row->mark);

	(void)fprintf(out, "  %s%-6s%s  %-*s  %s", colour ? look.colour : "", look.word, colour ? PLAIN : "", width,
		      row->field, row->found);
	/* What was meant matters where it is not what was found. */
	if (row->mark == RECEIPT_WRONG ||
	    (row->mark == RECEIPT_ABSENT && row->expected[0] != '\0' && strcmp(row->expected, row->found) != 0))
		(void)fprintf(out, "%s%s(expected %s)%s", row->found[0] != '\0' ? "  " : "", colour ? DIM : "",
			      row->expected, colour ? PLAIN : "");
	(void)fputc('\n', out);
}

static void print_sum(FILE *out, const struct receipt *receipt, bool colour)
{
	size_t counts[RECEIPT_INFO + 1] = { 0 };

	for (size_t i = 0; i < receipt->row_count; i++)
		counts[receipt->rows[i].mark]++;
	if (receipt->good)
		(void)fprintf(out, "%sgood%s: %zu rows as meant, %zu not offered by this host\n", colour ? GREEN : "",
			      colour ? PLAIN : "", counts[RECEIPT_OK], counts[RECEIPT_ABSENT]);
	else
		(void)fprintf(out, "%sWRONG%s: %zu rows, the first is %s\n", colour ? RED : "", colour ? PLAIN : "",
			      counts[RECEIPT_WRONG], receipt_first_wrong(receipt));
}

static int write_all(int fd, const char *text, size_t len)
{
	while (len > 0) {
		ssize_t n = write(fd, text, len);

		if (n < 0 && errno != EINTR)
			return -errno;
		if (n > 0) {
			text += n;
			len -= (size_t)n;
		}
	}
	return 0;
}

int receipt_print(const struct receipt *receipt, int fd, bool colour)
{
	cleanup_free char *text = NULL;
	const char *section = NULL;
	size_t len = 0;
	int width = 0;
	FILE *out = open_memstream(&text, &len);

	if (out == NULL)
		return -errno;
	for (size_t i = 0; i < receipt->row_count; i++)
		if ((int)strlen(receipt->rows[i].field) > width)
			width = (int)strlen(receipt->rows[i].field);
	print_head(out, receipt, colour);
	for (size_t i = 0; i < receipt->row_count; i++) {
		const char *now = heading(receipt->rows[i].field);

		if (now != NULL && now != section) {
			(void)fprintf(out, "\n%s%s%s\n", colour ? BOLD : "", now, colour ? PLAIN : "");
			section = now;
		}
		print_row(out, &receipt->rows[i], width, colour);
	}
	(void)fputc('\n', out);
	print_sum(out, receipt, colour);
	if (fclose(out) != 0)
		return -ENOMEM;
	return write_all(fd, text, len);
}
