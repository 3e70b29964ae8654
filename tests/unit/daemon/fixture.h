/* SPDX-License-Identifier: Apache-2.0
 * Runs: tests. A broker in this process, with socket pairs in place of clients and spawner. */
#pragma once

#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
/* cmocka.h wants the four above before it */
#include <cmocka.h>

#include "broker/daemon/server.h"

#define FIRST_UID 0x70000000u
#define UID_COUNT 4096u
#define LEASES 8u

struct fixture {
	struct server server;
	struct policy policy;
	struct host_table host;
	struct label_pool labels;
	char dir[64];
	int dirfd;
	int spawner;       /* the spawner's end; -1 when it is dead */
	struct wire_in in; /* what fixture_recv() got */
};

/* A policy and host with everything, then a broker whose spawner has said hello. */
void fixture_open(struct fixture *fx);
void fixture_prepare(struct fixture *fx); /* the first half: policy, host, runtime directory */
void fixture_start(struct fixture *fx);   /* the second half: a broker; may be called again after fixture_stop() */
void fixture_stop(struct fixture *fx);    /* as if the broker were killed: descriptors close, the file stays */
void fixture_close(struct fixture *fx);

void fixture_run(struct fixture *fx);               /* step until nothing is left to do */
void fixture_wait(struct fixture *fx, unsigned ms); /* step for so long */

/* The spawner's side. */
void spawner_welcome(struct fixture *fx, uint32_t count);
int spawner_recv(struct fixture *fx, enum wire_op op); /* 1: fx->in is that message; 0: nothing there */
void spawner_send(struct fixture *fx, enum wire_op op, const void *msg, const int *fds, size_t fd_count);
/* Passed where the broker only passes on; valgrind knows no pidfd_open(). */
int stand_in_pidfd(void);
void spawner_started(struct fixture *fx, struct wire_lease *lease); /* with its two descriptors */
void spawner_die(struct fixture *fx);

/* A client's side. */
int client_dial(const struct fixture *fx); /* in the queue of the socket only */
int client_connect(struct fixture *fx);    /* not greeted yet */
int client_open(struct fixture *fx);       /* greeted */
void client_send(int fd, enum wire_op op, const void *msg, const int *fds, size_t fd_count);
bool client_closed(int fd); /* the broker ended the session */
/* Step, then receive: WIRE_REPLY or WIRE_ERROR in fx->in (whose descriptors the caller closes); fails the test otherwise. */
enum wire_kind client_recv(struct fixture *fx, int fd, enum wire_op op);
enum wire_error_code client_error(struct fixture *fx, int fd, enum wire_op op); /* WIRE_ERR_OK for a reply */

struct wire_acquire acquire_mock(uint8_t number); /* uuid = 16 times number */
/* Ask for a sandbox; the control end that stays with the client. The spawner has not seen it yet. */
int client_acquire(struct fixture *fx, int fd, const struct wire_acquire *ask);
/* All of it: ask, start, answer. Returns the lease's record; closes pidfd and control ends. */
struct wire_lease lease_started(struct fixture *fx, int fd, uint8_t number);

struct lease *only_lease(struct fixture *fx);
size_t open_fds(void);
void set_session_uid(struct fixture *fx, uid_t uid); /* of every session there is */
