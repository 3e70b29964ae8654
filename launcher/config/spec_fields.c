/* SPDX-License-Identifier: Apache-2.0
 * Runs: controller and CLI (the user). The table, and how one value of it is read and written. */
#include "spec_table.h"

#include <errno.h>
#include <jansson.h>
#include <string.h>

#include "common/cleanup.h"
#include "common/messages.h"

static const struct field_choice accels[] = {
	{ "auto", SPEC_ACCEL_AUTO }, { "kvm", SPEC_ACCEL_KVM }, { "tcg", SPEC_ACCEL_TCG }, { 0 }
};
static const struct field_choice consoles[] = { { "serial", SPEC_CONSOLE_SERIAL }, { "none", SPEC_CONSOLE_NONE }, { 0 } };
static const struct field_choice nets[] = { { "tap", SPEC_NET_TAP }, { "passt", SPEC_NET_PASST }, { 0 } };
static const struct field_choice wants[] = {
	{ "no", SPEC_WANT_NO }, { "prefer", SPEC_WANT_PREFER }, { "require", SPEC_WANT_REQUIRE }, { 0 }
};
/* No "no": whether there is a label is not the user's to decide; a spec can only insist on one. */
static const struct field_choice labels[] = { { "prefer", SPEC_WANT_PREFER }, { "require", SPEC_WANT_REQUIRE }, { 0 } };

_Static_assert(sizeof(enum spec_want) == sizeof(int) && sizeof(enum spec_net) == sizeof(int), "choices are stored as int");
_Static_assert(SPEC_NICS_MAX == WIRE_NICS_MAX, "every NIC of a spec fits into one request");
_Static_assert(SPEC_DISKS_MAX + 1 + SPEC_NICS_MAX <= WIRE_ASSETS_MAX, "every file of a spec fits into one plan");

#define AT(member) offsetof(struct spec, member)
#define TEXT_NAME "[a-z0-9] then [a-z0-9._-], at most 31 characters"
#define TEXT_WANT "no, prefer, require"

/* { path, type, default, allowed, meaning }, scope, type, offset, min, max, choices. A default of "" is an unset string. */
/* clang-format off */
static const struct field fields[] = {
	{ { "name", "string", "", TEXT_NAME, "name of the sandbox, unique among the user's running ones" },
	  SCOPE_SPEC, FIELD_NAME, AT(name), 1, SPEC_NAME_MAX, NULL },
	{ { "hypervisor", "string", "qemu", TEXT_NAME, "id under which the policy registers the VMM" },
	  SCOPE_SPEC, FIELD_NAME, AT(hypervisor), 1, SPEC_NAME_MAX, NULL },
	{ { "kernel", "path", "", "path of a file", "guest kernel" },
	  SCOPE_SPEC, FIELD_PATH, AT(kernel), 1, SPEC_PATH_MAX, NULL },
	{ { "initrd", "path", "", "path of a file", "guest initial RAM disk" },
	  SCOPE_SPEC, FIELD_PATH, AT(initrd), 1, SPEC_PATH_MAX, NULL },
	{ { "kernel_only", "boolean", "false", "true, false",
	    "the kernel brings its own root: needs neither initrd nor disk" },
	  SCOPE_SPEC, FIELD_BOOL, AT(kernel_only), 0, 1, NULL },
	{ { "cmdline", "string", "", "at most 1900 printable ASCII characters",
	    "guest kernel command line, put behind the driver's own words so that it wins" },
	  SCOPE_SPEC, FIELD_LINE, AT(cmdline), 0, SPEC_CMDLINE_MAX, NULL },
	{ { "machine", "string", "", TEXT_NAME ", known to the driver", "machine type; the driver's default when absent" },
	  SCOPE_SPEC, FIELD_NAME, AT(machine), 1, SPEC_NAME_MAX, NULL },
	{ { "memory", "size", "2048", "1 to 16777216 MiB, as a number of MiB or a string such as \"512M\", \"2G\"",
	    "guest memory" },
	  SCOPE_SPEC, FIELD_SIZE, AT(memory_mib), 1, WIRE_MEMORY_MAX, NULL },
	{ { "vcpus", "number", "1", "1 to 1024", "virtual CPUs" },
	  SCOPE_SPEC, FIELD_NUMBER, AT(vcpus), 1, WIRE_VCPUS_MAX, NULL },
	{ { "accel", "choice", "auto", "auto, kvm, tcg", "accelerator: auto takes KVM where it is granted and works" },
	  SCOPE_SPEC, FIELD_CHOICE, AT(accel), 0, 0, accels },
	{ { "console", "choice", "serial", "serial, none", "what postern console connects to" },
	  SCOPE_SPEC, FIELD_CHOICE, AT(console), 0, 0, consoles },
	{ { "disks[].path", "path", "", "path of a file or block device", "raw image; required" },
	  SCOPE_DISK, FIELD_PATH, offsetof(struct spec_disk, path), 1, SPEC_PATH_MAX, NULL },
	{ { "disks[].id", "string", "", "[a-z0-9] then [a-z0-9-], at most 20 characters",
	    "serial number the guest sees; disk0, disk1, ... when absent" },
	  SCOPE_DISK, FIELD_ID, offsetof(struct spec_disk, id), 1, SPEC_ID_MAX, NULL },
	{ { "disks[].readonly", "boolean", "false", "true, false", "the guest cannot write to it" },
	  SCOPE_DISK, FIELD_BOOL, offsetof(struct spec_disk, readonly), 0, 1, NULL },
	{ { "nics[].type", "choice", "tap", "tap, passt", "tap: on a network of the policy; passt: user-mode networking" },
	  SCOPE_NIC, FIELD_CHOICE, offsetof(struct spec_nic, kind), 0, 0, nets },
	{ { "nics[].network", "string", "", TEXT_NAME, "name of the policy's network; required for tap" },
	  SCOPE_NIC, FIELD_NAME, offsetof(struct spec_nic, network), 1, SPEC_NAME_MAX, NULL },
	{ { "nics[].queues", "number", "1", "1 to 8", "queue pairs of a tap" },
	  SCOPE_NIC, FIELD_NUMBER, offsetof(struct spec_nic, queues), 1, WIRE_QUEUES_MAX, NULL },
	{ { "nics[].vhost", "choice", "prefer", TEXT_WANT, "vhost-net for a tap" },
	  SCOPE_NIC, FIELD_CHOICE, offsetof(struct spec_nic, vhost), 0, 0, wants },
	{ { "vsock", "choice", "no", TEXT_WANT, "a vsock device with a context id of its own" },
	  SCOPE_SPEC, FIELD_CHOICE, AT(vsock), 0, 0, wants },
	{ { "label", "choice", "prefer", "prefer, require", "require: no start on a host that cannot label the VMM" },
	  SCOPE_SPEC, FIELD_CHOICE, AT(label), 0, 0, labels },
	{ { "label_type", "string", "", TEXT_NAME, "label type the policy offers; its default when absent" },
	  SCOPE_SPEC, FIELD_NAME, AT(label_type), 1, SPEC_NAME_MAX, NULL },
	{ { "survive", "boolean", "false", "true, false", "go on when the controller is gone, until one attaches again" },
	  SCOPE_SPEC, FIELD_BOOL, AT(survive), 0, 1, NULL },
	{ { "shared_netns", "boolean", "false", "true, false", "share one empty network namespace: starts faster" },
	  SCOPE_SPEC, FIELD_BOOL, AT(shared_netns), 0, 1, NULL },
	{ { "limits.memory", "size", "0", "0 to 16777216 MiB", "memory of VMM and guest together; 0: the policy's" },
	  SCOPE_SPEC, FIELD_SIZE, AT(limit_memory_mib), 0, WIRE_MEMORY_MAX, NULL },
	{ { "limits.swap", "size", "0", "0 to 16777216 MiB", "swap; 0: the policy's" },
	  SCOPE_SPEC, FIELD_SIZE, AT(limit_swap_mib), 0, WIRE_MEMORY_MAX, NULL },
	{ { "limits.pids", "number", "0", "0 to 65535", "threads and processes; 0: the policy's" },
	  SCOPE_SPEC, FIELD_NUMBER, AT(limit_pids), 0, 65535, NULL },
	{ { "limits.cpu_percent", "number", "0", "0 to 1000000", "CPU time in percent of one CPU; 0: the policy's" },
	  SCOPE_SPEC, FIELD_NUMBER, AT(limit_cpu_percent), 0, 1000000, NULL },
	{ { "limits.io_weight", "number", "0", "0 to 10000", "relative weight of disk I/O; 0: the policy's" },
	  SCOPE_SPEC, FIELD_NUMBER, AT(limit_io_weight), 0, 10000, NULL },
	{ { "stop_timeout", "time", "10", "0 to 600 seconds, as a number or a string such as \"1500ms\", \"2m\"",
	    "how long the guest may take to power off before the VMM is told to quit" },
	  SCOPE_SPEC, FIELD_TIME, AT(stop_ms), 0, SPEC_STOP_MAX_MS, NULL },
};
/* clang-format on */

const struct field *field_all(size_t *ret_count)
{
	*ret_count = ARRAY_SIZE(fields);
	return fields;
}

const struct spec_field *spec_fields(size_t *ret_count)
{
	static struct spec_field docs[ARRAY_SIZE(fields)];

	for (size_t i = 0; i < ARRAY_SIZE(fields); i++)
		docs[i] = fields[i].doc;
	*ret_count = ARRAY_SIZE(docs);
	return docs;
}

const char *field_key(const struct field *field)
{
	const char *dot = strrchr(field->doc.path, '.');

	return dot != NULL ? dot + 1 : field->doc.path;
}

const struct field *field_find(enum field_scope scope, const char *key)
{
	for (size_t i = 0; i < ARRAY_SIZE(fields); i++) {
		const char *name = scope == SCOPE_SPEC ? fields[i].doc.path : field_key(&fields[i]);

		if (fields[i].scope == scope && strcmp(name, key) == 0)
			return &fields[i];
	}
	return NULL;
}

int field_defaults(enum field_scope scope, void *base)
{
	for (size_t i = 0; i < ARRAY_SIZE(fields); i++) {
		struct spec_error unused;
		int r;

		if (fields[i].scope != scope || fields[i].doc.fallback[0] == '\0')
			continue;
		r = field_set_text(&fields[i], base, fields[i].doc.fallback, fields[i].doc.path, &unused);
		if (r < 0)
			return r;
	}
	return 0;
}

static bool is_string(enum field_type type)
{
	return type == FIELD_PATH || type == FIELD_NAME || type == FIELD_ID || type == FIELD_LINE;
}

void field_free(enum field_scope scope, void *base)
{
	for (size_t i = 0; i < ARRAY_SIZE(fields); i++) {
		char **member = (char **)((char *)base + fields[i].offset);

		if (fields[i].scope != scope || !is_string(fields[i].type))
			continue;
		free(*member);
		*member = NULL;
	}
}

bool field_unset(const struct field *field, const void *base)
{
	return is_string(field->type) && *(const char *const *)(const void *)((const char *)base + field->offset) == NULL;
}

/* The largest unit that loses nothing, so that what is printed is what a person would write. */
static struct json_t *time_to_json(uint32_t ms)
{
	return ms % 1000 == 0 ? json_integer(ms / 1000) : json_sprintf("%ums", ms);
}

struct json_t *field_to_json(const struct field *field, const void *base)
{
	const char *member = (const char *)base + field->offset;
	const char *const *string = (const char *const *)(const void *)member;
	uint32_t number;
	int chosen;

	switch (field->type) {
	case FIELD_PATH:
	case FIELD_NAME:
	case FIELD_ID:
	case FIELD_LINE:
		return *string != NULL ? json_string(*string) : NULL;
	case FIELD_NUMBER:
	case FIELD_SIZE:
		memcpy(&number, member, sizeof(number));
		return json_integer(number);
	case FIELD_TIME:
		memcpy(&number, member, sizeof(number));
		return time_to_json(number);
	case FIELD_BOOL:
		return json_boolean(*(const bool *)(const void *)member);
	case FIELD_CHOICE:
		memcpy(&chosen, member, sizeof(chosen));
		for (const struct field_choice *c = field->choices; c->name != NULL; c++)
			if (c->value == chosen)
				return json_string(c->name);
		return NULL;
	}
	return NULL;
}
