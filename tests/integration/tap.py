# SPDX-License-Identifier: Apache-2.0
# Runs: tests. Cases and their TAP lines, nothing else.
#
# A case is a function; its name is the test's name. It passes by returning, fails by raising, and may say why it
# cannot run here by raising Skip: tools/check holds every such reason against tests/allowed-skips.txt.
import sys
import time
import traceback

_cases = []


class Skip(Exception):
    """This machine cannot run the case; the text says why."""


def case(function):
    _cases.append(function)
    return function


def note(text):
    for line in str(text).splitlines():
        print("# " + line, flush=True)


def equal(found, expected, what):
    if found != expected:
        raise AssertionError("%s: found %r, expected %r" % (what, found, expected))


def true(condition, what):
    if not condition:
        raise AssertionError(what)


def wait_for(condition, what, seconds=10, step=0.02):
    """Poll until condition() is true and return it. The wait is a limit, never a measurement."""
    end = time.monotonic() + seconds
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > end:
            raise AssertionError("after %g s still not: %s" % (seconds, what))
        time.sleep(step)


def run(setup=None, teardown=None):
    """Run every case of the calling file. Names on the command line choose some of them."""
    chosen = [a for a in sys.argv[1:] if not a.startswith("-") and "/" not in a]
    cases = [c for c in _cases if not chosen or c.__name__ in chosen]
    print("1..%d" % len(cases), flush=True)
    context, broken = None, None
    try:
        context = setup() if setup else None
    except Skip as why:
        broken = why
    except BaseException as why:
        note(traceback.format_exc())
        broken = why
    for number, function in enumerate(cases, 1):
        started = time.monotonic()
        try:
            if broken is not None:
                raise broken
            function(context) if setup else function()
            print("ok %d - %s" % (number, function.__name__), flush=True)
        except Skip as why:
            print("ok %d - %s # SKIP %s" % (number, function.__name__, why), flush=True)
        except KeyboardInterrupt:
            raise
        except BaseException as why:
            if why is not broken:
                note(traceback.format_exc())
                if hasattr(context, "trouble"):
                    note(context.trouble())
            print("not ok %d - %s" % (number, function.__name__), flush=True)
        if "-v" in sys.argv:
            note("%.2f s" % (time.monotonic() - started))
    if teardown and context is not None:
        teardown(context)
