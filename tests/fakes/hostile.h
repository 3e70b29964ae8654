/* SPDX-License-Identifier: Apache-2.0
 * Runs: VMM (inside a sandbox, no privilege). What the files of hostile-vmm share. */
#pragma once

long number(const char *s); /* of a word's part */
void say(const char *text); /* all of it, to the log channel */

/* Attacks: parts of the word behind the name; 0 or -errno. */
long try_eat(char **a);
long try_threads(char **a);
