/* SPDX-License-Identifier: Apache-2.0
 * Runs: start (root), broker (no privilege). Sections of the policy: rules and quotas; users and groups. */
#include "policy_load.h"

#include <errno.h>
#include <grp.h>
#include <pwd.h>
#include <stdio.h>
#include <string.h>

#include "common/cleanup.h"

#define ID_END 0x80000000u /* ids from 2^31 on are negative somewhere on the way */
#define ID_DIGITS_MAX 10u
#define QUOTA_COUNT_MAX 1000000u
#define QUOTA_MEMORY_MAX ((uint64_t)1 << 40) /* MiB; far beyond any host, far below wrapping */

/* ---- users and groups ------------------------------------------------------------------------------------------- */

static int check_number(struct loader *l, int64_t number, uint32_t *ret)
{
	if (number < 0 || number >= (int64_t)ID_END)
		return load_fail(l, "an id is a number between 0 and 2147483647");
	if (number == 65534 || number == 65535)
		return load_fail(l, "%lld stands for everybody who has no id here: it cannot be named", (long long)number);
	*ret = (uint32_t)number;
	return 0;
}

/* 1: it was a number (in *ret). 0: it is a name, in *ret_name. A string of digits is a number, since useradd makes no such
 * names; anything else that begins with a digit or sign ("0x0", "+5") is neither. */
static int load_number(struct loader *l, const json_t *value, uint32_t *ret, const char **ret_name)
{
	const char *text;
	int64_t number = 0;
	int r;

	if (json_is_integer(value)) {
		r = check_number(l, json_integer_value(value), ret);
		return r < 0 ? r : 1;
	}
	text = load_string(l, value);
	if (text == NULL)
		return -EINVAL;
	if (text[0] != '\0' && strspn(text, "0123456789") == strlen(text)) {
		if (strlen(text) > ID_DIGITS_MAX || (text[0] == '0' && text[1] != '\0'))
			return load_fail(l, "an id is a number between 0 and 2147483647 without leading zeros");
		for (const char *p = text; *p != '\0'; p++)
			number = number * 10 + (*p - '0');
		r = check_number(l, number, ret);
		return r < 0 ? r : 1;
	}
	if (text[0] == '\0' || strchr("0123456789+-", text[0]) != NULL || strpbrk(text, ":,\n\r\t") != NULL)
		return load_fail(l, "is neither a name nor a number");
	*ret_name = text;
	return 0;
}

int load_user(struct loader *l, const json_t *value, uint32_t *ret, gid_t *ret_gid)
{
	const char *name = NULL;
	const struct passwd *user;
	int r = load_number(l, value, ret, &name);

	if (r < 0)
		return r;
	user = name == NULL ? getpwuid(*ret) : getpwnam(name);
	if (name != NULL && user == NULL)
		return load_fail(l, "there is no user \"%s\" on this host", name);
	if (name != NULL)
		r = check_number(l, user->pw_uid, ret);
	/* A number that no account has is its own group: for tests, and for accounts a directory service hides. */
	if (ret_gid != NULL)
		*ret_gid = user != NULL ? user->pw_gid : *ret;
	return r < 0 ? r : 0;
}

int load_group(struct loader *l, const json_t *value, uint32_t *ret)
{
	const char *name = NULL;
	const struct group *group;
	int r = load_number(l, value, ret, &name);

	if (name == NULL)
		return r < 0 ? r : 0;
	group = getgrnam(name);
	if (group == NULL)
		return load_fail(l, "there is no group \"%s\" on this host", name);
	return check_number(l, group->gr_gid, ret);
}

static int load_rule_user(struct loader *l, json_t *value, void *out)
{
	struct policy_rule *rule = out;
	uint32_t uid = POLICY_ANY_USER;

	if (!json_is_string(value) || strcmp(json_string_value(value), "*") != 0) {
		int r = load_user(l, value, &uid, NULL);

		if (r < 0)
			return r;
	}
	rule->users[rule->user_count++] = uid;
	return 0;
}

static int load_rule_group(struct loader *l, json_t *value, void *out)
{
	struct policy_rule *rule = out;
	int r = load_group(l, value, &rule->groups[rule->group_count]);

	if (r == 0)
		rule->group_count++;
	return r;
}

static int load_rule_users(struct loader *l, json_t *value, void *out)
{
	return load_each(l, value, POLICY_PRINCIPALS_MAX, load_rule_user, out);
}

static int load_rule_groups(struct loader *l, json_t *value, void *out)
{
	return load_each(l, value, POLICY_PRINCIPALS_MAX, load_rule_group, out);
}

/* ---- what a rule gives ------------------------------------------------------------------------------------------ */

static int load_rule_hypervisor(struct loader *l, json_t *value, void *out)
{
	struct policy_rule *rule = out;
	const char *name = load_string(l, value);
	int index = name != NULL ? policy_hypervisor_index(l->policy, name) : -1;

	if (name == NULL)
		return -EINVAL;
	if (index < 0)
		return load_fail(l, "\"hypervisors\" has no \"%s\"", name);
	rule->hypervisors |= 1u << index;
	return 0;
}

static int load_rule_network(struct loader *l, json_t *value, void *out)
{
	struct policy_rule *rule = out;
	const char *name = load_string(l, value);
	int index = name != NULL ? policy_network_index(l->policy, name) : -1;

	if (name == NULL)
		return -EINVAL;
	if (index < 0)
		return load_fail(l, "\"networks\" has no \"%s\"", name);
	rule->networks |= 1u << index;
	return 0;
}

static int load_rule_label(struct loader *l, json_t *value, void *out)
{
	struct policy_rule *rule = out;
	const char *name = load_string(l, value);
	char *label = rule->labels[rule->label_count];

	if (name == NULL)
		return -EINVAL;
	if (name[0] == '\0' || wire_set_chars(label, sizeof(rule->labels[0]), name) < 0 ||
	    !wire_name_ok(label, sizeof(rule->labels[0])))
		return load_fail(l, "a label type is 1 to 31 of a-z 0-9 . _ - and begins with a letter or digit");
	rule->label_count++;
	return 0;
}

static int load_rule_hypervisors(struct loader *l, json_t *value, void *out)
{
	return load_each(l, value, POLICY_HYPERVISORS_MAX, load_rule_hypervisor, out);
}

static int load_rule_networks(struct loader *l, json_t *value, void *out)
{
	return load_each(l, value, POLICY_NETWORKS_MAX, load_rule_network, out);
}

static int load_rule_labels(struct loader *l, json_t *value, void *out)
{
	return load_each(l, value, POLICY_LABELS_MAX, load_rule_label, out);
}

int load_quota(struct loader *l, json_t *value, void *out)
{
	static const struct field fields[] = {
		TAKES_U32("sandboxes", struct policy_quota, sandboxes, 0, QUOTA_COUNT_MAX),
		TAKES_U32("taps", struct policy_quota, taps, 0, QUOTA_COUNT_MAX),
		TAKES_U32("vcpus", struct policy_quota, vcpus, 0, QUOTA_COUNT_MAX),
		TAKES_U64("memory_mib", struct policy_quota, memory_mib, 0, QUOTA_MEMORY_MAX),
		TAKES_U32("starts_per_minute", struct policy_quota, starts_per_minute, 0, QUOTA_COUNT_MAX),
	};

	return load_object(l, value, fields, ARRAY_SIZE(fields), out);
}

static int load_rule(struct loader *l, json_t *value, void *out)
{
	static const struct field fields[] = {
		TAKES("users", load_rule_users),
		TAKES("groups", load_rule_groups),
		NEEDS("hypervisors", load_rule_hypervisors),
		TAKES("networks", load_rule_networks),
		TAKES_BOOL("kvm", struct policy_rule, kvm),
		TAKES_BOOL("vsock", struct policy_rule, vsock),
		TAKES_BOOL("survive", struct policy_rule, survive),
		TAKES_BOOL("shared_netns", struct policy_rule, shared_netns),
		TAKES("labels", load_rule_labels),
		TAKES_PART("quota", load_quota, struct policy_rule, quota),
	};
	struct policy *p = out;
	struct policy_rule *rule = &p->rules[p->rule_count];
	int r = load_object(l, value, fields, ARRAY_SIZE(fields), rule);

	if (r < 0)
		return r;
	if (rule->user_count + rule->group_count == 0)
		return load_fail(l, "names nobody: give \"users\" or \"groups\" (\"*\" in \"users\" is everybody)");
	p->rule_count++;
	return 0;
}

int load_rules(struct loader *l, json_t *value, void *out)
{
	return load_each(l, value, POLICY_RULES_MAX, load_rule, out);
}
