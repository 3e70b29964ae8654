# SPDX-License-Identifier: Apache-2.0
# Runs: tests (root, inside the test machine). Is the machine what vm run was asked for? run.py begins with it.
import os
import subprocess
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [os.path.join(HERE, "suite"), os.path.join(HERE, "..", "integration"), os.path.join(HERE, "..", "security")]
import probe  # noqa: E402
import tap  # noqa: E402
from asked import ASKED, landlock  # noqa: E402

LABELS = {  # what the harness adds to the labels of policy/selinux
    "/usr/libexec/postern-test/hostile-vmm": "postern_vmm_exec_t",
    "/usr/sbin/postern-start-fault": "postern_start_exec_t",
    "/usr/libexec/postern/postern-spawner-fault": "postern_spawner_exec_t",
    "/usr/libexec/postern/postern-init-fault": "postern_init_exec_t",
}


def read(path):
    with open(path, encoding="ascii") as f:
        return f.read().strip().rstrip("\0")


@tap.case
def kernel_is_the_one_asked_for():
    tap.true(os.uname().release.startswith(ASKED["kernel"] + "."), "kernel " + os.uname().release)


@tap.case
def selinux_mode():
    found = "off" if not os.path.exists("/sys/fs/selinux/enforce") else \
        {"0": "permissive", "1": "enforcing"}[read("/sys/fs/selinux/enforce")]
    tap.equal(found, ASKED["selinux"], "mode")
    tap.equal("selinux" in read("/sys/kernel/security/lsm").split(","), found != "off", "in the list of security modules")
    if found != "off":
        tap.equal(read("/proc/self/attr/current"), "system_u:system_r:initrc_t:s0", "the job's context")


@tap.case
def labels_of_installed_test_programs():
    if ASKED["selinux"] == "off":
        return  # nothing to compare, and nothing claims it
    for path, label in LABELS.items():
        if os.path.exists(path):
            tap.equal(os.getxattr(path, "security.selinux").decode().split(":")[2], label, path)


@tap.case
def landlock_is_as_asked():
    tap.equal("landlock" in read("/sys/kernel/security/lsm").split(","), ASKED["landlock"] == "on", "landlock")
    tap.equal(probe.landlock_abi(), landlock(), "its version")


@tap.case
def device_nodes_are_as_asked():
    for name, module, words in (("/dev/net/tun", "tun", ("tun",)), ("/dev/vhost-vsock", "vhost_vsock", ("vhost",)),
                                ("/dev/vhost-net", "vhost_net", ("vhost", "tun"))):  # of two modules
        wanted = "off" if "off" in [ASKED[word] for word in words] else "on"
        if wanted == "off":  # nor does anybody get it by asking
            subprocess.run(["modprobe", module], stderr=subprocess.DEVNULL)
        try:
            os.close(os.open(name, os.O_RDWR))
            found = "on"
        except OSError:
            found = "off"
        tap.equal(found, wanted, name + " can be opened")


@tap.case
def kvm_can_be_opened():
    os.close(os.open("/dev/kvm", os.O_RDWR))
    tap.equal(os.stat("/dev/kvm").st_mode & 0o777, 0o660, "mode of /dev/kvm")


@tap.case
def user_namespaces_are_as_asked():
    done = subprocess.run(["setpriv", "--reuid=64810", "--regid=64810", "--clear-groups", "unshare", "-U", "true"],
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    tap.equal(done.returncode == 0, ASKED["userns"] == "on", "unshare -U as alice: " + done.stdout)


@tap.case
def cgroups_are_as_asked():
    with open("/proc/self/mountinfo", encoding="ascii") as f:
        kinds = {line.split(" - ")[1].split()[0] for line in f if " /sys/fs/cgroup" in line} - {"tmpfs"}
    wanted = {"v2": {"cgroup2"}, "hybrid": {"cgroup", "cgroup2"}, "v1": {"cgroup"}}[ASKED["cgroup"]]
    tap.equal(kinds, wanted, "file systems below /sys/fs/cgroup")


@tap.case
def process_one_is_as_asked():
    tap.equal(read("/proc/1/comm") == "systemd", ASKED["systemd"] == "on", "systemd is process 1")


tap.run()
