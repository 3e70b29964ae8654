/* SPDX-License-Identifier: Apache-2.0
 * Runs: controller and CLI (the user). The spec as an object: made, checked as a whole, printed, described. */
#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <string.h>

#include "common/cleanup.h"
#include "common/messages.h"
#include "spec_table.h"

struct spec *spec_new(void)
{
	struct spec *spec = calloc(1, sizeof(*spec));

	if (spec != NULL && field_defaults(SCOPE_SPEC, spec) < 0) {
		spec_free(spec);
		return NULL;
	}
	return spec;
}

void spec_free(struct spec *spec)
{
	if (spec == NULL)
		return;
	for (size_t i = 0; i < SPEC_DISKS_MAX; i++)
		field_free(SCOPE_DISK, &spec->disks[i]);
	for (size_t i = 0; i < SPEC_NICS_MAX; i++)
		field_free(SCOPE_NIC, &spec->nics[i]);
	field_free(SCOPE_SPEC, spec);
	free(spec);
}

/* ---- rules between fields ---------------------------------------------------------------------------------------- */

static int check_disks(const struct spec *spec, struct spec_error *ret)
{
	char where[64];

	for (size_t i = 0; i < spec->disk_count; i++) {
		(void)snprintf(where, sizeof(where), ".disks[%zu].path", i);
		if (spec->disks[i].path == NULL)
			return spec_fail(ret, where, "path of a file or block device", "is missing");
		for (size_t j = 0; j < i; j++) {
			(void)snprintf(where, sizeof(where), ".disks[%zu].id", i);
			if (strcmp(spec->disks[i].id, spec->disks[j].id) == 0)
				return spec_fail(ret, where, "an id no other disk has", "\"%s\" is the id of disk %zu too",
						 spec->disks[i].id, j);
		}
	}
	return 0;
}

static int check_nics(const struct spec *spec, struct spec_error *ret)
{
	uint32_t queues = 0, passts = 0;
	char where[64];

	for (size_t i = 0; i < spec->nic_count; i++) {
		const struct spec_nic *nic = &spec->nics[i];

		(void)snprintf(where, sizeof(where), ".nics[%zu].network", i);
		if (nic->kind == SPEC_NET_TAP && nic->network == NULL)
			return spec_fail(ret, where, "name of a network of the policy", "is missing");
		if (nic->kind == SPEC_NET_PASST && nic->network != NULL)
			return spec_fail(ret, where, "nothing", "passt has no network of the policy");
		(void)snprintf(where, sizeof(where), ".nics[%zu]", i);
		if (nic->kind == SPEC_NET_PASST && (nic->queues != 1 || nic->vhost == SPEC_WANT_REQUIRE))
			return spec_fail(ret, where, "{ \"type\": \"passt\" }", "passt has one queue and no vhost");
		if (nic->kind == SPEC_NET_PASST && ++passts > 1)
			return spec_fail(ret, where, "one NIC of type passt", "is the second NIC of type passt");
		queues += nic->kind == SPEC_NET_TAP ? nic->queues : 0;
	}
	if (queues > WIRE_TAP_FDS_MAX)
		return spec_fail(ret, ".nics", "32 queue pairs in all", "have %u queue pairs in all", queues);
	return 0;
}

int spec_check(const struct spec *spec, struct spec_error *ret)
{
	int r;

	if (spec->kernel == NULL && spec->initrd != NULL)
		return spec_fail(ret, ".kernel", "path of a file", "is missing: an initrd needs a kernel");
	if (spec->kernel == NULL && spec->cmdline != NULL)
		return spec_fail(ret, ".kernel", "path of a file", "is missing: a command line needs a kernel");
	if (spec->kernel_only && (spec->initrd != NULL || spec->kernel == NULL))
		return spec_fail(ret, ".kernel_only", "false", "is true, yet there is %s",
				 spec->kernel == NULL ? "no kernel" : "an initrd");
	/* The kernel would kill it as soon as the guest uses its memory. */
	if (spec->limit_memory_mib != 0 && spec->limit_memory_mib < spec->memory_mib)
		return spec_fail(ret, ".limits.memory", "0, or more than the memory of the guest",
				 "is %u MiB, less than the %u MiB of the guest", spec->limit_memory_mib, spec->memory_mib);
	r = check_disks(spec, ret);
	if (r == 0)
		r = check_nics(spec, ret);
	return r;
}

/* ---- printing ---------------------------------------------------------------------------------------------------- */

/* A tap's fields say nothing about passt. */
static bool applies(const struct field *field, const void *base)
{
	const struct spec_nic *nic = base;

	return field->scope != SCOPE_NIC || nic->kind == SPEC_NET_TAP || field->offset == offsetof(struct spec_nic, kind);
}

/* Every row of scope into object; "limits.x" goes into an object of its own. */
static int print_scope(enum field_scope scope, const void *base, json_t *object)
{
	size_t count;
	const struct field *rows = field_all(&count);

	for (size_t i = 0; i < count; i++) {
		const char *dot = strchr(rows[i].doc.path, '.');
		json_t *into = object, *value;
		char group[32];

		if (rows[i].scope != scope || !applies(&rows[i], base) || field_unset(&rows[i], base))
			continue;
		/* A spec with a field left out would be another spec. */
		value = field_to_json(&rows[i], base);
		if (value == NULL)
			return -EINVAL;
		if (scope == SCOPE_SPEC && dot != NULL) {
			(void)snprintf(group, sizeof(group), "%.*s", (int)(dot - rows[i].doc.path), rows[i].doc.path);
			into = json_object_get(object, group);
			if (into == NULL && json_object_set_new(object, group, into = json_object()) < 0)
				return -ENOMEM;
		}
		if (json_object_set_new(into, field_key(&rows[i]), value) < 0)
			return -ENOMEM;
	}
	return 0;
}

static int print_list(enum field_scope scope, const void *base, size_t size, size_t count, json_t *list)
{
	for (size_t i = 0; i < count; i++) {
		json_t *object = json_object();

		if (json_array_append_new(list, object) < 0 || print_scope(scope, (const char *)base + i * size, object) < 0)
			return -ENOMEM;
	}
	return 0;
}

struct json_t *spec_to_json(const struct spec *spec)
{
	json_t *object = json_object(), *disks = json_array(), *nics = json_array();

	if (json_object_set_new(object, "disks", disks) < 0 || json_object_set_new(object, "nics", nics) < 0 ||
	    print_scope(SCOPE_SPEC, spec, object) < 0 ||
	    print_list(SCOPE_DISK, spec->disks, sizeof(spec->disks[0]), spec->disk_count, disks) < 0 ||
	    print_list(SCOPE_NIC, spec->nics, sizeof(spec->nics[0]), spec->nic_count, nics) < 0) {
		json_decref(object);
		return NULL;
	}
	return object;
}
