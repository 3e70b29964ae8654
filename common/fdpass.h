/* SPDX-License-Identifier: Apache-2.0
 * Runs: every process. Datagrams with descriptors over unix sockets, counts exact, nothing lost, nothing kept. */
#pragma once

#include <stddef.h>
#include <sys/types.h>

/* Send len bytes (not 0: that would look like a hang-up) as one message with fds. Descriptors stay the caller's.
 * -EAGAIN rather than blocking, -EPIPE rather than SIGPIPE. */
int fdpass_send(int sock, const void *buf, size_t len, const int *fds, size_t fd_count);

/* Receive one message of at most size bytes and at most max descriptors, all close-on-exec.
 * Returns its length, 0 when the peer closed, -errno. -EMSGSIZE: longer than size, or more than max descriptors, or
 * control data was cut (MSG_CTRUNC), or a kind of control message we did not ask for; whatever descriptors came are
 * closed then. Outputs are touched only on success. */
ssize_t fdpass_recv(int sock, void *buf, size_t size, int *fds, size_t max, size_t *ret_count);

/* The same, but -EAGAIN rather than blocking, even if the socket is a blocking one: what is shared with another process
 * may be read by that one between our poll() and our call, and made blocking by it at any time. */
ssize_t fdpass_recv_now(int sock, void *buf, size_t size, int *fds, size_t max, size_t *ret_count);
