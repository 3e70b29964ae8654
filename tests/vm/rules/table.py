#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
# Runs: tests (no privilege). docs/selinux-rules.md: each group of the SELinux module, and the test that notices its loss.
#
#   table.py             compare the document with the module and the tests
#   table.py --update    write it
import ast
import glob
import os
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, HERE)
import module  # noqa: E402

DOCUMENT = os.path.join(module.ROOT, "docs/selinux-rules.md")
BEFORE = """\
# What each rule of the SELinux module is for

`policy/selinux/postern.cil` is made of named groups. No group is there for nothing: in CI each one is taken away by itself,
in a machine whose SELinux is enforcing, and the test beside it must fail. All of them pass with the whole module.

This table is made from the module and the tests by `tests/vm/rules/table.py --update`; a style test compares.

| group | what it allows | without it, this fails | test |
|---|---|---|---|
"""
AFTER = """\

Some statements cannot be switched off while a policy is in force: lists of ioctls, attributes, levels, rules that name a
file. Each of these is left out of a policy of its own, and what else is in its group stays:

| group | statement | without it, this fails | test |
|---|---|---|---|
"""
END = """\

## How

Plain rules may depend on a boolean in CIL. So a variant of the module has each group behind a boolean of its own,
compiled with the base policy of the test machine and loaded there as a whole; then a boolean is switched off, the
group's test is run, and the boolean is switched on again. A test that still passes, a group without a test and a row
that is not true any more are failures. `tests/vm/vm suite --build DIR rules` runs it.

By hand there is a finer sieve, which takes single permissions away and prints those that nothing noticed. Such a rule is not
wrong for that (a refusal that a program survives, a feature that no test has), but needs a reason beside it:

```
tests/vm/vm run --rules pieces --timeout 3600 --append audit_backlog_limit=65536 --build DIR -- \\
    runcon unconfined_u:unconfined_r:unconfined_t:s0-s0:c0.c1023 python3 -B tests/vm/rules/pieces.py policies
```
"""


def tests():
    """{test: (first line of its text, groups, groups whose unconditional part it notices)} as needs_*.py say."""
    body, found = [], {}
    for name in sorted(glob.glob(os.path.join(HERE, "needs_*.py"))):
        with open(name, encoding="utf-8") as f:
            body += ast.parse(f.read()).body
    for function in body:
        for mark in getattr(function, "decorator_list", ()):
            if isinstance(mark, ast.Call) and getattr(mark.func, "id", "") == "test":
                lists = [ast.literal_eval(word.value) for word in mark.keywords if word.arg == "lists"]
                found[function.name] = (ast.get_docstring(function).splitlines()[0],
                                        [ast.literal_eval(argument) for argument in mark.args], lists[0] if lists else ())
    return found


def short(statement):
    line = module.text(statement)
    return line if len(line) <= 100 else line[:97] + "..."


def document():
    """The text, and what is wrong with module or tests."""
    wrong, rows, lists = [], [], []
    known, removable = tests(), module.removable()
    names = {group.name for group in removable}
    for name, (_, groups, bound) in known.items():
        wrong += ["test %s is for a group %s, which the module does not have" % (name, group)
                  for group in [*groups, *bound] if group not in names]
    for group in removable:
        plain = [name for name, (_, groups, _) in known.items() if group.name in groups]
        bound = [name for name, (_, _, groups) in known.items() if group.name in groups]
        if len(plain) != 1 and len(group.bound()) < sum(1 for _ in group.leaves()):
            wrong.append("group %s has %d tests: one function of needs_*.py must name it" % (group.name, len(plain)))
        if group.bound() and len(bound) != 1:
            wrong.append("group %s: one function of needs_*.py must name it in lists=" % group.name)
        if plain:
            rows.append("| %s | %s | %s | `%s` |" % (group.name, group.why, known[plain[0]][0], plain[0]))
        if bound:
            text = "<br>".join("`%s`" % short(statement) for statement in group.bound())
            lists.append("| %s | %s | %s | `%s` |" % (group.name, text, known[bound[0]][0], bound[0]))
    return BEFORE + "\n".join(rows) + "\n" + AFTER + "\n".join(lists) + "\n" + END, wrong


def main(update):
    text, wrong = document()
    if update:
        with open(DOCUMENT, "w", encoding="utf-8") as f:
            f.write(text)
    elif not os.path.exists(DOCUMENT) or open(DOCUMENT, encoding="utf-8").read() != text:
        wrong.append("docs/selinux-rules.md is not what module and tests say: tests/vm/rules/table.py --update")
    for line in wrong:
        print(line)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main("--update" in sys.argv))
