#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
# Runs: test (whoever builds; the files must be root's, so as root). The man page and default.json against the loader:
# every key of its tables is documented, defaults are those of set_defaults(), and the examples are accepted.
import json
import os
import re
import subprocess
import sys
import tempfile

root, broker = sys.argv[1:3]


def read(path):
    with open(os.path.join(root, path), encoding="utf-8") as f:
        return f.read()


page = read("docs/man/postern-policy.5")
sources = "".join(read("policy/" + name) for name in os.listdir(os.path.join(root, "policy")) if name.endswith(".c"))
failures = []


def check(holds, what):
    if not holds:
        failures.append(what)


keys = set(re.findall(r'\b(?:NEEDS|TAKES)\w*\(\s*"(\w+)"', sources))
check(len(keys) > 40, "only %d keys found in the tables" % len(keys))
documented = set(re.findall(r"^\.(?:It )?Cm (\w+)", page, re.M)) | set(re.findall(r"\.Cm\s+(\w+)", page))
for key in sorted(keys - documented):
    check(False, "key %s is not in postern-policy(5)" % key)
values = set(re.findall(r'strcmp\(text, "(\w+)"\)', sources))
for key in sorted(set(re.findall(r"^\.It Cm (\w+)", page, re.M)) - keys - values):
    check(False, "postern-policy(5) documents %s, which the loader does not know" % key)
for key in sorted(re.findall(r'\bNEEDS\w*\(\s*"(\w+)"', sources)):
    check(re.search(r"^\.It Cm %s Pq required$" % key, page, re.M), "%s is required, postern-policy(5) does not say so" % key)
for field, value in re.findall(r"policy->(?:limits\.)?(\w+_ms|sessions\w*|pids|memory_mib) = (\d+);", sources):
    check(re.search(r"[Dd]efault:? %s\b" % value, page), "default %s of %s is not in postern-policy(5)" % (value, field))


def accepted(document, what):
    """As the broker reads it, with numbers for accounts this host need not have."""
    for name, uid in (("postern-spawn", "64801"), ("postern", "64800"), ("alice", "64810")):
        document = document.replace('"%s"' % name, uid)
    with tempfile.NamedTemporaryFile("w", suffix=".json") as f:
        f.write(document)
        f.flush()
        done = subprocess.run([broker, "--check-policy", f.name], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False)
    check(done.returncode == 0, "%s: %s" % (what, done.stdout.decode()))


accepted(read("policy/default.json"), "policy/default.json")
example = re.search(r"\.Bd -literal[^\n]*\n(.*?)\.Ed", page, re.S)
check(example, "postern-policy(5) has no example")
if example:
    accepted(example.group(1), "the example in postern-policy(5)")
# A default that is safe: nobody but the group is named, nothing of what widens a sandbox is on.
for rule in json.loads(read("policy/default.json"))["rules"]:
    check(rule.get("groups") == ["postern"] and "users" not in rule, "default.json names others than group postern")
    check(not rule.get("survive") and not rule.get("shared_netns"), "default.json widens sandboxes")
for line in failures:
    print("FAIL", line)
sys.exit(1 if failures else 0)
