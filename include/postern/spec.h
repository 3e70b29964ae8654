/* SPDX-License-Identifier: Apache-2.0
 * Runs: controller and CLI (the user). The description of one sandbox, after parsing and validation.
 * Owned by whoever called spec_new(); strings are its own. Not shared between threads. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define SPEC_DISKS_MAX 16
#define SPEC_NICS_MAX 8

enum spec_net { SPEC_NET_TAP = 1, SPEC_NET_PASST };
enum spec_accel { SPEC_ACCEL_AUTO, SPEC_ACCEL_KVM, SPEC_ACCEL_TCG };
enum spec_console { SPEC_CONSOLE_SERIAL, SPEC_CONSOLE_NONE };
enum spec_want { SPEC_WANT_NO, SPEC_WANT_PREFER, SPEC_WANT_REQUIRE };

struct spec_disk {
	char *path;
	char *id;        /* [a-z0-9-], default disk0, disk1, ... */
	bool readonly;
};

struct spec_nic {
	enum spec_net kind;
	char *network;   /* tap: name in the policy */
	uint32_t queues; /* tap: queue pairs, 1.. */
	enum spec_want vhost;
};

struct spec {
	char *name;       /* optional, unique among the user's running sandboxes */
	char *hypervisor; /* id registered in the policy; default "qemu" */
	char *kernel, *initrd, *cmdline;
	bool kernel_only; /* the kernel needs neither initrd nor disk (unikernel, built-in initramfs) */
	char *machine;    /* driver's default when NULL */
	uint32_t memory_mib, vcpus;
	enum spec_accel accel;
	enum spec_console console;
	struct spec_disk disks[SPEC_DISKS_MAX];
	size_t disk_count;
	struct spec_nic nics[SPEC_NICS_MAX];
	size_t nic_count;
	enum spec_want vsock, label;
	char *label_type;
	bool survive;       /* outlive the controller */
	bool shared_netns;
	uint32_t limit_memory_mib, limit_swap_mib, limit_pids, limit_cpu_percent, limit_io_weight; /* 0: the policy's */
	uint32_t stop_ms;   /* how long a graceful stop may take before quit, then kill; default 10000 */
};

/* Why a spec was refused: where is a JSON path (".nics[0].queues"), allowed what would have been accepted. */
struct spec_error {
	char where[128];
	char text[256];
	char allowed[256];
	int line;
};

struct json_t; /* jansson */

/* An empty spec with defaults. NULL: out of memory. */
struct spec *spec_new(void);
void spec_free(struct spec *spec); /* NULL is fine */

/* Replace spec by what the JSON text says, over the defaults. Unknown fields, wrong types, duplicates, values outside their
 * set: -EINVAL, *ret filled and spec as it was before. */
int spec_parse(struct spec *spec, const char *text, size_t len, struct spec_error *ret);

/* Rules between fields and with the driver's abilities; opens nothing. -EINVAL and *ret. */
int spec_check(const struct spec *spec, struct spec_error *ret);

/* The spec as JSON with every default filled in; a new reference the caller owns. NULL: a field cannot be printed. */
struct json_t *spec_to_json(const struct spec *spec);

/* One field by its path and text, as the command line gives it: ("memory", "512"), ("disks[0].readonly", "true"). A path
 * that ends in + appends an element: ("nics+", "lan[,queues=N][,vhost=W]" or "passt"), ("disks+", "PATH[,readonly][,id=I]").
 * -EINVAL, *ret filled and spec as it was before. */
int spec_set(struct spec *spec, const char *field, const char *value, struct spec_error *ret);

/* For man page tests and `postern config explain`: name, type, default, allowed values, one line of meaning. */
struct spec_field {
	const char *path, *type, *fallback, *allowed, *meaning;
};
const struct spec_field *spec_fields(size_t *ret_count);

/* The JSON schema of a spec, made from the same table; docs/spec.schema.json is its output. New reference, the caller's. */
struct json_t *spec_schema(void);
