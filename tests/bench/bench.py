# SPDX-License-Identifier: Apache-2.0
# Runs: bench (root). Runs bench.c's measurements side by side and prints medians, p90 and ratios. Asserts no times.
import os
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "integration"))
import harness  # noqa: E402

ROUND = 50        # samples taken of one thing before the next has its turn: slow drifts hit all alike
LAUNCHES = 200
ROUNDTRIPS = 20000


def samples(argv, uid=None):
    more = {} if uid is None else {"user": uid, "group": uid, "extra_groups": []}
    done = subprocess.run(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, timeout=240, **more)
    if done.returncode != 0:
        raise RuntimeError("%s: %s" % (" ".join(argv), done.stderr.strip()))
    return [int(line) for line in done.stdout.split()]


def at(values, part):
    values = sorted(values)
    return values[min(len(values) - 1, int(len(values) * part))]


def private_kib(pid):
    """Memory that only this process has, clean and dirty."""
    return sum(int(line.split()[1]) for line in open("/proc/%d/smaps_rollup" % pid, encoding="ascii")
               if line.startswith(("Private_Clean", "Private_Dirty")))


def table(title, rows, base):
    """rows: {name: samples}. Ratios are of medians, to the row `base`."""
    print("\n%-52s %9s %9s %9s" % (title, "median", "p90", "ratio"))
    for name, values in rows.items():
        print("%-52s %6.0f us %6.0f us %8.2fx" % (name, at(values, 0.5) / 1000, at(values, 0.9) / 1000,
                                                  at(values, 0.5) / at(rows[base], 0.5)))
    sys.stdout.flush()


def launches(host, bench):
    first = os.path.join(host.fakes, "first-instruction")
    alice = harness.ALICE
    commands = {
        "postern, own netns": ([bench, "launch", str(ROUND), host.socket, "first", "own"], alice),
        "postern, shared netns": ([bench, "launch", str(ROUND), host.socket, "first", "shared"], alice),
        "postern, own netns, tap": ([bench, "launch", str(ROUND), host.socket, "first", "own", "lan"], alice),
        "clone3+execve, same namespaces (floor)": ([bench, "floor", str(ROUND), first, "own"], None),
        "clone3+execve, same namespaces but net (floor)": ([bench, "floor", str(ROUND), first, "shared"], None),
        "bwrap --unshare-all": ([bench, "spawn", str(ROUND), "/usr/bin/bwrap", "--unshare-all", "--ro-bind", "/", "/", first],
                                alice),
        "fork+execve": ([bench, "spawn", str(ROUND), first], alice),
    }
    rows = {name: [] for name in commands}
    for _ in range(LAUNCHES // ROUND):
        for name, (argv, uid) in commands.items():
            rows[name] += samples(argv, uid)
    table("request to first instruction, n=%d" % LAUNCHES, rows, "clone3+execve, same namespaces (floor)")


def roundtrips(host, bench):
    rows = {
        "broker, HOST": samples([bench, "roundtrip", str(ROUNDTRIPS), host.socket], harness.ALICE),
        "bare SEQPACKET ping-pong": samples([bench, "pingpong", str(ROUNDTRIPS)], harness.ALICE),
        "bare SEQPACKET+SCM_RIGHTS ping-pong": samples([bench, "pingpong", str(ROUNDTRIPS), "fd"], harness.ALICE),
    }
    table("round trip, n=%d" % ROUNDTRIPS, rows, "bare SEQPACKET ping-pong")


def memory(host):
    host.ok("run", "--hypervisor", "mock", "--memory", "16", "--name", "bench", "--detach")
    lease = host.leases_of(harness.ALICE)[0]
    controllers = [p for p in harness.pids() if os.path.basename(harness.exe(p)) == "postern-controller" and
                   harness.exe(p).startswith(host.dest)]
    print("\nprivate memory (smaps_rollup, Private_*)")
    for name, pid in [("controller", controllers[0]), ("init", lease["init_pid"]), ("broker", host.broker),
                      ("spawner", host.spawner)]:
        print("%-52s %6d KiB" % (name, private_kib(pid)))
    host.ok("kill", "bench")


def main():
    host = harness.Host()
    try:
        host.start()
        bench = os.path.join(host.build, "tests/bench/bench")
        launches(host, bench)
        roundtrips(host, bench)
        memory(host)
    finally:
        host.close()


if __name__ == "__main__":
    main()
