# SPDX-License-Identifier: Apache-2.0
# Runs: tests (root). Assume the guest owns its VMM: everything it may then try, from inside.
import fcntl
import json
import os
import socket
import stat
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "integration"))
import attacks  # noqa: E402
import harness  # noqa: E402
import probe  # noqa: E402
import tap  # noqa: E402
import wire  # noqa: E402
from tap import case  # noqa: E402

NIC = {"network": "lan", "queues": 1}
SLOT_TAP, SLOT_ASSET = 16, 80
TUNSETIFF, TUNSETPERSIST, TUNSETOWNER, TUNSETGROUP = 0x400454CA, 0x400454CB, 0x400454CC, 0x400454CE
TUNSETLINK, TUNSETCARRIER, TUNSETSTEERINGEBPF, TUNSETFILTEREBPF = 0x400454CD, 0x400454E2, 0x800454E0, 0x800454E1
TUNSETQUEUE, TUNSETNOCSUM, TUNSETDEBUG, TUNSETTXFILTER = 0x400454D9, 0x400454C8, 0x400454C9, 0x400454D1
TUNATTACHFILTER, TUNDETACHFILTER, TUNSETIFINDEX = 0x401054D5, 0x401054D6, 0x400454DA
SIOCSIFHWADDR, SIOCGSKNS, SIOCSIFFLAGS, SIOCSIFADDR, SIOCSIFNAME = 0x8924, 0x894C, 0x8914, 0x8916, 0x8923

TAP_WORDS = ["ifreq:16:%#x:%s:0x1002" % (TUNSETIFF, name) for name in ("", "tap0", "p1", "eth0")]
TAP_WORDS += ["ioctl:16:%#x:%s" % (request, argument) for request, argument in (
    (TUNSETPERSIST, 1), (TUNSETPERSIST, 0), (TUNSETOWNER, 0), (TUNSETOWNER, 64810), (TUNSETGROUP, 0), (TUNSETLINK, 1),
    (TUNSETCARRIER, "buf"), (TUNSETSTEERINGEBPF, "buf"), (TUNSETFILTEREBPF, "buf"), (TUNATTACHFILTER, "buf"),
    (TUNDETACHFILTER, 0), (TUNSETIFINDEX, "buf"), (TUNSETQUEUE, "buf"), (TUNSETDEBUG, 1), (TUNSETTXFILTER, "buf"),
    (TUNSETNOCSUM, 1), (SIOCGSKNS, 0))]
TAP_WORDS += ["ifreq:16:%#x:tap0:mac" % SIOCSIFHWADDR, "ifreq:16:%#x:tap0:0" % SIOCSIFFLAGS,
              "ifreq:16:%#x:tap0:0" % SIOCSIFADDR,
              "ifreq:16:%#x:tap0:0" % SIOCSIFNAME]


def both(host, words, what, permitted=(), **more):
    """Under the mock's filter and under QEMU's, which lets more through to the kernel."""
    for hypervisor in ("hostile", "hostile-qemu"):
        results = attacks.run(host, words, hypervisor, **more)
        allowed = permitted.get(hypervisor, ()) if isinstance(permitted, dict) else permitted
        attacks.refused(results, "%s under %s" % (what, hypervisor), {word: "OK" for word in allowed})


@case
def no_namespaces(host):
    both(host, attacks.NAMESPACES, "new and foreign namespaces")


@case
def no_mounts(host):
    both(host, attacks.MOUNTS, "mounts and roots")


@case
def init_is_out_of_reach(host):
    """Where Landlock cannot hold a signal back (before its version 6), tgkill() says that it was sent; init, which the kernel
    shields from its own pid namespace, does not get it: had it died, the words behind would not have been tried. A label
    that is enforced holds it back all the same."""
    labelled = os.path.exists("/sys/fs/selinux/enforce") and open("/sys/fs/selinux/enforce", encoding="ascii").read(1) == "1"
    sent = () if labelled or probe.landlock_abi() >= 6 else ("tgkill:1:1:9", "tgkill:1:1:6")
    both(host, attacks.INIT, "init", sent)


@case
def D27_no_network_but_its_tap(host):
    both(host, attacks.SOCKETS, "sockets")


@case
def no_files_but_its_own(host):
    both(host, attacks.FILES, "files")


@case
def identity_is_settled(host):
    both(host, attacks.IDENTITY, "identity")


@case
def limits_cannot_be_raised(host):
    both(host, attacks.LIMITS, "limits")


@case
def kernel_interfaces_are_closed(host):
    both(host, attacks.KERNEL, "kernel interfaces")


@case
def machine_wide_calls_kill(host):
    for hypervisor in ("hostile", "hostile-qemu"):
        results = attacks.run(host, attacks.DEADLY, hypervisor)
        tap.equal({w: r for w, r in results.items() if r != "SIGSYS"}, {},
                  "machine-wide calls that did not kill " + hypervisor)


@case
def D34_other_gates_kill(host):
    for hypervisor in ("hostile", "hostile-qemu"):
        results = attacks.run(host, attacks.OTHER_GATES, hypervisor)
        tap.equal({w: r for w, r in results.items() if r != "SIGSYS"}, {},
                  "i386 and x32 calls that did not kill " + hypervisor)


@case
def no_other_programs(host):
    both(host, attacks.PROGRAMS, "other programs")


@case
def K14_tap_ioctl_sweep(host):
    """The tap's descriptor is not a licence to change the tap: neither by filter gap nor under the richer filter."""
    for nic in (NIC, {"network": "lan2", "queues": 1}):
        both(host, TAP_WORDS, "ioctls on the tap", nics=[nic])


@case
def D24_no_link_is_left_after_self_service(host):
    """Whatever the VMM did to its tap, no link outlives it."""
    before = set(host.switch_links())
    with host.launch("hostile", TAP_WORDS + ["hold"], nics=[NIC]) as launch:
        index = launch.lease["nics"][0]["ifindex"]
        tap.true(index > 0, "the lease names the tap's ifindex")
        tap.true(any(link["ifindex"] == index for link in host.switch_links().values()),
                 "the tap is in the switch namespace")
    tap.wait_for(lambda: set(host.switch_links()) == before, "the tap is gone")


@case
def D24_nor_when_it_succeeded(host):
    """Had the VMM's filter let TUNSETPERSIST through: root does it here with the VMM's own descriptor. The tap goes all the
    same, because it is deleted by its index, not by the last close."""
    with host.launch("hostile", ["hold"], nics=[NIC]) as launch:
        index = launch.lease["nics"][0]["ifindex"]
        pidfd = os.pidfd_open(launch.vmm_pid())
        tap_fd = probe.LIBC.syscall(probe.SYS["pidfd_getfd"], pidfd, SLOT_TAP, 0)
        tap.true(tap_fd >= 0, "root has the tap's descriptor")
        fcntl.ioctl(tap_fd, TUNSETPERSIST, 1)
        os.close(tap_fd)
        os.close(pidfd)
    tap.wait_for(lambda: index not in [link["ifindex"] for link in host.switch_links().values()], "the persistent tap is gone")


@case
def kvm_is_what_was_granted(host):
    """The node of a sandbox that did not ask for KVM is hidden from it, whatever Landlock and the filter say."""
    want = wire.T.constants["WIRE_KVM_WANT"]
    kvm = os.makedev(10, 232)
    for flags in (0, want):
        with host.launch("hostile", ["hold"], flags=flags) as launch:
            path = "/proc/%d/root/dev/kvm" % launch.vmm_pid()
            if flags and wire.T.outcomes[launch.lease["grants"][0]] != "BY_NODE":
                raise tap.Skip("/dev/kvm is not granted as a node here: " + wire.T.outcomes[launch.lease["grants"][0]])
            tap.equal(os.stat(path).st_rdev == kvm, bool(flags), "/dev/kvm is KVM in a sandbox with flags %d" % flags)


@case
def D21_tap_names_are_generated(host):
    with host.launch("hostile", ["hold"], nics=[NIC, {"network": "lan2", "queues": 1}]) as launch:
        wanted = {nic["ifindex"] for nic in launch.lease["nics"][:2]}
        names = [name for name, link in host.switch_links().items() if link["ifindex"] in wanted]
        tap.equal(len(names), 2, "taps")
        for name in names:
            tap.true(len(name) < 16 and name.isalnum() and "lan" not in name, "a generated name: " + name)


@case
def every_unlisted_syscall_is_refused(host):
    """The mock's filter is what its file says: each number that the file does not name, 0 to 600, x86-64."""
    allowed, killed = attacks.listed(os.path.join(harness.ROOT, "policy/syscalls/mock.syscalls"))
    _, killed_by_base = attacks.listed(os.path.join(harness.ROOT, "policy/syscalls/base.syscalls"))
    words = ["raw:%d:-1:-1:-1:-1:-1:-1" % n for n in range(600) if n not in allowed | killed | killed_by_base]
    results = attacks.run(host, words)
    tap.equal(len(results), len(words), "results")
    # uretprobe and uprobe: the kernel lets them past every filter and answers a caller who is no trampoline of its own with
    # a signal or ENXIO.
    for number in (335, 336):
        tap.true(results.pop("raw:%d:-1:-1:-1:-1:-1:-1" % number) in ("SIGILL", "ENXIO", "EPERM", "ENOSYS"),
                 "system call %d" % number)
    tap.equal({w: r for w, r in results.items() if r not in ("EPERM", "ENOSYS")}, {}, "system calls that reached the kernel")


@case
def a_vmm_is_held_until_its_facts_are_read(host):
    """However quick it is (once, one in 16 ran to its end unheld): init saw it stopped at its first instruction."""
    with host.session(harness.ALICE) as session:
        for _ in range(100):
            with host.launch("hostile", ["clock"], session=session) as launch:
                tap.equal(launch.facts["held"], 1, "init saw it held")


def manifest(launch):
    lines = [json.loads(line) for line in launch.output().splitlines() if line.startswith('{"fd"')]
    return {line["fd"]: line for line in lines}


@case
def D11_the_descriptors_are_the_manifest(host):
    """While the broker holds 100 other sessions, a VMM has exactly what was declared, and all of it is narrow."""
    crowd = [host.session(uid) for uid in (harness.ALICE, harness.BOB) for _ in range(50)]
    try:
        path = host.user_file(harness.ALICE, "asset", b"asset" * 100)
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        # Two words, so that what it says is complete before it ends.
        with host.launch("hostile", ["fds"], nics=[NIC], assets=[{"fd": fd, "name": "kernel"}]) as launch:
            found = manifest(launch)
            facts = launch.facts
        tap.equal(sorted(found), [0, 1, 2, 3, 4, SLOT_TAP, SLOT_ASSET], "descriptors of the VMM")
        kinds = {0: stat.S_ISCHR, 1: stat.S_ISSOCK, 2: stat.S_ISSOCK, 3: stat.S_ISSOCK, 4: stat.S_ISSOCK,
                 SLOT_TAP: stat.S_ISCHR,
                 SLOT_ASSET: stat.S_ISREG}
        for number, check in kinds.items():
            tap.true(check(found[number]["mode"]), "kind of descriptor %d" % number)
        tap.equal(found[0]["rdev"], os.makedev(1, 3), "descriptor 0 is /dev/null")
        tap.equal(found[SLOT_TAP]["rdev"], os.makedev(10, 200), "descriptor 16 is a tun")
        asset = os.fstat(fd)
        tap.equal((found[SLOT_ASSET]["dev"], found[SLOT_ASSET]["ino"]), (asset.st_dev, asset.st_ino),
                  "the very file that was passed")
        os.close(fd)
        tap.equal(sorted(f["fd"] for f in facts["fds"][: facts["fd_count"]]), sorted(found), "what init reports")
    finally:
        for session in crowd:
            session.close()


@case
def D12_root_and_cwd_are_inside(host):
    """Neither cwd nor root nor any descriptor is a directory of the host."""
    with host.launch("hostile", ["hold"]) as launch:
        pid = launch.vmm_pid()
        for link in ("root", "cwd"):
            found = os.stat("/proc/%d/%s" % (pid, link))
            tap.true(found.st_dev != os.stat("/").st_dev, link + " is not on the host's file system")
        tap.equal(os.readlink("/proc/%d/root" % pid), "/", "root")
        tap.equal(os.readlink("/proc/%d/cwd" % pid), "/", "cwd")
        names = set(os.listdir("/proc/%d/root" % pid))
        tap.true(names <= {"bin", "sbin", "lib", "lib32", "lib64", "libx32", "usr", "dev", "run", "proc", "var", "opt"},
                 "names in the root: %s" % sorted(names))
        for number in harness.fds(pid):
            tap.true(not stat.S_ISDIR(os.stat("/proc/%d/fd/%d" % (pid, number)).st_mode), "no directory at %d" % number)
        facts = launch.facts
        tap.equal((facts["root_dev"], facts["root_ino"]), (facts["init_root_dev"], facts["init_root_ino"]),
                  "root as init has it")


@case
def D14_groups_are_exact(host):
    for hypervisor, words in (("hostile", ["hold"]), ("hostile-qemu", ["hold"]), ("mock", [])):
        with host.launch(hypervisor, words) as launch:
            for pid in (launch.lease["init_pid"], launch.vmm_pid()):
                found = harness.status(pid)
                tap.equal(found["Groups"].split(), [], "supplementary groups of %s under %s" % (harness.comm(pid),
                    hypervisor))
                tap.equal(set(found["Uid"].split()), {str(launch.lease["uid"])}, "uids")
                tap.equal(set(found["Gid"].split()), {str(launch.lease["gid"])}, "gids")


@case
def D22_a_frame_is_never_roots(host):
    """The opener of a tap, whose uid the kernel gives its frames, is neither root nor a user: it is the spawner or X."""
    with host.launch("hostile", ["hold"], nics=[NIC]) as launch:
        number = next(n for n, link in harness.fds(launch.vmm_pid()).items() if link.endswith("/tun"))
        tap.equal(number, SLOT_TAP, "where the tap is")
        # The kernel takes the fsuid of whoever opened the descriptor: the only opener is the spawner, which has no uid 0.
        ids = harness.status(host.spawner)["Uid"].split()
        tap.true("0" not in ids, "the spawner's uids are %s" % ids)
        tap.equal(ids[3], str(harness.SPAWN_UID), "its fsuid")


@case
def D10_a_read_only_asset_cannot_be_written(host):
    content = b"read only " * 4096
    path = host.user_file(harness.ALICE, "disk.img", content, 0o666)
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    words = ["write:%d" % SLOT_ASSET, "reopen:%d" % SLOT_ASSET, "mmapwrite:%d" % SLOT_ASSET, "fchmod:%d:06777" % SLOT_ASSET,
             "raw:77:%d:0" % SLOT_ASSET, "raw:285:%d:0:0:4096" % SLOT_ASSET, "raw:93:%d:0:0" % SLOT_ASSET,
             "raw:190:%d:buf:buf:1:0" % SLOT_ASSET, "raw:72:%d:4:02" % SLOT_ASSET]
    for hypervisor in ("hostile", "hostile-qemu"):
        results = attacks.run(host, words, hypervisor, assets=[{"fd": fd, "name": "disk0"}])
        # F_SETFL ignores the access mode: it "succeeds" and changes nothing.
        results.pop("raw:72:%d:4:02" % SLOT_ASSET)
        attacks.refused(results, "writing to a read-only asset under " + hypervisor)
    os.close(fd)
    tap.equal(open(path, "rb").read(), content, "the file")


@case
def an_asset_socket_has_a_peer_and_keeps_it(host):
    """Abstract names are looked up where a socket was made: one that may still choose its peer is a way out."""
    unix, stream, datagram, packet = socket.AF_UNIX, socket.SOCK_STREAM, socket.SOCK_DGRAM, socket.SOCK_SEQPACKET
    listening = socket.socket(unix, stream)
    listening.bind("\0postern-test-%d" % os.getpid())
    listening.listen()
    refused = [(socket.socket(unix, kind), "unconnected %s" % kind) for kind in (stream, datagram, packet)]
    refused += [(socket.socketpair(unix, datagram)[0], "a pair of datagram sockets"), (listening, "a listening one"),
                (socket.socket(socket.AF_INET, stream), "one of the network")]
    for sock, what in refused:
        with sock:
            try:
                host.launch("hostile", ["fds"], assets=[{"fd": sock.fileno(), "name": "serial", "writable": 1}]).close()
                raise AssertionError(what + " was taken")
            except harness.LaunchFailed as why:
                tap.equal(why.step, "INIT_ASSET", what)
    for kind in (stream, packet):
        near, far = socket.socketpair(unix, kind)
        with near, far, host.launch("hostile", ["fds"], assets=[{"fd": near.fileno(), "name": "serial",
                                                                 "writable": 1}]) as launch:
            tap.true(SLOT_ASSET in manifest(launch), "a connected one arrives")


@case
def K10_no_setuid_file_can_be_planted(host):
    """A writable file of the user's stays his: no mode, owner, capability or ACL can be put on it from inside."""
    path = host.user_file(harness.ALICE, "writable.img", b"\0" * 4096, 0o666)
    fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    words = ["fchmod:%d:06777" % SLOT_ASSET, "raw:93:%d:0:0" % SLOT_ASSET, "raw:190:%d:buf:buf:1:0" % SLOT_ASSET]
    before = os.stat(path)
    both(host, words, "planting", assets=[{"fd": fd, "name": "disk0", "writable": 1}])
    os.close(fd)
    after = os.stat(path)
    tap.equal((after.st_mode, after.st_uid, after.st_gid), (before.st_mode, before.st_uid, before.st_gid), "mode and owner")
    # And inside: what X makes in its own /run cannot carry or run a program.
    run = [line.split() for line in _mountinfo(host)]
    options = next(fields[5] for fields in run if fields[4] == "/run")
    for wanted in ("nosuid", "nodev", "noexec"):
        tap.true(wanted in options.split(","), "/run is mounted " + wanted)


def _mountinfo(host):
    with host.launch("hostile", ["hold"]) as launch:
        return open("/proc/%d/mountinfo" % launch.vmm_pid(), encoding="utf-8").read().splitlines()


@case
def every_mount_is_narrow(host):
    """Of a sandbox's mounts only /run is writable, none takes set-uid programs, none but dev's nodes takes devices."""
    for line in _mountinfo(host):
        fields = line.split()
        point, options = fields[4], fields[5].split(",")
        tap.true("nosuid" in options, "%s is nosuid" % point)
        if point not in ("/run", "/proc"):  # a procfs of no process at all, so that the sandbox may have one for its receipt
            tap.true("ro" in options or "ro" in fields[-1].split(","), "%s is read-only" % point)
        if not point.startswith("/dev"):
            tap.true("nodev" in options or point == "/", "%s is nodev" % point)


@case
def D30_the_sandbox_cannot_trap_its_cleaners(host):
    """Directories swapped for links before the end: the clean-up follows nothing, because it removes nothing by path."""
    victim = os.path.join(host.work, "victim")
    os.mkdir(victim, 0o777)
    open(os.path.join(victim, "file"), "w", encoding="ascii").close()
    before = harness.files_below(victim)
    words = ["mkdir:/run/d", "symlink:%s:/run/d/l" % victim, "symlink:%s:/run/l" % victim, "rename:/run/d:/run/e"]
    with host.launch("hostile-qemu", words) as launch:
        launch.output()
        uid = launch.lease["uid"]
    tap.wait_for(lambda: not any(uid in harness.uids(p) for p in harness.pids()), "the sandbox is gone")
    tap.equal(harness.files_below(victim), before, "the victim's files")
    os.unlink(os.path.join(victim, "file"))
    os.rmdir(victim)


@case
def D31_all_capability_sets_are_empty(host):
    for hypervisor, words in (("hostile", ["hold"]), ("mock", [])):
        with host.launch(hypervisor, words) as launch:
            for pid in (launch.lease["init_pid"], launch.vmm_pid()):
                for task in os.listdir("/proc/%d/task" % pid):
                    found = harness.status(pid, task)
                    for name in harness.CAP_SETS:
                        tap.equal(int(found[name], 16), 0, "%s of %s" % (name, harness.comm(pid)))
                    tap.equal((found["NoNewPrivs"].strip(), found["Seccomp"].strip()), ("1", "2"),
                              "no_new_privs and seccomp")


@case
def a_flooding_vmm_disturbs_nobody(host):
    """Megabytes of log and nonsense on its control channel: init and broker go on, and the sandbox still ends."""
    with host.launch("hostile", ["flood:8192", "babble:60000", "hold"]) as launch:
        with host.session(harness.BOB) as other:
            for _ in range(20):
                other.call("HOST")
        log = socket.socket(fileno=os.dup(launch.log))
        got = 0
        log.settimeout(10)
        with log:
            while got < 4 << 20:
                data = log.recv(1 << 20)
                tap.true(data, "the log went on for %d bytes" % got)
                got += len(data)
        pid = launch.lease["init_pid"]
    tap.wait_for(lambda: not harness.alive(pid), "init is gone")


@case
def two_sandboxes_do_not_see_each_other(host):
    """No signal, no frame and no name from one to the other; nor between two of one user."""
    with host.launch("hostile", ["hold"], nics=[NIC]) as first:
        other = first.vmm_pid()
        mac = bytes(first.lease["nics"][0]["mac"])
        words = ["kill:%d:9" % other, "kill:%d:0" % first.lease["init_pid"], "pidfd:%d" % other, "ptrace:16:%d" % other,
                 "open:/proc/%d/mem:rw" % other]
        both(host, words, "the neighbour", uid=harness.ALICE, nics=[NIC])
        tap.true(harness.alive(other), "the neighbour lives")
        tap.true(mac[0] & 3 == 2, "a locally administered unicast MAC")


@case
def D27_a_shared_namespace_is_no_meeting_place(host):
    """Sandboxes that share the empty network namespace share its abstract names: Landlock keeps them apart, where the filter
    lets a VMM make unix sockets at all."""
    shared = wire.T.constants["WIRE_NETNS_SHARED"]
    with host.launch("hostile-qemu", ["listen:meeting", "hold"], flags=shared, uid=harness.BOB):
        both(host, ["connect:@meeting"], "a neighbour's abstract socket", flags=shared)


def policy(config, host):
    config["hypervisors"]["hostile-qemu"] = {"path": os.path.join(host.fakes, "hostile-vmm"), "driver": "qemu"}
    config["rules"][0]["hypervisors"].append("hostile-qemu")


harness.main(policy=policy)
