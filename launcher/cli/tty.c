/* SPDX-License-Identifier: Apache-2.0
 * Runs: CLI (the user). The user's terminal, which must be as it was however we end. */
#include <stdlib.h>
#include <termios.h>
#include <unistd.h>

#include "cli.h"

static struct termios before;
static bool changed;

void tty_restore(void)
{
	if (changed)
		(void)tcsetattr(STDIN_FILENO, TCSADRAIN, &before);
	changed = false;
}

bool tty_raw(void)
{
	struct termios raw;
	static bool registered;

	if (isatty(STDIN_FILENO) != 1 || tcgetattr(STDIN_FILENO, &before) < 0)
		return false;
	if (!registered)
		registered = atexit(tty_restore) == 0;
	raw = before;
	cfmakeraw(&raw);
	changed = tcsetattr(STDIN_FILENO, TCSADRAIN, &raw) == 0;
	return changed;
}
