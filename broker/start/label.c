/* SPDX-License-Identifier: Apache-2.0
 * Runs: start (root, for a moment). SELinux: whether there will be labels, and the labels of what start itself makes.
 *
 * By /proc/self/attr and nothing else: a library that asks whether SELinux is on gets "no" where the domain may not look,
 * and would then leave the labels out (SELINUX.md). Whether there are labels is decided once, here; from then on a label
 * that cannot be set is an error, never a reason to go on without. */
#include "label.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>

#include "common/cleanup.h"
#include "common/log.h"

#define START_TYPE "postern_start_t"
#define VMM_TYPE "postern_vmm_t"

static int write_once(const char *path, const char *text, size_t size)
{
	cleanup_fd int fd = open(path, O_RDWR | O_CLOEXEC);
	ssize_t n = fd < 0 ? -1 : write(fd, text, size);

	return n < 0 ? -errno : (size_t)n == size ? 0 : -EIO;
}

static int read_own(struct start *s)
{
	cleanup_fd int fd = open("/proc/self/attr/current", O_RDONLY | O_CLOEXEC);
	ssize_t n = fd < 0 ? -1 : read(fd, s->label, sizeof(s->label) - 1);

	if (n < 0)
		return -errno;
	if ((size_t)n == sizeof(s->label) - 1)
		return -ENAMETOOLONG;
	s->label[n] = '\0';
	s->label[strcspn(s->label, "\n")] = '\0';
	return 0;
}

static bool known(const struct start *s, const char *type)
{
	char label[LABEL_TEXT_MAX];

	return label_text(s->label, NULL, type, NULL, label, sizeof(label)) == 0 &&
	       write_once("/sys/fs/selinux/context", label, strlen(label) + 1) == 0;
}

/* The types that VMMs will have; one that the policy does not know would fail each launch instead. */
static const char *unknown_type(const struct start *s)
{
	if (!known(s, VMM_TYPE))
		return VMM_TYPE;
	for (size_t i = 0; i < s->policy.rule_count; i++)
		for (size_t k = 0; k < s->policy.rules[i].label_count; k++)
			if (!known(s, s->policy.rules[i].labels[k]))
				return s->policy.rules[i].labels[k];
	return NULL;
}

static const char remedy[] =
	"load Postern's module (semodule -i postern.cil), label the files (restorecon -R /usr/sbin /usr/libexec/postern "
	"/etc/postern), start through the service manager; or say \"labels\": \"forbid\" in the policy. See docs/selinux.md";

/* Why there can be no labels although SELinux is on; "" when there can. */
static void find_obstacle(struct start *s, char *ret, size_t size)
{
	int r = read_own(s);
	const char *type;

	ret[0] = '\0';
	if (r < 0)
		(void)snprintf(ret, size, "its own label cannot be read: %s", strerror(-r));
	else if (label_text_is(s->label, START_TYPE) != 1)
		(void)snprintf(ret, size, "postern-start runs as %s instead of " START_TYPE, s->label);
	else if ((type = unknown_type(s)) != NULL)
		(void)snprintf(ret, size, "the loaded policy has no type %s", type);
}

/* Of another security module it would be one word, or a name and a mode. */
static bool is_context(const char *label)
{
	return strchr(label, ':') != NULL && strchr(label, ' ') == NULL;
}

/* -1: there is no SELinux. -ENOENT: there is, but its file system is not to be seen here. */
static int enforcing(struct start *s)
{
	cleanup_fd int fd = open("/sys/fs/selinux/enforce", O_RDONLY | O_CLOEXEC);
	char value = '1';

	if (fd < 0 && errno == ENOENT)
		return read_own(s) == 0 && is_context(s->label) ? -ENOENT : -1;
	if (fd < 0)
		return 1;
	return read(fd, &value, 1) == 1 && value == '0' ? 0 : 1; /* what cannot be read is taken for the stricter */
}

int label_decide(struct start *s)
{
	uint8_t *outcome = &s->table.host.outcomes[WIRE_GRANT_LABEL];
	int mode = enforcing(s);
	char why[256];

	s->table.label = 0;
	if (mode == -ENOENT) {
		log_error("this kernel has SELinux, and postern-start runs as %s, but /sys/fs/selinux is not mounted here: "
			  "mount -t selinuxfs selinuxfs /sys/fs/selinux",
			  s->label);
		return -EPERM;
	}
	*outcome = mode < 0 ? WIRE_BY_NO_KERNEL : WIRE_BY_NO_POLICY;
	if (mode < 0)
		return 0;
	if (s->policy.labels == POLICY_LABELS_FORBID) {
		if (mode == 0 || read_own(s) < 0)
			return 0;
		if (label_text_is(s->label, START_TYPE) != 1) {
			log_warn("no labels, as the policy says: daemons and VMMs stay in the domain of postern-start, %s",
				 s->label);
			return 0;
		}
		log_error("SELinux is enforcing and confines postern-start, but the policy says \"labels\": \"forbid\": "
			  "init could not execute a VMM without a label. Take the module away (semodule -r postern), "
			  "or allow labels");
		return -EPERM;
	}
	find_obstacle(s, why, sizeof(why));
	if (why[0] != '\0' && mode == 1) {
		log_error("SELinux is enforcing, and %s: %s", why, remedy);
		return -EPERM;
	}
	if (why[0] != '\0') {
		*outcome = WIRE_BY_FAILED;
		log_warn("no labels: %s: %s", why, remedy);
		return 0;
	}
	/* A permissive one refuses nothing: that is not what a label is for, and the receipt shall show it. */
	*outcome = mode == 0 ? WIRE_BY_PARTIAL : WIRE_BY_GRANTED;
	s->table.label = 1;
	if (mode == 0)
		log_warn("SELinux is permissive: labels are set, and nothing is refused because of them");
	return 0;
}

bool label_wanted(const struct start *s)
{
	return wire_outcome_ok(s->table.host.outcomes[WIRE_GRANT_LABEL]);
}

int label_file(const struct start *s, const char *type, char *out, size_t size)
{
	return label_text_file(s->label, type, out, size);
}

/* Nothing but a newline takes a value back. */
static int attribute(const struct start *s, const char *path, const char *label)
{
	int r = !label_wanted(s) ? 0 : write_once(path, label, strlen(label));

	if (r < 0)
		log_error("SELinux: %s: \"%s\": %s", path, label, strerror(-r));
	return r;
}

int label_next_files(const struct start *s, const char *type)
{
	char label[LABEL_TEXT_MAX] = "\n";
	int r = type == NULL || !label_wanted(s) ? 0 : label_file(s, type, label, sizeof(label));

	return r < 0 ? r : attribute(s, "/proc/self/attr/fscreate", label);
}

int label_next_sockets(const struct start *s, const char *type)
{
	char label[LABEL_TEXT_MAX] = "\n";
	int r = type == NULL || !label_wanted(s) ? 0 : label_text(s->label, NULL, type, NULL, label, sizeof(label));

	return r < 0 ? r : attribute(s, "/proc/self/attr/sockcreate", label);
}
