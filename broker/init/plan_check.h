/* SPDX-License-Identifier: Apache-2.0
 * Runs: init (uid X, no capability). Is a decoded C_PLAN consistent in itself? Pure, so that a table and a fuzzer can
 * test it. */
#pragma once

#include "common/wire.h"

/* 0, or -EINVAL and *ret_why (static text). wire_decode() has checked each field's own range and form already. */
int plan_check(const struct wire_plan *plan, const char **ret_why);
