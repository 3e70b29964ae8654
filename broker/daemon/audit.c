/* SPDX-License-Identifier: Apache-2.0
 * Runs: broker (no privilege). One line for each decision, on stderr (the journal's, under systemd).
 *
 * key=value pairs separated by single spaces; no value has a space. Nothing a client wrote is in it but uuids (as
 * hexadecimal) and names that the decoder let through ([a-z0-9._-]). All but granted sandboxes is rationed for each user,
 * so that nobody can fill the log or drown another user's lines; what was left out is counted on the next line
 * (suppressed=N). */
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "common/log.h"
#include "server.h"

#define UUID_TEXT 37
#define NETWORKS_TEXT (WIRE_NICS_MAX * 33 + 1)

/* Seconds since 1970: a calendar would need the zone files, which the broker may not open. */
static void now_text(char *out, size_t size)
{
	struct timespec ts;

	(void)clock_gettime(CLOCK_REALTIME, &ts);
	(void)snprintf(out, size, "%lld.%03ld", (long long)ts.tv_sec, ts.tv_nsec / 1000000);
}

static void uuid_text(const uint8_t uuid[16], char out[UUID_TEXT])
{
	static const char digits[] = "0123456789abcdef";
	size_t n = 0;

	for (size_t i = 0; i < 16; i++) {
		if (i == 4 || i == 6 || i == 8 || i == 10)
			out[n++] = '-';
		out[n++] = digits[uuid[i] >> 4];
		out[n++] = digits[uuid[i] & 15];
	}
	out[n] = '\0';
}

static void networks_text(const struct wire_lease *record, char *out, size_t size)
{
	size_t n = 0;

	out[0] = '\0';
	for (size_t i = 0; i < record->nic_count && n < size; i++)
		n += (size_t)snprintf(out + n, size - n, "%s%s", i > 0 ? "," : "", record->nics[i].network);
}

static const char *or_dash(const char *text)
{
	return text[0] != '\0' ? text : "-";
}

void audit_decision(const struct session *session, enum wire_op op, enum wire_error_code code, const char *object,
		    const struct wire_lease *record, const uint8_t uuid[16])
{
	char when[32], id[UUID_TEXT], networks[NETWORKS_TEXT] = "";
	uint32_t suppressed = 0;

	/* A sandbox that was granted is bounded by quotas, so it is always told; all else can be repeated at will. */
	if ((code != WIRE_ERR_OK || op != WIRE_OP_ACQUIRE) && !account_may_log(session->account, now_ns(), &suppressed))
		return;
	now_text(when, sizeof(when));
	uuid_text(uuid, id);
	if (record != NULL)
		networks_text(record, networks, sizeof(networks));
	log_notice("audit time=%s op=%s uid=%u pid=%d sandbox=%s lease=%llu x=%u hypervisor=%s networks=%s verdict=%s "
		   "object=%s "
		   "suppressed=%u",
		   when, wire_op_name(op), session->uid, session->pid, id,
		   record != NULL ? (unsigned long long)record->id : 0, record != NULL ? record->uid : 0,
		   record != NULL ? or_dash(record->hypervisor) : "-", or_dash(networks), wire_error_name(code),
		   or_dash(object), suppressed);
}

void audit_violation(struct server *server, struct account *account, uid_t uid, pid_t pid, const char *why)
{
	uint32_t suppressed = 0;
	char when[32];

	if (!account_may_log(account != NULL ? account : &server->accounts->all, now_ns(), &suppressed))
		return;
	now_text(when, sizeof(when));
	log_warn("audit time=%s op=SESSION uid=%u pid=%d verdict=ENDED suppressed=%u reason=\"%s\"", when, uid, pid,
		 suppressed, why);
}

void audit_lease(const char *event, const struct wire_lease *record, const char *detail)
{
	char when[32], id[UUID_TEXT];

	now_text(when, sizeof(when));
	uuid_text(record->uuid, id);
	log_notice("audit time=%s op=%s uid=%u sandbox=%s lease=%llu x=%u detail=\"%s\"", when, event, record->owner, id,
		   (unsigned long long)record->id, record->uid, detail);
}
