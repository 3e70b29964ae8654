# SPDX-License-Identifier: Apache-2.0
# Runs: tests (root, inside the test VM, SELinux enforcing). What labels keep apart when everything else is the same, and
# that a normal life makes the kernel say nothing.
import contextlib
import json
import os
import re
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "integration"))
import harness  # noqa: E402
import installed  # noqa: E402
import tap  # noqa: E402
import wire  # noqa: E402
from harness import ALICE, BOB, CAROL, EXIT  # noqa: E402
from tap import case  # noqa: E402

VMM = re.compile(r"^system_u:system_r:postern_vmm_t:s0:c(\d+),c(\d+)$")
NIC = {"network": "lan", "queues": 1}
OURS = r"scontext=\S+:postern_\w+|tcontext=\S+:postern_\w+"


def prepare(host):
    tap.equal(installed.getenforce(), "Enforcing", "these cases are about a host that enforces")
    host.set_context(BOB, installed.USER_T)
    host.odd = "/usr/libexec/postern-test/odd-vmm"
    with open(host.mock, "rb") as f, open(host.odd, "wb") as copy:
        copy.write(f.read())
    os.chmod(host.odd, 0o755)
    label(host.odd, "postern_vmm_exec_t")


def label(path, kind):
    os.setxattr(path, "security.selinux", ("system_u:object_r:%s:s0\0" % kind).encode())


def policy(config, host):
    config["hypervisors"]["hostile-qemu"] = {"path": os.path.join(host.fakes, "hostile-vmm"), "driver": "qemu"}
    config["hypervisors"]["odd"] = {"path": "/usr/libexec/postern-test/odd-vmm", "driver": "mock"}
    config["rules"][0].update(hypervisors=list(config["hypervisors"]), labels=["postern_init_t"])
    config["networks"]["lan"]["vhost"] = True
    config["rules"][0]["vsock"] = True


@contextlib.contextmanager
def silence(host, what):
    """No denial that has to do with us, from here to the end of the block."""
    mark = installed.avc_mark()
    yield
    tap.equal(installed.avc_since(mark, OURS), [], "denials during " + what)


def denials(mark, permission, target=""):
    return [line for line in installed.avc_since(mark, OURS) if "{ %s }" % permission in line and target in line]


# ---- a normal life ---------------------------------------------------------------------------------------------------

@case
def everybody_is_in_his_domain(host):
    """Daemons, init, VMM, controller; capabilities do not come into it, and nobody has the categories of a VMM."""
    tap.equal(installed.context(host.broker), "system_u:system_r:postern_t:s0", "the broker")
    tap.equal(installed.context(host.spawner), "system_u:system_r:postern_spawner_t:s0", "the spawner")
    for uid in (ALICE, BOB):
        host.ok("run", host.spec(uid), "--detach", "--name", "who", uid=uid)
        lease = host.leases_of(uid)[0]
        tap.equal(installed.context(lease["init_pid"]), "system_u:system_r:postern_init_t:s0", "init")
        (vmm,) = harness.children(lease["init_pid"])
        tap.true(VMM.match(installed.context(vmm)), "the VMM: %s" % installed.context(vmm))
        tap.equal(installed.context(vmm), lease["label"], "the VMM's label is the lease's")
        tap.equal(installed.context(host.controllers()[-1]), host.context_of(uid), "the controller is just its user")
        host.ok("kill", "who", uid=uid)


@case
def labels_are_in_the_receipt_and_unlike(host):
    """Two categories each, no two sandboxes with the same pair; receipt and kernel agree, while held and while running."""
    before = host.snapshot()
    seen = {}
    for number in range(6):
        uid = (ALICE, BOB)[number % 2]
        name = "many%d" % number
        host.ok("run", host.spec(uid), "--detach", "--name", name, uid=uid)
        receipt = host.json("receipt", name, uid=uid)
        (row,) = [row for row in receipt["rows"] if row["field"] == "vmm.label"]
        tap.equal((row["mark"], row["expected"]), ("ok", row["found"]), "the row")
        (vmm,) = harness.children(receipt["lease"]["init_pid"])
        tap.equal(installed.context(vmm), row["found"], "what the kernel says now")
        pair = tuple(map(int, VMM.match(row["found"]).groups()))
        tap.true(0 <= pair[0] < pair[1] <= 1023, "two categories, smaller one first: %s" % (pair,))
        tap.true(pair not in seen, "pair %s twice" % (pair,))
        grants = bytes.fromhex(receipt["lease"]["grants"])
        tap.equal(wire.T.outcomes[grants[wire.T.grants.index("LABEL")]], "GRANTED", "the grant")
        seen[pair] = (uid, name)
    for uid, name in seen.values():
        host.ok("kill", name, uid=uid)
    host.settle(before, ignore=("user files",))


@case
def no_command_makes_a_denial(host):
    """Each command that help knows, by a user who is unconfined and by one who is user_t."""
    commands = set(re.findall(r"^  (\w+)", host.ok("help"), flags=re.M))
    for uid in (ALICE, BOB):
        disk = host.user_file(uid, "disk.img", b"\0" * (1 << 20))
        with silence(host, "all commands as " + host.context_of(uid)):
            for command, words in _life(host, uid, disk):
                done = host.cli(command, *words, uid=uid)
                tap.equal(done.returncode, 0, "%s %s as %s: %s" % (command, words, host.context_of(uid), done.stderr))
                commands.discard(command)
            process = host.popen("console", "full", uid=uid, stdin=-1, stdout=-1, stderr=-1)
            tap.true(b"running" in process.stdout.read(len("postern mock VMM: running")), "the console speaks")
            process.terminate()
            process.communicate(timeout=10)
            commands.discard("console")
            tap.equal(host.cli("stop", "full", uid=uid).returncode, 0, "stop")
            commands.discard("stop")
            # Those that are refused are no trouble for the kernel either.
            tap.equal(host.cli("status", "full", uid=CAROL).returncode, EXIT["NOT_FOUND"], "somebody else's")
            host.ok("run", host.spec(uid), "--detach", "--name", "k", uid=uid)
            host.ok("kill", "k", uid=uid)
            commands.discard("kill")
    tap.equal(commands, set(), "commands that help knows and this test does not")


def _life(host, uid, disk):
    spec = host.spec(uid, memory=32, nics=[{"type": "tap", "network": "lan"}, {"type": "tap", "network": "lan2"}],
                     limits={"memory": 128})
    yield "check", [spec]
    yield "run", [spec, "--detach", "--name", "full"]
    for command in ("status", "receipt", "audit", "logs", "pause", "resume"):
        yield command, ["full"]
    yield "ps", []
    yield "version", []
    yield "help", []


@case
def no_start_and_no_stop_makes_a_denial(host):
    """The daemons' own life: an orderly stop with a sandbox running, and a start; then each killed and replaced."""
    with silence(host, "stop and start"):
        host.ok("run", host.spec(), "--detach", "--name", "last")
        tap.equal(host.stop(), [], "left after the stop")
        host.start()
    with silence(host, "a broker that died"):
        harness.kill_wait(host.broker)
        host.start(wait=False)
        tap.wait_for(lambda: _works(host), "launches work again", 30)
    with silence(host, "a spawner that died"):
        harness.kill_wait(host.spawner)
        host.start(wait=False)
        tap.wait_for(lambda: _works(host), "launches work again", 30)


def _works(host):
    try:
        with host.launch("hostile", ["clock"]) as launch:
            return launch.exited() == 0
    except (wire.Refused, wire.Hangup, OSError, harness.LaunchFailed):
        return False


# ---- the way in ------------------------------------------------------------------------------------------------------

@case
def nobody_but_us_enters_our_domains(host):
    """runcon by a user, by a confined user and by root of the same kind: refused for each of our domains, with a denial."""
    program = os.path.join(host.fakes, "hostile-vmm")
    programs = {"postern_vmm_t:s0:c1,c2": program, "postern_init_t:s0": host.libexec + "/postern-init",
                "postern_spawner_t:s0": host.libexec + "/postern-spawner", "postern_t:s0": host.broker_program}
    for uid, label in ((ALICE, installed.UNCONFINED), (0, installed.UNCONFINED), (BOB, installed.USER_T)):
        tap.equal(_run_as(host, uid, label, ["cat", "/proc/self/attr/current"]).stdout.rstrip("\0\n"), label, "who it is")
        for domain, path in programs.items():
            mark = installed.avc_mark()
            # hostile-vmm outside of the test range ends with 99: it would mean that it was executed.
            done = _run_as(host, uid, label, ["runcon", "system_u:system_r:" + domain, path, "exit:98"])
            tap.true(done.returncode in (1, 126, 127) and done.stderr, "uid %d with %s into %s: %d %s" %
                     (uid, label, domain, done.returncode, done.stderr))
            if label == installed.UNCONFINED:
                tap.true(denials(mark, "transition", domain.split(":")[0]), "a denial for " + domain)


@case
def nobody_but_root_enters_starts_domain(host):
    """postern-start is not executed by users, confined or not; and by root's shell no other program in its domain."""
    start, other = "/usr/sbin/postern-start", os.path.join(host.fakes, "hostile-vmm")
    ran = _run_as(host, 0, installed.UNCONFINED, ["env", start, "--version"])  # runcon itself would ask for its own label
    tap.equal((ran.returncode, ran.stderr), (0, ""), "root's shell may")
    for uid, label in ((ALICE, installed.UNCONFINED), (BOB, installed.USER_T)):
        for words in (["env", start, "--version"], ["runcon", "-t", "postern_start_t", start, "--version"]):
            done = _run_as(host, uid, label, words)
            tap.true(done.returncode in (1, 126) and done.stdout == "", "%s as %s: %d" % (words, label, done.returncode))
    for uid, label in ((0, installed.UNCONFINED), (ALICE, installed.UNCONFINED), (0, installed.USER_T)):
        for user in ("system_u", label.split(":")[0]):
            words = ["runcon", user + ":system_r:postern_start_t:s0", other, "exit:98"]
            mark = installed.avc_mark()
            done = _run_as(host, uid, label, words)
            tap.true(done.returncode in (1, 126), "%s as %d, %s: %d %s" % (words, uid, label, done.returncode, done.stderr))
            if label == installed.UNCONFINED and user != "system_u":
                tap.true(denials(mark, "entrypoint", "postern_vmm_exec_t"), "a denial for the program: %s" % done.stderr)


def _run_as(host, uid, label, argv):
    import subprocess
    more = {} if uid == 0 else {"user": uid, "group": uid, "extra_groups": []}
    return subprocess.run(["runcon", label, *argv], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                          text=True, cwd="/", **more)


# ---- two sandboxes that differ in nothing but their categories -------------------------------------------------------

@contextlib.contextmanager
def two(host):
    """Two sandboxes with a file in their /run."""
    with open(host.user_file(ALICE, "secret", b"secret" * 100), "rb") as f:
        assets = [{"fd": f.fileno(), "name": "kernel", "use": 1}]
        with host.launch("hostile", ["hold"], assets=assets) as a, host.launch("hostile", ["hold"], assets=assets) as b:
            yield a, b


@case
def same_uid_other_categories_same_refusal(host):
    """The room of one sandbox with the uid of its VMM and the label of another's: no file of its /run, no signal, nothing in
    its /proc. With its own label the same calls succeed, so nothing else stood in the way."""
    with two(host) as (a, b):
        victim = a.vmm_pid()
        words = ["open:/run/kernel:r", "kill:%d:18" % victim]  # SIGCONT: a signal like any other
        own = installed.inside(a, a.lease["label"], words)
        tap.equal(own, dict.fromkeys(words, "OK"), "with the categories of the sandbox itself")
        mark = installed.avc_mark()
        other = installed.inside(a, b.lease["label"], words)
        tap.equal(other, dict.fromkeys(words, "EACCES"), "with the categories of its neighbour")
        lines = installed.avc_since(mark, re.escape(b.lease["label"]))
        tap.true(any("tclass=file" in line or "tclass=dir" in line for line in lines), "a denial for the file: %s" % lines)
        tap.true(any("tclass=process" in line for line in lines), "a denial for the signal: %s" % lines)
        tap.equal([line for line in lines if "permissive=0" not in line], [], "permissive=0 in each")
        tap.true(harness.alive(victim), "the victim lives")


@case
def a_label_that_holds_one_of_two_categories_is_not_enough(host):
    """CVE-2021-3631's class: one category in common opens nothing, neither from below nor beside."""
    with two(host) as (a, b):
        first, second = VMM.match(a.lease["label"]).groups()
        spare = next(n for n in range(1024) if str(n) not in (first, second))
        start = "system_u:system_r:postern_vmm_t:s0:"
        for pair in ("c" + first, "c" + second, ",".join("c%d" % n for n in sorted((int(first), spare))),
                     ",".join("c%d" % n for n in sorted((int(second), spare)))):
            results = installed.inside(a, start + pair, ["open:/run/kernel:r"])
            tap.equal(results, {"open:/run/kernel:r": "EACCES"}, "with " + pair)


# ---- labels that cannot be set ---------------------------------------------------------------------------------------

@case
def no_label_no_vmm(host):
    """A type that is not a VMM's, a program that its label does not let in: each ends the launch, and there was never a VMM
    with another label."""
    before = host.snapshot()
    label(host.odd, "bin_t")  # after the start, which tries every program
    for label_type, hypervisor, steps in (("postern_init_t", "hostile", ("VMM_LABEL", "VMM_EXEC")),
                                          ("", "odd", ("VMM_EXEC",))):
        try:
            launch_labelled(host, label_type, hypervisor)
            raise AssertionError("a VMM runs with type %r, program %s" % (label_type, hypervisor))
        except harness.LaunchFailed as why:
            tap.true(why.step in steps, "%s fails at a step of the label: %s" % (label_type or hypervisor, why))
    host.settle(before)
    done = host.cli("run", host.spec(hypervisor="odd"), "--detach")
    tap.true(done.returncode != 0 and done.stderr.count("\n") == 1, "what a user is told: %s" % done.stderr)
    label(host.odd, "postern_vmm_exec_t")
    host.ok("run", host.spec(hypervisor="odd"), "--detach", "--name", "even")
    host.ok("kill", "even")


def launch_labelled(host, label_type, hypervisor):
    """host.launch with label_type, which only this file asks for."""
    class Labelled(wire.Session):
        def call(self, op, values=None, *more, **options):
            if op == "ACQUIRE":
                values = dict(values, label_type=label_type)
            return super().call(op, values, *more, **options)

    with Labelled(host.socket, ALICE) as session, host.launch(hypervisor, ["hold"], session=session) as launch:
        raise AssertionError("it runs as " + str(installed.context(launch.vmm_pid())))


@case
def a_file_system_that_is_not_to_be_seen_does_not_hide_selinux(host):
    """Without selinuxfs where postern-start runs, it knows by its own context that there is SELinux, and does not start."""
    script = "umount -l /sys/fs/selinux && exec %s --check --policy %s" % (host.start_program, host.policy_path)
    done = subprocess.run(["unshare", "--mount", "sh", "-c", script], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    tap.true(done.returncode == 1 and "mount -t selinuxfs" in done.stderr, "%d: %s" % (done.returncode, done.stderr))


@case
def a_half_with_labels_takes_none_without(host):
    """A start that makes no labels, beside a daemon whose sandboxes have them, is refused; daemon and sandbox go on."""
    spawner = host.spawner
    with host.launch("hostile", ["hold"], flags=wire.T.constants["WIRE_SURVIVE"]) as launch:
        try:
            subprocess.run(["setenforce", "0"], check=True)  # with the rule enforced, that policy would be refused by itself
            harness.kill_wait(host.broker)
            host.starter.wait(10)
            host.policy["labels"] = "forbid"
            host.write_policy()
            host.start(wait=False)
            tap.true(host.starter.wait(20) != 0, "the start is refused")
            tap.true("whether sandboxes get SELinux labels" in host.log_tail(), "why: " + host.log_tail(5))
            tap.equal(host.spawner, spawner, "the spawner lives")
            tap.true(harness.alive(launch.lease["init_pid"]), "the sandbox lives")
        finally:
            subprocess.run(["setenforce", "1"], check=True)
            del host.policy["labels"]
            host.write_policy()
            host.starter = None
            host.start()


@case
def a_type_that_the_kernel_does_not_know_starts_nothing(host):
    """Where the module is not loaded, or a policy names a type of another one: refused at the start, with the reason."""
    tap.equal(host.stop(), [], "left after the stop")
    labels, rule = ["postern_nosuch_t"], host.policy["rules"][0]
    try:
        rule["labels"], labels = labels, rule["labels"]
        host.write_policy()
        host.start(wait=False)
        tap.true(host.starter.wait(20) != 0, "postern-start refuses")
        tap.wait_for(lambda: "no type postern_nosuch_t" in host.log_tail(), "it says why")
    finally:
        host.starter = None
        rule["labels"] = labels
        host.write_policy()
        host.start()


# ---- the second lock -------------------------------------------------------------------------------------------------

@case
def without_its_filter_the_label_still_refuses(host):
    """A program in the VMM's domain that has no filter and no Landlock layer, with a real tap and real vhost devices: who
    owns them, what they are called and who they are in the network is not for it to say. (A rule of the tests lets it in.)
    """
    import fcntl
    import struct
    tun = os.open("/dev/net/tun", os.O_RDWR)
    name = b"vmtest0"
    fcntl.ioctl(tun, 0x400454CA, struct.pack("16sH22x", name, 0x5002))
    net, vsock = os.open("/dev/vhost-net", os.O_RDWR), os.open("/dev/vhost-vsock", os.O_RDWR)
    fds = {16: tun, 48: net, 6: vsock}
    refused = ["ifreq:16:0x400454ca:other:0x1002", "ioctl:16:0x400454cb:1", "ioctl:16:0x400454cc:0", "ioctl:16:0x400454ce:0",
               "ioctl:16:0x400454cd:1", "ioctl:16:0x400454e2:buf", "ioctl:16:0x400454c9:1", "ioctl:16:0x401054d5:buf",
               "ifreq:16:0x8924:vmtest0:mac", "ifreq:16:0x8923:vmtest0:0", "ifreq:16:0x8914:vmtest0:0", "ioctl:16:0x894c:0",
               "ioctl64:6:0x4008af60:4444", "ioctl:6:0xaf02:0", "ioctl:48:0xaf02:0", "open:/dev/net/tun:rw",
               "open:/dev/vhost-net:rw", "open:/dev/vhost-vsock:rw", "open:%s/secret:r" % host.homes[ALICE], "wx",
               "socket:2:1:0", "socket:2:2:0", "socket:16:3:0", "socket:40:1:0"]
    permitted = ["ioctl:16:0x800454d2:buf", "ioctl:48:0xaf01:0", "ioctl:48:0x8008af00:buf", "ioctl:6:0xaf01:0"]
    host.user_file(ALICE, "secret", b"x", 0o644)
    results = bare(host, [*permitted, *refused], fds)
    for fd in fds.values():
        os.close(fd)
    tap.equal({w: results[w] for w in permitted}, dict.fromkeys(permitted, "OK"), "what a VMM needs")
    tap.equal({w: r for w, r in results.items() if w in refused and r not in ("EACCES", "EPERM")}, {}, "what it must not")


def bare(host, words, fds):
    """hostile-vmm in the VMM's domain, with nothing else of a sandbox around it, and descriptors at their slots."""
    output = host.user_file(ALICE, "said", b"", 0o666)
    pid = os.fork()
    if pid == 0:
        with contextlib.suppress(BaseException):
            high = {number: fcntl_dup(fd) for number, fd in fds.items()}
            for number, fd in high.items():
                os.dup2(fd, number)
            os.dup2(os.open(output, os.O_RDWR), 1)
            os.setgroups([])
            uid = host.first_uid + 5
            with open("/proc/thread-self/attr/exec", "w", encoding="ascii") as f:
                f.write("system_u:system_r:postern_vmm_t:s0:c1,c2")
            os.setresgid(uid, uid, uid)
            os.setresuid(uid, uid, uid)
            os.execv(os.path.join(host.fakes, "hostile-vmm"), ["hostile-vmm", *words])
        os._exit(111)
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    text = open(output, encoding="utf-8").read()
    lines = [json.loads(line) for line in text.splitlines() if line.startswith("{")]
    tap.true({"end": 1} in lines, "it ended by itself with %d: %s" % (status, text[-200:]))
    return {line["did"]: line["r"] for line in lines if "did" in line}


def fcntl_dup(fd):
    import fcntl
    return fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 300)


harness.main(policy=policy, prepare=prepare)
