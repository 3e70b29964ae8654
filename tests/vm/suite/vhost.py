# SPDX-License-Identifier: Apache-2.0
# Runs: tests (root, inside the test VM). vhost-net, vhost-vsock and KVM live: two Linux guests at once with every grant
# there is, and VMMs that try to make more of their descriptors than they are.
#
# The two guests are started before the first case, since a boot takes seconds under emulation. Each has a NIC on a
# network that keeps sandboxes apart and one on a network that does not, with different numbers of queues: a descriptor in
# the wrong place would be a NIC that is deaf.
import contextlib
import fcntl
import os
import re
import socket
import struct
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [HERE, os.path.join(HERE, "..", "..", "integration")]
import guests as live  # noqa: E402
import harness  # noqa: E402
import installed  # noqa: E402
import tap  # noqa: E402
import wire  # noqa: E402
from guests import SET_CID, SHELL_PORT, attach, borrowed, cgroup_file, ping, say, take_cid  # noqa: E402
from harness import ALICE, BOB  # noqa: E402
from tap import case  # noqa: E402

HOST_PORT = 6000
SLOT_VSOCK, SLOT_VHOST = 6, 48
SET_OWNER, RESET_OWNER = 0xAF01, 0xAF02
VSOCK_WANT = wire.T.constants["WIRE_VSOCK_WANT"]
VHOST_WANT = wire.T.constants["WIRE_NIC_VHOST_WANT"]


def policy(config, host):
    config["networks"]["lan"].update(vhost=True, max_queues=2)
    config["networks"]["open"] = {"address": "10.98.2.1/24", "isolated": False, "vhost": True, "max_queues": 2}
    config["hypervisors"]["hostile-qemu"] = {"path": os.path.join(host.fakes, "hostile-vmm"), "driver": "qemu"}
    config["rules"][0].update(vsock=True, networks=["lan", "lan2", "open"], hypervisors=list(config["hypervisors"]))


def prepare(host):
    if not os.path.exists(live.FILES):
        raise RuntimeError("no guest in this VM: vm run --guest")
    vcpus = min(2, os.cpu_count())  # two virtual ones on one processor wait for each other most of the time
    host.guests = [live.Guest(host, ALICE, "one", 1, (1, 2), vcpus), live.Guest(host, BOB, "two", 2, (2, 1), vcpus)]
    host.trouble_with_guests = None
    host.mark = installed.avc_mark()


def guests(host):
    """Both guests, up. Started by whichever case comes first; what went wrong then is wrong for all."""
    if host.trouble_with_guests is None:
        host.trouble_with_guests = "they did not come up"
        host.before = host.snapshot()
        for guest in host.guests:
            guest.start()
        for guest in host.guests:
            guest.wait_ready()
        host.trouble_with_guests = ""
    tap.equal(host.trouble_with_guests, "", "trouble with the guests")
    return host.guests


@case
def two_guests_come_up_with_every_grant(host):
    """From inside: processors, memory, addresses, context id are the lease's."""
    for guest in guests(host):
        tap.equal(int(guest.ok("nproc")), guest.vcpus, "processors of " + guest.name)
        kib = int(guest.ok("grep MemTotal /proc/meminfo").split()[1])
        tap.true(guest.memory * 1024 * 0.6 < kib < guest.memory * 1024, "memory of %s: %d KiB" % (guest.name, kib))
        for nic, name in zip(guest.lease["nics"], ("eth0", "eth1")):
            tap.equal(guest.ok("cat /sys/class/net/%s/address" % name).strip(), nic["mac"].hex(":"), name)
            queues = guest.ok("ls /sys/class/net/%s/queues" % name).split()
            found = len([q for q in queues if q.startswith("rx")])
            tap.equal(found, min(nic["queues"], guest.vcpus), "queues of %s of %s" % (name, guest.name))
        tap.equal(int(guest.ok("vsock cid")), guest.cid, "context id of " + guest.name)
        tap.true("kvm" in guest.ok("cat /sys/devices/system/clocksource/clocksource0/available_clocksource"),
                 "it sees that it runs under KVM")


@case
def the_receipt_says_how(host):
    for guest in guests(host):
        receipt = host.json("receipt", guest.name, uid=guest.uid)
        tap.equal(receipt["good"], True, "receipt of " + guest.name)
        grants = {wire.T.grants[i]: wire.T.outcomes[n] for i, n in enumerate(bytes.fromhex(receipt["lease"]["grants"]))}
        expected = {"KVM": "BY_NODE", "TAP": "GRANTED", "VHOST_NET": "BY_FD", "VHOST_VSOCK": "BY_FD"}
        if installed.has_selinux():
            expected["LABEL"] = "GRANTED"
        tap.equal({name: grants[name] for name in expected}, expected, "strategies of " + guest.name)
        tap.true(receipt["accelerator"].startswith("kvm"), "accelerator: " + receipt["accelerator"])
        audit = host.json("audit", guest.name, uid=guest.uid)
        tap.equal(audit["good"], True, "audit of %s while it runs: %s" % (guest.name, audit))


@case
def frames_go_both_ways(host):
    """Host to guest and guest to gateway, on both NICs, through vhost."""
    for guest in guests(host):
        for address, gateway in zip(guest.ip, ("10.98.0.1", "10.98.2.1")):
            tap.true(ping(address), "the host reaches %s of %s" % (address, guest.name))
            guest.ok("ping -c 1 -W 5 " + gateway)


@case
def every_queue_carries_frames(host):
    """Many flows: with two queue pairs both move packets, so each descriptor is one of the right tap."""
    for guest in guests(host):
        for name, address, queues in zip(("eth0", "eth1"), guest.ip, guest.queues):
            guest.ok("vsock queues %s %d" % (name, queues))  # Linux takes one for each processor
            with contextlib.ExitStack() as stack:
                for _ in range(32):  # as many flows, which the tap spreads over its queues; nobody there wants them
                    s = stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
                    s.sendto(b"a flow of its own", (address, 9))
            device = guest.ok("basename $(readlink /sys/class/net/%s/device)" % name).strip()
            counts = guest.ok("grep %s-input /proc/interrupts" % device)
            for queue in range(queues):
                moved = re.search(r"((?: +\d+)+) .*-input\.%d\b" % queue, counts)
                tap.true(moved and sum(map(int, moved.group(1).split())), "queue %d of %s of %s moved frames: %s" %
                         (queue, name, guest.name, counts))
            guest.ok("ping -c 1 -W 5 %s1" % address[:address.rindex(".") + 1])


@case
def isolated_sandboxes_do_not_reach_each_other(host):
    """Two NICs each: over the network that isolates nothing gets through, over the one that does not it does."""
    one, two = guests(host)
    for a, b in ((one, two), (two, one)):
        a.ok("ping -c 2 -W 5 " + b.ip[1])
        status, output = a.run("ping -c 2 -W 2 " + b.ip[0])
        tap.true(status != 0 and "100% packet loss" in output, "%s hears nothing of %s: %s" % (a.name, b.name, output))


@case
def vsock_goes_both_ways(host):
    """Host to guest, guest to host; the host sees the lease's context id; guests do not reach each other."""
    with socket.socket(socket.AF_VSOCK, socket.SOCK_STREAM) as listener:
        listener.bind((socket.VMADDR_CID_ANY, HOST_PORT))
        listener.listen()
        listener.settimeout(30)
        for guest in guests(host):
            tap.equal(say(guest.cid, SHELL_PORT, "echo hello"), "2 hello", "the guest's answer to context id 2")
            guest.ok("(sleep 1; vsock say 2 %d hail) >/tmp/said 2>&1 & true" % HOST_PORT)
            with contextlib.closing(listener.accept()[0]) as s:
                tap.equal(s.getpeername()[0], guest.cid, "who says it is there")
                s.settimeout(30)
                tap.equal(s.recv(100), b"hail", "what it says")
                s.sendall(b"heard")
    one, two = host.guests
    for a, b in ((one, two), (two, one)):
        status, output = a.run("vsock say %d %d hello 2>&1" % (b.cid, SHELL_PORT))
        tap.true(status != 0, "%s reaches %s by vsock: %s" % (a.name, b.name, output))


@case
def D38_every_worker_is_in_the_sandboxs_cgroup(host):
    """vhost's and KVM's helpers, whoever the kernel says they are: counted, and in the cgroup with its limits."""
    everywhere = {}
    for pid in harness.pids():
        for tid in _tasks(pid):
            found = harness.status(pid, tid)
            if found and re.match(r"vhost-|kvm-", found["Name"].strip()):
                everywhere[tid] = (found["Name"].strip(), found["Uid"].split()[0])
    claimed = set()
    for guest in guests(host):
        threads = guest.threads()
        workers = [tid for tid, name in threads.items() if name.startswith("vhost-")]
        # One for each queue pair and one for vsock.
        tap.equal(len(workers), sum(guest.queues) + 1, "vhost workers of %s: %s" % (guest.name, threads))
        expected = "0" if installed.kernel() < (6, 4) else str(guest.lease["uid"])
        tap.equal({everywhere[tid][1] for tid in workers}, {expected}, "who the workers run as")
        tap.true(guest.vmm in threads, "the VMM is in its cgroup")
        claimed |= set(threads)
        tap.equal(open(cgroup_file(guest.lease, "pids.max"), encoding="ascii").read().strip(), "64", "pids.max")
        used = int(open(cgroup_file(guest.lease, "memory.current"), encoding="ascii").read())
        tap.true(used > 40 << 20, "the guest's memory is charged to it: %d" % used)
    tap.equal({tid: who for tid, who in everywhere.items() if tid not in claimed}, {}, "helpers outside of every sandbox")


def _tasks(pid):
    try:
        return [int(tid) for tid in os.listdir("/proc/%d/task" % pid)]
    except OSError:
        return []


@case
def every_thread_of_qemu_is_bare(host):
    """No capability, the lease's uid and a filter on each thread, also on what KVM and vhost made of it later."""
    for guest in guests(host):
        for tid in _tasks(guest.vmm):
            found = harness.status(guest.vmm, tid)
            name = found["Name"].strip()
            tap.equal({int(n) for n in found["Uid"].split()}, {guest.lease["uid"]}, "uid of " + name)
            tap.equal([int(found[n], 16) for n in harness.CAP_SETS], [0] * 5, "capabilities of " + name)
            held = (found["NoNewPrivs"].strip(), found["Seccomp"].strip())
            tap.equal(held, ("1", "2"), "no_new_privs, seccomp of " + name)
        tap.equal(harness.status(guest.vmm)["Groups"].split(), [], "groups")


@case
def D23_a_second_uid_cannot_attach_to_a_tap(host):
    """Not even inside the switch namespace, where no user can be: EPERM while it lives, nothing to attach to afterwards."""
    one, two = guests(host)
    names = {link["ifindex"]: name for name, link in host.switch_links().items()}
    for guest in (one, two):
        for nic, queues in zip(guest.lease["nics"], guest.queues):
            name = names[nic["ifindex"]]
            many = live.IFF_MULTI_QUEUE if queues > 1 else 0
            for uid in (BOB, ALICE, two.lease["uid"], one.lease["uid"], 65534):
                tap.true(attach(host, uid, name, many) in ("EPERM", "EBUSY"), "uid %d attaches to %s" % (uid, name))
            tap.equal(attach(host, 65534, name, many), "EPERM", "nobody to a tap with %d queues" % queues)


@case
def a_context_id_is_the_leases_as_long_as_it_lives(host):
    """Asked of the kernel by another process: taken for everybody else, root included."""
    for guest in guests(host):
        tap.equal(take_cid(guest.cid), "EADDRINUSE", "the context id of " + guest.name)


@case
def pause_and_resume_with_every_grant(host):
    one, _ = guests(host)
    host.ok("pause", "one")
    with contextlib.suppress(TimeoutError, ConnectionError, OSError):
        say(one.cid, SHELL_PORT, "echo asleep", 2)
        raise AssertionError("a paused guest answers")
    host.ok("resume", "one")
    tap.wait_for(lambda: _answers(one), "the guest answers again", 30)


def _answers(guest):
    try:
        return say(guest.cid, SHELL_PORT, "echo awake", 5).endswith("awake")
    except OSError:
        return False


@case
def nothing_is_left_of_either(host):
    """One ends by its user's kill, one by its VMM's death: worker, tap, context id, cgroup, uid are free again."""
    one, two = guests(host)
    names = {link["ifindex"]: name for name, link in host.switch_links().items()}
    taps = [names[nic["ifindex"]] for g in (one, two) for nic in g.lease["nics"][: g.lease["nic_count"]]]
    host.ok("kill", "one")
    os.kill(two.vmm, 9)
    host.settle(host.before, seconds=30, ignore=("user files",))
    for guest in (one, two):
        tap.equal(take_cid(guest.cid), "OK", "the context id of " + guest.name)
        tap.true(not os.path.exists(cgroup_file(guest.lease, "")), "the cgroup of %s is gone" % guest.name)
    tap.equal([harness.comm(p) for p in harness.pids() if re.match("vhost-|kvm-", harness.comm(p))], [], "helpers left")
    for name in taps:
        tap.equal(attach(host, 65534, name, 0), "EPERM", "nobody makes a tap of the old name")


# ---- VMMs that try to make more of it --------------------------------------------------------------------------------

def tried(launch):
    import json
    return {line["did"]: line["r"] for line in map(json.loads, launch.lines) if "did" in line}


@contextlib.contextmanager
def hostile(host, hypervisor, words, **more):
    """A hostile VMM that has tried its words and lives on; its results."""
    launch = host.launch(hypervisor, [*words, "hold"], flags=VSOCK_WANT,
                         nics=[{"network": "lan", "queues": 2, "flags": VHOST_WANT}], **more)
    with launch:
        log = socket.socket(fileno=os.dup(launch.log))
        log.settimeout(20)
        text = b""
        with log:
            while b'{"try":"hold"}' not in text:
                data = log.recv(65536)
                tap.true(data, "the hostile VMM lives: %r" % text[-300:])
                text += data
        launch.lines = [line for line in text.decode().splitlines() if line.startswith("{")]
        yield launch, tried(launch)


@case
def the_context_id_cannot_be_changed_by_the_vmm(host):
    """The filter answers 0 and does nothing: the kernel still has the lease's, and the wanted one is free. Under both
    filters, by every spelling of the command and through a copy of the descriptor."""
    for hypervisor in ("hostile", "hostile-qemu"):
        words = ["ioctl64:%d:%#x:%d" % (SLOT_VSOCK, request, 4242 + i)
                 for i, request in enumerate((SET_CID, SET_CID | 1 << 32, 0xFFFFFFFF00000000 | SET_CID))]
        with hostile(host, hypervisor, words) as (launch, results):
            tap.equal(results[words[0]], "OK", "what %s is told" % hypervisor)
            cid = launch.lease["cid"]
            tap.equal(take_cid(cid), "EADDRINUSE", "the lease's under %s" % hypervisor)
            for i in range(len(words)):
                tap.equal(take_cid(4242 + i), "OK", "the wanted one under %s: %s" % (hypervisor, results))
            # The same command on the same open file by somebody without a filter: this oracle can say no.
            with borrowed(launch.vmm_pid(), SLOT_VSOCK) as fd:
                fcntl.ioctl(fd, SET_CID, struct.pack("=Q", 4242))
                tap.equal((take_cid(4242), take_cid(cid)), ("EADDRINUSE", "OK"), "had it come through")
        tap.wait_for(lambda: take_cid(4242) == "OK", "the number is free after the end")


@case
def a_vhost_device_is_its_vmms_alone(host):
    """SET_OWNER once, by the VMM; no RESET_OWNER; a descriptor that has an owner is nobody else's."""
    import errno
    words = ["ioctl:%d:%#x:0" % (slot, request) for slot in (SLOT_VSOCK, SLOT_VHOST, SLOT_VHOST + 1)
             for request in (SET_OWNER, SET_OWNER, RESET_OWNER, RESET_OWNER | 1 << 32)]
    with hostile(host, "hostile", words) as (launch, results):
        tap.equal(set(results.values()), {"EPERM"}, "the mock has no use for any of it")
    with hostile(host, "hostile-qemu", words[::4] + [w for w in words if "0xaf02" in w]) as (launch, results):
        good = {word for word, result in results.items() if result == "OK"}
        tap.equal(good, set(words[::4]), "SET_OWNER and nothing else")
        for slot in (SLOT_VSOCK, SLOT_VHOST, SLOT_VHOST + 1):
            with borrowed(launch.vmm_pid(), slot) as fd:
                try:
                    fcntl.ioctl(fd, SET_OWNER)
                    raise AssertionError("descriptor %d has no owner" % slot)
                except OSError as why:
                    tap.equal(why.errno, errno.EBUSY, "a second owner of descriptor %d" % slot)
                try:
                    fcntl.ioctl(fd, RESET_OWNER)
                    raise AssertionError("descriptor %d was taken from its owner" % slot)
                except OSError as why:
                    tap.equal(why.errno, errno.EPERM, "RESET_OWNER of descriptor %d by root" % slot)


@case
def a_wrong_context_id_on_the_command_line_is_a_broken_guest(host):
    """QEMU is told another number than the lease's: it starts, the kernel's stays as it was."""
    words = ["-no-user-config", "-nodefaults", "-display", "none", "-S", "-machine", "q35", "-accel", "kvm", "-m", "64",
             "-chardev", "socket,id=control,fd=3", "-mon", "chardev=control,mode=control",
             "-device", "vhost-vsock-pci,vhostfd=%d,guest-cid=4343,romfile=" % SLOT_VSOCK]
    flags = VSOCK_WANT | wire.T.constants["WIRE_KVM_WANT"]
    with host.launch("qemu", words, flags=flags, memory=64) as launch:
        control = socket.socket(fileno=os.dup(launch.vmm_control))
        with control:
            control.settimeout(60)
            tap.true(b"QMP" in control.recv(4096), "QEMU greets, so its devices are made")
        tap.equal(take_cid(launch.lease["cid"]), "EADDRINUSE", "the lease's")
        tap.equal(take_cid(4343), "OK", "the one on the command line")


@case
def none_of_this_was_a_denial(host):
    """Where there are labels: what guests with every grant do, and what a filter answers, never comes to that lock."""
    tap.equal(installed.avc_since(host.mark), [], "denials")


harness.main(policy=policy, prepare=prepare)
