# SPDX-License-Identifier: Apache-2.0
# Runs: tests (root, unconfined_t, inside the test VM). Named tests of docs/selinux-rules.md: a launch,
# and what a label refuses by itself.
import contextlib
import os
import re
import struct

from world import (C, GET_FEATURES, IFF_ATTACH_QUEUE, IFF_DETACH_QUEUE, NIC, PATIENCE, SET_CID, SET_OWNER,
                   SLOT_ASSET, SLOT_TAP, SLOT_VHOST, SLOT_VSOCK, TUNGETFEATURES, TUNGETIFF, TUNSETPERSIST,
                   TUNSETQUEUE, a_tap, as_label, asked, device, hostile, inside, ioctl, refused, test, tried)
import harness
import kernel
import tap
import wire
from harness import ALICE

# ---- a launch -----------------------------------------------------------------------------------------------------------

@test("enter-init", "enter-vmm", "hold", "broker-sandboxes", "broker-clients", "spawner-capabilities", "spawner-room",
      "init-run", "init-client", "init-landlock", "init-facts", "vmm-run")
def launch_mock(world):
    """A mock is launched, held at its first instruction, and its receipt says so, with its label and its descriptors."""
    with world.launch("mock") as launch:
        facts = launch.facts
        found = re.fullmatch(r"\w+:system_r:postern_vmm_t:s0:(c\d+),(c\d+)", facts["label"])
        tap.true(found and found.group(1) != found.group(2), "label: " + facts["label"])
        tap.equal(facts["held"], 1, "held at its first instruction")
        tap.equal(facts["exe"], world.mock, "program")
        tap.true(facts["fd_count"] and facts["fds"] == facts["given"], "descriptors are what init gave")
        tap.equal(sum(found["vmm"] != 0 for found in facts["namespaces"]), 8, "namespaces that could be read")


@test("vmm-channels")
def log_reaches_the_controller(world):
    """What a VMM says is read by its controller."""
    hostile(world, ["clock"], ["OK"], "it speaks", "hostile")


@test("drive")
def stop_ends_it(world):
    """A sandbox stops when its controller says so, by its VMM's death."""
    with world.launch("hostile", ["hold"]) as launch:
        tried(launch, [])
        wire.send_raw(launch.control, wire.message("C_STOP", {"signal": 0, "grace_ms": 500}))
        tap.true(os.WIFSIGNALED(launch.exited(PATIENCE)), "the VMM was ended by a signal")


@test("sigpipe")
def a_log_that_nobody_reads_kills_nobody(world):
    """A VMM whose log is closed gets EPIPE, not a deadly signal."""
    with world.launch("hostile", ["hold"]) as launch:
        tried(launch, [])
        for number in (2, 0):
            os.close(launch.channels[number])
        launch.channels = launch.channels[1:2]
        status = launch.exited(PATIENCE)
        tap.true(os.WIFEXITED(status), "status of the VMM: %#x" % status)


@test("rlimits")
def soft_limits_survive_exec(world):
    """Descriptor limits stay at what they were set to, in the spawner, in init and in the VMM."""
    with world.launch("mock") as launch:
        for pid in (world.spawner, launch.lease["init_pid"], launch.vmm_pid()):
            with open("/proc/%d/limits" % pid, encoding="ascii") as f:
                soft, hard = re.search(r"Max open files +(\w+) +(\w+)", f.read()).groups()
            tap.equal(soft, hard, "soft and hard limit of " + harness.comm(pid))


def cgroup_file(lease, name):
    return "/sys/fs/cgroup" + lease["cgroup"].removeprefix("/sys/fs/cgroup") + "/" + name


@test("spawner-cgroup")
def limits_are_set(world):
    """A sandbox has a cgroup of its own with its limits, and its VMM is in it."""
    with world.launch("mock", limits={"pids": 33}, flags=C["WIRE_CGROUP_REQUIRE"]) as launch:
        path = cgroup_file(launch.lease, "")
        tap.equal(open(path + "pids.max", encoding="ascii").read(), "33\n", "pids.max")
        tap.true(str(launch.vmm_pid()) in open(path + "cgroup.procs", encoding="ascii").read().split(), "the VMM is in it")
    tap.wait_for(lambda: not os.path.exists(path), "the cgroup is gone", 3)


@test("spawner-kill")
def broker_kills(world):
    """A sandbox dies when its owner asks the broker, even where its cgroup cannot be killed as a whole."""
    with world.launch("hostile", ["hold"], flags=C["WIRE_SURVIVE"]) as launch:
        os.chown(cgroup_file(launch.lease, "cgroup.kill"), 0, 0)
        with world.session() as session:
            session.call("KILL", {"uuid": launch.uuid})
        tap.wait_for(lambda: not world.sandbox_processes(), "the sandbox is gone", 3)


@test("broker-say", "spawner-say")
def daemons_are_heard(world):
    """What both daemons say reaches whoever started them."""
    size = os.path.getsize(world.log_path)
    refused(world)

    def heard():
        with open(world.log_path, encoding="utf-8", errors="replace") as f:
            f.seek(size)
            text = f.read()
        return "postern-broker:" in text and "postern-spawner:" in text
    tap.wait_for(heard, "a line of each", 2)


@test("spawner-network", "init-grants", "vmm-tap")
def tap_is_driven(world):
    """A VMM has a tap of its own and drives it."""
    hostile(world, ["ioctl:%d:%#x:buf" % (SLOT_TAP, request) for request in (TUNGETFEATURES, TUNGETIFF)] +
            ["frame:%d:12:02-00-00-00-00-01:10.98.0.9:10.98.0.1" % SLOT_TAP], ["OK"] * 3, "a tap", nics=[NIC])


@test("tap-queues", lists=("tap-queues",))
def tap_has_two_queues(world):
    """A tap has two queues, and a VMM switches one off and on again."""
    words = ["ifreq:%d:%#x:x:%#x" % (SLOT_TAP + 1, TUNSETQUEUE, flag) for flag in (IFF_DETACH_QUEUE, IFF_ATTACH_QUEUE)]
    hostile(world, words, ["OK"] * 2, "two queues", nics=[dict(NIC, queues=2)])


@test("vmm-vhost")
def vhost_net_is_driven(world):
    """A VMM takes a vhost-net device as its own and asks what it can do."""
    hostile(world, ["ioctl:%d:%#x:0" % (SLOT_VHOST, SET_OWNER), "ioctl:%d:%#x:buf" % (SLOT_VHOST, GET_FEATURES)], ["OK"] * 2,
            "vhost-net", nics=[dict(NIC, flags=C["WIRE_NIC_VHOST_REQUIRE"])])


@test("broker-vhost")
def vsock_has_its_cid(world):
    """A VMM has a vsock device, and its context id is the lease's."""
    with world.launch("hostile-qemu", ["ioctl:%d:%#x:0" % (SLOT_VSOCK, SET_OWNER), "hold"],
                      flags=C["WIRE_VSOCK_REQUIRE"]) as launch:
        tap.equal(tried(launch, ["ioctl:%d:%#x:0" % (SLOT_VSOCK, SET_OWNER)]), ["OK"], "vhost-vsock")
        with device("/dev/vhost-vsock") as fd:
            tap.equal(ioctl(fd, SET_CID, struct.pack("=Q", launch.lease["cid"])), "EADDRINUSE", "the lease's context id")


@test("vmm-kvm")
def kvm_answers(world):
    """A VMM opens /dev/kvm inside its sandbox."""
    hostile(world, ["kvm:/dev/kvm"], ["OK"], "KVM", flags=C["WIRE_KVM_REQUIRE"])


@test("init-copy", "vmm-private")
def initrd_is_copied(world):
    """A file that its VMM takes by name is copied into the sandbox's /run and read there."""
    path = world.user_file(ALICE, "initrd", b"initrd")
    with open(path, "rb") as f:
        hostile(world, ["open:/run/initrd:r"], ["OK"], "the copy", assets=[{"fd": f.fileno(), "name": "initrd", "use": 1}])


@test("vmm-images")
def image_is_read_and_written(world):
    """A user's file is mapped and written by descriptor, and opened by nobody."""
    path = world.user_file(ALICE, "disk", bytes(4096))
    with open(path, "r+b") as f:
        hostile(world, ["mmapwrite:%d" % SLOT_ASSET, "write:%d" % SLOT_ASSET], ["OK"] * 2, "the image",
                assets=[{"fd": f.fileno(), "name": "disk", "writable": 1}])
    tap.equal(open(path, "rb").read(7), b"hostile", "what is in the file")


@test("vmm-tcg")
def code_is_made_at_run_time(world):
    """With postern_tcg on, a VMM without KVM makes code at run time."""
    kernel.set_booleans(postern_tcg=True)
    try:
        hostile(world, ["wx"], ["OK"], "writable and executable memory")
    finally:
        kernel.set_booleans(postern_tcg=False)


# ---- a confined user -----------------------------------------------------------------------------------------------------

@test("client-connect", "client-descriptors", "client-look", "spawner-launch")
def confined_user_launches(world):
    """A user of SELinux's own kind (user_t) launches, and reads from outside what the receipt needs."""
    def client():
        with world.session(None) as session, world.launch("hostile", ["clock", "hold"], session=session) as launch:
            tap.equal(tried(launch, ["clock"]), ["OK"], "what it says")
            init = launch.lease["init_pid"]
            os.stat("/proc/self/ns/user")
            version = os.posix_spawn(world.mock, ["postern-mock-vmm", "--version"], {},
                                     file_actions=[(os.POSIX_SPAWN_CLOSE, 1)])
            tap.equal(os.waitpid(version, 0)[1], 0, "the VMM's version can be asked for")
            tap.true(harness.status(init), "what /proc says of init")
            tap.equal([ppid_of(pid) for pid in harness.pids()].count(init), 1, "VMMs whose /proc can be read")
    inside("user_t", "s0", client, ALICE)


def ppid_of(pid):
    with contextlib.suppress(PermissionError):
        return int((harness.status(pid) or {"PPid": "0"})["PPid"])
    return 0


# ---- asked of the kernel without a program in between --------------------------------------------------------------------


VMM_LEVEL = "s0:c1,c2"


@test(lists=("vmm-vhost",))
def cid_ioctl_refused_by_label(world):
    """A VMM cannot change its context id even where no filter stands before it."""
    with device("/dev/vhost-vsock") as fd:
        asked("postern_vmm_t", VMM_LEVEL, fd, [((SET_CID, struct.pack("=Q", 4711)), "EACCES"), ((SET_OWNER,), "OK")])


@test(lists=("vmm-tap",))
def tap_ioctl_refused_by_label(world):
    """A VMM cannot make its tap persistent even where no filter stands before it."""
    with a_tap() as fd:
        asked("postern_vmm_t", VMM_LEVEL, fd, [((TUNSETPERSIST, 1), "EACCES"), ((TUNGETIFF, bytes(40)), "OK")])


@test(lists=("broker-vhost",))
def broker_settles_the_cid_and_nothing_else(world):
    """The broker has one ioctl on a vhost device, and cannot become its owner."""
    with device("/dev/vhost-vsock") as fd:
        asked("postern_t", "s0", fd, [((SET_OWNER,), "EACCES"), ((SET_CID, struct.pack("=Q", 4712)), "OK")])


@test(lists=("spawner-network",))
def spawner_makes_taps_and_nothing_else(world):
    """The spawner cannot make a tap persistent."""
    with a_tap() as fd:
        asked("postern_spawner_t", "s0", fd, [((TUNSETPERSIST, 1), "EACCES")])


@test(lists=("categories",))
def categories_keep_apart(world):
    """A VMM reads a file of its own categories, and none of another sandbox's."""
    path = "/tmp/rules-categories"
    with as_label("fscreate", "system_u:object_r:postern_run_t:s0:c3,c4"):
        with open(path, "w", encoding="ascii") as f:
            f.write("x" * 64)
    with open(path, "rb", buffering=0) as f:
        inside("postern_vmm_t", "s0:c3,c4", lambda: tap.equal(f.read(1), b"x", "its own"))

        def other():
            try:
                f.read(1)
            except PermissionError:
                return
            raise AssertionError("the file of another sandbox was read")
        inside("postern_vmm_t", VMM_LEVEL, other)
    os.unlink(path)
