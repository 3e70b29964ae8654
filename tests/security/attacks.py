# SPDX-License-Identifier: Apache-2.0
# Runs: tests. What the hostile VMM is told to try, as data, and the loop that survives its deaths.
import json
import os
import re
import signal

import tap

# -- words that must never succeed, by what they are after. Numbers behind "raw" are those of x86-64.
NAMESPACES = ["unshare:%#x" % f for f in (0x10000000, 0x20000, 0x20000000, 0x40000000, 0x8000000, 0x4000000, 0x2000000,
                                          0x80)]
NAMESPACES += ["clone:%#x" % f for f in (0x10000000, 0x20000, 0x20000000, 0x40000000, 0x10000000 | 0x40000000)]
NAMESPACES += ["clone3:0x10000000", "clone3:0", "setns:1:0x10000000", "setns:1:0x20000"]

MOUNTS = ["mount:tmpfs:/run", "mount:proc:/proc", "mount:sysfs:/run", "bind:/usr:/run", "remount:/", "remount:/usr",
          "remount:/run",
          "umount:/run", "umount:/usr", "umount:/dev", "pivot:/run", "chroot:/run", "fsopen:tmpfs", "fsopen:proc",
          "opentree:/",
          "opentree:/usr", "handle:/usr", "handle:/", "raw:304:-100:buf:0", "raw:428:-100:buf:1", "raw:429:3:buf:4:buf:0",
          "raw:442:-100:buf:0:buf:32", "raw:457:buf:buf:512:0", "raw:458:buf:buf:512:0", "raw:179:0:buf:0:buf"]

INIT = ["ptrace:16:1", "ptrace:0x4206:1", "ptrace:0", "kill:1:9", "kill:1:15", "kill:-1:9", "tgkill:1:1:9", "tgkill:1:1:6",
        "readv:1",
        "getfd:1:200", "getfd:1:201", "getfd:1:0", "open:/proc/1/mem:rw", "open:/proc/1/environ:r",
        "open:/proc/1/root/etc/shadow:r",
        "open:/proc/1/fd/200:rw", "open:/proc/1/ns/user:r", "open:/proc/1/oom_score_adj:w", "raw:440:3:buf:1:4:0",
        "raw:312:1:2:0:0:0", "raw:297:1:1:9:buf", "raw:424:3:9:0:0", "raw:302:1:7:buf:0"]

SOCKETS = ["socket:%d:%d:0" % (family, kind) for family in range(2, 46) for kind in (1, 2, 3)]
SOCKETS += ["connect:/run/postern/broker.sock", "connect:@postern", "raw:53:2:1:0:buf", "raw:49:3:buf:110",
            "raw:42:1:buf:110"]

FILES = ["open:%s:%s" % (path, mode) for path, mode in (
    ("/etc/shadow", "r"), ("/etc/passwd", "r"), ("/root", "r"), ("/home", "r"), ("/var", "r"), ("/tmp", "r"),
    ("/tmp/x", "c"),
    ("/boot", "r"), ("/srv", "r"), ("/sys", "r"), ("/sys/kernel/security", "r"), ("/proc/kcore", "r"),
    ("/proc/sysrq-trigger", "w"),
    ("/proc/sys/kernel/core_pattern", "rw"), ("/proc/self/mem", "rw"), ("/proc/self/fd/0", "r"), ("/proc/self/exe", "r"),
    ("/proc/self/attr/exec", "w"), ("/proc/self/uid_map", "w"), ("/dev/mem", "r"), ("/dev/kmsg", "r"),
        ("/dev/net/tun", "rw"), ("/dev/vda", "r"), ("/dev/sda", "r"), ("/dev/fuse", "rw"), ("/dev/tty", "rw"),
        ("/dev/ptmx", "rw"),
    ("/dev/loop-control", "rw"), ("/dev/vhost-net", "rw"), ("/dev/vhost-vsock", "rw"), ("/dev/shm", "r"),
    ("/dev/mqueue", "r"),
    ("/x", "c"), ("/usr/x", "c"), ("/usr/bin/env", "w"), ("/dev/x", "c"), ("/proc/x", "c"), ("/..", "c"), ("/run/../x", "c"),
    ("/run/postern", "r"), ("/run/postern/broker.sock", "p"), ("/sys/fs/cgroup", "r"))]
FILES += ["kvm:/dev/kvm", "mknod:/run/n:0020000:0x103", "mknod:/run/b:0060000:0xfe00", "mknod:/run/p:0010000:0",
          "chmod:/run:06777", "chmod:/:06777",
          "chown:/run:0:0", "setxattr:/run:user.x", "setxattr:/run:security.capability",
          "setxattr:/run:system.posix_acl_access",
          "chroot:/", "fchmod:0:0777", "fchmod:1:0777", "symlink:/etc/shadow:/x", "link:/usr/bin/env:/run/l",
          "unlink:/dev/null",
          "unlink:/usr/bin/env", "rename:/dev:/x", "mkdir:/x"]

IDENTITY = ["raw:105:0", "raw:106:0", "raw:113:0:0", "raw:114:0:0", "raw:117:0:0:0", "raw:119:0:0:0", "raw:122:0",
            "raw:123:0",
            "raw:116:0:0", "raw:126:buf:buf", "raw:157:4:0", "raw:157:4:1", "raw:157:8:1", "raw:157:28:0", "raw:157:24:21",
            "raw:157:47:2:21", "raw:157:35:1:0", "raw:157:36:1", "raw:157:0x59616d61:-1", "raw:157:22:0", "raw:170:buf:4",
            "raw:171:buf:4", "raw:135:0x0400000", "raw:317:0:0:0", "raw:444:buf:16:0", "raw:460:100:buf:32:0"]
# A raised limit, the machine's clock, real-time priority.
LIMITS = ["rlimit:%d:1000000" % limit for limit in (4, 6, 8, 13, 14)] + ["rlimit:7:65536", "rlimit:4:-1", "raw:144:0:1:buf",
          "raw:141:0:0:-20", "raw:251:1:0:0x2000"]

KERNEL = ["raw:321:0:buf:128", "raw:298:buf:0:-1:-1:0", "raw:323:0", "raw:425:8:buf", "raw:426:0:0:0:0:0", "raw:427:0:0:0:0",
          "raw:248:buf:buf:0:0:-3", "raw:249:buf:buf:0:0", "raw:250:0:-3:1", "raw:250:1:0", "raw:103:3:buf:100", "raw:163:0",
          "raw:154:0:buf:16", "raw:240:buf:0x42:0600:0", "raw:68:0:0x3ff", "raw:29:0:4096:0x3ff", "raw:64:0:1:0x3ff",
          "raw:300:0:0", "raw:278:1:buf:1:0", "raw:279:1:0:0:0:0:0", "raw:447:0", "raw:335", "raw:453:0:4096:0",
          "raw:212:0:buf:16"]
# These kill: no program does them by accident.
DEADLY = ["raw:246:0:0:0:0", "raw:320:-1:-1:0:0:0", "raw:175:buf:16:buf", "raw:313:0:buf:0", "raw:176:buf:0",
          "raw:169:0:0:0:0",
          "raw:167:buf:0", "raw:168:buf", "raw:172:3", "raw:173:0:1:1", "raw:164:buf:0", "raw:227:0:buf", "raw:305:0:buf",
          "raw:159:buf", "raw:153"]
OTHER_GATES = ["int80:20", "int80:102", "int80:11", "x32:39", "x32:59", "x32:101"]
PROGRAMS = ["fork", "execrun:/run/tiny", "execmemfd"]


def run(host, words, hypervisor="hostile", **more):
    """{word: result} of one or more sandboxes. A result is OK, an errno, a signal, or "ended N"."""
    results, left = {}, list(words)
    while left:
        with host.launch(hypervisor, left, **more) as launch:
            lines = [json.loads(line) for line in launch.output().splitlines() if line.startswith("{")]
            status = launch.exited()
        tried = None
        for line in lines:
            tried = line.get("try", tried)
            if "did" in line:
                results[line["did"]] = line["r"]
                tried = None
        if {"end": 1} in lines:
            return results
        if tried is None:
            raise AssertionError("the hostile VMM ended with status %#x after %d words" % (status, len(results)))
        killed = os.WIFSIGNALED(status)
        results[tried] = signal.Signals(status & 0x7F).name if killed else "ended %d" % os.WEXITSTATUS(status)
        left = left[left.index(tried) + 1:]
    return results


def refused(results, what, permitted=()):
    """Exactly the permitted words succeeded."""
    good = {word: result for word, result in results.items() if result == "OK" or result.startswith("ended")}
    tap.equal(good, dict(permitted), "what succeeded of: " + what)


def syscall_numbers():
    """{name: number} of this architecture, from the kernel's header."""
    text = open("/usr/include/x86_64-linux-gnu/asm/unistd_64.h", encoding="ascii").read()
    return {name: int(number) for name, number in re.findall(r"#define __NR_(\w+) (\d+)", text)}


def listed(path):
    """Names and numbers that a .syscalls file allows at all, with or without conditions, and those it kills for."""
    allowed, killed = set(), set()
    numbers = syscall_numbers()
    for line in open(path, encoding="utf-8"):
        words = line.split("#")[0].split()
        if len(words) < 2 or words[0] in ("default", "newest"):
            continue
        name, _, number = words[1].split("@")[0].partition("=")
        number = int(number) if number else numbers.get(name)
        if words[0] in ("allow", "zero"):
            allowed.add(number)
        elif words[0] == "kill":
            killed.add(number)
    return allowed, killed
