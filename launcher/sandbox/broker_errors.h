/* SPDX-License-Identifier: Apache-2.0
 * Runs: controller and CLI (the user). What to tell the user when the broker says no. */
#pragma once

#include "broker_client.h"

/* Fill *ret from an error message of the broker. Pure. */
void broker_explain(const struct wire_error *error, struct broker_failure *ret);

/* Fill *ret for a broker that cannot be reached or does not follow the protocol. error: errno, positive. Pure. */
void broker_unreachable(const char *path, int error, struct broker_failure *ret);
