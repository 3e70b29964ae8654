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
