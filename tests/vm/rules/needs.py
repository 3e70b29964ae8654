# SPDX-License-Identifier: Apache-2.0
# Runs: tests (root, unconfined_t, inside the test VM). The named tests of docs/selinux-rules.md, all of them.
#
# Each is short, passes with the whole module, and fails when one of the groups is missing that it is said to need. The first
# line of its text is what the table says does not work then.
import needs_start  # noqa: F401
import needs_launch  # noqa: F401
from world import FRESH, LISTS, NEEDED, PATIENCE, TESTS, World  # noqa: F401
