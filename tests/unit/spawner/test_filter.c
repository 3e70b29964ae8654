/* SPDX-License-Identifier: Apache-2.0
 * Runs: tests (no privilege). The programs that decide what a guest may send, run over frames by a small machine. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "broker/spawner/filter.h"

#define FRAME_BYTES 64
#define PASS 0u
#define DROP 2u
#define LAN 0x0a620001u  /* 10.98.0.1 */
#define LAN2 0x0a620101u /* 10.98.1.1 */

static const uint8_t mac[6] = { 0x26, 0xe6, 0x7f, 0x61, 0x08, 0x41 };

/* Classic BPF as the kernel runs it, as far as our programs go: a load beyond the frame, a jump beyond the program or an
 * unknown instruction is an error of the program. */
static uint32_t run(const struct sock_filter *program, size_t count, const uint8_t *frame)
{
	uint32_t a = 0;

	for (size_t at = 0; at < count; at++) {
		const struct sock_filter *i = &program[at];

		switch (i->code) {
		case BPF_LD | BPF_W | BPF_ABS:
			assert_true(i->k + 4 <= FRAME_BYTES);
			a = (uint32_t)frame[i->k] << 24 | (uint32_t)frame[i->k + 1] << 16 | (uint32_t)frame[i->k + 2] << 8 |
			    frame[i->k + 3];
			break;
		case BPF_LD | BPF_H | BPF_ABS:
			assert_true(i->k + 2 <= FRAME_BYTES);
			a = (uint32_t)frame[i->k] << 8 | frame[i->k + 1];
			break;
		case BPF_ALU | BPF_AND | BPF_K:
			a &= i->k;
			break;
		case BPF_JMP | BPF_JEQ | BPF_K:
			at += a == i->k ? i->jt : i->jf;
			break;
		case BPF_RET | BPF_K:
			return i->k;
		default:
			fail_msg("instruction %#x", i->code);
		}
	}
	fail_msg("the program runs off its end");
	return DROP;
}

static void put32(uint8_t *at, uint32_t value)
{
	for (int i = 0; i < 4; i++)
		at[i] = (uint8_t)(value >> (24 - 8 * i));
}

static const uint8_t *frame(const uint8_t source[6], uint16_t type, uint32_t from, uint32_t to)
{
	static uint8_t bytes[FRAME_BYTES];

	memset(bytes, 0, sizeof(bytes));
	memcpy(bytes + 6, source, 6);
	bytes[12] = (uint8_t)(type >> 8);
	bytes[13] = (uint8_t)type;
	put32(bytes + (type == 0x806 ? 28 : 26), from);
	put32(bytes + (type == 0x806 ? 38 : 30), to);
	return bytes;
}

static void port_with_ip(void **state)
{
	struct sock_filter p[FILTER_PORT_MAX];
	size_t n = filter_port(mac, LAN + 7, p);
	uint8_t other[6];

	(void)state;
	assert_int_equal(n, 13);
	assert_int_equal(run(p, n, frame(mac, 0x800, LAN + 7, LAN)), PASS);
	assert_int_equal(run(p, n, frame(mac, 0x806, LAN + 7, LAN)), PASS);
	assert_int_equal(run(p, n, frame(mac, 0x800, LAN + 8, LAN)), DROP);
	assert_int_equal(run(p, n, frame(mac, 0x806, LAN + 8, LAN)), DROP);
	assert_int_equal(run(p, n, frame(mac, 0x800, 0, LAN)), DROP);
	assert_int_equal(run(p, n, frame(mac, 0x86dd, LAN + 7, LAN)), DROP);
	assert_int_equal(run(p, n, frame(mac, 0x8100, LAN + 7, LAN)), DROP);
	for (size_t i = 0; i < 6; i++) { /* each single byte of the MAC counts */
		memcpy(other, mac, 6);
		other[i] ^= 1;
		assert_int_equal(run(p, n, frame(other, 0x800, LAN + 7, LAN)), DROP);
	}
}

static void port_with_mac_only(void **state)
{
	struct sock_filter p[FILTER_PORT_MAX];
	size_t n = filter_port(mac, 0, p);
	uint8_t other[6];

	(void)state;
	assert_int_equal(run(p, n, frame(mac, 0x800, LAN + 8, LAN)), PASS);
	assert_int_equal(run(p, n, frame(mac, 0x86dd, 1, 2)), PASS);
	for (size_t i = 0; i < 6; i++) {
		memcpy(other, mac, 6);
		other[i] ^= 0x80;
		assert_int_equal(run(p, n, frame(other, 0x800, LAN + 8, LAN)), DROP);
	}
}

static struct spawn_table *networks(uint32_t count)
{
	static struct spawn_table t;

	memset(&t, 0, sizeof(t));
	t.network_count = count;
	for (uint32_t i = 0; i < count; i++) {
		t.networks[i].has_uplink = i != 1; /* the second has none */
		t.networks[i].gateway = LAN + 0x100 * i;
		t.networks[i].prefix = 24;
	}
	return &t;
}

static void uplink(void **state)
{
	struct sock_filter p[FILTER_UPLINK_MAX];

	(void)state;
	assert_int_equal(filter_uplink(networks(2), 1, p), 0);
	for (uint32_t count = 1; count <= TABLE_NETWORKS; count++) {
		const struct spawn_table *t = networks(count);
		size_t n = filter_uplink(t, 0, p);

		assert_true(n > 0 && n <= FILTER_UPLINK_MAX);
		assert_int_equal(run(p, n, frame(mac, 0x800, LAN + 7, LAN)), PASS);
		assert_int_equal(run(p, n, frame(mac, 0x800, LAN + 7, LAN | 0xff)), PASS);
		assert_int_equal(run(p, n, frame(mac, 0x800, LAN + 7, 0xffffffff)), PASS);
		assert_int_equal(run(p, n, frame(mac, 0x800, LAN + 7, 0x08080808)), PASS);
		assert_int_equal(run(p, n, frame(mac, 0x800, LAN + 7, LAN + 8)), DROP);
		assert_int_equal(run(p, n, frame(mac, 0x806, LAN + 7, LAN)), PASS);
		assert_int_equal(run(p, n, frame(mac, 0x806, LAN + 7, LAN + 8)), DROP);
		assert_int_equal(run(p, n, frame(mac, 0x806, LAN + 7, 0x08080808)), DROP);
		assert_int_equal(run(p, n, frame(mac, 0x86dd, 1, 2)), DROP);
		for (uint32_t i = 2; i < count; i++) { /* neither guest nor gateway of another network */
			assert_int_equal(run(p, n, frame(mac, 0x800, LAN + 7, LAN + 0x100 * i)), DROP);
			assert_int_equal(run(p, n, frame(mac, 0x800, LAN + 7, LAN + 0x100 * i + 9)), DROP);
			assert_int_equal(run(p, n, frame(mac, 0x806, LAN + 7, LAN + 0x100 * i)), DROP);
		}
		/* A network without uplink has no addresses here: its numbers may be the world's. */
		if (count > 1)
			assert_int_equal(run(p, n, frame(mac, 0x800, LAN + 7, LAN2 + 5)), PASS);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(port_with_ip),
		cmocka_unit_test(port_with_mac_only),
		cmocka_unit_test(uplink),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
