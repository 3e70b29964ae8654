# SPDX-License-Identifier: Apache-2.0
# Runs: tests (root). What a VMM that owns its guest can send and hear on its tap: ARP frames of its own making.
import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "integration"))
import harness  # noqa: E402
import tap  # noqa: E402
from tap import case  # noqa: E402

VNET_HEADER = 10  # bytes of struct virtio_net_hdr before each frame
SLOT_TAP = 16


def dotted(number):
    return ".".join(str(number >> shift & 255) for shift in (24, 16, 8, 0))


def mac_of(launch):
    return "-".join("%02x" % b for b in launch.lease["nics"][0]["mac"])


def arp(launch, mac, source, target):
    """Words: ask who has target, as (mac, source), and listen for a second for anything at all."""
    return ["frame:%d:%d:%s:%s:%s" % (SLOT_TAP, VNET_HEADER, mac, source, target), "hear:%d:700" % SLOT_TAP]


def ask(host, network, words_of, **more):
    """Launch with a NIC, let words_of(launch) say what to try; returns {word: result}."""
    import json
    with host.launch("hostile", plan=False, nics=[{"network": network, "queues": 1}], **more) as launch:
        launch.send_plan([launch.path, *words_of(launch)])
        launch._wait_for("C_FACTS")
        lines = [json.loads(line) for line in launch.output().splitlines() if line.startswith('{"did"')]
    return {line["did"]: line["r"] for line in lines}


def heard(results):
    return [r for word, r in results.items() if word.startswith("hear")][0] == "OK"


@case
def the_gateway_answers_its_own_mac(host):
    """What must work: an ARP request of a sandbox with its own MAC is answered."""
    results = ask(host, "lan", lambda one: arp(one, mac_of(one), host.subnet + ".50", host.subnet + ".1"))
    tap.true(heard(results), "the gateway's answer: %s" % results)


@case
def K14_a_foreign_mac_is_not_heard(host):
    """Somebody else's MAC, a multicast one, the gateway's: nothing comes back, because nothing went through."""
    gateway = open("/sys/class/net/%s/address" % uplink(host, 0), encoding="ascii").read().strip().replace(":", "-")
    for mac in ("02-66-66-66-66-66", "01-00-5e-00-00-01", "ff-ff-ff-ff-ff-ff", "00-00-00-00-00-00", gateway):
        results = ask(host, "lan", lambda one, m=mac: arp(one, m, host.subnet + ".51", host.subnet + ".1"))
        tap.true(not heard(results), "an answer to MAC %s: %s" % (mac, results))


def uplink(host, index):
    """The host's end of network number index: the interface with its gateway's address."""
    import json
    for link in json.loads(harness.run_ok("ip", "-j", "address")):
        for address in link["addr_info"]:
            if address.get("local") == "10.98.%d.1" % (host.slot * 4 + index):
                return link["ifname"]
    raise AssertionError("no interface has the gateway's address")


@case
def a_pinned_address_is_the_only_one(host):
    """pin_ip: the lease's address is answered, another of the same network is not, in ARP or as an IPv4 source."""
    gateway = "10.98.%d.1" % (host.slot * 4 + 1)
    own = ask(host, "lan2", lambda one: arp(one, mac_of(one), dotted(one.lease["nics"][0]["ip"]), gateway))
    tap.true(heard(own), "the pinned address is answered: %s" % own)
    for source in ("10.98.%d.200" % (host.slot * 4 + 1), gateway, "0.0.0.0", "10.98.%d.9" % (host.slot * 4)):
        other = ask(host, "lan2", lambda one, s=source: arp(one, mac_of(one), s, gateway))
        tap.true(not heard(other), "an answer to %s: %s" % (source, other))


@case
def K14_isolated_sandboxes_hear_nothing_of_each_other(host):
    """A broadcast of one does not arrive at the other, whoever's it is."""
    with host.launch("hostile", ["hear:%d:2500" % SLOT_TAP], nics=[{"network": "lan", "queues": 1}],
                     uid=harness.BOB) as listener:
        listener_mac = mac_of(listener)
        ask(host, "lan",
            lambda one: [w for _ in range(3) for w in arp(one, mac_of(one), host.subnet + ".52", host.subnet + ".53")])
        out = listener.output()
    tap.true('"r":"ETIMEDOUT"' in out, "what %s heard: %s" % (listener_mac, out))


@case
def networks_are_apart(host):
    """A broadcast on one network does not arrive on the other, isolated or not."""
    with host.launch("hostile", ["hear:%d:1500" % SLOT_TAP], nics=[{"network": "lan2", "queues": 1}]) as listener:
        ask(host, "lan", lambda one: arp(one, mac_of(one), host.subnet + ".60", host.subnet + ".61"))
        out = listener.output()
    tap.true('"r":"ETIMEDOUT"' in out, "what was heard on the other network: %s" % out)


@case
def the_uplinks_do_not_forward_to_each_other(host):
    """Isolation is layer 2: without a rule the host would carry packets back. The rule is there, and goes with Postern."""
    end = uplink(host, 0)
    forwarding = open("/proc/sys/net/ipv4/conf/%s/forwarding" % end, encoding="ascii").read().strip()
    rules = harness.run_ok("nft", "list", "ruleset") if _has_nft() else ""
    tap.true(end in rules or forwarding == "0", "%s neither forwards nor is unguarded: forwarding %s" % (end, forwarding))


def _has_nft():
    import subprocess
    return subprocess.run(["nft", "list", "ruleset"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL).returncode == 0


@case
def D23_nobody_attaches_to_a_sandboxs_tap(host):
    """A tap by name is not to be had for any user, while it exists or afterwards: it is in a namespace that is not his."""
    with host.launch("hostile", ["hold"], nics=[{"network": "lan", "queues": 1}]) as launch:
        index = launch.lease["nics"][0]["ifindex"]
        name = next(n for n, link in host.switch_links().items() if link["ifindex"] == index)
        tap.true(name not in harness.links(), "the tap is not in the host's namespace")
    for uid in (harness.ALICE, harness.BOB):
        tap.true(not os.access("/dev/net/tun", os.W_OK) or name not in harness.links(), "uid %d" % uid)


harness.main()
