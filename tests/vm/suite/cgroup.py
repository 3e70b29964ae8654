# SPDX-License-Identifier: Apache-2.0
# Runs: tests (root, inside the test VM). Version 2 of cgroups with every controller: limits are in the kernel's files, they
# bite, a group is killed whole, nothing of it can be changed from inside or from the user's side.
#
# What holds on every kind of host is in tests/integration/test_limits.py, which runs here too.
import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "integration"))
import harness  # noqa: E402
import tap  # noqa: E402
import wire  # noqa: E402
from harness import ALICE, BOB, EXIT, SPAWN_UID  # noqa: E402
from tap import case  # noqa: E402

MIB = 1 << 20
ROOT = "/sys/fs/cgroup"
SURVIVE = wire.T.constants["WIRE_SURVIVE"]


def policy(config, host):
    config["limits"] = {"overhead_mib": 128, "swap_mib": 64, "pids": 300, "cpu_percent": 400, "io_weight": 500}


def group(lease):
    return ROOT + lease["cgroup"]


def parent(lease):
    return os.path.dirname(group(lease))


def read(*path):
    with open(os.path.join(*path), encoding="ascii") as f:
        return f.read().strip()


def write(text, *path):
    with open(os.path.join(*path), "w", encoding="ascii") as f:
        f.write(text)


def counters(*path):
    return {key: int(value) for key, value in (line.split() for line in read(*path).splitlines())}


def started(host, name, uid=ALICE, **fields):
    host.ok("run", host.spec(uid, **fields), "--detach", "--name", name, uid=uid)
    return host.leases_of(uid)[-1]


@case
def each_limit_is_in_its_file(host):
    """As asked for where the spec says something, as the policy says where not; and the receipt has read the same files."""
    before = host.snapshot()
    asked = started(host, "asked", limits={"memory": "96M", "swap": "32M", "pids": 99, "cpu_percent": 50, "io_weight": 250})
    default = started(host, "default", BOB)
    files = {"memory.max": (96 * MIB, 144 * MIB), "memory.swap.max": (32 * MIB, 64 * MIB), "pids.max": (99, 300),
             "cpu.max": ("50000 100000", "400000 100000"), "io.weight": ("default 250", "default 500"),
             "memory.oom.group": (1, 1)}
    for name, wanted in files.items():
        tap.equal((read(group(asked), name), read(group(default), name)), tuple(map(str, wanted)), name)
    for name, uid, row in (("asked", ALICE, 0), ("default", BOB, 1)):
        rows = {line["field"]: line for line in host.json("receipt", name, uid=uid)["rows"]}
        for field, wanted in (("memory_max", files["memory.max"]), ("swap_max", files["memory.swap.max"]),
                              ("pids_max", (99, 300)), ("cpu_max", (50, 400)), ("io_weight", (250, 500))):
            found = rows["outside.vmm." + field]
            tap.equal((found["mark"], found["found"]), ("ok", str(wanted[row])), "%s of %s" % (field, name))
        tap.equal((rows["grant.cgroup"]["mark"], rows["vmm.cgroup"]["found"]), ("ok", "/"), "the grant")
    done = host.cli("run", host.spec(limits={"io_weight": 501}), "--detach")
    tap.equal(done.returncode, EXIT["DENIED"], "more than the policy's: " + done.stderr)
    host.ok("kill", "asked")
    host.ok("kill", "default", uid=BOB)
    host.settle(before, ignore=("user files",))


@case
def a_limit_without_its_controller_is_told_and_refused_when_required(host):
    """io and cpu switched off for the sandboxes by the administrator, at run time."""
    before = host.snapshot()
    lease = started(host, "full")
    host.ok("kill", "full")
    tap.wait_for(lambda: not os.path.exists(group(lease)), "it is gone")
    write("-io -cpu", parent(lease), "cgroup.subtree_control")
    try:
        part = started(host, "part")
        tap.equal(wire.T.outcomes[part["grants"][wire.T.grants.index("CGROUP")]], "PARTIAL", "the lease")
        rows = {line["field"]: line for line in host.json("receipt", "part")["rows"]}
        tap.equal({field: rows["outside.vmm." + field]["mark"] for field in ("memory_max", "pids_max", "cpu_max", "io_weight")},
                  {"memory_max": "ok", "pids_max": "ok", "cpu_max": "absent", "io_weight": "absent"}, "the receipt")
        host.ok("kill", "part")
        try:
            host.launch("hostile", ["exit:0"], flags=wire.T.constants["WIRE_CGROUP_REQUIRE"]).close()
            raise AssertionError("granted")
        except wire.Refused as why:
            tap.equal((why.code, why.step), ("STEP_FAILED", "CGROUP_LIMIT"), "refused")
    finally:
        write("+io +cpu", parent(lease), "cgroup.subtree_control")
    host.settle(before, ignore=("user files",))


@case
def a_busy_vmm_is_throttled(host):
    before = host.snapshot()
    with host.launch("hostile", ["threads:2:busy", "hold"], limits={"cpu_percent": 10}) as launch:
        stat = tap.wait_for(lambda: counters(group(launch.lease), "cpu.stat")["nr_throttled"] > 2 and
                            counters(group(launch.lease), "cpu.stat"), "it is throttled", 30)
        tap.true(stat["throttled_usec"] > 0, "for a time: %s" % stat)
    host.settle(before)


@case
def everything_in_the_group_counts_as_a_process(host):
    """pids.max itself, not the rlimit beside it: what the kernel puts into the group (here: root does) counts too."""
    before = host.snapshot()
    launch = host.launch("hostile", plan=False, limits={"pids": 24})
    others = [subprocess.Popen(["sleep", "100"]) for _ in range(6)]
    with launch:
        try:
            for process in others:
                write(str(process.pid), group(launch.lease), "cgroup.procs")
            launch.send_plan([launch.path, "threads:100", "exit:0"])
            launch._wait_for("C_FACTS")
            said = [json.loads(line) for line in launch.output().splitlines()]
            made = [line["threads"] for line in said if "threads" in line]
            tap.equal(made, [24 - 6 - 2], "threads beside the others, init and the first one: %s" % said)
            tap.true(counters(group(launch.lease), "pids.events")["max"] > 0, "the group's own limit said no")
        finally:
            for process in others:
                process.kill()
                process.wait()
    host.settle(before)


@case
def every_task_of_a_sandbox_is_in_its_group(host):
    """A38: init, the VMM, each of its threads, and nothing that is not the sandbox's."""
    before = host.snapshot()
    with host.launch("hostile", ["threads:5", "hold"]) as launch:
        tap.wait_for(lambda: len(os.listdir("/proc/%d/task" % launch.vmm_pid())) == 6, "its threads")
        tasks = {int(tid) for tid in os.listdir("/proc/%d/task" % launch.vmm_pid())} | {launch.lease["init_pid"]}
        tap.equal({int(tid) for tid in read(group(launch.lease), "cgroup.threads").split()}, tasks, "tasks in the group")
        tap.equal(counters(group(launch.lease), "cgroup.events")["populated"], 1, "populated")
    host.settle(before)


@case
def neither_user_nor_sandbox_can_write_in_the_tree(host):
    """The group is the spawner's, its limits and its parent's are root's; a process cannot be moved out or in by a user."""
    before = host.snapshot()
    lease = started(host, "mine")
    (vmm,) = harness.children(lease["init_pid"])
    owners = {name: os.stat(os.path.join(parent(lease), name)).st_uid for name in os.listdir(parent(lease))
              if os.path.isfile(os.path.join(parent(lease), name))}
    tap.equal({name for name, uid in owners.items() if uid == SPAWN_UID},
              {"cgroup.procs", "cgroup.threads", "cgroup.subtree_control"}, "what the spawner has of the parent's")
    bad = []
    for path in (group(lease), parent(lease)):
        for name in os.listdir(path):
            mode = os.stat(os.path.join(path, name)).st_mode
            if mode & 0o022 or os.stat(os.path.join(path, name)).st_uid not in (0, SPAWN_UID):
                bad.append(name)
    tap.equal(bad, [], "files that others could write")
    for uid in (ALICE, lease["uid"]):
        for path, text in ((parent(lease) + "/cgroup.procs", str(vmm)), (group(lease) + "/memory.max", "max"),
                           (group(lease) + "/cgroup.procs", "0"), (group(lease) + "/cgroup.kill", "1"),
                           (ROOT + "/cgroup.procs", str(vmm))):
            pid = os.fork()
            if pid == 0:
                try:
                    os.setgroups([])
                    os.setgid(uid)
                    os.setuid(uid)
                    write(text, path)
                    os._exit(0)
                except OSError:
                    os._exit(1)
            tap.equal(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), 1, "%d wrote to %s" % (uid, path))
    host.ok("kill", "mine")
    host.settle(before, ignore=("user files",))


@case
def kill_ends_a_sandbox_that_is_full_and_deaf(host):
    """Forty busy threads, in a VMM that is stopped, below an init that is stopped: KILL ends all of it."""
    before = host.snapshot()
    launch = host.launch("hostile", ["threads:40:busy", "hold"], flags=SURVIVE, limits={"cpu_percent": 20})
    vmm, init = launch.vmm_pid(), launch.lease["init_pid"]
    tap.wait_for(lambda: len(os.listdir("/proc/%d/task" % vmm)) > 30, "its threads", 60)
    os.kill(vmm, signal.SIGSTOP)
    os.kill(init, signal.SIGSTOP)
    with host.session() as session:
        session.call("KILL", {"uuid": launch.uuid})
    tap.wait_for(lambda: not os.path.exists(group(launch.lease)), "its group is gone", 20)
    tap.true(not harness.alive(vmm) and not harness.alive(init), "and so are they")
    launch.close()
    host.settle(before)


@case
def a_frozen_group_can_be_killed(host):
    """Frozen by root (cgroup.freeze): a signal waits for nothing there."""
    before = host.snapshot()
    launch = host.launch("hostile", ["hold"], flags=SURVIVE)
    write("1", group(launch.lease), "cgroup.freeze")
    tap.wait_for(lambda: counters(group(launch.lease), "cgroup.events")["frozen"] == 1, "it is frozen")
    with host.session() as session:
        session.call("KILL", {"uuid": launch.uuid})
    tap.wait_for(lambda: not os.path.exists(group(launch.lease)), "its group is gone", 20)
    launch.close()
    host.settle(before)


@case
def memory_that_the_host_lacks_is_not_called_a_limit(host):
    """The group around all sandboxes runs out: one sandbox goes, whole, and its user hears whose memory it was."""
    before = host.snapshot()
    neighbour = started(host, "neighbour")
    top = parent(neighbour)
    write(str(int(read(top, "memory.current")) + 40 * MIB), top, "memory.max")
    write("0", top, "memory.swap.max")
    try:
        spec = host.spec(kernel=host.user_file(ALICE, "kernel", b"kernel"), kernel_only=True, cmdline="eat=100")
        done = host.cli("run", spec, "--name", "hungry", timeout=100)
        tap.equal(done.returncode, EXIT["MEMORY"], "its status: " + done.stderr)
        tap.true("the host ran out of memory" in done.stderr and "limit" not in done.stderr, done.stderr)
    finally:
        write("max", top, "memory.max")
        write("max", top, "memory.swap.max")
    tap.equal([lease["uuid"] for lease in host.leases_of(ALICE)], [neighbour["uuid"]], "the neighbour lives")
    host.ok("kill", "neighbour")
    host.settle(before, ignore=("user files",))


@case
def a_qemu_that_runs_out_of_memory_is_reported(host):
    """The real VMM, while it makes its guest's memory: the launch fails, and says that it was memory."""
    before = host.snapshot()
    # QEMU's own size alone is above that; less than the guest's memory is refused.
    spec = host.spec(hypervisor="qemu", memory=8, limits={"memory": "8M", "swap": "1M"}, accel="kvm",
                     kernel=host.user_file(ALICE, "kernel", b"\0" * 4096), kernel_only=True)
    done = host.cli("run", spec, "--detach", timeout=100)
    tap.equal(done.returncode, EXIT["MEMORY"], "its status: " + done.stderr)
    tap.true("killed: out of memory (limit 8 MiB)" in done.stderr, done.stderr)
    host.settle(before, ignore=("user files",))


@case
def daemons_are_in_a_group_of_their_own(host):
    """So that they neither count against a sandbox nor die with one."""
    lease = started(host, "there")
    leaf = parent(lease) + "/daemons"
    tap.true({host.broker, host.spawner} <= {int(pid) for pid in read(leaf, "cgroup.procs").split()}, "both daemons")
    tap.true(re.fullmatch(re.escape(parent(lease)) + r"/x\d+", group(lease)), "a group beside them: " + group(lease))
    tap.true({"memory", "pids", "cpu", "io"} <= set(read(parent(lease), "cgroup.subtree_control").split()), "controllers")
    host.ok("kill", "there")


@case
def leftovers_are_killed_by_their_group(host):
    """Both daemons killed, a sandbox that would survive: the next start ends what nobody knows any more."""
    launch = host.launch("hostile", ["threads:20", "hold"], flags=SURVIVE)
    init = launch.lease["init_pid"]
    for pid in (host.spawner, host.broker):
        harness.kill_wait(pid)
    with contextlib.suppress(subprocess.TimeoutExpired):
        host.starter.wait(5)
    tap.true(harness.alive(init), "it lives on")
    host.start()
    tap.true(not harness.alive(init) and not os.path.exists(group(launch.lease)), "ended, before anything new may start")
    tap.true("earlier start" in host.log_tail(20), "and told")
    launch.close()
    time.sleep(0.1)


harness.main(policy=policy)
