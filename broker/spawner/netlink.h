/* SPDX-License-Identifier: Apache-2.0
 * Runs: start (root, for the uplinks), spawner (capabilities of P only). Route netlink, one request at a time.
 *
 * Building a message is pure (tests/unit/spawner); nl_talk() is the only function here with an effect. */
#pragma once

#include <linux/netlink.h>
#include <stddef.h>
#include <stdint.h>

#define NL_MESSAGE_MAX 4096u

/* A message under construction. full: something did not fit, nl_talk() refuses it with -ENOSPC. */
struct nl_msg {
	union {
		struct nlmsghdr head;
		uint8_t bytes[NL_MESSAGE_MAX];
	};
	int full;
};

/* Begin a message of this type whose fixed part (ifinfomsg, tcmsg, ndmsg...) is size bytes at fixed. */
void nl_begin(struct nl_msg *m, uint16_t type, uint16_t flags, const void *fixed, size_t size);

void nl_put(struct nl_msg *m, uint16_t type, const void *data, size_t size);
void nl_put_u8(struct nl_msg *m, uint16_t type, uint8_t value);
void nl_put_u16(struct nl_msg *m, uint16_t type, uint16_t value);
void nl_put_u32(struct nl_msg *m, uint16_t type, uint32_t value);
void nl_put_string(struct nl_msg *m, uint16_t type, const char *text);

/* Nested attributes: nl_end() takes what nl_nest() returned. nl_raw() adds bytes without a header of their own. */
size_t nl_nest(struct nl_msg *m, uint16_t type);
void nl_end(struct nl_msg *m, size_t nest);
void nl_raw(struct nl_msg *m, const void *data, size_t size);

/* The payload of the attribute of this type among size bytes of attributes, or NULL. Pure. */
const void *nl_find(const void *attributes, size_t size, uint16_t type, size_t *ret_size);

/* A route netlink socket of the network namespace we are in now; the caller owns it. -errno. */
int nl_open(void);

/* Send m and wait for the kernel's verdict: 0 or -errno. With reply (may be NULL), the first message that is not the
 * verdict is kept there. */
int nl_talk(int fd, struct nl_msg *m, struct nl_msg *reply);
