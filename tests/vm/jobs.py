# SPDX-License-Identifier: Apache-2.0
# Runs: tests (root). The jobs of jobs.table, two machines at a time, as one TAP stream.
import concurrent.futures
import os
import re
import shlex
import time

import cache
import machine
from cache import HERE, Trouble

AT_ONCE = 2  # machines: each is one busy thread
TABLE = os.path.join(HERE, "jobs.table")
CASE = re.compile(r"(not ok|ok)\b\s*\d*\s*-?\s*(.*)$")
TAIL = 60


def table():
    """[(name, words of options, command)] in the order of the file."""
    found = []
    for number, line in enumerate(cache.read(TABLE).splitlines(), 1):
        if line.strip() and not line.startswith("#"):
            fields = [field.strip() for field in line.split("|", 2)]
            if len(fields) != 3:
                raise Trouble("%s, line %d: not \"name | options | command\"" % (TABLE, number))
            found.append((fields[0], shlex.split(fields[1]), fields[2]))
    return found


def judge(name, status, text):
    """(cases, remarks) of one job: its TAP lines, named after it; or, without any, its exit status as one case."""
    cases, remarks, plan = [], [], None
    lines = text.splitlines()
    for line in lines:
        found = CASE.match(line)
        planned = re.match(r"1\.\.(\d+)\s*$", line)
        if found:
            word, text = found.groups()
            skip = re.match(r"(.*?)\s*#\s*SKIP\b\s*(.*)$", text, re.I)
            if skip:  # the machine was made for its cases
                word, text = "not ok", "%s (skipped: %s)" % skip.groups()
            cases.append("%s - %s: %s" % (word, name, text))
        elif planned:
            plan = (plan or 0) + int(planned.group(1))  # programs one after the other: their plans add up
        elif line.startswith("#") and not re.fullmatch(r"# [\d.]+ s", line):
            remarks.append(line)
    failed = any(case.startswith("not ok") for case in cases)
    if plan is not None and plan != len(cases):
        cases.append("not ok - %s: %d cases of %d planned" % (name, len(cases), plan))
    elif status == machine.NO_VERDICT:
        cases.append("not ok - %s: the machine told no result" % name)
    elif not cases or (status != 0 and not failed):
        cases.append("%s - %s: exit status %d" % ("not ok" if status else "ok", name, status))
    if any(case.startswith("not ok") for case in cases):
        remarks += ["# %s| %s" % (name, line) for line in lines[-TAIL:] if not line.startswith("#")]
    return cases, remarks


def do(name, options, command):
    """(cases, remarks, a line for the end) of one machine."""
    text, used = bytearray(), 0
    began = time.monotonic()
    try:
        status, used = machine.run_job(options, command, text.extend)
    except Exception as why:  # whatever it is, the job has no result, and the others go on
        status, text = machine.NO_VERDICT, ("%s: %s" % (type(why).__name__, why)).encode()
    cases, remarks = judge(name, status, text.decode("utf-8", "replace"))
    bad = sum(case.startswith("not ok") for case in cases)
    line = "# %-14s %3d cases, %2d bad, %4.0f s, %4.0f s of a processor" % (name, len(cases), bad, time.monotonic() - began, used)
    return cases, remarks, line


def suite(parse, wanted, build, out):
    """Run the chosen jobs (all, when none is named); parse() makes options of a table's words. Returns an exit status."""
    chosen = [job for job in table() if not wanted or job[0] in wanted]
    unknown = set(wanted) - {name for name, _, _ in chosen}
    if unknown or not chosen:
        raise Trouble("no such job: %s (see %s)" % (" ".join(sorted(unknown)) or "none at all", TABLE))
    jobs = []
    for name, words, command in chosen:
        options = parse(words)
        options.build = build
        options.out = os.path.join(out, name) if out else None
        jobs.append((name, options, command))
    cache.image()
    for version in sorted({options.kernel for _, options, _ in jobs}):
        cache.kernel(version)
    number, status, lines, began = 0, 0, [], time.monotonic()
    with concurrent.futures.ThreadPoolExecutor(AT_ONCE) as pool:
        for done in concurrent.futures.as_completed([pool.submit(do, *job) for job in jobs]):
            cases, remarks, line = done.result()
            lines.append(line)
            for line in remarks + [line]:
                print(line)
            for case in cases:
                number += 1
                word, _, rest = case.partition(" - ")
                print("%s %d - %s" % (word, number, rest), flush=True)
                status |= word == "not ok"
    print("\n".join(["# all machines:", *lines, "# %.0f s" % (time.monotonic() - began), "1..%d" % number]), flush=True)
    return int(status)
