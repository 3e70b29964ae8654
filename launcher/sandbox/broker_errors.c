/* SPDX-License-Identifier: Apache-2.0
 * Runs: controller and CLI (the user). One row for every error code: which exit status, and one line that names what was
 * refused and what helps. */
#include "broker_errors.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "common/cleanup.h"

/* %o object, %n number, %w outcome text of number, %s step, %e errno text of number, %l limit of
 * number, if there is one, and what to do */
struct text {
	enum postern_exit exit_status;
	const char *line;
};

#define ADMIN "; ask the administrator"
#define LOG "; see the broker's log (journalctl -u postern-broker, or its stderr)"

static const struct text texts[] = {
	[WIRE_ERR_OK] = { EXIT_FAILED, "the broker sent an error that says nothing went wrong" LOG },
	[WIRE_ERR_VERSION] = { EXIT_NO_BROKER,
			       "the broker speaks another version of the protocol: restart it after the upgrade" },
	[WIRE_ERR_NOT_ALLOWED] = { EXIT_DENIED,
				   "the policy has no rule for you: ask the administrator to add your user or one of "
				   "your groups to /etc/postern/policy.json" },
	[WIRE_ERR_HYPERVISOR_UNKNOWN] = { EXIT_DENIED,
					  "no hypervisor \"%o\" is registered in the policy: choose another with "
					  "--hypervisor" ADMIN " to register it" },
	[WIRE_ERR_HYPERVISOR_DENIED] = { EXIT_DENIED,
					 "the policy does not let you use the hypervisor \"%o\": choose another with "
					 "--hypervisor" ADMIN },
	[WIRE_ERR_NETWORK_UNKNOWN] = { EXIT_DENIED,
				       "no network \"%o\" is in the policy: choose another with --net" ADMIN " to add it" },
	[WIRE_ERR_NETWORK_DENIED] = { EXIT_DENIED, "the policy does not let you use the network \"%o\": choose another with "
						   "--net" ADMIN },
	[WIRE_ERR_KVM_DENIED] = { EXIT_DENIED, "the policy does not give you KVM: use --accel tcg" ADMIN },
	[WIRE_ERR_KVM_MISSING] = { EXIT_HOST, "KVM is required but %w: load the module or use --accel tcg" },
	[WIRE_ERR_VHOST_DENIED] = { EXIT_DENIED,
				    "the policy does not give you vhost-net on network \"%o\": do not require it" ADMIN },
	[WIRE_ERR_VHOST_MISSING] = { EXIT_HOST, "vhost-net is required for network \"%o\" but %w: load vhost_net or do not "
						"require it" },
	[WIRE_ERR_VSOCK_DENIED] = { EXIT_DENIED, "the policy does not give you vsock: do not ask for it" ADMIN },
	[WIRE_ERR_VSOCK_MISSING] = { EXIT_HOST, "vsock is required but %w: load vhost_vsock or do not require it" },
	[WIRE_ERR_LABEL_DENIED] = { EXIT_DENIED,
				    "the policy does not give you the label type \"%o\": leave label_type out" ADMIN },
	[WIRE_ERR_LABEL_MISSING] = { EXIT_HOST,
				     "an SELinux label is required but %w: turn SELinux on, or change \"required\" in "
				     "the policy" },
	[WIRE_ERR_CGROUP_MISSING] = { EXIT_HOST,
				      "a cgroup is required but %w: delegate one to the broker, or change \"required\" in "
				      "the policy" },
	[WIRE_ERR_LANDLOCK_MISSING] = { EXIT_HOST,
					"Landlock is required but %w: boot with lsm=...,landlock, or change \"required\" in "
					"the policy" },
	[WIRE_ERR_FILTER_MISSING] = { EXIT_HOST,
				      "network \"%o\" needs a port filter but %w: load cls_bpf, or change the policy" },
	[WIRE_ERR_QUOTA_SANDBOXES_USER] = { EXIT_QUOTA, "you may run no more sandboxes at a time than %n: stop one (postern "
							"ps) and try again" },
	[WIRE_ERR_QUOTA_SANDBOXES_ALL] = { EXIT_QUOTA,
					   "this host may run no more sandboxes at a time than %n: try again later" ADMIN },
	[WIRE_ERR_QUOTA_TAPS_USER] = { EXIT_QUOTA,
				       "you may have %n taps at a time: stop a sandbox (postern ps) or use fewer queues" },
	[WIRE_ERR_QUOTA_TAPS_ALL] = { EXIT_QUOTA, "this host may have %n taps at a time: try again later" ADMIN },
	[WIRE_ERR_QUOTA_VCPUS_USER] = { EXIT_QUOTA,
					"you may use %n vCPUs at a time: lower --vcpus or stop a sandbox (postern ps)" },
	[WIRE_ERR_QUOTA_VCPUS_ALL] = { EXIT_QUOTA,
				       "all sandboxes together may use %n vCPUs: lower --vcpus or try again later" },
	[WIRE_ERR_QUOTA_MEMORY_USER] = { EXIT_QUOTA,
					 "you may use %n MiB of guest memory at a time: lower --memory or stop a sandbox "
					 "(postern ps)" },
	[WIRE_ERR_QUOTA_MEMORY_ALL] = { EXIT_QUOTA,
					"all sandboxes together may use %n MiB of guest memory: lower --memory or try "
					"again later" },
	[WIRE_ERR_QUOTA_RATE] = { EXIT_QUOTA, "only %n launches a minute are allowed: try again in a minute" },
	[WIRE_ERR_IDS_EXHAUSTED] = { EXIT_QUOTA,
				     "no sandbox uid is free: try again later" ADMIN " to widen \"uids\" in the policy" },
	[WIRE_ERR_CIDS_EXHAUSTED] = { EXIT_QUOTA, "no vsock CID is free: try again later" },
	[WIRE_ERR_LABELS_EXHAUSTED] = { EXIT_QUOTA, "no pair of SELinux categories is free: try again later" },
	[WIRE_ERR_UUID_IN_USE] = { EXIT_FAILED, "a sandbox with this id is running already: choose another id" },
	[WIRE_ERR_NOT_FOUND] = { EXIT_NOT_FOUND, "the broker knows no such sandbox of yours: postern ps lists them" },
	[WIRE_ERR_SPAWNER_DOWN] = { EXIT_NO_BROKER, "the broker's spawner is not running: try again in a moment" LOG },
	[WIRE_ERR_STARTING] = { EXIT_NO_BROKER, "the broker or the sandbox is still starting: try again in a moment" },
	[WIRE_ERR_STOPPING] = { EXIT_NO_BROKER, "the broker or the sandbox is stopping: try again when it is up again" },
	[WIRE_ERR_TIMEOUT] = { EXIT_TIMEOUT,
			       "the launch took longer than the policy allows: try again on a quieter host" LOG },
	[WIRE_ERR_STEP_FAILED] = { EXIT_LAUNCH, "the launch failed: could not %s: %e" LOG },
	[WIRE_ERR_TAPS_TOO_MANY] = { EXIT_DENIED,
				     "more than the %n queues that network \"%o\" allows: lower the number of queues" },
	[WIRE_ERR_OPTION_DENIED] = { EXIT_DENIED, "the policy does not allow \"%o\"%l" ADMIN },
	[WIRE_ERR_INTERNAL] = { EXIT_FAILED, "the broker met an error of its own" LOG },
	[WIRE_ERR_TAP_MISSING] = { EXIT_HOST, "a tap was asked for but %w: load the tun module, or use passt, or leave the "
					      "network out" },
	[WIRE_ERR_ADDRESSES_EXHAUSTED] = { EXIT_QUOTA,
					   "network \"%o\" has no free address: stop a sandbox" ADMIN " for a larger one" },
	[WIRE_ERR_NOT_SURVIVING] = { EXIT_USAGE, "this sandbox ends with its controller, so nobody can attach to it: "
						 "start it with survival asked for" },
};
static const char no_controller[] = "a cgroup is required, and a limit that was asked for has no controller on this host "
				    "(memory, pids, cpu, io): leave the limit out" ADMIN;
#define COUNT(NAME) +1
_Static_assert(ARRAY_SIZE(texts) == 0 WIRE_ERRORS(COUNT), "every error code has a text");

/* Expand the % letters of a row; everything put in is text of ours or a NAME, which has no odd characters. */
static void expand(const struct wire_error *error, const char *line, char *out, size_t size)
{
	size_t used = 0;

	for (const char *p = line; *p != '\0' && used < size - 1; p++) {
		char number[48];
		const char *insert = number;
		int n;

		if (p[0] != '%' || p[1] == '\0') {
			out[used++] = *p;
			continue;
		}
		p++;
		(void)snprintf(number, sizeof(number), "%llu", (unsigned long long)error->number);
		if (*p == 'o')
			insert = error->object[0] != '\0' ? error->object : "?";
		else if (*p == 'w')
			insert = wire_outcome_text((unsigned)error->number);
		else if (*p == 's')
			insert = wire_step_text(error->step);
		else if (*p == 'l' && error->number == 0)
			insert = ": leave it out";
		else if (*p == 'l')
			(void)snprintf(number, sizeof(number), " above %llu: lower it", (unsigned long long)error->number);
		else if (*p == 'e')
			insert = strerror((int)error->number);
		n = snprintf(out + used, size - used, "%s", insert);
		used += n > 0 ? (size_t)n : 0;
		used = used < size - 1 ? used : size - 1;
	}
	out[used] = '\0';
}

void broker_explain(const struct wire_error *error, struct broker_failure *ret)
{
	struct wire_error known = *error;

	if (known.code >= ARRAY_SIZE(texts) || texts[known.code].line == NULL)
		known.code = WIRE_ERR_INTERNAL; /* a newer broker */
	known.object[sizeof(known.object) - 1] = '\0';
	ret->code = (enum wire_error_code)known.code;
	ret->exit_status = texts[known.code].exit_status;
	/* The one step that fails because a host lacks something. */
	if (known.code == WIRE_ERR_STEP_FAILED && known.step == STEP_CGROUP_LIMIT && known.number == EOPNOTSUPP) {
		ret->exit_status = EXIT_HOST;
		expand(&known, no_controller, ret->text, sizeof(ret->text));
		return;
	}
	expand(&known, texts[known.code].line, ret->text, sizeof(ret->text));
}

void broker_unreachable(const char *path, int error, struct broker_failure *ret)
{
	ret->code = WIRE_ERR_INTERNAL;
	ret->exit_status = EXIT_NO_BROKER;
	switch (error) {
	case ENOENT:
	case ECONNREFUSED:
	case ENOTDIR:
		(void)snprintf(
			ret->text, sizeof(ret->text),
			"no broker at %s: start it with `systemctl start postern-broker` or `sudo postern-start`, or set "
			"POSTERN_SOCKET",
			path);
		return;
	case EACCES:
	case EPERM:
		ret->exit_status = EXIT_DENIED;
		(void)snprintf(ret->text, sizeof(ret->text),
			       "no permission to talk to the broker at %s: ask the administrator to put you into the group "
			       "that owns "
			       "it (ls -l %s)",
			       path, path);
		return;
	case ETIMEDOUT:
	case EAGAIN:
		ret->exit_status = EXIT_TIMEOUT;
		(void)snprintf(ret->text, sizeof(ret->text), "the broker at %s does not answer: try again, or restart it",
			       path);
		return;
	case ENAMETOOLONG:
		ret->exit_status = EXIT_USAGE;
		(void)snprintf(ret->text, sizeof(ret->text),
			       "the socket path %s is too long: set POSTERN_SOCKET to a shorter one", path);
		return;
	case EPROTO:
		(void)snprintf(ret->text, sizeof(ret->text),
			       "what answers at %s does not speak Postern's protocol: check POSTERN_SOCKET and the versions",
			       path);
		return;
	case EPIPE:
		(void)snprintf(ret->text, sizeof(ret->text),
			       "the broker at %s ended the session (too many sessions, or it is restarting): try again",
			       path);
		return;
	default:
		(void)snprintf(ret->text, sizeof(ret->text), "cannot reach the broker at %s: %s", path, strerror(error));
		return;
	}
}
