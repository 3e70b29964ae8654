# SPDX-License-Identifier: Apache-2.0
# Runs: tests (root, inside test machines that each lack something, or nothing). jobs.table boots them.
#
# What a host lacks is named in three places (postern-start --check, the daemons' log, the receipt), refused when it is
# required, and changes nothing else: the set of rows in the receipt that are not good is compared as a whole. The table is
# described in docs/degradation.md.
import json
import os
import re
import subprocess
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(os.path.dirname(HERE)))
sys.path[:0] = [HERE, os.path.join(ROOT, "tests", "integration"), os.path.join(ROOT, "tests", "security")]
import harness  # noqa: E402
import tap  # noqa: E402
from asked import ASKED, landlock  # noqa: E402
from tap import case  # noqa: E402

NO_NODE = "not available: the device node does not exist on this host (is the module loaded?)"
NO_KERNEL = "not available: this kernel does not have it"
PARTIAL = "granted in part: this host does not have all that Postern uses of it"
CGROUP1 = "granted: cgroup v1 controllers; v2 group for kill and liveness only"
FAILED = "not available: setting it up failed (see the broker's log)"
WHOLE = {"kvm": "granted: device node inside the sandbox", "tap": "granted", "vhost-net": "granted: descriptor",
         "vhost-vsock": "granted: descriptor", "label": "granted", "cgroup": "granted: cgroup v2 controllers",
         "landlock": "granted", "port-filter": "granted"}
LANDLOCK_NONE = "none: the VMM is kept in by everything else"
LANDLOCK_OLD = "version 2: signals and abstract sockets are not held back by it"


def expect():
    """(grants that differ from WHOLE, rows of the receipt that are not good) for what vm run was asked for. A row's text is
    what is found; None is the grant's text."""
    grants, rows = {}, {}
    if ASKED["selinux"] != "enforcing":
        grants["label"] = NO_KERNEL if ASKED["selinux"] == "off" else PARTIAL
        rows["grant.label"] = None
    if ASKED["selinux"] == "off":
        rows.update({"vmm.label": "unconfined", "outside.init.run_label": "none"})
    if landlock() < 6:
        grants["landlock"] = PARTIAL if landlock() else NO_KERNEL
        rows.update({"grant.landlock": None, "vmm.landlock": LANDLOCK_OLD if landlock() else LANDLOCK_NONE})
    if ASKED["vhost"] == "off":
        grants.update({"vhost-net": NO_NODE, "vhost-vsock": NO_NODE})
        rows.update({"grant.vhost-net": None, "grant.vhost-vsock": None})
    if ASKED["tun"] == "off":  # who does not ask for a tap misses nothing
        grants.update({"tap": NO_NODE, "vhost-net": NO_NODE, "port-filter": FAILED})
        rows.pop("grant.vhost-net", None)
    if ASKED["cgroup"] != "v2":
        grants["cgroup"] = CGROUP1
    if ASKED["cgroup"] == "v1":
        rows.update({"outside.vmm.cgroup": "none", "outside.init.cgroup": "none"})
    if DIRECT:
        rows["vmm.namespace.user"] = "the host's: direct mode"
    return grants, rows


DIRECT = ASKED["userns"] == "off"
GRANTS, ROWS = expect()
TEXTS = dict(WHOLE, **GRANTS)
# Grants that are not there at all: what "required" is about. Version 1 of cgroups and a part are something.
LACKING = [name for name, text in GRANTS.items() if text.startswith("not available")]
# What a user is told whose spec requires the thing; exit status 6 is EXIT_HOST.
REQUIRES = {
    "label": ({"label": "require"}, "an SELinux label is required but %s: turn SELinux on, or change \"required\" in the policy"),
    "vhost-vsock": ({"vsock": "require"}, "vsock is required but %s: load vhost_vsock or do not require it"),
    "vhost-net": ({"nics": [{"type": "tap", "network": "lan", "vhost": "require"}]},
                  "vhost-net is required for network \"lan\" but %s: load vhost_net or do not require it"),
    "tap": ({"nics": [{"type": "tap", "network": "lan", "vhost": "no"}]},
            "a tap was asked for but %s: load the tun module, or use passt, or leave the network out"),
}
SAID_BY_START_ALONE = ("port-filter",)  # tried by the spawner: --check cannot know, and start does not require what it has not seen


def everything(host):
    """A spec that asks for all there is, as far as a tap can be had."""
    nics = [{"type": "tap", "network": "lan", "vhost": "prefer"}]
    return host.spec(vsock="prefer", label="prefer", nics=[] if "tap" in GRANTS else nics)


def start_with(host, *extra, **change):
    """postern-start with a changed policy, beside nothing. Returns CompletedProcess."""
    policy = json.loads(json.dumps(host.policy))
    policy["daemon"].update(change.pop("daemon", {}))
    policy.update(change)
    with open(host.policy_path, "w", encoding="ascii") as f:
        json.dump(policy, f)
    try:
        return subprocess.run([host.start_program, "--runtime", host.runtime, "--policy", host.policy_path, *extra],
                              stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, timeout=60, cwd="/")
    finally:
        host.write_policy()


@case
def check_names_what_is_missing(host):
    done = start_with(host, "--check")
    tap.equal(done.returncode, 0, "status: " + done.stderr)
    found = dict(line.split(None, 1) for line in done.stdout.splitlines())
    for name, text in TEXTS.items():
        tap.equal(found[name], "tried on the bridge, when it is made" if name in SAID_BY_START_ALONE else text, "--check of " + name)
    tap.true(found["mode"].startswith("direct mode: " if DIRECT else "namespace: "), "mode: " + found["mode"])


@case
def the_log_names_what_is_missing(host):
    said = set(re.findall(r"postern-broker: this host: (.*)", host.log_tail(1000)))
    tap.equal(said, {"%s: %s" % item for item in GRANTS.items()}, "the broker's log")
    tap.equal("postern-start: direct mode: " in host.log_tail(1000), DIRECT, "direct mode in the log")


@case
def the_receipt_names_what_is_missing_and_nothing_else(host):
    host.ok("run", everything(host), "--detach", "--name", "all")
    try:
        rows = host.json("receipt", "all")["rows"]
        found = {row["field"]: row["found"] for row in rows if row["mark"] not in ("ok", "info")}
        wanted = {field: TEXTS[field.removeprefix("grant.")] if text is None else text for field, text in ROWS.items()}
        tap.equal(found, wanted, "rows that are not good")
    finally:
        host.ok("kill", "all")


@case
def a_user_who_requires_it_is_refused(host):
    for name, (fields, words) in REQUIRES.items():
        done = host.cli("run", host.spec(**fields), "--detach", "--name", "need")
        if name in LACKING or (name == "vhost-net" and "tap" in LACKING):
            tap.equal(done.returncode, 6, "status with %s required: %s" % (name, done.stderr))
            first = "tap" if "tap" in LACKING and name == "vhost-net" else name
            said = (words % TEXTS[name], REQUIRES[first][1] % TEXTS[first])
            tap.true(done.stderr.strip() in ["postern: " + text for text in said], "what is said of %s: %s" % (name, done.stderr))
        else:
            tap.equal(done.returncode, 0, "with %s required: %s" % (name, done.stderr))
            host.ok("kill", "need")
    tap.wait_for(lambda: not host.sandbox_processes(), "nothing is left")


@case
def a_policy_that_requires_it_does_not_start(host):
    """Each by itself, and the reason is the last line; all that is there may be required."""
    tap.equal(host.stop(), [], "left after the stop")
    for name in LACKING:
        for extra in ([], ["--check"]):
            if name in SAID_BY_START_ALONE:
                continue
            done = start_with(host, *extra, required=[name])
            tap.equal(done.returncode, 1, "status with %s required: %s" % (name, done.stderr))
            tap.equal(done.stderr.strip().splitlines()[-1], "postern-start: the policy requires \"%s\", but: %s" % (name, TEXTS[name]),
                      "the reason")
    if "label" in LACKING:
        done = start_with(host, labels="require")
        tap.equal(done.stderr.strip().splitlines()[-1], "postern-start: the policy requires \"label\", but: " + TEXTS["label"],
                  "\"labels\": \"require\"")
    if DIRECT:
        for extra in ([], ["--check"]):
            done = start_with(host, *extra, daemon={"mode": "namespace"})
            tap.equal(done.returncode, 1, "status in namespace mode: " + done.stderr)
            tap.equal(done.stderr.strip().splitlines()[-1], "postern-start: user namespaces: uid 64801 cannot make one: No space "
                      "left on device (the sysctl user.max_user_namespaces is 0, or all it allows are in use). Allow them, or set "
                      "\"mode\": \"direct\" in the policy's \"daemon\"; in direct mode the spawner holds capabilities of the host, "
                      "and who breaks it has the host: see postern-policy(5)", "the reason")
    host.policy["required"] = sorted(set(WHOLE) - set(LACKING))
    host.write_policy()
    host.start()
    host.ok("run", everything(host), "--detach", "--name", "all")
    host.ok("kill", "all")


def policy(config, host):
    config["rules"][0]["vsock"] = True
    for network in config["networks"].values():
        network["vhost"] = True


harness.main(policy=policy)
