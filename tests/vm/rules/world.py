# SPDX-License-Identifier: Apache-2.0
# Runs: tests (root, unconfined_t, inside the test VM). What the named tests of docs/selinux-rules.md stand on: their list,
# the Postern that they try, and ways to be in a domain of it.
import contextlib
import ctypes
import fcntl
import json
import mmap
import os
import shutil
import signal
import socket
import struct
import sys
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [os.path.join(HERE, "../suite"), os.path.join(HERE, "../../integration")]
import harness  # noqa: E402
import installed  # noqa: E402
import tap  # noqa: E402
import wire  # noqa: E402

C = wire.T.constants
LINKS = ("bin", "lib", "lib64", "sbin")
PATIENCE = 8  # seconds: whatever takes longer has failed
SLOT_VSOCK, SLOT_TAP, SLOT_VHOST = 6, 16, 48
SLOT_ASSET = SLOT_VHOST + C["WIRE_TAP_FDS_MAX"]
SET_CID, SET_OWNER, GET_FEATURES = 0x4008AF60, 0xAF01, 0x8008AF00
TUNSETIFF, TUNSETPERSIST, TUNSETQUEUE = 0x400454CA, 0x400454CB, 0x400454D9
TUNGETIFF, TUNGETFEATURES = 0x800454D2, 0x800454CF
NIC = {"network": "lan", "queues": 1}
IFF_TAP, IFF_NO_PI, IFF_ATTACH_QUEUE, IFF_DETACH_QUEUE = 2, 0x1000, 0x200, 0x400

TESTS = {}   # name: function
FRESH = set()  # names of those that start Postern themselves
NEEDED = {}  # group: name of its test
LISTS = {}   # the same for what cannot depend on a boolean


def test(*groups, fresh=False, lists=()):
    """A test, the groups that it notices, and those whose unconditional part it notices."""
    def add(function):
        TESTS[function.__name__] = function
        if fresh:
            FRESH.add(function.__name__)
        for group in groups:
            NEEDED[group] = function.__name__
        for group in lists:
            LISTS[group] = function.__name__
        return function
    return add


class World(installed.Installed):
    """The installed Postern, with a policy that grants everything there is."""

    def default_policy(self):
        config = super().default_policy()
        config["networks"]["lan"].update(vhost=True, max_queues=2)
        config["hypervisors"]["hostile-qemu"] = {"path": os.path.join(self.fakes, "hostile-vmm"), "driver": "qemu"}
        config["rules"][0].update(vsock=True, hypervisors=list(config["hypervisors"]))
        return config

    def wait_ready(self):
        tap.wait_for(self._ready, "the broker answers", PATIENCE)

    def wipe(self):
        """As before the first start, whatever a failed one has left."""
        for _ in range(100):
            left = self.own_processes()
            for pid in left:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            if self.starter is not None and self.starter.poll() is not None:
                self.starter = None
            if not left and self.starter is None:
                break
            time.sleep(0.05)
        shutil.rmtree(self.runtime, ignore_errors=True)
        for path in ("/run/postern-ids.lock", self.log_path):
            with contextlib.suppress(FileNotFoundError):
                os.unlink(path)
        harness.remove_cgroups(self.tag)


@contextlib.contextmanager
def started(world, **more):
    """Postern, from its start to its end. After a failure it is left as it is: guest.py wipes it away."""
    world.start(wait=False, **more)
    world.wait_ready()
    yield world
    world.ended = world.stop()


def labels(world):
    """The domain and level of each daemon."""
    both = (("broker", world.broker), ("spawner", world.spawner))
    return {name: installed.context(pid).split(":", 2)[1:] for name, pid in both}


@contextlib.contextmanager
def as_label(kind, value):
    """What this process makes meanwhile has the label."""
    write_attribute(kind, value)
    try:
        yield
    finally:
        write_attribute(kind, "")


def write_attribute(kind, value):
    fd = os.open("/proc/thread-self/attr/" + kind, os.O_WRONLY)
    try:
        os.write(fd, value.encode() + b"\0" if value else b"\n")
    finally:
        os.close(fd)


def inside(domain, level, function, uid=0):
    """Run a function in a child that has entered a domain. It fails as the function does."""
    why = mmap.mmap(-1, 4096)  # not every domain may use our pipes
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            if uid:
                os.setgroups([])
                os.setresgid(uid, uid, uid)
                os.setresuid(uid, uid, uid)
                ctypes.CDLL(None).prctl(4, 1)  # PR_SET_DUMPABLE: else its own /proc is root's
            write_attribute("current", "unconfined_u:unconfined_r:%s:%s" % (domain, level))
            function()
            status = 0
        except BaseException as trouble:
            why.write(("%s: %s" % (type(trouble).__name__, trouble)).encode()[:4000])
        finally:
            os._exit(status)
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    said = why[:].rstrip(b"\0").decode("utf-8", "replace")
    why.close()
    tap.true(status == 0, "in %s: status %d, %s" % (domain, status, said))


@contextlib.contextmanager
def device(path):
    fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    try:
        yield fd
    finally:
        os.close(fd)


def ioctl(fd, request, argument=0):
    """"OK" or an errno's name."""
    import errno
    try:
        fcntl.ioctl(fd, request, argument)
        return "OK"
    except OSError as why:
        return errno.errorcode[why.errno]


@contextlib.contextmanager
def a_tap():
    with device("/dev/net/tun") as fd:
        fcntl.ioctl(fd, TUNSETIFF, struct.pack("16sH22x", b"rules%d", IFF_TAP | IFF_NO_PI))
        yield fd


def asked(domain, level, fd, requests):
    def child():
        tap.equal([ioctl(fd, *request) for request, _ in requests], [expected for _, expected in requests], "ioctls")
    inside(domain, level, child)


def tried(launch, words, seconds=PATIENCE):
    """What a hostile VMM found out: {word: result}. It goes on with "hold"."""
    log = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM, 0, fileno=os.dup(launch.log))  # asks nobody what it is
    log.settimeout(seconds)
    text = b""
    with log:
        while b'{"try":"hold"}' not in text:
            data = log.recv(65536)
            tap.true(data, "the hostile VMM lives: %r" % text[-300:])
            text += data
    lines = [json.loads(line) for line in text.decode().splitlines() if line.startswith("{")]
    results = {line["did"]: line["r"] for line in lines if "did" in line}
    return [results[word] for word in words]


def hostile(world, words, expected, what, hypervisor="hostile-qemu", **more):
    with world.launch(hypervisor, [*words, "hold"], **more) as launch:
        tap.equal(tried(launch, words), expected, what)


def refused(world):
    """A launch that fails inside, so that the spawner has something to say."""
    with world.launch("mock", plan=False) as launch:
        wire.send_raw(launch.control, b"nonsense")
        with contextlib.suppress(harness.LaunchFailed, wire.Hangup):
            launch._wait_for("C_FACTS", 2)
