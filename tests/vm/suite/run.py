#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
# Runs: tests (root, inside the test VM). Several test files, one after the other, as one TAP stream.
#
#   run.py [--limit SECONDS] FILE[:CASE,CASE...]...
#
# The first is ../selftest.py, by itself: is the machine what was asked for? Where user namespaces are off, all run in direct mode.
# Each file runs in a fork of this process, which has read the modules that all of them need: under emulation an
# interpreter takes a second to start. A file that says nothing for too long is ended, and that is a failure.
import os
import re
import runpy
import signal
import sys
import time

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(os.path.dirname(HERE)))
sys.path[:0] = [HERE, os.path.join(ROOT, "tests", "integration"), os.path.join(ROOT, "tests", "security")]
from asked import ASKED  # noqa: E402
os.environ["POSTERN_INSTALLED"] = "1"
os.environ["POSTERN_TEST_MODE"] = {"on": "namespace", "off": "direct"}[ASKED["userns"]]
import installed  # noqa: E402,F401  what the children share

LIMIT = 300


def child(path, cases, write):
    os.dup2(write, 1)
    os.close(write)
    os.setpgid(0, 0)
    sys.argv = [path, *cases, "-v"]
    sys.path.insert(0, os.path.dirname(path))
    try:
        runpy.run_path(path, run_name="__main__")
    finally:
        sys.stdout.flush()


def run_file(path, cases, limit, first):
    """Returns how many lines were told, and how many of them were failures."""
    read, write = os.pipe()
    sys.stdout.flush()
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            os.close(read)
            child(path, cases, write)
            status = 0
        except SystemExit as end:
            status = end.code if isinstance(end.code, int) else 1
        except BaseException as why:
            import traceback
            print("# " + "".join(traceback.format_exception(why)).replace("\n", "\n# "), flush=True)
        finally:
            os._exit(status)
    os.close(write)
    signal.signal(signal.SIGALRM, lambda *_: os.killpg(pid, signal.SIGKILL))
    signal.alarm(limit)
    name, planned, told, bad = os.path.basename(path), None, 0, 0
    with os.fdopen(read, encoding="utf-8", errors="replace") as lines:
        for line in lines:
            plan = re.match(r"1\.\.(\d+)", line)
            result = re.match(r"(not )?ok \d+ - (.*)", line)
            if plan:
                planned = int(plan.group(1))
            elif result:
                told += 1
                bad += bool(result.group(1))
                print("%sok %d - %s: %s" % (result.group(1) or "", first + told, name, result.group(2)), flush=True)
            else:
                print(line, end="", flush=True)
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    signal.alarm(0)
    if cases and planned != len(cases):  # a name that is none
        status = status or 1
        print("# %s: %s of the %d chosen cases are there" % (name, planned, len(cases)))
    if told != planned or told == 0 or (status != 0 and not bad):
        told, bad = told + 1, bad + 1
        print("not ok %d - %s: ended with status %d after %d of %s cases" % (first + told, name, status, told - 1, planned))
    return told, bad


def main(words):
    limit, count, bad = LIMIT, 0, 0
    while words and words[0].startswith("--"):
        if words[0] != "--limit" or len(words) < 2:
            sys.exit("run.py [--limit SECONDS] FILE[:CASE,CASE...]...")
        limit, words = int(words[1]), words[2:]
    for word in ["tests/vm/selftest.py", *words]:
        path, _, cases = word.partition(":")
        started = time.monotonic()
        path = os.path.abspath(path if os.path.exists(path) else os.path.join(ROOT, path))
        cases = [*cases.split(","), "nothing_is_left"] if cases else []
        told, wrong = run_file(path, cases, limit, count)
        count, bad = count + told, bad + wrong
        print("# %s: %.1f s" % (os.path.basename(path), time.monotonic() - started), flush=True)
    print("1..%d" % count, flush=True)
    return 1 if bad or not count else 0


sys.exit(main(sys.argv[1:]))
