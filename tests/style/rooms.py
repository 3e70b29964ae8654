#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
# Runs: tests (whoever runs them). What the folders promise, read from the source text.
"""rooms.py SOURCE_ROOT: prints every breach as file:line: text; exits 1 when there is one."""
import os
import re
import sys

# Who may include what. The path is where the file is, the rest is where its includes may point ("." = its own folder).
MAY_INCLUDE = [
    ("common/", ["common/"]),
    ("include/postern/", ["common/", "postern/"]),
    ("policy/syscalls/", ["common/", "policy/"]),
    ("policy/", ["common/", "policy/"]),
    ("broker/init/", ["common/", "broker/init/", "broker/inherit.h", "policy/policy.h"]),
    ("broker/spawner/", ["common/", "broker/spawner/", "broker/inherit.h", "policy/policy.h"]),
    # start asks the kernel to do the spawner's netlink and tree work once, as root, before there is a spawner.
    ("broker/start/", ["common/", "broker/start/", "broker/inherit.h", "broker/spawner/", "policy/", "config.h"]),
    ("broker/daemon/", ["common/", "broker/daemon/", "broker/inherit.h", "policy/policy.h", "config.h"]),
    ("broker/", ["common/"]),
    # The launcher shares the wire and the numbers of the registered drivers with the trusted side, and nothing else.
    ("launcher/", ["common/", "postern/", "launcher/", "policy/policy.h", "config.h"]),
]
# A library, and where it may be seen.
LIBRARIES = [
    ("jansson.h", re.compile(r"^(launcher/|policy/policy_load|tests/)")),
    ("selinux/", re.compile(r"^(broker/(start|daemon|init|spawner)/|launcher/|tests/)")),
    ("seccomp.h", re.compile(r"^(policy/syscalls/|tests/)")),  # build time only
    ("uuid", re.compile(r"^(launcher/|tests/)")),
]
# Functions with no safe use here, each with what to use instead.
FORBIDDEN = [
    (r"\b(?:strcpy|strcat|sprintf|vsprintf|gets|strtok|stpcpy)\s*\(", "writes without a bound: snprintf, wire_set_chars"),
    (r"\b(?:system|popen)\s*\(", "runs a shell"),
    (r"\balloca\s*\(", "no bound on the stack"),
    (r"\b(?:mktemp|tmpnam|tempnam)\s*\(", "names that others can take first"),
    (r"\bPR_SET_PDEATHSIG\b", "follows the parent's thread and is cleared by setuid: DESIGN.md 2.7"),
    (r"\b(?:chown|chmod|lchown)\s*\(", "by path: use the descriptor (ATTACKS D02)"),
]
TRUSTED = ("broker/", "policy/", "common/")
LINE_MAX, FILE_MAX, FUNCTION_MAX = 125, 500, 100
TEST_LINE_MAX, TEST_FILE_MAX = 150, 800  # tables of cases are read by the line

breaches = []


def breach(path, line, text):
    breaches.append(f"{path}:{line}: {text}")


def strip(text):
    """Blank out comments and strings, keeping line numbers and columns."""
    pattern = re.compile(r'/\*.*?\*/|//[^\n]*|"(?:\\.|[^"\\\n])*"', re.S)
    return pattern.sub(lambda m: re.sub(r"[^\n]", " ", m.group()), text)


def check_includes(path, lines):
    folder = os.path.dirname(path) + "/"
    allowed = next((a for prefix, a in MAY_INCLUDE if path.startswith(prefix)), None)
    for number, line in enumerate(lines, 1):
        found = re.match(r'\s*#\s*include\s+([<"])([^>"]+)[>"]', line)
        if not found:
            continue
        quote, name = found.groups()
        if name.endswith(".c"):
            breach(path, number, f"includes {name}: link it instead")
        for library, where in LIBRARIES:
            if quote == "<" and name.startswith(library) and not where.match(path):
                breach(path, number, f"<{name}> does not belong here")
        if quote == '"' and allowed is not None:
            target = folder + name if os.path.exists(folder + name) else name
            if not any(target.startswith(a) for a in allowed):
                breach(path, number, f"{folder} may not include {name}")


def check_header(path, lines):
    first = 1 if lines and lines[0].startswith("#!") else 0
    head = "\n".join(lines[first:first + 3])
    if "SPDX-License-Identifier: Apache-2.0" not in (lines[first] if len(lines) > first else ""):
        breach(path, first + 1, "the first line does not say SPDX-License-Identifier: Apache-2.0")
    if "Runs: " not in head:
        breach(path, first + 2, 'the second line does not say "Runs: <which process> (<privilege>)"')


def check_sizes(path, lines):
    line_max, file_max = (TEST_LINE_MAX, TEST_FILE_MAX) if path.startswith("tests/") else (LINE_MAX, FILE_MAX)
    if len(lines) > file_max:
        breach(path, len(lines), f"longer than {file_max} lines")
    start = None
    for number, line in enumerate(lines, 1):
        width = len(line.expandtabs(8))
        if width > line_max:
            breach(path, number, f"{width} columns wide, {line_max} are allowed")
        if not path.endswith(".c"):
            continue
        if line == "{":
            start = number
        elif line.startswith("}") and start is not None:
            if number - start > FUNCTION_MAX and not path.startswith("tests/"):
                breach(path, start, f"function of {number - start} lines, {FUNCTION_MAX} are allowed")
            start = None


def check_words(path, code):
    for number, line in enumerate(code.split("\n"), 1):
        for pattern, why in FORBIDDEN:
            if why is not None and re.search(pattern, line):
                breach(path, number, f"{line.strip()}: {why}")


def main():
    root = sys.argv[1]
    os.chdir(root)
    trusted = {}
    count = 0
    for top in ("common", "include", "policy", "broker", "launcher", "tests", "tools"):
        for folder, _, names in os.walk(top):
            for name in sorted(names):
                path = os.path.join(folder, name)
                if re.search(r"(?:^|[-_/])(?:util|utils|misc|helpers)[-_.]", path):
                    breach(path, 1, "name it after its subject")
                with open(path, "rb") as f:
                    raw = f.read()
                script = raw.startswith(b"#!")
                if not script and not name.endswith((".c", ".h", ".S", ".py", ".sh")):
                    continue
                count += 1
                text = raw.decode("utf-8")
                lines = text.rstrip("\n").split("\n")
                check_header(path, lines)
                if not name.endswith((".c", ".h")):
                    continue
                check_includes(path, lines)
                check_sizes(path, lines)
                if top not in ("tests", "tools"):
                    check_words(path, strip(text))
                if path.startswith(TRUSTED):
                    code = [l for l in strip(text).split("\n") if l.strip()]
                    room = "/".join(path.split("/")[:2]) if path.startswith("broker/") else path.split("/")[0]
                    trusted[room] = trusted.get(room, 0) + len(code)
    for line in breaches:
        print(line)
    print(f"{count} files looked at; lines of code (without comments and blanks) on the trusted side:",
          ", ".join(f"{room} {n}" for room, n in sorted(trusted.items())), f"= {sum(trusted.values())}")
    sys.exit(1 if breaches else 0)


if __name__ == "__main__":
    main()
