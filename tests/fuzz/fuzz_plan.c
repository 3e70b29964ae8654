/* SPDX-License-Identifier: Apache-2.0
 * Runs: tests. Any bytes as C_PLAN through the decoder and init's check; what passes must split into words inside. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "broker/init/plan_check.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* A plan is 35 KB, mostly zeros: the input is laid over an empty one, head first, words from byte 64 on. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static uint8_t buf[WIRE_MESSAGE_MAX];
	static const struct wire_session session = { .link = LINK_CONTROL, .peer = FROM_CONTROLLER, .phase = PHASE_NEW };
	static const struct wire_plan empty = { .word_count = 1, .word_bytes = 1 };
	static struct wire_in in;
	const size_t head = WIRE_HEADER_SIZE + 5 + WIRE_ASSETS_MAX * WIRE_SIZE_asset, table = size < 256 ? size : 256;
	const char *why = NULL;
	size_t used = 0, words = 0;
	long len = wire_encode(WIRE_OP_C_PLAN, WIRE_REQUEST, 0, &empty, buf, sizeof(buf));

	if (len < 0)
		abort();
	memcpy(buf + WIRE_HEADER_SIZE, data, table);
	if (size > table)
		memcpy(buf + head, data + table, size - table < (size_t)len - head ? size - table : (size_t)len - head);
	if (wire_decode(&session, buf, (size_t)len, buf[WIRE_HEADER_SIZE + 4], &in) < 0)
		return 0;
	if (plan_check(&in.msg.plan, &why) < 0) {
		if (why == NULL)
			abort();
		return 0;
	}
	while (used < in.msg.plan.word_bytes) {
		used += strlen((const char *)in.msg.plan.words + used) + 1;
		words++;
	}
	if (words != in.msg.plan.word_count || used != in.msg.plan.word_bytes)
		abort();
	return 0;
}
