#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
# Runs: test (whoever builds). A profile that does not say what its author meant must not become a filter.
import os
import subprocess
import sys
import tempfile

generate = sys.argv[1]
HEAD = "default EPERM # why\n"
REFUSED = [
    ("", "empty profile"),
    ("allow read # why\n", "rule before the default"),
    (HEAD + "allow read\n", "no reason given"),
    (HEAD + "allow read #  \n", "no reason given"),
    (HEAD + "allow raed # why\n", "no such system call"),
    (HEAD + "alow read # why\n", "not a verb"),
    (HEAD + "allow # why\n", "a rule needs a system call"),
    (HEAD + "allow ioctl arg6=1 # why\n", "not a condition"),
    (HEAD + "allow ioctl arg1>1 # why\n", "not a condition"),
    (HEAD + "allow ioctl arg1 # why\n", "not a condition"),
    (HEAD + "allow ioctl arg1=0xzz # why\n", "not a number"),
    (HEAD + "allow ioctl arg1=-1 # why\n", "not a number"),
    (HEAD + "allow clone arg0&0xff=0x100 # why\n", "condition can never hold"),
    (HEAD + "allow read=1 # why\n", "libseccomp knows another number"),
    (HEAD + "allow read arg0=1 arg1=1 arg2=1 arg3=1 arg4=1 arg5=1 arg0=1 # why\n", "too many words"),
    (HEAD + "include nothing # why\n", "cannot open"),
    ("default MAYBE # why\n", "not a verb"),
]
ACCEPTED = [
    HEAD + "allow read # why\n",
    HEAD + "allow read@sparc # elsewhere\n",
    HEAD + "eperm read # documentation\n",
    HEAD + "newest 470 # why\nallow futex_waitv=449 # why\nzero ioctl arg1=1 # why\n",
]
failures = 0
with tempfile.TemporaryDirectory() as directory:
    for text, reason in REFUSED + [(text, None) for text in ACCEPTED]:
        path, out = os.path.join(directory, "x.syscalls"), os.path.join(directory, "x.c")
        with open(path, "w", encoding="ascii") as f:
            f.write(text)
        done = subprocess.run([generate, "x86_64", out, "BASE=" + path], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False)
        said = done.stdout.decode()
        good = done.returncode == 0 and "BASE[] = {" in open(out, encoding="ascii").read() if reason is None else (
            done.returncode == 1 and reason in said)
        if not good:
            failures += 1
            print("FAIL %r: exit %d, %r, expected %r" % (text, done.returncode, said, reason))
    done = subprocess.run([generate, "vax", out, "BASE=" + path], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False)
    if done.returncode != 1 or b"no filters are written for this architecture" not in done.stdout:
        failures += 1
        print("FAIL unknown architecture")
sys.exit(1 if failures else 0)
