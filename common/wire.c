/* SPDX-License-Identifier: Apache-2.0
 * Runs: every process. The only place that reads or writes bytes of a message. */
#include "wire.h"

#include <errno.h>
#include <string.h>

#include "cleanup.h"
#include "fdpass.h"

/* ---- numbers ---------------------------------------------------------------------------------------------------- */

static void put_le(uint8_t **p, uint64_t value, unsigned bytes)
{
	for (unsigned i = 0; i < bytes; i++)
		*(*p)++ = (uint8_t)(value >> (8 * i));
}

static uint64_t get_le(const uint8_t **p, unsigned bytes)
{
	uint64_t value = 0;

	for (unsigned i = 0; i < bytes; i++)
		value |= (uint64_t) * (*p)++ << (8 * i);
	return value;
}

static bool in_range(uint64_t value, uint64_t lo, uint64_t hi)
{
	return value >= lo && value <= hi;
}

/* ---- characters ------------------------------------------------------------------------------------------------- */

/* Length of a field's text when it is NUL-terminated and zero-padded, else -1: bytes behind the NUL could carry
 * something a later reader trips over. */
static long padded_length(const char *s, size_t size)
{
	size_t len = strnlen(s, size);

	if (len == size)
		return -1;
	for (size_t i = len; i < size; i++)
		if (s[i] != '\0')
			return -1;
	return (long)len;
}

bool wire_name_ok(const char *s, size_t size)
{
	long len = padded_length(s, size);

	for (long i = 0; i < len; i++) {
		bool plain = (s[i] >= 'a' && s[i] <= 'z') || (s[i] >= '0' && s[i] <= '9');

		if (!plain && (i == 0 || (s[i] != '.' && s[i] != '_' && s[i] != '-')))
			return false;
	}
	return len >= 0;
}

static bool text_ok(const char *s, size_t size)
{
	long len = padded_length(s, size);

	for (long i = 0; i < len; i++)
		if (s[i] < 0x20 || s[i] > 0x7e)
			return false;
	return len >= 0;
}

int wire_set_chars(char *field, size_t size, const char *s)
{
	size_t len = strlen(s);

	if (len >= size)
		return -ENAMETOOLONG;
	memset(field, 0, size);
	memcpy(field, s, len + 1);
	return 0;
}

/* ---- encoders, made from the field lists ------------------------------------------------------------------------ */
/* clang-format off */
#define P_NUM(n, lo, hi, bytes) ok = ok && in_range(m->n, (lo), (hi)); put_le(p, m->n, bytes);
#define P_8(n, lo, hi) P_NUM(n, lo, hi, 1)
#define P_16(n, lo, hi) P_NUM(n, lo, hi, 2)
#define P_32(n, lo, hi) P_NUM(n, lo, hi, 4)
#define P_64(n, lo, hi) P_NUM(n, lo, hi, 8)
#define P_FLAGS(n, mask) ok = ok && (m->n & ~(mask)) == 0; put_le(p, m->n, 4);
#define P_NAME(n, size) ok = ok && wire_name_ok(m->n, size); memcpy(*p, m->n, size); *p += (size);
#define P_TEXT(n, size) ok = ok && text_ok(m->n, size); memcpy(*p, m->n, size); *p += (size);
#define P_BYTES(n, size) memcpy(*p, m->n, size); *p += (size);
#define P_SUB(n, count, kind) for (size_t i = 0; i < (count); i++) ok = put_##kind(p, &m->n[i]) && ok;
#define PUT(name) \
	static bool put_##name(uint8_t **p, const struct wire_##name *m) \
	{ \
		bool ok = true; \
		(void)p; (void)m; \
		MSG_##name(P_8, P_16, P_32, P_64, P_FLAGS, P_NAME, P_TEXT, P_BYTES, P_SUB) \
		return ok; \
	}
WIRE_MESSAGES(PUT)

/* ---- decoders --------------------------------------------------------------------------------------------------- */
#define G_NUM(n, lo, hi, bytes, type) \
	m->n = (type)get_le(p, bytes); if (!in_range(m->n, (lo), (hi))) bad = #n " is outside its range";
#define G_8(n, lo, hi) G_NUM(n, lo, hi, 1, uint8_t)
#define G_16(n, lo, hi) G_NUM(n, lo, hi, 2, uint16_t)
#define G_32(n, lo, hi) G_NUM(n, lo, hi, 4, uint32_t)
#define G_64(n, lo, hi) G_NUM(n, lo, hi, 8, uint64_t)
#define G_FLAGS(n, mask) m->n = (uint32_t)get_le(p, 4); if ((m->n & ~(mask)) != 0) bad = #n " has an unknown bit";
#define G_NAME(n, size) memcpy(m->n, *p, size); *p += (size); if (!wire_name_ok(m->n, size)) bad = #n " is not a name";
#define G_TEXT(n, size) memcpy(m->n, *p, size); *p += (size); if (!text_ok(m->n, size)) bad = #n " is not plain text";
#define G_BYTES(n, size) memcpy(m->n, *p, size); *p += (size);
#define G_SUB(n, count, kind) \
	for (size_t i = 0; i < (count); i++) { const char *sub = get_##kind(p, &m->n[i]); if (sub != NULL) bad = sub; }
#define GET(name) \
	static const char *get_##name(const uint8_t **p, struct wire_##name *m) \
	{ \
		const char *bad = NULL; \
		(void)p; (void)m; \
		MSG_##name(G_8, G_16, G_32, G_64, G_FLAGS, G_NAME, G_TEXT, G_BYTES, G_SUB) \
		return bad; \
	}
WIRE_MESSAGES(GET)

/* ---- the tables ------------------------------------------------------------------------------------------------- */
enum message_id {
#define ID(name) ID_##name,
	WIRE_MESSAGES(ID)
};

static const char *get_any(enum message_id id, const uint8_t **p, union wire_any *any)
{
	switch (id) {
#define CASE_GET(name) case ID_##name: return get_##name(p, &any->name);
	WIRE_MESSAGES(CASE_GET)
	}
	return "unknown message";
}

static bool put_any(enum message_id id, uint8_t **p, const void *msg)
{
	switch (id) {
#define CASE_PUT(name) case ID_##name: return put_##name(p, msg);
	WIRE_MESSAGES(CASE_PUT)
	}
	return false;
}

static const size_t sizes[] = {
#define SIZE_OF(name) [ID_##name] = WIRE_SIZE_##name,
	WIRE_MESSAGES(SIZE_OF)
};

/* Descriptor counts: a number, or the value that asks a function. */
#define NO_REPLY (-1)
#define fds_of_start (-2)
#define fds_of_plan (-3)
#define fds_of_joined (-4)

struct op_row {
	const char *name;
	enum wire_link link;
	enum wire_side from;
	enum message_id request, reply;
	int request_fds, reply_fds;
	unsigned phases;
};

#define ROW(number, NAME, LINK, FROM, req, req_fds, rep, rep_fds, ph) \
	[number] = { #NAME, LINK_##LINK, FROM, ID_##req, ID_##rep, req_fds, rep_fds, ph },
static const struct op_row rows[] = { WIRE_OPS(ROW) };

#define TEXT2(NAME, text) text,
#define NAME2(NAME, text) #NAME,
#define NAME1(NAME) #NAME,
static const char *const grant_names[] = { WIRE_GRANTS(TEXT2) };
static const char *const outcome_texts[] = { WIRE_OUTCOMES(TEXT2) };
static const char *const step_texts[] = { WIRE_STEPS(TEXT2) };
static const char *const step_names[] = { WIRE_STEPS(NAME2) };
static const char *const error_names[] = { WIRE_ERRORS(NAME1) };
#define FITS(name) _Static_assert(WIRE_HEADER_SIZE + WIRE_SIZE_##name <= WIRE_MESSAGE_MAX, #name " fits a receive buffer");
WIRE_MESSAGES(FITS)
/* clang-format on */
_Static_assert(ARRAY_SIZE(step_names) <= 256 && ARRAY_SIZE(error_names) <= 256, "step and code have eight bits on the wire");
_Static_assert(WIRE_FDS_MAX >= WIRE_TAP_FDS_MAX + 2 && WIRE_FDS_MAX >= WIRE_ASSETS_MAX, "S_START and C_PLAN fit");
_Static_assert(WIRE_FDS_MAX + 1 < 253, "the kernel carries what we ask for (SCM_MAX_FD)");

static const struct op_row *row_of(unsigned op)
{
	return op < ARRAY_SIZE(rows) && rows[op].name != NULL ? &rows[op] : NULL;
}

#define LOOKUP(table, i) ((i) < ARRAY_SIZE(table) ? (table)[i] : "?")

const char *wire_op_name(unsigned op)
{
	const struct op_row *row = row_of(op);

	return row != NULL ? row->name : "?";
}

const char *wire_grant_name(unsigned grant)
{
	return LOOKUP(grant_names, grant);
}

const char *wire_outcome_text(unsigned outcome)
{
	return LOOKUP(outcome_texts, outcome);
}

const char *wire_step_text(unsigned step)
{
	return LOOKUP(step_texts, step);
}

const char *wire_step_name(unsigned step)
{
	return LOOKUP(step_names, step);
}

const char *wire_error_name(unsigned code)
{
	return LOOKUP(error_names, code);
}

bool wire_outcome_ok(unsigned outcome)
{
	return (outcome >= WIRE_BY_GRANTED && outcome <= WIRE_BY_BY_RLIMIT) || outcome == WIRE_BY_PARTIAL;
}

long wire_fd_count(enum wire_op op, enum wire_kind kind, const void *msg)
{
	const struct op_row *row = row_of(op);
	int count;

	if (row == NULL)
		return -1;
	if (kind == WIRE_ERROR)
		return row->reply_fds == NO_REPLY ? -1 : 0;
	count = kind == WIRE_REQUEST ? row->request_fds : row->reply_fds;
	if (count == fds_of_start) {
		const struct wire_start *start = msg;

		return 1 + start->vhost_fds + start->vsock_fd;
	}
	if (count == fds_of_plan)
		return ((const struct wire_plan *)msg)->asset_count;
	if (count == fds_of_joined)
		return __builtin_popcount(((const struct wire_joined *)msg)->present);
	return count;
}

long wire_encode(enum wire_op op, enum wire_kind kind, uint32_t sequence, const void *msg, void *buf, size_t size)
{
	const struct op_row *row = row_of(op);
	uint8_t *p = buf;
	enum message_id id;

	if (row == NULL || (kind != WIRE_REQUEST && row->reply_fds == NO_REPLY))
		return -EINVAL;
	id = kind == WIRE_ERROR ? ID_error : kind == WIRE_REPLY ? row->reply : row->request;
	if (size < WIRE_HEADER_SIZE + sizes[id])
		return -ENOSPC;
	put_le(&p, op, 2);
	put_le(&p, kind, 2);
	put_le(&p, sequence, 4);
	if (!put_any(id, &p, msg))
		return -EINVAL;
	return (long)(WIRE_HEADER_SIZE + sizes[id]);
}

static int refuse(struct wire_in *in, const char *why)
{
	in->why = why;
	return -EPROTO;
}

int wire_decode(const struct wire_session *session, const void *buf, size_t len, size_t fd_count, struct wire_in *in)
{
	const uint8_t *p = buf;
	const struct op_row *row;
	enum message_id id;
	unsigned op, kind;
	const char *bad;

	if (len < WIRE_HEADER_SIZE)
		return refuse(in, "shorter than a header");
	op = (unsigned)get_le(&p, 2);
	kind = (unsigned)get_le(&p, 2);
	in->sequence = (uint32_t)get_le(&p, 4);
	row = row_of(op);
	if (row == NULL || row->link != session->link)
		return refuse(in, "unknown operation");
	if (kind == WIRE_REQUEST) {
		if (row->from != session->peer)
			return refuse(in, "operation of the other direction");
		if ((row->phases & session->phase) == 0)
			return refuse(in, "not allowed in this phase");
	} else if (kind == WIRE_REPLY || kind == WIRE_ERROR) {
		if (row->from == session->peer || row->reply_fds == NO_REPLY || !session->replies)
			return refuse(in, "reply that nobody asked for");
	} else {
		return refuse(in, "unknown kind of message");
	}
	id = kind == WIRE_ERROR ? ID_error : kind == WIRE_REPLY ? row->reply : row->request;
	if (len != WIRE_HEADER_SIZE + sizes[id])
		return refuse(in, "wrong length");
	in->op = (enum wire_op)op;
	in->kind = (enum wire_kind)kind;
	bad = get_any(id, &p, &in->msg);
	if (bad != NULL)
		return refuse(in, bad);
	/* Never negative here: a reply that does not exist was refused above, an error carries none. */
	if ((long)fd_count != wire_fd_count(in->op, in->kind, &in->msg))
		return refuse(in, "wrong number of descriptors");
	in->why = NULL;
	return 0;
}

int wire_send(int fd, enum wire_op op, enum wire_kind kind, uint32_t sequence, const void *msg, const int *fds,
	      size_t fd_count)
{
	/* Not zeroed first, as the build flags would: 35 KB for each small message. Only the len bytes that the encoder
	 * wrote, every one of them, leave this function. */
	uint8_t buf[WIRE_MESSAGE_MAX] __attribute__((uninitialized));
	long len = wire_encode(op, kind, sequence, msg, buf, sizeof(buf));

	if (len < 0)
		return (int)len;
	/* A miscounted send would end the session at the other side; better to find it here. */
	if (wire_fd_count(op, kind, msg) != (long)fd_count)
		return -EINVAL;
	return fdpass_send(fd, buf, (size_t)len, fds, fd_count);
}

typedef ssize_t receive_fn(int sock, void *buf, size_t size, int *fds, size_t max, size_t *ret_count);

static int receive(receive_fn *receive_by, int fd, const struct wire_session *session, struct wire_in *in)
{
	uint8_t buf[WIRE_MESSAGE_MAX] __attribute__((uninitialized)); /* read only as far as the kernel wrote */
	ssize_t n;
	int r;

	in->fd_count = 0;
	in->why = NULL;
	n = receive_by(fd, buf, sizeof(buf), in->fds, WIRE_FDS_MAX, &in->fd_count);
	if (n == -EMSGSIZE)
		return refuse(in, "too long, or too many descriptors");
	/* An empty datagram cannot be told from a hang-up, and ends the session like one; with descriptors it goes on to
	 * the decoder, which refuses it and leads to their being closed. */
	if (n < 0 || (n == 0 && in->fd_count == 0))
		return (int)n;
	r = wire_decode(session, buf, (size_t)n, in->fd_count, in);
	if (r < 0) {
		wire_in_close(in);
		return r;
	}
	return 1;
}

int wire_recv(int fd, const struct wire_session *session, struct wire_in *in)
{
	return receive(fdpass_recv, fd, session, in);
}

int wire_recv_now(int fd, const struct wire_session *session, struct wire_in *in)
{
	return receive(fdpass_recv_now, fd, session, in);
}

void wire_in_close(struct wire_in *in)
{
	for (size_t i = 0; i < in->fd_count; i++)
		fd_close(&in->fds[i]);
	in->fd_count = 0;
}
