#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
# Runs: tests (whoever runs them). Documents against the code they describe.
"""documents.py SOURCE_ROOT: exit statuses, folders, links, names of tests."""
import os
import re
import sys

breaches = []


def read(path):
    with open(path, encoding="utf-8") as f:
        return f.read()


def check_exit_statuses():
    """postern(1), EXIT STATUS, lists exactly the numbers of include/postern/exit.h."""
    wanted = [int(n) for n in re.findall(r"^\s*EXIT_\w+ = (\d+)", read("include/postern/exit.h"), re.M)]
    if not os.path.exists("docs/man/postern.1"):
        breaches.append("docs/man/postern.1 does not exist")
        return
    page = read("docs/man/postern.1")
    section = re.search(r'^\.S[Hh] "?EXIT STATUS"?$(.*?)(?=^\.S[Hh] )', page, re.M | re.S)
    if not section:
        breaches.append("docs/man/postern.1: no section EXIT STATUS")
        return
    found = [int(n) for n in re.findall(r"^(?:\.It(?: Li| Sy| Ic)?|\.B|\.BR?|\.IP|\.Sy) *\"?(\d+)\"?", section.group(1), re.M)]
    if sorted(found) != sorted(wanted):
        breaches.append(f"docs/man/postern.1: EXIT STATUS lists {found}, include/postern/exit.h has {wanted}")


def check_start_options():
    """postern-start(8) names every option of the program."""
    page = read("docs/man/postern-start.8")
    for option in re.findall(r'^\t\{ "([a-z-]+)", (?:no|required)_argument', read("broker/start/options.c"), re.M):
        if option != "fault-fd" and f".It Fl -{option}" not in page:
            breaches.append(f"docs/man/postern-start.8: --{option} is missing")


def check_layout():
    """Every folder that README.md names exists, and every top-level folder is named there."""
    section = re.search(r"^## Layout$(.*?)(?=^## |\Z)", read("README.md"), re.M | re.S)
    named = set(re.findall(r"^([a-z][a-z/_-]*)/ ", section.group(1), re.M)) if section else set()
    for folder in sorted(named):
        if not os.path.isdir(folder):
            breaches.append(f"README.md: {folder}/ does not exist")
    for folder in sorted(os.listdir(".")):
        hidden = folder.startswith((".", "build"))
        if os.path.isdir(folder) and os.listdir(folder) and not hidden and folder not in {n.split("/")[0] for n in named}:
            breaches.append(f"README.md: section Layout does not name {folder}/")


def check_links():
    """Relative links and backquoted paths in documents lead somewhere."""
    for path in ["README.md", "HACKING.md", "SECURITY.md", "NEWS.md"] + [
            "docs/" + n for n in sorted(os.listdir("docs")) if n.endswith(".md")]:
        text = read(path)
        for target in re.findall(r"\]\(([^)#:\s]+)\)", text):
            if not os.path.exists(os.path.join(os.path.dirname(path), target)):
                breaches.append(f"{path}: link to {target}, which does not exist")
        for target in re.findall(r"`((?:common|policy|broker|launcher|include|tests|tools|docs|packaging)/[\w./-]+)`", text):
            if not os.path.exists(target):
                breaches.append(f"{path}: names {target}, which does not exist")


def check_comments():
    """Documents that a comment in the sources sends its reader to."""
    for top in ("common", "include", "policy", "broker", "launcher", "tests"):
        for folder, _, names in os.walk(top):
            for name in names:
                if name.endswith((".c", ".h", ".py", ".build")):
                    path = os.path.join(folder, name)
                    for target in re.findall(r"\bdocs/[\w/-]+\.(?:md|json|[158])\b", read(path)):
                        if not os.path.exists(target):
                            breaches.append(f"{path}: sends its reader to {target}, which does not exist")


def check_named_tests():
    """Every file::case that a document names is a test."""
    sources = {}
    for folder, _, names in os.walk("tests"):
        for name in names:
            if name.startswith("test_"):
                sources[name] = read(os.path.join(folder, name))
    for name in sorted(os.listdir("docs")):
        if not name.endswith(".md"):
            continue
        for source, case in re.findall(r"`(test_\w+\.(?:py|c))::(\w+)`", read("docs/" + name)):
            pattern = rf"^def {case}\(" if source.endswith(".py") else rf"^static void {case}\("
            if not re.search(pattern, sources.get(source, ""), re.M):
                breaches.append(f"docs/{name}: {source}::{case} is no test")


def main():
    os.chdir(sys.argv[1])
    check_exit_statuses()
    check_start_options()
    check_layout()
    check_links()
    check_named_tests()
    check_comments()
    print("\n".join(breaches))
    sys.exit(1 if breaches else 0)


if __name__ == "__main__":
    main()
