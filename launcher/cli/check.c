/* SPDX-License-Identifier: Apache-2.0
 * Runs: CLI (the user). postern check: everything `run` does up to the request, and the plan with what only a lease
 * knows left open. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "cli.h"
#include "common/cleanup.h"
#include "launcher/controller/files.h"
#include "launcher/sandbox/broker_client.h"
#include "postern/driver.h"
#include "spec_file.h"

/* Values in the made-up lease that are found again in argv. */
#define CHECK_CID 2111222333u
static const uint8_t check_mac[6] = { 0x02, 0xfe, 0xed, 0xfa, 0xce, 0x00 }; /* the last byte is the NIC's number */

struct check {
	struct spec *spec;
	const struct driver *driver;
	struct wire_hypervisor_reply hypervisor;
	struct driver_probe probe;
	struct wire_acquire ask;
	struct wire_host_reply host;
	struct wire_lease lease; /* made up */
};

/* What the broker knows: which VMM, which networks, what the host offers. */
static int ask_broker(struct check *check, struct failure *failure)
{
	struct broker_failure why = { 0 };
	struct broker *broker = NULL;
	struct wire_network_reply network;
	int r = broker_connect(options_socket(), &broker, &why);

	if (r < 0)
		return fail(failure, r, why.exit_status, "%s", why.text);
	r = broker_hypervisor(broker, check->spec->hypervisor, &check->hypervisor, &why);
	for (size_t i = 0; r == 0 && i < check->spec->nic_count; i++)
		if (check->spec->nics[i].kind == SPEC_NET_TAP)
			r = broker_network(broker, check->spec->nics[i].network, &network, &why);
	if (r == 0)
		r = broker_host(broker, &check->host, &why);
	broker_close(broker);
	if (r < 0)
		return fail(failure, r, why.exit_status, "%s", why.text);
	check->driver = driver_by_kind(check->hypervisor.kind);
	if (check->driver == NULL)
		return fail(failure, -ENOTSUP, EXIT_HOST, "hypervisor %s: this postern has no driver for it; update postern",
			    check->spec->hypervisor);
	r = check->driver->probe(check->hypervisor.path, &check->probe);
	return r == 0 ? 0
		      : fail(failure, r, EXIT_HOST, "hypervisor %s: cannot ask %s for its version: %s; is it installed?",
			     check->spec->hypervisor, check->hypervisor.path, strerror(-r));
}

/* What the spec requires and this host or the policy does not give: `run` would fail. Quotas are not looked at: what others
 * run by then nobody knows. */
static int check_required(const struct check *check, struct failure *failure)
{
	static const struct {
		uint32_t flag;
		enum wire_grant grant;
	} rows[] = {
		{ WIRE_KVM_REQUIRE, WIRE_GRANT_KVM },
		{ WIRE_VSOCK_REQUIRE, WIRE_GRANT_VHOST_VSOCK },
		{ WIRE_LABEL_REQUIRE, WIRE_GRANT_LABEL },
		{ WIRE_CGROUP_REQUIRE, WIRE_GRANT_CGROUP },
	};
	bool wanted[WIRE_GRANT_COUNT] = { false };

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++)
		wanted[rows[i].grant] = (check->ask.flags & rows[i].flag) != 0;
	for (size_t i = 0; i < check->ask.nic_count; i++)
		if ((check->ask.nics[i].flags & WIRE_NIC_VHOST_REQUIRE) != 0)
			wanted[WIRE_GRANT_VHOST_NET] = true;
	for (unsigned i = 0; i < WIRE_GRANT_COUNT; i++) {
		uint8_t outcome = check->host.outcomes[i];
		bool short_of = i == WIRE_GRANT_CGROUP && outcome == WIRE_BY_BY_RLIMIT;

		if (wanted[i] && (short_of || !wire_outcome_ok(outcome)))
			return fail(failure, -ENOTSUP, outcome == WIRE_BY_NO_POLICY ? EXIT_DENIED : EXIT_HOST,
				    "%s is required: %s; do without it, or ask the administrator", wire_grant_name(i),
				    wire_outcome_text(outcome));
	}
	return 0;
}

static void make_up_lease(struct check *check)
{
	struct wire_lease *lease = &check->lease;

	*lease = (struct wire_lease){ .vcpus = check->ask.vcpus,
				      .memory_mib = check->ask.memory_mib,
				      .flags = check->ask.flags,
				      .nic_count = check->ask.nic_count };
	if ((check->ask.flags & (WIRE_VSOCK_WANT | WIRE_VSOCK_REQUIRE)) != 0) {
		lease->cid = CHECK_CID;
		lease->grants[WIRE_GRANT_VHOST_VSOCK] = WIRE_BY_BY_FD;
	}
	lease->grants[WIRE_GRANT_KVM] = check->host.outcomes[WIRE_GRANT_KVM];
	for (size_t i = 0; i < lease->nic_count; i++) {
		memcpy(lease->nics[i].network, check->ask.nics[i].network, sizeof(lease->nics[i].network));
		lease->nics[i].queues = check->ask.nics[i].queues;
		memcpy(lease->nics[i].mac, check_mac, sizeof(check_mac));
		lease->nics[i].mac[5] = (uint8_t)i;
		lease->grants[WIRE_GRANT_TAP] = WIRE_BY_BY_FD;
	}
}

/* Put a name where a made-up value stands. New string, the caller's. */
static char *open_places(const char *word)
{
	char *out = strdup(word);

	for (unsigned i = 0; out != NULL && i <= WIRE_NICS_MAX; i++) {
		char value[32], name[16], *at, *longer = NULL;

		if (i < WIRE_NICS_MAX) {
			(void)snprintf(value, sizeof(value), "02:fe:ed:fa:ce:%02x", i);
			(void)snprintf(name, sizeof(name), "<mac%u>", i);
		} else {
			(void)snprintf(value, sizeof(value), "%u", CHECK_CID);
			(void)snprintf(name, sizeof(name), "<cid>");
		}
		at = strstr(out, value);
		if (at == NULL)
			continue;
		if (asprintf(&longer, "%.*s%s%s", (int)(at - out), out, name, at + strlen(value)) < 0)
			longer = NULL;
		free(out);
		out = longer;
	}
	return out;
}

/* The plan as JSON: argv and assets. */
static json_t *plan_json(const struct plan *plan)
{
	json_t *argv = json_array(), *assets = json_array();
	const char *word = plan->words;

	for (size_t i = 0; i < plan->word_count; i++, word += strlen(word) + 1) {
		cleanup_free char *shown = open_places(word);

		(void)json_array_append_new(argv, json_string(shown != NULL ? shown : word));
	}
	for (size_t i = 0; i < plan->asset_count; i++)
		(void)json_array_append_new(assets, json_pack("{s:s s:b s:b}", "name", plan->assets[i].name, "writable",
							      plan->assets[i].writable, "copied", plan->assets[i].copy));
	return json_pack("{s:o s:o}", "argv", argv, "assets", assets);
}

/* Takes over the files in ctx. */
static int make_plan(struct check *check, struct driver_context *ctx, json_t **ret, const char **ret_reason,
		     struct failure *failure)
{
	struct plan *plan = plan_new();
	struct spec_error why = { 0 };
	int pair[2], r;

	make_up_lease(check);
	ctx->spec = check->spec;
	ctx->probe = &check->probe;
	ctx->path = check->hypervisor.path;
	ctx->lease = &check->lease;
	if (plan == NULL)
		return fail(failure, -ENOMEM, EXIT_FAILED, "make the plan: out of memory; stop something");
	for (size_t i = 0; i < check->spec->nic_count; i++)
		if (check->spec->nics[i].kind == SPEC_NET_PASST && ctx->passt < 0 &&
		    socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) == 0) { /* stands for passt's */
			ctx->passt = pair[0];
			(void)close(pair[1]);
		}
	r = driver_accel(check->spec, &check->lease, check->driver, &ctx->kvm, ret_reason, &why);
	if (r == 0)
		r = check->driver->plan(ctx, plan, &why);
	if (r == 0)
		*ret = plan_json(plan);
	else
		(void)fail(failure, r, EXIT_USAGE, "spec %s: %s%s%s", why.where, why.text,
			   why.allowed[0] != '\0' ? "; allowed: " : "", why.allowed);
	plan_free(plan);
	return r;
}

/* ---- output ------------------------------------------------------------------------------------------------------ */

static json_t *ask_json(const struct wire_acquire *ask)
{
	static const struct {
		uint32_t bit;
		const char *name;
	} flags[] = {
		{ WIRE_KVM_WANT, "kvm" },
		{ WIRE_KVM_REQUIRE, "kvm-required" },
		{ WIRE_KVM_FD_OK, "kvm-by-descriptor" },
		{ WIRE_VSOCK_WANT, "vsock" },
		{ WIRE_VSOCK_REQUIRE, "vsock-required" },
		{ WIRE_LABEL_REQUIRE, "label-required" },
		{ WIRE_NETNS_SHARED, "shared-netns" },
		{ WIRE_SURVIVE, "survive" },
		{ WIRE_CGROUP_REQUIRE, "cgroup-required" },
	};
	json_t *names = json_array(), *nics = json_array();

	for (size_t i = 0; i < ARRAY_SIZE(flags); i++)
		if ((ask->flags & flags[i].bit) != 0)
			(void)json_array_append_new(names, json_string(flags[i].name));
	for (size_t i = 0; i < ask->nic_count; i++)
		(void)json_array_append_new(nics, json_pack("{s:s s:i s:b}", "network", ask->nics[i].network, "queues",
							    ask->nics[i].queues, "vhost",
							    (ask->nics[i].flags & WIRE_NIC_VHOST_WANT) != 0));
	return json_pack("{s:s s:I s:I s:o s:o}", "hypervisor", ask->hypervisor, "vcpus", (json_int_t)ask->vcpus,
			 "memory_mib", (json_int_t)ask->memory_mib, "wants", names, "nics", nics);
}

static json_t *host_json(const struct wire_host_reply *host)
{
	json_t *grants = json_object();

	for (unsigned i = 0; i < WIRE_GRANT_COUNT; i++)
		(void)json_object_set_new(grants, wire_grant_name(i), json_string(wire_outcome_text(host->outcomes[i])));
	return json_pack("{s:o s:i s:b s:I s:I s:I s:I}", "grants", grants, "landlock_abi", host->landlock_abi,
			 "direct_mode", host->direct_mode, "sandboxes_user",
			 (json_int_t)host->sandboxes_user, "sandboxes_user_max", (json_int_t)host->sandboxes_user_max,
			 "sandboxes_all", (json_int_t)host->sandboxes_all, "sandboxes_all_max",
			 (json_int_t)host->sandboxes_all_max);
}

/* One word of a command line, as a shell would take it. */
static void print_word(const char *word)
{
	bool plain = word[0] != '\0' && strspn(word, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
						     "-_=+.,:/@%") == strlen(word);

	(void)printf(plain ? " %s" : " '%s'", word);
}

static void print_list(const char *title, const json_t *list)
{
	const json_t *item;
	size_t i;

	(void)printf("%-12s ", title);
	json_array_foreach(list, i, item) print_word(json_string_value(item));
	(void)putchar('\n');
}

static void print_human(const struct check *check, const json_t *out)
{
	const json_t *plan = json_object_get(out, "plan"), *ask = json_object_get(out, "ask"), *item;
	const char *key;
	size_t i;
	void *walk;
	json_t *grants = json_object_get(json_object_get(out, "host"), "grants");

	print_list("plan", json_object_get(plan, "argv"));
	json_array_foreach(json_object_get(plan, "assets"), i, item)(void)
		printf("%-13s %s%s%s\n", i == 0 ? "assets" : "", json_string_value(json_object_get(item, "name")),
		       json_is_true(json_object_get(item, "writable")) ? ", writable" : ", read-only",
		       json_is_true(json_object_get(item, "copied")) ? ", copied" : "");
	(void)printf("%-13s %s\n", "accelerator", json_string_value(json_object_get(out, "accel")));
	(void)printf("%-13s %s, %u vcpus, %u MiB\n", "ask", check->ask.hypervisor, check->ask.vcpus, check->ask.memory_mib);
	print_list("wants", json_object_get(ask, "wants"));
	for (i = 0; i < check->ask.nic_count; i++)
		(void)printf("%-13s network %s, %u queues\n", i == 0 ? "nics" : "", check->ask.nics[i].network,
			     check->ask.nics[i].queues);
	for (walk = json_object_iter(grants), i = 0; walk != NULL; walk = json_object_iter_next(grants, walk), i++) {
		key = json_object_iter_key(walk);
		(void)printf("%-13s %-12s %s\n", i == 0 ? "host" : "", key, json_string_value(json_object_iter_value(walk)));
	}
	if (check->host.direct_mode != 0)
		(void)printf("%-13s direct: sandboxes have no user namespace of their own\n", "mode");
	(void)printf("%-13s %u of yours, %u in all (quotas are not checked)\n", "sandboxes", check->host.sandboxes_user,
		     check->host.sandboxes_all);
}

static int run_check(struct check *check, bool json)
{
	struct failure failure = { .exit_status = EXIT_FAILED };
	struct driver_context ctx = { 0 };
	struct spec_error why = { 0 };
	const char *reason = "";
	json_t *plan = NULL, *out;
	int r;

	files_none(&ctx);
	r = files_open_all(check->spec, &ctx, &failure);
	if (r == 0)
		r = ask_broker(check, &failure);
	if (r == 0 && check->driver->needs(check->spec, &check->probe, &check->ask, &why) < 0)
		r = fail(&failure, -EINVAL, EXIT_USAGE, "spec %s: %s%s%s", why.where, why.text,
			 why.allowed[0] != '\0' ? "; allowed: " : "", why.allowed);
	if (r == 0)
		r = check_required(check, &failure);
	if (r == 0)
		r = make_plan(check, &ctx, &plan, &reason, &failure);
	files_close(&ctx);
	if (r < 0)
		return say_failure(&failure);
	out = json_pack("{s:o s:o s:o s:o s:o}", "spec", spec_to_json(check->spec), "plan", plan, "ask",
			ask_json(&check->ask), "accel",
			json_sprintf("%s: %s",
				     ctx.kvm                  ? "kvm"
				     : check->driver->can.tcg ? "tcg"
							      : "none",
				     reason),
			"host", host_json(&check->host));
	if (json)
		return say_json(out);
	print_human(check, out);
	json_decref(out);
	return say_end();
}

int command_check(const struct command *self, int argc, char **argv)
{
	struct check check = { 0 };
	bool json = false;
	const struct option_row rows[] = { { "json", NULL, "print JSON: spec, plan, ask, accel, host", OPTION_FLAG,
					     &json } };
	int r = spec_from_arguments(self, rows, ARRAY_SIZE(rows), argc, argv, &check.spec);

	if (r < 0)
		r = run_check(&check, json);
	spec_free(check.spec);
	return r;
}
