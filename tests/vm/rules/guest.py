# SPDX-License-Identifier: Apache-2.0
# Runs: tests (root, unconfined_t, inside the test VM). Takes each group of the SELinux module away and looks who notices.
#
#   guest.py DIRECTORY [GROUP...]     DIRECTORY: what policies.py made
import json
import os
import re
import sys
import time
import traceback

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, HERE)
import kernel  # noqa: E402
import needs  # noqa: E402
import installed  # noqa: E402
import tap  # noqa: E402
import wire  # noqa: E402

DENIAL = re.compile(r"denied  \{ (.*?) \}.*scontext=\w+:\w+:(\w+).*tcontext=\w+:\w+:(\w+).*tclass=(\w+)")
# Losses of which SELinux says nothing: the base policy is quiet about them, or what is lost is what refuses. The test's
# own words must do. Of any other a denial is wanted, or the test may have failed for whatever reason.
SILENT = {("group", "client-look")} | {("unconditional part of", name) for name in (
    "broker-vhost", "categories", "enter-start", "spawner-network", "vmm-vhost")}

_recv = wire.recv
wire.recv = lambda sock, timeout=10: _recv(sock, min(timeout, needs.PATIENCE))


def attempt(world, name):
    """None when a test passes, else why not."""
    try:
        needs.TESTS[name](world)
    except Exception as why:
        attempt.trace = traceback.format_exc()
        return "%s: %s" % (type(why).__name__, str(why).splitlines()[0] if str(why) else "")
    return None


def denials(mark):
    """What was denied, short: {domain target class permissions}."""
    found = []
    for line in installed.avc_since(mark):
        match = DENIAL.search(line)
        text = "%s %s %s { %s }" % (match.group(2), match.group(3), match.group(4), match.group(1)) if match else line
        if text not in found:
            found.append(text)
    return found


class Report:
    def __init__(self):
        self.count, self.bad = 0, 0

    def say(self, good, text, notes=()):
        self.count += 1
        self.bad += not good
        print("%sok %d - %s" % ("" if good else "not ", self.count, text), flush=True)
        for line in notes:
            tap.note(line)


def passes(report, world, name):
    began = time.monotonic()
    mark = installed.avc_mark()
    why = attempt(world, name)
    report.say(why is None, "%s with the whole module" % name,
               [] if why is None else [attempt.trace, *denials(mark), world.trouble()])
    tap.note("%.1f s" % (time.monotonic() - began))
    return why is None


def noticed(report, world, group, name, what="group"):
    """The test must fail now, and SELinux be the reason."""
    began = time.monotonic()
    mark = installed.avc_mark()
    why = attempt(world, name)
    denied = denials(mark)
    refused = why is not None and (denied or (what, group) in SILENT and why.startswith(("AssertionError:", "PermissionError:")))
    report.say(bool(refused), "%s %s is needed by %s" % (what, group, name),
               ["%.1f s: %s" % (time.monotonic() - began, why), *denied[:6], *([] if refused or why is None else [attempt.trace])])


def switched(report, world, boolean, group, name):
    kernel.set_booleans(**{boolean: False})
    try:
        noticed(report, world, group, name)
    finally:
        kernel.set_booleans(**{boolean: True})


def revive(world):
    """A failure may have cost the daemons each other: whether all is well is shown by a launch."""
    try:
        world.launch("mock").close()
        tap.wait_for(lambda: not world.sandbox_processes(), "nothing is left of the failure", 2)
    except Exception:
        world.wipe()
        world.start(wait=False)
        world.wait_ready()


def main(directory, chosen):
    with open(os.path.join(directory, "policies.json"), encoding="utf-8") as f:
        made = json.load(f)
    switchable = os.path.join(directory, made["switchable"])
    booleans = {g: b for g, b in made["booleans"].items() if not chosen or g in chosen}
    lists = {g: p for g, p in made["lists"].items() if not chosen or g in chosen}
    report = Report()
    report.say(installed.getenforce() == "Enforcing", "SELinux is enforcing")
    for group in sorted(set(made["booleans"]) - set(needs.NEEDED) - set(needs.LISTS)):
        report.say(False, "group %s has a test" % group)
    kernel.load(switchable)
    world = needs.World()
    try:
        wanted = {needs.NEEDED[g] for g in booleans if g in needs.NEEDED} | {needs.LISTS[g] for g in lists}
        for name in needs.TESTS:  # those that start Postern themselves
            if name not in needs.FRESH or name not in wanted:
                continue
            passes(report, world, name)
            world.wipe()
            for group, boolean in booleans.items():
                if needs.NEEDED.get(group) == name:
                    switched(report, world, boolean, group, name)
                    world.wipe()
            for group, policy in lists.items():
                if needs.LISTS[group] == name:
                    kernel.load(os.path.join(directory, policy))
                    noticed(report, world, group, name, "unconditional part of")
                    kernel.load(switchable)
                    world.wipe()
        revive(world)
        for name in needs.TESTS:
            if name in needs.FRESH or name not in wanted:
                continue
            passes(report, world, name)
            for group, boolean in booleans.items():
                if needs.NEEDED.get(group) == name:
                    switched(report, world, boolean, group, name)
                    revive(world)
            for group, policy in lists.items():
                if needs.LISTS[group] == name:
                    kernel.load(os.path.join(directory, policy))
                    noticed(report, world, group, name, "unconditional part of")
                    kernel.load(switchable)
                    revive(world)
        # Once more, since each of them might have passed by what the ones before it had left.
        for name in sorted(wanted - needs.FRESH):
            passes(report, world, name)
        for name in sorted(wanted & needs.FRESH):
            world.wipe()
            passes(report, world, name)
    finally:
        world.wipe()
    print("1..%d" % report.count)
    return 1 if report.bad or not report.count else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2:]))
