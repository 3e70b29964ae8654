/* SPDX-License-Identifier: Apache-2.0
 * Runs: inside a test guest (its root), and as tests in the host of one. Speaks on vsock, which busybox does not.
 *
 *   vsock cid                  print this side's context id
 *   vsock serve PORT           for ever: answer "echo TEXT" with "CID TEXT", CID being the caller's, and "run COMMAND" with
 *                              what the command writes and its status
 *   vsock say CID PORT TEXT    connect, send TEXT, print the answer
 *   vsock queues NIC COUNT     let a NIC use this many queue pairs, which busybox cannot either: Linux uses no more than
 *                              there are processors unless it is asked
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/ethtool.h>
#include <linux/sockios.h>
#include <linux/vm_sockets.h>
#include <net/if.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

#define TEXT_MAX 512
#define ANSWER_MAX 4096
#define PATIENCE_S 30

static int fail(const char *what)
{
	fprintf(stderr, "vsock: %s: %s\n", what, strerror(errno));
	return EXIT_FAILURE;
}

static int show_cid(void)
{
	unsigned int cid = 0;
	int fd = open("/dev/vsock", O_RDONLY | O_CLOEXEC);

	if (fd < 0 || ioctl(fd, IOCTL_VM_SOCKETS_GET_LOCAL_CID, &cid) < 0)
		return fail("/dev/vsock");
	printf("%u\n", cid);
	return EXIT_SUCCESS;
}

/* Everything the command says, however little the caller reads of it. */
static size_t run(const char *command, char *answer, size_t size)
{
	FILE *output = popen(command, "re");
	size_t used;
	int status;

	if (output == NULL)
		return 0;
	used = fread(answer, 1, size - 32, output);
	while (fgetc(output) != EOF)
		;
	status = pclose(output);
	return used + (size_t)snprintf(answer + used, 32, "status %d", WEXITSTATUS(status));
}

static void answer(int fd, unsigned int cid)
{
	static char text[TEXT_MAX + 1], reply[ANSWER_MAX];
	ssize_t n = read(fd, text, TEXT_MAX);
	size_t used = 0;

	text[n > 0 ? n : 0] = '\0';
	if (strncmp(text, "run ", 4) == 0)
		used = run(text + 4, reply, sizeof(reply));
	else if (strncmp(text, "echo ", 5) == 0)
		used = (size_t)snprintf(reply, sizeof(reply), "%u %s", cid, text + 5);
	if (write(fd, reply, used) < 0)
		(void)fail("answer");
}

static int serve(unsigned int port)
{
	struct sockaddr_vm address = { .svm_family = AF_VSOCK, .svm_cid = VMADDR_CID_ANY, .svm_port = port };
	int s = socket(AF_VSOCK, SOCK_STREAM | SOCK_CLOEXEC, 0);

	(void)signal(SIGPIPE, SIG_IGN);
	if (s < 0 || bind(s, (struct sockaddr *)&address, sizeof(address)) < 0 || listen(s, 8) < 0)
		return fail("listen");
	for (;;) {
		struct sockaddr_vm peer = { 0 };
		socklen_t len = sizeof(peer);
		int fd = accept4(s, (struct sockaddr *)&peer, &len, SOCK_CLOEXEC);

		if (fd < 0)
			continue;
		answer(fd, peer.svm_cid);
		(void)close(fd);
	}
}

static int say(unsigned int cid, unsigned int port, const char *text)
{
	struct sockaddr_vm address = { .svm_family = AF_VSOCK, .svm_cid = cid, .svm_port = port };
	const struct timeval patience = { .tv_sec = PATIENCE_S };
	static char reply[ANSWER_MAX + 1];
	size_t used = 0;
	int s = socket(AF_VSOCK, SOCK_STREAM | SOCK_CLOEXEC, 0);
	ssize_t n;

	if (s < 0 || setsockopt(s, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience)) < 0 ||
	    connect(s, (struct sockaddr *)&address, sizeof(address)) < 0)
		return fail("connect");
	if (write(s, text, strlen(text)) < 0)
		return fail("send");
	while ((n = read(s, reply + used, ANSWER_MAX - used)) > 0)
		used += (size_t)n;
	if (n < 0)
		return fail("answer");
	reply[used] = '\0';
	puts(reply);
	return EXIT_SUCCESS;
}

static int set_queues(const char *nic, unsigned int count)
{
	struct ethtool_channels channels = { .cmd = ETHTOOL_SCHANNELS, .combined_count = count };
	struct ifreq request = { .ifr_data = (char *)&channels };
	int s = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);

	(void)snprintf(request.ifr_name, sizeof(request.ifr_name), "%s", nic);
	return s < 0 || ioctl(s, SIOCETHTOOL, &request) < 0 ? fail("queues") : EXIT_SUCCESS;
}

static unsigned int number(const char *text)
{
	return (unsigned int)strtoul(text, NULL, 10);
}

int main(int argc, char **argv)
{
	if (argc == 2 && strcmp(argv[1], "cid") == 0)
		return show_cid();
	if (argc == 3 && strcmp(argv[1], "serve") == 0)
		return serve(number(argv[2]));
	if (argc == 5 && strcmp(argv[1], "say") == 0)
		return say(number(argv[2]), number(argv[3]), argv[4]);
	if (argc == 4 && strcmp(argv[1], "queues") == 0)
		return set_queues(argv[2], number(argv[3]));
	fputs("usage: vsock cid | serve PORT | say CID PORT TEXT | queues NIC COUNT\n", stderr);
	return 2;
}
