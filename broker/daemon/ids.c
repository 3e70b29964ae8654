/* SPDX-License-Identifier: Apache-2.0
 * Runs: broker (no privilege). */
#include "ids.h"

#include <errno.h>
#include <fcntl.h>
#include <stddef.h>
#include <string.h>
#include <sys/stat.h>

#include "common/cleanup.h"
#include "random.h"

#define IDS_MAGIC 0x69647331u
#define IDS_VERSION 1u
#define IDS_FILE "ids"
#define IDS_ROUNDS 6 /* of the Feistel network; 4 make a good permutation of a keyed function, 2 more are cheap */

static uint64_t rotate(uint64_t x, int bits)
{
	return x << bits | x >> (64 - bits);
}

static void sip_round(uint64_t v[4])
{
	v[0] += v[1], v[1] = rotate(v[1], 13) ^ v[0], v[0] = rotate(v[0], 32);
	v[2] += v[3], v[3] = rotate(v[3], 16) ^ v[2];
	v[0] += v[3], v[3] = rotate(v[3], 21) ^ v[0];
	v[2] += v[1], v[1] = rotate(v[1], 17) ^ v[2], v[2] = rotate(v[2], 32);
}

/* SipHash-2-4 of one 8-byte message. */
static uint64_t sip_hash(const uint8_t key[16], uint64_t message)
{
	uint64_t k[2], v[4];
	const uint64_t blocks[2] = { message, UINT64_C(8) << 56 };

	memcpy(k, key, sizeof(k));
	v[0] = k[0] ^ UINT64_C(0x736f6d6570736575), v[1] = k[1] ^ UINT64_C(0x646f72616e646f6d);
	v[2] = k[0] ^ UINT64_C(0x6c7967656e657261), v[3] = k[1] ^ UINT64_C(0x7465646279746573);
	for (size_t i = 0; i < ARRAY_SIZE(blocks); i++) {
		v[3] ^= blocks[i];
		sip_round(v);
		sip_round(v);
		v[0] ^= blocks[i];
	}
	v[2] ^= 0xff;
	for (int i = 0; i < 4; i++)
		sip_round(v);
	return v[0] ^ v[1] ^ v[2] ^ v[3];
}

uint32_t ids_permute(const uint8_t key[16], uint32_t count, uint32_t index)
{
	unsigned half = 1;
	uint64_t mask, value = index;

	while (half < 16 && (UINT64_C(1) << (2 * half)) < count)
		half++;
	mask = (UINT64_C(1) << half) - 1;
	/* A Feistel network permutes a power of four; walking on until we are inside the range makes it a permutation
	 * of the range. The network is at most four times larger, so the walk is short. */
	do {
		uint64_t left = value >> half, right = value & mask;

		for (uint64_t i = 0; i < IDS_ROUNDS; i++) {
			uint64_t next = left ^ (sip_hash(key, i << 32 | right) & mask);

			left = right;
			right = next;
		}
		value = left << half | right;
	} while (value >= count);
	return (uint32_t)value;
}

/* Write size bytes of the state to where they are in the file. */
static int put(int fd, const void *from, size_t size, size_t offset)
{
	ssize_t n = pwrite(fd, from, size, (off_t)offset);

	return n == (ssize_t)size ? 0 : n < 0 ? -errno : -EIO;
}

#define PUT(ids, member) \
	put((ids)->fd, &(ids)->state.member, sizeof((ids)->state.member), offsetof(struct ids_state, member))

static int new_round(struct ids *ids, uint32_t first, uint32_t count, bool reused)
{
	struct ids_state *state = &ids->state;

	state->magic = IDS_MAGIC;
	state->version = IDS_VERSION;
	state->first = first;
	state->count = count;
	state->round_start = state->issued;
	state->reused = reused;
	random_fill(state->key, sizeof(state->key));
	return put(ids->fd, state, sizeof(*state), 0);
}

/* Only we write here, but the file is older than this process: believe nothing about it. */
static int check_file(int fd, off_t *ret_size)
{
	struct stat st;

	if (fstat(fd, &st) < 0)
		return -errno;
	if (!S_ISREG(st.st_mode) || st.st_uid != geteuid() || st.st_nlink != 1 || (st.st_mode & 077) != 0)
		return -EUCLEAN;
	if (st.st_size != 0 && st.st_size != (off_t)sizeof(struct ids_state))
		return -EUCLEAN;
	*ret_size = st.st_size;
	return 0;
}

static bool state_ok(const struct ids_state *state)
{
	return state->magic == IDS_MAGIC && state->version == IDS_VERSION && state->count > 0 && state->reused <= 1 &&
	       state->round_start <= state->issued && state->issued - state->round_start <= state->count &&
	       state->quarantine_next < IDS_QUARANTINE;
}

int ids_open(int dirfd, uint32_t first, uint32_t count, uint64_t now, struct ids *ret)
{
	/* O_NONBLOCK: a FIFO planted under the name must not stop us; check_file() then refuses it. */
	cleanup_fd int fd = openat(dirfd, IDS_FILE, O_RDWR | O_CREAT | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC, 0600);
	struct ids_state *state = &ret->state;
	off_t size = 0;
	int r;

	if (fd < 0)
		return errno == ELOOP || errno == EISDIR ? -EUCLEAN : -errno;
	r = check_file(fd, &size);
	if (r < 0)
		return r;
	memset(state, 0, sizeof(*state));
	ret->fd = fd;
	if (size == 0) {
		r = new_round(ret, first, count, false);
	} else if (pread(fd, state, sizeof(*state), 0) != (ssize_t)sizeof(*state) || !state_ok(state)) {
		r = -EUCLEAN;
	} else {
		/* The clock starts again when the host does: no rest may be longer than a whole one from now. */
		for (size_t i = 0; i < IDS_QUARANTINE; i++)
			if (state->quarantine[i].until != IDS_FOREVER && state->quarantine[i].until > now + IDS_REST_NS)
				state->quarantine[i].until = now + IDS_REST_NS;
		if (state->blocked_until != IDS_FOREVER && state->blocked_until > now + IDS_REST_NS)
			state->blocked_until = now + IDS_REST_NS;
		/* Another range may share ids with the old one. */
		if (state->first != first || state->count != count)
			r = new_round(ret, first, count, true);
	}
	if (r < 0) {
		ret->fd = -1;
		return r;
	}
	(void)fd_take(&fd);
	return 0;
}

void ids_close(struct ids *ids)
{
	fd_close(&ids->fd);
}

static bool resting(const struct ids_state *state, uint32_t uid, uint64_t now)
{
	for (size_t i = 0; i < IDS_QUARANTINE; i++)
		if (state->quarantine[i].uid == uid && state->quarantine[i].until > now)
			return true;
	return false;
}

/* The next ticket of the permutation, written before anybody learns of it. */
static int next_ticket(struct ids *ids, uint64_t *ret_ticket, uint32_t *ret_uid)
{
	struct ids_state *state = &ids->state;
	uint64_t index;
	int r;

	if (state->issued - state->round_start >= state->count) {
		r = new_round(ids, state->first, state->count, true);
		if (r < 0)
			return r;
	}
	index = state->issued++ - state->round_start;
	r = PUT(ids, issued);
	if (r < 0) {
		state->issued--;
		return r;
	}
	*ret_ticket = state->issued;
	*ret_uid = state->first + ids_permute(state->key, state->count, (uint32_t)index);
	return 0;
}

int ids_take(struct ids *ids, uint64_t now, ids_live_fn live, const void *context, uint64_t *ret_ticket, uint32_t *ret_uid)
{
	const struct ids_state *state = &ids->state;
	/* Two rounds see every id at least once; that many in a row are refused only when all are in use. */
	uint64_t tries = (uint64_t)state->count * 2;

	/* Larger ranges cannot be all in use: what lives or rests has a fixed maximum far below this. */
	if (tries > 65536)
		tries = 65536;
	while (tries-- > 0) {
		uint64_t ticket;
		uint32_t uid;
		int r;

		if ((state->reused || state->issued - state->round_start >= state->count) && state->blocked_until > now)
			return -ENOSPC;
		r = next_ticket(ids, &ticket, &uid);
		if (r < 0)
			return r;
		if (state->reused && (resting(state, uid, now) || live(context, uid)))
			continue;
		*ret_ticket = ticket;
		*ret_uid = uid;
		return 0;
	}
	return -ENOSPC;
}

int ids_saw(struct ids *ids, uint64_t ticket)
{
	if (ticket <= ids->state.issued)
		return 0;
	ids->state.issued = ticket;
	return new_round(ids, ids->state.first, ids->state.count, true);
}

void ids_rest(struct ids *ids, uint32_t uid, bool burn, uint64_t now)
{
	struct ids_state *state = &ids->state;
	size_t slot = IDS_QUARANTINE;

	/* The ring turns over what has rested; burnt ids stay where they are. */
	for (size_t n = 0; n < IDS_QUARANTINE && slot == IDS_QUARANTINE; n++) {
		size_t i = (state->quarantine_next + n) % IDS_QUARANTINE;

		if (state->quarantine[i].until != IDS_FOREVER)
			slot = i;
	}
	if (slot == IDS_QUARANTINE) {
		/* Nothing but burnt ids: what we cannot remember must never come again, so this round is the last. */
		state->blocked_until = IDS_FOREVER;
		(void)PUT(ids, blocked_until);
		return;
	}
	if (state->quarantine[slot].until > now && state->quarantine[slot].until > state->blocked_until) {
		state->blocked_until = state->quarantine[slot].until;
		(void)PUT(ids, blocked_until);
	}
	state->quarantine[slot].uid = uid;
	state->quarantine[slot].until = burn ? IDS_FOREVER : now + IDS_REST_NS;
	state->quarantine_next = (uint32_t)((slot + 1) % IDS_QUARANTINE);
	/* Memory is right whatever the disk says; a write that fails here costs memory across a restart only, and the
	 * next ids_take() meets the same disk and refuses. */
	(void)put(ids->fd, &state->quarantine[slot], sizeof(state->quarantine[slot]),
		  offsetof(struct ids_state, quarantine) + slot * sizeof(state->quarantine[slot]));
	(void)PUT(ids, quarantine_next);
}
