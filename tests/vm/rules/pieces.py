# SPDX-License-Identifier: Apache-2.0
# Runs: tests (root, unconfined_t, inside the test VM). By hand, not in CI: is each permission of the SELinux module needed?
#
#   pieces.py DIRECTORY [FIRST LAST]              DIRECTORY: what vm run --rules pieces brought
#   pieces.py DIRECTORY --redundant               only print what the base policy grants anyway
#   pieces.py DIRECTORY --watch COMMAND...        only print what another suite uses (its own verdicts mean nothing then)
#
# First everything is off and SELinux is permissive: what the tests then use is told by denials. Then it is enforcing, with
# exactly that: all tests must pass, so the rest is for nothing as far as they see. Then each one that is used is taken away
# by itself, and the test of its group must fail.
import json
import os
import subprocess
import sys
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, HERE)
import guest  # noqa: E402
import installed  # noqa: E402
import kernel  # noqa: E402
import needs  # noqa: E402


def enforce(on):
    with open(kernel.SELINUX + "/enforce", "w", encoding="ascii") as f:
        f.write("%d" % on)


def granted(source, target, kind, permission):
    """Whether the policy in force lets one type do something to another."""
    def number(path):
        with open(os.path.join(kernel.SELINUX, "class", kind, path), encoding="ascii") as f:
            return int(f.read())
    fd = os.open(kernel.SELINUX + "/access", os.O_RDWR | os.O_CLOEXEC)
    try:
        contexts = ["system_u:object_r:%s:s0" % name for name in (source, target)]
        try:
            os.write(fd, ("%s %s %d" % (*contexts, number("index"))).encode())
        except OSError:  # a type that this base policy does not have
            return True
        return bool(int(os.read(fd, 4096).split()[0], 16) >> (number("perms/" + permission) - 1) & 1)
    finally:
        os.close(fd)


class Pieces:
    def __init__(self, directory):
        with open(os.path.join(directory, "pieces.json"), encoding="utf-8") as f:
            made = json.load(f)
        self.all, self.attributes = made["pieces"], made["attributes"]

    def _is(self, name, kind):
        if name in self.attributes:
            return any(self._is(member, kind) for member in self.attributes[name])
        return name == kind or not name.endswith("_t")  # an attribute of the base policy: may be

    def used(self, mark):
        """The booleans of pieces whose lack was felt since the mark."""
        found = set()
        for line in installed.avc_since(mark, "."):
            match = guest.DENIAL.search(line)
            if not match:
                continue
            permissions, source, target, kind = match.group(1).split(), *match.groups()[1:]
            for piece in self.all:
                if "permission" in piece and piece["class"] == kind and piece["permission"] in permissions and \
                        self._is(piece["source"], source) and \
                        (self._is(piece["target"], target) or piece["target"] == "self" and source == target):
                    found.add(piece["boolean"])
        return found

    def silent(self):
        """Those whose lack nobody is told of: a type that is not given to what is made, and, when somebody asked quietly
        before, a capability. They stay on, and can only be tried one by one."""
        return {p["boolean"] for p in self.all if "permission" not in p or p["class"] in ("capability", "cap_userns")}

    def _types(self, name):
        return [kind for member in self.attributes.get(name, [name]) for kind in
                ([member] if member not in self.attributes else self._types(member))]

    def redundant(self):
        """Pieces that the base policy grants by itself. All of ours must be off."""
        found = []
        for piece in self.all:
            names = (piece.get("source"), piece.get("target"))
            if "permission" in piece and not {"domain", "filesystem_type"} & set(names):
                pairs = [(source, source if piece["target"] == "self" else target) for source in self._types(piece["source"])
                         for target in self._types(piece["target"])]
                if all(granted(*pair, piece["class"], piece["permission"]) for pair in pairs):
                    found.append(piece)
        return found

    def switch(self, on, which):
        kernel.set_booleans(**{name: on for name in which})


def run_all(world, what):
    """Names of tests that fail."""
    failed = []
    world.wipe()
    for name in sorted(needs.TESTS, key=lambda name: name not in needs.FRESH):
        why = None
        if name not in needs.FRESH:
            try:
                guest.revive(world)
            except Exception as trouble:
                why = "no daemons: %s" % trouble
        why = why or guest.attempt(world, name)
        if why is not None:
            failed.append(name)
            print("# %s: %s fails: %s" % (what, name, why), flush=True)
        if name in needs.FRESH:
            world.wipe()
    return failed


def watch(directory, command):
    """Run a command with everything off and SELinux permissive, and say what it used."""
    pieces = Pieces(directory)
    kernel.load(os.path.join(directory, "pieces.policy"))
    enforce(False)
    with open("/run/enforce", "w", encoding="ascii") as f:  # suites that are about enforcing go on all the same
        f.write("1")
    subprocess.run(["mount", "--bind", "/run/enforce", kernel.SELINUX + "/enforce"], check=True)
    pieces.switch(False, {p["boolean"] for p in pieces.all} - pieces.silent())
    # The kernel's buffer is finite: denials are collected while they come.
    found, mark = set(), installed.avc_mark()
    child = subprocess.Popen(command)
    while True:
        ended = child.poll() is not None
        found |= pieces.used(mark)
        mark = installed.avc_mark()
        if ended:
            break
        time.sleep(1)
    for piece in pieces.all:
        if piece["boolean"] in found:
            print("USED %s: %s" % (piece["group"], piece["rule"]), flush=True)


def redundant(directory):
    """Say which of our permissions the base policy grants by itself."""
    pieces = Pieces(directory)
    kernel.load(os.path.join(directory, "pieces.policy"))
    pieces.switch(False, {p["boolean"] for p in pieces.all})
    for piece in pieces.redundant():
        print("REDUNDANT %s: %s" % (piece["group"], piece["rule"]), flush=True)


def main(directory, first=0, last=None):
    pieces = Pieces(directory)
    kernel.load(os.path.join(directory, "pieces.policy"))
    world = needs.World()
    enforce(False)
    mark = installed.avc_mark()
    pieces.switch(False, {p["boolean"] for p in pieces.all} - pieces.silent())
    run_all(world, "permissive")
    used = pieces.used(mark) | pieces.silent()
    enforce(True)
    pieces.switch(True, used)
    for _ in range(4):
        mark = installed.avc_mark()
        if not run_all(world, "with what is used"):
            break
        more = pieces.used(mark) - used
        for line in installed.avc_since(mark, ".")[:10]:
            print("# " + line)
        pieces.switch(True, more)
        used |= more
    for piece in pieces.all:
        if piece["boolean"] not in used:
            print("UNUSED %s: %s" % (piece["group"], piece["rule"]), flush=True)
    chosen = list(enumerate(pieces.all))[int(first):int(last) if last else None]
    chosen.sort(key=lambda item: needs.NEEDED.get(item[1]["group"]) in needs.FRESH)  # what is quick first
    for number, piece in chosen:
        name = needs.NEEDED.get(piece["group"])
        if piece["boolean"] not in used or name is None:
            continue
        world.wipe() if name in needs.FRESH else guest.revive(world)
        pieces.switch(False, [piece["boolean"]])
        why = guest.attempt(world, name)
        pieces.switch(True, [piece["boolean"]])
        print("%s %d %s: %s%s" % ("NEEDED" if why else "UNNOTICED", number, piece["group"], piece["rule"],
                                  " # " + why[:100] if why else ""), flush=True)
    world.wipe()


if __name__ == "__main__":
    if sys.argv[2:3] == ["--watch"]:
        watch(sys.argv[1], sys.argv[3:])
    elif sys.argv[2:] == ["--redundant"]:
        redundant(sys.argv[1])
    else:
        main(*sys.argv[1:])
