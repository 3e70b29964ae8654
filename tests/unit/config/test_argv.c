/* SPDX-License-Identifier: Apache-2.0
 * Runs: test (the user). Command lines against golden files (POSTERN_GOLDEN=write writes them anew), what drivers ask of the
 * broker, the choice of accelerator, and that no text of a spec becomes part of an option (attack 4). */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>

#include "common/cleanup.h"
#include "launcher/config/spec_table.h"
#include "launcher/hypervisor/accel.h"
#include "launcher/hypervisor/said.h"
#include "policy/policy.h"
#include "postern/driver.h"

_Static_assert((int)DRIVER_KIND_QEMU == (int)POLICY_DRIVER_QEMU && (int)DRIVER_KIND_MOCK == (int)POLICY_DRIVER_MOCK &&
		       (int)DRIVER_KIND_FIRECRACKER == (int)POLICY_DRIVER_FIRECRACKER &&
		       (int)DRIVER_KIND_CLH == (int)POLICY_DRIVER_CLH && (int)DRIVER_KIND_ACRN == (int)POLICY_DRIVER_ACRN,
	       "driver_kind are the policy's numbers");

#define GOLDEN_MAX 16384u

/* Everything a plan is made of, with files that are open and a lease that grants what was asked. */
struct world {
	struct spec *spec;
	struct wire_acquire ask;
	struct wire_lease lease;
	struct driver_probe probe;
	struct driver_context ctx;
	struct plan *plan;
	struct spec_error error;
	const struct driver *driver;
};

static void world_open(struct world *w, const char *json)
{
	*w = (struct world){ .probe = { 7, 2, "7.2.22", false } };
	w->spec = spec_new();
	w->plan = plan_new();
	assert_non_null(w->plan);
	if (spec_parse(w->spec, json, strlen(json), &w->error) != 0 || spec_check(w->spec, &w->error) != 0)
		fail_msg("%s: %s: %s", json, w->error.where, w->error.text);
	w->driver = driver_by_name(w->spec->hypervisor);
	assert_non_null(w->driver);
	memcpy(w->lease.uuid, "\x0a\x1b\x2c\x3d\x4e\x5f\x46\x07\x88\x19\xaa\xbb\xcc\xdd\xee\xff", 16);
}

static void world_open_files(struct world *w)
{
	w->ctx = (struct driver_context){ .spec = w->spec,
					  .lease = &w->lease,
					  .probe = &w->probe,
					  .path = "/usr/bin/vmm",
					  .kernel = -1,
					  .initrd = -1,
					  .passt = -1 };
	if (w->spec->kernel != NULL)
		w->ctx.kernel = open(SOURCE_ROOT "/meson.build", O_RDONLY | O_CLOEXEC);
	if (w->spec->initrd != NULL)
		w->ctx.initrd = open(SOURCE_ROOT "/meson.build", O_RDONLY | O_CLOEXEC);
	for (size_t i = 0; i < SPEC_DISKS_MAX; i++)
		w->ctx.disks[i] = i >= w->spec->disk_count     ? -1
				  : w->spec->disks[i].readonly ? open(SOURCE_ROOT "/meson.build", O_RDONLY | O_CLOEXEC)
							       : memfd_create("disk", MFD_CLOEXEC);
	for (size_t i = 0; i < w->spec->nic_count; i++)
		if (w->spec->nics[i].kind == SPEC_NET_PASST)
			w->ctx.passt = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
}

/* A lease that grants all of ask. */
static void world_grant(struct world *w, bool vhost)
{
	w->lease.nic_count = w->ask.nic_count;
	for (unsigned i = 0; i < w->ask.nic_count; i++) {
		memcpy(w->lease.nics[i].network, w->ask.nics[i].network, sizeof(w->lease.nics[i].network));
		w->lease.nics[i].queues = w->ask.nics[i].queues;
		memcpy(w->lease.nics[i].mac, (uint8_t[]){ 2, 0, 0, 0, 1, (uint8_t)(i + 1) }, 6);
		w->lease.nics[i].vhost = vhost && (w->ask.nics[i].flags & WIRE_NIC_VHOST_WANT) != 0;
	}
	if ((w->ask.flags & WIRE_KVM_WANT) != 0)
		w->lease.grants[WIRE_GRANT_KVM] = (w->ask.flags & WIRE_KVM_FD_OK) != 0 ? WIRE_BY_BY_FD : WIRE_BY_BY_NODE;
	if ((w->ask.flags & WIRE_VSOCK_WANT) != 0) {
		w->lease.grants[WIRE_GRANT_VHOST_VSOCK] = WIRE_BY_GRANTED;
		w->lease.cid = 4711;
	}
}

static void world_close(struct world *w)
{
	fd_close(&w->ctx.kernel);
	fd_close(&w->ctx.initrd);
	fd_close(&w->ctx.passt);
	for (size_t i = 0; i < SPEC_DISKS_MAX; i++)
		fd_close(&w->ctx.disks[i]);
	plan_free(w->plan);
	spec_free(w->spec);
}

static void world_plan(struct world *w, bool vhost)
{
	const char *reason;

	if (w->driver->needs(w->spec, &w->probe, &w->ask, &w->error) != 0)
		fail_msg("needs: %s: %s", w->error.where, w->error.text);
	world_grant(w, vhost);
	world_open_files(w);
	assert_int_equal(accel_decide(w->spec, &w->lease, w->driver, w->probe.kvm_pvm, &w->ctx.kvm, &reason, &w->error), 0);
	if (w->driver->plan(&w->ctx, w->plan, &w->error) != 0)
		fail_msg("plan: %s: %s", w->error.where, w->error.text);
}

/* An option and its value on one line. */
static void print_plan(const struct plan *plan, char text[GOLDEN_MAX])
{
	size_t used = 0;

	for (const char *word = plan->words; word < plan->words + plan->word_bytes; word += strlen(word) + 1)
		used += (size_t)snprintf(text + used, GOLDEN_MAX - used, "%s%s",
					 used == 0        ? ""
					 : word[0] == '-' ? "\n"
							  : " ",
					 word);
	for (size_t i = 0; i < plan->asset_count; i++)
		used += (size_t)snprintf(text + used, GOLDEN_MAX - used, "\nasset %zu: %s%s%s", i, plan->assets[i].name,
					 plan->assets[i].copy ? " copy" : "", plan->assets[i].writable ? " writable" : "");
	(void)snprintf(text + used, GOLDEN_MAX - used, "\n");
}

static void golden(const char *name, const struct plan *plan)
{
	const char *write = getenv("POSTERN_GOLDEN");
	static char have[GOLDEN_MAX], want[GOLDEN_MAX];
	char path[512];
	FILE *file;
	size_t n;

	print_plan(plan, have);
	(void)snprintf(path, sizeof(path), "%s/tests/unit/config/golden/%s.argv", SOURCE_ROOT, name);
	if (write != NULL && strcmp(write, "write") == 0) {
		file = fopen(path, "w");
		assert_non_null(file);
		assert_true(fputs(have, file) >= 0);
		(void)fclose(file);
	}
	file = fopen(path, "r");
	if (file == NULL)
		fail_msg("%s cannot be read", path);
	n = fread(want, 1, sizeof(want) - 1, file);
	want[n] = '\0';
	(void)fclose(file);
	assert_string_equal(have, want);
}

static const char *option(const struct plan *plan, const char *name, unsigned nth)
{
	for (const char *word = plan->words; word < plan->words + plan->word_bytes; word += strlen(word) + 1)
		if (strcmp(word, name) == 0 && nth-- == 0)
			return word + strlen(word) + 1;
	return NULL;
}

#define BOOT "\"kernel\": \"/k\", \"initrd\": \"/i\""

/* QEMU-09 -10 -11 -15 -24 -28 and the default command line, on the default machine, emulated. Differences: no daemon and no
 * pid file (init supervises), no -nographic (no display at all), maxcpus is what it starts with (no hot-plug yet). */
static void qemu_plain(void **state)
{
	struct world w;

	(void)state;
	world_open(&w, "{" BOOT ", \"memory\": 512, \"vcpus\": 2, \"accel\": \"tcg\"}");
	world_plan(&w, false);
	golden("plain", w.plan);
	world_close(&w);
}

/* QEMU-06, queues, vsock, disks by descriptor, KVM by node; slots follow common/slots.h. */
static void qemu_everything(void **state)
{
	struct world w;

	(void)state;
	world_open(&w, "{" BOOT ", \"machine\": \"pc\", \"cmdline\": \"root=/dev/vda console=ttyS1\", \"vsock\": \"prefer\","
		       "\"disks\": [{\"path\": \"/d\"}, {\"path\": \"/e\", \"id\": \"data\", \"readonly\": true}],"
		       "\"nics\": [{\"network\": \"lan\", \"queues\": 2}, {\"type\": \"passt\"}, {\"network\": \"dmz\", "
		       "\"vhost\": \"no\"},"
		       "{\"network\": \"lan\"}]}");
	world_plan(&w, true);
	golden("everything", w.plan);
	assert_int_equal(w.ctx.kernel, -1);
	assert_int_equal(w.ctx.disks[1], -1);
	assert_int_equal(w.ctx.passt, -1);
	world_close(&w);
}

static void qemu_microvm(void **state)
{
	struct world w;

	(void)state;
	world_open(
		&w,
		"{" BOOT
		", \"machine\": \"microvm\", \"console\": \"none\", \"vsock\": \"require\", \"disks\": [{\"path\": \"/d\"}],"
		"\"nics\": [{\"network\": \"lan\", \"queues\": 2}]}");
	world_plan(&w, true);
	golden("microvm", w.plan);
	world_close(&w);
}

/* From 9.0 on /dev/kvm goes in by descriptor; from 8.0 on cmpxchg16b is emulated right. */
static void qemu_versions(void **state)
{
	struct world w;

	(void)state;
	world_open(&w, "{" BOOT "}");
	w.probe = (struct driver_probe){ 9, 1, "9.1.0", false };
	world_plan(&w, false);
	golden("kvm-by-fd", w.plan);
	world_close(&w);
	world_open(&w, "{" BOOT ", \"accel\": \"tcg\"}");
	w.probe = (struct driver_probe){ 8, 0, "8.0.0", false };
	world_plan(&w, false);
	assert_string_equal(option(w.plan, "-cpu", 0), "max");
	world_close(&w);
	world_open(&w, "{" BOOT ", \"accel\": \"kvm\"}");
	w.probe.kvm_pvm = true;
	world_plan(&w, false);
	assert_string_equal(option(w.plan, "-cpu", 0), "host,-arch-capabilities");
	world_close(&w);
}

static void refused_by_needs(const char *json, const char *where, const char *part)
{
	struct world w;

	world_open(&w, json);
	if (w.driver->needs(w.spec, &w.probe, &w.ask, &w.error) != -EINVAL || strcmp(w.error.where, where) != 0 ||
	    strstr(w.error.text, part) == NULL)
		fail_msg("%s: at \"%s\": \"%s\"", json, w.error.where, w.error.text);
	world_close(&w);
}

/* CFG-01, CFG-02 (a kernel that brings its own root says so with kernel_only), their order, QEMU-07, QEMU-09. */
static void qemu_refuses(void **state)
{
	struct world w;

	(void)state;
	refused_by_needs("{}", ".kernel", "missing");
	refused_by_needs("{\"disks\": [{\"path\": \"d\"}]}", ".kernel", "missing");
	refused_by_needs("{\"kernel\": \"k\", \"machine\": \"virt\"}", ".initrd", "no root");
	refused_by_needs("{\"kernel\": \"k\", \"initrd\": \"i\", \"machine\": \"virt\"}", ".machine", "virt");
	refused_by_needs("{\"kernel\": \"k\", \"initrd\": \"i\", \"vcpus\": 241}", ".vcpus", "241");
	refused_by_needs("{\"kernel\": \"k\", \"initrd\": \"i\", \"memory\": 7}", ".memory", "too few");
	refused_by_needs("{\"hypervisor\": \"mock\", \"machine\": \"pc\"}", ".machine", "no machines");
	refused_by_needs("{\"hypervisor\": \"mock\", \"accel\": \"tcg\"}", ".accel", "no emulation");
	refused_by_needs("{\"hypervisor\": \"mock\", \"nics\": [{\"type\": \"passt\"}]}", ".nics[0]", "passt");
	world_open(&w, "{\"kernel\": \"k\", \"disks\": [{\"path\": \"d\"}]}");
	assert_int_equal(w.driver->needs(w.spec, &w.probe, &w.ask, &w.error), 0);
	w.probe = (struct driver_probe){ 7, 1, "7.1.0", false };
	assert_int_equal(w.driver->needs(w.spec, &w.probe, &w.ask, &w.error), -EINVAL);
	world_close(&w);
	world_open(&w, "{\"kernel\": \"k\", \"kernel_only\": true}");
	assert_int_equal(w.driver->needs(w.spec, &w.probe, &w.ask, &w.error), 0);
	world_close(&w);
}

static uint32_t asked(const char *json, struct driver_probe probe, struct wire_acquire *ask)
{
	struct world w;

	world_open(&w, json);
	assert_int_equal(w.driver->needs(w.spec, &probe, &w.ask, &w.error), 0);
	*ask = w.ask;
	world_close(&w);
	return ask->flags;
}

static void what_is_asked(void **state)
{
	const struct driver_probe old = { 7, 2, "7.2.22", false }, new = { 9, 0, "9.0", false },
				  pvm = { 7, 2, "7.2.22", true };
	struct wire_acquire ask;

	(void)state;
	assert_int_equal(asked("{" BOOT "}", old, &ask), WIRE_KVM_WANT);
	assert_int_equal(asked("{" BOOT "}", new, &ask), WIRE_KVM_WANT | WIRE_KVM_FD_OK);
	assert_int_equal(asked("{" BOOT "}", pvm, &ask), 0);
	assert_int_equal(asked("{" BOOT ", \"accel\": \"kvm\"}", pvm, &ask), WIRE_KVM_WANT | WIRE_KVM_REQUIRE);
	assert_int_equal(asked("{" BOOT ", \"accel\": \"tcg\"}", new, &ask), 0);
	assert_int_equal(asked("{\"hypervisor\": \"mock\"}", old, &ask), 0);
	assert_int_equal(asked("{\"hypervisor\": \"mock\", \"accel\": \"kvm\"}", old, &ask),
			 WIRE_KVM_WANT | WIRE_KVM_REQUIRE | WIRE_KVM_FD_OK);
	assert_int_equal(
		asked("{" BOOT ", \"accel\": \"tcg\", \"vsock\": \"require\", \"label\": \"require\", \"survive\": true,"
		      "\"shared_netns\": true, \"label_type\": \"strict\", \"vcpus\": 3, \"memory\": 77,"
		      "\"limits\": {\"memory\": 78, \"swap\": 2, \"pids\": 3, \"cpu_percent\": 4, \"io_weight\": 5},"
		      "\"nics\": [{\"type\": \"passt\"}, {\"network\": \"lan\", \"queues\": 4, \"vhost\": \"require\"},"
		      "{\"network\": \"b\", \"vhost\": \"no\"}]}",
		      old, &ask),
		WIRE_VSOCK_WANT | WIRE_VSOCK_REQUIRE | WIRE_LABEL_REQUIRE | WIRE_SURVIVE | WIRE_NETNS_SHARED);
	assert_int_equal(ask.nic_count, 2);
	assert_string_equal(ask.nics[0].network, "lan");
	assert_int_equal(ask.nics[0].queues, 4);
	assert_int_equal(ask.nics[0].flags, WIRE_NIC_VHOST_WANT | WIRE_NIC_VHOST_REQUIRE);
	assert_int_equal(ask.nics[1].flags, 0);
	assert_string_equal(ask.label_type, "strict");
	assert_int_equal(ask.vcpus, 3);
	assert_int_equal(ask.memory_mib, 77);
	assert_int_equal(ask.limits[0].memory_mib, 78);
	assert_int_equal(ask.limits[0].swap_mib, 2);
	assert_int_equal(ask.limits[0].pids, 3);
	assert_int_equal(ask.limits[0].cpu_percent, 4);
	assert_int_equal(ask.limits[0].io_weight, 5);
}

static void accelerators(void **state)
{
	static const struct {
		const char *accel;
		unsigned outcome;
		bool pvm;
		int result;
		bool kvm;
		const char *part; /* of reason or error */
	} rows[] = {
		{ "auto", WIRE_BY_BY_NODE, false, 0, true, "granted" },
		{ "auto", WIRE_BY_BY_FD, true, 0, false, "kvm_pvm" },
		{ "auto", WIRE_BY_NO_POLICY, false, 0, false, "policy" },
		{ "auto", WIRE_BY_NO_NODE, false, 0, false, "does not exist" },
		{ "tcg", WIRE_BY_BY_NODE, false, 0, false, "spec" },
		{ "kvm", WIRE_BY_BY_GROUP, true, 0, true, "spec" },
		{ "kvm", WIRE_BY_NO_ACCESS, false, -EINVAL, false, "administrator" },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		const char *reason = "";
		bool kvm = false;
		char json[128];
		struct world w;

		(void)snprintf(json, sizeof(json), "{" BOOT ", \"accel\": \"%s\"}", rows[i].accel);
		world_open(&w, json);
		w.lease.grants[WIRE_GRANT_KVM] = (uint8_t)rows[i].outcome;
		assert_int_equal(accel_decide(w.spec, &w.lease, w.driver, rows[i].pvm, &kvm, &reason, &w.error),
				 rows[i].result);
		assert_int_equal(kvm, rows[i].kvm);
		assert_non_null(strstr(rows[i].result == 0 ? reason : w.error.text, rows[i].part));
		world_close(&w);
	}
}

/* D04: whatever a user writes into a string of a spec is refused, stays out of the command line, or is the one word behind
 * -append; the number of words and every other word stay what they are for harmless text. */
static void d04_no_text_becomes_an_option(void **state)
{
	static const char *const hostile[] = { "a,b=c",
					       "-sandbox",
					       "x,file=/etc/shadow",
					       "a=b",
					       "a\nb",
					       "a,,b",
					       "--help",
					       "/dev/fdset/1",
					       "a b -S",
					       "\"a\"",
					       "%s%n",
					       "a'b",
					       "../../x",
					       ",",
					       "=",
					       "-",
					       "id=net0",
					       "$(x)",
					       "json:{}",
					       "exec:x",
					       "nbd:x:1",
					       "x\\,y",
					       "fd:3",
					       "ü" };
	size_t count;
	const struct field *rows = field_all(&count);

	(void)state;
	for (size_t i = 0; i < count; i++) {
		if (rows[i].type != FIELD_PATH && rows[i].type != FIELD_NAME && rows[i].type != FIELD_ID &&
		    rows[i].type != FIELD_LINE)
			continue;
		for (size_t h = 0; h < ARRAY_SIZE(hostile); h++) {
			static char plain[GOLDEN_MAX], with[GOLDEN_MAX];
			const char *append;
			char path[64], expected[256];
			struct world w, v;

			world_open(&v, "{" BOOT ", \"cmdline\": \"q\", \"disks\": [{\"path\": \"/d\"}], \"nics\": "
				       "[{\"network\": \"lan\"}]}");
			world_plan(&v, true);
			world_open(&w, "{" BOOT ", \"cmdline\": \"q\", \"disks\": [{\"path\": \"/d\"}], \"nics\": "
				       "[{\"network\": \"lan\"}]}");
			(void)snprintf(path, sizeof(path), "%s%s",
				       rows[i].scope == SCOPE_DISK  ? "disks[0]."
				       : rows[i].scope == SCOPE_NIC ? "nics[0]."
								    : "",
				       rows[i].scope == SCOPE_SPEC ? rows[i].doc.path : field_key(&rows[i]));
			if (spec_set(w.spec, path, hostile[h], &w.error) == 0) {
				assert_true(rows[i].type == FIELD_PATH || rows[i].type == FIELD_LINE);
				world_plan(&w, true);
				assert_int_equal(w.plan->word_count, v.plan->word_count);
				append = option(w.plan, "-append", 0);
				if (rows[i].type == FIELD_LINE) {
					(void)snprintf(expected, sizeof(expected), "console=ttyS0 panic=1 %s", hostile[h]);
					assert_string_equal(append, expected);
				} else {
					print_plan(v.plan, plain);
					print_plan(w.plan, with);
					assert_string_equal(plain, with);
				}
			}
			world_close(&w);
			world_close(&v);
		}
	}
}

/* What cannot be passed is refused, and what was not taken over stays open with the caller. */
static void plan_failures(void **state)
{
	struct world w;

	(void)state;
	world_open(&w, "{" BOOT ", \"disks\": [{\"path\": \"/d\"}]}");
	world_open_files(&w);
	fd_close(&w.ctx.disks[0]);
	w.ctx.disks[0] = open("/", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	assert_true(w.driver->plan(&w.ctx, w.plan, &w.error) < 0);
	assert_true(fcntl(w.ctx.disks[0], F_GETFD) >= 0);
	world_close(&w);
	world_open(&w, "{" BOOT ", \"nics\": [{\"network\": \"lan\"}]}");
	world_open_files(&w);
	assert_int_equal(w.driver->plan(&w.ctx, w.plan, &w.error), -EINVAL);
	assert_non_null(strstr(w.error.text, "0 taps"));
	world_close(&w);
	world_open(&w, "{" BOOT "}");
	world_open_files(&w);
	w.lease.nic_count = 1;
	assert_int_equal(w.driver->plan(&w.ctx, w.plan, &w.error), -EINVAL);
	world_close(&w);
	world_open(&w, "{" BOOT "}");
	world_open_files(&w);
	fd_close(&w.ctx.initrd);
	assert_int_equal(w.driver->plan(&w.ctx, w.plan, &w.error), -EINVAL);
	assert_string_equal(w.error.where, ".initrd");
	world_close(&w);
}

static void mock_plan(void **state)
{
	struct world w;

	(void)state;
	world_open(&w, "{\"hypervisor\": \"mock\"}");
	world_plan(&w, false);
	golden("mock-empty", w.plan);
	world_close(&w);
	world_open(&w, "{\"hypervisor\": \"mock\", " BOOT ", \"cmdline\": \"exit=3\", \"disks\": [{\"path\": \"/d\"}],"
		       "\"nics\": [{\"network\": \"lan\", \"queues\": 2}, {\"network\": \"lan\", \"vhost\": \"no\"}]}");
	world_plan(&w, true);
	golden("mock-full", w.plan);
	world_close(&w);
}

/* TYP-01 for the drivers there are: names are exact, numbers are the policy's. */
static void registry(void **state)
{
	size_t count;
	const struct driver *const *all = driver_all(&count);

	(void)state;
	for (size_t i = 0; i < count; i++) {
		assert_ptr_equal(driver_by_name(all[i]->name), all[i]);
		assert_ptr_equal(driver_by_kind(all[i]->kind), all[i]);
	}
	assert_null(driver_by_name("QEMU"));
	assert_null(driver_by_name(""));
	assert_null(driver_by_name(" qemu"));
	assert_null(driver_by_kind(0));
	assert_null(driver_by_kind(15));
}

/* What QEMU complains about is named as the user named it, whatever number its set has. */
static void words_about_files(void **state)
{
	static const char json[] = "{\"kernel\": \"/k\", \"initrd\": \"/i\", \"disks\": [{\"path\": \"/a.img\"},"
				   "{\"path\": \"/b.img\", \"id\": \"b\", \"readonly\": true}]}";
	static const char *const rows[][2] = {
		{ "the image [/dev/fdset/2]?", "the image [/b.img]?" },
		{ "/dev/fdset/1, /run/kernel '/run/initrd'", "/a.img, /k '/i'" },
		{ "/dev/fdset/3 /dev/fdset/ /run/", "/dev/fdset/3 /dev/fdset/ /run/" },
		{ "", "" },
	};
	char text[64], small[8];
	struct world w;

	(void)state;
	world_open(&w, json);
	world_open_files(&w);
	assert_int_equal(w.driver->plan(&w.ctx, w.plan, &w.error), 0);
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		said_names(w.spec, w.plan, rows[i][0], text, sizeof(text));
		assert_string_equal(text, rows[i][1]);
	}
	said_names(w.spec, NULL, rows[0][0], text, sizeof(text));
	assert_string_equal(text, rows[0][0]);
	said_names(w.spec, w.plan, "x /dev/fdset/1 y", small, sizeof(small));
	assert_string_equal(small, "x /a.im");
	world_close(&w);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(words_about_files),
		cmocka_unit_test(qemu_plain),
		cmocka_unit_test(qemu_everything),
		cmocka_unit_test(qemu_microvm),
		cmocka_unit_test(qemu_versions),
		cmocka_unit_test(qemu_refuses),
		cmocka_unit_test(what_is_asked),
		cmocka_unit_test(accelerators),
		cmocka_unit_test(d04_no_text_becomes_an_option),
		cmocka_unit_test(plan_failures),
		cmocka_unit_test(mock_plan),
		cmocka_unit_test(registry),
	};

	return cmocka_run_group_tests_name("argv", tests, NULL, NULL);
}
