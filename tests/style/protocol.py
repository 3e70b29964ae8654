#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
# Runs: tests (whoever runs them). docs/protocol.md is the twin of common/messages.h.
"""protocol.py [--update] PROTOCOL_TABLE DOCUMENT: compare (or write) the part between the two marks."""
import difflib
import subprocess
import sys

BEGIN = "<!-- printed by protocol_table from common/messages.h: do not edit -->\n"
END = "<!-- end of the printed part -->\n"


def main():
    update = sys.argv[1] == "--update"
    program, document = sys.argv[-2:]
    printed = subprocess.run([program], check=True, capture_output=True, text=True).stdout
    with open(document, encoding="utf-8") as f:
        text = f.read()
    if text.count(BEGIN) != 1 or text.count(END) != 1:
        sys.exit(f"{document}: needs exactly one of each mark:\n{BEGIN}{END}")
    head, rest = text.split(BEGIN)
    body, tail = rest.split(END)
    if body == printed:
        print(f"{document}: {len(printed.splitlines())} printed lines agree with the table")
        return
    if update:
        with open(document, "w", encoding="utf-8") as f:
            f.write(head + BEGIN + printed + END + tail)
        return
    sys.stdout.writelines(difflib.unified_diff(body.splitlines(True), printed.splitlines(True), document, "common/messages.h"))
    sys.exit(f"{document} differs from the table: python3 tests/style/protocol.py --update {program} {document}")


if __name__ == "__main__":
    main()
