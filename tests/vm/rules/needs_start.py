# SPDX-License-Identifier: Apache-2.0
# Runs: tests (root, unconfined_t, inside the test VM). Named tests of docs/selinux-rules.md: a start.
import contextlib
import os
import pty
import shutil
import signal
import socket
import subprocess

from world import (C, LINKS, NIC, PATIENCE, SLOT_TAP, TUNGETIFF, as_label, hostile, inside, labels, refused, started, test,
                   write_attribute)
import harness
import installed
import kernel
import tap
import wire
from harness import ALICE
from needs_launch import broker_kills

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
