# SPDX-License-Identifier: Apache-2.0
# Runs: tests (root). postern-start as an init system starts it: a passed socket, readiness, a daemon of its own.
import contextlib
import os
import shutil
import socket
import subprocess
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import harness  # noqa: E402
import tap  # noqa: E402
import wire  # noqa: E402
from harness import ALICE  # noqa: E402
from tap import case  # noqa: E402

ENVIRONMENT = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", **harness.SANITIZERS}


def command(host, *extra):
    return [host.start_program, "--runtime", host.runtime, "--policy", host.policy_path, "--stop-sandboxes-on-exit", *extra]


@contextlib.contextmanager
def passed(host, name, listening=True, kind=socket.SOCK_SEQPACKET, count=1):
    """postern-start with descriptor 3 as systemd passes it, and a notify socket. Yields (process, notify socket, path)."""
    path = os.path.join(host.work, name)
    notify_path = os.path.join(host.work, name + ".notify")
    with socket.socket(socket.AF_UNIX, kind) as listener, socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notify:
        listener.bind(path)
        os.chmod(path, 0o666)
        if listening and kind != socket.SOCK_DGRAM:
            listener.listen(16)
        notify.bind(notify_path)
        os.chmod(notify_path, 0o666)
        notify.settimeout(20)
        # LISTEN_PID must be the pid that is executed, which only a shell can know beforehand.
        argv = ["/bin/sh", "-c", 'fd=$1; shift; exec 3<&"$fd"; export LISTEN_PID=$$; exec "$@"', "sh", str(listener.fileno()),
                *command(host)]
        env = {"LISTEN_FDS": str(count), "NOTIFY_SOCKET": notify_path, **ENVIRONMENT}
        with open(host.log_path, "ab") as log:
            process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=env, cwd="/",
                                       pass_fds=(listener.fileno(),), start_new_session=True)
        try:
            yield process, notify, path
        finally:
            if process.poll() is None:
                process.terminate()
            process.wait(20)
            for name_ in (path, notify_path):
                os.unlink(name_)


@case
def passed_socket_serves_and_readiness_is_told(host):
    with passed(host, "activated") as (process, notify, path):
        words = notify.recv(4096).decode().splitlines()
        tap.true("READY=1" in words, "READY=1 in %r" % words)
        with wire.Session(path, ALICE):
            pass  # HELLO was answered on the socket that was passed
        tap.true(not os.path.exists(host.socket), "no second socket was made")
        env = {"POSTERN_SOCKET": path}
        host.ok("run", "--hypervisor", "mock", "--memory", "16", "--name", "activated", "--detach", env=env)
        host.ok("kill", "activated", env=env)
        process.terminate()
        status = process.wait(20)
        # The leak checker of a sanitizer build needs ptrace at the end, which the broker's filter kills.
        if b"libasan" not in open(host.broker_program, "rb").read():
            tap.equal(status, 0, "exit status of an orderly stop")
        tap.true("STOPPING=1" in notify.recv(4096).decode(), "STOPPING=1")


@case
def wrong_passed_sockets_are_refused(host):
    for name, how in (("stream", {"kind": socket.SOCK_STREAM}), ("datagram", {"kind": socket.SOCK_DGRAM}),
                      ("deaf", {"listening": False}), ("two", {"count": 2})):
        with passed(host, name, **how) as (process, _, _path):
            tap.true(process.wait(20) != 0, name + " was accepted")
            tap.true("socket activation" in host.log_tail(), name + ": the log says why")


@case
def daemon_returns_when_clients_can_connect(host):
    log = os.path.join(host.work, "daemon.log")
    done = subprocess.run(command(host, "--daemon", "--log", log), env=ENVIRONMENT, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, text=True, timeout=30, cwd="/")
    try:
        tap.equal(done.returncode, 0, "exit status: " + done.stdout)
        with wire.Session(host.socket, ALICE):
            pass
        again = subprocess.run(command(host), env=ENVIRONMENT, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                               text=True, timeout=30, cwd="/")
        tap.true(again.returncode != 0 and "already running" in again.stdout, "a second start: " + again.stdout)
    finally:
        broker = host.broker
        os.kill(broker, 15)
        tap.wait_for(lambda: not harness.alive(broker), "the broker ends", 20)
    tap.true("stopping" in open(log, encoding="utf-8").read(), "the log went where it was asked to")


def half(host, which):
    return [host.start_program, "--runtime", host.runtime, "--policy", host.policy_path, "--only", which]


def start_half(host, which):
    """To its end, as a service manager would. Returns (status, what it said)."""
    with open(os.path.join(host.work, "half.log"), "w+b") as log:
        done = subprocess.run(half(host, which), env=ENVIRONMENT, stdin=subprocess.DEVNULL, stdout=log, stderr=log, timeout=30, cwd="/")
        log.seek(0)
        return done.returncode, log.read().decode()


def cleanup(host):
    done = subprocess.run([*half(host, "")[:-2], "--cleanup"], env=ENVIRONMENT, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, text=True, timeout=30, cwd="/")
    return done.returncode, done.stdout


def told_spawner(host):
    """The process of spawner.pid, when it has become the spawner."""
    with open(os.path.join(host.runtime, "spawner.pid"), encoding="ascii") as f:
        pid = int(f.read())
    tap.wait_for(lambda: os.path.basename(harness.exe(pid)).startswith("postern-spawner"), "the spawner runs")
    return pid


@case
def halves_are_started_by_themselves(host):
    status, said = start_half(host, "broker")
    tap.true(status != 0 and "no spawner" in said, "a broker without a spawner: %d %s" % (status, said))
    status, said = start_half(host, "spawner")
    tap.equal(status, 0, "the spawner alone: " + said)
    spawner = told_spawner(host)
    with open(host.log_path, "ab") as log:
        host.starter = subprocess.Popen(half(host, "broker"), env=ENVIRONMENT, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                                        cwd="/", start_new_session=True)
    try:
        tap.wait_for(host._ready, "the broker answers", 20)
        broker = host.broker
        host.ok("run", "--hypervisor", "mock", "--memory", "16", "--name", "halves", "--detach")
        status, said = cleanup(host)
        tap.true(status == 1 and "postern-broker lives" in said and "then postern-spawner" in said, "cleanup beside both: " + said)
        for which in ("broker", "spawner"):
            status, said = start_half(host, which)
            tap.true(status != 0 and "already running" in said, "a second %s: %d %s" % (which, status, said))
        harness.kill_wait(spawner)
        status, said = start_half(host, "spawner")
        tap.equal(status, 0, "another spawner: " + said)
        tap.true(told_spawner(host) != spawner and host.broker == broker, "the spawner is another, the broker is not")
        tap.wait_for(lambda: host.cli("kill", "halves").returncode == 0, "the sandbox can be ended", 10)
    finally:
        host.starter.terminate()  # the broker, which leaves the spawner behind
        host.starter.wait(20)
        host.starter = None
        status, said = cleanup(host)
        tap.true(status == 1 and "postern-spawner lives" in said, "cleanup beside the spawner: " + said)
        os.kill(host.spawner, 15)
        tap.wait_for(lambda: not host.own_processes(), "both end", 20)
        tap.equal(cleanup(host), (0, ""), "cleanup after the end")


@case
def a_failing_start_is_told_at_once(host):
    os.makedirs(host.runtime, 0o755, exist_ok=True)
    path = os.path.join(host.runtime, "broker.sock")
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)  # the dead socket of an earlier case, which start would remove as its own
    open(path, "w", encoding="ascii").close()
    try:
        done = subprocess.run(command(host, "--daemon"), env=ENVIRONMENT, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, text=True, timeout=30, cwd="/")
        tap.true(done.returncode != 0 and "broker.sock" in done.stdout, "status %d: %s" % (done.returncode, done.stdout))
        tap.equal([harness.exe(p) for p in host.own_processes()], [], "processes left")
    finally:
        os.unlink(path)


@case
def a_broker_that_cannot_be_executed_ends_the_start(host):
    """The last step of all, when P and the spawner's process are there: nobody waits for ever, nobody is left, and --daemon
    does not say that all is well."""
    kept = host.broker_program + ".kept"
    os.rename(host.broker_program, kept)
    try:
        with open(host.broker_program, "w", encoding="ascii") as f:
            f.write("not a program")
        os.chmod(host.broker_program, 0o755)
        for words in ((), ("--daemon",)):
            done = subprocess.run(command(host, *words), env=ENVIRONMENT, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                  stderr=subprocess.STDOUT, text=True, timeout=30, cwd="/")
            tap.equal(done.returncode, 1, "status with %s: %s" % (words, done.stdout))
            tap.equal([harness.exe(p) for p in host.own_processes()], [], "processes left")
    finally:
        os.rename(kept, host.broker_program)


@case
def a_spawner_that_dies_at_once_is_told(host):
    libexec = os.path.join(host.work, "libexec")
    shutil.copytree(host.libexec, libexec)
    for name in os.listdir(libexec):
        if name.startswith("postern-spawner"):
            shutil.copy("/bin/false", os.path.join(libexec, name))
    done = subprocess.run(command(host, "--daemon", "--libexec", libexec), env=ENVIRONMENT, stdin=subprocess.DEVNULL,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=30, cwd="/")
    broker = host.broker
    if broker:
        os.kill(broker, 15)
        tap.wait_for(lambda: not harness.alive(broker), "the broker ends", 20)
    tap.true(done.returncode == 1 and "did not stay" in done.stdout, "status %d: %s" % (done.returncode, done.stdout))


def main():
    host = None

    def setup():
        nonlocal host
        host = harness.Host()
        return host

    tap.run(setup, lambda h: h.close())


main()
