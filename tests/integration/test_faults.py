# SPDX-License-Identifier: Apache-2.0
# Runs: tests (root), in a build with -Dfault_injection=true. D15: each single step of a launch fails once.
#
# Whatever fails, no VMM executes an instruction (it would say so on its log), the error names the step, nothing is left,
# the uid is not given out again, and the next launch works.
import os
import struct
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import harness  # noqa: E402
import tap  # noqa: E402
import wire  # noqa: E402
from tap import case  # noqa: E402

K = wire.T.constants
# Launches that between them reach every step: a pinned tap with KVM, and one without KVM whose node has to be hidden.
WAYS = (
    {"nics": [{"network": "lan2", "queues": 1}], "flags": K["WIRE_KVM_WANT"], "limits": {"pids": 64}},
    {"nics": [], "flags": 0, "asset": True},
)
# Not reached on this kind of host, with why. So far every step is.
ELSEWHERE = {}


def set_fault(host, step):
    os.pwrite(host.fault_fd, struct.pack("<I", wire.T.steps.index(step)), 0)


def attempt(host, way):
    """(outcome, what the VMM said, lease). Outcome is the step that the error names, or "OK"."""
    more = {key: way[key] for key in ("nics", "flags", "limits") if key in way}
    fd = os.open("/etc/hostname", os.O_RDONLY)
    launch = None
    try:
        launch = host.launch("hostile", plan=False, **more)
        assets = [{"fd": fd, "name": "kernel", "use": 1}] if way.get("asset") else []
        try:
            launch.send_plan([launch.path, "clock", "hold"], assets)
        except (BrokenPipeError, ConnectionResetError):
            pass
        try:
            launch._wait_for("C_FACTS")
            outcome = "OK"
        except harness.LaunchFailed as why:
            outcome = why.step
        lease = launch.lease
        launch.control.close()
        said = launch.output(5) if launch.channels else ""
        return outcome, said, lease
    except wire.Refused as why:
        return (why.step if why.code == "STEP_FAILED" else why.code), "", None
    finally:
        os.close(fd)
        if launch is not None:
            launch.close()


def by_cli(host, step, reached):
    """The same through `postern run`: one line that says which step, its exit status."""
    nics = [{"type": "tap", "network": "lan2"}] if WAYS[0] in reached else []
    kernel = host.user_file(harness.ALICE, "spec-kernel", b"kernel")
    done = host.cli("run", host.spec(nics=nics, kernel=kernel, kernel_only=True, accel="auto" if nics else "tcg"),
                    "--detach")
    tap.equal(done.returncode, harness.EXIT["LAUNCH"], "exit status of run: " + done.stderr)
    tap.equal(done.stderr.count("\n"), 1, "one line: " + done.stderr)
    tap.true(wire.T.step_texts[step] in done.stderr, "the line says \"%s\": %s" % (wire.T.step_texts[step], done.stderr))


def every_step():
    """One TAP case for each step, made from the table."""
    def make(step):
        def run(host):
            before = host.snapshot()
            set_fault(host, step)
            reached = []
            try:
                for way in WAYS:
                    outcome, said, lease = attempt(host, way)
                    tap.true(outcome in (step, "OK"), "fault at %s: the error names %s" % (step, outcome))
                    if outcome == step:
                        reached.append(way)
                        tap.equal(said, "", "what a VMM said")
                    if lease:
                        tap.true(lease["uid"] not in host.used, "uid %d was given out before" % lease["uid"])
                        host.used.add(lease["uid"])
                by_cli(host, step, reached)
            finally:
                set_fault(host, "NONE")
            tap.true(reached or step in ELSEWHERE, "no launch came to step %s" % step)
            if step in ELSEWHERE and not reached:
                raise tap.Skip("%s: %s" % (step, ELSEWHERE[step]))
            host.settle(before)
        run.__name__ = "D15_" + step
        return run

    for step in wire.T.steps[1:]:
        case(make(step))


@case
def without_a_fault_it_works(host):
    for way in WAYS:
        outcome, said, lease = attempt(host, way)
        tap.equal(outcome, "OK", "a launch without a fault")
        host.used.add(lease["uid"])


every_step()


@case
def afterwards_it_still_works(host):
    without_a_fault_it_works(host)


@case
def K06_a_failed_map_burns_the_uid(host):
    """An id that a map may have reached is never given out again: 50 launches later neither."""
    set_fault(host, "MAP")
    try:
        attempt(host, WAYS[1])
    finally:
        set_fault(host, "NONE")
    for _ in range(50):
        with host.launch("hostile", ["clock"]) as launch:
            tap.true(launch.lease["uid"] not in host.used, "uid %d was given out before" % launch.lease["uid"])
            host.used.add(launch.lease["uid"])


def prepare(host):
    host.used = set()


harness.main(fault=True, prepare=prepare)
