/* SPDX-License-Identifier: Apache-2.0
 * Runs: controller and CLI (the user). Limits of the API's arguments, so that the CLI can refuse them with a better text. */
#pragma once

#define VERB_STOP_MAX_MS 600000
