# SPDX-License-Identifier: Apache-2.0
# Runs: tests (a child with the ids of somebody else). What another process of this host may do to a sandbox.
import ctypes
import errno
import json
import os
import signal

LIBC = ctypes.CDLL(None, use_errno=True)
SYS = {"ptrace": 101, "process_vm_readv": 310, "pidfd_send_signal": 424, "pidfd_open": 434, "pidfd_getfd": 438, "setns": 308,
       "prlimit64": 302, "process_madvise": 440, "kcmp": 312, "open_tree": 428, "unshare": 272, "sched_setaffinity": 203,
       "migrate_pages": 256, "clone3": 435}
CLONE_NEWUSER, CLONE_NEWNS, CLONE_NEWPID, CLONE_NEWNET = 0x10000000, 0x00020000, 0x20000000, 0x40000000
PTRACE_ATTACH, PTRACE_SEIZE = 16, 0x4206
PIDFD_GET_USER_NAMESPACE = 0xFF09


def call(name, *args):
    """A raw system call; "OK" or the errno's name. Descriptors it makes die with the probe."""
    done = LIBC.syscall(ctypes.c_long(SYS[name]), *[ctypes.c_void_p(a) if isinstance(a, int) else a for a in args])
    return "OK" if done >= 0 else errno.errorcode[ctypes.get_errno()]


def attempt(function, *args):
    try:
        function(*args)
        return "OK"
    except OSError as why:
        return errno.errorcode.get(why.errno, str(why.errno))


def as_uid(uid, function, *args, groups=()):
    """Run function in a child that is this user for good, and return what it returns (through JSON)."""
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        result = None
        try:
            os.close(read)
            os.setgroups(list(groups))
            os.setresgid(uid, uid, uid)
            os.setresuid(uid, uid, uid)
            LIBC.prctl(4, 1, 0, 0, 0)  # dumpable, as a program of the user's own is: else its own /proc files are root's
            result = function(*args)
        except BaseException as why:
            result = {"probe failed": repr(why)}
        finally:
            os.write(write, json.dumps(result).encode())
            os._exit(0)
    os.close(write)
    text = b""
    while True:
        data = os.read(read, 65536)
        if not data:
            break
        text += data
    os.close(read)
    os.waitpid(pid, 0)
    return json.loads(text)


def enter(pid, pidfd=-1):
    """Every way into a process or its namespaces, and every way to disturb it. All of it must be refused."""
    found = {}
    for name in ("user", "mnt", "pid", "net", "ipc", "uts", "cgroup", "time"):
        found["open ns/" + name] = attempt(os.open, "/proc/%d/ns/%s" % (pid, name), os.O_RDONLY)
        found["readlink ns/" + name] = attempt(os.readlink, "/proc/%d/ns/%s" % (pid, name))
    for name in ("root", "cwd", "exe"):
        found["readlink " + name] = attempt(os.readlink, "/proc/%d/%s" % (pid, name))
        found["open " + name] = attempt(os.open, "/proc/%d/%s" % (pid, name), os.O_PATH)
    for name in ("mem", "environ", "maps", "smaps", "auxv", "io", "stack", "syscall", "pagemap", "fd", "fdinfo",
                 "map_files"):
        found["open " + name] = attempt(os.open, "/proc/%d/%s" % (pid, name), os.O_RDONLY)
    for name in ("mem", "oom_score_adj", "uid_map", "gid_map", "setgroups", "attr/exec", "timerslack_ns", "coredump_filter",
                 "clear_refs"):
        found["write " + name] = attempt(_write, "/proc/%d/%s" % (pid, name))
    found["ptrace attach"] = call("ptrace", PTRACE_ATTACH, pid, 0, 0)
    found["ptrace seize"] = call("ptrace", PTRACE_SEIZE, pid, 0, 0)
    for signum in (0, signal.SIGTERM, signal.SIGKILL, signal.SIGSTOP, signal.SIGCONT):
        found["kill %d" % signum] = attempt(os.kill, pid, signum)
    buffer = ctypes.create_string_buffer(64)
    vector = (ctypes.c_size_t * 2)(ctypes.addressof(buffer), 64)
    found["process_vm_readv"] = call("process_vm_readv", pid, vector, 1, vector, 1, 0)
    limit = (ctypes.c_uint64 * 2)(1, 1)
    found["prlimit"] = call("prlimit64", pid, 7, limit, 0)
    mask = ctypes.c_uint64(1)
    found["sched_setaffinity"] = call("sched_setaffinity", pid, 8, ctypes.byref(mask))
    found["setpriority"] = attempt(os.setpriority, os.PRIO_PROCESS, pid, 19)
    found["kcmp"] = call("kcmp", pid, os.getpid(), 0, 0, 0)
    found["migrate_pages"] = call("migrate_pages", pid, 8, ctypes.byref(mask), ctypes.byref(mask))
    own = os.pidfd_open(pid)
    for what, fd in (("own pidfd", own), ("given pidfd", pidfd)):
        if fd < 0:
            continue
        found["setns user by " + what] = call("setns", fd, CLONE_NEWUSER)
        found["setns all by " + what] = call("setns", fd, CLONE_NEWUSER | CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWNET)
        found["setns mnt by " + what] = call("setns", fd, CLONE_NEWNS)
        found["getfd 0 by " + what] = call("pidfd_getfd", fd, 0, 0)
        found["getfd 3 by " + what] = call("pidfd_getfd", fd, 3, 0)
        found["signal by " + what] = call("pidfd_send_signal", fd, signal.SIGKILL, 0, 0)
        found["get user namespace by " + what] = _ioctl(fd, PIDFD_GET_USER_NAMESPACE)
    return found


def _write(path):
    fd = os.open(path, os.O_WRONLY)
    os.write(fd, b"0")


def _ioctl(fd, request):
    done = LIBC.ioctl(fd, ctypes.c_ulong(request), 0)
    return "OK" if done >= 0 else errno.errorcode[ctypes.get_errno()]


def landlock_abi():
    """Version of this kernel's Landlock, 0 without one. From 6 on it keeps signals inside."""
    return max(0, LIBC.syscall(ctypes.c_long(444), None, ctypes.c_size_t(0), 1))


def succeeded(results):
    return sorted(name for name, result in results.items() if result == "OK")
