/* SPDX-License-Identifier: Apache-2.0
 * Runs: inside a sandbox (uid X, nothing else). postern-mock-vmm: speaks as much QMP as a VMM must, has no guest.
 *
 * Static and without libraries, so that it starts in no time and its system calls are few: poll, recv, send, read, write,
 * openat, close, fstat, fcntl, exit; and for `self` those that ask who it is. Words of --append change what it does:
 *   ignore-powerdown   system_powerdown is acknowledged and nothing more
 *   crash              GUEST_PANICKED as soon as it runs
 *   exit=N             exits with N as soon as it runs
 *   eat=N              takes N MiB of memory as soon as it runs, or as much of it as it gets */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/slots.h"
#include "config.h"
#include "self.h"

#define LINE_MAX_BYTES 4096u
#define CONSOLE_CHUNK 512u
#define SEND_PATIENCE_MS 1000

struct vmm {
	const char *append;
	const char *status; /* as query-status calls it */
	bool console;       /* it is there */
	char line[LINE_MAX_BYTES];
	size_t filled;
};

static void __attribute__((noreturn, format(printf, 1, 2))) give_up(const char *format, ...)
{
	va_list args;

	va_start(args, format);
	(void)dprintf(2, "postern-mock-vmm: ");
	(void)vdprintf(2, format, args);
	(void)dprintf(2, "\n");
	va_end(args);
	exit(1);
}

/* Whole or not at all: a peer that does not read for a second is none. */
static void send_text(int fd, const char *text, size_t len)
{
	while (len > 0) {
		struct pollfd pfd = { .fd = fd, .events = POLLOUT };
		ssize_t n = send(fd, text, len, MSG_NOSIGNAL | MSG_DONTWAIT);

		if (n < 0 && errno == EAGAIN && poll(&pfd, 1, SEND_PATIENCE_MS) > 0)
			continue;
		if (n < 0)
			return;
		text += n;
		len -= (size_t)n;
	}
}

static void __attribute__((format(printf, 1, 2))) control(const char *format, ...)
{
	char text[1024];
	va_list args;
	int len;

	va_start(args, format);
	len = vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	if (len > 0 && (size_t)len < sizeof(text))
		send_text(SLOT_CONTROL, text, (size_t)len);
}

static void event(const char *name, const char *data)
{
	control("{\"timestamp\":{\"seconds\":0,\"microseconds\":0},\"event\":\"%s\",\"data\":{%s}}\r\n", name, data);
}

static void console(const struct vmm *vmm, const char *text)
{
	if (vmm->console)
		send_text(SLOT_CONSOLE, text, strlen(text));
}

/* ---- commands ---------------------------------------------------------------------------------------------------- */

static bool told(const struct vmm *vmm, const char *word)
{
	return vmm->append != NULL && strstr(vmm->append, word) != NULL;
}

/* One MiB after the other, written to: what is only mapped is not there. */
static void eat(unsigned long mib)
{
	for (unsigned long i = 0; i < mib; i++) {
		void *p = mmap(NULL, 1 << 20, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

		if (p == MAP_FAILED)
			return;
		memset(p, 1, 1 << 20);
	}
}

static void run(struct vmm *vmm)
{
	const char *status = vmm->append != NULL ? strstr(vmm->append, "exit=") : NULL;
	const char *memory = vmm->append != NULL ? strstr(vmm->append, "eat=") : NULL;

	vmm->status = "running";
	event("RESUME", "");
	console(vmm, "postern mock VMM: running\r\n");
	if (told(vmm, "crash")) {
		vmm->status = "guest-panicked";
		event("GUEST_PANICKED", "\"action\":\"pause\"");
		event("STOP", "");
	}
	if (memory != NULL)
		eat(strtoul(memory + strlen("eat="), NULL, 10));
	if (status != NULL)
		exit((int)strtoul(status + strlen("exit="), NULL, 10) & 0xff);
}

/* Returns false when nothing more is to be said: the reply was sent already. */
static bool act(struct vmm *vmm, const char *command, unsigned long id)
{
	if (strcmp(command, "cont") == 0) {
		run(vmm);
	} else if (strcmp(command, "stop") == 0) {
		if (strcmp(vmm->status, "running") == 0) {
			vmm->status = "paused";
			event("STOP", "");
		}
	} else if (strcmp(command, "quit") == 0 || (strcmp(command, "system_powerdown") == 0 &&
						    strcmp(vmm->status, "running") == 0 && !told(vmm, "ignore-powerdown"))) {
		control("{\"return\":{},\"id\":%lu}\r\n", id);
		event("SHUTDOWN", command[0] == 'q' ? "\"guest\":false,\"reason\":\"host-qmp-quit\""
						    : "\"guest\":true,\"reason\":\"guest-shutdown\"");
		exit(0);
	} else if (strcmp(command, "query-status") == 0) {
		control("{\"return\":{\"status\":\"%s\",\"singlestep\":false,\"running\":%s},\"id\":%lu}\r\n", vmm->status,
			strcmp(vmm->status, "running") == 0 ? "true" : "false", id);
		return false;
	} else if (strcmp(command, "query-version") == 0) {
		control("{\"return\":{\"package\":\"postern-mock-vmm\",\"version\":\"%s\"},\"id\":%lu}\r\n", POSTERN_VERSION,
			id);
		return false;
	} else if (strcmp(command, "self") == 0) {
		size_t len;
		const char *text = self_report(id, &len);

		send_text(SLOT_CONTROL, text, len);
		return false;
	} else if (strcmp(command, "qmp_capabilities") != 0 && strcmp(command, "system_powerdown") != 0) {
		control("{\"error\":{\"class\":\"CommandNotFound\",\"desc\":\"there is no such command\"},\"id\":%lu}\r\n",
			id);
		return false;
	}
	return true;
}

/* The value behind "key": in a line of the form our client writes. */
static const char *value_of(const char *line, const char *key)
{
	const char *p = strstr(line, key);

	if (p == NULL)
		return NULL;
	p += strlen(key);
	p += strspn(p, " \t");
	return *p == ':' ? p + 1 + strspn(p + 1, " \t") : NULL;
}

static void handle_line(struct vmm *vmm, const char *line)
{
	const char *value = value_of(line, "\"execute\""), *number = value_of(line, "\"id\"");
	unsigned long id = number != NULL ? strtoul(number, NULL, 10) : 0;
	char command[32];
	size_t len;

	if (value == NULL || *value != '"' || (len = strcspn(value + 1, "\"")) >= sizeof(command)) {
		control("{\"error\":{\"class\":\"GenericError\",\"desc\":\"not a command\"}}\r\n");
		return;
	}
	memcpy(command, value + 1, len);
	command[len] = '\0';
	if (act(vmm, command, id))
		control("{\"return\":{},\"id\":%lu}\r\n", id);
}

/* ---- input ------------------------------------------------------------------------------------------------------- */

static void read_control(struct vmm *vmm)
{
	ssize_t n = recv(SLOT_CONTROL, vmm->line + vmm->filled, sizeof(vmm->line) - 1 - vmm->filled, MSG_DONTWAIT);
	char *end;

	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	/* Nobody is left to say what to do. QEMU would go on; a test program that did would be forgotten. */
	if (n <= 0)
		exit(0);
	vmm->filled += (size_t)n;
	vmm->line[vmm->filled] = '\0';
	while ((end = memchr(vmm->line, '\n', vmm->filled)) != NULL) {
		size_t used = (size_t)(end - vmm->line) + 1;

		*end = '\0';
		handle_line(vmm, vmm->line);
		vmm->filled -= used;
		memmove(vmm->line, vmm->line + used, vmm->filled);
		vmm->line[vmm->filled] = '\0';
	}
	if (vmm->filled == sizeof(vmm->line) - 1)
		give_up("a command is longer than %u bytes", LINE_MAX_BYTES);
}

static void read_console(struct vmm *vmm)
{
	char text[CONSOLE_CHUNK];
	ssize_t n = recv(SLOT_CONSOLE, text, sizeof(text), MSG_DONTWAIT);

	if (n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR))
		vmm->console = false;
	else if (n > 0 && strcmp(vmm->status, "running") == 0)
		send_text(SLOT_CONSOLE, text, (size_t)n);
}

/* ---- arguments --------------------------------------------------------------------------------------------------- */

static unsigned long number(const char *word, const char *text, unsigned long max)
{
	char *end;
	unsigned long value;

	errno = 0;
	value = strtoul(text, &end, 10);
	if (*text < '0' || *text > '9' || *end != '\0' || errno != 0 || value > max)
		give_up("%s: not a number up to %lu", word, max);
	return value;
}

/* What was promised must be there: that is what this program is for. */
static void check_fd(const char *word, unsigned long fd)
{
	if (fcntl((int)fd, F_GETFD) < 0)
		give_up("%s: descriptor %lu is not open", word, fd);
}

static void check_file(const char *word, const char *path)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);

	if (fd < 0)
		give_up("%s: %s", word, strerror(errno));
	(void)close(fd);
}

static void read_argument(struct vmm *vmm, const char *word)
{
	const char *value = strchr(word, '=');
	size_t len;

	if (value == NULL)
		give_up("%s: unknown argument", word);
	len = (size_t)(++value - word);
	if (strncmp(word, "--memory=", len) == 0)
		(void)number(word, value, WIRE_MEMORY_MAX);
	else if (strncmp(word, "--vcpus=", len) == 0)
		(void)number(word, value, WIRE_VCPUS_MAX);
	else if (strncmp(word, "--kernel=", len) == 0 || strncmp(word, "--initrd=", len) == 0)
		check_file(word, value);
	else if (strncmp(word, "--disk=", len) == 0)
		check_fd(word, number(word, value, SLOT_END));
	else if (strncmp(word, "--taps=", len) == 0)
		for (unsigned long i = number(word, value, WIRE_TAP_FDS_MAX); i > 0; i--)
			check_fd(word, SLOT_TAP + i - 1);
	else if (strncmp(word, "--vhosts=", len) == 0)
		for (unsigned long i = number(word, value, WIRE_TAP_FDS_MAX); i > 0; i--)
			check_fd(word, SLOT_VHOST + i - 1);
	else if (strncmp(word, "--append=", len) == 0)
		vmm->append = value;
	else
		give_up("%s: unknown argument", word);
}

int main(int argc, char **argv)
{
	static struct vmm vmm = { .status = "prelaunch", .console = true };

	if (argc == 2 && strcmp(argv[1], "--version") == 0)
		return printf("postern-mock-vmm version %s\n", POSTERN_VERSION) < 0;
	for (int i = 1; i < argc; i++)
		read_argument(&vmm, argv[i]);
	check_fd("control channel", SLOT_CONTROL);
	vmm.console = fcntl(SLOT_CONSOLE, F_GETFD) >= 0;
	control("{\"QMP\":{\"version\":{\"package\":\"postern-mock-vmm\"},\"capabilities\":[]}}\r\n");
	for (;;) {
		struct pollfd fds[] = { { .fd = SLOT_CONTROL, .events = POLLIN },
					{ .fd = vmm.console ? SLOT_CONSOLE : -1, .events = POLLIN } };

		if (poll(fds, 2, -1) < 0 && errno != EINTR)
			give_up("poll: %s", strerror(errno));
		if (fds[0].revents != 0)
			read_control(&vmm);
		if (fds[1].revents != 0)
			read_console(&vmm);
	}
}
