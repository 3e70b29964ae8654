/* SPDX-License-Identifier: Apache-2.0
 * Runs: controller (the user). */
#include "guest.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "launcher/net/passt.h"

#define OOM_WAIT_MS 3000 /* taps take 15 ms each to delete, one after the other on the whole host */
#define OOM_PAUSE_MS 20
#define GUEST_END_MS 5000 /* a killed sandbox has gone by then: PID 1 of its pid namespace is dead */

void guest_init(struct guest *guest)
{
	*guest = (struct guest){ .pidfd = -1, .init = -1, .console = -1, .log = -1 };
	guest->phase = (struct wire_session){ .link = LINK_CONTROL, .peer = FROM_INIT, .phase = PHASE_NEW };
}

struct receipt *guest_receipt(const struct guest *guest, const struct wire_facts *facts)
{
	struct receipt *receipt = calloc(1, sizeof(*receipt));
	struct timespec now;

	if (receipt == NULL)
		return NULL;
	receipt->lease = guest->lease;
	receipt->facts = *facts;
	(void)clock_gettime(CLOCK_REALTIME, &now);
	receipt->taken_ns = (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
	(void)snprintf(receipt->accel, sizeof(receipt->accel), "%s: %s",
		       guest->kvm               ? "kvm"
		       : guest->driver->can.tcg ? "tcg"
						: "none",
		       guest->accel_reason != NULL ? guest->accel_reason : "");
	if (receipt_outside(&receipt->lease, &receipt->init, &receipt->vmm) < 0) {
		free(receipt);
		return NULL;
	}
	receipt_check(receipt, guest->plan, getpid());
	return receipt;
}

int guest_stop(const struct guest *guest, uint32_t grace_ms)
{
	const struct wire_stop stop = { .grace_ms = grace_ms };

	return guest->init < 0 ? -ENOTCONN : wire_send(guest->init, WIRE_OP_C_STOP, WIRE_REQUEST, 0, &stop, NULL, 0);
}

int guest_kill(const struct guest *guest, struct failure *failure)
{
	struct broker_failure why = { 0 };
	struct broker *broker = NULL;
	int r = broker_connect(guest->socket, &broker, &why);

	if (r == 0)
		r = broker_kill(broker, guest->lease.uuid, &why);
	broker_close(broker);
	return r == 0 ? 0 : fail(failure, r, why.exit_status, "%s", why.text);
}

uint8_t guest_oom(const struct guest *guest)
{
	struct wire_ended ended = { .oom = WIRE_OOM_NONE };
	const struct timespec pause = { .tv_nsec = OOM_PAUSE_MS * 1000000L };
	struct broker_failure why = { 0 };
	struct broker *broker = NULL;
	int r = broker_connect(guest->socket, &broker, &why);

	for (int waited = 0; r == 0 && waited < OOM_WAIT_MS; waited += OOM_PAUSE_MS) {
		r = broker_ended(broker, guest->lease.uuid, &ended, &why);
		if (r != -ENOENT)
			break;
		r = 0;
		(void)nanosleep(&pause, NULL);
	}
	broker_close(broker);
	return ended.oom;
}

void guest_oom_text(const struct guest *guest, uint8_t oom, char *out, size_t size)
{
	if (oom == WIRE_OOM_HOST)
		(void)snprintf(out, size, "killed: the host ran out of memory; have fewer or smaller guests on it");
	else
		(void)snprintf(out, size,
			       "killed: out of memory (limit %u MiB): raise limits.memory, or have "
			       "limits.overhead_mib raised in the policy",
			       guest->lease.limits[0].memory_mib);
}

void guest_done(struct guest *guest)
{
	struct failure ignored;

	if (guest->pidfd >= 0) {
		struct pollfd pidfd = { .fd = guest->pidfd, .events = POLLIN };

		/* By both ways: one of them may be gone, and a survivor does not mind the hang-up. */
		if (poll(&pidfd, 1, 0) == 0) {
			(void)guest_stop(guest, 0);
			(void)guest_kill(guest, &ignored);
			(void)poll(&pidfd, 1, GUEST_END_MS);
		}
	}
	if (guest->driver != NULL)
		guest->driver->detach(guest->vm);
	fd_close(&guest->init);
	fd_close(&guest->console);
	fd_close(&guest->log);
	fd_close(&guest->pidfd);
	passt_stop(guest->passt);
	plan_free(guest->plan);
	free(guest->receipt);
	spec_free(guest->spec);
	guest_init(guest);
}
