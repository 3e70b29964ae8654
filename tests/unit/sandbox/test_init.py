# SPDX-License-Identifier: Apache-2.0
# Runs: tests (root). postern-init alone: what it verifies, what it refuses, what it gives the VMM, how it lives and dies.
import contextlib
import os
import signal
import socket
import sys
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from init_alone import SLOT_ASSET, SLOT_KVM, SLOT_TAP, X, Y, Sandbox, wire  # noqa: E402
from tap import case, equal, run, true  # noqa: E402

BUILD = sys.argv[sys.argv.index("--build") + 1]
INIT = os.path.join(BUILD, "broker", "init", "postern-init")
FAULT = INIT + "-fault"
SURVIVE = wire.T.constants["WIRE_SURVIVE"]
WAIT = '$|=1; open(F,"<&=3"); sysread F,$b,1;'  # perl as VMM: stay until a byte comes on the control channel


def sandbox(**more):
    return Sandbox(INIT, **more)


def used(facts, what):
    return facts[what][: facts["given_count" if what == "given" else "fd_count"]]


def memfd(data=b""):
    fd = os.memfd_create("asset")
    os.write(fd, data)
    return fd


@case
def facts_describe_a_held_vmm():
    with sandbox() as s:
        s.boot()
        f = s.perl(WAIT + 'print "done\\n"; exit 7')
        equal(f["held"], 1, "held")
        for who in ("vmm_ids", "init_ids"):
            ids = f[who]
            equal([i["id"] for i in ids["uids"]], [X] * 4, who + " uids")
            equal([i["id"] for i in ids["gids"]], [Y] * 4, who + " gids")
            equal(ids["group_count"], 0, who + " groups")
            equal([ids[c] for c in ("cap_inh", "cap_prm", "cap_eff", "cap_bnd", "cap_amb")], [0] * 5, who + " capabilities")
            equal((ids["no_new_privs"], ids["seccomp"], ids["seccomp_filters"]), (1, 2, 2), who + " confinement")
        equal(used(f, "fds"), used(f, "given"), "manifest")
        equal([g["fd"] for g in used(f, "fds")], [0, 1, 2, 3, 4], "numbers")
        equal((f["exe"], f["cgroup"], f["rlimit_core"]), ("/usr/bin/perl", "/", 0), "texts")
        for i, ns in enumerate(f["namespaces"]):
            equal(ns["vmm"], ns["init"], "namespace %d" % i)
        s.control_fd.send(b"q")
        equal(s.hear("C_EXITED")["status"], 7 << 8, "status")
        equal(s.log(), "done\n", "output")
        equal(s.wait(), 7, "init's exit status")


@case
def quick_programs_are_held_too():
    for _ in range(30):
        with sandbox() as s:
            s.boot()
            equal(s.perl("exit 0")["held"], 1, "held")
            equal(s.hear("C_EXITED")["status"], 0, "status")


@case
def refuses_any_privilege_left():
    for missing in ("inheritable", "bounding", "nnp", "securebits"):
        with sandbox(faults=(missing,)) as s:  # no boot record: it does not get as far as reading one
            equal(s.failed()[0], "INIT_VERIFY", missing)
            equal(s.wait(), 125, missing)


@case
def refuses_another_identity():
    for wrong in ({"uid": X + 1}, {"gid": Y + 1}, {"kvm_group": 1, "kvm_gid": 107}, {"uid": 0}):
        with sandbox() as s:
            s.boot(**wrong)
            equal(s.failed()[0], "INIT_BOOT", wrong)


@case
def refuses_profiles_that_are_not_for_vmms():
    for profile in ("base", "init", "broker", "spawner"):
        with sandbox() as s:
            s.boot(profile=profile)
            equal(s.failed()[0], "INIT_BOOT", profile)


@case
def promised_descriptors_must_be_there():
    with sandbox() as s:
        s.boot(kvm_fd=1)
        equal(s.failed()[0], "INIT_BOOT", "missing descriptor")


@case
def strays_are_closed_and_grants_arrive():
    null = os.open("/dev/null", os.O_RDWR)
    tap = memfd(b"tap")
    with sandbox(fds={0: null, 9: null, SLOT_KVM: null, SLOT_TAP: tap, SLOT_TAP + 1: tap, 77: null, 250: null}) as s:
        s.boot(tap_fds=1)
        f = s.perl(WAIT)
        equal([g["fd"] for g in used(f, "fds")], [0, 1, 2, 3, 4, SLOT_TAP], "numbers")
        equal(used(f, "fds")[5]["ino"], os.fstat(tap).st_ino, "the tap")
    for fd in (null, tap):
        os.close(fd)


@case
def assets_copied_and_inherited():
    kernel, disk, ro = memfd(b"kernel image"), memfd(b"disk"), os.open("/etc/hostname", os.O_RDONLY)
    os.lseek(kernel, 5, os.SEEK_SET)  # the user's position: neither used nor moved
    with sandbox() as s:
        s.boot()
        f = s.perl(
            WAIT + 'open(K,"<","/run/kernel") or print "no"; print <K>, "|"; open(D,"+<&=81"); seek D,0,0; print <D>,"|";'
            'open(K2,">","/run/kernel") or print "$!|"; open(N,">","/run/new") or print "$!|"; exit 0',
            [("kernel", 1, 0), ("disk0", 0, 1), ("cd", 0, 0)],
            [memfd_ro(kernel), disk, ro],
        )
        equal([(g["fd"], g["access"]) for g in used(f, "fds")][5:], [(SLOT_ASSET + 1, 2), (SLOT_ASSET + 2, 0)], "assets")
        s.control_fd.send(b"q")
        s.hear("C_EXITED")
        equal(s.log(), "kernel image|disk|Permission denied|Permission denied|", "what the VMM saw")
    equal(os.lseek(kernel, 0, os.SEEK_CUR), 5, "position")
    for fd in (kernel, disk, ro):
        os.close(fd)


def memfd_ro(fd):
    return os.open("/proc/self/fd/%d" % fd, os.O_RDONLY)


@case
def assets_that_lead_out_are_refused():
    inet = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    event = os.eventfd(0)
    wrong = [
        ("directory", os.open("/", os.O_RDONLY | os.O_DIRECTORY), 0, 0),
        ("directory by O_PATH", os.open("/etc", os.O_PATH), 0, 0),
        ("file by O_PATH", os.open("/etc/hostname", os.O_PATH), 0, 0),
        ("character device", os.open("/dev/null", os.O_RDWR), 0, 1),
        ("namespace", os.open("/proc/self/ns/net", os.O_RDONLY), 0, 0),
        ("procfs", os.open("/proc/self/status", os.O_RDONLY), 0, 0),
        ("network socket", inet.fileno(), 0, 1),
        ("eventfd", event, 0, 1),
        ("said read-only, is not", memfd(), 0, 0),
        ("said writable, is not", os.open("/etc/hostname", os.O_RDONLY), 0, 1),
        ("copy of a pipe", os.pipe()[0], 1, 0),
    ]
    for what, fd, use, writable in wrong:
        with sandbox() as s:
            s.boot()
            s.plan(["perl"], [("name", use, writable)], [fd])
            equal(s.failed()[0], "INIT_ASSET", what)
        if what not in ("network socket", "eventfd"):
            os.close(fd)
    inet.close()
    os.close(event)


@case
def spoilt_plans_are_refused():
    spoils = [
        (dict(word_count=2), "INIT_PLAN_CHECK"),
        (dict(word_bytes=3), "INIT_PLAN_CHECK"),
        (dict(words=b"perl\0x"), "INIT_PLAN_CHECK"),
        (dict(words=b"\0perl"), "INIT_PLAN_CHECK"),
        (dict(word_count=0), "INIT_PLAN"),
        (dict(word_count=1025), "INIT_PLAN"),
        (dict(asset_count=65), "INIT_PLAN"),
        (dict(asset_count=1), "INIT_PLAN"),  # and no descriptor
        (dict(assets=[("a/b", 0, 0)]), "INIT_PLAN"),
        (dict(assets=[("behind", 0, 0)]), "INIT_PLAN_CHECK"),
    ]
    for override, step in spoils:
        with sandbox() as s:
            s.boot()
            s.plan(["perl"], **override)
            equal(s.failed()[0], step, override)
    for raw in (b"", b"x", os.urandom(100), wire.message("C_PLAN")[:-1], wire.message("C_PLAN") + b"\0", wire.message("C_AUDIT")):
        with sandbox() as s:
            s.boot()
            wire.send_raw(s.control, raw)
            equal(s.failed()[0], "INIT_PLAN", raw[:16])


@case
def the_program_is_the_boot_records():
    with sandbox() as s:
        s.boot(path="/usr/bin/nothing-there")
        s.plan(["/usr/bin/perl", "-e", "exit 0"])
        equal(s.failed(), ("VMM_LANDLOCK", 2), "missing program")
    with sandbox() as s:
        s.boot(path="/etc/hostname")
        s.plan(["perl"])
        equal(s.failed()[0], "VMM_EXEC", "not a program")


@case
def a_label_that_cannot_be_set_ends_the_launch():
    with sandbox() as s:
        s.boot(label="system_u:system_r:postern_vmm_t:s0:c1,c2")
        s.plan(["perl"])
        equal(s.failed()[0], "VMM_LABEL", "no SELinux here")


@case
def audit_of_a_running_vmm():
    with sandbox() as s:
        s.boot()
        s.perl(WAIT)
        time.sleep(0.2)
        for _ in range(3):
            s.say("C_AUDIT")
            f = s.hear("C_FACTS")
            equal(f["held"], 0, "held")
            equal(f["vmm_ids"]["cap_bnd"], 0, "bounding set")
            equal(used(f, "fds")[:5], used(f, "given"), "descriptors")
        s.control_fd.send(b"q")
        s.hear("C_EXITED")


@case
def stop_asks_then_kills():
    with sandbox() as s:
        s.boot()
        s.perl('$SIG{TERM}=sub { exit 9 };' + WAIT)
        time.sleep(0.3)
        s.say("C_STOP", {"grace_ms": 5000})
        equal(s.hear("C_EXITED")["status"], 9 << 8, "asked")
        equal(s.wait(), 9, "init")
    with sandbox() as s:
        s.boot()
        s.perl('$SIG{TERM}="IGNORE";' + WAIT + WAIT)
        time.sleep(0.3)
        s.say("C_STOP", {"grace_ms": 100})
        equal(s.hear("C_EXITED")["status"], signal.SIGKILL, "killed")
        equal(s.wait(), 128 + signal.SIGKILL, "init")


@case
def hang_ups():
    with sandbox() as s:  # before the plan
        s.boot()
        s.control.close()
        equal(s.wait(), 125, "before the plan")
    with sandbox() as s:
        s.keeper.close()
        equal(s.wait(), 125, "before the boot record")
    with sandbox() as s:  # the keeper's end is nothing to a running sandbox
        s.boot()
        s.perl(WAIT)
        s.keeper.close()
        time.sleep(0.1)
        s.say("C_AUDIT")
        s.hear("C_FACTS")
        s.control.close()
        equal(s.wait(), 124, "with the controller")
    with sandbox() as s:  # a controller that breaks the protocol is gone too
        s.boot()
        s.perl(WAIT)
        s.say("C_PLAN", {"word_count": 1, "word_bytes": 2, "words": b"x"})
        equal(s.wait(), 124, "second plan")


@case
def survives_and_is_attached_again():
    with sandbox() as s:
        s.boot(flags=SURVIVE)
        s.perl(WAIT + 'print "back\\n"; exit 3')
        s.say("C_KEEP")
        for old in (s.control_fd, s.console_fd, s.log_fd):
            old.close()
        s.control.close()
        time.sleep(0.2)
        s.control, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        wire.send_raw(s.keeper, wire.message("K_ATTACH"), [other.fileno()])
        other.close()
        _, ends = s.hear("C_CHANNELS")
        control, console, log = [socket.socket(fileno=f) for f in ends]
        s.say("C_AUDIT")
        s.hear("C_FACTS")
        control.send(b"q")
        equal(s.hear("C_EXITED")["status"], 3 << 8, "status")
        log.settimeout(5)
        equal(log.recv(100), b"back\n", "the log goes on")
        for sock in (control, console, log):
            sock.close()


@case
def before_keep_it_does_not_survive():
    """A launch that is broken off leaves no held VMM behind, and nobody can attach to it."""
    with sandbox() as s:
        s.boot(flags=SURVIVE)
        s.perl(WAIT)
        mine, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        wire.send_raw(s.keeper, wire.message("K_ATTACH"), [other.fileno()])
        other.close()
        mine.settimeout(5)
        equal(mine.recv(10), b"", "hang-up")
        mine.close()
        s.control.close()
        equal(s.wait(), 124, "with the controller")
    with sandbox() as s:  # what the lease does not grant nobody can ask for
        s.boot()
        s.perl(WAIT)
        s.say("C_KEEP")
        s.control.close()
        equal(s.wait(), 124, "with the controller")


@case
def a_full_log_does_not_stop_the_vmm():
    with sandbox() as s:
        s.boot(flags=SURVIVE)
        s.perl(WAIT + 'syswrite(STDERR, "x" x 65536) for 1..64; exit 5')
        s.control_fd.send(b"q")
        equal(s.hear("C_EXITED")["status"], 5 << 8, "nobody reads, and still it ends")


@case
def without_survive_nobody_attaches():
    with sandbox() as s:
        s.boot()
        s.perl(WAIT)
        mine, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        wire.send_raw(s.keeper, wire.message("K_ATTACH"), [other.fileno()])
        other.close()
        mine.settimeout(5)
        equal(mine.recv(10), b"", "hang-up")
        mine.close()
        s.say("C_AUDIT")
        s.hear("C_FACTS")


@case
def the_vmm_cannot_touch_init():
    script = (
        WAIT + 'print kill(9,1) ? "killed" : "$!", "|"; print kill(0,1) ? "seen" : "$!", "|";'
        'print open(F,"<","/etc/hostname") ? "read" : "$!", "|"; print fork() // "$!", "|"; exec("/usr/bin/id") or print "$!|"; exit 0'
    )
    with sandbox() as s:
        s.boot()
        s.perl(script)
        s.control_fd.send(b"q")
        s.hear("C_EXITED")
        seen = s.log().split("|")
        equal(seen[:2], ["Operation not permitted"] * 2, "signals to init")
        equal(seen[2], "Permission denied", "files outside")
        equal(seen[3], "Operation not permitted", "fork")
        equal(seen[4], "Permission denied", "another program")


@case
def each_step_can_fail_and_nothing_starts():
    if not os.path.exists(FAULT):
        raise AssertionError("configure with -Dfault_injection=true")
    steps = [t for t in wire.T.steps if t.startswith(("INIT_", "VMM_"))]
    true(len(steps) >= 17, "steps")
    for step in steps:
        with Sandbox(FAULT, step=step) as s:
            with contextlib.suppress(BrokenPipeError):  # an early step fails before we have said anything
                s.boot()
                s.plan(["perl", "-e", 'print "alive\\n"; sleep 5'])
            log = None
            name, _, _, values, fds = wire.recv(s.control)
            if name == "C_CHANNELS":
                log = socket.socket(fileno=fds[2])
                for fd in fds[:2]:
                    os.close(fd)
                name, _, _, values, _ = wire.recv(s.control)
            equal((name, wire.T.steps[values["step"]], values["error"]), ("C_FAILED", step, 5), step)
            equal(wire.recv(s.keeper)[0], "K_FAILED", step)
            equal(s.wait(), 125, step)
            if log is not None:
                log.settimeout(5)
                equal(log.recv(100), b"", "output at " + step)
                log.close()


if __name__ == "__main__":
    run()
