/* SPDX-License-Identifier: Apache-2.0
 * Runs: controller (the user). */
#include "ring.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

int ring_init(struct ring *ring, size_t size)
{
	*ring = (struct ring){ .bytes = malloc(size), .size = size };
	return ring->bytes != NULL ? 0 : -ENOMEM;
}

void ring_done(struct ring *ring)
{
	free(ring->bytes);
	*ring = (struct ring){ 0 };
}

void ring_push(struct ring *ring, const char *bytes, size_t len)
{
	if (len > ring->size) {
		bytes += len - ring->size;
		len = ring->size;
		ring->lost = true;
	}
	if (len > ring->size - ring->used) {
		size_t drop = len - (ring->size - ring->used);

		ring->start = (ring->start + drop) % ring->size;
		ring->used -= drop;
		ring->lost = true;
	}
	for (size_t done = 0; done < len;) {
		size_t at = (ring->start + ring->used) % ring->size;
		size_t part = ring->size - at < len - done ? ring->size - at : len - done;

		memcpy(ring->bytes + at, bytes + done, part);
		ring->used += part;
		done += part;
	}
}

int ring_flush(struct ring *ring, int fd)
{
	while (ring->used > 0) {
		size_t part = ring->size - ring->start < ring->used ? ring->size - ring->start : ring->used;
		ssize_t sent = send(fd, ring->bytes + ring->start, part, MSG_NOSIGNAL | MSG_DONTWAIT);

		if (sent < 0 && errno == EINTR)
			continue;
		if (sent < 0)
			return errno == EAGAIN ? 0 : -errno;
		ring->start = (ring->start + (size_t)sent) % ring->size;
		ring->used -= (size_t)sent;
	}
	return 0;
}

void ring_copy(struct ring *to, const struct ring *from)
{
	size_t first = from->size - from->start < from->used ? from->size - from->start : from->used;

	ring_push(to, from->bytes + from->start, first);
	ring_push(to, from->bytes, from->used - first);
}
