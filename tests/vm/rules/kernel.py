# SPDX-License-Identifier: Apache-2.0
# Runs: tests (root, inside the test VM). The policy in force.
import os

SELINUX = "/sys/fs/selinux"


def load(path):
    """Put another policy in force, at once and as a whole."""
    with open(path, "rb") as f:
        policy = f.read()
    fd = os.open(SELINUX + "/load", os.O_RDWR | os.O_CLOEXEC)
    try:
        os.write(fd, policy)
    finally:
        os.close(fd)


def set_booleans(**values):
    for name, on in values.items():
        with open("%s/booleans/%s" % (SELINUX, name), "w", encoding="ascii") as f:
            f.write("%d" % on)
    with open(SELINUX + "/commit_pending_bools", "w", encoding="ascii") as f:
        f.write("1")
