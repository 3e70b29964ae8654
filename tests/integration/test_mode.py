# SPDX-License-Identifier: Apache-2.0
# Runs: tests (root), in a build with -Dfault_injection=true. What differs between namespace mode and direct mode, and that
# each capability the spawner keeps is there for something.
import contextlib
import ctypes
import errno
import json
import os
import re
import socket
import subprocess
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import harness  # noqa: E402
import tap  # noqa: E402
import wire  # noqa: E402
from harness import ALICE, DIRECT  # noqa: E402
from tap import case  # noqa: E402

sys.path.insert(0, os.path.join(harness.ROOT, "tests", "security"))
import probe  # noqa: E402

K = wire.T.constants
NIC = {"network": "lan", "queues": 1}
CAPS = {"KILL": 5, "SETGID": 6, "SETUID": 7, "SETPCAP": 8, "NET_ADMIN": 12, "SYS_PTRACE": 19, "SYS_ADMIN": 21}
# The spawner without this capability: how a launch with a NIC, and a kill, go then.
WITHOUT = {
    True: {"SYS_ADMIN": "TAP_OPEN EPERM", "SETUID": "DROP_UID EPERM", "SETGID": "DROP_GROUPS EPERM",
           "SETPCAP": "DROP_SECUREBITS EPERM", "NET_ADMIN": "TAP_CREATE EPERM", "KILL": "not killed"},
    False: {"SYS_ADMIN": "TAP_OPEN EPERM", "SETUID": "MAP EPERM", "SETGID": "MAP EPERM", "NET_ADMIN": "TAP_CREATE EPERM",
             "SYS_PTRACE": "MAP ENOENT"},
}[DIRECT]


# A host without cgroup version 2, as far as postern-start can see: there is no cgroup.kill then.
NO_CGROUP2 = ("unshare", "--mount", "--propagation", "private", "sh", "-c",
              "for m in $(awk '$3 == \"cgroup2\" { print $2 }' /proc/self/mounts); do umount -l $m; done; exec \"$@\"", "sh")


def launch_and_kill(host):
    """ "fine", or what went wrong. Nothing is left either way. """
    try:
        launch = host.launch("hostile", nics=[NIC], plan=False)
    except wire.Refused as why:
        return "%s %s" % (why.step, errno.errorcode.get(why.number))
    with launch, host.session() as session:
        try:
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                launch.send_plan([launch.path, "hold"])
            launch._wait_for("C_FACTS")
        except harness.LaunchFailed as why:
            return "%s %s" % (why.step, errno.errorcode.get(why.error))
        session.call("KILL", {"uuid": launch.uuid})
        with contextlib.suppress(AssertionError):
            tap.wait_for(lambda: not harness.alive(launch.lease["init_pid"]), "killed", 1)
            return "fine"
        return "not killed"


@case
def each_capability_is_there_for_something(host):
    """The spawner without one of them: the launch fails at the step that needs it, with all of them it works. All of it
    without cgroup version 2, whose cgroup.kill would do in CAP_KILL's place."""
    found = {}
    try:
        for name in (None, *WITHOUT):
            tap.equal(host.stop(), [], "left after the end")
            host.without = CAPS.get(name, -1)
            host.start(prefix=NO_CGROUP2)
            found[name] = launch_and_kill(host)
            tap.wait_for(lambda: not host.sandbox_processes(), "nothing of the sandbox is left", 10)
    finally:
        host.stop()
        host.without = -1
        host.start()
    tap.equal(found.pop(None), "fine", "with all of them")
    tap.equal(found, WITHOUT, "what no longer works")
    kept = int(harness.status(host.spawner)["CapPrm"], 16)
    tap.equal(kept, sum(1 << CAPS[name] for name in WITHOUT), "the table is about all that the spawner has")
    tap.equal(launch_and_kill(host), "fine", "and with a cgroup")


@case
def what_it_is_is_said(host):
    """Log, check, status and receipt name direct mode, each; in namespace mode none does."""
    word = "direct mode"
    tap.equal(word in host.log_tail(1000), DIRECT, "the log")
    done = subprocess.run([host.start_program, "--runtime", host.runtime, "--policy", host.policy_path, "--check"],
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    tap.equal(done.returncode, 0, "--check: " + done.stderr)
    mode = [line for line in done.stdout.splitlines() if line.startswith("mode ")]
    tap.equal([word in line for line in mode], [DIRECT], "--check says %s" % mode)
    tap.equal(host.json("check", host.spec())["host"]["direct_mode"], DIRECT, "check --json")
    tap.equal("\nmode " in host.ok("check", host.spec()), DIRECT, "check")
    host.ok("run", host.spec(), "--detach", "--name", "said")
    try:
        tap.equal("\nmode          direct" in host.ok("status", "said"), DIRECT, "status")
        tap.equal([s["direct"] for s in host.json("ps") if s["name"] == "said"], [DIRECT], "ps --json")
        text = host.ok("receipt", "said")
        rows = {row["field"]: row for row in host.json("receipt", "said")["rows"]}
        user, maps = rows["vmm.namespace.user"], rows["outside.vmm.id_maps"]
        lease = host.leases_of(ALICE)[0]
        tap.equal(bool(lease["flags"] & K["WIRE_DIRECT"]), DIRECT, "the lease's flag")
        if DIRECT:
            tap.equal((user["mark"], user["found"]), ("absent", "the host's: direct mode"), "vmm.namespace.user")
            tap.equal(maps["found"], "uid 0 0 4294967295; gid 0 0 4294967295", "outside.vmm.id_maps")
        else:
            tap.equal(user["mark"], "ok", "vmm.namespace.user")
            tap.equal(maps["found"].split(";")[0], "uid %d %d 1" % (lease["uid"], lease["uid"]), "outside.vmm.id_maps")
        tap.equal(word in text, DIRECT, "receipt")
        # All else is as strict as ever: nothing but that row, and what this host lacks in either mode, is missing.
        lacking = {name for name, row in rows.items() if row["mark"] == "absent"}
        tap.equal("vmm.namespace.user" in lacking, DIRECT, "missing: %s" % sorted(lacking))
        tap.equal([name for name in lacking if "namespace" in name and name != "vmm.namespace.user"], [], "other namespaces")
    finally:
        host.ok("kill", "said")


@case
def what_the_host_lacks_is_said(host):
    """--check foresees what the daemons find when they start, and the log names each thing that is missing or in part."""
    done = subprocess.run([host.start_program, "--runtime", host.runtime, "--policy", host.policy_path, "--check"],
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    foreseen = {line.split(None, 1)[0]: line.split(None, 1)[1] for line in done.stdout.splitlines()}
    grants = host.json("check", host.spec())["host"]["grants"]
    for name, text in grants.items():
        if name != "port-filter":
            tap.equal(foreseen[name], text, "--check of " + name)
        whole = re.match(r"(granted(: (descriptor|device node|supplementary|cgroup v2)|$))|not asked for", text)
        tap.equal("this host: %s: %s\n" % (name, text) in host.log_tail(1000), not whole, "log of %s, which is %s" % (name, text))
    tap.equal(foreseen["port-filter"], "tried on the bridge, when it is made", "--check of port-filter")
    # What is there, and port filters are, may be required.
    host.policy["required"] = [name for name, text in grants.items() if text.startswith("granted") and "rlimit" not in text]
    tap.true("port-filter" in host.policy["required"] and len(host.policy["required"]) >= 3, "things to require")
    host.stop()
    host.write_policy()
    host.start()
    tap.equal(launch_and_kill(host), "fine", "a launch with %s required" % host.policy["required"])
    del host.policy["required"]
    host.write_policy()


@case
def a_client_cannot_ask_for_it(host):
    """WIRE_DIRECT in an ACQUIRE is an unknown flag like any other: the session ends."""
    with host.session() as session:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        values = {"uuid": os.urandom(16), "hypervisor": "mock", "vcpus": 1, "memory_mib": 16, "flags": K["WIRE_DIRECT"]}
        try:
            session.call("ACQUIRE", values, [theirs.fileno()])
            raise AssertionError("it was taken")
        except wire.Hangup:
            pass
        finally:
            ours.close()
            theirs.close()


@case
def without_user_namespaces_namespace_mode_refuses(host):
    """The kernel says no, in each way it can: start and --check refuse with the reason and both remedies, and change nothing.
    Direct mode does not ask."""
    other = os.path.join(host.work, "planted")  # a runtime directory of its own: nothing is joined
    policy = dict(host.policy, ids={"first": host.first_uid + harness.UID_COUNT * harness.SLOTS, "count": harness.UID_COUNT})
    path = os.path.join(host.work, "other.json")
    with open(path, "w", encoding="ascii") as f:
        json.dump(policy, f)
    os.chmod(path, 0o644)
    reasons = {"ENOSPC": "user.max_user_namespaces is 0", "EPERM": "kernel.unprivileged_userns_clone",
               "EINVAL": "this kernel is built without them"}
    for error, reason in reasons.items():
        for extra in (["--check"], []):
            if DIRECT and not extra:
                continue  # it would start: the whole suite does that
            done = subprocess.run(
                ["strace", "-f", "-o", "/dev/null", "-e", "trace=unshare", "-e", "inject=unshare:error=" + error,
                 host.start_program, "--runtime", other, "--policy", path, *extra], stdout=subprocess.PIPE,
                stderr=subprocess.PIPE, text=True, timeout=30, env=dict(os.environ, **harness.SANITIZERS))
            if DIRECT:
                tap.equal((done.returncode, "user namespaces:" in done.stderr), (0, False), "direct mode: " + done.stderr)
                continue
            tap.equal(done.returncode, 1, "status with %s: %s" % (error, done.stderr))
            for words in ("user namespaces: uid %d cannot make one" % harness.SPAWN_UID, reason,
                          "set \"mode\": \"direct\"", "holds capabilities of the host", "postern-policy(5)"):
                tap.true(words in done.stderr, "%r is said: %s" % (words, done.stderr))
            if not extra:
                tap.equal(os.listdir(os.path.join(other, "private")), [], "sockets that were made")


@case
def both_halves_are_of_one_mode(host):
    """A policy whose mode was changed does not get a new half beside the old one."""
    spawner = host.spawner
    harness.kill_wait(spawner)
    before = host.policy["daemon"]["mode"]
    host.policy["daemon"]["mode"] = "namespace" if DIRECT else "direct"
    host.write_policy()
    try:
        done = subprocess.run([host.start_program, "--runtime", host.runtime, "--policy", host.policy_path],
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, timeout=30)
        tap.true(done.returncode == 1 and "the mode (namespace or direct)" in done.stderr, "refused: " + done.stderr)
    finally:
        host.policy["daemon"]["mode"] = before
        host.write_policy()
    host.start(wait=False)
    tap.wait_for(lambda: _launches(host), "a launch works again", 10)


def _launches(host):
    try:
        return launch_and_kill(host) == "fine"
    except (wire.Refused, wire.Hangup, AssertionError):
        return False


# ---- mounts: what keeps them as they are when the syscall filter does not --------------------------------------------

MS_REMOUNT, MS_BIND, MS_REC, MS_SHARED, MNT_DETACH = 32, 4096, 16384, 1 << 20, 2


def _mount(source, target, flags):
    done = probe.LIBC.mount(source, target, None, ctypes.c_ulong(flags), None)
    return "OK" if done == 0 else errno.errorcode[ctypes.get_errno()]


def _umount(target):
    done = probe.LIBC.umount2(target, MNT_DETACH)
    return "OK" if done == 0 else errno.errorcode[ctypes.get_errno()]


def _change_mounts():
    return {"umount /run": _umount(b"/run"), "umount /proc": _umount(b"/proc"), "umount /usr": _umount(b"/usr"),
            "umount /dev/kvm": _umount(b"/dev/kvm") if os.path.exists("/dev/kvm") else "EPERM",
            "/ writable": _mount(b"/", b"/", MS_REMOUNT | MS_BIND),
            "/usr writable": _mount(b"/usr", b"/usr", MS_REMOUNT | MS_BIND),
            "/run executable": _mount(b"/run", b"/run", MS_REMOUNT | MS_BIND),
            "/ shared": _mount(None, b"/", MS_REC | MS_SHARED), "bind": _mount(b"/usr", b"/run", MS_BIND)}


def _as_the_vmm(pid, uid):
    """In the VMM's namespaces as the VMM's user: by itself, then as root of a user namespace of its own."""
    spaces = [os.open("/proc/%d/ns/%s" % (pid, kind), os.O_RDONLY) for kind in (("mnt",) if DIRECT else ("user", "mnt"))]
    if DIRECT:
        os.setgroups([])
    for fd in spaces:
        if probe.call("setns", fd, 0) != "OK":
            return "cannot enter"
    os.setresgid(uid["gid"], uid["gid"], uid["gid"])
    os.setresuid(uid["uid"], uid["uid"], uid["uid"])
    # In namespace mode entering gave all capabilities of the sandbox's namespace, which the VMM does not have.
    header = (ctypes.c_uint32 * 2)(0x20080522, 0)
    if probe.LIBC.capset(header, (ctypes.c_uint32 * 6)()) != 0:
        return "cannot drop"
    found = {"as X: " + name: result for name, result in _change_mounts().items()}
    made = probe.call("unshare", probe.CLONE_NEWUSER | probe.CLONE_NEWNS)
    found.update({"in a namespace of X's: " + name: result for name, result in _change_mounts().items()
                  if made == "OK" and name not in ("bind", "/ shared")})  # those two are its own copy's to change
    return found


@case
def mounts_stay_even_without_the_filter(host):
    """In direct mode no mount is locked by a boundary of namespaces: that nobody in the sandbox has a capability is enough."""
    before = harness.mounts(host.spawner)
    with host.launch("hostile", ["hold"]) as launch:
        pid = launch.vmm_pid()
        for other in (pid, host.spawner):
            text = open("/proc/%d/mountinfo" % other, encoding="utf-8").read()
            tap.true("shared:" not in text and "master:" not in text, "mounts of %s are private" % harness.comm(other))
        tap.equal(harness.mounts(host.spawner), before, "mounts of the spawner while a sandbox runs")
        read, write = os.pipe()
        child = os.fork()
        if child == 0:
            result = "?"
            try:
                result = _as_the_vmm(pid, launch.lease)
            except BaseException as why:
                result = repr(why)
            finally:
                os.write(write, json.dumps(result).encode())
                os._exit(0)
        os.close(write)
        with os.fdopen(read, "rb") as f:
            results = json.loads(f.read())
        os.waitpid(child, 0)
        tap.true(isinstance(results, dict) and len(results) >= 9, "the attempts were made: %s" % results)
        tap.equal(probe.succeeded(results), [], "what changed a mount: %s" % results)
        tap.true(set(results.values()) <= {"EPERM", "EINVAL", "EACCES"}, "refused for the right reason: %s" % results)


harness.main(fault=True)
