/* SPDX-License-Identifier: Apache-2.0
 * Runs: VMM (inside a sandbox, no privilege). A VMM that its guest has taken over: it tries what its words tell it.
 *
 * Every word is one attack, NAME[:ARG]...; for each it writes {"try":WORD} before and {"did":WORD,"r":RESULT} after,
 * RESULT being OK or the name of an errno. The first line matters when the kernel kills us in between: the harness
 * sees which attack that was and starts a new sandbox for the rest. It judges nothing itself; the tests know what
 * should have happened. It never runs outside a sandbox: main() wants a uid of a test range, and asks no system call for
 * it, because a filter may deny that too.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/if.h>
#include <linux/if_arp.h>
#include <linux/sched.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "hostile.h"

#define ARGS_MAX 8
#define FIRST_TEST_UID 0x71000000u
#define LAST_TEST_UID 0x71ffffffu

/* Large enough for whatever a kernel may write through a pointer we hand it. */
static _Alignas(16) char scratch[65536];

static long err(long r)
{
	return r < 0 ? -errno : 0;
}

long number(const char *s)
{
	return strcmp(s, "buf") == 0 ? (long)(intptr_t)scratch : (long)strtoull(s, NULL, 0);
}

void say(const char *text)
{
	size_t len = strlen(text);

	while (len > 0) {
		ssize_t n = write(STDOUT_FILENO, text, len);
		struct pollfd room = { .fd = STDOUT_FILENO, .events = POLLOUT };

		/* The log channel does not block: a controller that does not read must not stop a VMM. Here nothing may get lost. */
		if (n < 0 && errno == EAGAIN && poll(&room, 1, 10000) > 0)
			continue;
		if (n <= 0)
			_exit(90);
		text += n;
		len -= (size_t)n;
	}
}

/* ---- files -------------------------------------------------------------------------------------------------------- */

static int open_mode(const char *mode)
{
	static const struct {
		const char *name;
		int flags;
	} modes[] = { { "r", O_RDONLY }, { "w", O_WRONLY }, { "rw", O_RDWR }, { "p", O_PATH }, { "c", O_WRONLY | O_CREAT } };

	for (size_t i = 0; i < sizeof(modes) / sizeof(modes[0]); i++)
		if (strcmp(mode, modes[i].name) == 0)
			return modes[i].flags;
	return O_RDONLY;
}

static long try_open(char **a)
{
	int fd = open(a[0], open_mode(a[1]) | O_NOFOLLOW * (a[1][0] == 'c') | O_NONBLOCK | O_CLOEXEC, 0600);

	if (fd >= 0)
		close(fd);
	return err(fd);
}

/* Write to a descriptor by number: is a read-only asset really read-only? */
static long try_write(char **a)
{
	return err(pwrite((int)number(a[0]), "hostile", 7, 0));
}

static long try_reopen(char **a)
{
	char path[64];
	int fd;

	snprintf(path, sizeof(path), "/proc/self/fd/%ld", number(a[0]));
	fd = open(path, O_RDWR | O_CLOEXEC);
	return err(fd);
}

static long try_mmap_write(char **a)
{
	void *p = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, (int)number(a[0]), 0);

	if (p == MAP_FAILED)
		return -errno;
	memcpy(p, "hostile", 7);
	return 0;
}

static long try_mkdir(char **a)
{
	return err(mkdir(a[0], 0700));
}
static long try_mknod(char **a)
{
	return err(mknod(a[0], (mode_t)number(a[1]) | 0600, (dev_t)number(a[2])));
}
static long try_chmod(char **a)
{
	return err(syscall(SYS_fchmodat, AT_FDCWD, a[0], number(a[1])));
}
static long try_fchmod(char **a)
{
	return err(fchmod((int)number(a[0]), (mode_t)number(a[1])));
}
static long try_chown(char **a)
{
	return err(syscall(SYS_fchownat, AT_FDCWD, a[0], number(a[1]), number(a[2]), 0));
}
static long try_symlink(char **a)
{
	return err(symlink(a[0], a[1]));
}
static long try_link(char **a)
{
	return err(link(a[0], a[1]));
}
static long try_unlink(char **a)
{
	return err(unlink(a[0]));
}
static long try_rename(char **a)
{
	return err(rename(a[0], a[1]));
}
static long try_chdir(char **a)
{
	return err(chdir(a[0]));
}
static long try_chroot(char **a)
{
	return err(chroot(a[0]));
}

static long try_setxattr(char **a)
{
	return err(syscall(SYS_setxattr, a[0], a[1], "x", 1, 0));
}

static long try_mount(char **a)
{
	return err(mount("none", a[1], a[0], 0, NULL));
}

static long try_bind(char **a)
{
	return err(mount(a[0], a[1], NULL, MS_BIND, NULL));
}

static long try_remount(char **a)
{
	return err(mount(NULL, a[0], NULL, MS_REMOUNT | MS_BIND, NULL));
}

static long try_umount(char **a)
{
	return err(umount2(a[0], MNT_DETACH));
}
static long try_pivot(char **a)
{
	return err(syscall(SYS_pivot_root, a[0], a[0]));
}
static long try_fsopen(char **a)
{
	return err(syscall(SYS_fsopen, a[0], 0));
}
static long try_opentree(char **a)
{
	return err(syscall(SYS_open_tree, AT_FDCWD, a[0], 1 /* OPEN_TREE_CLONE */));
}

static long try_handle(char **a)
{
	struct file_handle *h = (struct file_handle *)(void *)scratch;
	int mount_id;

	h->handle_bytes = 128;
	return err(syscall(SYS_name_to_handle_at, AT_FDCWD, a[0], h, &mount_id, 0));
}

/* ---- programs ----------------------------------------------------------------------------------------------------- */

/* The smallest program there is: exit status 77. */
static const unsigned char tiny[] = {
	0x7f,
	'E',
	'L',
	'F',
	2,
	1,
	1,
	0,
	0,
	0,
	0,
	0,
	0,
	0,
	0,
	0,
	2,
	0,
	62,
	0,
	1,
	0,
	0,
	0,
	0x78,
	0,
	0x40,
	0,
	0,
	0,
	0,
	0,
	64,
	0,
	0,
	0,
	0,
	0,
	0,
	0,
	0,
	0,
	0,
	0,
	0,
	0,
	0,
	0,
	0,
	0,
	0,
	0,
	64,
	0,
	56,
	0,
	1,
	0,
	0,
	0,
	0,
	0,
	0,
	0,
	1,
	0,
	0,
	0,
	5,
	0,
	0,
	0,
	0,
	0,
	0,
	0,
	0,
	0,
	0,
	0,
	0,
	0,
	0x40,
	0,
	0,
	0,
	0,
	0,
	0,
	0,
	0x40,
	0,
	0,
	0,
	0,
	0,
	0x84,
	0,
	0,
	0,
	0,
	0,
	0,
	0,
	0x84,
	0,
	0,
	0,
	0,
	0,
	0,
	0,
	0,
	0x10,
	0,
	0,
	0,
	0,
	0,
	0,
	/* mov $77,%edi; mov $231,%eax; syscall */
	0xbf,
	77,
	0,
	0,
	0,
	0xb8,
	231,
	0,
	0,
	0,
	0x0f,
	0x05,
};

static long try_exec(char **a)
{
	char *argv[] = { a[0], (char[]){ "true" }, NULL };
	char *envp[] = { NULL };

	return err(execve(a[0], argv, envp));
}

static long try_exec_run(char **a)
{
	char *argv[] = { a[0], NULL };
	char *envp[] = { NULL };
	int fd = open(a[0], O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0700);

	if (fd < 0)
		return -errno;
	if (write(fd, tiny, sizeof(tiny)) != (ssize_t)sizeof(tiny))
		return -EIO;
	close(fd);
	return err(execve(a[0], argv, envp));
}

static long try_exec_memfd(char **a)
{
	char *argv[] = { a[0], NULL };
	char *envp[] = { NULL };
	int fd = (int)syscall(SYS_memfd_create, "hostile", 0);

	if (fd < 0)
		return -errno;
	if (write(fd, tiny, sizeof(tiny)) != (ssize_t)sizeof(tiny))
		return -EIO;
	return err(syscall(SYS_execveat, fd, "", argv, envp, AT_EMPTY_PATH));
}

static long try_fork(char **a)
{
	long pid;

	(void)a;
	pid = syscall(SYS_fork);
	if (pid == 0)
		_exit(0);
	return err(pid);
}

static long try_clone(char **a)
{
	long pid = syscall(SYS_clone, number(a[0]) | SIGCHLD, NULL, NULL, NULL, NULL);

	if (pid == 0)
		_exit(0);
	return err(pid);
}

static long try_clone3(char **a)
{
	struct clone_args args = { .flags = (uint64_t)number(a[0]), .exit_signal = SIGCHLD };
	long pid = syscall(SYS_clone3, &args, sizeof(args));

	if (pid == 0)
		_exit(0);
	return err(pid);
}

static long try_unshare(char **a)
{
	return err(unshare((int)number(a[0])));
}

/* ---- other processes ---------------------------------------------------------------------------------------------- */

static long try_kill(char **a)
{
	return err(kill((pid_t)number(a[0]), (int)number(a[1])));
}
static long try_tgkill(char **a)
{
	return err(syscall(SYS_tgkill, number(a[0]), number(a[1]), number(a[2])));
}
static long try_ptrace(char **a)
{
	return err(ptrace((enum __ptrace_request)number(a[0]), (pid_t)number(a[1]), NULL, NULL));
}

static long try_pidfd(char **a)
{
	return err(syscall(SYS_pidfd_open, number(a[0]), 0));
}

static long try_getfd(char **a)
{
	long pidfd = syscall(SYS_pidfd_open, number(a[0]), 0);

	return pidfd < 0 ? -errno : err(syscall(SYS_pidfd_getfd, pidfd, number(a[1]), 0));
}

static long try_setns(char **a)
{
	long pidfd = syscall(SYS_pidfd_open, number(a[0]), 0);

	return pidfd < 0 ? -errno : err(syscall(SYS_setns, pidfd, number(a[1])));
}

static long try_readv(char **a)
{
	struct iovec local = { scratch, 64 }, remote = { (void *)(intptr_t)&scratch, 64 };

	return err(process_vm_readv((pid_t)number(a[0]), &local, 1, &remote, 1, 0));
}

/* ---- sockets and devices ------------------------------------------------------------------------------------------ */

static long try_socket(char **a)
{
	return err(socket((int)number(a[0]), (int)number(a[1]), (int)number(a[2])));
}

static long try_connect(char **a)
{
	struct sockaddr_un sun = { .sun_family = AF_UNIX };
	socklen_t len = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + strlen(a[0]));
	int fd = socket(AF_UNIX, SOCK_SEQPACKET, 0);

	if (fd < 0)
		return -errno;
	strncpy(sun.sun_path, a[0], sizeof(sun.sun_path) - 1);
	if (sun.sun_path[0] == '@')
		sun.sun_path[0] = '\0';
	return err(connect(fd, (struct sockaddr *)&sun, len));
}

/* A meeting place in the network namespace; stays open. */
static long try_listen(char **a)
{
	struct sockaddr_un sun = { .sun_family = AF_UNIX };
	socklen_t len = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + strlen(a[0]));
	int fd = socket(AF_UNIX, SOCK_SEQPACKET, 0);

	if (fd < 0)
		return -errno;
	strncpy(sun.sun_path + 1, a[0], sizeof(sun.sun_path) - 2);
	if (bind(fd, (struct sockaddr *)&sun, len) < 0)
		return -errno;
	return err(listen(fd, 5));
}

static long try_ioctl(char **a)
{
	return err(ioctl((int)number(a[0]), (unsigned long)number(a[1]), number(a[2])));
}

/* The same with a pointer to a 64-bit number. What is there afterwards does not matter: the kernel only reads it. */
static long try_ioctl64(char **a)
{
	uint64_t value = (uint64_t)number(a[2]);

	return err(ioctl((int)number(a[0]), (unsigned long)number(a[1]), &value));
}

/* Whether what is called /dev/kvm is KVM: where it was not granted, the null device lies over it. */
static long try_kvm(char **a)
{
	int fd = open(a[0], O_RDWR | O_CLOEXEC);

	return fd < 0 ? -errno : err(ioctl(fd, 0xae00 /* KVM_GET_API_VERSION */, 0));
}

/* A struct ifreq with a name and whatever the ioctl wants of it. */
static long try_ifreq(char **a)
{
	struct ifreq ifr = { 0 };

	strncpy(ifr.ifr_name, a[2], sizeof(ifr.ifr_name) - 1);
	if (strcmp(a[3], "mac") == 0) {
		ifr.ifr_hwaddr.sa_family = ARPHRD_ETHER;
		memcpy(ifr.ifr_hwaddr.sa_data, "\x02\x66\x66\x66\x66\x66", 6);
	} else {
		ifr.ifr_flags = (short)number(a[3]);
	}
	return err(ioctl((int)number(a[0]), (unsigned long)number(a[1]), &ifr));
}

/* An Ethernet frame from a MAC and an IPv4 address that are not ours, with a virtio-net header before it. */
static long try_frame(char **a)
{
	unsigned char frame[10 + 64] = { 0 }, *eth = frame + 10;
	size_t header = (size_t)number(a[1]);

	memset(eth, 0xff, 6);
	for (int i = 0; i < 6; i++)
		eth[6 + i] = (unsigned char)strtoul(a[2] + 2 * i + i, NULL, 16);
	memcpy(eth + 12, "\x08\x06\x00\x01\x08\x00\x06\x04\x00\x01", 10); /* ARP request */
	memcpy(eth + 22, eth + 6, 6);
	*(uint32_t *)(void *)(eth + 28) = inet_addr(a[3]);
	*(uint32_t *)(void *)(eth + 38) = inet_addr(a[4]);
	return err(write((int)number(a[0]), frame + 10 - header, header + 60));
}

/* Whether anything arrives on a descriptor within so many milliseconds. */
static long try_hear(char **a)
{
	struct pollfd p = { .fd = (int)number(a[0]), .events = POLLIN };
	int r = poll(&p, 1, (int)number(a[1]));

	if (r > 0 && read(p.fd, scratch, sizeof(scratch)) > 0)
		return 0;
	return r == 0 ? -ETIMEDOUT : -errno;
}

/* ---- everything else ---------------------------------------------------------------------------------------------- */

static long try_raw(char **a)
{
	return err(
		syscall(number(a[0]), number(a[1]), number(a[2]), number(a[3]), number(a[4]), number(a[5]), number(a[6])));
}

/* A call through the 32-bit gate: numbers mean other things there, so a filter that knows only ours is blind. */
static long try_int80(char **a)
{
	long r;

	__asm__ volatile("int $0x80"
			 : "=a"(r)
			 : "a"(number(a[0])), "b"(0L), "c"(0L), "d"(0L)
			 : "memory", "r8", "r9", "r10", "r11");
	return r < 0 ? r : 0;
}

static long try_x32(char **a)
{
	return err(syscall(0x40000000 | number(a[0]), 0, 0, 0, 0, 0, 0));
}

static long try_rlimit(char **a)
{
	struct rlimit limit = { (rlim_t)number(a[1]), (rlim_t)number(a[1]) };

	return err(syscall(SYS_prlimit64, 0, number(a[0]), &limit, NULL));
}

static long try_wx(char **a)
{
	(void)a;
	return mmap(NULL, 4096, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) == MAP_FAILED
		       ? -errno
		       : 0;
}

/* Every descriptor from 0 to 1023, and what it is. */
static long try_fds(char **a)
{
	char line[256];

	(void)a;
	for (int fd = 0; fd < 1024; fd++) {
		struct stat st;

		if (fstat(fd, &st) < 0)
			continue;
		snprintf(line, sizeof(line),
			 "{\"fd\":%d,\"mode\":%u,\"dev\":%lu,\"ino\":%lu,\"rdev\":%lu,\"flags\":%d,\"cloexec\":%d}\n", fd,
			 st.st_mode, (unsigned long)st.st_dev, (unsigned long)st.st_ino, (unsigned long)st.st_rdev,
			 fcntl(fd, F_GETFL), fcntl(fd, F_GETFD));
		say(line);
	}
	return 0;
}

static long try_clock(char **a)
{
	struct timespec t;
	char line[64];

	(void)a;
	clock_gettime(CLOCK_MONOTONIC, &t);
	snprintf(line, sizeof(line), "{\"clock\":%lld}\n", (long long)t.tv_sec * 1000000000 + t.tv_nsec);
	say(line);
	return 0;
}

/* Kilobytes of log, as fast as they are taken. */
static long try_flood(char **a)
{
	memset(scratch, 'x', 1023);
	scratch[1023] = '\n';
	scratch[1024] = '\0';
	for (long i = 0; i < number(a[0]); i++)
		say(scratch);
	return 0;
}

/* Nonsense on the control channel: the controller must survive its VMM. */
static long try_babble(char **a)
{
	memset(scratch, '{', (size_t)number(a[0]));
	return err(write(3, scratch, (size_t)number(a[0])));
}

/* Stay until the controller hangs up. */
static long try_hold(char **a)
{
	(void)a;
	while (read(3, scratch, sizeof(scratch)) > 0)
		;
	return 0;
}

static long try_exit(char **a)
{
	_exit((int)number(a[0]));
}

static const struct attack {
	const char *name;
	long (*run)(char **args);
} attacks[] = {
	{ "open", try_open },
	{ "write", try_write },
	{ "reopen", try_reopen },
	{ "mmapwrite", try_mmap_write },
	{ "mkdir", try_mkdir },
	{ "mknod", try_mknod },
	{ "chmod", try_chmod },
	{ "fchmod", try_fchmod },
	{ "chown", try_chown },
	{ "symlink", try_symlink },
	{ "link", try_link },
	{ "unlink", try_unlink },
	{ "rename", try_rename },
	{ "chdir", try_chdir },
	{ "chroot", try_chroot },
	{ "setxattr", try_setxattr },
	{ "mount", try_mount },
	{ "bind", try_bind },
	{ "remount", try_remount },
	{ "umount", try_umount },
	{ "pivot", try_pivot },
	{ "fsopen", try_fsopen },
	{ "opentree", try_opentree },
	{ "handle", try_handle },
	{ "exec", try_exec },
	{ "execrun", try_exec_run },
	{ "execmemfd", try_exec_memfd },
	{ "fork", try_fork },
	{ "clone", try_clone },
	{ "clone3", try_clone3 },
	{ "unshare", try_unshare },
	{ "kill", try_kill },
	{ "tgkill", try_tgkill },
	{ "ptrace", try_ptrace },
	{ "pidfd", try_pidfd },
	{ "getfd", try_getfd },
	{ "setns", try_setns },
	{ "readv", try_readv },
	{ "socket", try_socket },
	{ "connect", try_connect },
	{ "listen", try_listen },
	{ "ioctl", try_ioctl },
	{ "ioctl64", try_ioctl64 },
	{ "kvm", try_kvm },
	{ "ifreq", try_ifreq },
	{ "frame", try_frame },
	{ "hear", try_hear },
	{ "raw", try_raw },
	{ "int80", try_int80 },
	{ "x32", try_x32 },
	{ "rlimit", try_rlimit },
	{ "wx", try_wx },
	{ "fds", try_fds },
	{ "clock", try_clock },
	{ "flood", try_flood },
	{ "babble", try_babble },
	{ "eat", try_eat },
	{ "threads", try_threads },
	{ "hold", try_hold },
	{ "exit", try_exit },
};

/* The errnos a filter, a namespace or a missing file give; others as numbers. */
static const char *errno_name(long r)
{
	static char other[32];
	const char *name = strerrorname_np((int)-r);

	if (r == 0)
		return "OK";
	if (name != NULL)
		return name;
	snprintf(other, sizeof(other), "%ld", -r);
	return other;
}

static void attempt(const char *word)
{
	static char empty[1] = "";
	char copy[512], line[1200], *args[ARGS_MAX], *save = NULL, *name, *next;
	long result = -ENOTSUP;

	snprintf(line, sizeof(line), "{\"try\":\"%s\"}\n", word);
	say(line);
	snprintf(copy, sizeof(copy), "%s", word);
	name = strtok_r(copy, ":", &save);
	for (size_t i = 0; i < ARGS_MAX; i++) {
		next = strtok_r(NULL, ":", &save);
		args[i] = next != NULL ? next : empty;
	}
	for (size_t i = 0; name != NULL && i < sizeof(attacks) / sizeof(attacks[0]); i++)
		if (strcmp(name, attacks[i].name) == 0)
			result = attacks[i].run(args);
	snprintf(line, sizeof(line), "{\"did\":\"%s\",\"r\":\"%s\"}\n", word, errno_name(result));
	say(line);
}

int main(int argc, char **argv)
{
	/* Not for a shell: outside a sandbox some of this would really happen. */
	if (getauxval(AT_UID) < FIRST_TEST_UID || getauxval(AT_UID) > LAST_TEST_UID)
		return 99;
	for (int i = 1; i < argc; i++)
		attempt(argv[i]);
	say("{\"end\":1}\n");
	return 0;
}
