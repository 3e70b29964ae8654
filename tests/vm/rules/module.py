# SPDX-License-Identifier: Apache-2.0
# Runs: tests. policy/selinux/postern.cil as groups of statements, and variants of it in which a group can be switched off.
#
# A group begins with a line "; group NAME: why" and ends at the next one. CIL lets plain rules depend on a boolean, so one
# policy has all groups, each behind a boolean of its own. What may not depend on one (lists of ioctls, attributes, ranges,
# rules that name a file) is left out of a policy of its own.
import os
import re

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(os.path.dirname(HERE)))
MODULE = os.path.join(ROOT, "policy/selinux/postern.cil")
ALWAYS = "types"  # the one group that nothing can do without

GROUP = re.compile(r"^; group ([a-z0-9-]+): (.*)$")
TOKEN = re.compile(r'"[^"]*"|[()]|[^\s()"]+')


class Group:
    def __init__(self, name, why):
        self.name, self.why, self.statements = name, why, []

    @property
    def boolean(self):
        return "postern_rule_" + self.name.replace("-", "_")

    def leaves(self):
        return [leaf for statement in self.statements for leaf in _leaves(statement)]

    def bound(self):
        """Statements that cannot depend on a boolean."""
        return [leaf for leaf in self.leaves() if not _may_depend(leaf)]


def parse(text):
    """CIL as nested lists."""
    stack = [[]]
    for line in text.splitlines():
        for token in TOKEN.findall(line.split(";")[0]):
            if token == "(":
                stack.append([])
            elif token == ")":
                done = stack.pop()
                stack[-1].append(done)
            else:
                stack[-1].append(token)
    if len(stack) != 1:
        raise ValueError("parentheses do not match")
    return stack[0]


def text(statement):
    return "(" + " ".join(text(part) if isinstance(part, list) else part for part in statement) + ")"


def groups(path=MODULE):
    """[Group] in the order of the file. Rules before the first group are an error: they would be in no table."""
    found, body = [], []
    with open(path, encoding="utf-8") as f:
        lines = f.read().splitlines()
    for number, line in enumerate(lines + ["; group end: end"], 1):
        begin = GROUP.match(line)
        if not begin:
            body.append(line)
            continue
        statements = parse("\n".join(body))
        if found:
            found[-1].statements = statements
        elif statements:
            raise ValueError("%s: rules before the first group" % path)
        if any(group.name == begin.group(1) for group in found):
            raise ValueError("%s:%d: a second group %s" % (path, number, begin.group(1)))
        found.append(Group(*begin.groups()))
        body = []
    return found[:-1]


def removable(path=MODULE):
    return [group for group in groups(path) if group.name != ALWAYS]


def _leaves(statement):
    """The rules inside blocks that only say when they are there."""
    if statement[0] == "optional":
        return [leaf for part in statement[2:] for leaf in _leaves(part)]
    return [statement]


def _may_depend(statement):
    return statement[0] in ("allow", "dontaudit", "auditallow", "booleanif") or \
        statement[0] == "typetransition" and len(statement) == 5


def depend(statement, boolean):
    """The statement, behind a boolean as far as that is possible."""
    if statement[0] == "optional":
        return statement[:2] + [depend(part, boolean) for part in statement[2:]]
    if not _may_depend(statement):
        return statement
    if statement[0] == "booleanif":
        return ["booleanif", ["and", boolean, statement[1]], *statement[2:]]
    return ["booleanif", boolean, ["true", statement]]


def switchable(found, unbound=()):
    """The module with each group behind its boolean; all are on at the start. unbound: groups whose unconditional parts are
    left out."""
    out = []
    for group in found:
        if group.name == ALWAYS:
            out += group.statements
            continue
        out.append(["boolean", group.boolean, "true"])
        statements = [depend(statement, group.boolean) for statement in group.statements]
        out += _only_conditional(statements) if group.name in unbound else statements
    return "".join(text(statement) + "\n" for statement in out)


def _only_conditional(statements):
    out = []
    for statement in statements:
        if statement[0] == "optional":
            out.append(statement[:2] + _only_conditional(statement[2:]))
        elif statement[0] == "booleanif":
            out.append(statement)
    return out


def by_piece(found):
    """(CIL, pieces): the module with each permission of each rule behind a boolean of its own, for pieces.py. A piece is
    a dict: boolean, group, rule, and for allow rules source, target, class and permission."""
    out, pieces = [], []
    for group in found:
        if group.name == ALWAYS:
            out += group.statements
        else:
            out += [_split(statement, group, pieces, out) for statement in list(group.statements)]
    booleans = [["boolean", piece["boolean"], "true"] for piece in pieces]
    return "".join(text(statement) + "\n" for statement in booleans + out), pieces


def _split(statement, group, pieces, out):
    """The statement with its pieces behind booleans, as one block."""
    if statement[0] == "optional":
        parts = [part for inner in statement[2:] for part in _each(inner, group, pieces)]
        return statement[:2] + parts
    parts = _each(statement, group, pieces)
    out += parts[:-1]
    return parts[-1]


def _each(statement, group, pieces):
    if statement[0] == "booleanif":
        return [["booleanif", ["and", statement[1], part[1]], part[2]]
                for rule in statement[2][1:] for part in _each(rule, group, pieces)]
    if not _may_depend(statement) or statement[0] == "dontaudit":
        return [statement]
    found = []
    for permission in statement[3][1] if statement[0] == "allow" else [None]:
        piece = {"boolean": "postern_piece_%d" % len(pieces), "group": group.name, "rule": text(statement)}
        rule = statement
        if permission:
            rule = [*statement[:3], [statement[3][0], [permission]]]
            piece.update(source=statement[1], target=statement[2], permission=permission, rule=text(rule))
            piece["class"] = statement[3][0]
        pieces.append(piece)
        found.append(["booleanif", piece["boolean"], ["true", rule]])
    return found


def attributes(found):
    """{attribute of ours: set of types}."""
    sets = {}
    for group in found:
        for statement in group.statements:
            for leaf in _leaves(statement):
                if leaf[0] == "typeattributeset" and leaf[1].startswith("postern_") and leaf[2][0] not in ("and", "not"):
                    sets.setdefault(leaf[1], set()).update(leaf[2])
    return sets
