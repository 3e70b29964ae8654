# SPDX-License-Identifier: Apache-2.0
# Runs: tests (root, acting as ordinary users). Files: names that are already there, modes, links, and what is done by path.
import os
import re
import signal
import stat
import subprocess
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "integration"))
import harness  # noqa: E402
import tap  # noqa: E402
import wire  # noqa: E402
from harness import ALICE, BOB  # noqa: E402
from tap import case  # noqa: E402


TRACED = ("chmod fchmodat fchmodat2 chown lchown fchownat setxattr lsetxattr setxattrat removexattr lremovexattr "
          "open openat openat2 bind connect").split()


def victim_of(host):
    """Something that must stay as it is, and a picture of it."""
    top = os.path.join(host.work, "victim")
    os.makedirs(top, mode=0o755, exist_ok=True)
    path = os.path.join(top, "file")
    with open(path, "w", encoding="ascii") as f:
        f.write("victim")
    os.chmod(path, 0o644)
    return top, path, picture(top)


def picture(top):
    found = {}
    for path in [top, *sorted(harness.files_below(top))]:
        s = os.lstat(path)
        found[path] = (s.st_mode, s.st_uid, s.st_gid, s.st_size,
                       open(path, "rb").read() if stat.S_ISREG(s.st_mode) else None)
    return found


def plants(top, path):
    """What somebody could have put where a name is going to be made."""
    return {
        "link to a file": lambda name: os.symlink(path, name), "link to a directory": lambda name: os.symlink(top, name),
        "dangling link": lambda name: os.symlink(os.path.join(top, "new"), name),
        "hard link": lambda name: os.link(path, name),
        "fifo": os.mkfifo, "directory": os.mkdir, "file": lambda name: open(name, "w", encoding="ascii").close(),
    }


def names_made(host):
    """Names in the runtime directory of a broker that runs, relative to it."""
    return sorted(os.path.relpath(p, host.runtime) for p in harness.files_below(host.runtime))


@case
def D01_planted_names_in_the_runtime_directory(host):
    """Each name that a start makes, planted beforehand as link, hard link, fifo, directory, file: refused or replaced, the
    target unchanged. The directory is root's, so planting takes a mistake of the administrator's first."""
    names = names_made(host)
    tap.true("broker.sock" in names, "names in the runtime directory: %s" % names)
    host.stop()
    top, path, before = victim_of(host)
    try:
        for name in names:
            for what, plant in plants(top, path).items():
                runtime = os.path.join(host.work, "planted")
                subprocess.run(["rm", "-rf", runtime], check=True)
                target = os.path.join(runtime, name)
                os.makedirs(os.path.dirname(target), mode=0o755)
                plant(target)
                _start_and_stop(host, runtime)
                tap.equal(picture(top), before, "the victim after %s as %s" % (name, what))
        # And the directory itself.
        for what, plant in plants(top, path).items():
            subprocess.run(["rm", "-rf", runtime], check=True)
            if what != "hard link":
                plant(runtime)
                _start_and_stop(host, runtime)
                tap.equal(picture(top), before, "the victim after the runtime directory as %s" % what)
        subprocess.run(["rm", "-rf", runtime], check=True)
        # A directory that others may write to is no place for a socket that decides.
        os.mkdir(runtime)
        os.chmod(runtime, 0o777)
        tap.true(_start_and_stop(host, runtime) == "refused", "a runtime directory with mode 0777 is refused")
        os.rmdir(runtime)
        os.mkdir(runtime, 0o755)
        os.chown(runtime, ALICE, ALICE)
        tap.true(_start_and_stop(host, runtime) == "refused", "a runtime directory of a user's is refused")
    finally:
        subprocess.run(["rm", "-rf", os.path.join(host.work, "planted")], check=True)
        host.start()


def _start_and_stop(host, runtime):
    """Start with this runtime directory; "refused" when that is the answer, in one line, else stop again."""
    process = subprocess.Popen([host.start_program, "--runtime", runtime, "--policy", host.policy_path,
                                "--stop-sandboxes-on-exit"],
                               stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
                               cwd="/")
    socket_path = os.path.join(runtime, "broker.sock")
    end = time.monotonic() + 10
    while process.poll() is None and time.monotonic() < end:
        try:
            wire.Session(socket_path, ALICE).close()
            break
        except (OSError, wire.Hangup):
            time.sleep(0.01)
    served = process.poll() is None
    if served:
        process.send_signal(signal.SIGTERM)
    err = process.communicate(timeout=20)[1]
    tap.wait_for(lambda: not host.own_processes(), "nothing of it runs")
    if served:
        return "served"
    tap.true(err.strip(), "a refusal says why")
    return "refused"


@case
def D02_nothing_is_changed_by_path(host):
    """strace of start, broker and spawner through a start, launches with taps and the end: no chmod, chown or label by a
    path, so there is none to swap."""
    host.stop()
    trace = os.path.join(host.work, "trace")
    process = subprocess.Popen(
        ["strace", "-f", "-qq", "-o", trace, "-e",
         "trace=" + ",".join("?" + name for name in TRACED),
         host.start_program, "--runtime", host.runtime, "--policy", host.policy_path, "--stop-sandboxes-on-exit"],
        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd="/")
    try:
        tap.wait_for(lambda: _serves(host), "the broker answers under strace", 30)
        launched = open(trace, encoding="utf-8", errors="replace").read().count("\n")
        for nics in ([], [{"network": "lan", "queues": 1}]):
            with host.launch("hostile", ["clock"], nics=nics) as launch:
                launch.exited()
        tap.wait_for(lambda: not host.sandbox_processes(), "the sandboxes are gone")
        lines = open(trace, encoding="utf-8", errors="replace").read().splitlines()
    finally:
        for pid in host.own_processes():
            if harness.comm(pid).startswith("postern-broker"):
                os.kill(pid, signal.SIGTERM)
        process.wait(20)
        host.start()
    by_path = re.compile(r"\b(chmod|chown|lchown|fchmodat2?|fchownat|l?setxattr|setxattrat|l?removexattr)\((.*)")
    bad = []
    for line in lines:
        found = by_path.search(line)
        # With AT_EMPTY_PATH, or on "" of a descriptor, it is not by path. The template being built has no other reader:
        # but there too the descriptor is at hand, so it is no excuse.
        if found and "AT_EMPTY_PATH" not in line:
            bad.append(line)
    tap.equal(bad, [], "changes of mode, owner or label by path")
    # While it serves, the broker opens nothing that a client named: no file at all but its id counter and devices.
    broker = [line for line in lines[launched:] if re.search(r"\bopenat?\(", line) and "hostile" not in line and
              _of_broker(line, lines)]
    tap.true(all(re.search(r'"(/dev/(vhost-net|vhost-vsock|kvm)|ids[^"/]*|[^"/]*\.new)"', line) for line in broker),
             "what the broker opened while it served: %s" % broker[:5])


def _of_broker(line, lines):
    pid = line.split()[0]
    return any(other.startswith(pid + " ") and "broker.sock" in other for other in lines)


def _serves(host):
    try:
        with host.session(ALICE):
            return True
    except (OSError, wire.Hangup):
        return False


@case
def D29_modes_do_not_depend_on_umask(host):
    """Started with umask 0 and 0777, by root and by the user: what is made has the declared modes."""
    for mask in (0o000, 0o777):
        host.stop()
        os.umask(mask)
        try:
            host.start()
        finally:
            os.umask(0o022)
        tap.equal(stat.S_IMODE(os.lstat(host.socket).st_mode), 0o666, "the client socket with umask %03o" % mask)
        for path in harness.files_below(host.runtime):
            mode = os.lstat(path).st_mode
            if stat.S_ISREG(mode):
                tap.true(not mode & 0o077 and mode & 0o400, "%s is private with umask %03o: %o" % (path, mask, mode))
            if stat.S_ISDIR(mode):
                tap.true(not mode & 0o022 and mode & 0o500 == 0o500, "%s with umask %03o: %o" % (path, mask, mode))
        done = host.cli("run", host.spec(), "--detach", "--name", "mask", umask=mask)
        tap.equal(done.returncode, 0, "run with umask %03o: %s" % (mask, done.stderr))
        base = os.path.join(host.homes[ALICE], "postern")
        paths = [base, *harness.files_below(base)]
        tap.true(len(paths) > 4, "files of a running sandbox: %s" % paths)
        for path in paths:
            found = os.lstat(path)
            tap.true(not found.st_mode & 0o077, "%s is private with umask %03o: %o" % (path, mask, found.st_mode))
            tap.equal((found.st_uid, found.st_gid), (ALICE, ALICE), "owner of " + path)
        lease = host.leases_of(ALICE)[0]
        (vmm,) = harness.children(lease["init_pid"])
        for number in harness.fds(vmm):
            found = os.stat("/proc/%d/fd/%d" % (vmm, number))
            if stat.S_ISREG(found.st_mode):
                tap.true(not found.st_mode & 0o022, "descriptor %d is no inode that others may write" % number)
        host.ok("kill", "mask")


@case
def planted_names_in_the_users_directory(host):
    """The same for the state directory: a link or somebody else's directory is refused, and nothing is made behind it."""
    top, path, before = victim_of(host)
    base = os.path.join(host.homes[BOB], "postern")
    for what in ("link to a directory", "dangling link", "file", "fifo", "foreign", "open"):
        subprocess.run(["rm", "-rf", base], check=True)
        if what == "foreign":
            os.mkdir(base, 0o700)
        elif what == "open":
            os.mkdir(base)
            os.chmod(base, 0o777)
            os.chown(base, BOB, BOB)
        else:
            plants(top, path)[what](base)
        done = host.cli("run", host.spec(BOB), "--detach", uid=BOB)
        tap.true(done.returncode != 0 and done.stderr.count("\n") == 1 and "state directory" in done.stderr,
                 "%s for the state directory: %d %s" % (what, done.returncode, done.stderr))
        tap.equal(picture(top), before, "the victim after " + what)
    subprocess.run(["rm", "-rf", base, top], check=True)
    tap.equal(host.sandbox_processes(), [], "sandboxes")


@case
def D05_programs_are_the_administrators(host):
    """Whatever a user writes into a spec, the program that runs is the one the policy names; a path is not even a value."""
    evil = host.user_file(ALICE, "evil", b"#!/bin/sh\ntouch /tmp/evil\n", 0o755)
    for fields in ({"hypervisor": evil}, {"hypervisor": "../evil"}, {"path": evil}, {"hypervisor_path": evil},
                   {"binary": evil},
                   {"machine": evil}, {"args": ["-x"]}, {"env": {"LD_PRELOAD": evil}}):
        done = host.cli("run", host.spec(**fields), "--detach")
        tap.equal(done.returncode, harness.EXIT["USAGE"], "%s: %s" % (fields, done.stderr))
    done = host.cli("run", host.spec(), "--detach", "--name", "env",
                    env={"LD_PRELOAD": evil, "POSTERN_LIBEXECDIR": host.homes[ALICE]})
    tap.equal(done.returncode, 0, "run with an environment full of paths: " + done.stderr)
    lease = host.leases_of(ALICE)[0]
    (vmm,) = harness.children(lease["init_pid"])
    tap.equal(os.path.basename(harness.exe(vmm)), "postern-mock-vmm", "the program that runs")
    tap.equal(open("/proc/%d/environ" % vmm, "rb").read().strip(b"\0").count(b"LD_PRELOAD"), 0, "its environment")
    host.ok("kill", "env")
    os.unlink(evil)


@case
def D05_writable_programs_are_refused_at_start(host):
    """A spawner, an init or a VMM that somebody other than root could have written is never started."""
    host.stop()
    runtime = os.path.join(host.work, "other")
    os.mkdir(runtime, 0o755)
    try:
        for program in ("postern-spawner", "postern-init"):
            path = os.path.join(host.libexec, program)
            for change, undo in ((lambda: os.chmod(path, 0o757), lambda: os.chmod(path, 0o755)),
                                 (lambda: os.chown(path, ALICE, 0), lambda: os.chown(path, 0, 0))):
                change()
                try:
                    tap.equal(_start_and_stop(host, runtime), "refused", "a start with %s writable by others" % program)
                finally:
                    undo()
    finally:
        subprocess.run(["rm", "-rf", runtime], check=True)
        host.start()


@case
def policy_files_that_others_could_have_written(host):
    """The policy decides: a file, a directory on the way or a link that is not root's alone is refused, with its reason."""
    path = os.path.join(host.work, "p", "policy.json")
    os.mkdir(os.path.dirname(path), 0o755)
    content = open(host.policy_path, "rb").read()

    def refused(what):
        done = subprocess.run([host.broker_program, "--check-policy", path], stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, text=True)
        tap.true(done.returncode != 0 and done.stdout.count("\n") == 1, "%s: %d %s" % (what, done.returncode, done.stdout))

    with open(path, "wb") as f:
        f.write(content)
    os.chmod(path, 0o644)
    done = subprocess.run([host.broker_program, "--check-policy", path], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                          text=True)
    tap.equal(done.returncode, 0, "the good one: " + done.stderr)
    for mode in (0o664, 0o646, 0o666):
        os.chmod(path, mode)
        refused("mode %o" % mode)
    os.chmod(path, 0o644)
    os.chown(path, ALICE, 0)
    refused("a user's file")
    os.chown(path, 0, 0)
    os.chmod(os.path.dirname(path), 0o777)
    refused("in a directory that others may write to")
    os.chmod(os.path.dirname(path), 0o755)
    os.rename(path, path + ".real")
    os.symlink(path + ".real", path)
    refused("a link")
    os.unlink(path)
    os.mkfifo(path)
    refused("a fifo")
    os.unlink(path)
    refused("no file")
    subprocess.run(["rm", "-rf", os.path.dirname(path)], check=True)


harness.main()
