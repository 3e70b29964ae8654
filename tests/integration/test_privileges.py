# SPDX-License-Identifier: Apache-2.0
# Runs: tests (root). The table of privileges, read from /proc while a sandbox runs.
import ctypes
import os
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import harness  # noqa: E402
import tap  # noqa: E402
import wire  # noqa: E402
from harness import ALICE, BROKER_UID, DIRECT, SPAWN_UID  # noqa: E402
from tap import case  # noqa: E402

sys.path.insert(0, os.path.join(harness.ROOT, "tests", "security"))
import probe  # noqa: E402

KINDS = ("user", "mnt", "pid", "net", "ipc", "uts", "cgroup")
SIX = sum(1 << cap for cap in (5, 6, 7, 8, 12, 21))  # kill, setgid, setuid, setpcap, net_admin, sys_admin


def sets(pid):
    found = harness.status(pid)
    return {name: int(found[name], 16) for name in harness.CAP_SETS}


def flags(pid):
    found = harness.status(pid)
    return int(found["NoNewPrivs"]), int(found["Seccomp"])


HEADER = (ctypes.c_uint32 * 2)(0x20080522, 0)  # of capset(2), version 3


@case
def broker_has_nothing(host):
    pid = host.broker
    tap.equal(harness.uids(pid), [BROKER_UID] * 4, "uids")
    tap.equal(sets(pid), dict.fromkeys(harness.CAP_SETS, 0), "capability sets")
    tap.equal(flags(pid), (1, 2), "no_new_privs and seccomp")
    tap.true("0" not in harness.status(pid)["Groups"].split(), "not in root's group: " + harness.status(pid)["Groups"])
    tap.equal(harness.namespace(pid, "user"), harness.namespace("self", "user"), "it sees peers as they are")


@case
def broker_never_held_roots_code(host):
    """postern-start is gone by exec: what runs is the broker's program."""
    tap.equal(os.path.basename(harness.exe(host.broker)), "postern-broker", "program of the broker")
    tap.equal([p for p in harness.own_pids(host) if harness.uids(p)[:1] == [0]], [], "processes of this Postern with uid 0")


@case
def spawner_has_nothing_here(host):
    """What it holds counts in P alone: each thing that root of this host could do with such sets is refused. In direct mode
    it is six capabilities of this host and no more, in no set that an exec could widen again."""
    pid = host.spawner
    tap.equal(harness.uids(pid), [SPAWN_UID] * 4, "uids, seen from here")
    tap.equal(harness.status(pid)["Groups"].split(), [], "groups")
    tap.equal(flags(pid), (1, 2), "no_new_privs and seccomp")
    tap.true(sets(pid)["CapInh"] == sets(pid)["CapAmb"] == 0, "nothing is inheritable or ambient")
    for kind in ("mnt", "net") if DIRECT else ("user", "mnt", "net"):
        tap.true(harness.namespace(pid, kind) != harness.namespace("self", kind),
                 "its %s namespace is not the host's" % kind)
    if DIRECT:
        tap.equal(harness.namespace(pid, "user"), harness.namespace("self", "user"), "user namespace")
        tap.equal({sets(pid)[name] for name in ("CapPrm", "CapEff", "CapBnd")}, {SIX}, "permitted, effective and bounding set")
        return
    mapped = [tuple(map(int, line.split())) for line in open("/proc/%d/uid_map" % pid, encoding="ascii")]
    tap.equal(sorted(mapped), [(0, SPAWN_UID, 1), (host.first_uid, host.first_uid, harness.UID_COUNT)], "P's uids")
    mapped = [tuple(map(int, line.split())) for line in open("/proc/%d/gid_map" % pid, encoding="ascii")]
    tap.true(all(outside != 0 for _, outside, _ in mapped), "gid 0 of the host is not in P: %s" % mapped)


@case
def spawners_namespace_reaches_nothing(host):
    """A process that root puts where the spawner is, with all of P's capabilities and no filter: nothing of the host. With
    the six of direct mode: what docs/threat-model.md says that this mode gives up, which is nearly all."""
    pid = host.spawner
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(read)
        try:
            results = _reach(pid)
        except BaseException as why:
            results = repr(why)
        os.write(write, repr(results).encode())
        os._exit(0)
    os.close(write)
    with os.fdopen(read, "rb") as f:
        results = f.read().decode()
    os.waitpid(child, 0)
    expected = {"shadow": "no", "setuid 1000": "EINVAL", "setuid 0 of the host": "EINVAL", "kill init": "EPERM",
                "host net": "EPERM",
                "host mnt": "EPERM", "host user": "EPERM", "mknod": "EPERM", "capable here": "OK"}
    if DIRECT:
        expected.update({"setuid 1000": "OK", "kill init": "OK", "host net": "OK", "host user": "EINVAL"})
        expected["setuid 0 of the host"] = "OK"
    tap.equal(eval(results), expected, "what P's root may do")


def _reach(pid):
    # Namespaces by descriptors taken before: afterwards there is no path to the host's.
    host_ns = {kind: os.open("/proc/self/ns/" + kind, os.O_RDONLY) for kind in ("net", "mnt", "user")}
    shadow = os.open("/etc", os.O_PATH)
    fd = os.open("/proc/%d/ns/user" % pid, os.O_RDONLY)
    if DIRECT:
        probe.LIBC.prctl(8, 1, 0, 0, 0)  # PR_SET_KEEPCAPS
    os.setgroups([])
    os.setresgid(SPAWN_UID, SPAWN_UID, SPAWN_UID)
    os.setresuid(SPAWN_UID, SPAWN_UID, SPAWN_UID)
    if DIRECT:
        first = "OK" if probe.LIBC.capset(HEADER, (ctypes.c_uint32 * 6)(SIX, SIX, 0, 0, 0, 0)) == 0 else "capset"
    else:  # as the owner of P, with no capability of the host left: this is how a new spawner comes in
        first = probe.call("setns", fd, probe.CLONE_NEWUSER)
    if first != "OK":
        return "entering P: " + first
    results = {"capable here": probe.call("unshare", probe.CLONE_NEWNET)}
    try:
        os.close(os.open("shadow", os.O_RDONLY, dir_fd=shadow))
        results["shadow"] = "OK"
    except OSError:
        results["shadow"] = "no"
    results["setuid 1000"] = probe.attempt(os.setresuid, 1000, 1000, 1000)
    root = 0 if DIRECT else 4294967294  # where P shows everybody who has no number there
    results["setuid 0 of the host"] = probe.attempt(os.setresuid, root, -1, -1) if DIRECT else probe.attempt(
        os.setresuid, root, root, root)
    results["kill init"] = probe.attempt(os.kill, 1, 0)
    results["host net"] = probe.call("setns", host_ns["net"], probe.CLONE_NEWNET)
    results["host mnt"] = probe.call("setns", host_ns["mnt"], probe.CLONE_NEWNS)
    results["host user"] = probe.call("setns", host_ns["user"], probe.CLONE_NEWUSER)
    results["mknod"] = probe.attempt(os.mknod, "/tmp/postern-test-node", 0o20600, os.makedev(1, 3))
    return results


@case
def init_and_vmm_have_nothing(host):
    for nics in ((), [{"network": "lan", "queues": 1}]):
        with host.launch("hostile", ["hold"], nics=nics) as launch:
            uid = launch.lease["uid"]
            tap.true(host.in_range(uid), "uid %d is of the range" % uid)
            for pid in (launch.lease["init_pid"], launch.vmm_pid()):
                name = harness.comm(pid)
                tap.equal(harness.uids(pid), [uid] * 4, "uids of " + name)
                tap.equal(sets(pid), dict.fromkeys(harness.CAP_SETS, 0), "capability sets of " + name)
                tap.equal(flags(pid), (1, 2), "no_new_privs and seccomp of " + name)
                tap.equal(harness.status(pid)["Groups"].split(), [], "groups of " + name)
                for kind in KINDS[1:] if DIRECT else KINDS:
                    mine = harness.namespace(pid, kind)
                    tap.true(mine != harness.namespace("self", kind), "%s of %s is not the host's" % (kind, name))
                    tap.true(mine != harness.namespace(host.spawner, kind), "%s of %s is not the spawner's" % (kind, name))
                mapped = open("/proc/%d/uid_map" % pid, encoding="ascii").read().split()
                tap.equal(mapped[2:], ["4294967295"] if DIRECT else ["1"], "uids that are mapped in " + name)


@case
def a_controller_is_just_its_user(host):
    host.ok("run", host.spec(), "--detach", "--name", "just")
    try:
        pid = host.controllers()[0]
        tap.equal(harness.uids(pid), [ALICE] * 4, "uids")
        found = sets(pid)
        tap.equal([found[n] for n in ("CapInh", "CapPrm", "CapEff", "CapAmb")], [0] * 4, "capability sets")
        tap.equal(flags(pid)[0], 1, "no_new_privs")
    finally:
        host.ok("kill", "just")


@case
def shared_netns_is_empty_and_p_owned(host):
    shared = wire.T.constants["WIRE_NETNS_SHARED"]
    with host.launch("hostile", ["hold"], flags=shared) as one, host.launch("hostile", ["hold"], flags=shared) as two:
        tap.equal(harness.namespace(one.vmm_pid(), "net"), harness.namespace(two.vmm_pid(), "net"), "the shared namespace")
        tap.true(harness.namespace(one.vmm_pid(), "net") != harness.namespace("self", "net"), "not the host's")
        out = harness.run_ok("nsenter", "--net=/proc/%d/ns/net" % one.vmm_pid(), "ip", "-o", "link")
        tap.equal(len(out.splitlines()), 1, "interfaces in it")


harness.main()
