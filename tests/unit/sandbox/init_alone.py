# SPDX-License-Identifier: Apache-2.0
# Runs: tests (root). postern-init without broker and spawner: this file is both of them, and the controller.
#
# A process is put into fresh namespaces, dropped as the spawner drops it (DESIGN 2.3), and executes postern-init; then the
# test speaks for the spawner (keeper) and for the user's controller (control).
import contextlib
import ctypes
import fcntl
import os
import signal
import socket
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "integration"))
import wire  # noqa: E402

X, Y = 0x70000AB1, 0x70000AB2
FD_CONTROL, FD_KEEPER, FD_PROCFS, FD_FAULT = 200, 201, 202, 203
SLOT_KVM, SLOT_VSOCK, SLOT_TAP, SLOT_VHOST, SLOT_ASSET = 5, 6, 16, 48, 80
PROFILES = {name: i for i, name in enumerate(["base", "init", "qemu", "mock", "broker", "spawner"])}
NS_ALL = 0x10000000 | 0x00020000 | 0x08000000 | 0x04000000 | 0x02000000 | 0x40000000
NS_PID = 0x20000000
MS_NOSUID_NODEV_NOEXEC = 2 | 4 | 8
SECUREBITS = 0xEF  # everything locked, KEEP_CAPS off

libc = ctypes.CDLL(None, use_errno=True)


def check(result, what):
    if result < 0:
        raise OSError(ctypes.get_errno(), what)
    return result


def prctl(*args):
    return libc.prctl(*[ctypes.c_ulong(a) for a in args])


def drop(faults):
    """What the spawner's child does after its maps are written. faults: steps of it to leave out."""
    check(libc.mount(b"none", b"/", None, 0x44000, None), "private")  # MS_REC|MS_PRIVATE
    check(libc.mount(b"run", b"/run", b"tmpfs", MS_NOSUID_NODEV_NOEXEC, b"size=64m,mode=0700"), "tmpfs /run")
    procfs = libc.syscall(430, b"proc", 1)  # fsopen
    check(procfs, "fsopen")
    check(libc.syscall(431, procfs, 1, b"subset", b"pid", 0), "subset=pid")
    check(libc.syscall(431, procfs, 6, None, None, 0), "create")
    tree = check(libc.syscall(432, procfs, 1, 14), "fsmount")
    os.dup2(tree, FD_PROCFS)
    if "inheritable" in faults:  # the one set that an exec as an ordinary uid does not empty by itself
        check(libc.capset((ctypes.c_uint32 * 2)(0x20080522, 0), (ctypes.c_uint32 * 6)(*[0xFFFFFFFF, 0xFFFFFFFF, 1, 0, 0, 0])), "inh")
    if "securebits" not in faults:
        check(prctl(28, SECUREBITS, 0, 0, 0), "securebits")
    if "bounding" not in faults:
        for cap in range(64):
            if prctl(24, cap, 0, 0, 0) < 0:
                break
    prctl(47, 4, 0, 0, 0)
    if "inheritable" not in faults:
        header = (ctypes.c_uint32 * 2)(0x20080522, 0)
        data = (ctypes.c_uint32 * 6)()
        check(libc.capset(header, data), "capset")
    if "nnp" not in faults:
        check(prctl(38, 1, 0, 0, 0), "no_new_privs")
    prctl(4, 0, 0, 0, 0)


class Sandbox:
    """One postern-init. fds: descriptors at their slots; faults: what the drop leaves out; step: what shall fail."""

    def __init__(self, binary, fds=None, faults=(), step=None, groups=()):
        self.binary = os.open(binary, os.O_RDONLY | os.O_CLOEXEC)
        self.control, init_control = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.keeper, init_keeper = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        fault = os.memfd_create("fault")
        os.write(fault, (wire.T.steps.index(step) if step else 0).to_bytes(4, "little"))
        ready_r, ready_w = os.pipe()
        go_r, go_w = os.pipe()
        self.helper = os.fork()
        if self.helper == 0:
            try:
                self._child(init_control, init_keeper, fault, ready_w, go_r, dict(fds or {}), faults, groups)
            except BaseException as e:  # noqa: B902 - a child must never return into the test
                os.write(2, ("init_alone: %r\n" % e).encode())
            os._exit(99)
        os.close(ready_w)
        os.read(ready_r, 1)
        for name, first in (("uid_map", X), ("gid_map", Y)):
            with open("/proc/%d/%s" % (self.helper, name), "w", encoding="ascii") as f:
                f.write("%d %d 1" % (first, first))
        os.write(go_w, b"g")
        for fd in (ready_r, go_r, go_w, fault):
            os.close(fd)
        init_control.close()
        init_keeper.close()

    def _child(self, control, keeper, fault, ready, go, fds, faults, groups):
        check(libc.unshare(NS_ALL), "unshare")
        os.write(ready, b"r")
        os.read(go, 1)
        os.setgroups(list(groups))
        os.setresgid(Y, Y, Y)
        os.setresuid(X, X, X)
        check(libc.unshare(NS_PID), "unshare pid")
        child = os.fork()
        if child:
            os.closerange(0, 2)
            os.closerange(3, 1000)
            _, status = os.waitpid(child, 0)
            os._exit(os.waitstatus_to_exitcode(status) & 0xFF)
        high = [fcntl.fcntl(s, fcntl.F_DUPFD, 300) for s in (control, keeper, fault, self.binary)]
        sources = {slot: fcntl.fcntl(fd, fcntl.F_DUPFD, 300) for slot, fd in fds.items()}
        drop(faults)
        for number, fd in ((FD_CONTROL, high[0]), (FD_KEEPER, high[1]), (FD_FAULT, high[2])):
            os.dup2(fd, number)
        for slot, fd in sources.items():
            os.dup2(fd, slot)
        os.set_inheritable(high[3], False)
        os.execve(high[3], ["postern-init"], {})

    def boot(self, path="/usr/bin/perl", profile="mock", flags=0, uid=X, gid=Y, **more):
        values = {"lease": {"id": 7, "uid": uid, "gid": gid, "vcpus": 1, "memory_mib": 1, "flags": flags, "hypervisor": "mock",
                            "grants": bytes([0, 0, 0, 0, 0, 0, 1, 0]), "label": more.pop("label", "")},
                  "profile": PROFILES[profile], "path": path}
        values.update(more)
        wire.send_raw(self.keeper, wire.message("K_BOOT", values))

    def plan(self, argv, assets=(), fds=(), **override):
        text = b"".join(w.encode() + b"\0" for w in argv)
        values = {"word_count": len(argv), "word_bytes": len(text), "asset_count": len(fds), "words": text,
                  "assets": [dict(zip(("name", "use", "writable"), a)) for a in assets]}
        values.update(override)
        wire.send_raw(self.control, wire.message("C_PLAN", values), list(fds))

    def say(self, op, values=None, fds=()):
        wire.send_raw(self.control, wire.message(op, values), list(fds))

    def hear(self, wanted, timeout=10):
        name, _, _, values, fds = wire.recv(self.control, timeout)
        if name != wanted:
            step = wire.T.steps[values["step"]] if "step" in values else ""
            raise AssertionError("expected %s, got %s %s %s" % (wanted, name, step, values.get("error")))
        return (values, fds) if fds else values

    def perl(self, script, assets=(), fds=()):
        """Start perl as the VMM; returns its channels and the facts."""
        self.plan(["perl", "-e", script], assets, fds)
        _, ends = self.hear("C_CHANNELS")
        self.control_fd, self.console_fd, self.log_fd = [socket.socket(fileno=f) for f in ends]
        for s in (self.control_fd, self.console_fd, self.log_fd):
            s.settimeout(10)
        return self.hear("C_FACTS")

    def log(self):
        out = b""
        while True:
            data = self.log_fd.recv(4096)
            if not data:
                return out.decode()
            out += data

    def failed(self):
        """The step named in C_FAILED, and whether the keeper was told the same."""
        name, _, _, values, _ = wire.recv(self.control)
        while name == "C_CHANNELS":
            name, _, _, values, _ = wire.recv(self.control)
        assert name == "C_FAILED", name
        kname, _, _, kvalues, _ = wire.recv(self.keeper)
        assert kname == "K_FAILED" and kvalues["step"] == values["step"], (kname, kvalues)
        return wire.T.steps[values["step"]], values["error"]

    def wait(self):
        """Exit status of init (as its helper saw it)."""
        status = os.waitstatus_to_exitcode(os.waitpid(self.helper, 0)[1])
        self.helper = 0
        return status

    def close(self):
        for s in (self.control, self.keeper):
            s.close()
        if self.helper:
            for task in os.listdir("/proc/%d/task" % self.helper):
                with open("/proc/%d/task/%s/children" % (self.helper, task), encoding="ascii") as f:
                    children = f.read().split()
                for pid in children:
                    with contextlib.suppress(ProcessLookupError):  # it may have ended by itself
                        os.kill(int(pid), signal.SIGKILL)
            self.wait()
        os.close(self.binary)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()
