/* SPDX-License-Identifier: Apache-2.0
 * Runs: fuzzer (whoever runs it). Any bytes at any receiver: refused, or exactly what our encoder would have sent. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "common/cleanup.h"
#include "common/wire.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Every receiver that exists, and what it may hear. */
static const struct wire_session receivers[] = {
	{ LINK_CLIENT, FROM_CLIENT, PHASE_NEW, false },      { LINK_CLIENT, FROM_CLIENT, PHASE_READY, false },
	{ LINK_CLIENT, FROM_BROKER, PHASE_READY, true },     { LINK_SPAWNER, FROM_BROKER, PHASE_NEW, false },
	{ LINK_SPAWNER, FROM_BROKER, PHASE_SYNC, false },    { LINK_SPAWNER, FROM_BROKER, PHASE_READY, false },
	{ LINK_SPAWNER, FROM_SPAWNER, PHASE_NEW, false },    { LINK_SPAWNER, FROM_SPAWNER, PHASE_SYNC, false },
	{ LINK_SPAWNER, FROM_SPAWNER, PHASE_READY, false },  { LINK_RENDEZVOUS, FROM_START, PHASE_READY, false },
	{ LINK_RENDEZVOUS, FROM_BROKER, PHASE_READY, true }, { LINK_KEEPER, FROM_SPAWNER, PHASE_NEW, false },
	{ LINK_KEEPER, FROM_BROKER, PHASE_READY, false },    { LINK_KEEPER, FROM_INIT, PHASE_READY, false },
	{ LINK_CONTROL, FROM_CONTROLLER, PHASE_NEW, false }, { LINK_CONTROL, FROM_CONTROLLER, PHASE_READY, false },
	{ LINK_CONTROL, FROM_INIT, PHASE_NEW, false },       { LINK_CONTROL, FROM_INIT, PHASE_READY, false },
};

/* Every message has one length, which a fuzzer does not guess. */
#define LENGTH(m) WIRE_HEADER_SIZE + WIRE_SIZE_##m,
static const size_t lengths[] = { WIRE_MESSAGES(LENGTH) };

static uint8_t message[WIRE_MESSAGE_MAX + 1], again[WIRE_MESSAGE_MAX];
static struct wire_in in;

/* Decode; what is accepted must encode to the same bytes. */
static void try_length(const struct wire_session *session, size_t len, size_t fds)
{
	long n;

	if (wire_decode(session, message, len, fds, &in) < 0) {
		if (in.why == NULL)
			abort();
		return;
	}
	if (in.why != NULL || (long)fds != wire_fd_count(in.op, in.kind, &in.msg))
		abort();
	n = wire_encode(in.op, in.kind, in.sequence, &in.msg, again, sizeof(again));
	if (n != (long)len || memcmp(again, message, len) != 0)
		abort();
}

/* First byte: the receiver; second: how many descriptors came along; the rest is the message. Bit 7 of the first byte
 * pads it with zeros to each length that any message has. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const struct wire_session *session;

	if (size < 2 || size - 2 > sizeof(message))
		return 0;
	session = &receivers[(data[0] & 0x7f) % ARRAY_SIZE(receivers)];
	memset(message, 0, sizeof(message));
	memcpy(message, data + 2, size - 2);
	if ((data[0] & 0x80) == 0)
		try_length(session, size - 2, data[1]);
	else
		for (size_t i = 0; i < ARRAY_SIZE(lengths); i++)
			try_length(session, lengths[i], data[1]);
	return 0;
}
