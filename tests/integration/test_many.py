# SPDX-License-Identifier: Apache-2.0
# Runs: tests (root, launching as ordinary users). Many launches: in a row, at once, through the CLI; afterwards nothing.
import os
import sys
import threading

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import harness  # noqa: E402
import tap  # noqa: E402
from harness import ALICE, BOB  # noqa: E402
from tap import case  # noqa: E402

NIC = {"network": "lan", "queues": 1}
IN_A_ROW, AT_ONCE = 200, 32


def distinct(leases, what):
    for field in ("id", "uid", "gid"):
        tap.equal(len({lease[field] for lease in leases}), len(leases), "%s: distinct %ss" % (what, field))
    macs = [nic["mac"] for lease in leases for nic in lease["nics"][: lease["nic_count"]]]
    tap.equal(len(set(macs)), len(macs), what + ": distinct MACs")


@case
def two_hundred_in_a_row(host):
    before = host.snapshot()
    leases = []
    with host.session(ALICE) as session:
        for i in range(IN_A_ROW):
            with host.launch("hostile", ["clock"], session=session, nics=[NIC] if i % 8 == 0 else []) as launch:
                leases.append(launch.lease)
                tap.equal(launch.exited(), 0, "status of launch %d" % i)
    distinct(leases, "200 in a row")
    host.settle(before, 20)


@case
def thirty_two_at_once(host):
    """All of them alive at the same time, of two users, half of them with a tap."""
    before = host.snapshot()
    results, errors = [], []
    sessions = [host.session(ALICE if i % 2 else BOB) for i in range(AT_ONCE)]

    def one(i):
        try:
            results.append(host.launch("hostile", ["hold"], session=sessions[i], nics=[NIC] if i % 4 < 2 else []))
        except BaseException as why:
            errors.append(repr(why))

    threads = [threading.Thread(target=one, args=(i,)) for i in range(AT_ONCE)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    try:
        tap.equal(errors, [], "errors")
        tap.equal(len(results), AT_ONCE, "sandboxes that run")
        distinct([launch.lease for launch in results], "32 at once")
        tap.true(all(harness.alive(launch.vmm_pid()) for launch in results), "all alive at once")
        tap.equal(len(host.leases_of(ALICE)) + len(host.leases_of(BOB)), AT_ONCE, "leases the broker lists")
        vmms = [harness.namespace(launch.vmm_pid(), "user") for launch in results]
        tap.equal(len(set(vmms)), 1 if harness.DIRECT else AT_ONCE, "user namespaces")
    finally:
        for launch in results:
            launch.close()
        for session in sessions:
            session.close()
    host.settle(before, 20)


@case
def many_through_the_cli(host):
    """Eight controllers at once, each with the mock and a tap; killed all with one command."""
    before = host.snapshot()
    spec = host.spec(nics=[{"type": "tap", "network": "lan"}])
    starts = [host.popen("run", spec, "--detach", "--name", "many%d" % i, stdout=harness.subprocess.PIPE,
                         stderr=harness.subprocess.PIPE, text=True) for i in range(8)]
    for start in starts:
        out, err = start.communicate(timeout=60)
        tap.equal(start.returncode, 0, "status of run: %s%s" % (out, err))
    listed = host.json("ps")
    tap.equal(len(_rows(listed)), 8, "sandboxes ps lists")
    distinct(host.leases_of(ALICE), "eight by the CLI")
    host.ok("kill", "--all")
    host.settle(before, 20)


def _rows(value):
    return value if isinstance(value, list) else next(v for v in value.values() if isinstance(v, list))


@case
def quotas_count_down_again(host):
    """The limit is met exactly, named in the error, and free again when one ends."""
    with host.session(ALICE) as session:
        held = []
        try:
            refused = None
            for _ in range(80):
                try:
                    held.append(host.launch("hostile", ["hold"], session=session))
                except harness.wire.Refused as why:
                    refused = why
                    break
            tap.equal((len(held), refused and refused.code, refused and refused.number), (64, "QUOTA_SANDBOXES_USER", 64),
                      "the limit")
            pid = held[0].lease["init_pid"]
            held.pop(0).close()
            tap.wait_for(lambda: not harness.alive(pid), "one ended")
            tap.wait_for(lambda: len(host.leases_of(ALICE)) == 63, "its lease is free")
            held.append(host.launch("hostile", ["hold"], session=session))
        finally:
            for launch in held:
                launch.close()
    tap.wait_for(lambda: not host.leases_of(ALICE), "all leases are free", 20)


harness.main()
