# SPDX-License-Identifier: Apache-2.0
# Runs: tests (root, inside the test VM). What vm run was asked for: kernel, selinux, landlock, vhost, tun, userns, cgroup, systemd.
import json
import os

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))))
with open(os.path.join(ROOT, "asked.json"), encoding="utf-8") as f:
    ASKED = json.load(f)


def landlock():
    """Its version: as old as the kernel."""
    return 0 if ASKED["landlock"] == "off" else {"6.1": 2, "6.12": 6}[ASKED["kernel"]]
