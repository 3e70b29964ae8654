# SPDX-License-Identifier: Apache-2.0
# Runs: tests (root, launching as an ordinary user). Real guests: Debian's kernel under TCG, a payload under KVM.
import os
import shutil
import subprocess
import sys
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import harness  # noqa: E402
import tap  # noqa: E402
from harness import ALICE  # noqa: E402
from tap import case  # noqa: E402

MARK = b"postern block test %016d " % 42


def prepare(host):
    done = subprocess.run([os.path.join(harness.ROOT, "tools/guest")], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                          text=True)
    if done.returncode != 0:
        raise tap.Skip("tools/guest: " + done.stderr.strip().splitlines()[-1])
    for name in ("vmlinuz", "initrd.img"):
        shutil.copy(os.path.join(done.stdout.strip(), name), os.path.join(host.homes[ALICE], name))
        os.chown(os.path.join(host.homes[ALICE], name), ALICE, ALICE)
        os.chmod(os.path.join(host.homes[ALICE], name), 0o600)


def linux(host, command, then, **fields):
    address = '%s.77/24' % host.subnet
    spec = {"hypervisor": "qemu", "kernel": os.path.join(host.homes[ALICE], "vmlinuz"), "accel": "tcg", "memory": 256,
            "initrd": os.path.join(host.homes[ALICE], "initrd.img"), "nics": [{"type": "tap", "network": "lan"}],
            "cmdline": 'quiet postern.ip=%s postern.cmd="%s" postern.then=%s' % (address, command, then)}
    spec.update(fields)
    return host.spec(**spec)


@case
def linux_with_block_images_and_a_tap(host):
    """It reads what is on one image, writes to it, cannot write to the read-only one, reaches the gateway, powers off."""
    before = host.snapshot()
    size = 1 << 20
    disk = host.user_file(ALICE, "disk.img", MARK + b"\0" * (size - len(MARK)))
    fixed = host.user_file(ALICE, "fixed.img", MARK + b"\0" * (size - len(MARK)))
    command = "; ".join((
        "echo READ $(dd if=/dev/vda bs=%d count=1 2>/dev/null)" % len(MARK),
        "printf written-by-guest | dd of=/dev/vda bs=512 seek=8 conv=notrunc,fsync 2>/dev/null && echo WROTE",
        "printf written-by-guest | dd of=/dev/vdb bs=512 seek=8 conv=notrunc,fsync 2>/dev/null || echo REFUSED",
        "ping -c 2 -W 5 %s.1 && echo PINGED" % host.subnet))
    # No double quote may be in it: they hold the command line's value together.
    done = host.cli("run", linux(host, command, "poweroff", disks=[{"path": disk}, {"path": fixed, "readonly": True}]),
                    timeout=120)
    tap.equal(done.returncode, 0, "status of run: %s\n%s" % (done.stderr, done.stdout[-2000:]))
    for wanted in ("GUEST-READY", "READ " + MARK.decode().strip(), "WROTE", "REFUSED", "PINGED"):
        tap.true(wanted in done.stdout, "%s is on the console:\n%s" % (wanted, done.stdout[-2000:]))
    tap.true(open(disk, "rb").read()[4096:4112] == b"written-by-guest", "the image has what the guest wrote")
    tap.true(open(fixed, "rb").read() == MARK + b"\0" * (size - len(MARK)), "the read-only image is as it was")
    for path in (disk, fixed):
        found = os.stat(path)
        tap.equal((found.st_uid, found.st_mode & 0o7777), (ALICE, 0o600), "owner and mode of " + path)
        os.unlink(path)
    host.settle(before)


@case
def linux_detached_and_stopped(host):
    """Console, QMP (pause, resume, graceful stop) and receipt while it runs; D10's kernel-side proof of read-only."""
    before = host.snapshot()
    fixed = host.user_file(ALICE, "fixed.img", b"\0" * (1 << 20), 0o666)
    spec = linux(host, "echo up", "wait", disks=[{"path": fixed, "readonly": True}])
    host.ok("run", spec, "--detach", "--name", "tux", timeout=60)
    lease = host.leases_of(ALICE)[0]
    (vmm,) = harness.children(lease["init_pid"])
    tap.wait_for(lambda: "GUEST-READY" in host.ok("logs", "tux", "--console"), "the guest is up", 60, 0.5)
    state = host.json("status", "tux")
    tap.true("tcg" in state["accel"], "accelerator: " + state["accel"])
    host.ok("pause", "tux")
    tap.equal(host.json("status", "tux")["status"], "paused", "paused")
    host.ok("resume", "tux")
    tap.equal(host.json("receipt", "tux")["good"], True, "receipt")
    tap.equal(host.json("audit", "tux")["good"], True, "audit")
    number = next(n for n in harness.fds(vmm) if os.path.exists("/proc/%d/fd/%d" % (vmm, n)) and
                  os.path.samestat(os.stat("/proc/%d/fd/%d" % (vmm, n)), os.stat(fixed)))
    flags = int(open("/proc/%d/fdinfo/%d" % (vmm, number), encoding="ascii").read().split("flags:")[1].split()[0], 8)
    tap.equal(flags & os.O_ACCMODE, os.O_RDONLY, "access mode of the read-only image's descriptor")
    for task in os.listdir("/proc/%d/task" % vmm):
        found = harness.status(vmm, task)
        tap.equal(found["Seccomp"].strip(), "2", "seccomp of thread %s" % found["Name"].strip())
        tap.equal([int(found[name], 16) for name in harness.CAP_SETS], [0] * 5,
                  "capabilities of thread " + found["Name"].strip())
    started = time.monotonic()
    host.ok("stop", "tux", timeout=60)
    tap.true(time.monotonic() - started < 9, "it powered off by ACPI, before the grace of 10 s was over")
    tap.wait_for(lambda: not harness.alive(vmm), "the VMM is gone")
    os.unlink(fixed)
    host.settle(before)


@case
def D32_image_metadata_means_nothing(host):
    """A qcow2 that names /etc/shadow as its backing file is, given as a disk, its own bytes and nothing else."""
    image = host.user_file(ALICE, "evil.img")
    subprocess.run(["qemu-img", "create", "-q", "-u", "-f", "qcow2", "-b", "/etc/shadow", "-F", "raw", image, "1M"],
                   check=True)
    with open(image, "r+b") as f:
        f.truncate(1 << 20)
    os.chown(image, ALICE, ALICE)
    magic = "echo MAGIC $(dd if=/dev/vda bs=4 count=1 2>/dev/null | hexdump -C | head -n1)"
    done = host.cli("run", linux(host, magic, "poweroff", disks=[{"path": image}], nics=[]), timeout=120)
    tap.equal(done.returncode, 0, "status of run: %s" % done.stderr)
    tap.true("51 46 49 fb" in done.stdout, "the guest sees the qcow2 header itself:\n" + done.stdout[-1000:])
    os.unlink(image)


@case
def payload_under_real_kvm(host):
    """As X, with no group, by the narrowest strategy this host and VMM allow: the payload's banner on the console."""
    try:
        os.close(os.open("/dev/kvm", os.O_RDWR))
    except OSError as why:
        raise tap.Skip("/dev/kvm: %s" % why.strerror) from None
    before = host.snapshot()
    kernel = host.user_file(ALICE, "payload", open(os.path.join(host.build, "tests/guest/kvm-payload.elf"), "rb").read())
    spec = host.spec(hypervisor="qemu", kernel=kernel, kernel_only=True, accel="kvm", machine="microvm", memory=32)
    host.ok("run", spec, "--detach", "--name", "kvm")
    tap.wait_for(lambda: "KVM-PAYLOAD-OK pvh" in host.ok("logs", "kvm", "--console"), "the banner is on the console", 20,
                 0.2)
    state = host.json("status", "kvm")
    tap.true(state["accel"].startswith("kvm"), "accelerator: " + state["accel"])
    lease = host.leases_of(ALICE)[0]
    wire = harness.wire
    how = wire.T.outcomes[lease["grants"][wire.T.grants.index("KVM")]]
    tap.true(how in ("BY_FD", "BY_NODE"), "the narrowest strategy: " + how)
    (vmm,) = harness.children(lease["init_pid"])
    tap.true(any("kvm" in link for link in harness.fds(vmm).values()), "it has KVM open")
    tap.equal(harness.status(vmm)["Groups"].split(), [], "its groups")
    process = host.popen("console", "kvm", stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    process.stdin.write(b"c")
    process.stdin.flush()
    seen = b""
    end = time.monotonic() + 10
    os.set_blocking(process.stdout.fileno(), False)
    while time.monotonic() < end and not _ticks(seen):
        seen += process.stdout.read() or b""
        time.sleep(0.05)
    process.kill()
    process.communicate()
    tap.true(_ticks(seen), "the tick counter of a running vCPU answers: %r" % seen)
    host.ok("kill", "kvm")
    os.unlink(kernel)
    host.settle(before)


def _ticks(text):
    tail = text.rsplit(b"KVM-PAYLOAD-OK pvh", 1)[-1].strip()
    return len(tail) >= 8 and all(c in b"0123456789ABCDEF" for c in tail[:8]) and int(tail[:8], 16) > 0


@case
def kvm_under_tcg_is_the_same_payload(host):
    kernel = host.user_file(ALICE, "payload", open(os.path.join(host.build, "tests/guest/kvm-payload.elf"), "rb").read())
    spec = host.spec(hypervisor="qemu", kernel=kernel, kernel_only=True, accel="tcg", machine="microvm", memory=32)
    host.ok("run", spec, "--detach", "--name", "tcg")
    tap.wait_for(lambda: "KVM-PAYLOAD-OK pvh" in host.ok("logs", "tcg", "--console"), "the banner is on the console", 20,
                 0.2)
    lease = host.leases_of(ALICE)[0]
    (vmm,) = harness.children(lease["init_pid"])
    tap.true(not any("kvm" in link for link in harness.fds(vmm).values()), "no KVM descriptor when TCG was asked for")
    host.ok("kill", "tcg")


harness.main(prepare=prepare)
