#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
# Runs: tools/check. Counts the single cases of a meson test run, and holds skipped ones against the list of allowed ones.
"""count.py TESTLOG_JSON ALLOWED_SKIPS TOTALS: appends "passed failed skipped forbidden" to TOTALS."""
import json
import re
import sys


def allowed_skips(path):
    """Lines "case: words of the reason"; a case may be * for any."""
    allowed = []
    with open(path, encoding="utf-8") as f:
        for line in f:
            line = line.split("#")[0].strip()
            if line:
                case, reason = line.split(":", 1)
                allowed.append((case.strip(), reason.strip()))
    return allowed


def cases(test):
    """(name, result, reason) of every case in one test program: TAP lines, cmocka's lines, or the program as a whole."""
    out = test.get("stdout") or ""  # cmocka repeats its failures on standard error
    found = []
    for line in out.split("\n"):
        tap = re.match(r"(not ok|ok)\b\s*\d*\s*-?\s*(.*?)(?:\s*#\s*(SKIP|TODO)\b\s*(.*))?$", line, re.I)
        if tap:
            word, name, directive, reason = tap.groups()
            result = "skip" if directive and directive.upper() == "SKIP" else "pass" if word == "ok" else "fail"
            found.append((name, result, reason or ""))
    for line in out.split("\n"):
        unit = re.match(r"\[\s+(OK|FAILED|SKIPPED)\s+\] (\w+)$", line)
        if unit:
            found.append((unit.group(2), {"OK": "pass", "FAILED": "fail", "SKIPPED": "skip"}[unit.group(1)], ""))
    result = {"OK": "pass", "EXPECTEDFAIL": "pass", "SKIP": "skip"}.get(test["result"], "fail")
    if not found:
        found.append((test["name"], result, ""))
    elif result == "fail" and not any(r == "fail" for _, r, _ in found):
        found.append((test["name"], "fail", test["result"]))  # crashed, timed out, or fewer cases than planned
    return found


def main():
    log, list_path, totals = sys.argv[1:]
    allowed = allowed_skips(list_path)
    count = {"pass": 0, "fail": 0, "skip": 0}
    forbidden = []
    with open(log, encoding="utf-8") as f:
        tests = [json.loads(line) for line in f if line.strip()]
    for test in tests:
        for name, result, reason in cases(test):
            count[result] += 1
            if result == "skip":
                leave = any(c in ("*", name) and words in reason for c, words in allowed)
                print(f"skipped: {test['name']}: {name}: {reason}{'' if leave else '  -- NOT ALLOWED'}")
                if not leave:
                    forbidden.append(name)
            elif result == "fail":
                print(f"FAILED: {test['name']}: {name} {reason}")
    print(f"{count['pass']} passed, {count['fail']} failed, {count['skip']} skipped ({len(tests)} test programs)")
    with open(totals, "a", encoding="utf-8") as f:
        f.write(f"{count['pass']} {count['fail']} {count['skip']} {len(forbidden)}\n")
    sys.exit(1 if forbidden or count["fail"] or not tests else 0)


if __name__ == "__main__":
    main()
