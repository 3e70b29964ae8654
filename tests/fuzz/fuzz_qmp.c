/* SPDX-License-Identifier: Apache-2.0
 * Runs: test (the user). Any bytes as what a VMM says. The peer says one line, waits a moment for a command, says the next:
 * so replies can be the right ones at the right time. The client must come back from all of it. */
#include <poll.h>
#include <pthread.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "launcher/hypervisor/qmp_vm.h"

#define PAUSE_MS 1
#define DEADLINE_MS 20

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct peer {
	int fd;
	const uint8_t *data, *end;
};

static void *play(void *arg)
{
	const struct peer *peer = arg;
	const uint8_t *data = peer->data;

	while (data < peer->end) {
		const uint8_t *stop = memchr(data, '\n', (size_t)(peer->end - data));
		struct pollfd pfd = { .fd = peer->fd, .events = POLLIN };
		char heard[4096];

		stop = stop != NULL ? stop + 1 : peer->end;
		if (send(peer->fd, data, (size_t)(stop - data), MSG_NOSIGNAL) < 0)
			break;
		if (poll(&pfd, 1, PAUSE_MS) > 0 && recv(peer->fd, heard, sizeof(heard), 0) <= 0)
			break;
		data = stop;
	}
	(void)shutdown(peer->fd, SHUT_WR);
	return NULL;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct peer peer = { .data = data, .end = data + size };
	struct driver_vm *vm;
	pthread_t thread;
	int pair[2], r;

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0)
		abort();
	peer.fd = pair[1];
	vm = qmp_vm_attach(pair[0]);
	if (vm == NULL || pthread_create(&thread, NULL, play, &peer) != 0)
		abort();
	r = qmp_vm_ready(vm, DEADLINE_MS);
	/* What ready() promises: nothing but a held guest. */
	if (r == 0 && qmp_vm_state(vm) != DRIVER_HELD)
		abort();
	if (r == 0)
		(void)qmp_vm_resume(vm, DEADLINE_MS);
	if (r == 0)
		(void)qmp_vm_pause(vm, DEADLINE_MS);
	for (r = 0; r == 0;)
		r = qmp_vm_dispatch(vm);
	if (qmp_vm_state(vm) == DRIVER_STARTING && qmp_vm_trouble(vm)[0] == '\0')
		abort();
	qmp_vm_detach(vm);
	(void)pthread_join(thread, NULL);
	(void)close(pair[1]);
	return 0;
}
