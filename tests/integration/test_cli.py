# SPDX-License-Identifier: Apache-2.0
# Runs: tests (root, calling the CLI as ordinary users). Every command with the mock; two users; what a user gets wrong.
import glob
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import harness  # noqa: E402
import tap  # noqa: E402
import wire  # noqa: E402
from harness import ALICE, BOB, CAROL, EXIT  # noqa: E402
from tap import case  # noqa: E402

UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


@case
def life_of_a_mock(host):
    """Every command once, in the order a user would."""
    before = host.snapshot()
    spec = host.spec(nics=[{"type": "tap", "network": "lan"}], vcpus=2)
    uuid = host.ok("run", spec, "--detach", "--name", "first").strip()
    tap.true(UUID.fullmatch(uuid), "run prints the uuid: %r" % uuid)
    (row,) = host.json("ps")
    tap.equal((row["uuid"], row["name"], row["status"], row["hypervisor"]), (uuid, "first", "running", "mock"), "ps --json")
    tap.true("first" in host.ok("ps") and uuid[:8] in host.ok("ps"), "ps names it")
    lease = host.leases_of(ALICE)[0]
    for name in ("first", uuid, uuid[:8], uuid[:4]):
        tap.equal(host.json("status", name)["uid"], lease["uid"], "status %s" % name)
    tap.true(str(lease["uid"]) in host.ok("status", "first"), "status names the uid")
    host.ok("pause", "first")
    tap.equal(host.json("status", "first")["status"], "paused", "paused")
    host.ok("resume", "first")
    tap.equal(host.json("status", "first")["status"], "running", "resumed")
    receipt = host.json("receipt", "first")
    tap.equal(receipt["good"], True, "the receipt is good")
    text = host.ok("receipt", "first")
    tap.true(str(lease["uid"]) in text and "\x1b" not in text, "the receipt for people, without colour in a pipe")
    audit = host.json("audit", "first")
    tap.equal((audit["good"], audit["diff"]), (True, []), "the audit")
    host.ok("logs", "first")
    tap.true("running" in host.ok("logs", "first", "--console"), "what the console said")
    host.ok("stop", "first")
    tap.equal(host.json("ps"), [], "ps afterwards")
    tap.true(not harness.alive(lease["init_pid"]), "stop returns when it has ended")
    host.settle(before)


@case
def kill_ends_what_does_not_stop(host):
    before = host.snapshot()
    host.ok("run", told(host, "ignore-powerdown"), "--detach", "--name", "stubborn")
    host.ok("kill", "stubborn")
    host.settle(before, ignore=("user files",))
    host.ok("run", told(host, "ignore-powerdown", stop_timeout="500ms"), "--detach", "--name", "slow")
    host.ok("stop", "slow")  # ACPI is ignored, so quit does it
    host.settle(before, ignore=("user files",))


def told(host, cmdline, **fields):
    """A mock that behaves as this command line says."""
    return host.spec(kernel=host.user_file(ALICE, "kernel", b"kernel"), kernel_only=True, cmdline=cmdline, **fields)


@case
def foreground_ends_with_its_guest(host):
    """The console on standard output; the guest's end is the command's end, and its trouble an exit status."""
    before = host.snapshot()
    done = host.cli("run", told(host, "exit=0"))
    tap.equal(done.returncode, 0, "a VMM that ends by itself: %s" % done.stderr)
    tap.true("running" in done.stdout, "the console was shown: %r" % done.stdout)
    for cmdline in ("exit=3", "crash"):
        done = host.cli("run", told(host, cmdline))
        tap.equal(done.returncode, EXIT["GUEST"], "%s: %s" % (cmdline, done.stderr))
        tap.equal(done.stderr.count("\n"), 1, "one line: %s" % done.stderr)
    host.settle(before, ignore=("user files",))


@case
def options_without_a_file(host):
    before = host.snapshot()
    host.ok("run", "--hypervisor", "mock", "--memory", "16M", "--net", "lan", "--net", "lan2", "--name", "nofile",
            "--detach")
    lease = host.leases_of(ALICE)[0]
    tap.equal([n["network"] for n in lease["nics"][: lease["nic_count"]]], ["lan", "lan2"], "networks")
    tap.true(lease["nics"][1]["ip"] >> 8 == 10 << 16 | 98 << 8 | host.slot * 4 + 1, "a pinned address of the network")
    host.ok("kill", "nofile")
    host.settle(before)


@case
def check_starts_nothing(host):
    before = host.snapshot()
    text = host.ok("check", host.spec(nics=[{"type": "tap", "network": "lan"}]))
    tap.true("mock" in text and "lan" in text, "check says what would be: %s" % text)
    json.loads(host.ok("check", host.spec(), "--json"))
    tap.equal(host.snapshot()["sandbox processes"], before["sandbox processes"], "nothing started")
    host.settle(before)


@case
def version_and_help(host):
    tap.true(re.search(r"\d+\.\d+\.\d+", host.ok("version")), "version")
    names = re.findall(r"^  (\w+)", host.ok("help"), flags=re.M)
    for name in ("run", "ps", "status", "console", "stop", "kill", "receipt", "audit", "logs", "check", "version"):
        tap.true(name in names, "help lists %s: %s" % (name, names))
        tap.true(host.ok(name, "--help").startswith("usage: postern " + name), "%s --help" % name)


@case
def console_by_its_command(host):
    before = host.snapshot()
    host.ok("run", host.spec(), "--detach", "--name", "con")
    process = host.popen("console", "con", stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    seen = process.stdout.read(len("postern mock VMM: running"))
    process.terminate()
    process.communicate(timeout=10)
    tap.true(b"running" in seen, "what the console said before is shown: %r" % seen)
    host.ok("kill", "con")
    host.settle(before)


@case
def two_users(host):
    """Neither sees, reads, audits, stops or kills what is the other's; names are per user."""
    before = host.snapshot()
    uuid = host.ok("run", host.spec(ALICE), "--detach", "--name", "same").strip()
    other = host.ok("run", host.spec(BOB), "--detach", "--name", "same", uid=BOB).strip()
    tap.equal([row["uuid"] for row in host.json("ps")], [uuid], "ALICE's ps")
    tap.equal([row["uuid"] for row in host.json("ps", uid=BOB)], [other], "BOB's ps")
    for command in ("status", "receipt", "audit", "logs", "stop", "kill", "console", "pause"):
        done = host.cli(command, uuid, uid=BOB)
        tap.equal(done.returncode, EXIT["NOT_FOUND"], "%s of ALICE's by BOB: %s" % (command, done.stderr))
        one_line(done, uuid)
    # With the other's directory in the environment it is still the other's.
    done = host.cli("status", uuid, uid=BOB, env={"XDG_RUNTIME_DIR": host.homes[ALICE]})
    tap.true(done.returncode != 0, "ALICE's directory is closed to BOB")
    tap.equal(host.json("status", uuid)["status"], "running", "ALICE's sandbox")
    host.ok("kill", "same")
    tap.equal(host.json("status", other, uid=BOB)["status"], "running", "BOB's sandbox")
    host.ok("kill", "same", uid=BOB)
    host.settle(before)


def one_line(done, *names):
    tap.equal(done.stderr.count("\n"), 1, "lines on standard error: %s" % done.stderr)
    tap.true(done.stderr.startswith("postern: "), "says who speaks: %s" % done.stderr)
    for name in names:
        tap.true(name in done.stderr, "names %s: %s" % (name, done.stderr))


@case
def bad_input(host):
    """Each mistake: one line that names object and remedy, its exit status, nothing left behind."""
    before = host.snapshot()
    unreadable = host.user_file(ALICE, "unreadable", b"x" * 4096, 0o000)
    kernel = host.user_file(ALICE, "kernel", b"x" * 4096)
    image = host.user_file(ALICE, "image", b"\0" * (1 << 20))
    kvmless = {"hypervisor": "qemu-tcg", "kernel": kernel, "initrd": kernel, "memory": 64}
    missing = os.path.join(host.homes[ALICE], "missing")
    table = [
        ("missing kernel", {"kernel": missing}, "FILE", missing),
        ("missing disk", {"disks": [{"path": missing}]}, "FILE", missing),
        ("unreadable disk", {"disks": [{"path": unreadable}]}, "FILE", unreadable),
        ("unreadable kernel", {"kernel": unreadable}, "FILE", unreadable),
        ("directory as disk", {"disks": [{"path": host.homes[ALICE]}]}, "FILE", host.homes[ALICE]),
        ("fifo as disk", {"disks": [{"path": "/dev/null"}]}, "FILE", "/dev/null"),
        ("unknown network", {"nics": [{"type": "tap", "network": "nowhere"}]}, "DENIED", "nowhere"),
        ("network not granted", {"nics": [{"type": "tap", "network": "closed"}]}, "DENIED", "closed"),
        ("unknown hypervisor", {"hypervisor": "xen"}, "DENIED", "xen"),
        ("hypervisor not granted", {"hypervisor": "denied"}, "DENIED", "denied"),
        ("too much memory", {"memory": 900000}, "QUOTA", "MiB"),
        ("too many vcpus", {"vcpus": 500}, "QUOTA", "vCPU"),
        ("unknown field", {"memroy": 5}, "USAGE", "memroy"),
        ("wrong type", {"memory": [1]}, "USAGE", "memory"),
        ("wrong choice", {"accel": "warp"}, "USAGE", "accel"),
        ("negative", {"vcpus": -1}, "USAGE", "vcpus"),
        ("bad name", {"name": "../x"}, "USAGE", "name"),
        ("newline in the command line", {"cmdline": "a\nb"}, "USAGE", "cmdline"),
        ("required label", {"label": "require"}, "HOST", "label"),
        ("required vhost", {"nics": [{"type": "tap", "network": "lan", "vhost": "require"}]}, ("HOST", "DENIED"), "vhost"),
        ("kvm without the grant", dict(kvmless, accel="kvm"), ("DENIED", "HOST"), "KVM"),
    ]
    for what, fields, status, name in table:
        wanted = {EXIT[s] for s in ((status,) if isinstance(status, str) else status)}
        for command in ("run", "check") if status in ("USAGE", "FILE") else ("run",):
            done = host.cli(command, host.spec(**fields), *(("--detach",) if command == "run" else ()))
            tap.true(done.returncode in wanted, "%s by %s: status %d: %s" % (what, command, done.returncode, done.stderr))
            one_line(done, name)
            tap.equal(done.stdout, "", "%s: standard output" % what)
    tap.true(os.path.exists(image), "files are as they were")
    host.settle(before, ignore=("user files",))
    for path in ("unreadable", "kernel", "image"):
        os.unlink(os.path.join(host.homes[ALICE], path))


@case
def bad_command_lines(host):
    for words, status in (
        (["frobnicate"], "USAGE"), (["run", "--frobnicate"], "USAGE"), (["run", "-x"], "USAGE"),
        (["run", "/nonexistent.json"], "FILE"),
        (["status"], "USAGE"), (["status", "nobody"], "NOT_FOUND"), (["kill", "nobody"], "NOT_FOUND"),
        (["ps", "extra"], "USAGE"),
        (["run", "--memory", "lots"], "USAGE"), (["run", "--memory"], "USAGE"), (["logs", "nobody"], "NOT_FOUND"),
        (["receipt", "00000000"], "NOT_FOUND"), (["console", "nobody"], "NOT_FOUND"), (["stop"], "USAGE"),
        (["status", "../../etc"], "NOT_FOUND"), (["status", "\x1b[31m"], "NOT_FOUND"),
    ):
        done = host.cli(*words)
        tap.equal(done.returncode, EXIT[status], "postern %s: %s" % (words, done.stderr))
        one_line(done)
        tap.true("\x1b" not in done.stderr, "no escape of the user's reaches the terminal")


@case
def broken_specs(host):
    """Text that is not a spec: one line with the place, whatever it is."""
    for text in (b"", b"{", b"[]", b"null", b'{"memory": 16, "memory": 17}', b'{"memory": 1e999}', b"\xff\xfe", b"{}" * 2,
                 b'{"disks": {}}', b'{"nics": [1]}', b"[" * 100000, b'{"name": "' + b"a" * 100000 + b'"}',
                 b'{"a\\u0000b": 1}'):
        path = host.user_file(ALICE, "spec-broken.json", text)
        done = host.cli("check", path)
        tap.equal(done.returncode, EXIT["USAGE"], "%r: %s" % (text[:30], done.stderr))
        one_line(done)


@case
def nobody_is_there(host):
    """No broker, no permission, no room: the one line says which."""
    done = host.cli("run", host.spec(), "--detach", env={"POSTERN_SOCKET": "/run/nonexistent/broker.sock"})
    tap.equal(done.returncode, EXIT["NO_BROKER"], "no broker: " + done.stderr)
    one_line(done, "/run/nonexistent/broker.sock")
    done = host.cli("run", host.spec(CAROL), "--detach", uid=CAROL)
    tap.equal(done.returncode, EXIT["DENIED"], "no rule: " + done.stderr)
    one_line(done, "policy")
    path = host.user_file(ALICE, "regular")
    done = host.cli("run", host.spec(), "--detach", env={"POSTERN_SOCKET": path})
    tap.equal(done.returncode, EXIT["NO_BROKER"], "a file for a socket: " + done.stderr)
    one_line(done, path)


def api(host, uuid):
    """A connection to the API of one of ALICE's sandboxes."""
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    (path,) = glob.glob(os.path.join(host.homes[ALICE], "**", uuid, "api.sock"), recursive=True)
    with wire.as_user(ALICE):
        sock.connect(path)
    return sock


@case
def stop_never_kills(host):
    """What cannot be asked in order is not ended another way; postern kill does that."""
    before = host.snapshot()
    uuid = host.ok("run", host.spec(), "--detach", "--name", "calm").strip()
    other = {"XDG_RUNTIME_DIR": "/nonexistent", "HOME": os.path.dirname(host.user_file(ALICE, "elsewhere"))}
    tap.true("elsewhere" in host.ok("ps", env=other), "ps does not call it orphaned")
    done = host.cli("stop", uuid, env=other)
    tap.equal(done.returncode, EXIT["FAILED"], "stop from another state directory: " + done.stderr)
    one_line(done, uuid, "XDG_RUNTIME_DIR")
    tap.equal(host.json("status", "calm")["status"], "running", "it runs")
    waiting = []
    for _ in range(15):
        waiting.append(api(host, uuid))
        waiting[-1].sendall(b'{"verb":"console"}\n')  # one that waits for the end
        waiting[-1].recv(100)
    waiting.append(api(host, uuid))
    waiting[-1].sendall(b'{"verb":"logs","which":5}\n')
    tap.true(b"which" in waiting[-1].recv(1000), "a number is no log")
    for sock in waiting:
        sock.close()
    idle = [api(host, uuid) for _ in range(16)]
    time.sleep(1.2)
    tap.equal(host.json("status", "calm")["status"], "running", "idle clients give way")
    for sock in idle:
        sock.close()
    fresh = [api(host, uuid) for _ in range(16)]
    done = host.cli("stop", "calm")
    tap.equal(done.returncode, EXIT["FAILED"], "all places taken: " + done.stderr)
    one_line(done, uuid, "try again")
    for sock in fresh:
        sock.close()
    host.ok("stop", "calm")
    host.settle(before, ignore=("user files",))


@case
def a_controller_that_stands_still(host):
    """status says that it does not answer, stop fails, kill ends the sandbox."""
    before = host.snapshot()
    uuid = host.ok("run", host.spec(), "--detach", "--name", "still").strip()
    (pid,) = host.controllers()
    os.kill(pid, signal.SIGSTOP)
    try:
        full = []
        while len(full) < 40:
            sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            sock.setblocking(False)
            (path,) = glob.glob(os.path.join(host.homes[ALICE], "**", uuid, "api.sock"), recursive=True)
            full.append(sock)
            try:
                with wire.as_user(ALICE):
                    sock.connect(path)
            except BlockingIOError:
                break
            if len(full) == 1:
                done = host.cli("status", "still")
                tap.equal(done.returncode, EXIT["TIMEOUT"], "status: " + done.stderr)
                one_line(done, uuid)
        for command in ("status", "stop"):
            done = host.cli(command, "still")
            tap.equal(done.returncode, EXIT["TIMEOUT"], "%s with a full queue: %s" % (command, done.stderr))
            one_line(done, uuid)
        tap.equal(len(host.leases_of(ALICE)), 1, "it lives")
        host.ok("kill", "still")
        tap.equal(host.leases_of(ALICE), [], "it is gone")
    finally:
        os.kill(pid, signal.SIGCONT)
    for sock in full:
        sock.close()
    host.settle(before, ignore=("user files",))


@case
def output_that_cannot_be_written(host):
    before = host.snapshot()
    with open("/dev/full", "wb") as full:
        done = host.popen("run", host.spec(), "--detach", "--name", "full", stdout=full, stderr=subprocess.PIPE)
        error = done.communicate(timeout=30)[1].decode()
        tap.equal((done.returncode, error.count("\n")), (EXIT["FAILED"], 1), "run: " + error)
        (row,) = host.json("ps")
        tap.true(row["uuid"] in error, "run names what goes on: " + error)
        for words in (("ps",), ("ps", "--json"), ("status", "full"), ("receipt", "full"), ("receipt", "full", "--json"),
                      ("check", host.spec()), ("check", host.spec(), "--json"), ("version",), ("help",)):
            done = host.popen(*words, stdout=full, stderr=subprocess.PIPE)
            error = done.communicate(timeout=30)[1].decode()
            tap.equal((done.returncode, error.count("\n")), (EXIT["FAILED"], 1), "%s: %s" % (words, error))
    for words in (("ps",), ("receipt", "full", "--json"), ("receipt", "full")):
        there, here = os.pipe()
        os.close(there)
        with os.fdopen(here, "wb") as gone:
            done = host.popen(*words, stdout=gone, stderr=subprocess.PIPE)
            error = done.communicate(timeout=30)[1]
        tap.equal(error, b"", "%s to a reader that went away" % (words,))
    host.ok("kill", "full")
    host.settle(before, ignore=("user files",))


@case
def D04_words_stay_words(host):
    """No string of the user's becomes an option or a second word of the VMM's command line."""
    for evil in ("-daemonize", "a,b=c", "--", "$(id)", "a' \"b", "%s%n", "-device x", "a=b,,c", "\\", "--exec=/bin/sh"):
        done = host.cli("run", told(host, evil), "--detach", "--name", "evil")
        tap.equal(done.returncode, 0, "cmdline %r: %s" % (evil, done.stderr))
        lease = host.leases_of(ALICE)[0]
        (vmm,) = harness.children(lease["init_pid"])
        words = open("/proc/%d/cmdline" % vmm, "rb").read().split(b"\0")
        tap.true(b"--append=" + evil.encode() in words, "one word of its own: %s" % words)
        tap.equal(len(words), 8, "words of the mock, and the end: %s" % words)
        host.ok("kill", "evil")


@case
def statuses_are_documented(host):
    """The man page's table is include/postern/exit.h's."""
    path = os.path.join(harness.ROOT, "docs")
    pages = [os.path.join(top, name) for top, _, names in os.walk(path) for name in names if name.startswith("postern.1")]
    tap.equal(len(pages), 1, "sources of postern(1)")
    text = open(pages[0], encoding="utf-8").read()
    section = text[text.index("EXIT STATUS"):]
    for number in EXIT.values():
        tap.true(re.search(r"\b%d\b" % number, section), "status %d is in the man page" % number)


def policy(config, host):
    rule = config["rules"][0]
    rule["quota"].update(vcpus=256, memory_mib=65536)
    config["networks"]["closed"] = {"isolated": True}
    config["hypervisors"]["denied"] = {"path": host.mock, "driver": "mock"}
    config["hypervisors"]["qemu-tcg"] = {"path": "/usr/bin/qemu-system-x86_64", "driver": "qemu"}
    rule["hypervisors"].append("qemu-tcg")
    rule["kvm"] = False


harness.main(policy=policy)
