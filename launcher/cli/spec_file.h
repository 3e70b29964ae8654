/* SPDX-License-Identifier: Apache-2.0
 * Runs: CLI (the user). The spec of run and check: a file, then options that win over it. */
#pragma once

#include "cli.h"

/* Parse the command line twice: for the file's name, then over the file. Returns -1 and *ret (the caller's), else the
 * exit status. *ret may also be set then. */
int spec_from_arguments(const struct command *self, const struct option_row *rows, size_t count, int argc, char **argv,
			struct spec **ret);
