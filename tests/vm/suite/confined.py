# SPDX-License-Identifier: Apache-2.0
# Runs: tests (root, inside the test VM, SELinux enforcing). What postern-start makes of SELinux and of the policy's "labels"
# (docs/selinux.md has it as a table) and of direct mode's boolean, and what is refused without anybody being told.
import contextlib
import json
import os
import re
import shutil
import subprocess
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [HERE, os.path.join(HERE, "../../integration"), os.path.join(HERE, "../../security")]
import harness  # noqa: E402
import installed  # noqa: E402
import probe  # noqa: E402
import tap  # noqa: E402
from harness import ALICE, BOB, EXIT  # noqa: E402
from tap import case  # noqa: E402

DISK = 80  # number of the first file that a user hands over
STRAY = "/usr/sbin/postern-start-stray"  # the program without its label
OWN = "system_u:system_r:initrc_t:s0"    # ours, and so that of what STRAY starts
OUTSIDE = "postern-start runs as %s instead of postern_start_t: "
REMEDY = ("load Postern's module (semodule -i postern.cil), label the files (restorecon -R /usr/sbin /usr/libexec/postern "
          "/etc/postern), start through the service manager; or say \"labels\": \"forbid\" in the policy. See docs/selinux.md")
REFUSED = "SELinux is enforcing, and " + OUTSIDE + REMEDY
FORBIDDEN = ("SELinux is enforcing and confines postern-start, but the policy says \"labels\": \"forbid\": init could not execute "
             "a VMM without a label. Take the module away (semodule -r postern), or allow labels")
STAYS = "no labels, as the policy says: daemons and VMMs stay in the domain of postern-start, "
WARNED = "SELinux is permissive: labels are set, and nothing is refused because of them"
PARTIAL = "granted in part: this host does not have all that Postern uses of it"
NO_POLICY = "not available: the policy does not grant it"
FAILED = "not available: setting it up failed (see the broker's log)"

# (enforcing, in its domain, "labels"): status, lines on stderr, what --check prints of the label
TABLE = {
    (1, 1, "prefer"): (0, [], "granted"),
    (1, 1, "require"): (0, [], "granted (required)"),
    (1, 1, "forbid"): (1, [FORBIDDEN], None),
    (1, 0, "prefer"): (1, [REFUSED % OWN], None),
    (1, 0, "require"): (1, [REFUSED % OWN], None),
    (1, 0, "forbid"): (0, [STAYS + OWN], NO_POLICY),
    (0, 1, "prefer"): (0, [WARNED], PARTIAL),
    (0, 1, "require"): (0, [WARNED], PARTIAL + " (required)"),
    (0, 1, "forbid"): (0, [], NO_POLICY),
    (0, 0, "prefer"): (0, ["no labels: " + OUTSIDE % OWN + REMEDY], FAILED),
    (0, 0, "require"): (1, ["no labels: " + OUTSIDE % OWN + REMEDY, "the policy requires \"label\", but: " + FAILED],
                        FAILED + " (required)"),
    (0, 0, "forbid"): (0, [], NO_POLICY),
}


def prepare(host):
    tap.equal((installed.getenforce(), installed.context()), ("Enforcing", OWN), "these cases are about a host that enforces")
    shutil.copy(host.start_program, STRAY)
    label(STRAY, "bin_t")


def label(path, kind):
    os.setxattr(path, "security.selinux", ("system_u:object_r:%s:s0\0" % kind).encode())


def enforce(on):
    with open(installed.SELINUX + "/enforce", "w", encoding="ascii") as f:
        f.write("%d" % on)


def direct_mode_boolean(on):
    with open(installed.SELINUX + "/booleans/postern_direct_mode", "w", encoding="ascii") as f:
        f.write("%d" % on)
    with open(installed.SELINUX + "/commit_pending_bools", "w", encoding="ascii") as f:
        f.write("1")


@contextlib.contextmanager
def changed(host, daemon=(), **change):
    """The policy's file with something else in it."""
    policy = json.loads(json.dumps(host.policy))
    policy["daemon"].update(daemon)
    policy.update(change)
    kept, host.policy = host.policy, policy
    try:
        host.write_policy()
        yield
    finally:
        host.policy = kept
        host.write_policy()


def start(host, *words, program=None, prefix=()):
    """(status, [lines on stderr without the name in front], standard output) of a postern-start that ends."""
    done = subprocess.run([*prefix, program or host.start_program, "--runtime", host.runtime, "--policy", host.policy_path, *words],
                          stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, timeout=60, cwd="/")
    return done.returncode, [line.removeprefix("postern-start: ") for line in done.stderr.splitlines()], done.stdout


@contextlib.contextmanager
def stopped(host):
    """For a start that is not the usual one; nothing is left of that. Who needs the usual one afterwards calls running()."""
    tap.equal(host.stop(), [], "left after the stop")
    try:
        yield
    except BaseException:
        host.stop()
        raise
    tap.equal(host.stop(), [], "left after the other start")


def running(host):
    if host.starter is None:
        host.start()


@case
def labels_and_domain_and_mode_as_the_table_says(host):
    """Enforcing or not, in its domain or not, preferred, required or forbidden: exact words, and never labels by half."""
    try:
        for (enforcing, inside, labels), (status, said, outcome) in TABLE.items():
            what = "enforcing %d, inside %d, %s" % (enforcing, inside, labels)
            enforce(enforcing)
            with changed(host, labels=labels):
                found = start(host, "--check", program=None if inside else STRAY)
            tap.equal(found[:2], (status, said), what)
            tap.equal(re.findall(r"^label +(.*)$", found[2], re.M), [outcome] if outcome else [], "--check: " + what)
    finally:
        enforce(1)
    # Root who is logged in is no better than an init script.
    found = start(host, "--check", program=STRAY, prefix=["runcon", installed.UNCONFINED])
    tap.equal(found[:2], (1, [REFUSED % installed.UNCONFINED]), "from a root shell")


@case
def out_of_its_domain_it_starts_nothing(host):
    """Not just --check: a start without its label, and one that confines while the policy forbids labels."""
    with stopped(host):
        tap.equal(start(host, program=STRAY)[:2], (1, [REFUSED % OWN]), "without its label")
        with changed(host, labels="forbid"):
            tap.equal(start(host)[:2], (1, [FORBIDDEN]), "labels forbidden")
        tap.equal(host.own_processes(), [], "what runs")


@case
def labels_forbidden_leave_all_in_the_starters_domain(host):
    """What an administrator asks for who says "forbid" on such a host: it is said at the start and in each receipt, it is the
    domain of who started postern-start and no other one, and a user who requires a label is refused."""
    usual, mark = host.start_program, installed.avc_mark()
    with stopped(host), changed(host, labels="forbid"):
        try:
            host.start_program = STRAY
            host.start()
        finally:
            host.start_program = usual
        tap.true("postern-start: " + STAYS + OWN in host.log_tail(50).splitlines(), "the log: " + host.log_tail(50))
        host.ok("run", host.spec(), "--detach", "--name", "bare")
        (lease,) = host.leases_of(ALICE)
        everybody = [host.broker, host.spawner, lease["init_pid"], *harness.children(lease["init_pid"])]
        tap.equal([installed.context(pid) for pid in everybody], [OWN] * 4, "broker, spawner, init and VMM")
        rows = {row["field"]: (row["mark"], row["found"]) for row in host.json("receipt", "bare")["rows"]}
        tap.equal((lease["label"], rows["vmm.label"], rows["grant.label"]), ("", ("absent", OWN), ("absent", NO_POLICY)), "the receipt")
        done = host.cli("run", host.spec(label="require"), "--detach")
        tap.equal((done.returncode, "an SELinux label is required but " + NO_POLICY in done.stderr), (EXIT["HOST"], True), done.stderr)
        host.ok("kill", "bare")
    tap.equal(installed.avc_since(mark), [], "denials")


@case
def direct_mode_needs_its_boolean(host):
    """Off, the spawner has no capability of the host, gives up and names the boolean; on, a life without a denial."""
    with stopped(host), changed(host, daemon={"mode": "direct"}):
        host.start(wait=False)
        tap.wait_for(lambda: "the spawner is gone" in host.log_tail(20), "the spawner gives up", 20)
        said = [line for line in host.log_tail(20).splitlines() if line.startswith("postern-spawner: cannot start: ")]
        tap.equal([re.sub(r".*: ", "", line) for line in said],
                  ["Operation not permitted; with SELinux, direct mode needs \"setsebool -P postern_direct_mode on\""], "why")
        tap.equal(host.sandbox_processes(), [], "sandboxes")
        host.stop()
        direct_mode_boolean(True)
        mark = installed.avc_mark()
        try:
            host.start()
            tap.equal(installed.context(host.spawner), "system_u:system_r:postern_spawner_t:s0", "the spawner")
            host.ok("run", host.spec(), "--detach", "--name", "d")
            for command in ("pause", "resume", "receipt", "stop"):
                host.ok(command, "d")
            host.ok("run", host.spec(), "--detach", "--name", "e")
            host.ok("kill", "e")
            tap.equal(host.stop(), [], "left after the stop")
        finally:
            host.stop()
            direct_mode_boolean(False)
        tap.equal(installed.avc_since(mark), [], "denials")


@case
def a_start_that_fails_late_leaves_nobody(host):
    """When P is there already. Its child, which root's domain has no right to kill, ends by what it is told."""
    mark = installed.avc_mark()
    with stopped(host):
        label(host.broker_program, "postern_init_exec_t")  # which start may open, not execute
        try:
            status, said, _ = start(host)
        finally:
            label(host.broker_program, "postern_exec_t")
        tap.true(status == 1 and "Permission denied" in said[-1], "refused: %s" % said)
        tap.equal(host.own_processes(), [], "what runs")
    lines = installed.avc_since(mark)
    tap.true(len(lines) == 1 and "{ execute }" in lines[0], "the one denial that this is about: %s" % lines)


@case
def a_file_that_the_vmm_may_not_use_ends_the_launch(host):
    """A type that init may take and a VMM may not use: at exec the kernel replaces the descriptor by its null device without a
    word to anybody, or closes it where Landlock keeps it from opening that. What init reads of the VMM before its first
    instruction shows it; no guest runs without its disk. With a type that a VMM may use, the same file is no trouble."""
    running(host)
    path = host.user_file(ALICE, "disk.img", b"\0" * (1 << 20))
    spec = host.spec(disks=[{"path": path}])
    host.ok("run", spec, "--detach", "--name", "good")
    host.ok("kill", "good")
    label(path, "vmtest_half_t")
    mark = installed.avc_mark()
    done = host.cli("run", spec, "--detach", "--name", "bad")
    lines = installed.avc_since(mark, "postern_vmm_t.*vmtest_half_t.*tclass=file")
    tap.true(len(lines) == 1 and "{ read write }" in lines[0], "the kernel refuses the VMM: %s" % lines)
    if probe.landlock_abi():
        expected = EXIT["LAUNCH"], "--disk=%d: descriptor %d is not open" % (DISK, DISK)  # it says so before the receipt is asked
    else:
        expected = EXIT["RECEIPT"], "receipt field vmm.descriptors: expected %d: " % DISK
    tap.equal((done.returncode, expected[1] in done.stderr), (expected[0], True), done.stderr)
    with open(path, "r+b") as f, host.launch("hostile", ["hold"], assets=[{"fd": f.fileno(), "name": "disk", "writable": 1}]) as one:
        given, found = ({fact["fd"]: fact["ino"] for fact in one.facts[name] if fact["mode"]} for name in ("given", "fds"))
        tap.equal(given.pop(DISK), os.stat(path).st_ino, "what init gave")
        tap.true(found.pop(DISK, None) != os.stat(path).st_ino, "what the VMM has")
        tap.equal(found, given, "all else arrives")
    tap.wait_for(lambda: not host.sandbox_processes(), "nothing runs")


@case
def D13_forty_sandboxes_have_forty_pairs(host):
    """Live: two categories each, which nobody else has both of, while some end and their pairs may come back."""
    running(host)
    alive = []
    try:
        for number in range(45):
            if len(alive) == 40:
                alive.pop(number * 7 % 40).close()
            alive.append(host.launch("hostile", uid=(ALICE, BOB)[number % 2], plan=False))
            pairs = [re.fullmatch(r".*:postern_vmm_t:s0:c(\d+),c(\d+)", one.lease["label"]).groups() for one in alive]
            tap.equal(len(set(pairs)), len(alive), "different pairs of those that live")
            tap.true(pairs[-1][0] != pairs[-1][1], "two categories: %s" % (pairs[-1],))
    finally:
        for one in alive:
            one.close()


harness.main(prepare=prepare)
