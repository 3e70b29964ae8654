# SPDX-License-Identifier: Apache-2.0
# Runs: tests (root, unconfined_t, inside the test VM). The named tests of docs/selinux-rules.md.
#
# Each is short, passes with the whole module, and fails when one of the groups is missing that it is said to need. The first
# line of its text is what the table says does not work then.
import contextlib
import ctypes
import fcntl
import json
import mmap
import os
import pty
import re
import shutil
import signal
import socket
import struct
import subprocess
import sys
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [os.path.join(HERE, "../suite"), os.path.join(HERE, "../../integration")]
import harness  # noqa: E402
import installed  # noqa: E402
import kernel  # noqa: E402
import tap  # noqa: E402
import wire  # noqa: E402
from harness import ALICE  # noqa: E402

C = wire.T.constants
LINKS = ("bin", "lib", "lib64", "sbin")
PATIENCE = 8  # seconds: whatever takes longer has failed
SLOT_VSOCK, SLOT_TAP, SLOT_VHOST = 6, 16, 48
SLOT_ASSET = SLOT_VHOST + C["WIRE_TAP_FDS_MAX"]
SET_CID, SET_OWNER, GET_FEATURES = 0x4008AF60, 0xAF01, 0x8008AF00
TUNSETIFF, TUNSETPERSIST, TUNSETQUEUE = 0x400454CA, 0x400454CB, 0x400454D9
TUNGETIFF, TUNGETFEATURES = 0x800454D2, 0x800454CF
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


# ---- start --------------------------------------------------------------------------------------------------------------

@test("enter-start", "enter-broker", "enter-spawner", "start-root", "start-policy", "start-template", "start-network",
      "start-ids", "start-runtime", "start-sockets", "start-tables", "broker-run", "spawner-run",
      fresh=True, lists=("enter-start", "start-runtime"))
def start_fresh(world):
    """Postern starts: both daemons in their domains, at level s0, and a client is answered."""
    with started(world):
        expected = {"broker": ["system_r", "postern_t:s0"], "spawner": ["system_r", "postern_spawner_t:s0"]}
        tap.equal(labels(world), expected, "domains")
        kinds = {name: label(os.path.join(world.runtime, name)) for name in ("", "private", "broker", "broker.sock")}
        tap.equal(kinds, {"": "postern_runtime_t", "private": "postern_private_t", "broker": "postern_state_t",
                          "broker.sock": "postern_runtime_t"}, "files")
        world.launch("mock").close()
    tap.equal(world.ended, [], "left after the end")


def label(path):
    return os.getxattr(path, "security.selinux").decode().split(":")[2]


@test("start-links", fresh=True)
def template_has_the_hosts_links(world):
    """/bin, /lib and their like lead into /usr inside a sandbox, as they do outside."""
    with started(world):
        root = "/proc/%d/root/" % world.spawner
        found = {name: os.readlink(root + name) for name in LINKS if os.path.islink(root + name)}
        tap.equal(found, {name: "usr/" + name for name in LINKS}, "links")


@test("start-cgroup", "start-probe", fresh=True)
def start_finds_what_the_host_has(world):
    """A start finds KVM, vhost, SELinux and cgroups, so that they can be granted."""
    with started(world):
        expected = {"LABEL": "GRANTED", "KVM": "BY_NODE", "VHOST_NET": "BY_FD", "VHOST_VSOCK": "BY_FD",
                    "CGROUP": "BY_CGROUP2"}
        outcomes = grants(world)
        tap.equal({name: outcomes[name] for name in expected}, expected, "grants")


def grants(world):
    with world.session() as session:
        reply, _ = session.call("HOST")
        return dict(zip(wire.T.grants, (wire.T.outcomes[n] for n in reply["outcomes"])))


def starter(world, *words, **more):
    """postern-start with other options than the world's own."""
    return subprocess.Popen([world.start_program, *words, "--runtime", world.runtime, "--policy", world.policy_path],
                            stdin=subprocess.DEVNULL, cwd="/", env={"PATH": "/usr/sbin:/usr/bin"}, **more)


@test("start-terminal", fresh=True)
def start_says_on_a_terminal(world):
    """postern-start --check is read on a terminal and in a pipe."""
    ours, theirs = pty.openpty()
    process = starter(world, "--check", stdout=theirs, stderr=theirs)
    os.close(theirs)
    tap.true(b"kvm" in drain(ours), "it speaks on a terminal")
    process.wait()
    with starter(world, "--check", stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as process:
        tap.true(b"kvm" in process.stdout.read(), "it speaks in a pipe")


def drain(fd):
    text = b""
    with contextlib.suppress(OSError):  # EIO: the other side of the terminal has closed
        while data := os.read(fd, 65536):
            text += data
    os.close(fd)
    return text


@test("start-modules", fresh=True)
def start_loads_modules(world):
    """Modules that a sandbox needs are loaded by start: afterwards nobody can."""
    subprocess.run(["rmmod", "vhost_vsock"], check=True)
    try:
        with starter(world, "--check", stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as process:
            process.stdout.read()
        tap.true(os.path.exists("/sys/module/vhost_vsock"), "vhost_vsock is loaded")
    finally:
        subprocess.run(["modprobe", "vhost_vsock"], check=True)
        tap.wait_for(lambda: os.path.exists("/dev/vhost-vsock"), "the node is there")
        subprocess.run(["restorecon", "-R", "/dev"], check=True)
        installed.nodes_as_udev_makes_them()


@test("start-log", fresh=True)
def start_logs_to_a_file(world):
    """--log FILE: both daemons write to it."""
    path = "/var/log/postern.log"
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)
    with started(world, extra=["--log", path]):
        refused(world)
        tap.equal(label(path), "postern_log_t", "label of the file")
        tap.wait_for(lambda: says_both(path), "both daemons are heard", 2)


def refused(world):
    """A launch that fails inside, so that the spawner has something to say."""
    with world.launch("mock", plan=False) as launch:
        wire.send_raw(launch.control, b"nonsense")
        with contextlib.suppress(harness.LaunchFailed, wire.Hangup):
            launch._wait_for("C_FACTS", 2)


def says_both(path):
    with open(path, encoding="utf-8", errors="replace") as f:
        text = f.read()
    return "postern-broker:" in text and "postern-spawner:" in text


@test("user-namespace", fresh=True)
def start_with_the_user_namespace_class(world):
    """On a base policy that knows the class, P and sandboxes are made."""
    with started(world):
        world.launch("mock").close()


@test("restart", fresh=True)
def restart_joins(world):
    """A new half joins the living one, and the sandbox lives on, whichever was killed."""
    with started(world):
        survive = C["WIRE_SURVIVE"]
        with world.launch("hostile", ["hold"], flags=survive) as launch:
            for name in ("broker", "spawner"):
                pid = getattr(world, name)
                harness.kill_wait(pid)
                other = world.spawner if name == "broker" else world.broker
                if world.starter.pid == pid:
                    world.starter.wait()
                starter, world.starter = world.starter, None
                world.start(wait=False)
                if name == "spawner":  # the new start ends when it has joined a spawner to the living broker
                    world.starter.wait(PATIENCE)
                    world.starter = starter
                world.wait_ready()
                tap.equal(world.spawner if name == "broker" else world.broker, other, "the other half")
                tap.true(launch.uuid in [lease["uuid"] for lease in world.leases_of(ALICE)], "its lease is known")
                tap.wait_for(lambda: accepted(world), "the two halves have found each other", PATIENCE)


@test("spawner-pid", fresh=True)
def spawner_pid_is_told(world):
    """A service manager that keeps the spawner by itself reads which process that is."""
    path = os.path.join(world.runtime, "spawner.pid")

    def manager():
        with open(path, encoding="ascii") as f:
            tap.equal(int(f.read()), world.spawner, "process in the file")
        os.unlink(path)
    with started(world):
        harness.kill_wait(world.spawner)
        with starter(world, "--only", "spawner", stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
            tap.equal(process.wait(PATIENCE), 0, "exit status")
        inside("init_t", "s0", manager)


def accepted(world):
    with contextlib.suppress(wire.Refused):
        world.launch("mock").close()
        return True
    return False


@test("broker-notify", fresh=True)
def readiness_is_told(world):
    """READY=1 reaches the service manager."""
    path = "/run/systemd/notify"
    os.makedirs("/run/systemd", exist_ok=True)
    with as_label("sockcreate", "system_u:system_r:init_t:s0"):
        manager = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    with manager:
        manager.bind(path)
        os.chmod(path, 0o777)
        subprocess.run(["restorecon", "-RF", "/run/systemd"], check=True)
        manager.settimeout(PATIENCE)
        try:
            with environment(NOTIFY_SOCKET=path), started(world):
                manager.settimeout(1)
                tap.true(b"READY=1" in manager.recv(4096), "READY=1")
        finally:
            shutil.rmtree("/run/systemd")


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


@contextlib.contextmanager
def environment(**more):
    world_popen = subprocess.Popen

    class Popen(world_popen):
        def __init__(self, *args, env=None, **rest):
            super().__init__(*args, env=dict(env or {}, **more), **rest)
    subprocess.Popen = Popen
    try:
        yield
    finally:
        subprocess.Popen = world_popen


@test("start-daemon", fresh=True)
def daemon_returns_when_it_works(world):
    """postern-start --daemon returns when clients can connect, and says that it worked."""
    words = ("--daemon", "--log", "/var/log/postern.log")
    with starter(world, *words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as process:
        said, _ = process.communicate(timeout=PATIENCE)
        tap.equal(process.returncode, 0, "exit status: %r" % said)
    world.session().close()


@test("direct-mode", fresh=True)
def direct_mode_launches(world):
    """Without user namespaces, with postern_direct_mode on: a sandbox starts and dies."""
    saved = world.policy["daemon"].copy()
    world.policy["daemon"]["mode"] = "direct"
    world.write_policy()
    kernel.set_booleans(postern_direct_mode=True)
    try:
        with started(world):
            broker_kills(world)
            hostile(world, ["ioctl:%d:%#x:buf" % (SLOT_TAP, TUNGETIFF)], ["OK"], "a tap", nics=[NIC])
    finally:
        kernel.set_booleans(postern_direct_mode=False)
        world.policy["daemon"] = saved
        world.write_policy()


class Forked:
    """A child with what harness.Host asks of a Popen."""

    def __init__(self, function):
        self.pid, self.returncode = harness.in_child(function), None

    def poll(self):
        if self.returncode is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            self.returncode = os.waitstatus_to_exitcode(status) if pid else None
        return self.returncode

    def wait(self, timeout=PATIENCE):
        tap.wait_for(lambda: self.poll() is not None, "process %d ends" % self.pid, timeout)
        return self.returncode

    def kill(self):
        os.kill(self.pid, signal.SIGKILL)


@test("socket-activation", fresh=True)
def passed_socket_serves(world):
    """The service manager listens in /run/postern and hands the socket over; clients are answered on it."""
    def manager():
        write_attribute("current", "unconfined_u:unconfined_r:init_t:s0")
        # As systemd: files get the label of their place, the socket that of the service.
        write_attribute("fscreate", "system_u:object_r:postern_runtime_t:s0")
        os.mkdir(world.runtime, 0o755)
        write_attribute("sockcreate", "unconfined_u:system_r:postern_start_t:s0")
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        write_attribute("sockcreate", "")
        with contextlib.suppress(FileNotFoundError):
            os.unlink(world.socket)
        listener.bind(world.socket)
        write_attribute("fscreate", "")
        os.chmod(world.socket, 0o666)
        listener.listen(16)
        os.dup2(listener.fileno(), 3)
        os.execve(world.start_program, [world.start_program, "--runtime", world.runtime, "--policy", world.policy_path,
                                        "--stop-sandboxes-on-exit"],
                  {"PATH": "/usr/sbin:/usr/bin", "LISTEN_FDS": "1", "LISTEN_PID": str(os.getpid())})
    world.starter = Forked(manager)
    world.wait_ready()
    inside("user_t", "s0", lambda: world.session(None).close(), ALICE)
    world.stop()


# ---- a launch -----------------------------------------------------------------------------------------------------------

@test("enter-init", "enter-vmm", "hold", "broker-sandboxes", "broker-clients", "spawner-capabilities", "spawner-room",
      "init-run", "init-client", "init-landlock", "init-facts", "vmm-run")
def launch_mock(world):
    """A mock is launched, held at its first instruction, and its receipt says so, with its label and its descriptors."""
    with world.launch("mock") as launch:
        facts = launch.facts
        found = re.fullmatch(r"\w+:system_r:postern_vmm_t:s0:(c\d+),(c\d+)", facts["label"])
        tap.true(found and found.group(1) != found.group(2), "label: " + facts["label"])
        tap.equal(facts["held"], 1, "held at its first instruction")
        tap.equal(facts["exe"], world.mock, "program")
        tap.true(facts["fd_count"] and facts["fds"] == facts["given"], "descriptors are what init gave")
        tap.equal(sum(found["vmm"] != 0 for found in facts["namespaces"]), 8, "namespaces that could be read")


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


@test("vmm-channels")
def log_reaches_the_controller(world):
    """What a VMM says is read by its controller."""
    hostile(world, ["clock"], ["OK"], "it speaks", "hostile")


@test("drive")
def stop_ends_it(world):
    """A sandbox stops when its controller says so, by its VMM's death."""
    with world.launch("hostile", ["hold"]) as launch:
        tried(launch, [])
        wire.send_raw(launch.control, wire.message("C_STOP", {"signal": 0, "grace_ms": 500}))
        tap.true(os.WIFSIGNALED(launch.exited(PATIENCE)), "the VMM was ended by a signal")


@test("sigpipe")
def a_log_that_nobody_reads_kills_nobody(world):
    """A VMM whose log is closed gets EPIPE, not a deadly signal."""
    with world.launch("hostile", ["hold"]) as launch:
        tried(launch, [])
        for number in (2, 0):
            os.close(launch.channels[number])
        launch.channels = launch.channels[1:2]
        status = launch.exited(PATIENCE)
        tap.true(os.WIFEXITED(status), "status of the VMM: %#x" % status)


@test("rlimits")
def soft_limits_survive_exec(world):
    """Descriptor limits stay at what they were set to, in the spawner, in init and in the VMM."""
    with world.launch("mock") as launch:
        for pid in (world.spawner, launch.lease["init_pid"], launch.vmm_pid()):
            with open("/proc/%d/limits" % pid, encoding="ascii") as f:
                soft, hard = re.search(r"Max open files +(\w+) +(\w+)", f.read()).groups()
            tap.equal(soft, hard, "soft and hard limit of " + harness.comm(pid))


def cgroup_file(lease, name):
    return "/sys/fs/cgroup" + lease["cgroup"].removeprefix("/sys/fs/cgroup") + "/" + name


@test("spawner-cgroup")
def limits_are_set(world):
    """A sandbox has a cgroup of its own with its limits, and its VMM is in it."""
    with world.launch("mock", limits={"pids": 33}, flags=C["WIRE_CGROUP_REQUIRE"]) as launch:
        path = cgroup_file(launch.lease, "")
        tap.equal(open(path + "pids.max", encoding="ascii").read(), "33\n", "pids.max")
        tap.true(str(launch.vmm_pid()) in open(path + "cgroup.procs", encoding="ascii").read().split(), "the VMM is in it")
    tap.wait_for(lambda: not os.path.exists(path), "the cgroup is gone", 3)


@test("spawner-kill")
def broker_kills(world):
    """A sandbox dies when its owner asks the broker, even where its cgroup cannot be killed as a whole."""
    with world.launch("hostile", ["hold"], flags=C["WIRE_SURVIVE"]) as launch:
        os.chown(cgroup_file(launch.lease, "cgroup.kill"), 0, 0)
        with world.session() as session:
            session.call("KILL", {"uuid": launch.uuid})
        tap.wait_for(lambda: not world.sandbox_processes(), "the sandbox is gone", 3)


@test("broker-say", "spawner-say")
def daemons_are_heard(world):
    """What both daemons say reaches whoever started them."""
    size = os.path.getsize(world.log_path)
    refused(world)

    def heard():
        with open(world.log_path, encoding="utf-8", errors="replace") as f:
            f.seek(size)
            text = f.read()
        return "postern-broker:" in text and "postern-spawner:" in text
    tap.wait_for(heard, "a line of each", 2)


NIC = {"network": "lan", "queues": 1}


@test("spawner-network", "init-grants", "vmm-tap")
def tap_is_driven(world):
    """A VMM has a tap of its own and drives it."""
    hostile(world, ["ioctl:%d:%#x:buf" % (SLOT_TAP, request) for request in (TUNGETFEATURES, TUNGETIFF)] +
            ["frame:%d:12:02-00-00-00-00-01:10.98.0.9:10.98.0.1" % SLOT_TAP], ["OK"] * 3, "a tap", nics=[NIC])


@test("tap-queues", lists=("tap-queues",))
def tap_has_two_queues(world):
    """A tap has two queues, and a VMM switches one off and on again."""
    words = ["ifreq:%d:%#x:x:%#x" % (SLOT_TAP + 1, TUNSETQUEUE, flag) for flag in (IFF_DETACH_QUEUE, IFF_ATTACH_QUEUE)]
    hostile(world, words, ["OK"] * 2, "two queues", nics=[dict(NIC, queues=2)])


@test("vmm-vhost")
def vhost_net_is_driven(world):
    """A VMM takes a vhost-net device as its own and asks what it can do."""
    hostile(world, ["ioctl:%d:%#x:0" % (SLOT_VHOST, SET_OWNER), "ioctl:%d:%#x:buf" % (SLOT_VHOST, GET_FEATURES)], ["OK"] * 2,
            "vhost-net", nics=[dict(NIC, flags=C["WIRE_NIC_VHOST_REQUIRE"])])


@test("broker-vhost")
def vsock_has_its_cid(world):
    """A VMM has a vsock device, and its context id is the lease's."""
    with world.launch("hostile-qemu", ["ioctl:%d:%#x:0" % (SLOT_VSOCK, SET_OWNER), "hold"],
                      flags=C["WIRE_VSOCK_REQUIRE"]) as launch:
        tap.equal(tried(launch, ["ioctl:%d:%#x:0" % (SLOT_VSOCK, SET_OWNER)]), ["OK"], "vhost-vsock")
        with device("/dev/vhost-vsock") as fd:
            tap.equal(ioctl(fd, SET_CID, struct.pack("=Q", launch.lease["cid"])), "EADDRINUSE", "the lease's context id")


@test("vmm-kvm")
def kvm_answers(world):
    """A VMM opens /dev/kvm inside its sandbox."""
    hostile(world, ["kvm:/dev/kvm"], ["OK"], "KVM", flags=C["WIRE_KVM_REQUIRE"])


@test("init-copy", "vmm-private")
def initrd_is_copied(world):
    """A file that its VMM takes by name is copied into the sandbox's /run and read there."""
    path = world.user_file(ALICE, "initrd", b"initrd")
    with open(path, "rb") as f:
        hostile(world, ["open:/run/initrd:r"], ["OK"], "the copy", assets=[{"fd": f.fileno(), "name": "initrd", "use": 1}])


@test("vmm-images")
def image_is_read_and_written(world):
    """A user's file is mapped and written by descriptor, and opened by nobody."""
    path = world.user_file(ALICE, "disk", bytes(4096))
    with open(path, "r+b") as f:
        hostile(world, ["mmapwrite:%d" % SLOT_ASSET, "write:%d" % SLOT_ASSET], ["OK"] * 2, "the image",
                assets=[{"fd": f.fileno(), "name": "disk", "writable": 1}])
    tap.equal(open(path, "rb").read(7), b"hostile", "what is in the file")


@test("vmm-tcg")
def code_is_made_at_run_time(world):
    """With postern_tcg on, a VMM without KVM makes code at run time."""
    kernel.set_booleans(postern_tcg=True)
    try:
        hostile(world, ["wx"], ["OK"], "writable and executable memory")
    finally:
        kernel.set_booleans(postern_tcg=False)


# ---- a confined user -----------------------------------------------------------------------------------------------------

@test("client-connect", "client-descriptors", "client-look", "spawner-launch")
def confined_user_launches(world):
    """A user of SELinux's own kind (user_t) launches, and reads from outside what the receipt needs."""
    def client():
        with world.session(None) as session, world.launch("hostile", ["clock", "hold"], session=session) as launch:
            tap.equal(tried(launch, ["clock"]), ["OK"], "what it says")
            init = launch.lease["init_pid"]
            os.stat("/proc/self/ns/user")
            version = os.posix_spawn(world.mock, ["postern-mock-vmm", "--version"], {},
                                     file_actions=[(os.POSIX_SPAWN_CLOSE, 1)])
            tap.equal(os.waitpid(version, 0)[1], 0, "the VMM's version can be asked for")
            tap.true(harness.status(init), "what /proc says of init")
            tap.equal([ppid_of(pid) for pid in harness.pids()].count(init), 1, "VMMs whose /proc can be read")
    inside("user_t", "s0", client, ALICE)


def ppid_of(pid):
    with contextlib.suppress(PermissionError):
        return int((harness.status(pid) or {"PPid": "0"})["PPid"])
    return 0


# ---- asked of the kernel without a program in between --------------------------------------------------------------------

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


VMM_LEVEL = "s0:c1,c2"


@test(lists=("vmm-vhost",))
def cid_ioctl_refused_by_label(world):
    """A VMM cannot change its context id even where no filter stands before it."""
    with device("/dev/vhost-vsock") as fd:
        asked("postern_vmm_t", VMM_LEVEL, fd, [((SET_CID, struct.pack("=Q", 4711)), "EACCES"), ((SET_OWNER,), "OK")])


@test(lists=("vmm-tap",))
def tap_ioctl_refused_by_label(world):
    """A VMM cannot make its tap persistent even where no filter stands before it."""
    with a_tap() as fd:
        asked("postern_vmm_t", VMM_LEVEL, fd, [((TUNSETPERSIST, 1), "EACCES"), ((TUNGETIFF, bytes(40)), "OK")])


@test(lists=("broker-vhost",))
def broker_settles_the_cid_and_nothing_else(world):
    """The broker has one ioctl on a vhost device, and cannot become its owner."""
    with device("/dev/vhost-vsock") as fd:
        asked("postern_t", "s0", fd, [((SET_OWNER,), "EACCES"), ((SET_CID, struct.pack("=Q", 4712)), "OK")])


@test(lists=("spawner-network",))
def spawner_makes_taps_and_nothing_else(world):
    """The spawner cannot make a tap persistent."""
    with a_tap() as fd:
        asked("postern_spawner_t", "s0", fd, [((TUNSETPERSIST, 1), "EACCES")])


@test(lists=("categories",))
def categories_keep_apart(world):
    """A VMM reads a file of its own categories, and none of another sandbox's."""
    path = "/tmp/rules-categories"
    with as_label("fscreate", "system_u:object_r:postern_run_t:s0:c3,c4"):
        with open(path, "w", encoding="ascii") as f:
            f.write("x" * 64)
    with open(path, "rb", buffering=0) as f:
        inside("postern_vmm_t", "s0:c3,c4", lambda: tap.equal(f.read(1), b"x", "its own"))

        def other():
            try:
                f.read(1)
            except PermissionError:
                return
            raise AssertionError("the file of another sandbox was read")
        inside("postern_vmm_t", VMM_LEVEL, other)
    os.unlink(path)
