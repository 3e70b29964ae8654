# SPDX-License-Identifier: Apache-2.0
# Runs: tests. The policies that guest.py loads: the base image's modules with variants of ours, compiled on this side.
#
# Compiling takes seconds each, so what was made is kept by a hash of all it was made from.
import bz2
import glob
import hashlib
import json
import os
import subprocess
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path += [HERE, os.path.dirname(HERE)]
import cache  # noqa: E402
import module  # noqa: E402
import table  # noqa: E402

STORE = "var/lib/selinux/default/active/modules"
VERSION = "33"  # what the oldest kernel of the machine reads


def base_tree():
    return cache.base()


def base_cil(tree):
    """All modules of the base policy as one text."""
    off = os.listdir(os.path.join(tree, STORE, "disabled"))
    out = b""
    for path in sorted(glob.glob(os.path.join(tree, STORE, "*/*/cil"))):
        if path.split("/")[-2] not in off:
            with open(path, "rb") as f:
                data = f.read()
            out += (bz2.decompress(data) if data.startswith(b"BZh") else data) + b"\n"
    return out


def compile_all(texts, work, *options):
    """{name: CIL} to {name}.policy below work, two at a time."""
    tree = base_tree()
    base = os.path.join(work, "base.cil")
    with open(base, "wb") as f:
        f.write(base_cil(tree))
    own = [os.path.join(HERE, "probe.cil"), *sorted(glob.glob(os.path.join(HERE, "../policy/*.cil")))]
    # The tree's own compiler with its own libraries, without entering the tree: neither root nor a mount is needed.
    loader = [os.path.join(tree, "lib64/ld-linux-x86-64.so.2"), "--library-path",
              ":".join(os.path.join(tree, name) for name in ("usr/lib/x86_64-linux-gnu", "lib/x86_64-linux-gnu")),
              os.path.join(tree, "usr/bin/secilc")]
    running = []
    for name, text in texts.items():
        source = os.path.join(work, name + ".cil")
        with open(source, "w", encoding="utf-8") as f:
            f.write(text)
        # -N: neverallow is policy/selinux/check's business, and the probes break it on purpose.
        argv = [*loader, *options, "-N", "-M", "true", "-c", VERSION, "-f", "/dev/null",
                "-o", os.path.join(work, name + ".policy"), base, *own, source]
        running.append((name, subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)))
        if len(running) == 2:
            _finish(*running.pop(0))
    for name, process in running:
        _finish(name, process)
    os.unlink(base)


def _finish(name, process):
    said, _ = process.communicate()
    if process.returncode != 0:
        sys.stderr.write(said)
        raise cache.Trouble("secilc refuses the variant %s; its words are above" % name)


def key(texts):
    parts = [base_tree(), *(name + "\0" + text for name, text in texts.items())]
    for path in [os.path.join(HERE, "probe.cil"), *sorted(glob.glob(os.path.join(HERE, "../policy/*.cil")))]:
        with open(path, encoding="utf-8") as f:
            parts.append(f.read())
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:12]


def packed(found):
    """[names of groups whose unconditional parts are left out of one policy]. To share one saves seconds, and tells as much:
    lists and attributes only restrict, so that a lack of one fails no test of another; each has a test of its own, and two
    lists for the same domain and type, which add up, are kept apart."""
    variants = []
    known = table.tests()
    for group in found:
        if group.name == module.ALWAYS or not group.bound():
            continue
        tests = {name for name, (_, _, groups) in known.items() if group.name in groups}
        marks = tests | {module.text(part[1:3]) for part in group.bound() if part[0] == "allowx"}
        for names, taken in variants:
            if not marks & taken:
                names.append(group.name)
                taken |= marks
                break
        else:
            variants.append(([group.name], marks))
    return [names for names, _ in variants]


def for_groups():
    """Directory with all that the test of the groups needs."""
    found = module.groups()
    texts, lists = {"switchable": module.switchable(found)}, {}
    for number, names in enumerate(packed(found)):
        texts["without-%d" % number] = module.switchable(found, names)
        lists.update({name: "without-%d.policy" % number for name in names})

    def build(work):
        compile_all(texts, work)
        with open(os.path.join(work, "policies.json"), "w", encoding="utf-8") as f:
            json.dump({"switchable": "switchable.policy", "lists": lists,
                       "booleans": {g.name: g.boolean for g in found if g.name != module.ALWAYS}}, f)
    return cache.layer("rules", key(texts), build, "policies.json", *(name + ".policy" for name in texts))


def for_pieces():
    """Directory with what pieces.py needs."""
    found = module.groups()
    text, pieces = module.by_piece(found)

    def build(work):
        compile_all({"pieces": text}, work, "-D")
        with open(os.path.join(work, "pieces.json"), "w", encoding="utf-8") as f:
            json.dump({"pieces": pieces, "attributes": {k: sorted(v) for k, v in module.attributes(found).items()}}, f)
    return cache.layer("rules", key({"pieces": text}), build, "pieces.json", "pieces.policy")


def directory(what):
    return {"groups": for_groups, "pieces": for_pieces}[what]()
