# SPDX-License-Identifier: Apache-2.0
# Runs: tests (root, inside the test VM, SELinux enforcing). A test build that gives every sandbox the same id of the host:
# what is left between two of them are their labels.
import os
import re
import struct
import sys

sys.path[:0] = [os.path.join(os.path.dirname(os.path.abspath(__file__)), *more) for more in ((), ("..", "..", "integration"))]
import harness  # noqa: E402
import installed  # noqa: E402
import tap  # noqa: E402
from harness import ALICE, BOB  # noqa: E402
from tap import case  # noqa: E402

FORCED_AT = 8  # third u32 of the memfd: common/fault.h


@case
def same_uid_forced_by_a_test_build_and_still_no_way_to_the_other(host):
    """Two sandboxes of two users that the host cannot tell apart by uid. With the label of either, a program in the room of
    the first reads its file and signals its VMM, or is refused both, with permissive=0."""
    uid = host.first_uid + harness.UID_COUNT - 1
    os.pwrite(host.fault_fd, struct.pack("<I", uid), FORCED_AT)
    with open(host.user_file(ALICE, "secret", b"secret"), "rb") as f:
        assets = [{"fd": f.fileno(), "name": "kernel", "use": 1}]
        with host.launch("hostile", ["hold"], assets=assets) as a, host.launch("hostile", ["hold"], uid=BOB) as b:
            victim = a.vmm_pid()
            tap.equal([harness.uids(pid) for pid in (victim, b.vmm_pid())], [[uid] * 4] * 2, "uids on the host")
            tap.true(a.lease["uid"] != b.lease["uid"], "the leases have two, and nothing was forced on them")
            labels = [installed.context(launch.vmm_pid()) for launch in (a, b)]
            tap.equal(labels, [a.lease["label"], b.lease["label"]], "labels")
            words = ["open:/run/kernel:r", "kill:%d:18" % victim]
            tap.equal(installed.inside(a, labels[0], words, uid), dict.fromkeys(words, "OK"), "with its own categories")
            mark = installed.avc_mark()
            tap.equal(installed.inside(a, labels[1], words, uid), dict.fromkeys(words, "EACCES"), "with the other's")
            lines = installed.avc_since(mark, re.escape(labels[1]))
            for kind in ("file|dir", "process"):
                tap.true(any(re.search(r"tclass=(%s) .*permissive=0|permissive=0.*tclass=(%s)" % (kind, kind), line) for line in lines),
                         "a denial of class %s: %s" % (kind, lines))


harness.main(fault=True)
