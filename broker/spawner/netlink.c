/* SPDX-License-Identifier: Apache-2.0
 * Runs: start (root, for the uplinks), spawner (capabilities of P only). */
#include "netlink.h"

#include <errno.h>
#include <stdbool.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#define NL_TIMEOUT_S 10 /* the kernel answers at once; this only keeps a bug from hanging the loop for ever */

void nl_raw(struct nl_msg *m, const void *data, size_t size)
{
	size_t at = NLMSG_ALIGN(m->head.nlmsg_len);

	if (at + NLMSG_ALIGN(size) > sizeof(m->bytes)) {
		m->full = 1;
		return;
	}
	memset(m->bytes + at, 0, NLMSG_ALIGN(size));
	memcpy(m->bytes + at, data, size);
	m->head.nlmsg_len = (uint32_t)(at + size);
}

void nl_begin(struct nl_msg *m, uint16_t type, uint16_t flags, const void *fixed, size_t size)
{
	memset(m, 0, sizeof(*m));
	m->head.nlmsg_len = NLMSG_HDRLEN;
	m->head.nlmsg_type = type;
	m->head.nlmsg_flags = (uint16_t)(NLM_F_REQUEST | NLM_F_ACK | flags);
	nl_raw(m, fixed, size);
}

void nl_put(struct nl_msg *m, uint16_t type, const void *data, size_t size)
{
	struct nlattr a = { .nla_len = (uint16_t)(NLA_HDRLEN + size), .nla_type = type };

	/* Header and payload together or not at all: a header alone would be read as an attribute. */
	if (size > UINT16_MAX - NLA_HDRLEN ||
	    NLMSG_ALIGN(m->head.nlmsg_len) + NLA_HDRLEN + NLA_ALIGN(size) > sizeof(m->bytes)) {
		m->full = 1;
		return;
	}
	nl_raw(m, &a, sizeof(a));
	if (size > 0)
		nl_raw(m, data, size);
}

void nl_put_u8(struct nl_msg *m, uint16_t type, uint8_t value)
{
	nl_put(m, type, &value, sizeof(value));
}

void nl_put_u16(struct nl_msg *m, uint16_t type, uint16_t value)
{
	nl_put(m, type, &value, sizeof(value));
}

void nl_put_u32(struct nl_msg *m, uint16_t type, uint32_t value)
{
	nl_put(m, type, &value, sizeof(value));
}

void nl_put_string(struct nl_msg *m, uint16_t type, const char *text)
{
	nl_put(m, type, text, strlen(text) + 1);
}

size_t nl_nest(struct nl_msg *m, uint16_t type)
{
	size_t at = NLMSG_ALIGN(m->head.nlmsg_len);

	nl_put(m, (uint16_t)(type | NLA_F_NESTED), NULL, 0);
	return at;
}

void nl_end(struct nl_msg *m, size_t nest)
{
	uint16_t size = (uint16_t)(NLMSG_ALIGN(m->head.nlmsg_len) - nest);

	if (m->full)
		return;
	m->head.nlmsg_len = NLMSG_ALIGN(m->head.nlmsg_len);
	memcpy(m->bytes + nest + offsetof(struct nlattr, nla_len), &size, sizeof(size));
}

const void *nl_find(const void *attributes, size_t size, uint16_t type, size_t *ret_size)
{
	const uint8_t *p = attributes;

	while (size >= NLA_HDRLEN) {
		struct nlattr a;
		size_t step;

		memcpy(&a, p, sizeof(a));
		if (a.nla_len < NLA_HDRLEN || a.nla_len > size)
			return NULL;
		if ((a.nla_type & NLA_TYPE_MASK) == type) {
			*ret_size = a.nla_len - (size_t)NLA_HDRLEN;
			return p + NLA_HDRLEN;
		}
		step = NLA_ALIGN(a.nla_len);
		if (step > size)
			return NULL;
		p += step;
		size -= step;
	}
	return NULL;
}

int nl_open(void)
{
	struct timeval limit = { .tv_sec = NL_TIMEOUT_S };
	int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE);

	if (fd < 0)
		return -errno;
	if (setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit)) < 0) {
		int r = -errno;

		(void)close(fd);
		return r;
	}
	return fd;
}

/* Look at one datagram. 1: the verdict is in *ret; 0: read on. */
static int read_verdict(struct nl_msg *in, size_t len, uint32_t sequence, struct nl_msg *reply, int *ret)
{
	struct nlmsghdr *h = &in->head;

	for (size_t left = len; NLMSG_OK(h, left); h = NLMSG_NEXT(h, left)) {
		if (h->nlmsg_seq != sequence)
			continue; /* the answer to a request that timed out */
		if (h->nlmsg_type == NLMSG_ERROR) {
			if (h->nlmsg_len < NLMSG_LENGTH(sizeof(int)))
				*ret = -EBADMSG;
			else
				memcpy(ret, NLMSG_DATA(h), sizeof(int));
			return 1;
		}
		if (reply != NULL && reply->head.nlmsg_len == 0 && h->nlmsg_len <= sizeof(reply->bytes))
			memcpy(reply->bytes, h, h->nlmsg_len);
	}
	return 0;
}

int nl_talk(int fd, struct nl_msg *m, struct nl_msg *reply)
{
	static uint32_t sequence;
	struct nl_msg in;
	int verdict = 0;

	if (m->full)
		return -ENOSPC;
	m->head.nlmsg_seq = ++sequence;
	if (reply != NULL)
		reply->head.nlmsg_len = 0;
	if (send(fd, m->bytes, m->head.nlmsg_len, 0) < 0)
		return -errno;
	for (;;) {
		ssize_t n = recv(fd, in.bytes, sizeof(in.bytes), MSG_TRUNC);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		if ((size_t)n > sizeof(in.bytes))
			return -EMSGSIZE;
		if (read_verdict(&in, (size_t)n, m->head.nlmsg_seq, reply, &verdict) == 1)
			return verdict;
	}
}
