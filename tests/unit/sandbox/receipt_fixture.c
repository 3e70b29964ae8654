/* SPDX-License-Identifier: Apache-2.0
 * Runs: tests. */
#include "receipt_fixture.h"

#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#define UID 0x70000005u
#define GID 0x70000006u
#define LABEL "system_u:system_r:postern_vmm_t:s0:c17,c901"

static void fill_ids(struct wire_fact_ids *ids)
{
	for (int i = 0; i < 4; i++) {
		ids->uids[i].id = UID;
		ids->gids[i].id = GID;
	}
	ids->no_new_privs = 1;
	ids->seccomp = 2;
	ids->seccomp_filters = 3;
}

static void fill_view(struct receipt_view *view, pid_t pid, pid_t inner)
{
	view->seen = true;
	view->pid = pid;
	view->inner = inner;
	fill_ids(&view->ids);
	strcpy(view->cgroup, "/postern/s1879048197");
	snprintf(view->uid_map, sizeof(view->uid_map), "%u %u 1", UID, UID);
	snprintf(view->gid_map, sizeof(view->gid_map), "%u %u 1", GID, GID);
	strcpy(view->run_label, "system_u:object_r:postern_run_t:s0:c17,c901");
	view->threads = view->threads_filtered = 1;
	view->memory_max = 768ull << 20;
	view->pids_max = 64;
	view->swap_max = 0;
	view->cpu_max = 150;
	view->io_weight = 200;
}

static void fill_lease(struct wire_lease *lease)
{
	for (size_t i = 0; i < sizeof(lease->uuid); i++)
		lease->uuid[i] = (uint8_t)(i * 17);
	lease->id = 42;
	lease->started_ns = 1700000000123456789u;
	lease->owner = 1000;
	lease->uid = UID;
	lease->gid = GID;
	lease->init_pid = 4242;
	strcpy(lease->hypervisor, "qemu");
	lease->vcpus = 2;
	lease->memory_mib = 512;
	lease->cid = 77;
	lease->nic_count = 2;
	strcpy(lease->nics[0].network, "lan");
	lease->nics[0].queues = 2;
	lease->nics[0].vhost = 1;
	lease->nics[0].mac[5] = 9;
	strcpy(lease->nics[1].network, "dmz");
	lease->nics[1].queues = 1;
	lease->limits[0].memory_mib = 768;
	lease->limits[0].pids = 64;
	lease->limits[0].cpu_percent = 150;
	lease->limits[0].io_weight = 200;
	lease->grants[WIRE_GRANT_KVM] = WIRE_BY_BY_FD;
	lease->grants[WIRE_GRANT_TAP] = WIRE_BY_GRANTED;
	lease->grants[WIRE_GRANT_VHOST_NET] = WIRE_BY_GRANTED;
	lease->grants[WIRE_GRANT_VHOST_VSOCK] = WIRE_BY_GRANTED;
	lease->grants[WIRE_GRANT_LABEL] = WIRE_BY_GRANTED;
	lease->grants[WIRE_GRANT_CGROUP] = WIRE_BY_BY_CGROUP2;
	lease->grants[WIRE_GRANT_LANDLOCK] = WIRE_BY_GRANTED;
	lease->grants[WIRE_GRANT_PORT_FILTER] = WIRE_BY_NO_KERNEL;
	lease->landlock_abi = 7;
	strcpy(lease->label, LABEL);
	strcpy(lease->cgroup, "/postern/s1879048197");
}

static void give(struct wire_facts *facts, uint32_t fd, uint32_t mode, uint64_t ino, uint64_t rdev, uint8_t access)
{
	struct wire_fact_fd *fact = &facts->given[facts->given_count++];

	*fact = (struct wire_fact_fd){ .fd = fd, .mode = mode, .dev = 9, .ino = ino, .rdev = rdev, .access = access };
	facts->fds[facts->fd_count++] = *fact;
}

static void fill_facts(struct wire_facts *facts)
{
	fill_ids(&facts->init_ids[0]);
	fill_ids(&facts->vmm_ids[0]);
	facts->vmm_pid = 2;
	for (unsigned i = 0; i < 8; i++)
		facts->namespaces[i].vmm = facts->namespaces[i].init = 7700 + i;
	facts->root_dev = facts->init_root_dev = facts->cwd_dev = 0xfffff1;
	facts->root_ino = facts->init_root_ino = facts->cwd_ino = 123456789;
	facts->tasks = facts->tasks_filtered = 1;
	facts->landlock_abi = 7;
	strcpy(facts->label, LABEL);
	strcpy(facts->cgroup, "/");
	strcpy(facts->exe, "/usr/bin/qemu-system-x86_64");
	facts->rlimit_nofile = 4096;
	facts->rlimit_memlock = 64 << 20;
	facts->rlimit_nproc = 64;
	facts->held = 1;
	give(facts, SLOT_STDIN, S_IFCHR | 0666, 3, makedev(1, 3), 2);
	give(facts, SLOT_STDOUT, S_IFSOCK | 0777, 100, 0, 2);
	give(facts, SLOT_STDERR, S_IFSOCK | 0777, 100, 0, 2);
	give(facts, SLOT_CONTROL, S_IFSOCK | 0777, 101, 0, 2);
	give(facts, SLOT_CONSOLE, S_IFSOCK | 0777, 102, 0, 2);
	give(facts, SLOT_KVM, S_IFCHR | 0660, 103, makedev(10, 232), 2);
	give(facts, SLOT_VSOCK, S_IFCHR | 0660, 104, makedev(10, 241), 2);
	for (uint32_t i = 0; i < 3; i++)
		give(facts, SLOT_TAP + i, S_IFCHR | 0666, 105, makedev(10, 200), 2);
	for (uint32_t i = 0; i < 2; i++)
		give(facts, SLOT_VHOST + i, S_IFCHR | 0666, 106, makedev(10, 238), 2);
	give(facts, SLOT_ASSET + 1, S_IFREG | 0600, 107, 0, 2);
	give(facts, SLOT_ASSET + 2, S_IFREG | 0444, 108, 0, 0);
}

static void fill_plan(struct plan *plan)
{
	static const char words[] = "/usr/bin/qemu-system-x86_64\0-S";

	memcpy(plan->words, words, sizeof(words));
	plan->word_bytes = sizeof(words);
	plan->word_count = 2;
	plan->asset_count = 3;
	plan->assets[0] = (struct plan_asset){ .fd = -1, .copy = true, .name = "kernel", .mode = S_IFREG | 0644, .ino = 55 };
	plan->assets[1] = (struct plan_asset){ .fd = -1, .writable = true, .name = "disk0", .mode = S_IFREG | 0600, .dev = 9, .ino = 107 };
	plan->assets[2] = (struct plan_asset){ .fd = -1, .name = "cd", .mode = S_IFREG | 0444, .dev = 9, .ino = 108 };
}

void fixture_fill(struct receipt *receipt, struct plan *plan)
{
	memset(receipt, 0, sizeof(*receipt));
	memset(plan, 0, sizeof(*plan));
	fill_lease(&receipt->lease);
	fill_facts(&receipt->facts);
	fill_view(&receipt->init, 4242, 1);
	fill_view(&receipt->vmm, 4243, 2);
	fill_plan(plan);
	strcpy(receipt->accel, "kvm: granted by descriptor");
	receipt->taken_ns = 1700000001000000001u;
}
