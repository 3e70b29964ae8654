# SPDX-License-Identifier: Apache-2.0
# Runs: tests (root, acting as the broker's user). A broker that somebody has taken over, at the restart of the spawner: root
# asks it for what it keeps of P, and it lies.
import contextlib
import errno
import fcntl
import os
import socket
import subprocess
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "integration"))
import harness  # noqa: E402
import tap  # noqa: E402
import wire  # noqa: E402
from harness import DIRECT  # noqa: E402
from tap import case  # noqa: E402

K = wire.T.constants
KEPT = ("USERNS", "MNTNS", "SWITCH", "EMPTY", "PROCFS", "PRIVATE", "CGROUP", "CGROUP_PIDS", "CGROUP_MEMORY", "CGROUP_CPU",
        "INIT", "TABLE", "IDS_LOCK")  # enum p_fd
PLACE = {name: number for number, name in enumerate(KEPT)}


@contextlib.contextmanager
def without_daemons(host):
    """What the broker keeps for a new spawner, {name: descriptor}, taken from a spawner that then dies like its broker."""
    kept = kept_set(host)
    for pid in (host.broker, host.spawner):
        harness.kill_wait(pid)
    host.starter.wait(5)
    try:
        yield kept
    finally:
        close_all(kept.values())  # with them the last of that P is gone
        host.start()


def close_all(fds):
    for fd in set(fds):
        with contextlib.suppress(OSError):
            os.close(fd)


def kept_set(host):
    found = {}
    for name, number in PLACE.items():
        path = "/proc/%d/fd/%d" % (host.spawner, harness.P_FIRST + number)
        with contextlib.suppress(FileNotFoundError):
            directory = os.path.isdir(path)
            found[name] = os.open(path, os.O_PATH if directory else os.O_RDWR if name == "IDS_LOCK" else os.O_RDONLY)
    return found


def memfd(data, seals=0xf):
    fd = os.memfd_create("table", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    os.write(fd, data)
    fcntl.fcntl(fd, fcntl.F_ADD_SEALS, seals)
    return fd


def another_namespace(flag, kind):
    """One that root made, as for a session: full of the host's files, and its user can hand it over."""
    with subprocess.Popen(["unshare", flag, "sh", "-c", "echo; exec cat"], stdin=subprocess.PIPE,
                          stdout=subprocess.PIPE) as made:
        made.stdout.readline()
        fd = os.open("/proc/%d/ns/%s" % (made.pid, kind), os.O_RDONLY)
        made.stdin.close()
    return fd


class Liar:
    """Listens where the broker did, as its user, and answers R_JOIN with these descriptors."""

    def __init__(self, host, kept):
        path = os.path.join(host.runtime, "private", "broker.sock")
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listener:
            listener.bind(path)
            listener.listen(4)
            self.pid = harness.in_child(self._serve, listener, kept)

    @staticmethod
    def _serve(listener, kept):
        os.setgroups([])
        os.setresgid(harness.BROKER_UID, harness.BROKER_UID, harness.BROKER_UID)
        os.setresuid(harness.BROKER_UID, harness.BROKER_UID, harness.BROKER_UID)
        present = sum(1 << PLACE[name] for name in kept)
        links = []  # a spawner whose broker goes waits for another one
        while True:
            peer, _ = listener.accept()
            with contextlib.suppress(wire.Hangup), peer:  # who only looks whether we live hangs up
                _, _, sequence, _, fds = wire.recv(peer)
                links += fds
                wire.send_raw(peer, wire.message("R_JOIN", {"present": present, "leases": 0}, wire.REPLY, sequence),
                              [kept[name] for name in KEPT if name in kept])

    def __enter__(self):
        return self

    def __exit__(self, *_):
        harness.kill_wait(self.pid, 9)
        with contextlib.suppress(ChildProcessError):
            os.waitpid(self.pid, 0)


def spawners(host):
    return [p for p in host.own_processes() if harness.comm(p).startswith("postern-spawner")]


def restart(host, kept):
    """postern-start beside this liar: its exit status, and what it said."""
    before = os.path.getsize(host.log_path)
    with Liar(host, kept):
        host.start(wait=False, extra=["--only", "spawner"])
        status = host.starter.wait(20)
        host.starter = None
        time.sleep(.2)  # a spawner that was started would say so in the log, or die
        running = spawners(host)
        result = status, open(host.log_path, encoding="utf-8").read()[before:], [look(p) for p in running]
        for pid in running:
            harness.kill_wait(pid)
    return result


def look(pid):
    """What a new spawner was put into."""
    def file(name):
        s = os.stat("/proc/%d/fd/%d" % (pid, harness.P_FIRST + PLACE[name]))
        return s.st_dev, s.st_ino
    return {"net": os.stat("/proc/%d/ns/net" % pid).st_ino, "shadow": os.path.exists("/proc/%d/root/etc/shadow" % pid),
            "files": {name: file(name) for name in ("EMPTY", "PROCFS", "PRIVATE", "INIT", "TABLE")}}


def lies(kept):
    """{what: (name in the kept set, the lie, the words of the refusal)}"""
    table = os.pread(kept["TABLE"], 1 << 20, 0)
    ids = table[:8] + (1000).to_bytes(4, "little") + table[12:]
    mount_text = "shows no template" if DIRECT else "a mount namespace that"
    found = {
        "a table that can be changed": ("TABLE", memfd(table, 0), "could still be changed"),
        "a table that can be written": ("TABLE", memfd(table, 0x7), "could still be changed"),
        "a table of other ids": ("TABLE", memfd(ids), "the id range"),
        "the host's mounts": ("MNTNS", os.open("/proc/self/ns/mnt", os.O_RDONLY), "a mount namespace that"),
        "a session's mounts": ("MNTNS", another_namespace("--mount", "mnt"), mount_text),
        "the mounts of a process": ("MNTNS", os.pidfd_open(1), "a mount namespace that"),
        "a network for the mounts": ("MNTNS", kept["SWITCH"], "a mount namespace that"),
        "the host's network": ("SWITCH", os.open("/proc/self/ns/net", os.O_RDONLY), "a network namespace that"),
        "mounts for the network": ("SWITCH", kept["MNTNS"], "a network namespace that"),
        "a user's namespace": ("USERNS", another_namespace("--user", "user"), "a user namespace that"),
        "another file for the lock": ("IDS_LOCK", os.open("/dev/null", os.O_RDWR), "a lock on the ids that"),
    }
    if not DIRECT:
        found["the host's own namespace"] = ("USERNS", os.open("/proc/self/ns/user", os.O_RDONLY), "a user namespace that")
    return found


@case
def a_broker_that_lies_to_a_new_spawner(host):
    """Everything that root or the spawner would go into, write to or believe is refused when it is not what a start made."""
    with without_daemons(host) as kept:
        for what, (name, fd, words) in lies(kept).items():
            status, said, running = restart(host, {**kept, name: fd})
            close_all({fd} - set(kept.values()))
            tap.true(status != 0 and words in said, "%s: refused with \"%s\", not %d: %s" % (what, words, status, said))
            tap.equal(running, [], "%s: spawners" % what)


@case
def what_a_start_makes_itself_is_not_taken_from_the_broker(host):
    """The empty network, procfs, the tun node, init and the table: whatever is handed over, the spawner gets others."""
    with without_daemons(host) as kept:
        lied = {"EMPTY": os.open("/proc/self/ns/net", os.O_RDONLY), "PROCFS": os.open("/", os.O_PATH),
                "PRIVATE": os.open("/dev", os.O_PATH), "INIT": os.open("/bin/true", os.O_RDONLY), "TABLE": kept["TABLE"]}
        status, said, running = restart(host, {**kept, **lied})
        tap.equal((status, len(running)), (0, 1), "the start's status, and the spawners: " + said)
        tap.true(running[0]["net"] != os.stat("/proc/self/ns/net").st_ino and not running[0]["shadow"],
                 "it sits in P: %r" % running[0])
        for name, fd in lied.items():
            s = os.fstat(fd)
            tap.true(running[0]["files"][name] != (s.st_dev, s.st_ino), "%s is not the one that was handed over" % name)
        close_all(lied.values())


def as_broker(host):
    """A link to the spawner, which takes us for its next broker."""
    own, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as start, other:
        start.connect(os.path.join(host.runtime, "private", "spawner.sock"))
        wire.send_raw(start, wire.message("R_JOIN"), [other.fileno()])
        close_all(wire.recv(start)[4])
    wire.send_raw(own, wire.message("S_HELLO", {"version": K["WIRE_VERSION"], "count": 0}, sequence=0))
    tap.equal(wire.recv(own)[0], "S_WELCOME", "what the spawner says first")
    return own


@case
def a_label_where_none_is_promised(host):
    """The spawner starts nothing with a label when its table has none (in the VM: nothing without one)."""
    labelled = os.path.exists("/sys/fs/selinux/enforce")
    harness.kill_wait(host.broker)
    host.starter.wait(5)
    lease = {"uid": host.first_uid + 7, "gid": host.first_uid + 8, "hypervisor": "mock", "vcpus": 1, "memory_mib": 16,
             "flags": K["WIRE_DIRECT"] if DIRECT else 0}
    label = "system_u:system_r:postern_vmm_t:s0:c1,c2"
    try:
        with as_broker(host) as link:
            for number, text, answer in ((1, "" if labelled else label, "S_FAILED"), (2, label if labelled else "", "S_STARTED")):
                control, far = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
                with control, far:
                    start = {"lease": {**lease, "id": number, "label": text}, "hypervisor": 0}
                    wire.send_raw(link, wire.message("S_START", start, sequence=0), [far.fileno()])
                    op, _, _, values, fds = wire.recv(link)
                    close_all(fds)
                tap.equal(op, answer, "lease with label \"%s\": %r" % (text, values))
                if op == "S_FAILED":
                    tap.equal(values["error"], errno.EINVAL, "its error")
    finally:
        host.start()


harness.main()
