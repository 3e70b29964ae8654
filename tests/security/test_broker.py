# SPDX-License-Identifier: Apache-2.0
# Runs: tests (root, connecting as ordinary users). Hostile peers of the broker: what they send, what they pass, how slow
# they are, and that another client is served meanwhile.
import collections
import contextlib
import os
import random
import socket
import stat
import sys
import threading
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "integration"))
import harness  # noqa: E402
import probe  # noqa: E402
import tap  # noqa: E402
import wire  # noqa: E402
from harness import ALICE, BOB, CAROL, STRANGER  # noqa: E402
from tap import case  # noqa: E402

ASK = {"hypervisor": "hostile", "vcpus": 1, "memory_mib": 16}
FUZZ_ROUNDS = 3000
TEAM = 64890  # a group with a rule


class Watch:
    """Another client, served while something hostile goes on; and the broker and the spawner, unchanged afterwards."""

    def __init__(self, host):
        self.host, self.before, self.served, self.slowest, self.error = host, host.snapshot(), 0, 0.0, None
        self.stop = threading.Event()

    def _client(self):
        try:
            # Made before the trouble begins, like any client's that is already there; and fresh ones in between.
            with self.host.session(BOB) as session:
                while not self.stop.is_set():
                    started = time.monotonic()
                    session.call("HOST")
                    self.served += 1
                    self.slowest = max(self.slowest, time.monotonic() - started)
                    self.stop.wait(0.01)
        except BaseException as why:
            self.error = why

    def __enter__(self):
        # Connected here: the effective ids of a process are shared by its threads while they last.
        self.thread = threading.Thread(target=self._client)
        self.thread.start()
        tap.wait_for(lambda: self.served or self.error, "the other client is served")
        return self

    def __exit__(self, kind, *_):
        self.stop.set()
        self.thread.join(20)
        if kind is None:
            if self.error:
                raise AssertionError("the other client was not served: %r" % self.error)
            tap.true(self.slowest < 5, "the other client waited %.1f s" % self.slowest)
            self.host.settle(self.before)


def ends(host, data, fds=(), hello=True, uid=ALICE):
    """The broker ends a session that sends this, and answers nothing but an error of its own."""
    with host.session(uid, hello=hello) as session:
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            wire.send_raw(session.sock, data, fds)
        tap.true(session.ended(), "the session ended after %r with %d descriptors" % (data[:16], len(fds)))


@case
def D35_random_bytes(host):
    """Noise of every length, and noise behind a good header: sessions end, the broker does not."""
    rng = random.Random(20250704)
    broker = host.broker
    with Watch(host):
        for i in range(FUZZ_ROUNDS // 100):
            with host.session(ALICE, hello=i % 2 == 0) as session:
                for _ in range(100):
                    size = rng.choice((1, 2, 7, 8, 9, 12, 40, 417, 5000))
                    noise = rng.randbytes(size)
                    if rng.random() < 0.7 and size >= 8:
                        noise = wire.HEADER.pack(rng.randrange(100), rng.randrange(4), 1) + noise[8:]
                    try:
                        wire.send_raw(session.sock, noise)
                    except (BrokenPipeError, ConnectionResetError):
                        session.close()
                        session = host.session(ALICE, hello=i % 2 == 0)
                session.close()
        tap.equal(host.broker, broker, "the broker is the same process")


@case
def D35_mutated_requests(host):
    """Good requests with single bytes changed: each is refused or answered, none ends the broker."""
    rng = random.Random(7)
    broker = host.broker
    good = [wire.message(op, values) for op, values in (
        ("HOST", {}), ("HYPERVISOR", {"name": "mock"}), ("NETWORK", {"name": "lan"}), ("NEXT", {"after": 0}),
        ("KILL", {"uuid": os.urandom(16)}))]
    with Watch(host):
        for i in range(FUZZ_ROUNDS):
            data = bytearray(rng.choice(good))
            data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
            if i % 20 == 0:
                session = host.session(ALICE)
            try:
                wire.send_raw(session.sock, bytes(data))
                wire.recv(session.sock, 5)
            except (wire.Hangup, BrokenPipeError, ConnectionResetError):
                session = host.session(ALICE)
        session.close()
        tap.equal(host.broker, broker, "the broker is the same process")


@case
def truncated_and_oversized(host):
    with Watch(host):
        for op, values in (("HOST", {}), ("HYPERVISOR", {"name": "mock"}), ("NEXT", {}), ("ACQUIRE", ASK)):
            data = wire.message(op, values)
            for length in sorted({1, 7, len(data) // 2, len(data) - 1}):
                if length < len(data):
                    ends(host, data[:length])
            ends(host, data + b"\0")
            ends(host, data + b"\0" * 60000)


@case
def wrong_phase_direction_and_kind(host):
    """Every operation of the table, in every phase in which it is not allowed, from a client."""
    with Watch(host):
        for cells in wire.T.op_rows:
            row = wire.T.row(cells[1])
            body = wire.T.pack(row["request"], {})
            for kind in (wire.REQUEST, wire.REPLY, wire.ERROR, 3, 0xFFFF):
                if kind in (wire.REPLY, wire.ERROR):
                    body = wire.T.pack(row["reply"] if kind == wire.REPLY else "error", {})
                data = wire.HEADER.pack(row["number"], kind, 1) + body
                allowed_ready = row["link"] == "CLIENT" and kind == wire.REQUEST and "READY" in row["phases"]
                allowed_new = row["link"] == "CLIENT" and kind == wire.REQUEST and "NEW" in row["phases"]
                if not allowed_new:
                    ends(host, data, hello=False)
                if not allowed_ready:
                    ends(host, data, hello=True)
        ends(host, wire.message("HELLO", {"version": 1}), hello=True)  # twice
        with host.session(ALICE, hello=False) as session:
            wire.send_raw(session.sock, wire.message("HELLO", {"version": 999}))
            name, kind, _, values, _ = wire.recv(session.sock)
            tap.equal((name, kind, wire.T.errors[values["code"]]), ("HELLO", wire.ERROR, "VERSION"), "another version")
            tap.true(session.ended(), "the session ended after another version")


@case
def too_many_descriptors(host):
    """More, fewer, and more than a message can carry; with each message nothing stays open in the broker."""
    with Watch(host), open("/dev/null", "rb") as null:
        for op, values, right in (("HOST", {}, 0), ("NEXT", {}, 0), ("ACQUIRE", ASK, 1), ("ATTACH", {"uuid": b"x" * 16}, 1)):
            for count in (0, 1, 2, 95, 96, 97, 253):
                if count != right:
                    ends(host, wire.message(op, values), [null.fileno()] * count)


@case
def D18_only_a_control_end_is_taken(host):
    """K01 to K05: whatever stands in for the control end, pid or namespace, of whomever, is refused and closed."""
    other = harness.in_child(lambda: (os.setresuid(BOB, BOB, BOB), time.sleep(60)))
    stream, stream2 = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    dgram, dgram2 = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    path = host.user_file(ALICE, "plain", b"x")
    fds = {
        "namespace of the host": os.open("/proc/self/ns/net", os.O_RDONLY),
        "user namespace": os.open("/proc/self/ns/user", os.O_RDONLY),
        "net namespace of another user": os.open("/proc/%d/ns/net" % other, os.O_RDONLY),
        "namespace of the spawner": os.open("/proc/%d/ns/user" % host.spawner, os.O_RDONLY),
        "pidfd of init": os.pidfd_open(1), "pidfd of another user": os.pidfd_open(other),
        "regular file": os.open(path, os.O_RDWR), "O_PATH": os.open(path, os.O_PATH), "directory": os.open("/", os.O_RDONLY),
        "O_PATH directory": os.open("/", os.O_PATH), "/dev/null": os.open("/dev/null", os.O_RDWR),
        "stream socket": stream.fileno(), "datagram socket": dgram.fileno(), "inet socket": udp.fileno(),
        "eventfd": os.eventfd(0), "memfd": os.memfd_create("x"), "pipe": os.pipe()[0],
        "/proc directory": os.open("/proc/1", os.O_PATH), "tun": os.open("/dev/net/tun", os.O_RDWR),
    }
    try:
        with Watch(host):
            for name, fd in fds.items():
                for op, values in (("ACQUIRE", dict(ASK, uuid=os.urandom(16))), ("ATTACH", {"uuid": os.urandom(16)})):
                    try:
                        ends(host, wire.message(op, values), [fd])
                    except AssertionError as why:
                        raise AssertionError("%s as control end of %s: %s" % (name, op, why)) from None
            tap.equal(host.sandbox_processes(), [], "sandboxes")
    finally:
        os.kill(other, 9)
        os.waitpid(other, 0)
        for keep in (stream, stream2, dgram, dgram2, udp):
            keep.close()
        for name, fd in fds.items():
            if "socket" not in name:
                with contextlib.suppress(OSError):
                    os.close(fd)


@case
def strange_control_ends(host):
    """A SEQPACKET socket that is a session with the broker itself, one that nobody holds, one that listens."""
    with Watch(host):
        own, far = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        own.close()
        second = host.session(ALICE)
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        for end in (far, second.sock, listener):
            uuid = os.urandom(16)
            with host.session(ALICE) as session, contextlib.suppress(wire.Refused, wire.Hangup):
                _, got = session.call("ACQUIRE", dict(ASK, uuid=uuid), [end.fileno()])
                for fd in got:
                    os.close(fd)
                # With the session it waits for a plan that the broker will not send: one of ALICE's, for her to end.
                if end is second.sock:
                    session.call("KILL", {"uuid": uuid})
        far.close()
        second.close()
        listener.close()
        tap.wait_for(lambda: not host.sandbox_processes(), "no sandbox is left")


@case
def D19_no_field_for_a_path(host):
    """D04, D05: no request of a client has a field that a path or an argv word fits in; names are refused by form."""
    for cells in wire.T.op_rows:
        if cells[2] == "CLIENT" and cells[3] == "FROM_CLIENT":
            tap.true(not _kinds(cells[4]) & {"TEXT"}, "%s has no TEXT field" % cells[1])
    with Watch(host):
        for name in (b"/etc/shadow", b"../../etc/passwd", b"a/b", b"..", b".hidden", b"-rf", b"a b", b"a\nb", b"A", b"a=b",
                     b"a,b",
                     b"%d", b"\xc3\xa4", b"a\0b", b"\0a", b"a" * 32, b"lan\0\0x", b"$(id)", b"a;b", b"*", b"_a", b"~"):
            for op, field in (("HYPERVISOR", "name"), ("NETWORK", "name")):
                ends(host, wire.message(op, {field: name}))
            own, far = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            with own, far:
                ends(host, wire.message("ACQUIRE", dict(ASK, hypervisor=name)), [far.fileno()])
                ends(host, wire.message("ACQUIRE", dict(ASK, label_type=name)), [far.fileno()])
                ends(host, wire.message("ACQUIRE", dict(ASK, nic_count=1, nics=[{"network": name}])), [far.fileno()])


def _kinds(message):
    found = set()
    for kind, args in wire.T.messages[message]:
        found |= {kind} if kind != "SUB" else _kinds(args[2])
    return found


@case
def D19_existing_and_missing_look_alike(host):
    """Another user's lease and one that does not exist: the same answer; nor does a name lead to any file."""
    with host.launch("hostile", ["hold"], uid=BOB) as launch:
        own, far = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        answers = []
        with host.session(ALICE) as session, own, far:
            for uuid in (launch.uuid, os.urandom(16)):
                for op, fds in (("KILL", ()), ("ATTACH", (far.fileno(),))):
                    try:
                        session.call(op, {"uuid": uuid}, fds)
                        answers.append("OK")
                    except wire.Refused as why:
                        answers.append(str(why))
        tap.equal(answers[:2], answers[2:], "answers for BOB's lease and for none")
        tap.true("OK" not in answers, "refused")
        tap.equal(host.leases_of(ALICE), [], "what ALICE sees")
        tap.true(harness.alive(launch.lease["init_pid"]), "BOB's sandbox lives")


@case
def D20_long_names(host):
    """Lengths around IFNAMSIZ and around the field: compared whole, never cut to something that is allowed."""
    for length in (14, 15, 16, 17, 30, 31):
        with host.session(ALICE) as session:
            for op in ("NETWORK", "HYPERVISOR"):
                try:
                    session.call(op, {"name": ("lan" + "n" * 40)[:length]})
                    raise AssertionError("a name of %d letters was known" % length)
                except wire.Refused as why:
                    tap.true(why.code.endswith("UNKNOWN"), "answer: %s" % why)
    ends(host, wire.message("NETWORK", {"name": b"lan" + b"\0" * 28 + b"x"}))
    ends(host, wire.message("NETWORK", {"name": b"l" * 32}))


@case
def D25_sockets_and_who_may_connect(host):
    """Every socket and every file of the runtime directory: owner, mode; and three uids at the door."""
    for path in [host.runtime] + sorted(harness.files_below(host.runtime)):
        found = os.lstat(path)
        tap.true(found.st_uid in (0, harness.BROKER_UID, harness.SPAWN_UID), "%s belongs to %d" % (path, found.st_uid))
        tap.true(not stat.S_ISLNK(found.st_mode), "%s is no link" % path)
        if path == host.socket:
            tap.equal(stat.S_IMODE(found.st_mode), 0o666, "mode of the client socket, as the policy says")
        elif stat.S_ISDIR(found.st_mode):
            tap.true(not found.st_mode & 0o022, "%s is writable by its owner only" % path)
        elif stat.S_ISSOCK(found.st_mode):
            # Reachable for nobody: by its own mode or by that of a directory above it.
            closed = not found.st_mode & 0o066 or not os.lstat(os.path.dirname(path)).st_mode & 0o077
            tap.true(closed, "%s is closed to others" % path)
            for uid in (ALICE, BOB, STRANGER, host.first_uid + 5):
                tap.true(probe.as_uid(uid, _connect, path) in ("EACCES", "EPERM"), "uid %d at %s" % (uid, path))
        else:
            tap.true(not found.st_mode & 0o077, "%s is private" % path)
    for uid in (CAROL, STRANGER):
        try:
            host.session(uid).close()
            raise AssertionError("uid %d is heard" % uid)
        except wire.Refused as why:
            tap.equal(why.code, "NOT_ALLOWED", "what uid %d is told" % uid)


def _connect(path):
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as s:
        return probe.attempt(s.connect, path)


@case
def a_sandbox_uid_is_not_even_heard(host):
    with host.session(host.first_uid + 77, hello=False) as session:
        with contextlib.suppress(BrokenPipeError):
            session.send("HELLO", {"version": 1})
        tap.true(session.ended(), "a session of a sandbox's uid ended")


@case
def D26_verbs_and_roles(host):
    """The whole table: what each kind of caller may do, default deny."""
    rows = [cells[1] for cells in wire.T.op_rows if cells[2] == "CLIENT"]
    tap.equal(rows, ["HELLO", "HOST", "HYPERVISOR", "NETWORK", "ACQUIRE", "ATTACH", "NEXT", "KILL", "ENDED"],
              "verbs this matrix knows")
    with host.launch("hostile", ["hold"], uid=ALICE, flags=wire.T.constants["WIRE_SURVIVE"]) as launch:
        expected = {  # KILL last: it ends what the others look at
            BOB: {"HOST": "OK", "HYPERVISOR": "OK", "NETWORK": "OK", "NEXT": "NOT_FOUND", "ATTACH": "NOT_FOUND",
                  "KILL": "NOT_FOUND", "ENDED": "NOT_FOUND"},
            # In no rule, owner of nothing: not heard at all.
            CAROL: dict.fromkeys(("HELLO", "HOST", "HYPERVISOR", "NETWORK", "NEXT", "ATTACH", "KILL", "ENDED"),
                                 "NOT_ALLOWED"),
            # Root sees all and may end all; what a guest says is its owner's alone.
            0: {"NEXT": "OK", "ATTACH": "NOT_FOUND", "ENDED": "NOT_FOUND", "KILL": "OK"},
        }
        for uid, answers in expected.items():
            tap.equal({op: _answer(host, uid, op, launch.uuid) for op in answers}, answers, "answers to uid %d" % uid)
        tap.wait_for(lambda: not harness.alive(launch.lease["init_pid"]), "root's KILL ended it")
        # Now that it has ended, how is told to its owner and to root, and to nobody else.
        tap.wait_for(lambda: _answer(host, ALICE, "ENDED", launch.uuid) == "OK", "its owner hears how it ended")
        tap.equal([_answer(host, uid, "ENDED", launch.uuid) for uid in (0, BOB, CAROL)], ["OK", "NOT_FOUND", "NOT_ALLOWED"],
                  "and who else does")


def _answer(host, uid, op, uuid):
    own, far = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    values = {"HYPERVISOR": {"name": "mock"}, "NETWORK": {"name": "lan"}, "ATTACH": {"uuid": uuid}, "KILL": {"uuid": uuid},
              "ENDED": {"uuid": uuid}}
    with own, far:
        try:
            with host.session(uid) as session:
                for fd in session.call(op, values.get(op, {}), (far.fileno(),) if op == "ATTACH" else ())[1]:
                    os.close(fd)
            return "OK"
        except wire.Refused as why:
            return why.code


@case
def D27_no_abstract_sockets_and_root_of_elsewhere_is_nobody(host):
    """Nothing of ours listens on an abstract name; root of a user's own namespaces is that user, not root."""
    tap.equal([line for line in open("/proc/net/unix", encoding="utf-8") if "@" in line and "postern" in line], [],
              "abstract sockets")
    answer = probe.as_uid(CAROL, _root_elsewhere, host.socket)
    with open("/proc/sys/user/max_user_namespaces", encoding="ascii") as f:  # where nobody can have one nobody is root there
        expected = "no user namespace" if f.read() == "0\n" else "NOT_ALLOWED"
    tap.equal(answer, expected, "euid 0 of CAROL's own user namespace")


def _root_elsewhere(path):
    # A new network namespace too: abstract names and peer checks by namespace would differ there.
    if probe.call("unshare", probe.CLONE_NEWUSER | probe.CLONE_NEWNET) != "OK":
        return "no user namespace"
    for name, text in (("setgroups", "deny"), ("uid_map", "0 %d 1" % CAROL), ("gid_map", "0 %d 1" % CAROL)):
        with open("/proc/self/" + name, "w", encoding="ascii") as f:
            f.write(text)
    if os.geteuid() != 0:
        return "not root there"
    try:
        with wire.Session(path) as session:
            session.call("HOST")
            return "OK"
    except wire.Refused as why:
        return why.code


@case
def K16_a_passed_connection_stays_who_it_was(host):
    """D28: identity is that of connect(), whoever holds the socket later; and it dies with the process that connected."""
    with host.launch("hostile", ["hold"], uid=ALICE) as launch, host.session(BOB) as bob:
        for uid in (ALICE, None):  # None: root
            with wire.as_user(uid):
                for op, values in (("NEXT", {"after": 0}), ("KILL", {"uuid": launch.uuid})):
                    try:
                        bob.call(op, values)
                        raise AssertionError("BOB's connection became that of who holds it")
                    except wire.Refused as why:
                        tap.equal(why.code, "NOT_FOUND", "BOB's connection in other hands")
    # ALICE's process connects, hands the connection on and is gone: no sandbox may come of it.
    here, there = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)

    def alice():
        os.setresgid(ALICE, ALICE, ALICE)
        os.setgroups([])
        os.setresuid(ALICE, ALICE, ALICE)
        session = wire.Session(host.socket)
        socket.send_fds(there, [b"x"], [session.sock.fileno()])

    pid = harness.in_child(alice)
    _, fds, _, _ = socket.recv_fds(here, 1, 1)
    os.waitpid(pid, 0)
    own, far = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with here, there, own, far, socket.socket(fileno=fds[0]) as orphan:
        wire.send_raw(orphan, wire.message("ACQUIRE", dict(ASK, uuid=os.urandom(16))), [far.fileno()])
        try:
            name, kind = wire.recv(orphan)[:2]
            tap.true((name, kind) == ("ACQUIRE", wire.ERROR),
                     "an ACQUIRE of a dead process was answered %s %d" % (name, kind))
        except wire.Hangup:
            pass
    tap.wait_for(lambda: not host.sandbox_processes(), "no sandbox came of it")


@case
def K15_sessions_of_users_without_a_rule(host):
    """Any number of uids may connect. Those that no rule names hear so at once, hold nothing, and keep nobody out."""
    held = []
    with Watch(host):
        try:
            for uid in range(64820, 64830):
                for _ in range(100):  # a thousand, with 400 sessions in all
                    held.append(host.session(uid, hello=False))
            for session in held[:: len(held) // 20]:
                name, kind, _, values, _ = wire.recv(session.sock)
                tap.equal((name, kind, wire.T.errors[values["code"]]), ("HELLO", wire.ERROR, "NOT_ALLOWED"), "at the door")
            host.session(ALICE).close()
        finally:
            for session in held:
                session.close()


@case
def subuids_share_no_quota(host):
    """A process keeps its groups when it becomes one of its user's subordinate uids: the group's rule is not for those."""
    host.session(64831, groups=(TEAM,)).close()  # a member who is a person
    with Watch(host):
        for uid in (524288, 600000, 1879048191):  # what systemd's containers have, without any entry in /etc/subuid
            for who in ({"gid": TEAM}, {"groups": (TEAM,)}):
                try:
                    host.session(uid, **who)
                    raise AssertionError("subordinate uid %d was heard as one of the group" % uid)
                except wire.Refused as why:
                    tap.equal(why.code, "NOT_ALLOWED", "uid %d" % uid)


@case
def K15_attach_flood(host):
    """ATTACH to sandboxes whose init never takes the descriptor: it is refused before one is sent for nothing."""
    pairs = [socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET) for _ in range(8)]
    uuids = [os.urandom(16) for _ in pairs]
    answers = collections.Counter()
    with Watch(host), host.session(ALICE) as session:
        try:
            for n, ((_, far), uuid) in enumerate(zip(pairs, uuids)):
                flags = wire.T.constants["WIRE_SURVIVE"] if n % 2 else 0
                for fd in session.call("ACQUIRE", dict(ASK, uuid=uuid, flags=flags), [far.fileno()])[1]:
                    os.close(fd)
            for _ in range(300):
                for n, ((_, far), uuid) in enumerate(zip(pairs, uuids)):
                    try:
                        for fd in session.call("ATTACH", {"uuid": uuid}, [far.fileno()])[1]:
                            os.close(fd)
                        answers[n % 2, "OK"] += 1
                    except wire.Refused as why:
                        answers[n % 2, why.code] += 1
            tap.equal(answers[0, "NOT_SURVIVING"], 300 * 4, "refused without survival: %s" % answers)
            # Each init waits for a plan and takes nothing from its keeper, so one waits there. Another may have come before
            # the boot record, when there was nothing to attach to.
            tap.true(answers[1, "OK"] <= 8 and answers[1, "NOT_FOUND"] == 0, "one or two each at most: %s" % answers)
            tap.true(answers[1, "STARTING"] >= 290 * 4, "the others were refused: %s" % answers)
        finally:
            for uuid in uuids:
                with contextlib.suppress(wire.Refused):
                    session.call("KILL", {"uuid": uuid})
            for pair in pairs:
                for end in pair:
                    end.close()
        tap.wait_for(lambda: not host.sandbox_processes(), "no sandbox is left")


@case
def K15_replies_with_descriptors_left_unread(host):
    """In connections that the broker has ended long since: one for each session a user may have, not one more."""
    held, cut = [], 0
    with host.launch("hostile", ["hold"], uid=ALICE, flags=wire.T.constants["WIRE_SURVIVE"]) as launch:
        own, far = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with Watch(host), own, far:
            try:
                while len(held) < 200:  # a user may have 150
                    try:
                        held.append(host.session(ALICE))
                        held[-1].send("ATTACH", {"uuid": launch.uuid}, [far.fileno()])
                        held[-1].send("ATTACH", {"uuid": launch.uuid}, [far.fileno()])
                    except (wire.Hangup, BrokenPipeError, ConnectionResetError):
                        cut += 1
                        if cut > 100:
                            break
                tap.true(100 <= len(held) <= 150, "%d connections were let in" % len(held))
            finally:
                for session in held:
                    session.close()
            tap.wait_for(lambda: _heard(host), "his sessions come back")
        with host.session(ALICE) as session, contextlib.suppress(wire.Refused):
            session.call("KILL", {"uuid": launch.uuid})


def _heard(host):
    try:
        host.session(ALICE).close()
        return True
    except (wire.Hangup, BrokenPipeError, ConnectionResetError):
        return False


@case
def K15_two_hundred_connections(host):
    """200 connections of one user, dumb, half open or dead: his limit holds, another user is served, all of it returns."""
    broker = host.broker
    rss = harness.rss_kib(broker)
    with Watch(host):
        crowd = []
        for i in range(200):
            with contextlib.suppress(OSError, wire.Hangup):
                crowd.append(host.session(ALICE, hello=i % 3 != 0))
        time.sleep(0.2)
        sessions = sum(1 for link in harness.fds(broker).values() if link.startswith("socket:"))
        tap.true(sessions < 180, "the broker holds %d sockets of a user who may have 150 sessions" % sessions)
        for session in crowd:
            session.close()
    tap.true(harness.rss_kib(broker) <= rss + 512,
             "the broker's memory returned: %d KiB, %d before" % (harness.rss_kib(broker), rss))


@case
def slow_and_dead_peers(host):
    """One that never speaks, one that never reads, one that dies in the middle of a launch."""
    with Watch(host):
        silent = host.session(ALICE, hello=False)
        deaf = host.session(ALICE)
        with contextlib.suppress(BrokenPipeError, ConnectionResetError, TimeoutError):
            deaf.sock.settimeout(5)  # it may be faster than the broker answers
            for _ in range(100000):
                deaf.send("HOST")
        tap.true(silent.ended(8), "a session without HELLO ended")
        tap.true(deaf.ended(8), "a session that does not read ended")
        silent.close()
        deaf.close()
        for _ in range(20):
            session = host.session(ALICE)
            own, far = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            session.send("ACQUIRE", dict(ASK, uuid=os.urandom(16)), [far.fileno()])
            session.close()
            far.close()
            own.close()
        tap.wait_for(lambda: not host.sandbox_processes(), "no sandbox of a dead peer is left")


@case
def pipelined_requests_end_the_session(host):
    """A second request before the first is answered: no queue, so no bound to find."""
    with Watch(host):
        own, far = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with host.session(ALICE) as session, own:
            for _ in range(50):
                with contextlib.suppress(BrokenPipeError, ConnectionResetError, BlockingIOError):
                    session.send("ACQUIRE", dict(ASK, uuid=os.urandom(16)), [far.fileno()])
            far.close()
            tap.true(session.ended(), "the session ended")
        tap.wait_for(lambda: not host.sandbox_processes(), "no sandbox is left")


@case
def K07_one_uuid_once(host):
    with host.launch("hostile", ["hold"]) as launch:
        own, far = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with own, far, host.session(ALICE) as session:
            try:
                session.call("ACQUIRE", dict(ASK, uuid=launch.uuid), [far.fileno()])
                raise AssertionError("the same uuid twice")
            except wire.Refused as why:
                tap.equal(why.code, "UUID_IN_USE", "the same uuid again")


@case
def K17_controller_dies_before_its_plan(host):
    """Between lease and plan: nothing ran yet, everything is freed."""
    with Watch(host):
        for _ in range(10):
            launch = host.launch("hostile", plan=False)
            pid = launch.lease["init_pid"]
            launch.close()
            tap.wait_for(lambda: not harness.alive(pid), "init is gone")


@case
def hostile_plans(host):
    """What init is told by a controller that lies: counts, lengths, directories, twice, noise. No VMM, nothing left."""
    path = "/usr/bin/env"
    with Watch(host):
        with host.session(ALICE) as session:
            path = session.call("HYPERVISOR", {"name": "hostile"})[0]["path"]
        good = {"word_count": 1, "word_bytes": len(path) + 1, "words": path.encode()}
        directory, regular = os.open("/usr", os.O_RDONLY), os.open("/etc/hostname", os.O_RDONLY)
        plans = [
            ({"word_count": 2}, []), ({"word_count": 1024}, []), ({"word_bytes": len(path)}, []),
            ({"word_bytes": 32768}, []),
            ({"words": b"\xff" * 64, "word_bytes": 64}, []), ({"word_bytes": 1, "words": b"x"}, []),
            ({"asset_count": 1, "assets": [{"name": "a"}]}, []), ({}, [regular]), ({"asset_count": 65}, []),
            ({"asset_count": 1, "assets": [{"name": "a"}]}, [directory]),
            ({"asset_count": 1, "assets": [{"name": "../x", "use": 1}]}, [regular]),
            ({"asset_count": 1, "assets": [{"name": "..", "use": 1}]}, [regular]),
            ({"asset_count": 1, "assets": [{"name": "", "use": 1}]}, [regular]),
            ({"asset_count": 1, "assets": [{"name": "a", "use": 7}]}, [regular]),
            ({"asset_count": 2, "assets": [{"name": "a", "use": 1}] * 2}, [regular] * 2),
            ({"asset_count": 1, "assets": [{"name": "a", "use": 1}]}, [os.pipe()[0]]),
            ({"asset_count": 1, "assets": [{"name": "a"}]}, [os.open("/", os.O_PATH)]),
        ]
        for change, fds in plans:
            _refused_plan(host, wire.message("C_PLAN", dict(good, **change)), fds, change)
        for data in (b"", b"x", b"\0" * 35000, os.urandom(5000), wire.message("C_AUDIT"),
                     wire.message("C_STOP", {"grace_ms": 1}),
                     wire.message("HELLO", {"version": 1}), wire.message("C_EXITED", {}), wire.message("K_BOOT", {})):
            _refused_plan(host, data, [], data[:8])
        for fd in {f for _, fds in plans for f in fds}:
            os.close(fd)


def _refused_plan(host, data, fds, what):
    launch = host.launch("hostile", plan=False)
    try:
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            if data:
                wire.send_raw(launch.control, data, fds)
            else:
                launch.control.shutdown(socket.SHUT_WR)
        try:
            launch._wait_for("C_FACTS", 5)
            raise AssertionError("init went on with %r" % (what,))
        except (harness.LaunchFailed, BrokenPipeError):
            pass
        tap.wait_for(lambda: not harness.alive(launch.lease["init_pid"]), "init is gone after %r" % (what,))
    finally:
        launch.close()


@case
def D16_D17_ids_in_the_policy(host):
    """Every spelling of a number that is not one, and every range that is somebody else's, is refused with its place."""
    for user in (-1, 2**31, 2**32 - 1, 2**32, 2**63 - 1, 65534, 65535, "0x0", "+5", "-1", "4294967296", "", " 5", "5 ",
                 "1e3", "05", 1.0, 1e3,
                 None, True, [], {}):
        _refused_policy(host, lambda p, u=user: p["rules"][0].update(users=[u]), "rules[0].users[0]")
    for first, count in ((0, 10), (1000, 10), (60001, 10), (61184, 10), (65534, 1), (524288, 65536), (0x70000000 - 1, 2),
                         (2147352576, 10), (2**31 - 5, 10), (2**32 - 1, 1), (0x71000000, 0), (64800, 1000), (-1, 5)):
        _refused_policy(host, lambda p, f=first, c=count: p.update(ids={"first": f, "count": c}), "ids")
    for user in (0, "root", "0"):
        _refused_policy(host, lambda p, u=user: p["daemon"].update(user=u), "daemon.user")
        _refused_policy(host, lambda p, u=user: p["daemon"].update(spawn_user=u), "daemon.spawn_user")


def _refused_policy(host, change, where):
    import copy
    import json
    import subprocess
    policy = copy.deepcopy(host.policy)
    change(policy)
    path = os.path.join(host.work, "bad-policy.json")
    with open(path, "w", encoding="ascii") as f:
        json.dump(policy, f)
    done = subprocess.run([host.broker_program, "--check-policy", path], stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                          text=True)
    os.unlink(path)
    tap.true(done.returncode != 0, "refused: %s" % json.dumps(policy)[:200])
    tap.true(where in done.stdout and done.stdout.count("\n") == 1, "names %s in one line: %s" % (where, done.stdout))


def policy(config, host):
    config["timeouts"] = {"hello_ms": 1000, "idle_ms": 600000, "launch_ms": 10000}
    config["rules"].append({"groups": [TEAM], "hypervisors": ["hostile"], "networks": [], "quota": {"sandboxes": 1}})


harness.main(policy=policy)
