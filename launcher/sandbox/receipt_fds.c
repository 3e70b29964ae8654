/* SPDX-License-Identifier: Apache-2.0
 * Runs: controller (the user). The manifest of descriptors: what lease and plan say, what init gave, what the VMM has.
 *
 * Compared by identity and not only by number: an exec into an SELinux domain that may not use a descriptor puts
 * /dev/null in its place without a word (SELinux trap of DESIGN 2.6). */
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include "receipt_fields.h"

#define TEXT 160
/* Numbers the kernel has fixed (include/linux/miscdevice.h, drivers/char/mem.c). */
#define DEV_NULL makedev(1, 3)
#define DEV_TUN makedev(10, 200)
#define DEV_KVM makedev(10, 232)
#define DEV_VHOST_NET makedev(10, 238)
#define DEV_VHOST_VSOCK makedev(10, 241)

enum { ACCESS_READ, ACCESS_WRITE, ACCESS_BOTH, ACCESS_PATH };

/* What must be behind one number. rdev for devices; plan for the user's own. */
struct wanted {
	uint32_t fd;
	mode_t type;
	dev_t rdev;
	const struct plan_asset *asset;
};

struct manifest {
	struct wanted wanted[SLOT_END];
	size_t count;
};

static void want(struct manifest *m, uint32_t fd, mode_t type, dev_t rdev, const struct plan_asset *asset)
{
	if (m->count < SLOT_END)
		m->wanted[m->count++] = (struct wanted){ fd, type, rdev, asset };
}

static void make_manifest(const struct wire_lease *lease, const struct plan *plan, struct manifest *m)
{
	uint32_t taps = 0, vhosts = 0;

	want(m, SLOT_STDIN, S_IFCHR, DEV_NULL, NULL);
	for (uint32_t fd = SLOT_STDOUT; fd <= SLOT_CONSOLE; fd++)
		want(m, fd, S_IFSOCK, 0, NULL);
	if (lease->grants[WIRE_GRANT_KVM] == WIRE_BY_BY_FD)
		want(m, SLOT_KVM, S_IFCHR, DEV_KVM, NULL);
	if (wire_outcome_ok(lease->grants[WIRE_GRANT_VHOST_VSOCK]))
		want(m, SLOT_VSOCK, S_IFCHR, DEV_VHOST_VSOCK, NULL);
	for (size_t i = 0; i < lease->nic_count && i < WIRE_NICS_MAX; i++) {
		for (uint32_t q = 0; q < lease->nics[i].queues; q++)
			want(m, SLOT_TAP + taps++, S_IFCHR, DEV_TUN, NULL);
		for (uint32_t q = 0; q < lease->nics[i].queues && lease->nics[i].vhost != 0; q++)
			want(m, SLOT_VHOST + vhosts++, S_IFCHR, DEV_VHOST_NET, NULL);
	}
	for (size_t i = 0; plan != NULL && i < plan->asset_count; i++)
		if (!plan->assets[i].copy)
			want(m, SLOT_ASSET + (uint32_t)i, plan->assets[i].mode & S_IFMT, plan->assets[i].rdev,
			     &plan->assets[i]);
}

static const struct wire_fact_fd *find(const struct wire_fact_fd *list, size_t count, uint32_t fd)
{
	for (size_t i = 0; i < count; i++)
		if (list[i].fd == fd)
			return &list[i];
	return NULL;
}

static bool meets(const struct wanted *w, const struct wire_fact_fd *fact)
{
	bool writes = fact->access == ACCESS_WRITE || fact->access == ACCESS_BOTH;

	if ((fact->mode & S_IFMT) != w->type || fact->access > ACCESS_PATH ||
	    (fact->access == ACCESS_PATH && w->type != S_IFSOCK))
		return false; /* O_PATH: only a socket file, to connect to */
	if (w->asset == NULL)
		return (w->type != S_IFCHR || fact->rdev == w->rdev) && fact->access == ACCESS_BOTH;
	return fact->dev == w->asset->dev && fact->ino == w->asset->ino && fact->rdev == w->asset->rdev &&
	       fact->mode == w->asset->mode && writes == w->asset->writable;
}

static bool same(const struct wire_fact_fd *a, const struct wire_fact_fd *b, bool held)
{
	/* The owner may change permission bits of his file under a running guest; what kind of thing it is cannot change. */
	mode_t compared = held ? ~(mode_t)0 : S_IFMT;

	return a->dev == b->dev && a->ino == b->ino && a->rdev == b->rdev && (a->mode & compared) == (b->mode & compared) &&
	       a->access == b->access;
}

static void describe(const struct wire_fact_fd *fact, char *text, size_t size)
{
	static const char *const access[] = { "r", "w", "rw", "path" };

	if (fact == NULL)
		(void)snprintf(text, size, "closed");
	else
		(void)snprintf(text, size, "%llx:%llu mode %o rdev %llx %s", (unsigned long long)fact->dev,
			       (unsigned long long)fact->ino, fact->mode, (unsigned long long)fact->rdev,
			       fact->access <= ACCESS_PATH ? access[fact->access] : "?");
}

static void describe_wanted(const struct wanted *w, char *text, size_t size)
{
	if (w->asset != NULL)
		(void)snprintf(text, size, "%llx:%llu mode %o %s", (unsigned long long)w->asset->dev,
			       (unsigned long long)w->asset->ino, w->asset->mode, w->asset->writable ? "rw" : "r");
	else
		(void)snprintf(text, size, "%s %u:%u rw", w->type == S_IFSOCK ? "socket" : "device", major(w->rdev),
			       minor(w->rdev));
}

/* What init gave is what lease and plan say: nothing else, nothing more. */
static void check_given(struct receipt *receipt, const struct plan *plan)
{
	const struct wire_facts *f = &receipt->facts;
	struct manifest m = { .count = 0 };
	char expected[TEXT], found[TEXT / 2], meant[TEXT / 2];

	make_manifest(&receipt->lease, plan, &m);
	for (size_t i = 0; i < m.count; i++) {
		const struct wire_fact_fd *fact = find(f->given, f->given_count, m.wanted[i].fd);

		if (fact != NULL && meets(&m.wanted[i], fact))
			continue;
		describe_wanted(&m.wanted[i], meant, sizeof(meant));
		describe(fact, found, sizeof(found));
		(void)snprintf(expected, sizeof(expected), "%u: %s", m.wanted[i].fd, meant);
		receipt_row(receipt, FIELD_GIVEN, RECEIPT_WRONG, expected, "%u: %s", m.wanted[i].fd, found);
		return;
	}
	for (size_t i = 0; i < f->given_count; i++) {
		bool known = plan == NULL && f->given[i].fd >= SLOT_ASSET && f->given[i].fd < SLOT_END;

		for (size_t j = 0; j < m.count && !known; j++)
			known = m.wanted[j].fd == f->given[i].fd;
		if (known)
			continue;
		describe(&f->given[i], found, sizeof(found));
		receipt_row(receipt, FIELD_GIVEN, RECEIPT_WRONG, "only what lease and plan name", "%u: %s", f->given[i].fd,
			    found);
		return;
	}
	if (plan != NULL) {
		(void)snprintf(expected, sizeof(expected), "%zu, as lease and plan name them", m.count);
		receipt_row(receipt, FIELD_GIVEN, f->given_count == m.count ? RECEIPT_OK : RECEIPT_WRONG, expected, "%u",
			    f->given_count);
	} else {
		receipt_row(receipt, FIELD_GIVEN, RECEIPT_OK, "as the lease names them", "%u, of the user's own %zu",
			    f->given_count, f->given_count - m.count);
	}
}

/* A held VMM has exactly what it was given. A running one may close and open; but the given numbers still lead to the
 * same things or nowhere, and it has no directory, because a directory leads to other files. */
static void check_open(struct receipt *receipt)
{
	const struct wire_facts *f = &receipt->facts;
	size_t gone = 0, more = 0;
	char expected[TEXT], found[TEXT / 2];

	for (size_t i = 0; i < f->given_count; i++) {
		const struct wire_fact_fd *open = find(f->fds, f->fd_count, f->given[i].fd);

		if (open == NULL && f->held == 0) {
			gone++;
			continue;
		}
		if (open != NULL && same(&f->given[i], open, f->held != 0))
			continue;
		describe(&f->given[i], found, sizeof(found));
		(void)snprintf(expected, sizeof(expected), "%u: %s", f->given[i].fd, found);
		describe(open, found, sizeof(found));
		receipt_row(receipt, FIELD_DESCRIPTORS, RECEIPT_WRONG, expected, "%u: %s", f->given[i].fd, found);
		return;
	}
	for (size_t i = 0; i < f->fd_count; i++) {
		if (find(f->given, f->given_count, f->fds[i].fd) != NULL)
			continue;
		more++;
		if (f->held == 0 && !S_ISDIR(f->fds[i].mode) && f->fds[i].access != ACCESS_PATH)
			continue;
		describe(&f->fds[i], found, sizeof(found));
		receipt_row(receipt, FIELD_DESCRIPTORS, RECEIPT_WRONG, "closed", "%u: %s", f->fds[i].fd, found);
		return;
	}
	if (f->held != 0)
		receipt_row(receipt, FIELD_DESCRIPTORS, f->fd_count == f->given_count ? RECEIPT_OK : RECEIPT_WRONG,
			    "exactly the given", "%u, given %u", f->fd_count, f->given_count);
	else
		receipt_row(receipt, FIELD_DESCRIPTORS, RECEIPT_OK, "the given unchanged",
			    "the given unchanged; %zu closed, %zu opened since", gone, more);
}

void receipt_check_fds(struct receipt *receipt, const struct plan *plan)
{
	/* The decoder has seen to it; a receipt from elsewhere must not lead us out of the tables either. */
	if (receipt->facts.given_count > WIRE_FACT_FDS_MAX || receipt->facts.fd_count > WIRE_FACT_FDS_MAX) {
		receipt_row(receipt, FIELD_GIVEN, RECEIPT_WRONG, "a manifest that is whole",
			    "more descriptors than a receipt can show");
		receipt_row(receipt, FIELD_DESCRIPTORS, RECEIPT_WRONG, "a manifest that is whole", "not compared");
		return;
	}
	check_given(receipt, plan);
	check_open(receipt);
}
