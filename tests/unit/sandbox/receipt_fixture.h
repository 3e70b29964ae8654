/* SPDX-License-Identifier: Apache-2.0
 * Runs: tests. A receipt in which everything is as it should be, with one of every kind of grant. */
#pragma once

#include "launcher/sandbox/receipt.h"

/* Fill receipt and plan; receipt_check() finds nothing wrong with them. */
void fixture_fill(struct receipt *receipt, struct plan *plan);
