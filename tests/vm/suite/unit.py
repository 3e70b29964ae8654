# SPDX-License-Identifier: Apache-2.0
# Runs: tests (root, inside the test VM). A unit test of the broker's whose subject is only real where labels are: which
# categories a sandbox gets, over a million allocations. machine.py brings the program along.
import os
import subprocess
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.append(os.path.join(HERE, "..", "..", "integration"))
import tap  # noqa: E402

PLACE = os.path.join(HERE, "..", "..", "..", "unit")


@tap.case
def D13_categories_over_a_million_allocations():
    done = subprocess.run([os.path.join(PLACE, "test_broker_label")], env={"LD_LIBRARY_PATH": PLACE}, stdin=subprocess.DEVNULL,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    tap.equal(done.returncode, 0, "status: " + done.stdout)
    tap.true("[       OK ] D13_two_distinct_categories_and_no_dominance\n" in done.stdout, "it ran: " + done.stdout)


tap.run()
