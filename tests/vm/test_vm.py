# SPDX-License-Identifier: Apache-2.0
# Runs: tests (whoever runs them). The harness itself: a machine that dies, hangs or lies must never look like one that passed.
# A shell stands in for QEMU here.
import argparse
import os
import re
import runpy
import sys
import tempfile
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [HERE, os.path.join(HERE, "..", "integration")]
import cache  # noqa: E402
import jobs  # noqa: E402
import machine  # noqa: E402
import tap  # noqa: E402


def boot(script, timeout=20):
    out = bytearray()
    return machine.boot(["sh", "-c", script], timeout, out.extend)[0], bytes(out)


def options(*words):
    parser = argparse.ArgumentParser()
    runpy.run_path(os.path.join(HERE, "vm"), run_name="vm")["run_options"](parser)
    return parser.parse_args(words)


@tap.case
def verdict_is_the_last_line_and_no_output():
    tap.equal(boot("printf 'hello\\n\\nvmtest-verdict 42\\n'"), (42, b"hello\n"), "status and output")
    tap.equal(boot("printf '\\nvmtest-verdict 0\\n'"), (0, b""), "status and output")


@tap.case
def no_verdict_is_no_result():
    tap.equal(boot("echo hello"), (None, b"hello\n"), "a machine that ended")
    tap.equal(boot("printf '\\nvmtest-verdict '")[0], None, "half a verdict")
    tap.equal(boot("printf '\\nvmtest-verdict 0\\nPanic\\n'")[0], None, "words after it")


@tap.case
def verdict_of_the_job_itself_does_not_count():
    status, out = boot("printf '\\nvmtest-verdict 0\\nstill here\\n'; sleep 0.2; printf '\\nvmtest-verdict 7\\n'")
    tap.equal(status, 7, "status")
    tap.equal(out, b"\nvmtest-verdict 0\nstill here\n", "output")


@tap.case
def hang_ends_at_the_time_limit():
    began = time.monotonic()
    tap.equal(boot("echo before; exec sleep 60", 0.5), (None, b"before\n"), "a machine that hangs")
    tap.true(time.monotonic() - began < 30, "its end comes long before it would have ended by itself")


@tap.case
def long_output_arrives_whole():
    status, out = boot("i=0; while [ $i -lt 2000 ]; do echo line $i; i=$((i+1)); done; printf '\\nvmtest-verdict 0\\n'")
    tap.equal(status, 0, "status")
    tap.equal(out.decode().splitlines(), ["line %d" % i for i in range(2000)], "lines")


@tap.case
def judge_counts_every_way_to_fail():
    def words(status, text):
        return [case.partition(" - ")[0] for case in jobs.judge("j", status, text)[0]]

    tap.equal(words(0, "1..2\nok 1 - a\nok 2 - b\n"), ["ok", "ok"], "all good")
    tap.equal(words(0, "1..2\nok 1 - a\nnot ok 2 - b\n"), ["ok", "not ok"], "a failure that the exit status hides")
    tap.equal(words(0, "1..3\nok 1 - a\nok 2 - b\n"), ["ok", "ok", "not ok"], "fewer cases than planned")
    tap.equal(words(0, "1..1\nok 1 - a\n1..1\nok 1 - b\n"), ["ok", "ok"], "two programs")
    tap.equal(words(0, "1..1\nok 1 - a\n1..2\nok 1 - b\n"), ["ok", "ok", "not ok"], "two programs, one too short")
    tap.equal(words(1, "1..1\nok 1 - a\n"), ["ok", "not ok"], "a bad end after good cases")
    tap.equal(words(machine.NO_VERDICT, "1..1\nok 1 - a\n"), ["ok", "not ok"], "a panic after the last case")
    tap.equal(words(machine.NO_VERDICT, ""), ["not ok"], "a panic")
    tap.equal(words(0, "all well\n"), ["ok"], "no TAP, status 0")
    tap.equal(words(3, "oops\n"), ["not ok"], "no TAP, status 3")
    tap.equal(jobs.judge("j", 0, "1..1\nok 1 - a # SKIP why\n")[0], ["not ok - j: a (skipped: why)"], "a skip is none of the good ones")


@tap.case
def every_job_of_the_table_can_be_read():
    names = [name for name, _, _ in jobs.table()]
    tap.equal(len(names), len(set(names)), "names of jobs, each once")
    for name, words, command in jobs.table():
        tap.true(options(*words).kernel in cache.KERNELS, "kernel of " + name)
        for word in command.split():
            path = os.path.join(cache.ROOT, word.split(":")[0])
            tap.true(not word.startswith("tests/") or os.path.exists(path), "%s: %s is there" % (name, word))


@tap.case
def every_file_with_cases_is_in_a_job():
    words = {word.split(":")[0] for _, _, command in jobs.table() for word in command.split()}
    for name in sorted(os.listdir(os.path.join(HERE, "suite"))):
        path = "tests/vm/suite/" + name
        if name.endswith(".py") and re.search(r"(?m)^@(tap\.)?case\b", cache.read(os.path.join(cache.ROOT, path))):
            tap.true(path in words, path + " is in a job")


@tap.case
def variants_are_on_the_kernels_command_line():
    plain = machine.kernel_words(options()).split()
    tap.true("security=selinux" in plain and "enforcing=1" in plain and "vmtest.cgroup=v2" in plain, plain)
    tap.true("enforcing=0" in machine.kernel_words(options("--permissive")).split(), "--permissive")
    off = machine.kernel_words(options("--no-selinux"))
    tap.true("selinux" not in off and "enforcing" not in off, "--no-selinux: " + off)
    words = machine.kernel_words(options("--landlock", "off"))
    tap.true("landlock" not in words and ",selinux" in words and "security=" not in words, "--landlock off: " + words)
    words = machine.kernel_words(options("--no-vhost"))
    tap.true("module_blacklist=vhost_net,vhost_vsock" in words and "modules=tun,bridge,veth,kvm_amd " in words, "--no-vhost: " + words)
    words = machine.kernel_words(options("--no-tun", "--no-vhost"))
    tap.true("module_blacklist=tun,vhost_net,vhost_vsock" in words and "modules=bridge,veth,kvm_amd " in words, "--no-tun: " + words)


@tap.case
def build_that_breaks_off_leaves_no_layer():
    class Broken(Exception):
        pass

    def half(work):
        open(os.path.join(work, "half"), "w", encoding="ascii").close()
        raise Broken

    def whole(work):
        open(os.path.join(work, "whole"), "w", encoding="ascii").close()

    def others():
        return sorted(name for name in os.listdir(place) if name.startswith("other-"))

    def leave():
        while cache.IN_USE:
            os.close(cache.IN_USE.popitem()[1])

    with tempfile.TemporaryDirectory() as place:
        old, cache.CACHE, cache.os.geteuid, uid = cache.CACHE, place, lambda: 0, os.geteuid
        try:
            try:
                cache.layer("test", "k", half)
                raise AssertionError("no exception came through")
            except Broken:
                pass
            tap.true(not os.path.exists(os.path.join(place, "test-k")), "there is no layer after a failure")
            tap.equal(os.listdir(cache.layer("test", "k", whole)), ["whole"], "what is in the layer")
            tap.equal(sorted(os.listdir(place)), ["lock-test", "test-k"], "nothing is left of the failure")
            os.unlink(os.path.join(place, "test-k/whole"))
            tap.equal(os.listdir(cache.layer("test", "k", whole, "whole")), ["whole"], "one that lost its file is made again")
            for number in range(cache.KEPT + 2):
                cache.layer("other", str(number), whole, "whole")
            tap.equal(len(others()), cache.KEPT + 2, "layers in use are kept")
            leave()
            cache.layer("other", "new", whole, "whole")
            tap.true(len(others()) == cache.KEPT and "other-new" in others(), "the others are not: %s" % others())
        finally:
            leave()
            cache.CACHE, cache.os.geteuid = old, uid


@tap.case
def the_hosts_archive_is_found_however_it_is_written():
    text = "Types: deb\nURIs: http://a/d\nSuites: stable stable-updates\n\nEnabled: no\nURIs: http://b/d\nSuites: bookworm\n"
    found, cache.read, glob = cache.read, lambda path: text, cache.glob.glob
    cache.glob.glob = lambda pattern: ["x.sources"] if pattern.endswith(".sources") else []
    try:
        tap.equal(cache.host_sources(), [("http://a/d", "bookworm", ""), ("http://a/d", "bookworm-updates", "")], "archives")
    finally:
        cache.read, cache.glob.glob = found, glob


tap.run()
