/* SPDX-License-Identifier: Apache-2.0
 * Runs: start (root, for a moment). The administrator's policy, and the table that the spawner gets of it. */
#include "start.h"

#include <errno.h>
#include <fcntl.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/stat.h>

#include "common/cleanup.h"
#include "common/log.h"
#include "policy/id_range.h"

#define NAME_MAX_BYTES 64

int memfd_make(const char *name, int *ret_fd)
{
	cleanup_fd int fd = memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING);

	/* A memfd is born 0777; by its /proc link others could open it. */
	if (fd < 0 || fchmod(fd, 0400) < 0) {
		log_error("memfd %s: %m", name);
		return -errno;
	}
	*ret_fd = fd_take(&fd);
	return 0;
}

int memfd_fill(int fd, const void *bytes, size_t size)
{
	if (pwrite(fd, bytes, size, 0) == (ssize_t)size &&
	    fcntl(fd, F_ADD_SEALS, TABLE_SEALS) == 0)
		return 0;
	log_error("memfd: %m");
	return -EIO;
}

static int refuse(const struct start *s, const struct policy_error *e)
{
	if (e->line > 0)
		log_error("policy %s:%u:%u: %s%s%s", s->options.policy, e->line, e->column, e->where,
			  e->where[0] ? ": " : "", e->text);
	else
		log_error("policy %s: %s%s%s", s->options.policy, e->where, e->where[0] ? ": " : "", e->text);
	return -EINVAL;
}

/* Copied first and checked after: what was checked is what the broker reads, whatever happens to the file. */
static int load(struct start *s)
{
	struct policy_error error = { 0 };
	cleanup_free char *bytes = NULL;
	cleanup_fd int file = policy_open(s->options.policy, &error);
	size_t size = 0;
	ssize_t n;

	if (file == -EACCES)
		log_warn("%s", HOST_RELABEL_TEXT);
	if (file < 0)
		return refuse(s, &error);
	bytes = malloc(POLICY_FILE_MAX + 1);
	if (bytes == NULL)
		return -ENOMEM;
	while ((n = read(file, bytes + size, POLICY_FILE_MAX + 1 - size)) > 0)
		size += (size_t)n;
	if (n < 0 || size > POLICY_FILE_MAX) {
		log_error("policy %s: cannot be read, or is longer than %d bytes", s->options.policy, POLICY_FILE_MAX);
		return -EFBIG;
	}
	if (memfd_make("policy", &s->policy_fd) < 0 || memfd_fill(s->policy_fd, bytes, size) < 0)
		return -EIO;
	if (policy_load(s->policy_fd, &s->policy, &error) < 0)
		return refuse(s, &error);
	(void)lseek(s->policy_fd, 0, SEEK_SET);
	return 0;
}

static void name_of(uid_t uid, char ret[NAME_MAX_BYTES])
{
	const struct passwd *pw = getpwuid(uid);

	(void)snprintf(ret, NAME_MAX_BYTES, "%s", pw != NULL ? pw->pw_name : "");
}

int policy_take(struct start *s)
{
	struct id_range_sources sources = ID_RANGE_HOST;
	char broker[NAME_MAX_BYTES], spawner[NAME_MAX_BYTES], text[256] = "";
	int r = load(s);

	if (r < 0)
		return r;
	if (s->policy.broker_uid == 0 || s->policy.spawn_uid == 0 || s->policy.broker_uid == s->policy.spawn_uid) {
		log_error("policy %s: the two daemons need two users, neither of them root", s->options.policy);
		return -EINVAL;
	}
	name_of(s->policy.broker_uid, broker);
	name_of(s->policy.spawn_uid, spawner);
	sources.exempt[0] = broker[0] != '\0' ? broker : NULL;
	sources.exempt[1] = spawner[0] != '\0' ? spawner : NULL;
	r = id_range_check(s->policy.first_uid, s->policy.uid_count, &sources, text, sizeof(text));
	if (r < 0)
		log_error("policy %s: id range %u+%u: %s; choose another in \"ids\"", s->options.policy, s->policy.first_uid,
			  s->policy.uid_count, text[0] != '\0' ? text : strerror(-r));
	return r;
}

int table_make(struct start *s)
{
	const struct policy *policy = &s->policy;
	struct spawn_table *t = &s->table;

	_Static_assert(TABLE_HYPERVISORS >= POLICY_HYPERVISORS_MAX && TABLE_NETWORKS >= POLICY_NETWORKS_MAX &&
			       TABLE_BINDS >= POLICY_BINDS_MAX,
		       "the table holds every policy");
	*t = (struct spawn_table){ .magic = TABLE_MAGIC,
				   .size = sizeof(*t),
				   .host = {
					   .magic = TABLE_MAGIC, .size = sizeof(t->host), .spawn_uid = policy->spawn_uid } };
	t->first_uid = policy->first_uid;
	t->uid_count = policy->uid_count;
	t->kvm_gid = WIRE_UID_NONE;
	t->direct_mode = policy->mode == POLICY_MODE_DIRECT;
	for (size_t i = 0; i < policy->hypervisor_count; i++) {
		memcpy(t->hypervisors[i].name, policy->hypervisors[i].name, sizeof(t->hypervisors[i].name));
		memcpy(t->hypervisors[i].path, policy->hypervisors[i].path, sizeof(t->hypervisors[i].path));
		t->hypervisors[i].profile = policy->hypervisors[i].profile;
	}
	t->hypervisor_count = (uint32_t)policy->hypervisor_count;
	for (size_t i = 0; i < policy->network_count; i++) {
		memcpy(t->networks[i].name, policy->networks[i].name, sizeof(t->networks[i].name));
		t->networks[i].has_uplink = policy->networks[i].uplink;
		t->networks[i].gateway = policy->networks[i].gateway;
		t->networks[i].prefix = policy->networks[i].prefix;
	}
	t->network_count = (uint32_t)policy->network_count;
	for (size_t i = 0; i < policy->bind_count; i++)
		memcpy(t->binds[i], policy->binds[i], sizeof(t->binds[i]));
	t->bind_count = (uint32_t)policy->bind_count;
	if (getrandom(&t->host.boot_id, sizeof(t->host.boot_id), 0) != (ssize_t)sizeof(t->host.boot_id)) {
		log_error("getrandom: %m");
		return -EIO;
	}
	return 0;
}

/* A half that is joined to a running one must be of the same mind about everything that P is made of. */
int table_same(const struct spawn_table *running, const struct spawn_table *wanted)
{
	const char *what = NULL;

	if (running->magic != TABLE_MAGIC || running->size != sizeof(*running))
		what = "the running half is of another version";
	else if (running->first_uid != wanted->first_uid || running->uid_count != wanted->uid_count)
		what = "the id range";
	else if (running->host.spawn_uid != wanted->host.spawn_uid)
		what = "the spawner's user";
	else if (running->direct_mode != wanted->direct_mode)
		what = "the mode (namespace or direct)";
	else if (running->hypervisor_count != wanted->hypervisor_count ||
		 memcmp(running->hypervisors, wanted->hypervisors, sizeof(running->hypervisors)) != 0)
		what = "the hypervisors";
	else if (running->network_count != wanted->network_count ||
		 memcmp(running->networks, wanted->networks, sizeof(running->networks)) != 0)
		what = "the networks";
	else if (running->bind_count != wanted->bind_count ||
		 memcmp(running->binds, wanted->binds, sizeof(running->binds)) != 0)
		what = "the template's binds";
	else if (running->kvm_gid != wanted->kvm_gid)
		what = "the way to /dev/kvm";
	else if (running->label != wanted->label)
		what = "whether sandboxes get SELinux labels";
	if (what == NULL)
		return 0;
	log_error(
		"a daemon of an earlier start is still running, and this start differs from it: %s. Restore the policy "
		"(or what else was changed), or stop all sandboxes and that daemon first",
		what);
	return -EEXIST;
}
