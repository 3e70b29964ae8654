# SPDX-License-Identifier: Apache-2.0
# Runs: tests (root, inside the test VM booted with systemd). Our unit files as systemd really treats them: who starts what,
# who is restarted beside whom, whose groups are whose, and that one command ends everything. vm run --systemd.
import json
import os
import re
import signal
import subprocess
import sys
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import installed  # noqa: E402
import harness  # noqa: E402
import tap  # noqa: E402
from harness import ALICE  # noqa: E402
from tap import case  # noqa: E402

UNITS = "/lib/systemd/system"
BROKER, SPAWNER, SOCKET, ALL = "postern-broker.service", "postern-spawner.service", "postern-broker.socket", "postern.target"
TREE = "/sys/fs/cgroup/system.slice/" + SPAWNER
PATIENCE = "/run/systemd/system/%s.d/patience.conf" % SPAWNER
MOCK = ("--hypervisor", "mock", "--memory", "16", "--detach")


def run(*argv, ok=True):
    done = subprocess.run(argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if ok and done.returncode != 0:
        raise AssertionError("%s: status %d: %s" % (" ".join(argv), done.returncode, done.stdout))
    return done.stdout


def systemctl(*words, **more):
    return run("systemctl", *words, **more)


def show(unit, *names):
    lines = systemctl("show", unit, "-p", ",".join(names)).splitlines()
    return dict(line.split("=", 1) for line in lines if "=" in line)


def read(*path):
    with open(os.path.join(*path), encoding="ascii") as f:
        return f.read().strip()


def write(path, text):
    """In place: the file keeps its label."""
    with open(path, "w", encoding="utf-8") as f:
        f.write(text)


class Systemd(installed.Installed):
    """Started and stopped by its units only."""

    def _end_leftovers(self):
        systemctl("stop", ALL)
        super()._end_leftovers()

    def stop(self):
        systemctl("stop", ALL)
        return self.left_after_stop()

    def log_tail(self, lines=30):
        return run("journalctl", "--no-pager", "-o", "short-monotonic", "-n", str(lines), "-u", "postern*", ok=False)

    def answers(self):
        """Both daemons know each other: a whole round of requests."""
        return self.cli("ps").returncode == 0 and self._both()

    def _both(self):
        try:
            return self.broker, self.spawner
        except AssertionError:
            return None

    def killed(self, unit, pid):
        """SIGKILL to a daemon; systemd brings another one."""
        os.kill(pid, signal.SIGKILL)
        tap.wait_for(lambda: self._both() and pid not in self._both(), "another process for " + unit, 30)
        tap.wait_for(lambda: show(unit, "ActiveState")["ActiveState"] == "active", unit + " is active again", 30, step=0.2)

    def sandbox(self, name):
        self.ok("run", *MOCK, "--name", name)
        return self.state(name)

    def state(self, name):
        found = [s for s in self.json("ps") if s["name"] == name]
        tap.equal([s["status"] for s in found], ["running"], name)
        return found[0]

    def starts(self, name):
        """What a new spawner must be able to do; waits for it to have joined."""
        tap.wait_for(lambda: self.cli("run", *MOCK, "--name", name).returncode == 0, "a new sandbox", 30, step=0.3)
        return self.state(name)


def processes(sandbox):
    """{pid: start time} of everything with the sandbox's uid."""
    found = {}
    for pid in harness.pids():
        if harness.uids(pid)[:1] == [sandbox["uid"]]:
            found[pid] = read("/proc/%d/stat" % pid).rsplit(")", 1)[1].split()[19]
    tap.true(len(found) == 2, "init and VMM of uid %d: %r" % (sandbox["uid"], found))
    return found


def group_of(pid):
    return "/sys/fs/cgroup" + read("/proc/%d/cgroup" % pid).split("::", 1)[1]


def group(sandbox):
    groups = {group_of(pid) for pid in processes(sandbox)}
    tap.equal(len(groups), 1, "groups of a sandbox: %r" % groups)
    return groups.pop()


@case
def systemd_finds_nothing_wrong_with_our_units(host):
    said = run("systemd-analyze", "verify", "--man=no", *(os.path.join(UNITS, name) for name in (BROKER, SPAWNER, SOCKET, ALL)))
    tap.equal(said, "", "what systemd-analyze verify says")


@case
def sysusers_makes_both_users(host):
    files = {path: open(path, encoding="utf-8").read() for path in ("/etc/passwd", "/etc/group", "/etc/shadow", "/etc/gshadow")}
    try:
        for path, text in files.items():
            write(path, "".join(line for line in text.splitlines(True) if not line.startswith("postern")))
        run("systemd-sysusers", "/usr/lib/sysusers.d/postern.conf")
        for name in ("postern", "postern-spawn"):
            user, group = (run("getent", kind, name).strip().split(":") for kind in ("passwd", "group"))
            tap.true(0 < int(user[2]) < 1000 and user[3] == group[2] and user[6].endswith("nologin"), "%r %r" % (user, group))
    finally:
        for path, text in files.items():
            write(path, text)


@case
def the_first_client_starts_everything(host):
    systemctl("start", SOCKET)
    tap.equal(host.own_processes(), [], "processes before the first client")
    found = os.stat(host.socket)
    tap.equal((found.st_mode & 0o7777, found.st_uid), (0o666, 0), "mode and owner of the socket")
    host.sandbox("one")
    tap.equal(os.stat(host.socket).st_ino, found.st_ino, "the socket is systemd's")


@case
def each_half_is_the_main_process_of_its_unit(host):
    broker = show(BROKER, "MainPID", "ActiveState", "SubState", "NRestarts")
    tap.equal(broker, {"MainPID": str(host.broker), "ActiveState": "active", "SubState": "running", "NRestarts": "0"}, BROKER)
    spawner = show(SPAWNER, "MainPID", "ActiveState", "SubState", "NRestarts")
    tap.equal(spawner, {"MainPID": str(host.spawner), "ActiveState": "active", "SubState": "running", "NRestarts": "0"}, SPAWNER)
    status = systemctl("status", "--no-pager", "-l", BROKER, SPAWNER)
    tap.equal(status.count("active (running)"), 2, "systemctl status: " + status)


@case
def sandboxes_live_in_groups_below_the_spawners_unit(host):
    path = group(host.state("one"))
    tap.true(re.fullmatch(re.escape(TREE) + r"/postern-[0-9a-f]{16}/x\d+", path), path)
    receipt = host.json("receipt", "one")
    tap.true(path.removeprefix("/sys/fs/cgroup") in json.dumps(receipt), "the receipt names " + path)
    tap.equal(set(read(path, "cgroup.controllers").split()) & {"memory", "pids", "cpu", "io"}, {"memory", "pids", "cpu", "io"},
              "controllers")
    tap.true(read(path, "memory.max") != "max" and read(path, "pids.max") != "max", "limits are set")
    tap.true(os.path.basename(path) in run("systemd-cgls", "--no-pager", "/system.slice/" + SPAWNER), "systemd-cgls shows it")
    tap.equal(group_of(host.spawner), os.path.dirname(path) + "/daemons", "group of the spawner")
    tap.equal(group_of(host.broker), "/sys/fs/cgroup/system.slice/" + BROKER, "group of the broker")


@case
def a_reload_of_systemd_touches_no_group(host):
    one = host.state("one")
    path = group(one)
    files = [os.path.join(path, name) for name in ("memory.max", "pids.max", "memory.swap.max", "memory.oom.group", "cpu.max")]
    files += [os.path.join(TREE, "cgroup.subtree_control"), os.path.join(os.path.dirname(path), "cgroup.subtree_control")]
    before = processes(one), [read(f) for f in files]
    systemctl("daemon-reload")
    systemctl("set-property", "--runtime", SPAWNER, "CPUWeight=90")  # has it write the unit's attributes anew
    tap.equal((processes(one), [read(f) for f in files]), before, "processes, limits and controllers")


@case
def a_restart_of_the_broker_keeps_sandboxes(host):
    one, broker, spawner = host.state("one"), host.broker, host.spawner
    before = processes(one)
    systemctl("restart", BROKER)
    tap.true(host.broker != broker, "another broker")
    tap.equal(host.spawner, spawner, "the spawner")
    tap.equal((host.state("one")["uid"], processes(one)), (one["uid"], before), "the sandbox")
    tap.equal(host.json("status", "one")["uid"], one["uid"], "status")


@case
def a_killed_broker_comes_back_and_keeps_sandboxes(host):
    one, spawner = host.state("one"), host.spawner
    before = processes(one)
    host.killed(BROKER, host.broker)
    tap.equal((host.spawner, processes(one)), (spawner, before), "spawner and sandbox")
    host.state("one")


@case
def a_killed_spawner_comes_back_and_keeps_sandboxes(host):
    """The unit's own group holds groups with limits then, so that systemd can put no process into it."""
    one, broker = host.state("one"), host.broker
    before = processes(one)
    for _ in range(2):  # it is as good as the first one
        host.killed(SPAWNER, host.spawner)
        tap.equal((host.broker, processes(one)), (broker, before), "broker and sandbox")
    two = host.starts("two")
    tap.equal(os.path.dirname(group(two)), os.path.dirname(group(one)), "where a sandbox of the new spawner is")
    tap.equal(show(SPAWNER, "MainPID")["MainPID"], str(host.spawner), "the main process is the new spawner")
    path = group(one)
    for name in ("one", "two"):
        host.ok("stop", name)
    tap.wait_for(lambda: not os.path.exists(path), "the group of a sandbox that two spawners ago started")


@case
def a_killed_spawner_without_sandboxes_finds_its_groups_again(host):
    """systemd removes what is empty below the unit, the group that the broker holds a descriptor of included."""
    host.killed(SPAWNER, host.spawner)
    path = group(host.starts("four"))
    tap.true(path.startswith(TREE + "/postern-") and read(path, "memory.max") != "max", path)
    tap.true("cgroup v2" in host.ok("receipt", "four"), "the receipt says cgroup v2")


@case
def what_both_left_behind_is_ended_before_anything_starts(host):
    four, pids = host.state("four"), [host.broker, host.spawner]
    before = processes(four)
    for pid in pids:
        os.kill(pid, signal.SIGKILL)
    tap.wait_for(lambda: host._both() and not set(host._both()) & set(pids), "two new daemons", 40, step=0.2)
    five = host.starts("five")
    tap.true(five["uid"] != four["uid"], "no id is given out twice")
    tap.equal([pid for pid in before if harness.alive(pid)], [], "what is left of the sandbox of before")


@case
def a_spawner_that_ends_unasked_is_no_outage(host):
    """Had it ended with success, its unit would stay active, and no broker could start beside it."""
    systemctl("stop", SOCKET, BROKER)
    spawner = host.spawner
    os.kill(spawner, signal.SIGTERM)  # without a broker it obeys
    tap.wait_for(lambda: not harness.alive(spawner), "the end of the spawner")
    systemctl("start", SOCKET)
    host.sandbox("six")  # the next client finds everything
    tap.true(host.spawner != spawner, "another spawner")


@case
def the_journal_knows_programs_and_levels(host):
    lines = [json.loads(line) for line in run("journalctl", "-o", "json", "-b", "-u", BROKER, "-u", SPAWNER).splitlines()]
    found = {(line["SYSLOG_IDENTIFIER"], line["PRIORITY"]) for line in lines if line.get("SYSLOG_IDENTIFIER") != "systemd"}
    tap.equal({name for name, _ in found}, {"postern-broker", "postern-spawner"}, "who speaks")
    audit = [line for line in lines if line["MESSAGE"].startswith("audit ") and "op=ACQUIRE" in line["MESSAGE"]]
    tap.true(audit and all(line["PRIORITY"] == "5" for line in audit), "audit lines are notices: %r" % audit[:1])
    tap.true(any(line["PRIORITY"] == "6" and line["MESSAGE"].startswith("ready: ") for line in lines), "readiness is info")


@case
def stopping_the_target_leaves_nothing(host):
    host.state("six")
    refused = systemctl("stop", SPAWNER, ok=False)
    tap.true("refused" in refused and host._both(), "a stop of the spawner alone: " + refused)
    began = time.monotonic()
    systemctl("stop", ALL)
    tap.true(time.monotonic() - began < 15, "it took %.0f s" % (time.monotonic() - began))
    tap.equal(host.left_after_stop(), [], "left behind")
    tap.true(not os.path.exists(TREE), "the unit's group is gone")
    tap.true(not os.path.exists(host.socket), "the socket is gone")
    tap.equal(sorted(harness.files_below(host.runtime)), [host.runtime + path for path in ("/broker", "/broker/ids", "/private")],
              "what stays in the runtime directory")
    states = {unit: show(unit, "ActiveState", "Result") for unit in (BROKER, SPAWNER, SOCKET)}
    tap.equal(states, {unit: {"ActiveState": "inactive", "Result": "success"} for unit in states}, "how the units ended")


@case
def stopping_the_target_ends_what_a_hung_spawner_held(host):
    """Frozen: after SIGSTOP it would go on, since systemd sends SIGCONT with what it sends."""
    os.makedirs(os.path.dirname(PATIENCE), exist_ok=True)
    write(PATIENCE, "[Service]\nTimeoutStopSec=2\n")
    systemctl("daemon-reload")
    systemctl("start", SOCKET)
    seven = processes(host.sandbox("seven"))
    write(group_of(host.spawner) + "/cgroup.freeze", "1")
    systemctl("stop", ALL)
    tap.equal(show(SPAWNER, "Result")["Result"], "timeout", "it really hung")
    tap.equal([pid for pid in seven if harness.alive(pid)], [], "what is left of the sandbox")
    tap.equal(host.left_after_stop(), [], "left behind")
    tap.true(not os.path.exists(TREE), "the unit's group is gone")


@case
def nothing_was_denied(host):
    """The whole life above, under enforcing SELinux."""
    if installed.getenforce() != "Enforcing":
        raise tap.Skip("SELinux is not enforcing here")
    tap.equal(installed.avc_since(host.mark), [], "denials of our domains")


def main():
    def setup():
        mark = installed.avc_mark()
        host = Systemd()
        host.mark = mark
        return host

    tap.run(setup, lambda host: host.close())


if __name__ == "__main__":
    main()
