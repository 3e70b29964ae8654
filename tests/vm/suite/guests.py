# SPDX-License-Identifier: Apache-2.0
# Runs: tests (root, inside the test VM). Linux guests with every grant there is, and what the host asks about their devices.
import contextlib
import ctypes
import errno
import fcntl
import os
import socket
import struct
import time

import harness
import installed
import tap

FILES = os.path.join(harness.ROOT, "guest")  # vm run --guest
SHELL_PORT = 5000
SET_CID, TUNSETIFF = 0x4008AF60, 0x400454CA
IFF_TAP, IFF_NO_PI, IFF_MULTI_QUEUE, IFF_VNET_HDR = 2, 0x1000, 0x100, 0x4000


class Guest:
    """A Linux guest of a user: NICs on "lan" (isolated) and "open" (not), vsock, KVM, limits of its own."""

    def __init__(self, host, uid, name, number, queues, vcpus):
        self.host, self.uid, self.name, self.queues, self.vcpus = host, uid, name, queues, vcpus
        self.ip = ["10.98.%d.%d" % (net, 10 + number) for net in (0, 2)]
        self.memory = 160
        nics = [{"type": "tap", "network": net, "queues": q, "vhost": "require"} for net, q in zip(("lan", "open"), queues)]
        words = 'quiet postern.ip=%s/24 postern.ip1=%s/24 postern.then=wait postern.cmd="%s"' % (*self.ip,
            "modprobe vmw_vsock_virtio_transport; vsock serve %d & echo HAS-CID $(vsock cid)" % SHELL_PORT)
        files = {f: host.user_copy(uid, os.path.join(FILES, f)) for f in ("vmlinuz", "initrd.img")}
        spec = host.spec(uid, hypervisor="qemu", kernel=files["vmlinuz"], initrd=files["initrd.img"], accel="kvm",
                         memory=self.memory, vcpus=vcpus, nics=nics, vsock="require", cmdline=words,
                         limits={"memory": 512, "pids": 64, "cpu_percent": 200})
        self.spec = spec

    def start(self):
        self.host.ok("run", self.spec, "--detach", "--name", self.name, uid=self.uid, timeout=120)
        self.lease = self.host.leases_of(self.uid)[0]
        (self.vmm,) = harness.children(self.lease["init_pid"])
        self.cid = self.lease["cid"]

    def wait_ready(self):
        tap.wait_for(lambda: "HAS-CID" in self.console(), "guest %s is up" % self.name, 240, 1)

    def console(self):
        return self.host.ok("logs", self.name, "--console", uid=self.uid)

    def run(self, command, seconds=60):
        """Run a command in the guest, by vsock. Returns (status, output)."""
        text = say(self.cid, SHELL_PORT, "run " + command, seconds)
        output, _, status = text.rpartition("status ")
        return int(status), output

    def ok(self, command):
        status, output = self.run(command + " 2>&1")
        tap.equal(status, 0, "%s in guest %s: %s" % (command, self.name, output))
        return output

    def threads(self):
        """{tid: name} of the VMM's threads and of whatever the kernel put beside them, in the sandbox's cgroup."""
        with open(cgroup_file(self.lease, "cgroup.threads"), encoding="ascii") as f:
            return {int(tid): harness.comm(int(tid)) for tid in f}


def cgroup_file(lease, name):
    return "/sys/fs/cgroup" + lease["cgroup"].removeprefix("/sys/fs/cgroup") + "/" + name


def say(cid, port, text, seconds=60):
    with socket.socket(socket.AF_VSOCK, socket.SOCK_STREAM) as s:
        s.settimeout(seconds)
        s.connect((cid, port))
        s.sendall(text.encode())
        answer = b""
        while True:
            data = s.recv(4096)
            if not data:
                return answer.decode("utf-8", "replace")
            answer += data


def take_cid(cid):
    """What another process that opens the device is told when it asks for this context id: "OK" or an errno's name."""
    fd = os.open("/dev/vhost-vsock", os.O_RDWR | os.O_CLOEXEC)
    try:
        fcntl.ioctl(fd, SET_CID, struct.pack("=Q", cid))
        return "OK"
    except OSError as why:
        return errno.errorcode[why.errno]
    finally:
        os.close(fd)


def ping(address, seconds=5):
    """An echo request of the host's own; True when it is answered. (`ping` would change its domain.)"""
    packet = bytearray(struct.pack("!BBHHH", 8, 0, 0, os.getpid() & 0xFFFF, 1) + b"postern!")
    total = sum(struct.unpack("!%dH" % (len(packet) // 2), packet))
    total = (total >> 16) + (total & 0xFFFF)
    packet[2:4] = struct.pack("!H", ~(total + (total >> 16)) & 0xFFFF)
    with socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP) as s:
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            s.sendto(packet, (address, 0))
            s.settimeout(1)
            with contextlib.suppress(TimeoutError):
                while True:
                    data, peer = s.recvfrom(2048)
                    if peer[0] == address and data[20] == 0:
                        return True
    return False


def attach(host, uid, name, flags):
    """TUNSETIFF on an existing tap of the switch namespace by a uid with no capability: "OK" or an errno's name."""
    net = "/proc/%d/fd/%d" % (host.spawner, harness.P_FIRST + harness.P_SWITCH)
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        said = b"?"
        try:
            tun = os.open("/dev/net/tun", os.O_RDWR)  # by root, before: the node is not the question here
            installed.enter(net)
            os.setgroups([])
            os.setresgid(uid, uid, uid)
            os.setresuid(uid, uid, uid)
            try:
                request = struct.pack("16sH22x", name.encode(), IFF_TAP | IFF_NO_PI | IFF_VNET_HDR | flags)
                fcntl.ioctl(tun, TUNSETIFF, request)
                said = b"OK"
            except OSError as why:
                said = errno.errorcode[why.errno].encode()
        finally:
            os.write(write, said)
            os._exit(0)
    os.close(write)
    with os.fdopen(read, "rb") as f:
        said = f.read().decode()
    os.waitpid(pid, 0)
    return said


@contextlib.contextmanager
def borrowed(pid, number):
    """A descriptor of another process, as root takes it."""
    libc = ctypes.CDLL(None, use_errno=True)
    pidfd = os.pidfd_open(pid)
    fd = libc.syscall(438, pidfd, number, 0)
    os.close(pidfd)
    tap.true(fd >= 0, "root has descriptor %d of %d" % (number, pid))
    try:
        yield fd
    finally:
        os.close(fd)
