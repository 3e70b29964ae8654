#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
# Runs: tests (whoever runs them). postern(1) against what the program itself says.
"""help_and_man.py POSTERN PAGE: every command and every option of --help is in the page, and no other."""
import re
import subprocess
import sys


def ask(program, *words):
    return subprocess.run([program, *words], check=True, stdout=subprocess.PIPE, text=True).stdout


def main():
    program, path = sys.argv[1:3]
    with open(path, encoding="utf-8") as f:
        page = f.read()
    section = page.split(".Sh COMMANDS")[1].split(".Sh ENVIRONMENT")[0]
    commands = re.findall(r"^  ([a-z]+) ", ask(program, "help"), re.M)
    breaches = []
    # Parts of the page: what stands before the first command holds for all.
    parts, name = {"": ""}, ""
    for line in section.splitlines():
        head = re.match(r"\.It Ic ([a-z]{2,})\b", line)
        if head:
            name = head.group(1)
            parts[name] = ""
        parts[name] += line + "\n"
    if sorted(set(parts) - {""}) != sorted(commands):
        breaches.append("commands: the page has %s, help has %s" % (sorted(set(parts) - {""}), sorted(commands)))
    common = set(re.findall(r"Fl -([a-z-]+)", parts[""]))
    for command in commands:
        text = ask(program, command, "--help")
        said = set(re.findall(r"^  --([a-z-]+)", text, re.M)) - common
        own = said if command != "check" else set(re.findall(r"^  --([a-z-]+)", text.split("fields of the spec")[0], re.M)) - common
        written = set(re.findall(r"Fl -([a-z-]+)", parts.get(command, "")))
        if own != written:
            breaches.append("%s: only in help %s, only in the page %s" % (command, sorted(own - written), sorted(written - own)))
        if not re.match(r"usage: postern %s" % command, text):
            breaches.append("%s: --help does not begin with its usage" % command)
    print("\n".join(breaches))
    sys.exit(1 if breaches else 0)


if __name__ == "__main__":
    main()
