/* SPDX-License-Identifier: Apache-2.0
 * Runs: start (root), broker (no privilege). Sections of the policy: daemon, ids, template, hypervisors, networks. */
#include "policy_load.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "common/cleanup.h"
#include "id_range.h"

#define PREFIX_MIN 8u  /* larger than any bridge */
#define PREFIX_MAX 30u /* a gateway and one guest */

/* ---- names and paths -------------------------------------------------------------------------------------------- */

/* The key we stand on as a registered name. */
static int load_name(struct loader *l, const char *key, char (*name)[32])
{
	memset(*name, 0, sizeof(*name));
	if (key[0] == '\0' || wire_set_chars(*name, sizeof(*name), key) < 0 || !wire_name_ok(*name, sizeof(*name)))
		return load_fail(l, "a name is 1 to 31 of a-z 0-9 . _ - and begins with a letter or digit");
	return 0;
}

/* Absolute, no "//", no "." or "..", no slash at the end: the same file whoever reads it, however. */
static bool normalised(const char *path)
{
	if (path[0] != '/')
		return false;
	for (const char *p = path; *p == '/';) {
		size_t len = strcspn(++p, "/");

		if (len == 0 || (len <= 2 && strspn(p, ".") >= len))
			return false;
		p += len;
	}
	return true;
}

static bool below(const char *path, const char *directory)
{
	size_t len = strlen(directory);

	return strncmp(path, directory, len) == 0 && (path[len] == '\0' || path[len] == '/');
}

static int load_path(struct loader *l, const json_t *value, char (*ret)[256])
{
	const char *path = load_string(l, value);

	if (path == NULL)
		return -EINVAL;
	if (!normalised(path))
		return load_fail(l, "must be an absolute path without \"//\", \".\", \"..\" or a slash at the end");
	for (const char *p = path; *p != '\0'; p++)
		if (*p < 0x20 || *p > 0x7e)
			return load_fail(l, "must be printable ASCII");
	if (wire_set_chars(*ret, sizeof(*ret), path) < 0)
		return load_fail(l, "is longer than %zu bytes", sizeof(*ret) - 1);
	return 0;
}

/* ---- daemon ----------------------------------------------------------------------------------------------------- */

static int load_broker_user(struct loader *l, json_t *value, void *out)
{
	struct policy *p = out;
	uint32_t uid = 0;
	int r = load_user(l, value, &uid, &p->broker_gid);

	if (r < 0)
		return r;
	if (uid == 0 || p->broker_gid == 0)
		return load_fail(l, "must not be root, nor in root's group: the broker's point is to have no privilege");
	p->broker_uid = uid;
	p->socket_gid = p->broker_gid; /* until "socket_group" says otherwise: it comes later in the table */
	return 0;
}

static int load_spawn_user(struct loader *l, json_t *value, void *out)
{
	struct policy *p = out;
	uint32_t uid = 0;
	int r = load_user(l, value, &uid, &p->spawn_gid);

	if (r < 0)
		return r;
	if (uid == 0 || p->spawn_gid == 0)
		return load_fail(l, "must not be root, nor in root's group: this uid owns the sandboxes' user namespace");
	if (uid == p->broker_uid)
		return load_fail(l, "must differ from \"user\": who has this uid can enter every sandbox");
	p->spawn_uid = uid;
	return 0;
}

static int load_mode(struct loader *l, json_t *value, void *out)
{
	struct policy *p = out;
	const char *text = load_string(l, value);

	if (text == NULL)
		return -EINVAL;
	if (strcmp(text, "direct") == 0)
		p->mode = POLICY_MODE_DIRECT;
	else if (strcmp(text, "namespace") == 0)
		p->mode = POLICY_MODE_NAMESPACE;
	else
		return load_fail(l, "must be one of namespace, direct");
	return 0;
}

static int load_kvm_group(struct loader *l, json_t *value, void *out)
{
	struct policy *p = out;
	uint32_t gid = 0;
	int r = load_group(l, value, &gid);

	if (r < 0)
		return r;
	if (gid == 0)
		return load_fail(l, "must not be root's group: a sandbox that carries it reaches far more than /dev/kvm");
	p->kvm_gid = gid;
	p->kvm_gid_set = true;
	return 0;
}

static int load_socket_mode(struct loader *l, json_t *value, void *out)
{
	struct policy *p = out;
	const char *text = load_string(l, value);

	if (text == NULL)
		return -EINVAL;
	/* Connecting takes write permission, and nothing but read and write means anything on a socket. */
	if (strlen(text) != 4 || strcmp(text, "0600") < 0 || text[0] != '0' || text[1] != '6' ||
	    (text[2] != '0' && text[2] != '6') || (text[3] != '0' && text[3] != '6'))
		return load_fail(l, "must be one of \"0600\", \"0606\", \"0660\", \"0666\"");
	p->socket_mode = (mode_t)(0600 | (text[2] - '0') << 3 | (text[3] - '0'));
	return 0;
}

static int load_socket_group(struct loader *l, json_t *value, void *out)
{
	struct policy *p = out;
	uint32_t gid = 0;
	int r = load_group(l, value, &gid);

	if (r < 0)
		return r;
	p->socket_gid = gid;
	p->socket_mode = 0660; /* naming a group means: it and nobody else; "socket_mode" may widen that again */
	return 0;
}

int load_daemon(struct loader *l, json_t *value, void *out)
{
	static const struct field fields[] = {
		NEEDS("user", load_broker_user),        NEEDS("spawn_user", load_spawn_user),
		TAKES("kvm_group", load_kvm_group),     TAKES("socket_group", load_socket_group),
		TAKES("socket_mode", load_socket_mode), TAKES("mode", load_mode),
	};
	const struct policy *p = out;
	int r = load_object(l, value, fields, ARRAY_SIZE(fields), out);

	if (r == 0 && (p->broker_uid - p->first_uid < p->uid_count || p->spawn_uid - p->first_uid < p->uid_count))
		return load_fail(l, "\"user\" or \"spawn_user\" is inside the range of sandboxes (\"ids\")");
	return r;
}

/* ---- ids -------------------------------------------------------------------------------------------------------- */

int load_ids(struct loader *l, json_t *value, void *out)
{
	static const struct field fields[] = {
		NEEDS_U32("first", struct policy, first_uid, 0, UINT32_MAX),
		NEEDS_U32("count", struct policy, uid_count, 1, UINT32_MAX),
	};
	struct policy *p = out;
	char text[160];
	int r = load_object(l, value, fields, ARRAY_SIZE(fields), out);

	if (r < 0)
		return r;
	/* Users, subordinate ranges and NSS are the host's, not the document's: postern-start asks id_range_check(). */
	if (id_range_check_static(p->first_uid, p->uid_count, text, sizeof(text)) < 0)
		return load_fail(l, "%s", text);
	return 0;
}

/* ---- template --------------------------------------------------------------------------------------------------- */

static int load_bind(struct loader *l, json_t *value, void *out)
{
	/* What the template has already, and trees that would bring back what it leaves out. */
	static const char *const refused[] = { "/usr", "/bin",  "/sbin", "/lib", "/lib32", "/lib64", "/libx32",
					       "/dev", "/proc", "/sys",  "/run", "/etc",   "/root",  "/boot" };
	struct policy *p = out;
	char(*bind)[256] = &p->binds[p->bind_count];
	int r = load_path(l, value, bind);

	if (r < 0)
		return r;
	for (size_t i = 0; i < ARRAY_SIZE(refused); i++)
		if (below(*bind, refused[i]))
			return load_fail(l, "%s and what is below it cannot be bound into sandboxes", refused[i]);
	for (size_t i = 0; i < p->bind_count; i++)
		if (below(*bind, p->binds[i]) || below(p->binds[i], *bind))
			return load_fail(l, "overlaps with %s", p->binds[i]);
	p->bind_count++;
	return 0;
}

static int load_binds(struct loader *l, json_t *value, void *out)
{
	return load_each(l, value, POLICY_BINDS_MAX, load_bind, out);
}

int load_template(struct loader *l, json_t *value, void *out)
{
	static const struct field fields[] = { TAKES("binds", load_binds) };

	return load_object(l, value, fields, ARRAY_SIZE(fields), out);
}

/* ---- hypervisors ------------------------------------------------------------------------------------------------ */

static int load_driver(struct loader *l, json_t *value, void *out)
{
	struct policy *p = out;
	struct policy_hypervisor *h = &p->hypervisors[p->hypervisor_count];
	const char *name = load_string(l, value);

	if (name == NULL)
		return -EINVAL;
	/* A driver without a syscall profile of its own is not offered: the profile follows from the driver. */
	if (strcmp(name, "qemu") == 0) {
		h->driver = POLICY_DRIVER_QEMU;
		h->profile = PROFILE_QEMU;
	} else if (strcmp(name, "mock") == 0) {
		h->driver = POLICY_DRIVER_MOCK;
		h->profile = PROFILE_MOCK;
	} else {
		return load_fail(l, "must be one of qemu, mock");
	}
	return 0;
}

static int load_hypervisor_path(struct loader *l, json_t *value, void *out)
{
	struct policy *p = out;
	struct policy_hypervisor *h = &p->hypervisors[p->hypervisor_count];
	int r = load_path(l, value, &h->path);
	bool inside = false;

	if (r < 0)
		return r;
	inside = below(h->path, "/usr") && strcmp(h->path, "/usr") != 0;
	for (size_t i = 0; i < p->bind_count; i++)
		inside = inside || (below(h->path, p->binds[i]) && strcmp(h->path, p->binds[i]) != 0);
	if (!inside)
		return load_fail(l, "is not under /usr nor under one of template.binds: sandboxes would not see it");
	return 0;
}

int load_hypervisors(struct loader *l, json_t *value, void *out)
{
	static const struct field fields[] = {
		NEEDS("driver", load_driver),
		NEEDS("path", load_hypervisor_path),
	};
	struct policy *p = out;
	size_t ordinal = 0;
	int r;

	if (!json_is_object(value))
		return load_fail(l, "must be an object of {\"driver\", \"path\"} by name");
	for (void *it = json_object_iter(value); it != NULL; it = json_object_iter_next(value, it), ordinal++) {
		load_push(l, json_object_iter_key(it), ordinal);
		if (p->hypervisor_count == POLICY_HYPERVISORS_MAX)
			return load_fail(l, "is one more than the %d hypervisors possible", POLICY_HYPERVISORS_MAX);
		r = load_name(l, json_object_iter_key(it), &p->hypervisors[p->hypervisor_count].name);
		r = r == 0 ? load_object(l, json_object_iter_value(it), fields, ARRAY_SIZE(fields), p) : r;
		if (r < 0)
			return r;
		p->hypervisor_count++;
		load_pop(l);
	}
	return 0;
}

/* ---- networks --------------------------------------------------------------------------------------------------- */

static uint32_t netmask(unsigned prefix)
{
	return ~(uint32_t)0 << (32 - prefix);
}

static int load_address(struct loader *l, json_t *value, void *out)
{
	struct policy_network *n = out;
	const char *text = load_string(l, value), *slash;
	char address[INET_ADDRSTRLEN];
	struct in_addr in;
	unsigned prefix = 0;
	uint32_t ip;

	if (text == NULL)
		return -EINVAL;
	slash = strchr(text, '/');
	if (slash == NULL || (size_t)(slash - text) >= sizeof(address))
		return load_fail(l, "must look like \"10.44.0.1/24\": the host's address and the prefix length");
	memcpy(address, text, (size_t)(slash - text));
	address[slash - text] = '\0';
	for (const char *p = slash + 1; *p >= '0' && *p <= '9' && prefix <= PREFIX_MAX; p++)
		prefix = prefix * 10 + (unsigned)(*p - '0');
	/* Digits only, no leading zero: what was read must be what was written. */
	if (strspn(slash + 1, "0123456789") != strlen(slash + 1) || slash[1] == '0' || prefix < PREFIX_MIN ||
	    prefix > PREFIX_MAX)
		return load_fail(l, "the prefix length must be between %u and %u", PREFIX_MIN, PREFIX_MAX);
	if (inet_pton(AF_INET, address, &in) != 1)
		return load_fail(l, "is not an IPv4 address and prefix length like \"10.44.0.1/24\"");
	ip = ntohl(in.s_addr);
	if (ip >> 24 == 0 || ip >> 24 == 127 || ip >> 28 >= 0xe)
		return load_fail(l, "is not an address an interface can have");
	if ((ip & ~netmask(prefix)) == 0 || (ip | netmask(prefix)) == UINT32_MAX)
		return load_fail(l, "is the network's own or its broadcast address, not one of a host");
	n->uplink = true;
	n->gateway = ip;
	n->prefix = (uint8_t)prefix;
	return 0;
}

static int check_network(struct loader *l, const struct policy *p, const struct policy_network *n)
{
	if (n->pin_ip && !n->uplink)
		return load_fail(l, "\"pin_ip\" needs \"address\": pinned addresses are taken from its network");
	for (size_t i = 0; n->uplink && i < p->network_count; i++) {
		const struct policy_network *other = &p->networks[i];
		unsigned prefix = other->prefix < n->prefix ? other->prefix : n->prefix;

		if (other->uplink && ((other->gateway ^ n->gateway) & netmask(prefix)) == 0)
			return load_fail(l, "\"address\" overlaps with that of network \"%s\"", other->name);
	}
	return 0;
}

int load_networks(struct loader *l, json_t *value, void *out)
{
	static const struct field fields[] = {
		TAKES("address", load_address),
		TAKES_BOOL("isolated", struct policy_network, isolated),
		TAKES_BOOL("pin_ip", struct policy_network, pin_ip),
		TAKES_BOOL("vhost", struct policy_network, vhost),
		TAKES_U8("max_queues", struct policy_network, max_queues, 1, WIRE_QUEUES_MAX),
	};
	struct policy *p = out;
	size_t ordinal = 0;
	int r;

	if (!json_is_object(value))
		return load_fail(l, "must be an object of networks by name");
	for (void *it = json_object_iter(value); it != NULL; it = json_object_iter_next(value, it), ordinal++) {
		struct policy_network *n = &p->networks[p->network_count];

		load_push(l, json_object_iter_key(it), ordinal);
		if (p->network_count == POLICY_NETWORKS_MAX)
			return load_fail(l, "is one more than the %d networks possible", POLICY_NETWORKS_MAX);
		n->isolated = true;
		n->max_queues = 1;
		r = load_name(l, json_object_iter_key(it), &n->name);
		r = r == 0 ? load_object(l, json_object_iter_value(it), fields, ARRAY_SIZE(fields), n) : r;
		r = r == 0 ? check_network(l, p, n) : r;
		if (r < 0)
			return r;
		p->network_count++;
		load_pop(l);
	}
	return 0;
}
