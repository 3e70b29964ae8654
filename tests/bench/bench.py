# SPDX-License-Identifier: Apache-2.0
# Runs: bench (root). Runs bench.c's measurements side by side and prints medians, p90 and ratios. Asserts no times.
import os
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "integration"))
import harness  # noqa: E402

# On a host with cgroup v1 each launch moves a process into its groups, and the kernel waits for an RCU grace period (some
# 10 ms) whenever the last move was a while ago. To tell that from our own work, a second Postern runs where v1 is hidden.
WITHOUT_V1 = ("unshare", "-m", "sh", "-c",
              'for g in /sys/fs/cgroup/*; do case $g in */unified) ;; *) umount "$g" 2>/dev/null ;; esac; '
              'done; exec "$@"', "sh")
ROUND = 50        # samples taken of one thing before the next has its turn: slow drifts hit all alike
LAUNCHES = 100
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


def launches(host, plain, bench):
    first = os.path.join(host.fakes, "first-instruction")
    alice = harness.ALICE
    commands = {}
    for where, one in (("", host), (", no cgroup v1", plain)):
        for what, words in (("own netns", ["own"]), ("shared netns", ["shared"]), ("own netns, tap", ["own", "lan"])):
            commands["postern, " + what + where] = ([bench, "launch", str(ROUND), one.socket, "first", *words], alice)
    commands |= {
        "clone3+execve, same namespaces (floor)": ([bench, "floor", str(ROUND), first, "own"], None),
        "clone3+execve, same namespaces but net (floor)": ([bench, "floor", str(ROUND), first, "shared"], None),
        "bwrap --unshare-all": ([bench, "spawn", str(ROUND), "/usr/bin/bwrap", "--unshare-all", "--ro-bind", "/", "/",
                                 first],
                                alice),
        "fork+execve": ([bench, "spawn", str(ROUND), first], alice),
    }
    rows = {name: [] for name in commands}
    for _ in range(LAUNCHES // ROUND):
        for name, (argv, uid) in commands.items():
            rows[name] += samples(argv, uid)
    table("request to first instruction, n=%d" % LAUNCHES, rows, "clone3+execve, same namespaces (floor)")


def roundtrips(host, bench):
    # All on one CPU: waking another one that sleeps costs three times a round trip, and who has to do that is luck.
    cpus = os.sched_getaffinity(host.broker)
    one = min(cpus)
    pinned = ["taskset", "-c", str(one), bench]
    os.sched_setaffinity(host.broker, {one})
    try:
        rows = {
            "broker, HOST": samples([*pinned, "roundtrip", str(ROUNDTRIPS), host.socket], harness.ALICE),
            "bare SEQPACKET ping-pong": samples([*pinned, "pingpong", str(ROUNDTRIPS)], harness.ALICE),
            "bare SEQPACKET+SCM_RIGHTS ping-pong": samples([*pinned, "pingpong", str(ROUNDTRIPS), "fd"], harness.ALICE),
        }
    finally:
        os.sched_setaffinity(host.broker, cpus)
    table("round trip, all on one CPU, n=%d" % ROUNDTRIPS, rows, "bare SEQPACKET+SCM_RIGHTS ping-pong")


def memory(host):
    """With several sandboxes, so that the pages of the programs themselves count as what they are: shared."""
    for i in range(4):
        host.ok("run", "--hypervisor", "mock", "--memory", "16", "--name", "bench%d" % i, "--detach")
    rows = {"controller": host.controllers(), "init": [lease["init_pid"] for lease in host.leases_of(harness.ALICE)],
            "broker": [host.broker], "spawner": [host.spawner]}
    print("\nprivate memory with 4 sandboxes (smaps_rollup, Private_*)")
    for name, pids in rows.items():
        print("%-52s %6d KiB" % (name, at([private_kib(pid) for pid in pids], 0.5)))
    host.ok("kill", "--all")


def main():
    host = harness.Host()
    plain = None
    try:
        plain = harness.Host()
        host.start()
        plain.start(prefix=WITHOUT_V1)
        bench = os.path.join(host.build, "tests/bench/bench")
        launches(host, plain, bench)
        roundtrips(host, bench)
        memory(host)
    finally:
        host.close()
        if plain:
            plain.close()


if __name__ == "__main__":
    main()
