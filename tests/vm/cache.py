# SPDX-License-Identifier: Apache-2.0
# Runs: tests (root). What a machine boots from: a kernel, a root image. Made once, kept by a hash of what they are made from.
#
# Three kinds of layers, each a directory of its own below the cache, so that a change costs no more than it must:
#
#   base-*     a Debian tree with SELinux's policy                  half a minute; changes with PACKAGES
#   kernel-*   one kernel, its initramfs, its modules as an image    seconds; one for each version
#   image-*    a base with our policy modules, labelled, as ext4     seconds; changes with *.cil and guest/
#
# Postern itself is in none of them: it travels with the job (machine.py). A layer is built below a temporary name and
# renamed when it is whole; a lock keeps two builders apart. Who uses a layer holds a shared lock on its directory until
# its process ends, and no other process takes it away meanwhile. It counts as one only with its files: others clean
# up below /var/tmp, too.
import contextlib
import fcntl
import glob
import gzip
import hashlib
import inspect
import os
import re
import shutil
import subprocess
import sys
import time

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
CACHE = os.environ.get("POSTERN_VM_CACHE") or "/var/tmp/postern-vm"
KEPT = 4  # layers of a kind that stay when a newer one is made
IN_USE = {}  # path of a layer: its directory, open and locked

RELEASE = "bookworm"
KERNELS = {"6.1": RELEASE, "6.12": RELEASE + "-backports"}
PACKAGES = """selinux-policy-default policycoreutils semodule-utils selinux-utils secilc python3-minimal python3 iproute2 kmod
    qemu-system-x86 libjansson4 libselinux1 libuuid1 libseccomp2 procps strace socat uidmap attr acl iputils-ping
    libcap2-bin util-linux passt busybox-static systemd systemd-sysv udev dbus""".split()
# Of no use to a test, and slow under emulation.
MASKED = ("apt-daily.timer", "apt-daily-upgrade.timer", "dpkg-db-backup.timer", "e2scrub_all.timer", "e2scrub_reap.service",
          "fstrim.timer", "getty@tty1.service", "serial-getty@ttyS0.service", "systemd-binfmt.service")
LEFT_OUT = ("/usr/share/doc/*", "/usr/share/man/*", "/usr/share/locale/*")
# The initramfs loads what lies between a kernel and its root; everything else is loaded by name from the modules' disk.
BOOT_MODULES = ("virtio_pci", "virtio_blk", "ext4", "crc32c_intel", "crc32c_generic")
USERS = (("postern", 64800, ""), ("postern-spawn", 64801, ""), ("alice", 64810, "postern"), ("bob", 64811, "postern"),
         ("carol", 64812, ""))
IMAGE_MIB = 1024
FILE_CONTEXTS = "etc/selinux/default/contexts/files/file_contexts"


class Trouble(Exception):
    """Something that the caller must be told, with what to do about it."""


def say(text):
    print("vm: " + text, file=sys.stderr, flush=True)


def run(*argv, **more):
    """Run a command quietly; its words come out when it fails."""
    try:
        return subprocess.run(argv, check=True, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                              text=True, **more).stdout
    except FileNotFoundError:
        raise Trouble("%s is not installed: run tools/deps vm as root" % argv[0]) from None
    except subprocess.CalledProcessError as why:
        sys.stderr.write("".join((why.stdout + why.stderr).splitlines(True)[-30:]))
        raise Trouble("%s failed with status %d; its last words are above" % (" ".join(argv[:3]), why.returncode)) from None


def key_of(*parts):
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:12]


def recipe(*functions):
    return "".join(inspect.getsource(function) for function in functions)


def read(path):
    with open(path, encoding="utf-8") as f:
        return f.read()


@contextlib.contextmanager
def locked(kind):
    """One builder at a time for each kind of layer."""
    os.makedirs(CACHE, exist_ok=True)
    with open(os.path.join(CACHE, "lock-" + kind), "w", encoding="ascii") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say("waiting for another build of the same kind (%s)" % kind)
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def layer(kind, key, build, *files):
    """The directory of a layer, ours until we end; build(directory) fills it when there is none with these files."""
    path = os.path.join(CACHE, "%s-%s" % (kind, key))
    while not use(path, files):
        if os.geteuid() != 0:
            raise Trouble("the cache is made by root (chroot, labels): run tests/vm/vm build as root first")
        with locked(kind):
            for left in glob.glob(os.path.join(CACHE, "new-%s-*" % kind)):  # of a build that was killed: we hold the lock
                shutil.rmtree(left)
            if not whole(path, files):
                began = time.monotonic()
                say("making %s" % os.path.basename(path))
                work = os.path.join(CACHE, "new-" + os.path.basename(path))
                os.mkdir(work, 0o755)
                build(work)
                if not whole(work, files):
                    raise Trouble("%s was made without one of %s" % (work, ", ".join(files)))
                shutil.rmtree(path, ignore_errors=True)  # what somebody has left of it
                os.rename(work, path)
                say("made %s in %.0f s" % (os.path.basename(path), time.monotonic() - began))
                prune(kind)
    with contextlib.suppress(PermissionError):
        os.utime(path)  # used now: prune() takes the oldest
    return path


def whole(path, files):
    return os.path.isdir(path) and all(os.path.exists(os.path.join(path, name)) for name in files)


def use(path, files):
    """Whether the layer is there, and nobody takes it away from now on."""
    if path not in IN_USE:
        try:
            fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except FileNotFoundError:
            return False
        fcntl.flock(fd, fcntl.LOCK_SH)
        IN_USE[path] = fd
    if whole(path, files) and os.path.samestat(os.fstat(IN_USE[path]), os.stat(path)):
        return True
    os.close(IN_USE.pop(path))
    return False


def prune(kind):
    paths = sorted(glob.glob(os.path.join(CACHE, kind + "-*")), key=os.path.getmtime, reverse=True)
    for path in paths[KEPT:]:
        fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        with contextlib.suppress(BlockingIOError):  # in use
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(path)
        os.close(fd)


# ---- Debian ---------------------------------------------------------------------------------------------------------

def host_sources():
    """(URI, suite, keyring) of this host's own Debian archive: nothing else is asked."""
    found = []
    for path in sorted(glob.glob("/etc/apt/sources.list.d/*.sources")):
        for paragraph in re.split(r"\n\s*\n", re.sub(r"(?m)^#.*\n?", "", read(path))):
            fields = {name.lower(): value.split() for name, value in re.findall(r"(?m)^([\w-]+):\s*(.*)$", paragraph)}
            if "".join(fields.get("enabled", ())).lower() in ("no", "false", "0", "off", "without", "disable"):
                continue
            for uri in fields.get("uris", ()):
                found += [(uri, suite, "".join(fields.get("signed-by", ()))) for suite in fields.get("suites", ())]
    for path in ["/etc/apt/sources.list", *sorted(glob.glob("/etc/apt/sources.list.d/*.list"))]:
        if os.path.exists(path):
            for options, uri, suite in re.findall(r"(?m)^deb\s+(?:\[(.*?)\]\s+)?(\S+)\s+(\S+)\s", read(path)):
                keyring = re.search(r"signed-by=(\S+)", options)
                found.append((uri, suite, keyring.group(1) if keyring else ""))
    # "stable" moves on; the archive that has it has each release by its name, too.
    found = [(uri, re.sub(r"^(old)*stable\b", RELEASE, suite), keyring) for uri, suite, keyring in found]
    found = [source for source in found if source[1] == RELEASE or source[1].startswith(RELEASE + "-")]
    if not any(suite == RELEASE for _, suite, _ in found):
        raise Trouble("/etc/apt/sources.list* name no %s archive: the machine's packages come from there" % RELEASE)
    return found


def sources_list(suite):
    """Lines of a sources.list: the release with its updates, or another suite of the same archive."""
    found = host_sources()
    if suite != RELEASE:
        found = [(uri, suite, keyring) for uri, name, keyring in found if name == RELEASE][:1]
    return "".join("deb %s %s %s main\n" % ("[signed-by=%s]" % keyring if keyring.startswith("/") else "", uri, name)
                   for uri, name, keyring in found)


SOURCES = (host_sources, sources_list)  # they shape whatever is made of packages


class Apt:
    """apt with a state of its own: neither the host's lists nor its packages are touched."""

    def __init__(self, work, suite):
        self.work = work
        for name in ("lists/partial", "cache/archives/partial", "debs"):
            os.makedirs(os.path.join(work, name))
        with open(os.path.join(work, "sources.list"), "w", encoding="utf-8") as f:
            f.write(sources_list(suite))
        open(os.path.join(work, "status"), "w", encoding="ascii").close()
        self.options = [word for name, value in (
            ("Dir::Etc::SourceList", "sources.list"), ("Dir::State::Lists", "lists"), ("Dir::Cache", "cache"),
            ("Dir::State::status", "status")) for word in ("-o", "%s=%s" % (name, os.path.join(work, value)))]
        self.options += ["-o", "Dir::Etc::SourceParts=/dev/null", "-o", "APT::Sandbox::User=root", "-qq"]
        run("apt-get", *self.options, "update")

    def depends(self, package):
        return re.findall(r"Depends: (\S+)", run("apt-cache", *self.options, "depends", package))

    def unpack(self, package, target):
        debs = os.path.join(self.work, "debs")
        run("apt-get", *self.options, "download", package, cwd=debs)
        for name in os.listdir(debs):
            run("dpkg-deb", "-x", os.path.join(debs, name), target)
            os.unlink(os.path.join(debs, name))


# ---- layers ---------------------------------------------------------------------------------------------------------

def kernel(version):
    """Directory with vmlinuz, initrd.gz and modules.img."""
    if version not in KERNELS:
        raise Trouble("no kernel %s here; there are %s" % (version, ", ".join(KERNELS)))
    init = read(os.path.join(HERE, "guest/initramfs"))
    key = key_of(init, recipe(make_kernel, make_initramfs, make_ext4, Apt, *SOURCES), *BOOT_MODULES)
    return layer("kernel", version + "-" + key, lambda work: make_kernel(work, KERNELS[version], init),
                 "vmlinuz", "initrd.gz", "modules.img")


def make_kernel(work, suite, init):
    tree = os.path.join(work, "tree")
    apt = Apt(os.path.join(work, "apt"), suite)
    package = next(p for p in apt.depends("linux-image-cloud-amd64") if p.startswith("linux-image-"))
    say("kernel package %s" % package)
    apt.unpack(package, tree)
    modules = os.path.join(tree, "lib/modules")
    release, = os.listdir(modules)
    run("depmod", "-b", tree, release)
    shutil.copy(os.path.join(tree, "boot/vmlinuz-" + release), os.path.join(work, "vmlinuz"))
    make_initramfs(work, tree, release, init)
    for top, dirs, files in os.walk(modules):  # the kernel loads modules of this type only
        for name in [".", *dirs, *files]:
            os.setxattr(os.path.join(top, name), "security.selinux", b"system_u:object_r:modules_object_t:s0\0",
                        follow_symlinks=False)
    make_ext4(modules, os.path.join(work, "modules.img"), 256)
    for name in ("tree", "apt"):
        shutil.rmtree(os.path.join(work, name))


def make_initramfs(work, tree, release, init):
    """busybox, the boot modules in the order in which they are loaded, and guest/initramfs as init."""
    top = os.path.join(work, "initramfs")
    os.makedirs(os.path.join(top, "bin"))
    os.mkdir(os.path.join(top, "modules"))
    shutil.copy("/bin/busybox", os.path.join(top, "bin"))
    os.symlink("busybox", os.path.join(top, "bin/sh"))
    order = []
    for module in BOOT_MODULES:
        wanted = run("modprobe", "-d", tree, "-S", release, "--show-depends", module)
        order += [path for path in re.findall(r"(?m)^insmod (\S+)", wanted) if path not in order]  # "builtin": nothing to load
    for number, path in enumerate(order):
        target = os.path.join(top, "modules/%02d.ko" % number)
        if path.endswith(".xz"):  # busybox loads plain files only
            with open(target, "wb") as f:
                subprocess.run(["xz", "-dc", path], check=True, stdout=f)
        else:
            shutil.copy(path, target)
    with open(os.path.join(top, "init"), "w", encoding="utf-8") as f:
        f.write(init)
        os.fchmod(f.fileno(), 0o755)
    names = "\n".join(os.path.relpath(os.path.join(path, name), top) for path, dirs, files in os.walk(top) for name in dirs + files)
    archive = subprocess.run(["cpio", "-o", "-H", "newc", "-R", "0:0", "--quiet"], check=True, cwd=top, input=names.encode(),
                             stdout=subprocess.PIPE).stdout
    with gzip.open(os.path.join(work, "initrd.gz"), "wb", compresslevel=1) as f:
        f.write(archive)
    shutil.rmtree(top)


def make_ext4(tree, path, mib):
    """An image of a tree, labels included. Nothing is mounted for it."""
    with open(path, "wb") as f:
        f.truncate(mib << 20)
    run("mkfs.ext4", "-q", "-d", tree, "-O", "^has_journal", "-E", "root_owner=0:0", "-m", "0", path)


def make_base(work):
    tree = os.path.join(work, "tree")
    sources = os.path.join(work, "sources.list")
    with open(sources, "w", encoding="utf-8") as f:
        f.write(sources_list(RELEASE))
    say("bootstrapping %d packages of %s" % (len(PACKAGES), RELEASE))
    run("mmdebstrap", "--quiet", "--variant=minbase", "--aptopt=Apt::Install-Recommends \"false\"", "--dpkgopt=force-unsafe-io",
        *("--dpkgopt=path-exclude=" + pattern for pattern in LEFT_OUT), "--include=" + ",".join(PACKAGES), RELEASE, tree,
        sources, env=dict(os.environ, TMPDIR="/var/tmp", DEBIAN_FRONTEND="noninteractive"))
    for name in ("var/cache/apt", "var/lib/apt/lists"):
        shutil.rmtree(os.path.join(tree, name))
        os.makedirs(os.path.join(tree, name))


def policy_files():
    """Our module, when there is one, and the harness's own."""
    ours = sorted(glob.glob(os.path.join(ROOT, "policy/selinux/*.cil")))
    own = [os.path.join(HERE, "policy/vmtest.cil")]
    return ours + own + (sorted(glob.glob(os.path.join(HERE, "policy/vmtest-*.cil"))) if ours else [])


def guest_files():
    return [path for path in sorted(glob.glob(os.path.join(HERE, "guest/*"))) if not path.endswith("/initramfs")]


def base_key():
    return key_of(RELEASE, recipe(make_base, *SOURCES), *PACKAGES, *LEFT_OUT)


def base():
    """The Debian tree that images are made from; nobody changes it."""
    # The first and the last that anybody needs of it: what somebody has thinned out is not used.
    return os.path.join(layer("base", base_key(), make_base, "tree/usr/bin/secilc", "tree/usr/bin/qemu-system-x86_64",
                              "tree/" + FILE_CONTEXTS), "tree")


def image():
    """Path of the root image."""
    files = policy_files() + guest_files()
    key = key_of(base_key(), recipe(make_image, make_ext4), repr(USERS + MASKED), str(IMAGE_MIB),
                 *(os.path.basename(path) + "\0" + read(path) for path in files))
    return os.path.join(layer("image", key, lambda work: make_image(work, base()), "root.img"), "root.img")


def make_image(work, base):
    tree = os.path.join(work, "tree")
    run("cp", "-a", "--reflink=auto", base, tree)
    for name, number, group in USERS:
        person = number >= 64810
        run("chroot", tree, "groupadd", "-g", str(number), name)
        run("chroot", tree, "useradd", "-u", str(number), "-g", name, "-m" if person else "-M",
            "-s", "/bin/sh" if person else "/usr/sbin/nologin", *(("-G", group) if group else ()), name)
    os.makedirs(os.path.join(tree, "usr/lib/modules"), exist_ok=True)  # where the kernel's own disk is mounted
    target = os.path.join(tree, "usr/lib/vmtest")
    os.mkdir(target)
    for path in guest_files():
        unit = path.endswith(".service")
        copy = shutil.copy(path, os.path.join(tree, "usr/lib/systemd/system") if unit else target)
        os.chmod(copy, 0o644 if unit else 0o755)
    units = os.path.join(tree, "etc/systemd/system")
    os.symlink("/usr/lib/systemd/system/vmtest.service", os.path.join(units, "multi-user.target.wants/vmtest.service"))
    for name in MASKED:
        os.symlink("/dev/null", os.path.join(units, name))
    config = os.path.join(tree, "etc/selinux/config")
    text = re.sub(r"(?m)^SELINUX=.*", "SELINUX=enforcing", read(config))
    with open(config, "w", encoding="utf-8") as f:
        f.write(text)
    with open(os.path.join(tree, "etc/hostname"), "w", encoding="ascii") as f:
        f.write("vmtest\n")
    names = [os.path.basename(path) for path in policy_files()]
    for path in policy_files():
        shutil.copy(path, tree)
    say("policy: " + " ".join(names))
    run("chroot", tree, "semodule", "-n", "-i", *names)
    for name in names:
        os.unlink(os.path.join(tree, name))
    # The tree's own setfiles, since compiled contexts of another release are not readable to the host's. It writes through
    # /proc/self/fd, so it gets a /proc, in a mount namespace that ends with it.
    run("unshare", "--mount", "sh", "-c", "mount -t proc proc \"$1/proc\" && exec chroot \"$1\" setfiles -F -e /proc "
        "/%s /" % FILE_CONTEXTS, "sh", tree)
    make_ext4(tree, os.path.join(work, "root.img"), IMAGE_MIB)
    shutil.rmtree(tree)
