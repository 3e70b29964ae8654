# SPDX-License-Identifier: Apache-2.0
# Runs: tests (root). One Postern of its own beside anything installed, and a picture of the host before and after.
#
# Everything a test makes lies below two directories named after a slot number, and so do its ids and its networks:
# several builds can be tested on one machine at the same time.
import contextlib
import fcntl
import json
import os
import re
import shutil
import signal
import socket
import stat
import struct
import subprocess
import sys
import time
import traceback

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, HERE)
import tap  # noqa: E402
import wire  # noqa: E402

ROOT = wire.ROOT
BROKER_UID, SPAWN_UID = 64800, 64801
ALICE, BOB, CAROL = 64810, 64811, 64812  # carol is in no rule of the policy
STRANGER = 65534
FIRST_UID, UID_COUNT = 0x71000000, 0x10000
SLOTS = 16
P_FIRST = 8    # broker/inherit.h: SPAWNER_FD_P_FIRST
P_SWITCH = 2   # ... and the switch namespace's place after it
P_IDS_LOCK = 12
# For builds with sanitizers: an error ends the process, so that some case notices. Leaks are the unit tests' business: to
# look for them at exit one must be able to trace oneself, which none of these programs allows.
SANITIZERS = {"ASAN_OPTIONS": "detect_leaks=0:abort_on_error=1", "UBSAN_OPTIONS": "halt_on_error=1:print_stacktrace=1"}
CAP_SETS = ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")


def _argument(name):
    return sys.argv[sys.argv.index(name) + 1] if name in sys.argv else None


# Whether the spawner's capabilities count in a user namespace or on the host. Every suite runs in both modes; a case that is
# about the difference asks DIRECT and asserts what is true there.
MODE = next((a[len("--mode="):] for a in sys.argv if a.startswith("--mode=")),
            os.environ.get("POSTERN_TEST_MODE") or "namespace")
DIRECT = {"namespace": False, "direct": True}[MODE]


def exits():
    """enum postern_exit as {name: number}."""
    text = open(os.path.join(ROOT, "include/postern/exit.h"), encoding="ascii").read()
    return {name: int(number) for name, number in re.findall(r"EXIT_(\w+) = (\d+)", text)}


EXIT = exits()


# ---- /proc --------------------------------------------------------------------------------------------------------

def status(pid, task=None):
    """/proc/PID/status as a dict of strings; None when the process is gone."""
    path = "/proc/%s/status" % pid if task is None else "/proc/%s/task/%s/status" % (pid, task)
    try:
        with open(path, encoding="utf-8", errors="replace") as f:
            return dict(line.rstrip("\n").split(":", 1) for line in f if ":" in line)
    except (FileNotFoundError, ProcessLookupError):
        return None


def uids(pid):
    found = status(pid)
    return [int(n) for n in found["Uid"].split()] if found else []


def alive(pid):
    found = status(pid)
    return found is not None and found["State"].split()[0] not in "ZX"


def orphan(pid):
    """A zombie that waits for process 1 of this host, which takes its time: nobody of ours could do anything about it."""
    found = status(pid)
    return found is not None and found["State"].split()[0] == "Z" and found["PPid"].strip() == "1"


def pids():
    return [int(name) for name in os.listdir("/proc") if name.isdigit()]


def children(pid):
    return [p for p in pids() if (status(p) or {}).get("PPid", "").strip() == str(pid)]


def comm(pid):
    return (status(pid) or {}).get("Name", "").strip()


def exe(pid):
    try:
        return os.readlink("/proc/%d/exe" % pid)
    except OSError:
        return ""


def fds(pid):
    """{number: link} of a process's descriptors, inode numbers kept."""
    found = {}
    try:
        for name in os.listdir("/proc/%d/fd" % pid):
            with contextlib.suppress(FileNotFoundError):
                found[int(name)] = os.readlink("/proc/%d/fd/%s" % (pid, name))
    except (FileNotFoundError, ProcessLookupError, PermissionError):  # gone, or a process with more capabilities than ours
        pass
    return found


def rss_kib(pid):
    return int((status(pid) or {}).get("VmRSS", "0 kB").split()[0])


def namespace(pid, kind):
    return os.readlink("/proc/%s/ns/%s" % (pid, kind))


def own_pids(host):
    return host.own_processes()


def run_ok(*argv, **more):
    return subprocess.run(argv, check=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **more).stdout


def kill_wait(pid, signum=signal.SIGKILL, seconds=5):
    """Signal one process and wait until it is gone (or a zombie of somebody else's)."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signum)
    tap.wait_for(lambda: not alive(pid), "process %d is gone" % pid, seconds)


def tag_of(runtime):
    """What interfaces and cgroups of the Postern with this runtime directory have in their names: broker/start/runtime.c."""
    value = 14695981039346656037
    for byte in runtime.encode():
        value = ((value ^ byte) * 1099511628211) & 0xFFFFFFFFFFFFFFFF
    return "%016x" % value


def cgroups_of(tag):
    found = set()
    for top, _, _ in os.walk("/sys/fs/cgroup"):
        if tag in top:
            found.add(top)
    return found


def remove_cgroups(tag):
    """What root made for a runtime directory that is no more. A group that is not empty stays: rmdir says no."""
    for path in sorted(cgroups_of(tag), key=len, reverse=True):
        with contextlib.suppress(OSError):
            os.rmdir(path)


def in_child(function, *args):
    """Fork; the child runs function and ends, whatever happens in it. Returns its pid."""
    pid = os.fork()
    if pid == 0:
        try:
            function(*args)
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(1)
    return pid


# ---- one Postern ---------------------------------------------------------------------------------------------------

class Host:
    """A build installed, configured and started. build: the meson build directory."""

    def __init__(self, build=None, fault=False, policy=None):
        if os.geteuid() != 0:
            raise tap.Skip("needs root")
        self.build = os.path.abspath(build or os.environ.get("POSTERN_BUILD") or _argument("--build") or
                                     os.path.join(ROOT, "build"))
        self.fault = fault
        self.starter = None
        self.without = -1  # a capability that the spawner of a fault-injection build does without
        self.leases = []
        self._claim_slot()
        self._choose_places()
        self.socket = os.path.join(self.runtime, "broker.sock")
        self.tag = tag_of(self.runtime)
        self.log_path = os.path.join(self.work, "log")
        self._end_leftovers()
        self._clean_files()
        self._install()
        self.policy = self.default_policy()
        if policy:
            policy(self.policy, self)
        self.write_policy()
        self.homes = {uid: self._make_home(uid) for uid in (ALICE, BOB, CAROL)}

    def _choose_places(self):
        self.dest = "/var/tmp/postern-test.%d" % self.slot
        self.work = "/run/postern-test.%d" % self.slot
        self.runtime = os.path.join(self.work, "rt")
        self.policy_path = os.path.join(self.work, "policy.json")

    def _make_home(self, uid):
        path = os.path.join(self.work, "home-%d" % uid)
        os.mkdir(path, 0o700)
        os.chown(path, uid, uid)
        return path

    def _is_ours(self, path):
        """Whether a process's program is of this installation."""
        return path.startswith(self.dest + "/")

    def _claim_slot(self):
        for slot in range(SLOTS):
            self.lock = os.open("/run/postern-test.%d.lock" % slot, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            with contextlib.suppress(BlockingIOError):
                fcntl.flock(self.lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                self.slot = slot
                self.first_uid = FIRST_UID + slot * UID_COUNT
                return
            os.close(self.lock)
        raise RuntimeError("all %d test slots are taken" % SLOTS)

    def _end_leftovers(self):
        # Of a run in this slot that was killed: the slot's directory and ids are nobody else's.
        for pid in self.own_processes():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def _clean_files(self):
        # A test that was killed may have left mounts of its own below its runtime directory; never follow them.
        for line in open("/proc/self/mountinfo", encoding="utf-8").read().splitlines()[::-1]:
            point = line.split()[4]
            if point.startswith((self.work + "/", self.dest + "/")):
                subprocess.run(["umount", "-l", point], check=False)
        for path in (self.work, self.dest):
            shutil.rmtree(path, ignore_errors=True)

    def _install(self):
        for path in (self.dest, self.work):
            os.mkdir(path, 0o755)
            os.chmod(path, 0o755)
        done = subprocess.run(["meson", "install", "-C", self.build, "--no-rebuild", "--quiet", "--destdir", self.dest],
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        if done.returncode != 0:
            raise RuntimeError("meson install: " + done.stdout)
        self.bin = _find(self.dest, "bin/postern")
        prefix = self.bin[: -len("bin/postern")]
        self.libexec = os.path.join(prefix, "libexec/postern")
        if not os.path.isdir(self.libexec):
            self.libexec = os.path.join(prefix, "lib/postern")
        self.start_program = os.path.join(prefix, "sbin/postern-start" + ("-fault" if self.fault else ""))
        self.broker_program = os.path.join(prefix, "sbin/postern-broker")
        if self.fault:  # never installed by the build
            for source, target in (("broker/start/postern-start-fault", self.start_program),
                                   ("broker/spawner/postern-spawner-fault",
                                    os.path.join(self.libexec, "postern-spawner-fault")),
                                   ("broker/init/postern-init-fault", os.path.join(self.libexec, "postern-init-fault"))):
                shutil.copy(os.path.join(self.build, source), target)
        # Hostile programs lie in a directory of their own that the policy binds into the template.
        self.fakes = os.path.join(self.dest, "fakes")
        os.mkdir(self.fakes, 0o755)
        built = os.path.join(self.build, "tests/fakes")
        for name in ("hostile-vmm", "first-instruction"):
            if os.path.exists(os.path.join(built, name)):
                shutil.copy(os.path.join(built, name), os.path.join(self.fakes, name))
                os.chmod(os.path.join(self.fakes, name), 0o755)
        for top, dirs, files in os.walk(self.dest):
            for name in dirs + files:
                os.lchown(os.path.join(top, name), 0, 0)

    @property
    def mock(self):
        return os.path.join(self.libexec, "postern-mock-vmm")

    @property
    def subnet(self):
        return "10.98.%d" % (self.slot * 4)

    def default_policy(self):
        hypervisors = {
            "qemu": {"path": "/usr/bin/qemu-system-x86_64", "driver": "qemu"},
            "mock": {"path": self.mock, "driver": "mock"},
            "hostile": {"path": os.path.join(self.fakes, "hostile-vmm"), "driver": "mock"},
            "first": {"path": os.path.join(self.fakes, "first-instruction"), "driver": "mock"},
        }
        names = list(hypervisors)
        return {
            "version": 1,
            "daemon": {"user": BROKER_UID, "spawn_user": SPAWN_UID, "socket_mode": "0666", "mode": MODE},
            "ids": {"first": self.first_uid, "count": UID_COUNT},
            "template": {"binds": [self.libexec, self.fakes]},
            "hypervisors": hypervisors,
            "networks": {
                "lan": {"address": "10.98.%d.1/24" % (self.slot * 4), "isolated": True},
                "lan2": {"address": "10.98.%d.1/24" % (self.slot * 4 + 1), "isolated": True, "pin_ip": True},
            },
            "rules": [
                {"users": [ALICE, BOB], "hypervisors": names, "networks": ["lan", "lan2"], "kvm": True, "survive": True,
                 "shared_netns": True, "quota": {"sandboxes": 64, "taps": 64}},
            ],
            "sessions": {"all": 400, "user": 150},
        }

    def write_policy(self):
        with open(self.policy_path, "w", encoding="ascii") as f:
            json.dump(self.policy, f, indent=1)
        os.chmod(self.policy_path, 0o644)

    # -- life

    def start(self, wait=True, extra=(), prefix=()):
        """Run postern-start in the foreground; it becomes the broker (or the missing half)."""
        argv = [*prefix, self.start_program, "--runtime", self.runtime, "--policy", self.policy_path,
                "--stop-sandboxes-on-exit", *extra]
        pass_fds = ()
        if self.fault:
            self.fault_fd = os.memfd_create("fault", 0)
            os.write(self.fault_fd, struct.pack("<II", 0, self.without + 1))
            os.set_inheritable(self.fault_fd, True)
            argv += ["--fault-fd", str(self.fault_fd)]
            pass_fds = (self.fault_fd,)
        log = self._log_end()
        env = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", **SANITIZERS}
        self.starter = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=env,
                                        pass_fds=pass_fds, cwd="/", start_new_session=True)
        log.close()
        if wait:
            tap.wait_for(self._ready, "the broker answers", 20)
        return self

    def _log_end(self):
        return open(self.log_path, "ab")

    def _ready(self):
        if self.starter.poll() is not None:
            raise AssertionError("postern-start ended with %d: %s" % (self.starter.returncode, self.log_tail()))
        try:
            with wire.Session(self.socket, ALICE):
                return True
        except (OSError, wire.Hangup):
            return False

    def log_tail(self, lines=30):
        try:
            return "".join(open(self.log_path, encoding="utf-8", errors="replace").readlines()[-lines:])
        except FileNotFoundError:
            return ""

    def trouble(self):
        lines = [line for line in self.log_tail(200).splitlines() if " audit " not in line or "verdict=OK" not in line]
        return "log of the broker and the spawner:\n" + "\n".join(
            line for line in lines[-12:] if "detail=\"clean" not in line)

    def _daemon(self, name):
        """The one process of this runtime that runs this installed program."""
        found = [p for p in pids() if self._is_ours(exe(p).removesuffix(" (deleted)")) and
                 os.path.basename(exe(p)).startswith(name) and alive(p)]
        if len(found) != 1:
            raise AssertionError("%d processes are %s" % (len(found), name))
        return found[0]

    @property
    def broker(self):
        return self._daemon("postern-broker")

    @property
    def spawner(self):
        # Its workers are forks with the same program: the oldest is the spawner.
        found = [p for p in pids() if os.path.basename(exe(p)).startswith("postern-spawner") and
                 uids(p)[:1] == [SPAWN_UID] and self._own_spawner(p)]
        if not found:
            raise AssertionError("no spawner")
        return min(found)

    def _own_spawner(self, pid):
        """By the lock on its id range, which it holds in either mode."""
        try:
            with open("/proc/%d/fdinfo/%d" % (pid, P_FIRST + P_IDS_LOCK), encoding="ascii") as f:
                return " %d %d\n" % (self.first_uid, self.first_uid + UID_COUNT - 1) in f.read()
        except OSError:
            return False

    def stop(self):
        """End both daemons and everything they started; then nothing of this Postern may be left."""
        # The broker takes the spawner along, when it has brought all sandboxes to their end. Without a broker there is
        # nobody to do that.
        for find in (lambda: self.broker, lambda: self.spawner):
            with contextlib.suppress(AssertionError):
                os.kill(find(), signal.SIGTERM)
                break
        if self.starter is not None:
            try:
                self.starter.wait(10)
            except subprocess.TimeoutExpired:
                self.starter.kill()
                self.starter.wait()
            self.starter = None
        end = time.monotonic() + 10
        while time.monotonic() < end and self.left_after_stop():
            time.sleep(0.05)
        return self.left_after_stop()

    def left_after_stop(self):
        left = ["process %d %s" % (p, comm(p)) for p in self.own_processes()]
        left += ["link " + name for name in links() if self.tag[:8] in name]
        # The empty group that root made for this runtime stays, as its runtime directory does.
        left += ["cgroup " + path for path in self.cgroups() if re.search(r"/x\d+", path)]
        for line in open("/proc/self/mountinfo", encoding="utf-8"):
            if line.split()[4].startswith(self._mounts_below()):
                left.append("mount " + line.split()[4])
        return left

    def _mounts_below(self):
        return (self.work, self.dest, self.runtime)

    def close(self):
        """Stop, remove every file, give the slot back."""
        left = self.stop()
        if left:
            tap.note("left behind after the stop: " + ", ".join(left))
            for pid in self.own_processes():
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
        if not os.environ.get("POSTERN_KEEP"):
            self._clean_files()
            for runtime in (self.runtime, os.path.join(self.work, "planted"), os.path.join(self.work, "other")):
                remove_cgroups(tag_of(runtime))
        os.close(self.lock)
        return left

    # -- what there is now

    def in_range(self, uid):
        return self.first_uid <= uid < self.first_uid + UID_COUNT

    def sandbox_processes(self):
        return [p for p in pids() if any(self.in_range(u) for u in uids(p)) and not orphan(p)]

    def own_processes(self):
        mine = set(self.sandbox_processes())
        for pid in pids():
            spawner = uids(pid)[:1] == [SPAWN_UID] and self._own_spawner(pid)
            if self._is_ours(exe(pid)) or (spawner and not orphan(pid)):
                mine.add(pid)
        return sorted(mine)

    def switch_links(self):
        """Interfaces inside the switch namespace, by name."""
        net = "/proc/%d/fd/%d" % (self.spawner, P_FIRST + P_SWITCH)
        out = run_ok("nsenter", "--net=" + net, "ip", "-j", "link")
        return {link["ifname"]: link for link in json.loads(out or "[]")}

    def snapshot(self):
        """What a launch may not change for good. Values are sets or dicts, so that a difference can be named."""
        broker, spawner = self.broker, self.spawner
        return {
            "sandbox processes": set(self.sandbox_processes()),
            "daemons": {broker, spawner},
            "children of the spawner": set(children(spawner)),
            "switch links": set(self.switch_links()),
            "host links": {name for name in links() if self.tag[:8] in name},
            "cgroups": self.cgroups(),
            "mounts of the host": mounts("self"),
            "mounts of the spawner": mounts(spawner),
            "descriptors of the broker": shape(fds(broker)),
            "descriptors of the spawner": shape(fds(spawner)),
            "runtime files": files_below(self.runtime),
            "user files": self.user_files(),
            "namespaces": self.namespaces(),
            "sysv and mq": ipc(),
        }

    def user_files(self):
        """What users have, but for what Postern keeps on purpose (the base directory, logs of dead sandboxes) and specs."""
        found = set()
        for home in self.homes.values():
            base = os.path.join(home, "postern")
            kept = (base, os.path.join(base, ".lock"), os.path.join(base, "dead"))
            found |= {p for p in files_below(home) if p not in kept and not p.startswith((base + "/dead/", home + "/spec-"))}
        return found

    def cgroups(self):
        return cgroups_of(self.tag)

    def namespaces(self):
        """Namespaces of processes of this Postern."""
        found = set()
        for pid in self.own_processes():
            for kind in ("user", "mnt", "net", "pid", "ipc", "uts", "cgroup"):
                with contextlib.suppress(OSError):
                    found.add(namespace(pid, kind))
        return found

    def settle(self, before, seconds=10, ignore=()):
        """Wait until the snapshot equals the one from before, else say what is left."""
        end = time.monotonic() + seconds
        while True:
            difference = compare(before, self.snapshot(), ignore)
            if not difference:
                return
            if time.monotonic() > end:
                raise AssertionError("not as before: " + "; ".join(difference))
            time.sleep(0.05)

    # -- users

    def env(self, uid):
        return {"PATH": "/usr/bin:/bin", "HOME": self.homes[uid], "XDG_RUNTIME_DIR": self.homes[uid],
                "POSTERN_SOCKET": self.socket, "LC_ALL": "C", "TERM": "dumb", **SANITIZERS}

    def popen(self, *args, uid=ALICE, env=None, **more):
        environment = dict(self.env(uid), **(env or {}))
        more.setdefault("stdin", subprocess.DEVNULL)
        more.setdefault("cwd", self.homes[uid])
        return subprocess.Popen([*self.user_prefix(uid), self.bin, *args], user=uid, group=uid, extra_groups=[], env=environment, **more)

    def user_prefix(self, uid):
        """What stands before a user's command, where users have a context of their own."""
        return []

    def cli(self, *args, uid=ALICE, env=None, timeout=60, **more):
        """Run `postern ARGS` as a user. Returns CompletedProcess with text."""
        process = self.popen(*args, uid=uid, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **more)
        try:
            out, err = process.communicate(timeout=timeout)
        except subprocess.TimeoutExpired:
            process.kill()
            out, err = process.communicate()
            raise AssertionError("postern %s did not end: %s %s" % (" ".join(args), out, err)) from None
        return subprocess.CompletedProcess(args, process.returncode, out, err)

    def ok(self, *args, **more):
        done = self.cli(*args, **more)
        tap.true(done.returncode == 0, "postern %s: status %d, %s%s" % (" ".join(args), done.returncode, done.stdout,
            done.stderr))
        return done.stdout

    def json(self, *args, **more):
        return json.loads(self.ok(*args, "--json", **more))

    def user_file(self, uid, name, data=b"", mode=0o600):
        path = os.path.join(self.homes[uid], name)
        with open(path, "wb") as f:
            f.write(data)
        os.chmod(path, mode)
        os.chown(path, uid, uid)
        return path

    def spec(self, uid=ALICE, **fields):
        """Write a spec of these fields and return its path. A mock of 16 MiB when nothing else is said."""
        content = {"hypervisor": "mock", "memory": 16}
        content.update(fields)
        self.specs = getattr(self, "specs", 0) + 1
        return self.user_file(uid, "spec-%d.json" % self.specs, json.dumps(content).encode())

    def controllers(self):
        """Controllers of this installation, oldest first."""
        return sorted(p for p in pids() if os.path.basename(exe(p)) == "postern-controller" and self._is_ours(exe(p)))

    def session(self, uid=ALICE, **more):
        return wire.Session(self.socket, uid, **more)

    def leases_of(self, uid):
        """All leases of a user, as the broker lists them."""
        found, after = [], 0
        with self.session(uid) as session:
            while True:
                try:
                    lease, _ = session.call("NEXT", {"after": after})
                except wire.Refused as why:
                    if why.code != "NOT_FOUND":
                        raise
                    return found
                found.append(lease)
                after = lease["id"]

    def launch(self, hypervisor="hostile", words=(), **more):
        return Launch(self, hypervisor, words, **more)


class LaunchFailed(Exception):
    """init or the spawner said C_FAILED, or hung up."""

    def __init__(self, step, error, text=""):
        self.step, self.error = step, error
        super().__init__("step %s errno %d %s" % (step, error, text))


class Launch:
    """A controller of our own over the bare wire: ACQUIRE, C_PLAN, C_CHANNELS, C_FACTS. The VMM's words are ours."""

    def __init__(self, host, hypervisor, words=(), uid=ALICE, assets=(), nics=(), flags=0, limits=None, session=None,
                 vcpus=1, memory=16, plan=True, keep=True):
        self.host, self.uid = host, uid
        self.control, far = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.channels, self.facts, self.pidfd, self.exit_status = [], None, -1, None
        self.uuid = os.urandom(16)
        own = session or host.session(uid)
        try:
            self.path = own.call("HYPERVISOR", {"name": hypervisor})[0]["path"]
            ask = {"uuid": self.uuid, "hypervisor": hypervisor, "vcpus": vcpus, "memory_mib": memory, "flags": flags,
                   "nic_count": len(nics), "nics": list(nics), "limits": limits or {}}
            self.acquired_at = time.monotonic_ns()
            self.lease, (self.pidfd,) = own.call("ACQUIRE", ask, [far.fileno()])
        except BaseException:
            self.control.close()
            raise
        finally:
            far.close()
            if session is None:
                own.close()
        if plan:
            try:
                self.send_plan([self.path, *words], assets)
                self._wait_for("C_FACTS")
                if keep and flags & wire.T.constants["WIRE_SURVIVE"]:
                    wire.send_raw(self.control, wire.message("C_KEEP"))
            except BaseException:
                self.close()
                raise

    def send_plan(self, words, assets=()):
        text = b"".join(w.encode() + b"\0" for w in words)
        values = {"word_count": len(words), "word_bytes": len(text), "words": text, "asset_count": len(assets),
                  "assets": [{"use": a.get("use", 0), "writable": a.get("writable", 0), "name": a["name"]} for a in assets]}
        wire.send_raw(self.control, wire.message("C_PLAN", values), [a["fd"] for a in assets])

    def _next(self, timeout=10):
        name, _, _, values, got = wire.recv(self.control, timeout)
        if name == "C_CHANNELS":
            self.channels = got
        elif name == "C_FACTS":
            self.facts = values
        elif name == "C_EXITED":
            self.exit_status = values["status"]
        elif name == "C_FAILED":
            raise LaunchFailed(wire.T.steps[values["step"]], values["error"])
        return name

    def _wait_for(self, wanted, timeout=10):
        end = time.monotonic() + timeout
        try:
            while self._next(max(0.01, end - time.monotonic())) != wanted:
                pass
        except wire.Hangup as why:
            raise LaunchFailed("?", 0, "init hung up before %s" % wanted) from why

    @property
    def log(self):
        return self.channels[2]

    @property
    def vmm_control(self):
        return self.channels[0]

    def output(self, timeout=20):
        """What the VMM writes on its log channel until it ends."""
        log = socket.socket(fileno=os.dup(self.log))
        log.settimeout(timeout)
        out = b""
        with log:
            while True:
                try:
                    data = log.recv(65536)
                except ConnectionResetError:
                    data = b""
                if not data:
                    return out.decode("utf-8", "replace")
                out += data

    def exited(self, timeout=10):
        """waitpid's status of the VMM, as init reports it."""
        if self.exit_status is None:
            self._wait_for("C_EXITED", timeout)
        return self.exit_status

    def vmm_pid(self):
        """The VMM's pid on the host: the one child of init."""
        found = children(self.lease["init_pid"])
        tap.equal(len(found), 1, "children of init")
        return found[0]

    def close(self):
        """Hang up: init ends the sandbox."""
        self.control.close()
        for fd in self.channels:
            with contextlib.suppress(OSError):
                os.close(fd)
        self.channels = []
        if self.pidfd >= 0:
            os.close(self.pidfd)
            self.pidfd = -1

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


# ---- pieces of a snapshot -----------------------------------------------------------------------------------------

def links():
    return {link["ifname"] for link in json.loads(run_ok("ip", "-j", "link"))}


def mounts(pid):
    with open("/proc/%s/mountinfo" % pid, encoding="utf-8") as f:
        return sorted(" ".join(line.split()[3:5]) for line in f)


def shape(table):
    """Descriptors as {kind: count}: numbers of sockets change, their count may not."""
    found = {}
    for link in table.values():
        kind = re.sub(r"\[\d+\]", "[]", link) if not link.startswith("/") else link
        kind = re.sub(r"^/proc/\d+", "/proc/N", kind)
        found[kind] = found.get(kind, 0) + 1
    return found


def files_below(top):
    found = set()
    for path, dirs, files in os.walk(top):
        for name in dirs + files:
            found.add(os.path.join(path, name))
    return found


def ipc():
    found = set()
    for kind in ("msg", "sem", "shm"):
        with contextlib.suppress(FileNotFoundError):
            found |= {kind + line.split()[1] for line in open("/proc/sysvipc/" + kind, encoding="ascii").readlines()[1:]}
    return found


def compare(before, after, ignore=()):
    """What there is now and was not before. Less is no leak: a case before may have left its end to be awaited."""
    difference = []
    for key, old in before.items():
        new = after[key]
        if key in ignore:
            continue
        if isinstance(old, list):
            old, new = ({item: items.count(item) for item in items} for items in (old, new))
        if isinstance(old, dict):
            more = {name: count for name, count in new.items() if count > old.get(name, 0)}
        else:
            more = sorted(map(str, new - old))
        if more:
            difference.append("%s: %s" % (key, more))
    return difference


def file_is_private(path):
    mode = os.lstat(path).st_mode
    return stat.S_ISLNK(mode) or not mode & 0o077


def _find(top, tail):
    for path, _, files in os.walk(top):
        if path.endswith(os.path.dirname(tail)) and os.path.basename(tail) in files:
            return os.path.join(path, os.path.basename(tail))
    raise AssertionError("%s is not installed below %s" % (tail, top))


def main(**options):
    """Start one Postern for all cases of the calling file, run them, stop it. A leftover after the stop is a failure."""
    prepare = options.pop("prepare", None)
    make = Host
    if os.environ.get("POSTERN_INSTALLED"):  # in the VM the same cases run against what is installed there
        sys.path.append(os.path.join(ROOT, "tests", "vm", "suite"))
        import installed
        make = installed.Installed

    def setup():
        host = make(**options)
        try:
            if prepare:
                prepare(host)
            return host.start()
        except BaseException:
            host.close()
            raise

    def nothing_is_left(host):
        left = host.stop()
        tap.equal(left, [], "left after the end of Postern")
        # init has no environment, so its sanitizers only write; that lands in the log.
        found = [line for line in host.log_tail(100000).splitlines() if "runtime error:" in line or
                 "ERROR: AddressSanitizer" in line]
        tap.equal(found, [], "what sanitizers found")

    tap.case(nothing_is_left)
    tap.run(setup, lambda host: host.close())
