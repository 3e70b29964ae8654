# SPDX-License-Identifier: Apache-2.0
# Runs: tests (root). Limits of a sandbox: they are set, they hold, they hurt nobody else, and what happened is told.
#
# Where the limits are depends on the host: version 2 of cgroups, version 1, or nowhere. Each case says what it wants.
import contextlib
import json
import os
import signal
import subprocess
import sys
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import harness  # noqa: E402
import tap  # noqa: E402
import wire  # noqa: E402
from harness import ALICE, BOB, EXIT  # noqa: E402
from tap import case  # noqa: E402

MIB = 1 << 20


def outcome(host):
    """How this host limits: "BY_CGROUP2", "BY_CGROUP1" or "BY_RLIMIT"."""
    with host.session() as session:
        reply, _ = session.call("HOST")
    return wire.T.outcomes[reply["outcomes"][wire.T.grants.index("CGROUP")]]


def wants_controllers(host):
    found = outcome(host)
    if found == "BY_RLIMIT":
        raise tap.Skip("no cgroup controllers on this host")
    return found


def groups_of(pid):
    """{controller: path of its directory}; "" is version 2, where it is all there is."""
    found = {}
    for line in open("/proc/%d/cgroup" % pid, encoding="ascii"):
        _, names, path = line.rstrip("\n").split(":", 2)
        for name in names.split(","):
            found[name] = os.path.join("/sys/fs/cgroup", names) + path
    return found


def read_limit(pid, v2, controller, v1):
    """The text of a limit's file for a process, None without one."""
    groups = groups_of(pid)
    for name, file in (("", v2), (controller, v1)):
        with contextlib.suppress(FileNotFoundError, KeyError, IsADirectoryError):
            with open(os.path.join(groups[name], file), encoding="ascii") as f:
                return f.read().strip()
    return None


def eater(host, mib=256, **fields):
    fields.setdefault("limits", {"memory": "48M"})
    return host.spec(kernel=host.user_file(ALICE, "kernel", b"kernel"), kernel_only=True, cmdline="eat=%d" % mib, **fields)


@case
def limits_are_what_the_kernel_says(host):
    """Each limit of a spec, read from the kernel's files for the VMM, and again in the receipt."""
    found = wants_controllers(host)
    before = host.snapshot()
    host.ok("run", host.spec(limits={"memory": "64M", "pids": 77, "cpu_percent": 150}), "--detach", "--name", "l")
    (lease,) = host.leases_of(ALICE)
    (vmm,) = harness.children(lease["init_pid"])
    for pid in (vmm, lease["init_pid"]):
        tap.equal(read_limit(pid, "memory.max", "memory", "memory.limit_in_bytes"), str(64 * MIB), "memory")
        tap.equal(read_limit(pid, "pids.max", "pids", "pids.max"), "77", "pids")
        tap.true(read_limit(pid, "cpu.max", "cpu", "cpu.cfs_quota_us") in ("150000 100000", "150000"), "cpu")
        if found == "BY_CGROUP2":
            tap.equal(read_limit(pid, "memory.swap.max", "", ""), "0", "no swap but what was asked for")
            tap.equal(read_limit(pid, "memory.oom.group", "", ""), "1", "it dies whole")
    rows = {row["field"]: row for row in host.json("receipt", "l")["rows"]}
    for field, text in (("memory_max", str(64 * MIB)), ("pids_max", "77"), ("cpu_max", "150")):
        row = rows["outside.vmm." + field]
        tap.equal((row["mark"], row["found"]), ("ok", text), field)
    tap.equal(rows["grant.cgroup"]["mark"], "ok", "the grant: %s" % rows["grant.cgroup"])
    host.ok("kill", "l")
    host.settle(before, ignore=("user files",))


@case
def a_sandbox_that_runs_out_of_memory_dies_alone(host):
    """It dies, its user is told that it was memory and how much there was; its neighbour and the daemons go on."""
    wants_controllers(host)
    host.ok("run", host.spec(limits={"memory": "48M"}), "--detach", "--name", "neighbour")
    (neighbour,) = host.leases_of(ALICE)
    daemons = (host.broker, host.spawner)
    before = host.snapshot()
    done = host.cli("run", eater(host), "--name", "hungry")
    tap.equal(done.returncode, EXIT["MEMORY"], "its status: " + done.stderr)
    tap.true("killed: out of memory (limit 48 MiB)" in done.stderr and "limits.memory" in done.stderr, done.stderr)
    tap.equal((host.broker, host.spawner), daemons, "the daemons")
    tap.equal([l["uuid"] for l in host.leases_of(ALICE)], [neighbour["uuid"]], "the neighbour lives")
    host.ok("audit", "neighbour")
    (dead,) = [row for row in host.json("ps", "--all") if row["name"] == "hungry"]
    tap.equal((dead["status"], dead["exit_status"]), ("ended", EXIT["MEMORY"]), "ps --all --json")
    tap.true(dead["reason"].startswith("killed: out of memory (limit 48 MiB)"), dead["reason"])
    tap.true("out of memory" in host.ok("logs", dead["uuid"]), "its log")
    line = [text for text in host.log_tail(40).splitlines() if "op=GONE" in text and dead["uuid"] in text]
    tap.true(line and "oom=limit" in line[0] and "memory_mib=48" in line[0] and "uid=%d" % ALICE in line[0],
             "the broker's log: %s" % line)
    host.settle(before, ignore=("user files",))
    host.ok("kill", "neighbour")


@case
def ended_says_so_over_the_wire(host):
    """ENDED: not while it lives, not to somebody else, not of what never was."""
    wants_controllers(host)
    before = host.snapshot()

    def ended(uuid, uid=ALICE):
        with host.session(uid) as session:
            try:
                return session.call("ENDED", {"uuid": uuid})[0]
            except wire.Refused as why:
                return why.code

    with host.launch("hostile", ["hold"], limits={"memory_mib": 32}) as launch:
        tap.equal(ended(launch.uuid), "NOT_FOUND", "it lives")
    tap.wait_for(lambda: ended(launch.uuid) != "NOT_FOUND", "it is known to have ended")
    tap.equal(ended(launch.uuid)["oom"], 0, "hung up")
    with host.launch("hostile", ["eat:200", "hold"], limits={"memory_mib": 32}) as launch:
        reply = tap.wait_for(lambda: isinstance(ended(launch.uuid), dict) and ended(launch.uuid), "its end")
        tap.equal((reply["oom"], reply["clean"], reply["memory_mib"]), (1, 1, 32), "by memory")
        tap.true(abs(reply["ended_ns"] - time.time_ns()) < 30 * 10**9, "when")
    tap.equal((ended(launch.uuid, BOB), ended(os.urandom(16))), ("NOT_FOUND", "NOT_FOUND"), "nobody else's business")
    tap.equal(ended(launch.uuid, 0)["oom"], 1, "root's it is")
    host.settle(before)


@case
def a_kill_is_not_called_lack_of_memory(host):
    before = host.snapshot()
    process = host.popen("run", host.spec(), "--name", "victim", stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    lease = tap.wait_for(lambda: host.leases_of(ALICE), "a lease")[0]
    tap.wait_for(lambda: host.json("status", "victim")["status"] == "running", "it runs")
    (vmm,) = harness.children(lease["init_pid"])
    os.kill(vmm, signal.SIGKILL)
    _, error = process.communicate(timeout=20)
    tap.equal(process.returncode, EXIT["GUEST"], "its status: " + error)
    tap.true("signal 9" in error and "memory" not in error, error)
    host.settle(before, ignore=("user files",))


@case
def a_limit_of_processes_stops_the_next_thread(host):
    """The VMM's own threads count, with its init; a thread beyond the limit is EAGAIN and hurts nobody."""
    before = host.snapshot()
    with host.launch("hostile", ["threads:100", "exit:0"], limits={"pids": 20}) as launch:
        said = [json.loads(line) for line in launch.output().splitlines()]
    made = [line["threads"] for line in said if "threads" in line]
    # init and the VMM's first thread are two of the twenty
    tap.true(made and 10 <= made[0] <= 18, "threads made: %s" % made)
    tap.true({"did": "threads:100", "r": "EAGAIN"} in said, "the next one: %s" % said)
    host.settle(before)


@case
def a_sandbox_cannot_leave_its_group_or_see_others(host):
    before = host.snapshot()
    words = ["open:/sys/fs/cgroup:r", "open:/sys/fs/cgroup/cgroup.procs:w", "open:/sys/fs/cgroup/memory.max:w",
             "mkdir:/sys/fs/cgroup/x", "mount:cgroup2:/run", "clone:0x02000000", "unshare:0x02000000", "exit:0"]
    with host.launch("hostile", words) as launch:
        results = {line["did"]: line["r"] for line in map(json.loads, launch.output().splitlines()) if "did" in line}
        if launch.lease["cgroup"]:
            tap.equal(launch.facts["cgroup"], "/", "its own group is the root of all that it can name")
        cgroup_ns = launch.facts["namespaces"][6]
    tap.equal([word for word in words[:-1] if results.get(word) in (None, "OK")], [], "what was possible: %s" % results)
    tap.true(cgroup_ns["vmm"] not in (0, os.stat("/proc/self/ns/cgroup").st_ino), "its cgroup namespace")
    host.settle(before)


@case
def a_limit_that_cannot_be_set_is_told_and_may_be_refused(host):
    """Version 1 has no io.weight of ours: granted in part, shown in the receipt, refused for who requires a cgroup. With
    version 2 the same request is granted whole."""
    whole = wants_controllers(host) == "BY_CGROUP2"
    before = host.snapshot()
    spec = {"limits": {"io_weight": 200}}
    host.ok("run", host.spec(**spec), "--detach", "--name", "part")
    (lease,) = host.leases_of(ALICE)
    grants = wire.T.grants.index("CGROUP")
    tap.equal(wire.T.outcomes[lease["grants"][grants]], "BY_CGROUP2" if whole else "PARTIAL", "the lease")
    receipt = host.json("receipt", "part")
    rows = {row["field"]: row for row in receipt["rows"]}
    tap.true(receipt["good"], "the policy accepts it")
    for field in ("grant.cgroup", "outside.vmm.io_weight"):
        tap.equal(rows[field]["mark"], "ok" if whole else "absent", "%s: %s" % (field, rows[field]))
    tap.equal(rows["outside.vmm.memory_max"]["mark"], "ok", "the others are set: %s" % rows["outside.vmm.memory_max"])
    host.ok("kill", "part")
    tap.wait_for(lambda: not host.leases_of(ALICE), "it is gone")
    try:
        host.launch("hostile", ["exit:0"], flags=wire.T.constants["WIRE_CGROUP_REQUIRE"], limits={"io_weight": 200}).close()
        tap.true(whole, "granted")
    except wire.Refused as why:
        tap.true(not whole, "refused")
        tap.equal((why.code, why.step), ("STEP_FAILED", "CGROUP_LIMIT"), "refused")
    host.launch("hostile", ["exit:0"], flags=wire.T.constants["WIRE_CGROUP_REQUIRE"]).close()
    host.settle(before, ignore=("user files",))


harness.main()
