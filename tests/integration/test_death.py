# SPDX-License-Identifier: Apache-2.0
# Runs: tests (root). SIGKILL of every process at rest: what is documented happens, and nothing is left.
import errno
import os
import shutil
import signal
import subprocess
import sys
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import harness  # noqa: E402
import tap  # noqa: E402
import wire  # noqa: E402
from harness import ALICE, kill_wait  # noqa: E402
from tap import case  # noqa: E402

NICS = [{"type": "tap", "network": "lan"}]


def started(host, name, **fields):
    """A mock with a tap under a real controller. Returns (lease, controller's pid)."""
    known = set(host.controllers())
    host.ok("run", host.spec(nics=NICS, **fields), "--detach", "--name", name)
    (controller,) = set(host.controllers()) - known
    leases = host.leases_of(ALICE)
    return leases[-1], controller


def vmm_of(lease):
    (pid,) = harness.children(lease["init_pid"])
    return pid


def gone(host, lease, before, **more):
    tap.wait_for(lambda: not harness.alive(lease["init_pid"]), "init is gone")
    host.settle(before, **more)


@case
def controller_dies(host):
    """Without `survive` the sandbox ends with its controller."""
    before = host.snapshot()
    lease, controller = started(host, "a")
    kill_wait(controller)
    gone(host, lease, before, ignore=("user files",))
    host.ok("ps")  # sweeps what the dead controller left in its user's directory
    host.settle(before)


@case
def controller_is_terminated_at_any_moment(host):
    """SIGTERM from its first instruction on: before the lease, while the VMM starts, as the guest begins to run."""
    before = host.snapshot()
    for i in range(24):
        run = host.popen("run", host.spec(nics=NICS, survive=i % 4 == 3), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        tap.wait_for(lambda: run.poll() is not None or host.controllers(), "a controller")
        time.sleep(i // 2 * 0.004)
        for pid in host.controllers():
            os.kill(pid, signal.SIGTERM)
        run.wait(20)
        tap.wait_for(lambda: not host.controllers(), "the controller has ended")
        host.ok("ps")  # sweeps what it left in its user's directory
        host.settle(before)


@case
def controller_dies_and_the_sandbox_survives(host):
    """With `survive` it lives, is listed, and can be ended."""
    before = host.snapshot()
    lease, controller = started(host, "b", survive=True)
    vmm = vmm_of(lease)
    kill_wait(controller)
    time.sleep(0.3)
    tap.true(harness.alive(lease["init_pid"]) and harness.alive(vmm), "init and VMM live")
    tap.equal([found["uuid"] for found in host.leases_of(ALICE)], [lease["uuid"]], "the broker lists it")
    tap.true("orphaned" in host.ok("ps"), "ps says so")
    done = host.cli("run", host.spec(), "--detach", "--name", "b")
    tap.equal(done.returncode, harness.EXIT["USAGE"], "its name is taken: " + done.stderr)
    done = host.cli("stop", "b")
    tap.equal(done.returncode, harness.EXIT["FAILED"], "nobody can stop it in order: " + done.stderr)
    tap.true(harness.alive(vmm), "stop did not kill it")
    host.ok("kill", "b")
    gone(host, lease, before)


@case
def a_broken_launch_does_not_survive(host):
    """A signal, or the controller's death, while a launch with `survive` goes on: nothing of it is left, at any moment."""
    before = host.snapshot()
    for step in range(12):
        process = host.popen("run", host.spec(survive=True), "--detach", "--name", "n", stdout=subprocess.PIPE,
                             stderr=subprocess.PIPE)
        time.sleep(0.005 * step)
        process.send_signal(signal.SIGTERM)
        out, error = process.communicate(timeout=30)
        if process.returncode == 0:  # it was quicker
            host.ok("kill", out.decode().strip())
        elif process.returncode > 0:
            tap.true(b"nothing of it is left" in error, "says so: %s" % error)
            tap.equal(host.leases_of(ALICE), [], "and it is so")
    launch = host.launch("hostile", ["hold"], flags=wire.T.constants["WIRE_SURVIVE"], keep=False)
    pid = launch.lease["init_pid"]
    launch.control.close()
    tap.wait_for(lambda: not harness.alive(pid), "held and unchecked, it ends with its controller")
    launch.close()
    host.settle(before, ignore=("user files",))


@case
def attach_takes_it_over(host):
    """Over the wire: the owner gets a new control end, then a hang-up ends it or not as before."""
    before = host.snapshot()
    survive = wire.T.constants["WIRE_SURVIVE"]
    launch = host.launch("hostile", ["hold"], flags=survive)
    pid = launch.lease["init_pid"]
    launch.control.close()
    time.sleep(0.2)
    tap.true(harness.alive(pid), "init waits")
    own, far = wire.socket.socketpair(wire.socket.AF_UNIX, wire.socket.SOCK_SEQPACKET)
    with own, far, host.session(ALICE) as session:
        lease, (pidfd,) = session.call("ATTACH", {"uuid": launch.uuid}, [far.fileno()])
        far.close()
        os.close(pidfd)
        tap.equal(lease["uuid"], launch.uuid, "the lease")
        name, _, _, _, fds = wire.recv(own)
        for fd in fds:
            os.close(fd)
        tap.equal((name, len(fds)), ("C_CHANNELS", 3), "new channels")
        wire.send_raw(own, wire.message("C_AUDIT"))
        tap.equal(wire.recv(own)[0], "C_FACTS", "facts after the attach")
        wire.send_raw(own, wire.message("C_STOP", {"grace_ms": 100}))
        tap.wait_for(lambda: not harness.alive(pid), "init is gone")
    launch.close()
    host.settle(before)


@case
def init_dies(host):
    before = host.snapshot()
    lease, controller = started(host, "c")
    vmm = vmm_of(lease)
    kill_wait(lease["init_pid"])
    tap.wait_for(lambda: not harness.alive(vmm), "the VMM is gone")
    tap.wait_for(lambda: not harness.alive(controller), "the controller ended")
    gone(host, lease, before)


@case
def vmm_dies(host):
    before = host.snapshot()
    lease, controller = started(host, "d")
    kill_wait(vmm_of(lease))
    tap.wait_for(lambda: not harness.alive(controller), "the controller ended")
    gone(host, lease, before)




def _serves(host):
    try:
        with host.launch("hostile", ["clock"]) as launch:
            return launch.exited() == 0
    except (wire.Refused, wire.Hangup, OSError):
        return False


def lives_and_stops(host, lease, controller, name):
    tap.true(harness.alive(lease["init_pid"]) and harness.alive(vmm_of(lease)), "init and VMM live")
    tap.true(harness.alive(controller), "the controller lives")
    found = [other for other in host.leases_of(ALICE) if other["uuid"] == lease["uuid"]]
    tap.equal(found, [lease], "the record is the same, byte for byte")
    host.ok("audit", name)
    host.ok("stop", name)
    tap.wait_for(lambda: not harness.alive(lease["init_pid"]), "init is gone")
    tap.wait_for(lambda: not host.sandbox_processes(), "no sandbox process is left")
    tap.wait_for(lambda: not host.leases_of(ALICE), "its lease is free")


def taps(host):
    return {name for name, link in host.switch_links().items() if name != "lo" and not name.startswith(("br", "up"))}


@case
def spawner_dies(host):
    """Sandboxes survive; another postern-start brings a new spawner, which knows them."""
    lease, controller = started(host, "e")
    broker, old = host.broker, host.spawner
    kill_wait(old)
    time.sleep(0.2)
    tap.equal(host.broker, broker, "the broker lives")
    with host.session(ALICE) as session:
        session.call("HOST")
        try:
            host.launch("hostile", session=session)
            raise AssertionError("a launch without a spawner")
        except wire.Refused as why:
            tap.equal(why.code, "SPAWNER_DOWN", "what a launch is told")
    join(host)
    tap.equal(host.broker, broker, "the broker is the same")
    tap.true(host.spawner != old, "the spawner is a new one")
    lives_and_stops(host, lease, controller, "e")
    tap.wait_for(lambda: not taps(host), "no tap is left")


def join(host):
    """postern-start for a missing spawner: the broker that lives is another process than the one it starts."""
    process = host.starter
    host.start(wait=False)
    tap.wait_for(lambda: _half(host), "both halves run", 20)
    tap.wait_for(lambda: _serves(host), "a launch works again", 20)
    host.joiners = getattr(host, "joiners", []) + [process]


def _half(host):
    try:
        return host.broker and host.spawner
    except AssertionError:
        return None


@case
def broker_dies(host):
    """Sandboxes survive; the next broker lists them."""
    lease, controller = started(host, "f")
    spawner, old = host.spawner, host.broker
    kill_wait(old)
    time.sleep(0.2)
    tap.equal(host.spawner, spawner, "the spawner lives")
    tap.true(harness.alive(lease["init_pid"]), "init lives")
    done = host.cli("run", host.spec(), "--detach")
    tap.equal(done.returncode, harness.EXIT["NO_BROKER"], "exit status without a broker")
    join(host)
    tap.equal(host.spawner, spawner, "the spawner is the same")
    lives_and_stops(host, lease, controller, "f")
    tap.wait_for(lambda: not taps(host), "no tap is left")


@case
def a_sandbox_ends_while_a_half_is_missing(host):
    """It ends while the spawner, then while the broker is dead: the next one cleans up behind it."""
    before = host.snapshot()
    ignore = ("daemons", "namespaces", "descriptors of the broker", "descriptors of the spawner", "mounts of the spawner")
    for half in ("spawner", "broker"):
        lease, _ = started(host, "g-" + half)
        kill_wait(getattr(host, half))
        kill_wait(lease["init_pid"])
        join(host)
        tap.wait_for(lambda: not host.leases_of(ALICE), "its lease is free after the %s's restart" % half)
        tap.wait_for(lambda: not taps(host), "no tap is left")
        host.settle(before, ignore=ignore)


@case
def both_die(host):
    """Nobody is left who knows: a fresh start ends what still runs, and serves."""
    lease, _ = started(host, "h", survive=True)
    spawner, broker = host.spawner, host.broker
    os.kill(broker, 9)
    kill_wait(spawner)
    tap.wait_for(lambda: not harness.alive(broker), "the broker is dead")
    host.start(wait=False)
    tap.wait_for(lambda: _half(host), "both halves run", 20)
    tap.wait_for(lambda: _serves(host), "a launch works again", 20)
    tap.wait_for(lambda: not harness.alive(lease["init_pid"]), "the old sandbox was ended")
    tap.wait_for(lambda: not host.leases_of(ALICE), "no lease is left")


@case
def restarts_do_not_grow(host):
    """Ten restarts of each half with a sandbox running: descriptors and processes stay as they were."""
    lease, controller = started(host, "i")
    sizes = []
    for i in range(10):
        kill_wait(getattr(host, "broker" if i % 2 else "spawner"))
        join(host)
        time.sleep(0.1)
        sizes.append((len(harness.fds(host.broker)), len(harness.fds(host.spawner))))
    tap.equal(sizes[-2:], sizes[2:4], "descriptors after restarts: %s" % sizes)
    lives_and_stops(host, lease, controller, "i")


def cpu_ticks(pid):
    with open("/proc/%d/stat" % pid, encoding="ascii") as f:
        return sum(int(word) for word in f.read().rpartition(")")[2].split()[11:13])


@case
def a_sandbox_without_a_plan_ends(host):
    """init waits for its plan only so long, and attaches do not heap up at the one that does not read."""
    before = host.snapshot()
    launch = host.launch(plan=False, flags=wire.T.constants["WIRE_SURVIVE"])
    taken = 0
    time.sleep(0.3)  # it has been booted
    with host.session(ALICE) as session:
        for _ in range(40):
            own, far = wire.socket.socketpair(wire.socket.AF_UNIX, wire.socket.SOCK_SEQPACKET)
            with own, far:
                try:
                    _, (pidfd,) = session.call("ATTACH", {"uuid": launch.uuid}, [far.fileno()])
                    os.close(pidfd)
                    taken += 1
                except wire.Refused:
                    break
    tap.true(taken < 10, "attaches that wait at one init: %d" % taken)
    try:
        launch._next(40)
        raise AssertionError("init goes on without a plan")
    except harness.LaunchFailed as why:
        tap.equal((why.step, why.error), ("INIT_PLAN", errno.ETIMEDOUT), "what the controller is told")
    tap.wait_for(lambda: not harness.alive(launch.lease["init_pid"]), "init is gone")
    launch.close()
    host.settle(before)


@case
def a_busy_restart_of_the_broker(host):
    """Messages of a dead broker that nobody has read: they count, and the old link does not stay behind."""
    launches = [host.launch("hostile", ["hold"], flags=wire.T.constants["WIRE_SURVIVE"]) for _ in range(6)]
    spawner, broker = host.spawner, host.broker
    descriptors = len(harness.fds(spawner)) - 2 * len(launches)
    os.kill(spawner, signal.SIGSTOP)
    with host.session(ALICE) as session:
        for launch in launches:
            session.call("KILL", {"uuid": launch.uuid})
    kill_wait(broker)
    process = host.starter
    host.start(wait=False)
    time.sleep(0.3)
    os.kill(spawner, signal.SIGCONT)
    tap.wait_for(lambda: _half(host), "both halves run", 20)
    tap.wait_for(lambda: _serves(host), "a launch works again", 20)
    host.joiners = getattr(host, "joiners", []) + [process]
    for launch in launches:
        tap.wait_for(lambda: not harness.alive(launch.lease["init_pid"]), "the kill was heard")
        launch.close()
    tap.wait_for(lambda: not host.leases_of(ALICE), "no lease is left")
    time.sleep(0.2)
    used = cpu_ticks(spawner)
    time.sleep(1)
    tap.true(cpu_ticks(spawner) - used < 20, "the spawner rests: %d ticks in a second" % (cpu_ticks(spawner) - used))
    tap.equal(len(harness.fds(spawner)), descriptors, "descriptors of the spawner")


@case
def cgroups_of_a_dead_spawner_go(host):
    """A spawner killed during a launch leaves a cgroup that no lease stands for: the next one removes it, and who is in it."""
    lease, controller = started(host, "k")
    top = min(path for path in host.cgroups() if os.path.basename(path).startswith("postern-") and "unified" in path
              or os.path.exists(path + "/cgroup.kill"))
    stray = os.path.join(top, "x%d" % (host.first_uid + 7))
    os.mkdir(stray)
    for name in ("", "cgroup.procs", "cgroup.kill"):
        os.chown(os.path.join(stray, name), harness.SPAWN_UID, harness.SPAWN_UID)
    child = harness.in_child(time.sleep, 60)
    with open(stray + "/cgroup.procs", "w", encoding="ascii") as f:
        f.write(str(child))
    kill_wait(host.spawner)
    join(host)
    tap.equal(os.waitpid(child, 0)[1], 9, "how the process in it ended")
    tap.wait_for(lambda: not os.path.exists(stray), "the cgroup is gone")
    lives_and_stops(host, lease, controller, "k")


@case
def ids_that_live_are_not_given_out(host):
    """Both daemons die, a sandbox survives: a start from another directory has the same ids, and refuses."""
    launch = host.launch("hostile", ["hold"], flags=wire.T.constants["WIRE_SURVIVE"])
    pid = launch.lease["init_pid"]
    spawner, broker = host.spawner, host.broker
    os.kill(broker, 9)
    kill_wait(spawner)
    host.starter.wait(10)
    other = host.runtime + "-other"
    argv = [host.start_program, "--policy", host.policy_path, "--runtime"]
    done = subprocess.run([*argv, other], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False, timeout=30)
    tap.true(done.returncode == 1 and "runs with an id of" in done.stdout, "refused: " + done.stdout)
    tap.true(harness.alive(pid), "and what is not its own is left alone")
    # However the directory is spelled, it is the same one.
    done = subprocess.run([*argv, host.runtime + "//", "--cleanup"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                          text=True, check=False, timeout=30)
    tap.equal(done.returncode, 0, "cleanup: " + done.stdout)
    tap.true(not harness.alive(pid), "cleanup ended it")
    launch.close()
    shutil.rmtree(other, ignore_errors=True)
    host.start()


@case
def a_second_start_changes_nothing(host):
    """Both live: the same line again says so, and sandboxes, daemons and their link stay."""
    lease, controller = started(host, "l")
    spawner, broker = host.spawner, host.broker
    done = subprocess.run([host.start_program, "--policy", host.policy_path, "--runtime", host.runtime],
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False, timeout=30)
    tap.true(done.returncode == 1 and "already running" in done.stdout, "refused: " + done.stdout)
    tap.equal((host.spawner, host.broker), (spawner, broker), "the daemons")
    tap.true(_serves(host), "a launch works")
    lives_and_stops(host, lease, controller, "l")


@case
def an_orderly_end_takes_all_along(host):
    """--stop-sandboxes-on-exit: SIGTERM to the broker ends everything, the spawner too."""
    lease, _ = started(host, "j")
    os.kill(host.broker, 15)
    tap.wait_for(lambda: not host.own_processes() or host.own_processes() == host.controllers(), "daemons and sandbox ended")
    tap.true(not harness.alive(lease["init_pid"]), "init ended")
    tap.wait_for(lambda: not host.controllers(), "the controller ended")
    host.start()


harness.main()
