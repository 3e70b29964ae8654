# SPDX-License-Identifier: Apache-2.0
# Runs: tests (root, inside the test VM). The Postern that is installed there, behind the interface of harness.Host.
#
# With POSTERN_INSTALLED in the environment, harness.main() makes one of these: the files of tests/integration and
# tests/security then run unchanged against the programs in /usr, with /run/postern and /etc/postern/policy.json. Where
# SELinux is on, what a user does runs in a user's context, and postern-start enters its domain by its own label.
import contextlib
import json
import os
import re
import shutil
import socket
import stat
import subprocess
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.append(os.path.join(HERE, "..", "..", "integration"))
import harness  # noqa: E402
import tap  # noqa: E402
from harness import ALICE, BOB, CAROL  # noqa: E402

SELINUX = "/sys/fs/selinux"
UNCONFINED = "unconfined_u:unconfined_r:unconfined_t:s0-s0:c0.c1023"
USER_T = "user_u:user_r:user_t:s0"
STAFF_T = "staff_u:staff_r:staff_t:s0-s0:c0.c1023"
NAMES = {ALICE: "alice", BOB: "bob", CAROL: "carol"}
LIBEXEC, FAKES = "/usr/libexec/postern", "/usr/libexec/postern-test"
DAEMONS = re.compile(r"^/usr/(s?bin/postern(-start|-broker)?(-fault)?|libexec/postern(-test)?/[^/]+)$")


def getenforce():
    """"Enforcing", "Permissive" or "Disabled": what the kernel says."""
    try:
        with open(SELINUX + "/enforce", encoding="ascii") as f:
            return "Enforcing" if f.read(1) == "1" else "Permissive"
    except FileNotFoundError:
        return "Disabled"


def has_selinux():
    return getenforce() != "Disabled"


def context(pid="self"):
    """The label of a process; None when it is gone or there are no labels."""
    try:
        with open("/proc/%s/attr/current" % pid, encoding="ascii") as f:
            return f.read().rstrip("\0\n")
    except OSError:
        return None


def kernel():
    """(6, 1) or (6, 12)"""
    return tuple(int(n) for n in os.uname().release.split(".")[:2])


def kernel_log():
    """[(sequence, text)] of everything the kernel still has."""
    found = []
    fd = os.open("/dev/kmsg", os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        while True:
            try:
                record = os.read(fd, 16384).decode("utf-8", "replace")
            except BlockingIOError:
                return found
            except BrokenPipeError:  # overwritten under our hands: the next read goes on with what there is
                continue
            head, _, text = record.partition(";")
            found.append((int(head.split(",")[1]), text.split("\n")[0]))
    finally:
        os.close(fd)


def avc_mark():
    """A place in the kernel's log for avc_since()."""
    log = kernel_log()
    return log[-1][0] if log else -1


def avc_since(mark, pattern=r"postern_"):
    """Denials since the mark in which the pattern occurs in the source or target context or the program's name."""
    lines = [text for number, text in kernel_log() if number > mark and "avc:" in text and "denied" in text]
    return [line for line in lines if re.search(pattern, line)]


class Installed(harness.Host):
    """The installed programs, configured and started. There is one per VM."""

    def _claim_slot(self):
        super()._claim_slot()
        if self.slot != 0:
            raise RuntimeError("another test uses what is installed")

    def _choose_places(self):
        self.dest, self.work, self.runtime = "/usr", "/run/postern-test", "/run/postern"
        self.policy_path = "/etc/postern/policy.json"
        self.contexts = {}

    def _is_ours(self, path):
        return DAEMONS.match(path) is not None

    def _clean_files(self):
        shutil.rmtree(self.work, ignore_errors=True)
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self.policy_path)

    def _install(self):
        os.mkdir(self.work, 0o755)
        os.makedirs(os.path.dirname(self.policy_path), 0o755, exist_ok=True)
        self.bin, self.libexec, self.fakes = "/usr/bin/postern", LIBEXEC, FAKES
        self.start_program = "/usr/sbin/postern-start" + ("-fault" if self.fault else "")
        self.broker_program = "/usr/sbin/postern-broker"
        for program in (self.bin, self.start_program, self.broker_program):
            if not os.path.exists(program):
                raise RuntimeError(program + " is not installed in this VM")
        nodes_as_udev_makes_them()

    def default_policy(self):
        policy = super().default_policy()
        policy["template"] = {"binds": []}  # all of it is below /usr
        return policy

    def _make_home(self, uid):
        path = "/home/" + NAMES[uid]
        shutil.rmtree(path, ignore_errors=True)
        os.mkdir(path, 0o700)
        os.chown(path, uid, uid)
        self._label(path, uid, "user_home_dir_t")
        return path

    def user_file(self, uid, name, data=b"", mode=0o600):
        path = super().user_file(uid, name, data, mode)
        self._label(path, uid, "user_home_t")
        return path

    def user_copy(self, uid, source, name=None, mode=0o600):
        """A file of the user's with the contents of one that is root's."""
        path = os.path.join(self.homes[uid], name or os.path.basename(source))
        shutil.copyfile(source, path)
        os.chmod(path, mode)
        os.chown(path, uid, uid)
        self._label(path, uid, "user_home_t")
        return path

    def _label(self, path, uid, kind):
        # As if the user had made it: Debian's policy keeps users of SELinux apart by that name.
        if has_selinux():
            owner = self.context_of(uid).split(":")[0]
            os.setxattr(path, "security.selinux", ("%s:object_r:%s:s0\0" % (owner, kind)).encode())

    def _mounts_below(self):
        return (self.work, self.runtime)

    # -- users

    def context_of(self, uid):
        return self.contexts.get(uid, UNCONFINED)

    def set_context(self, uid, label):
        """From now on this user's commands run with this label; what is in the home gets the owner that goes with it."""
        self.contexts[uid] = label
        for path in [self.homes[uid], *harness.files_below(self.homes[uid])]:
            self._label(path, uid, "user_home_dir_t" if path == self.homes[uid] else "user_home_t")

    def user_prefix(self, uid):
        return ["runcon", self.context_of(uid)] if has_selinux() else []

    def as_user(self, uid, *argv, **more):
        """Any program as a user, in the user's context. Returns CompletedProcess."""
        return subprocess.run([*self.user_prefix(uid), *argv], user=uid, group=uid, extra_groups=[], env=self.env(uid),
                              cwd=self.homes[uid], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                              stderr=subprocess.PIPE, text=True, **more)

    # -- life

    def _log_end(self):
        # A confined program may not write a file of the test's, but it may write its pipe.
        reader = subprocess.Popen(["cat"], stdin=subprocess.PIPE, stdout=open(self.log_path, "ab"), cwd="/")
        return reader.stdin

    def switch_links(self):
        return links_of("/proc/%d/fd/%d" % (self.spawner, harness.P_FIRST + harness.P_SWITCH))


def enter(path):
    """setns(2), which Python has only from 3.12 on."""
    import ctypes
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    if ctypes.CDLL(None, use_errno=True).setns(fd, 0) != 0:
        raise OSError(ctypes.get_errno(), "setns " + path)
    os.close(fd)


def inside(launch, label, words, uid=None):
    """What a program is told that is put into a sandbox from outside: its mounts, its uid, the label that is asked for.
    {word: result}"""
    path = "/usr/libexec/postern-test/hostile-vmm"
    read, write = socket.socketpair()
    pid = os.fork()
    if pid == 0:
        with contextlib.suppress(BaseException):
            read.close()
            with open("/proc/thread-self/attr/exec", "w", encoding="ascii") as f:
                f.write(label)  # before: in there is no procfs that would show us
            enter("/proc/%d/ns/mnt" % launch.vmm_pid())
            os.setgroups([])
            who = launch.lease["uid"] if uid is None else uid
            os.setresgid(who, who, who)
            os.setresuid(who, who, who)
            os.dup2(write.fileno(), 1)
            os.execv(path, ["hostile-vmm", *words])
        os._exit(111)
    write.close()
    text = b""
    with read:
        read.settimeout(30)
        while True:
            data = read.recv(65536)
            if not data:
                break
            text += data
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    lines = [json.loads(line) for line in text.decode().splitlines() if line.startswith("{")]
    tap.true({"end": 1} in lines, "the program inside said all it had to say; status %d: %r" % (status, text[-200:]))
    return {line["did"]: line["r"] for line in lines if "did" in line}


def links_of(net):
    """Interfaces of a network namespace, asked by a child that enters it: `ip` would change its domain, and may not."""
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        with contextlib.suppress(BaseException):
            enter(net)
            os.write(write, json.dumps(netlink_links()).encode())
        os._exit(0)
    os.close(write)
    with os.fdopen(read, "rb") as f:
        text = f.read()
    os.waitpid(pid, 0)
    tap.true(text, "the interfaces of %s could be read" % net)
    return json.loads(text)


def netlink_links():
    """{name: {"ifname", "ifindex", "address"}} by RTM_GETLINK."""
    import struct
    found, done = {}, False
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0) as s:
        s.send(struct.pack("=IHHII", 32, 18, 0x301, 1, 0) + bytes(16))
        while not done:
            data = s.recv(1 << 16)
            while data:
                size, kind = struct.unpack_from("=IH", data)
                if kind == 3 or kind == 2:
                    done = True
                    break
                (index,) = struct.unpack_from("=i", data, 20)
                link, at = {"ifindex": index, "ifname": "?"}, 32
                while at + 4 <= size:
                    length, attribute = struct.unpack_from("=HH", data, at)
                    value = data[at + 4: at + length]
                    if attribute == 3:
                        link["ifname"] = value.rstrip(b"\0").decode()
                    elif attribute == 1:
                        link["address"] = value.hex(":")
                    at += (length + 3) & ~3
                found[link["ifname"]] = link
                data = data[(size + 3) & ~3:]
    return found


def nodes_as_udev_makes_them():
    """Without udev these nodes are root's alone; with it (Debian's rules) they are the group's."""
    with open("/etc/group", encoding="utf-8") as f:
        groups = {line.split(":")[0]: int(line.split(":")[2]) for line in f}
    for path in ("/dev/kvm", "/dev/vhost-net", "/dev/vhost-vsock"):
        with contextlib.suppress(FileNotFoundError):
            found = os.stat(path)
            if found.st_gid == 0 and stat.S_ISCHR(found.st_mode) and "kvm" in groups:
                os.chown(path, 0, groups["kvm"])
                os.chmod(path, 0o660)
