# SPDX-License-Identifier: Apache-2.0
# Runs: tests (root). One fresh machine, one job: what goes in, what comes out, and what it said.
import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tarfile
import tempfile
import threading
import time

import cache
import rules.policies as policies
from cache import ROOT, Trouble, run, say

NO_VERDICT = 125
CONSOLE_LINES = 40
JOB_BEGINS = "vmtest: the job begins"  # guest/job writes it among the kernel's messages
RESULT_MIB = 256  # sparse: what the job may leave in /run/out
# The part of the source tree that tests read; it makes /run/job look like a source tree of its own.
SOURCES = ("tests", "include", "common", "broker", "policy", "tools", "docs", "packaging")
HOST_MODULES = ["bridge", "veth", "kvm_amd"]
VHOST_MODULES = ["vhost_net", "vhost_vsock"]
FAKES = ("tests/fakes/hostile-vmm", "tests/fakes/first-instruction", "tests/guest/kvm-payload")
UNIT = "tests/unit/daemon/test_broker_label"  # for suite/unit.py
FAULTY = {"broker/start/postern-start-fault": "usr/sbin", "broker/spawner/postern-spawner-fault": "usr/libexec/postern",
          "broker/init/postern-init-fault": "usr/libexec/postern"}


def stage(build, target):
    """Install a build below target, with what tests need beside it. Returns the paths that must get their labels."""
    build = os.path.abspath(build)
    try:
        options = json.loads(run("meson", "introspect", "--buildoptions", build))
    except Trouble:
        raise Trouble("%s is no meson build directory" % build) from None
    prefix = next(option["value"] for option in options if option["name"] == "prefix")
    if prefix != "/usr":
        raise Trouble("%s is configured for %s, the machine has Postern at /usr: meson configure %s --prefix=/usr "
                      "--sysconfdir=/etc && ninja -C %s" % (build, prefix, build, build))
    run("meson", "install", "-C", build, "--no-rebuild", "--quiet", "--destdir", target)
    extra = [(name, "usr/libexec/postern-test") for name in FAKES] + list(FAULTY.items())
    for name, where in extra:
        source = os.path.join(build, name)
        if os.path.exists(source):
            os.makedirs(os.path.join(target, where), exist_ok=True)
            shutil.copy(source, os.path.join(target, where))
    policy = os.path.join(ROOT, "policy/default.json")
    os.makedirs(os.path.join(target, "etc/postern"), exist_ok=True)
    if os.path.exists(policy):
        shutil.copy(policy, os.path.join(target, "etc/postern/policy.json"))
    return [os.path.join(top, name)[len(target):] for top, dirs, files in os.walk(target) for name in files + dirs
            if "postern" in os.path.join(top, name)[len(target):]]


def no_litter(info):
    info.uid = info.gid = 0
    info.uname = info.gname = "root"
    return None if "__pycache__" in info.name or info.name.endswith(".pyc") else info


def asked(options):
    """The machine in words, for those inside who must know what to expect: tests/vm/suite/asked.py."""
    return {"kernel": options.kernel, "selinux": ("permissive" if options.permissive else "enforcing") if options.selinux else "off",
            "landlock": options.landlock, "vhost": "on" if options.vhost else "off", "tun": "on" if options.tun else "off",
            "userns": options.userns, "cgroup": options.cgroup, "systemd": "on" if options.systemd else "off"}


def pack(path, options, command):
    """The job's disk: a bare tar, since every kernel has a disk and no label is lost to a foreign file system."""
    with tempfile.TemporaryDirectory(prefix="postern-vm.") as work, tarfile.open(path, "w", format=tarfile.GNU_FORMAT) as tar:
        root = os.path.join(work, "root")
        os.makedirs(os.path.join(root, "usr/lib/vmtest"))
        os.chmod(root, 0o755)
        labels = stage(options.build, root) if options.build else []
        with open(os.path.join(root, "usr/lib/vmtest/installed"), "w", encoding="utf-8") as f:
            f.write("".join(name + "\n" for name in labels))
        tar.add(root, "root", filter=no_litter)
        job = os.path.join(work, "job")
        os.mkdir(job, 0o755)
        with open(os.path.join(job, ".command"), "w", encoding="utf-8") as f:
            f.write(command + "\n")
        with open(os.path.join(job, "asked.json"), "w", encoding="utf-8") as f:
            json.dump(asked(options), f)
        tar.add(job, "job", filter=no_litter)
        for name in SOURCES:
            tar.add(os.path.join(ROOT, name), "job/" + name, filter=no_litter)
        given = list(options.given)
        if options.guest:
            vsock = os.path.join(options.build or "", "tests/guest/vsock")
            more = ("--with", vsock) if os.path.exists(vsock) else ()
            path = run(os.path.join(ROOT, "tools/guest"), "--cache", os.path.join(cache.CACHE, "guest"), *more)
            given.append(path.strip() + ":guest")
        unit = os.path.join(options.build or "", UNIT)
        if options.build and os.path.exists(unit):  # with the library that the machine does not have
            library = re.search(r"libcmocka\S* => (\S+)", run("ldd", unit)).group(1)
            given += ["%s:unit/%s" % (path, os.path.basename(path)) for path in (unit, library)]
        if options.rules:
            given.append(policies.directory(options.rules) + ":policies")
        for item in given:
            source, _, name = item.partition(":")
            if not os.path.exists(source):
                raise Trouble("--with %s: there is no such file" % source)
            tar.add(os.path.realpath(source), "job/" + (name or os.path.basename(os.path.normpath(source))), filter=no_litter)


def kernel_words(options):
    """The kernel's command line: what the variants are made of."""
    # no_timer_check: Linux counts ticks to see whether the timer works, and on a busy host QEMU brings too few of them.
    words = ["console=ttyS0", "panic=-1", "quiet", "no_timer_check", "log_buf_len=4M", "vmtest.cgroup=" + options.cgroup]
    words.append("vmtest.init=" + ("/sbin/init" if options.systemd else "/usr/lib/vmtest/load"))
    modules, never = [], []
    (modules if options.tun else never).append("tun")
    modules += HOST_MODULES
    (modules if options.vhost else never).extend(VHOST_MODULES)
    words.append("vmtest.modules=" + ",".join(modules))
    if never:
        words.append("module_blacklist=" + ",".join(never))
    lsm = ["lockdown", "capability", "yama"]
    if options.landlock == "off":  # the list says all; "security=" would not be read beside it
        words.append("lsm=" + ",".join(lsm + ["selinux" if options.selinux else "apparmor", "bpf"]))
    elif options.selinux:
        words.append("security=selinux")
    if options.selinux:
        words.append("enforcing=%d" % (not options.permissive))
    if options.userns == "off":
        words.append("vmtest.userns=off")
    if options.systemd:
        words += {"v2": [], "hybrid": ["systemd.unified_cgroup_hierarchy=0"],
                  "v1": ["systemd.unified_cgroup_hierarchy=0", "systemd.legacy_systemd_cgroup_controller=1"]}[options.cgroup]
    return " ".join(words + options.append)


def qemu(options, out, job, result):
    kernel = cache.kernel(options.kernel)
    argv = ["setpriv", "--pdeathsig", "KILL",  # whoever kills us kills the machine
            "qemu-system-x86_64", "-accel", "tcg", "-M", "q35", "-nodefaults", "-nographic", "-no-reboot", "-monitor", "none",
            "-cpu", "max,-cx16",  # QEMU 7.2 runs cmpxchg16b wrongly: Linux 6.12 dies of it at random
            "-smp", str(options.cpus), "-m", str(options.memory),
            "-serial", "file:" + os.path.join(out, "console.log"), "-serial", "stdio",
            "-kernel", os.path.join(kernel, "vmlinuz"), "-initrd", os.path.join(kernel, "initrd.gz"),
            "-append", kernel_words(options)]
    for path, more in ((cache.image(), "snapshot=on,cache=unsafe"), (job, "readonly=on"), (result, "cache=unsafe"),
                       (os.path.join(kernel, "modules.img"), "readonly=on")):
        argv += ["-drive", "format=raw,if=virtio,file=%s,%s" % (path, more)]
    return argv


def boot(argv, timeout, output):
    """Run QEMU until it ends or the time is up. Copies the job's output to output(bytes). Returns the verdict or None, and
    the seconds of a processor that it took."""
    machine = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)
    # Not machine.kill(), which may take the status away from wait4.
    timer = threading.Timer(timeout, os.kill, (machine.pid, signal.SIGKILL))
    timer.start()
    tail = b""
    try:
        while True:
            data = machine.stdout.read1(65536)
            if not data:
                break
            # The verdict is the last line: nothing that could be its beginning is passed on yet.
            tail += data
            keep = tail.rfind(b"\nvmtest-verdict")
            keep = keep if keep >= 0 else max(0, len(tail) - 64)
            output(tail[:keep])
            tail = tail[keep:]
    finally:
        timer.cancel()
        timer.join()
        os.kill(machine.pid, signal.SIGKILL)
        _, status, used = os.wait4(machine.pid, 0)
        machine.returncode = os.waitstatus_to_exitcode(status)
    verdict = re.fullmatch(rb"(.*)\nvmtest-verdict (\d+)\n", tail, re.S)
    output(verdict.group(1) if verdict else tail)
    if not verdict:
        say("no verdict; QEMU ended with status %d" % machine.returncode)  # below 0: a signal
    return int(verdict.group(2)) if verdict else None, used.ru_utime + used.ru_stime


def collect(out, result):
    """What the machine left on its third disk, and the denials since the job began."""
    with contextlib.suppress(tarfile.ReadError):
        with tarfile.open(result, "r:") as tar:  # "r" would look for compression in all its zeros
            tar.extractall(out)
    source = os.path.join(out, "dmesg.txt")
    if not os.path.exists(source):
        source = os.path.join(out, "console.log")
    if os.path.exists(source):
        with open(source, encoding="utf-8", errors="replace") as f:
            lines = f.read().rpartition(JOB_BEGINS)[2].splitlines(True)
        with open(os.path.join(out, "avc.txt"), "w", encoding="utf-8") as f:
            f.writelines(line for line in lines if "avc:" in line or "type=1401" in line)  # 1401: SELINUX_ERR


def run_job(options, command, output):
    """One machine. Returns the job's exit status, or NO_VERDICT, and the processor's seconds. output(bytes) gets what the
    job says, while it says it."""
    out = os.path.abspath(options.out) if options.out else None
    with contextlib.ExitStack() as stack:
        work = stack.enter_context(tempfile.TemporaryDirectory(prefix="postern-vm."))
        if not out:
            out = os.path.join(work, "out")
        shutil.rmtree(out, ignore_errors=True)
        os.makedirs(out)
        job, result = os.path.join(work, "job.tar"), os.path.join(work, "result.tar")
        pack(job, options, command)
        with open(result, "wb") as f:
            f.truncate(RESULT_MIB << 20)
        argv = qemu(options, out, job, result)
        log = stack.enter_context(open(os.path.join(out, "job.log"), "wb"))

        def both(data):
            log.write(data)
            output(data)

        began = time.monotonic()
        status, used = boot(argv, options.timeout, both)
        log.flush()
        collect(out, result)
        if status is None:
            seconds = time.monotonic() - began
            why = "the time limit of %d s" % options.timeout if seconds >= options.timeout else "its end after %.0f s" % seconds
            say("the machine told no result until %s; the end of its console:" % why)
            with contextlib.suppress(FileNotFoundError):
                with open(os.path.join(out, "console.log"), encoding="utf-8", errors="replace") as f:
                    sys.stderr.writelines("vm: | " + line.rstrip() + "\n" for line in f.readlines()[-CONSOLE_LINES:])
            return NO_VERDICT, used
        return status, used
