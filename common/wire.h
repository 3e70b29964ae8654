/* SPDX-License-Identifier: Apache-2.0
 * Runs: every process. Typed messages over SOCK_SEQPACKET, made from the tables in messages.h.
 *
 * Nothing outside wire.c ever looks at bytes of a message. Functions return 0 or -errno unless they say otherwise,
 * leave outputs untouched on failure, allocate nothing and keep no state: they may be called from any thread.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "messages.h"

/* ---- structs: one per message, made from its field list -------------------------------------------------------- */
#define WIRE_S_NUM8(n, lo, hi) uint8_t n;
#define WIRE_S_NUM16(n, lo, hi) uint16_t n;
#define WIRE_S_NUM32(n, lo, hi) uint32_t n;
#define WIRE_S_NUM64(n, lo, hi) uint64_t n;
#define WIRE_S_FLAGS(n, mask) uint32_t n;
#define WIRE_S_CHARS(n, size) char n[size];
#define WIRE_S_BYTES(n, size) uint8_t n[size];
#define WIRE_S_SUB(n, count, m) struct wire_##m n[count];
#define WIRE_STRUCT(m)                                                                                          \
	struct wire_##m {                                                                                       \
		MSG_##m(WIRE_S_NUM8, WIRE_S_NUM16, WIRE_S_NUM32, WIRE_S_NUM64, WIRE_S_FLAGS, WIRE_S_CHARS,      \
			WIRE_S_CHARS, WIRE_S_BYTES, WIRE_S_SUB) char wire_end[0];                               \
	};

/* ---- sizes on the wire ----------------------------------------------------------------------------------------- */
#define WIRE_Z_NUM8(n, lo, hi) +1
#define WIRE_Z_NUM16(n, lo, hi) +2
#define WIRE_Z_NUM32(n, lo, hi) +4
#define WIRE_Z_NUM64(n, lo, hi) +8
#define WIRE_Z_FLAGS(n, mask) +4
#define WIRE_Z_CHARS(n, size) +(size)
#define WIRE_Z_SUB(n, count, m) +(count) * WIRE_SIZE_##m
#define WIRE_SIZE(m)                                                                                            \
	enum {                                                                                                  \
		WIRE_SIZE_##m = 0 MSG_##m(WIRE_Z_NUM8, WIRE_Z_NUM16, WIRE_Z_NUM32, WIRE_Z_NUM64, WIRE_Z_FLAGS,  \
					  WIRE_Z_CHARS, WIRE_Z_CHARS, WIRE_Z_CHARS, WIRE_Z_SUB)                 \
	};

#define WIRE_DECLARE(m) WIRE_STRUCT(m) WIRE_SIZE(m)
/* clang-format off */
WIRE_MESSAGES(WIRE_DECLARE)

#define WIRE_U(m) struct wire_##m m;
union wire_any { WIRE_MESSAGES(WIRE_U) };

#define WIRE_E(number, NAME, ...) WIRE_OP_##NAME = (number),
enum wire_op { WIRE_OPS(WIRE_E) };
#define WIRE_E2(NAME, text) WIRE_GRANT_##NAME,
enum wire_grant { WIRE_GRANTS(WIRE_E2) };
#define WIRE_E3(NAME, text) WIRE_BY_##NAME,
enum wire_outcome { WIRE_OUTCOMES(WIRE_E3) };
#define WIRE_E4(NAME, text) STEP_##NAME,
enum wire_step { WIRE_STEPS(WIRE_E4) };
#define WIRE_E5(NAME) WIRE_ERR_##NAME,
enum wire_error_code { WIRE_ERRORS(WIRE_E5) };
/* clang-format on */

#define WIRE_GRANT_COUNT 8u
_Static_assert(WIRE_GRANT_PORT_FILTER + 1 == WIRE_GRANT_COUNT, "lease.grants has one byte a grant");

enum wire_link { LINK_CLIENT = 1, LINK_SPAWNER, LINK_RENDEZVOUS, LINK_KEEPER, LINK_CONTROL };
enum wire_side { FROM_CLIENT = 1, FROM_BROKER, FROM_SPAWNER, FROM_START, FROM_INIT, FROM_CONTROLLER };
enum wire_kind { WIRE_REQUEST, WIRE_REPLY, WIRE_ERROR };
enum wire_phase { PHASE_NEW = 1, PHASE_SYNC = 2, PHASE_READY = 4 };

#define WIRE_HEADER_SIZE 8u /* u16 op, u16 kind, u32 sequence */
#define WIRE_MESSAGE_MAX (WIRE_HEADER_SIZE + WIRE_SIZE_plan) /* the largest; wire.c asserts it for all */

/* A received message. The receiver owns fds[0..fd_count) and ends them with wire_in_close() or by taking them out
 * (set the slot to -1). */
struct wire_in {
	enum wire_op op;
	enum wire_kind kind;
	uint32_t sequence;
	size_t fd_count;
	int fds[WIRE_FDS_MAX];
	const char *why; /* after -EPROTO: what was wrong, static text */
	union wire_any msg;
};

/* Who is allowed to say what to whom, now: the receiver's view of a session. */
struct wire_session {
	enum wire_link link;
	enum wire_side peer;    /* the side that sends to us */
	enum wire_phase phase;  /* phase of this session: requests outside it are refused */
	bool replies;           /* whether replies to our own requests may arrive */
};

/* Encode a message (header and body) into buf. Returns its length, or -EINVAL when a field is outside its range (a
 * bug of the caller: what we would not accept we do not send), -ENOSPC. For requests and replies of op; WIRE_ERROR
 * takes a struct wire_error. */
long wire_encode(enum wire_op op, enum wire_kind kind, uint32_t sequence, const void *msg, void *buf, size_t size);

/* Decode and validate one whole message of len bytes that came with fd_count descriptors. -EPROTO and in->why when
 * anything at all is off: operation, direction, phase, length, descriptors, a field's range or form; the rest of *in
 * means nothing then. Does not touch in->fds and in->fd_count. */
int wire_decode(const struct wire_session *session, const void *buf, size_t len, size_t fd_count, struct wire_in *in);

/* Send one message. Descriptors stay the caller's. -EAGAIN when the peer's queue is full, -EPIPE when it is gone;
 * never raises SIGPIPE and never blocks. */
int wire_send(int fd, enum wire_op op, enum wire_kind kind, uint32_t sequence, const void *msg, const int *fds,
	      size_t fd_count);

/* Receive one message. 1: in is filled; 0: the peer closed, or sent an empty datagram (the kernel does not tell them
 * apart, and no message is empty: end the session); -EAGAIN: nothing there (non-blocking); -EPROTO: the peer broke the
 * protocol, every descriptor that came with it is closed, in->why says how: end the session. */
int wire_recv(int fd, const struct wire_session *session, struct wire_in *in);

/* The same, but it never blocks, whatever the open file says: for a socket that others hold too. */
int wire_recv_now(int fd, const struct wire_session *session, struct wire_in *in);

/* Close what is left in in->fds. */
void wire_in_close(struct wire_in *in);

/* The exact number of descriptors a request or reply carries; -1 for an operation that has no such message. msg: the
 * struct that wire_encode() would take (a union wire_any begins with it). */
long wire_fd_count(enum wire_op op, enum wire_kind kind, const void *msg);

/* Texts for people; "?" for a number outside the table. Static. */
const char *wire_op_name(unsigned op);
const char *wire_grant_name(unsigned grant);
const char *wire_outcome_text(unsigned outcome);
const char *wire_step_text(unsigned step);
const char *wire_step_name(unsigned step);
const char *wire_error_name(unsigned code);

/* Whether an outcome means that the sandbox has the thing. */
bool wire_outcome_ok(unsigned outcome);

/* Whether s (inside size bytes) has the form of a NAME field: empty or [a-z0-9][a-z0-9._-]*, zero-padded. */
bool wire_name_ok(const char *s, size_t size);

/* Fill a NAME or TEXT field from a C string: -ENAMETOOLONG compares before it would truncate (CVE-2019-13164). */
int wire_set_chars(char *field, size_t size, const char *s);
