# SPDX-License-Identifier: Apache-2.0
# Runs: tests (root, acting as ordinary users). What the users of this host can do to a sandbox, its owner included.
import os
import signal
import socket
import subprocess
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "integration"))
import harness  # noqa: E402
import probe  # noqa: E402
import tap  # noqa: E402
import wire  # noqa: E402
from harness import ALICE, BOB, STRANGER  # noqa: E402
from tap import case  # noqa: E402

# Who may not: the owner, another user of Postern, nobody, the uids of the two daemons (the spawner's is P's owner).
PEOPLE = (ALICE, BOB, STRANGER, harness.BROKER_UID)


def become(uid):
    os.setgroups([])
    os.setresgid(uid, uid, uid)
    os.setresuid(uid, uid, uid)


@case
def K09_no_way_into_a_sandbox(host):
    """setns, /proc, ptrace, pidfd_getfd, kill and the like, on init and on the VMM, by the owner and by others; also with
    the pidfd that ACQUIRE hands out."""
    with host.launch("hostile", ["hold"], uid=ALICE) as launch:
        for pid in (launch.lease["init_pid"], launch.vmm_pid()):
            pidfd = launch.pidfd if pid == launch.lease["init_pid"] else -1
            for uid in PEOPLE:
                results = probe.as_uid(uid, probe.enter, pid, pidfd)
                tap.true("probe failed" not in results, "the probe worked: %s" % results)
                tap.equal(probe.succeeded(results), [], "what uid %d can do to %s" % (uid, harness.comm(pid)))
            tap.true(harness.alive(pid), "%s lives" % harness.comm(pid))


@case
def K09_nor_from_another_sandbox(host):
    """The uid of one sandbox, were it ever outside, has no power over another."""
    with host.launch("hostile", ["hold"]) as one, host.launch("hostile", ["hold"]) as two:
        results = probe.as_uid(one.lease["uid"], probe.enter, two.vmm_pid())
        tap.equal(probe.succeeded(results), [], "what the uid of one can do to another")
        # Its own uid could signal it, if anybody could become it: nobody can, that is the point of the range.
        tap.true(harness.alive(two.vmm_pid()), "the other VMM lives")


@case
def K09_daemons_are_out_of_reach(host):
    for pid in (host.broker, host.spawner):
        for uid in (ALICE, BOB, STRANGER, host.first_uid + 9):
            results = probe.as_uid(uid, probe.enter, pid)
            tap.equal(probe.succeeded(results), [], "what uid %d can do to %s" % (uid, harness.comm(pid)))
    # Nor one daemon to the other, though the broker holds P's descriptors.
    tap.equal(probe.succeeded(probe.as_uid(harness.BROKER_UID, probe.enter, host.spawner)), [],
              "the broker's uid to the spawner")


@case
def K10_nobody_becomes_a_sandbox_uid(host):
    """A user's own user namespace cannot map an id of the range, so no set-uid file of it can come to be."""
    for uid in (ALICE, BOB):
        for inside, outside, count in ((0, host.first_uid, 1), (host.first_uid, host.first_uid, 1), (0, uid, 2),
                                       (0, host.first_uid, harness.UID_COUNT)):
            tap.equal(probe.as_uid(uid, _map, inside, outside, count), "EPERM", "uid %d maps %d" % (uid, outside))
        for target in (host.first_uid, harness.SPAWN_UID, harness.BROKER_UID, 0):
            tap.equal(probe.as_uid(uid, probe.attempt, os.setuid, target), "EPERM", "uid %d to %d" % (uid, target))
    for database in ("/etc/subuid", "/etc/subgid"):
        if os.path.exists(database):
            for line in open(database, encoding="utf-8"):
                first, count = map(int, line.split(":")[1:3])
                tap.true(first + count <= host.first_uid or first >= host.first_uid + harness.UID_COUNT,
                         "%s: %s" % (database, line))


def _map(inside, outside, count):
    if probe.call("unshare", probe.CLONE_NEWUSER) != "OK":
        return "EPERM"
    return probe.attempt(_write, "/proc/self/uid_map", "%d %d %d" % (inside, outside, count))


def _write(path, text):
    fd = os.open(path, os.O_WRONLY)
    os.write(fd, text.encode())


@case
def K11_nothing_is_kept_after_the_end(host):
    """What a user holds when it ends, the pidfd, names a dead process; the namespaces are gone with it."""
    launch = host.launch("hostile", ["hold"])
    pid, pidfd = launch.lease["init_pid"], os.dup(launch.pidfd)
    # In direct mode the user namespace is the host's, which stays.
    spaces = {kind: harness.namespace(pid, kind) for kind in ("user", "mnt", "net", "pid")[harness.DIRECT:]}
    launch.close()
    tap.wait_for(lambda: not harness.alive(pid), "init is gone")
    results = probe.as_uid(ALICE, _dead, pidfd)
    tap.equal(results, {"signal": "ESRCH", "getfd": "ESRCH", "setns": "ESRCH"}, "what the old pidfd is good for")
    os.close(pidfd)

    def held():
        found = set()
        for other in harness.pids():
            for kind in spaces:
                try:
                    found.add(harness.namespace(other, kind))
                except OSError:
                    pass
            found |= set(harness.fds(other).values())
        return found & set(spaces.values())

    tap.wait_for(lambda: not held(), "no process and no descriptor holds a namespace of it: %s" % spaces)


def _dead(pidfd):
    return {"signal": probe.call("pidfd_send_signal", pidfd, signal.SIGKILL, 0, 0),
            "getfd": probe.call("pidfd_getfd", pidfd, 0, 0), "setns": probe.call("setns", pidfd, probe.CLONE_NEWUSER)}


@case
def K12_ids_do_not_come_back(host):
    """The next tenants of the host have other ids: what an old holder still has does not fit them."""
    seen = set()
    with host.session(ALICE) as session:
        for _ in range(100):
            with host.launch("hostile", ["clock"], session=session) as launch:
                tap.true(launch.lease["uid"] not in seen, "uid %d twice" % launch.lease["uid"])
                seen.add(launch.lease["uid"])
    steps = sorted(seen)
    tap.true(len({b - a for a, b in zip(steps, steps[1:])}) > 20, "the order is not one that can be counted on")
    harness.kill_wait(host.broker)  # nor after a restart of who gives them out
    host.start(wait=False)
    tap.wait_for(lambda: _works(host), "launches work again", 20)
    for _ in range(20):
        with host.launch("hostile", ["clock"]) as launch:
            tap.true(launch.lease["uid"] not in seen, "uid %d came back after a restart" % launch.lease["uid"])
            seen.add(launch.lease["uid"])


def _works(host):
    try:
        with host.launch("hostile", ["clock"]):
            return True
    except (wire.Refused, wire.Hangup, OSError):
        return False


@case
def K13_groups_of_the_user_do_not_leak_in(host):
    """A user with groups, even one that files deny: none of them is in the sandbox, none is taken from him."""
    with wire.Session(host.socket, ALICE, ALICE, [ALICE, 20, 24, 999]) as session:
        with host.launch("hostile", ["hold"], session=session) as launch:
            for pid in (launch.lease["init_pid"], launch.vmm_pid()):
                tap.equal(harness.status(pid)["Groups"].split(), [], "groups of " + harness.comm(pid))


@case
def K18_a_users_own_namespaces_do_not_starve_others(host):
    """Namespaces are counted against who makes them: a user who has made all he may does not stop anybody's launch."""
    read, write = os.pipe()

    def greedy():
        become(ALICE)
        for _ in range(30):  # nested, to the kernel's limit of 32
            probe.call("unshare", probe.CLONE_NEWUSER | probe.CLONE_NEWNET)
        os.write(write, b"x")
        time.sleep(60)

    pid = harness.in_child(greedy)
    os.read(read, 1)
    try:
        for uid in (ALICE, BOB):
            with host.launch("hostile", ["clock"], uid=uid) as launch:
                tap.equal(launch.exited(), 0, "a launch of uid %d" % uid)
    finally:
        os.kill(pid, 9)
        os.waitpid(pid, 0)
        os.close(read)
        os.close(write)


@case
def D28_identity_is_that_of_connect(host):
    """The process that connected becomes root's by executing a set-uid program, session in hand: it is still BOB's."""
    here, there = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    keyboard, typed = os.pipe()

    def bob():
        become(BOB)
        s = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        s.connect(host.socket)
        socket.send_fds(there, [b"x"], [s.fileno()])
        os.dup2(keyboard, 0)
        os.dup2(os.open("/dev/null", os.O_WRONLY), 2)
        os.set_inheritable(s.fileno(), True)
        os.execv("/bin/su", ["su", "-c", "true"])  # waits for a password that never comes

    pid = harness.in_child(bob)
    try:
        _, fds, _, _ = socket.recv_fds(here, 1, 1)
        with socket.socket(fileno=fds[0]) as session, host.launch("hostile", ["hold"], uid=ALICE) as launch:
            tap.wait_for(lambda: harness.uids(pid)[1:2] == [0], "the peer is root's now")
            wire.send_raw(session, wire.message("HELLO", {"version": 1}))
            tap.equal(wire.recv(session)[1], wire.REPLY, "HELLO")
            # Root may end what is ALICE's, BOB may not.
            wire.send_raw(session, wire.message("KILL", {"uuid": launch.uuid}, sequence=2))
            _, kind, _, values, _ = wire.recv(session)
            tap.equal((kind, wire.T.errors[values.get("code", 0)]), (wire.ERROR, "NOT_FOUND"), "BOB's session in root's process")
            tap.true(harness.alive(launch.lease["init_pid"]), "ALICE's sandbox lives")
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        for fd in (keyboard, typed):
            os.close(fd)
        here.close()
        there.close()


@case
def D31_the_controller_has_no_capability_either(host):
    """Started with inheritable and ambient capabilities by a careless parent: they go nowhere."""
    spec = host.spec()
    done = subprocess.run(
        ["setpriv", "--reuid", str(ALICE), "--regid", str(ALICE), "--clear-groups", "--inh-caps", "+net_raw,+chown",
         "--ambient-caps",
         "+net_raw,+chown", host.bin, "run", spec, "--detach", "--name", "caps"],
        env=host.env(ALICE), cwd=host.homes[ALICE], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    tap.equal(done.returncode, 0, "run: " + done.stderr)
    try:
        lease = host.leases_of(ALICE)[0]
        (vmm,) = harness.children(lease["init_pid"])
        for pid in (lease["init_pid"], vmm):
            found = harness.status(pid)
            tap.equal([int(found[name], 16) for name in harness.CAP_SETS], [0] * 5,
                      "capability sets of " + harness.comm(pid))
        found = harness.status(host.controllers()[0])
        tap.equal([int(found[n], 16) for n in ("CapInh", "CapPrm", "CapEff", "CapAmb")], [0] * 4,
                  "capability sets of the controller")
    finally:
        host.ok("kill", "caps")


@case
def D11_descriptors_of_a_careless_caller_stay_outside(host):
    """A caller with 200 descriptors without close-on-exec: the VMM and init have none of them."""
    secret = host.user_file(ALICE, "secret", b"secret")
    fds = [os.open(secret, os.O_RDWR) for _ in range(200)]
    for fd in fds:
        os.set_inheritable(fd, True)
    try:
        done = host.cli("run", host.spec(), "--detach", "--name", "careless", close_fds=False)
    finally:
        for fd in fds:
            os.close(fd)
    tap.equal(done.returncode, 0, "run: " + done.stderr)
    lease = host.leases_of(ALICE)[0]
    (vmm,) = harness.children(lease["init_pid"])
    for pid in (lease["init_pid"], vmm):
        tap.true(secret not in harness.fds(pid).values(), "%s has no descriptor of the caller's" % harness.comm(pid))
        tap.true(len(harness.fds(pid)) < 12, "descriptors of %s: %s" % (harness.comm(pid), harness.fds(pid)))
    host.ok("kill", "careless")
    os.unlink(secret)


harness.main()
