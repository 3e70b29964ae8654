/* SPDX-License-Identifier: Apache-2.0
 * Runs: tests (no privilege). Route netlink messages: bytes as the kernel reads them, and what does not fit is refused. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <errno.h>
#include <linux/if_link.h>
#include <linux/pkt_cls.h>
#include <linux/rtnetlink.h>

#include "broker/spawner/filter.h"
#include "broker/spawner/netlink.h"

static const uint8_t *attributes(const struct nl_msg *m, size_t fixed, size_t *ret_size)
{
	*ret_size = m->head.nlmsg_len - NLMSG_HDRLEN - NLMSG_ALIGN(fixed);
	return m->bytes + NLMSG_HDRLEN + NLMSG_ALIGN(fixed);
}

static void golden(void **state)
{
	const struct ifinfomsg info = { .ifi_index = 7 };
	/* Length 16: the header and eleven characters with their NUL; type 3. */
	static const uint8_t expected[16] = { 16, 0, 3, 0, 'b', 'r', 'i', 'd', 'g', 'e', '-', 'e', 'n', 'd', '0', 0 };
	struct nl_msg m;
	size_t size;
	const uint8_t *at;

	(void)state;
	nl_begin(&m, RTM_NEWLINK, NLM_F_CREATE, &info, sizeof(info));
	nl_put_string(&m, IFLA_IFNAME, "bridge-end0");
	at = attributes(&m, sizeof(info), &size);
	assert_int_equal(size, 16);
	assert_memory_equal(at, expected, sizeof(expected));
	assert_int_equal(m.head.nlmsg_flags, NLM_F_REQUEST | NLM_F_ACK | NLM_F_CREATE);
	nl_put_u8(&m, 9, 1);
	assert_int_equal(m.head.nlmsg_len, 32 + 16 + 5); /* padding belongs to the next attribute */
	nl_put_u32(&m, 10, 0x01020304);
	assert_int_equal(m.head.nlmsg_len, 32 + 16 + 8 + 8);
	assert_false(m.full);
}

static void nests_are_found(void **state)
{
	const struct ifinfomsg info = { 0 };
	const void *outer, *inner;
	size_t size, nest, deeper;
	struct nl_msg m;

	(void)state;
	nl_begin(&m, RTM_NEWLINK, 0, &info, sizeof(info));
	nl_put_u32(&m, IFLA_MASTER, 3);
	nest = nl_nest(&m, IFLA_LINKINFO);
	nl_put_string(&m, IFLA_INFO_KIND, "bridge");
	deeper = nl_nest(&m, IFLA_INFO_DATA);
	nl_put_u8(&m, IFLA_BR_MCAST_SNOOPING, 5);
	nl_end(&m, deeper);
	nl_end(&m, nest);
	outer = attributes(&m, sizeof(info), &size);
	outer = nl_find(outer, size, IFLA_LINKINFO, &size);
	assert_non_null(outer);
	inner = nl_find(outer, size, IFLA_INFO_KIND, &(size_t){ 0 });
	assert_string_equal(inner, "bridge");
	outer = nl_find(outer, size, IFLA_INFO_DATA, &size);
	assert_non_null(outer);
	inner = nl_find(outer, size, IFLA_BR_MCAST_SNOOPING, &size);
	assert_non_null(inner);
	assert_int_equal(size, 1);
	assert_int_equal(*(const uint8_t *)inner, 5);
}

static void find_stays_inside(void **state)
{
	uint8_t bytes[16] = { 8, 0, 1, 0, 1, 2, 3, 4, 12, 0, 2, 0, 9, 9, 9, 9 };
	size_t size;

	(void)state;
	assert_non_null(nl_find(bytes, sizeof(bytes), 1, &size));
	assert_null(nl_find(bytes, sizeof(bytes), 2, &size)); /* says 12, has 8 */
	bytes[8] = 3;
	assert_null(nl_find(bytes, sizeof(bytes), 2, &size)); /* shorter than its header */
	bytes[8] = 8;
	for (size_t cut = 0; cut < sizeof(bytes); cut++)
		assert_null(nl_find(bytes, cut, 2, &size));
	assert_non_null(nl_find(bytes, sizeof(bytes), 2, &size));
}

static void too_much_is_refused(void **state)
{
	static const uint8_t big[NL_MESSAGE_MAX];
	const struct ifinfomsg info = { 0 };
	struct nl_msg m;
	uint32_t before;

	(void)state;
	nl_begin(&m, RTM_NEWLINK, 0, &info, sizeof(info));
	before = m.head.nlmsg_len;
	nl_put(&m, 1, big, sizeof(big));
	assert_true(m.full);
	assert_int_equal(m.head.nlmsg_len, before); /* not even its header */
	assert_int_equal(nl_talk(-1, &m, NULL), -ENOSPC);
	nl_begin(&m, RTM_NEWLINK, 0, &info, sizeof(info));
	nl_put(&m, 1, big, sizeof(big) - before - NLA_HDRLEN);
	assert_false(m.full);
	nl_put_u8(&m, 2, 0);
	assert_true(m.full);
}

static void filter_fits(void **state)
{
	struct sock_filter program[FILTER_UPLINK_MAX] = { 0 };
	const void *options;
	struct nl_msg m;
	size_t size;

	(void)state;
	filter_message(&m, 5, program, FILTER_UPLINK_MAX);
	assert_false(m.full);
	options = attributes(&m, sizeof(struct tcmsg), &size);
	options = nl_find(options, size, TCA_OPTIONS, &size);
	assert_non_null(options);
	assert_non_null(nl_find(options, size, TCA_BPF_OPS, &size));
	assert_int_equal(size, FILTER_UPLINK_MAX * sizeof(program[0]));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(golden),
		cmocka_unit_test(nests_are_found),
		cmocka_unit_test(find_stays_inside),
		cmocka_unit_test(too_much_is_refused),
		cmocka_unit_test(filter_fits),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
