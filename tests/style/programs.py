#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
# Runs: tests (whoever runs them). "Runs:" in the first lines of a file against the programs it really is linked into.
"""programs.py SOURCE_ROOT BUILD_ROOT: reads the debug information of each program, so what counts is what the linker
took, not what a build file lists."""
import json
import os
import re
import subprocess
import sys

# What a header must say for a file that is in this program. The two programs of the user share their libraries, and
# have the same rights: naming one of them is enough.
ROLE = {
    "postern": "CLI",
    "postern-controller": "controller",
    "postern-start": "start",
    "postern-broker": "broker",
    "postern-spawner": "spawner",
    "postern-init": "init",
    "postern-mock-vmm": "mock VMM",
}
SAYS = {
    "CLI": r"\b(?:CLI|controller)\b",
    "controller": r"\b(?:CLI|controller)\b",
    "init": r"\binit\b|\bthe VMM's process, before its exec\b",
    "mock VMM": r"\binside a sandbox\b",
}
TOPS = ("common/", "policy/", "broker/", "launcher/")


def units(program, root):
    """Source files of ours in a program, relative to the root."""
    out = subprocess.run(["readelf", "--debug-dump=info", "--dwarf-depth=1", program], check=True, capture_output=True, text=True,
                         env=dict(os.environ, LC_ALL="C")).stdout
    found = set()
    for unit in out.split("DW_TAG_compile_unit")[1:]:
        name = re.search(r"DW_AT_name\s*:(?: \(indirect[^)]*\):)? (\S+)", unit)
        folder = re.search(r"DW_AT_comp_dir\s*:(?: \(indirect[^)]*\):)? (\S+)", unit)
        path = os.path.relpath(os.path.realpath(os.path.join(folder.group(1), name.group(1))), os.path.realpath(root))
        if path.startswith(TOPS):
            found.add(path)
    return found


def hooks(program, root):
    """Test hooks of common/fault.h in a program: inlined, but the debug information names them."""
    with open(os.path.join(root, "common/fault.h"), encoding="ascii") as f:
        known = set(re.findall(r"^static inline .*?(fault_\w+)\(", f.read(), re.M))
    with open(program, "rb") as f:
        return sorted(known & {name.decode() for name in re.findall(rb"\0(fault_[a-z]+)(?=\0)", f.read())})


def header(path):
    """The sentence after Runs:, and the roles it names. In a sentence, "the spawner's child" names the spawner."""
    with open(path, encoding="utf-8") as f:
        text = f.read(1500)
    text = re.sub(r"\s*\n\s*\*\s*", " ", text)
    said = re.search(r"Runs: (.*?)(?:\.\s|\. |\*/|$)", text)
    return said.group(1) if said else ""


def main():
    root, build = sys.argv[1:]
    with open(os.path.join(build, "meson-info", "intro-targets.json"), encoding="utf-8") as f:
        targets = [t for t in json.load(f) if t["type"] == "executable" and t["name"] in ROLE]
    programs = [t["filename"][0] for t in targets]
    breaches = [f"{name}: no such program in the build" for name in sorted(set(ROLE) - {t["name"] for t in targets})]
    linked = {}
    for program in programs:
        name = os.path.basename(program)
        files = units(program, root)
        if not files:
            sys.exit(f"{program}: no debug information of ours in it (built with -g?)")
        for path in files:
            linked.setdefault(path, set()).add(ROLE[name])
    for path, roles in sorted(linked.items()):
        said = header(os.path.join(root, path))
        if "every process" in said:
            continue
        for role in sorted(roles):
            if not re.search(SAYS.get(role, rf"\b{role}\b"), said):
                breaches.append(f'{path}: is part of the {role}, but its header says "Runs: {said}"')
        for role in ROLE.values():
            user = {"CLI", "controller"}
            if re.search(rf"(?:^|, |and ){role}\b(?! never)", said) and role not in roles and not (role in user and roles & user):
                breaches.append(f'{path}: header says "Runs: {said}", but the {role} does not contain it')
    # The promise behind the folders: nothing of the launcher in a trusted program, nothing of the broker in the user's.
    for path, roles in sorted(linked.items()):
        if path.startswith("launcher/") and roles & {"start", "broker", "spawner", "init"}:
            breaches.append(f"{path}: part of the launcher inside {sorted(roles)}")
        if path.startswith("broker/") and roles & {"CLI", "controller"}:
            breaches.append(f"{path}: part of the broker inside {sorted(roles)}")
    # What a test build can be told to do (fail, forget a capability, give everybody the same id) no other one knows of.
    for program in programs:
        breaches += [f"{program}: has the test hook {name}" for name in hooks(program, root)]
    spawner = next((p for p in programs if p.endswith("/postern-spawner")), "")
    if os.path.exists(spawner + "-fault") and "fault_id" not in hooks(spawner + "-fault", root):
        breaches.append(f"{spawner}-fault: no hook is found where one is, so nothing is proved above")
    print("\n".join(breaches))
    print(f"{len(linked)} files in {len(programs)} programs")
    sys.exit(1 if breaches else 0)


if __name__ == "__main__":
    main()
