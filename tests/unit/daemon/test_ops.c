/* SPDX-License-Identifier: Apache-2.0
 * Runs: tests. Every operation of a client, with a spawner end that follows a script. */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "fixture.h"

static int open_room(void **state)
{
	struct fixture *fx = calloc(1, sizeof(*fx));

	fixture_open(fx);
	*state = fx;
	return 0;
}

static int close_room(void **state)
{
	struct fixture *fx = *state;

	fixture_close(fx);
	free(fx);
	return 0;
}

static void hello_and_host(void **state)
{
	struct fixture *fx = *state;
	int fd = client_open(fx);

	assert_int_equal(fx->in.msg.hello_reply.version, WIRE_VERSION);
	assert_int_equal(fx->in.msg.hello_reply.boot_id, 77);
	fx->policy.rules[0].quota.sandboxes = 5;
	client_send(fd, WIRE_OP_HOST, NULL, NULL, 0);
	assert_int_equal(client_recv(fx, fd, WIRE_OP_HOST), WIRE_REPLY);
	assert_int_equal(fx->in.msg.host_reply.outcomes[WIRE_GRANT_CGROUP], WIRE_BY_BY_CGROUP1); /* what the spawner found */
	assert_int_equal(fx->in.msg.host_reply.landlock_abi, 7);
	assert_int_equal(fx->in.msg.host_reply.direct_mode, 0);
	assert_int_equal(fx->in.msg.host_reply.first_uid, FIRST_UID);
	assert_int_equal(fx->in.msg.host_reply.sandboxes_user_max, 5);
	/* Whether there are vhost nodes here is this machine's business, but the answer must agree with it. */
	assert_int_equal(fx->in.msg.host_reply.outcomes[WIRE_GRANT_VHOST_NET] == WIRE_BY_NO_NODE,
			 access("/dev/vhost-net", F_OK) != 0);
	(void)close(fd);
}

static void hypervisor_and_network(void **state)
{
	struct fixture *fx = *state;
	int fd = client_open(fx);

	client_send(fd, WIRE_OP_HYPERVISOR, &(struct wire_name){ .name = "mock" }, NULL, 0);
	assert_int_equal(client_recv(fx, fd, WIRE_OP_HYPERVISOR), WIRE_REPLY);
	assert_int_equal(fx->in.msg.hypervisor_reply.kind, POLICY_DRIVER_MOCK);
	assert_string_equal(fx->in.msg.hypervisor_reply.path, "/usr/libexec/postern/postern-mock-vmm");
	client_send(fd, WIRE_OP_HYPERVISOR, &(struct wire_name){ .name = "qemu" }, NULL, 0);
	assert_int_equal(client_error(fx, fd, WIRE_OP_HYPERVISOR), WIRE_ERR_HYPERVISOR_DENIED);
	client_send(fd, WIRE_OP_HYPERVISOR, &(struct wire_name){ .name = "nothing" }, NULL, 0);
	assert_int_equal(client_error(fx, fd, WIRE_OP_HYPERVISOR), WIRE_ERR_HYPERVISOR_UNKNOWN);
	assert_string_equal(fx->in.msg.error.object, "nothing");
	client_send(fd, WIRE_OP_NETWORK, &(struct wire_name){ .name = "lan" }, NULL, 0);
	assert_int_equal(client_recv(fx, fd, WIRE_OP_NETWORK), WIRE_REPLY);
	assert_int_equal(fx->in.msg.network_reply.gateway, 0x0a090001);
	assert_int_equal(fx->in.msg.network_reply.pin_ip, 1);
	client_send(fd, WIRE_OP_NETWORK, &(struct wire_name){ .name = "dmz" }, NULL, 0);
	assert_int_equal(client_error(fx, fd, WIRE_OP_NETWORK), WIRE_ERR_NETWORK_DENIED);
	client_send(fd, WIRE_OP_NETWORK, &(struct wire_name){ .name = "none" }, NULL, 0);
	assert_int_equal(client_error(fx, fd, WIRE_OP_NETWORK), WIRE_ERR_NETWORK_UNKNOWN);
	(void)close(fd);
}

static void D26_without_a_rule_nothing_is_told(void **state)
{
	struct fixture *fx = *state;
	struct wire_acquire ask = acquire_mock(1);
	int fd = client_open(fx), control;

	fx->policy.rule_count = 0;
	client_send(fd, WIRE_OP_HOST, NULL, NULL, 0);
	assert_int_equal(client_error(fx, fd, WIRE_OP_HOST), WIRE_ERR_NOT_ALLOWED);
	client_send(fd, WIRE_OP_HYPERVISOR, &(struct wire_name){ .name = "mock" }, NULL, 0);
	assert_int_equal(client_error(fx, fd, WIRE_OP_HYPERVISOR), WIRE_ERR_NOT_ALLOWED);
	client_send(fd, WIRE_OP_NETWORK, &(struct wire_name){ .name = "lan" }, NULL, 0);
	assert_int_equal(client_error(fx, fd, WIRE_OP_NETWORK), WIRE_ERR_NOT_ALLOWED);
	control = client_acquire(fx, fd, &ask);
	assert_int_equal(client_error(fx, fd, WIRE_OP_ACQUIRE), WIRE_ERR_NOT_ALLOWED);
	(void)close(control);
	assert_int_equal(fx->server.ids.state.issued, 0);
	(void)close(fd);
}

static void acquire_and_its_record(void **state)
{
	struct fixture *fx = *state;
	struct wire_acquire ask = acquire_mock(3);
	int fd = client_open(fx), control;
	const struct wire_lease *lease = &fx->in.msg.lease;
	struct wire_lease sent;

	ask.nic_count = 2;
	strcpy(ask.nics[0].network, "lan");
	ask.nics[0].queues = 2;
	strcpy(ask.nics[1].network, "lan");
	control = client_acquire(fx, fd, &ask);
	assert_int_equal(spawner_recv(fx, WIRE_OP_S_START), 1);
	assert_int_equal(fx->in.fd_count, 1);
	assert_int_equal(fx->in.msg.start.hypervisor, 0);
	sent = fx->in.msg.start.lease[0];
	wire_in_close(&fx->in);
	sent.nics[1].ifindex = 42;
	/* The spawner fills in what it found out; it cannot change who the sandbox is. */
	sent.uid = 0;
	sent.owner = 12345;
	sent.nics[0].mac[5] ^= 1;
	sent.grants[WIRE_GRANT_KVM] = WIRE_BY_NO_ACCESS;
	spawner_started(fx, &sent);
	assert_int_equal(client_recv(fx, fd, WIRE_OP_ACQUIRE), WIRE_REPLY);
	assert_int_equal(fx->in.fd_count, 1);
	assert_memory_equal(lease->uuid, ask.uuid, 16);
	assert_int_equal(lease->owner, getuid());
	assert_true(lease->uid >= FIRST_UID && lease->uid < FIRST_UID + UID_COUNT);
	assert_int_equal(lease->uid, lease->gid);
	assert_int_equal(lease->id, 1);
	assert_int_equal(lease->init_pid, 4711);
	assert_int_equal(lease->nics[1].ifindex, 42);
	assert_string_equal(lease->cgroup, "/postern/s1");
	assert_int_equal(lease->nics[0].queues, 2);
	assert_int_equal(lease->nics[1].queues, 1);
	assert_true(lease->nics[0].ip > 0x0a090001 && lease->nics[0].ip < 0x0a090007);
	assert_true(lease->nics[1].ip > 0x0a090001 && lease->nics[1].ip < 0x0a090007);
	assert_int_not_equal(lease->nics[0].ip, lease->nics[1].ip);
	assert_memory_not_equal(lease->nics[0].mac, lease->nics[1].mac, 6);
	assert_memory_not_equal(lease->nics[0].mac, sent.nics[0].mac, 6);
	assert_int_equal(lease->grants[WIRE_GRANT_KVM], WIRE_BY_NO_ACCESS);
	assert_int_equal(strncmp(lease->label, "system_u:system_r:postern_vmm_t:s0:c", 36), 0);
	assert_int_equal(fx->server.accounts->all.usage.taps, 3);
	wire_in_close(&fx->in);
	(void)close(control);
	(void)close(fd);
	/* The session is not the lease. */
	fixture_run(fx);
	assert_int_equal(only_lease(fx)->state, LEASE_RUNNING);
}

/* The mode is the policy's: it is in every lease and in the answer to HOST, and a client can neither ask for it nor against. */
static void direct_mode_is_in_every_lease(void **state)
{
	struct fixture *fx = *state;
	struct wire_acquire ask = acquire_mock(4);

	for (unsigned direct = 0; direct < 2; direct++) {
		int fd = client_open(fx), control;

		fx->policy.mode = direct ? POLICY_MODE_DIRECT : POLICY_MODE_NAMESPACE;
		client_send(fd, WIRE_OP_HOST, NULL, NULL, 0);
		assert_int_equal(client_recv(fx, fd, WIRE_OP_HOST), WIRE_REPLY);
		assert_int_equal(fx->in.msg.host_reply.direct_mode, direct);
		ask.uuid[0]++;
		ask.flags = WIRE_SURVIVE;
		control = client_acquire(fx, fd, &ask);
		assert_int_equal(spawner_recv(fx, WIRE_OP_S_START), 1);
		assert_int_equal(fx->in.msg.start.lease[0].flags, WIRE_SURVIVE | (direct ? WIRE_DIRECT : 0));
		wire_in_close(&fx->in);
		(void)close(control);
		(void)close(fd);
		fixture_run(fx);
	}
}

static void K15_a_failed_start_gives_everything_back(void **state)
{
	struct fixture *fx = *state;
	size_t before = open_fds();

	for (uint8_t i = 1; i <= 20; i++) { /* more often than there are leases */
		struct wire_acquire ask = acquire_mock(i);
		int fd = client_open(fx), control = client_acquire(fx, fd, &ask);
		struct wire_step_failed failed = { .step = STEP_CLONE, .error = EPERM, .burn = i & 1 };

		assert_int_equal(spawner_recv(fx, WIRE_OP_S_START), 1);
		failed.id = fx->in.msg.start.lease[0].id;
		wire_in_close(&fx->in);
		spawner_send(fx, WIRE_OP_S_FAILED, &failed, NULL, 0);
		assert_int_equal(client_error(fx, fd, WIRE_OP_ACQUIRE), WIRE_ERR_STEP_FAILED);
		assert_int_equal(fx->in.msg.error.step, STEP_CLONE);
		assert_int_equal(fx->in.msg.error.number, EPERM);
		(void)close(control);
		(void)close(fd);
		fixture_run(fx);
		assert_int_equal(fx->server.leases.count, 0);
		assert_int_equal(fx->server.labels->used_count, 0);
		assert_int_equal(fx->server.accounts->all.usage.sandboxes, 0);
	}
	assert_int_equal(open_fds(), before);
}

static void K07_one_start_per_uuid_of_a_user(void **state)
{
	struct fixture *fx = *state;
	struct wire_acquire ask = acquire_mock(1);
	int fd = client_open(fx), control;

	(void)lease_started(fx, fd, 1);
	control = client_acquire(fx, fd, &ask);
	assert_int_equal(client_error(fx, fd, WIRE_OP_ACQUIRE), WIRE_ERR_UUID_IN_USE);
	(void)close(control);
	/* another user may have the same uuid: else he could find out about this one */
	only_lease(fx)->owner = 64811;
	only_lease(fx)->record->owner = 64811;
	(void)lease_started(fx, fd, 1);
	assert_int_equal(fx->server.leases.count, 2);
	(void)close(fd);
}

static void K15_quotas_and_the_table(void **state)
{
	struct fixture *fx = *state;
	struct wire_acquire ask = acquire_mock(99);
	int fd = client_open(fx), control;

	fx->policy.rules[0].quota.sandboxes = 2;
	for (uint8_t i = 1; i <= 2; i++)
		(void)lease_started(fx, fd, i);
	control = client_acquire(fx, fd, &ask);
	assert_int_equal(client_error(fx, fd, WIRE_OP_ACQUIRE), WIRE_ERR_QUOTA_SANDBOXES_USER);
	assert_int_equal(fx->in.msg.error.number, 2);
	(void)close(control);
	fx->policy.rules[0].quota.sandboxes = 0;
	for (uint8_t i = 3; i <= LEASES; i++)
		(void)lease_started(fx, fd, i);
	control = client_acquire(fx, fd, &ask);
	assert_int_equal(client_error(fx, fd, WIRE_OP_ACQUIRE), WIRE_ERR_QUOTA_SANDBOXES_ALL);
	(void)close(control);
	fx->policy.rules[0].quota.starts_per_minute = LEASES;
	control = client_acquire(fx, fd, &ask);
	assert_int_equal(client_error(fx, fd, WIRE_OP_ACQUIRE), WIRE_ERR_QUOTA_RATE);
	(void)close(control);
	(void)close(fd);
}

static void nothing_left_to_give(void **state)
{
	struct fixture *fx = *state;
	struct wire_acquire ask = acquire_mock(99);
	int fd = client_open(fx), control;

	/* addresses: five of them in the /29 */
	ask.nic_count = 6;
	for (int i = 0; i < 6; i++)
		strcpy(ask.nics[i].network, "lan");
	control = client_acquire(fx, fd, &ask);
	assert_int_equal(client_error(fx, fd, WIRE_OP_ACQUIRE), WIRE_ERR_ADDRESSES_EXHAUSTED);
	assert_string_equal(fx->in.msg.error.object, "lan");
	(void)close(control);
	ask.nic_count = 0;
	memset(ask.nics, 0, sizeof(ask.nics));
	/* labels */
	fx->labels.categories = 2;
	(void)lease_started(fx, fd, 1);
	control = client_acquire(fx, fd, &ask);
	assert_int_equal(client_error(fx, fd, WIRE_OP_ACQUIRE), WIRE_ERR_LABELS_EXHAUSTED);
	(void)close(control);
	fx->labels.categories = LABEL_CATEGORIES;
	/* ids */
	fx->server.ids.state.blocked_until = IDS_FOREVER;
	fx->server.ids.state.reused = 1;
	control = client_acquire(fx, fd, &ask);
	assert_int_equal(client_error(fx, fd, WIRE_OP_ACQUIRE), WIRE_ERR_IDS_EXHAUSTED);
	(void)close(control);
	/* the label that was taken before the id failed is free again */
	assert_int_equal(fx->labels.used_count, 1);
	assert_int_equal(fx->server.leases.count, 1);
	(void)close(fd);
}

/* Whether this machine has the nodes decides which half of this runs; both are real. */
static void vhost_by_descriptor_or_not_available(void **state)
{
	struct fixture *fx = *state;
	struct wire_acquire ask = acquire_mock(1);
	bool net = access("/dev/vhost-net", R_OK | W_OK) == 0, vsock = access("/dev/vhost-vsock", R_OK | W_OK) == 0;
	int fd = client_open(fx), control;
	const struct wire_lease *lease = &fx->in.msg.start.lease[0];

	fx->policy.networks[0].vhost = true;
	fx->policy.rules[0].vsock = true;
	ask.nic_count = 1;
	strcpy(ask.nics[0].network, "lan");
	if (!net) {
		ask.nics[0].flags = WIRE_NIC_VHOST_REQUIRE;
		control = client_acquire(fx, fd, &ask);
		assert_int_equal(client_error(fx, fd, WIRE_OP_ACQUIRE), WIRE_ERR_VHOST_MISSING);
		(void)close(control);
	}
	ask.nics[0].flags = WIRE_NIC_VHOST_WANT;
	if (!vsock) {
		ask.flags = WIRE_VSOCK_REQUIRE;
		control = client_acquire(fx, fd, &ask);
		assert_int_equal(client_error(fx, fd, WIRE_OP_ACQUIRE), WIRE_ERR_VSOCK_MISSING);
		(void)close(control);
	}
	ask.flags = WIRE_VSOCK_WANT;
	control = client_acquire(fx, fd, &ask);
	assert_int_equal(spawner_recv(fx, WIRE_OP_S_START), 1);
	assert_int_equal(wire_outcome_ok(lease->grants[WIRE_GRANT_VHOST_NET]), net);
	assert_int_equal(wire_outcome_ok(lease->grants[WIRE_GRANT_VHOST_VSOCK]), vsock);
	assert_int_equal(lease->nics[0].vhost, net);
	assert_int_equal(lease->cid >= 3, vsock);
	assert_int_equal(fx->in.fd_count, 1 + net + vsock);
	wire_in_close(&fx->in);
	(void)close(control);
	(void)close(fd);
}

static void next_walks_the_callers_own(void **state)
{
	struct fixture *fx = *state;
	int fd = client_open(fx);
	struct wire_cursor cursor = { 0 };

	for (uint8_t i = 1; i <= 3; i++)
		(void)lease_started(fx, fd, i);
	fx->server.leases.table[1].owner = 64811;
	set_session_uid(fx, fx->server.leases.table[0].owner + 1);
	client_send(fd, WIRE_OP_NEXT, &cursor, NULL, 0);
	assert_int_equal(client_error(fx, fd, WIRE_OP_NEXT), WIRE_ERR_NOT_FOUND);
	set_session_uid(fx, 64811);
	client_send(fd, WIRE_OP_NEXT, &cursor, NULL, 0);
	assert_int_equal(client_recv(fx, fd, WIRE_OP_NEXT), WIRE_REPLY);
	assert_int_equal(fx->in.msg.lease.id, 2);
	cursor.after = 2;
	client_send(fd, WIRE_OP_NEXT, &cursor, NULL, 0);
	assert_int_equal(client_error(fx, fd, WIRE_OP_NEXT), WIRE_ERR_NOT_FOUND);
	set_session_uid(fx, 0); /* root sees all */
	for (cursor.after = 0; cursor.after < 3; cursor.after++) {
		client_send(fd, WIRE_OP_NEXT, &cursor, NULL, 0);
		assert_int_equal(client_recv(fx, fd, WIRE_OP_NEXT), WIRE_REPLY);
		assert_int_equal(fx->in.msg.lease.id, cursor.after + 1);
	}
	(void)close(fd);
}

static void attach_is_for_the_owner(void **state)
{
	struct fixture *fx = *state;
	const struct wire_session init = { .link = LINK_KEEPER, .peer = FROM_BROKER, .phase = PHASE_READY };
	struct wire_uuid uuid;
	int fd = client_open(fx), pair[2], keeper[2];
	struct lease *lease;

	assert_return_code(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair), errno);
	assert_return_code(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, keeper), errno);
	(void)lease_started(fx, fd, 1);
	memset(uuid.uuid, 1, 16);
	lease = only_lease(fx);
	(void)close(lease->keeper);
	lease->keeper = keeper[0];
	lease->owner = 64810;
	lease->record->flags |= WIRE_SURVIVE;
	/* root's is not enough, and neither is another user's: the same answer for both */
	for (uid_t other = 0; other <= 64811; other += 64811) {
		set_session_uid(fx, other);
		client_send(fd, WIRE_OP_ATTACH, &uuid, &pair[1], 1);
		assert_int_equal(client_error(fx, fd, WIRE_OP_ATTACH), WIRE_ERR_NOT_FOUND);
	}
	set_session_uid(fx, 64810);
	client_send(fd, WIRE_OP_ATTACH, &uuid, &pair[1], 1);
	assert_int_equal(client_recv(fx, fd, WIRE_OP_ATTACH), WIRE_REPLY);
	assert_int_equal(fx->in.msg.lease.id, lease->id);
	assert_int_equal(fx->in.fd_count, 1);
	wire_in_close(&fx->in);
	assert_int_equal(wire_recv(keeper[1], &init, &fx->in), 1);
	assert_int_equal(fx->in.op, WIRE_OP_K_ATTACH);
	/* it is the very socket: what is written there arrives here */
	assert_int_equal(send(fx->in.fds[0], "x", 1, 0), 1);
	assert_int_equal(recv(pair[0], &(char){ 0 }, 1, MSG_DONTWAIT), 1);
	wire_in_close(&fx->in);
	/* init is gone */
	(void)close(keeper[1]);
	client_send(fd, WIRE_OP_ATTACH, &uuid, &pair[1], 1);
	assert_int_equal(client_error(fx, fd, WIRE_OP_ATTACH), WIRE_ERR_STOPPING);
	(void)close(pair[0]);
	(void)close(pair[1]);
	(void)close(fd);
}

/* What init has not taken counts against all that the broker may have on its way (ETOOMANYREFS for everybody). */
static void K15_attach_flood(void **state)
{
	struct fixture *fx = *state;
	const struct wire_session init = { .link = LINK_KEEPER, .peer = FROM_BROKER, .phase = PHASE_READY };
	struct wire_uuid uuid;
	int fd = client_open(fx), pair[2], keeper[2];
	struct lease *lease;

	assert_return_code(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair), errno);
	assert_return_code(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, keeper), errno);
	(void)lease_started(fx, fd, 1);
	memset(uuid.uuid, 1, 16);
	lease = only_lease(fx);
	(void)close(lease->keeper);
	lease->keeper = keeper[0];
	/* one that ends with its controller never listens to its keeper */
	client_send(fd, WIRE_OP_ATTACH, &uuid, &pair[1], 1);
	assert_int_equal(client_error(fx, fd, WIRE_OP_ATTACH), WIRE_ERR_NOT_SURVIVING);
	assert_int_equal(wire_recv(keeper[1], &init, &fx->in), -EAGAIN);
	lease->record->flags |= WIRE_SURVIVE;
	for (int i = 0; i < 100; i++) {
		client_send(fd, WIRE_OP_ATTACH, &uuid, &pair[1], 1);
		assert_int_equal(client_error(fx, fd, WIRE_OP_ATTACH), i == 0 ? WIRE_ERR_OK : WIRE_ERR_STARTING);
	}
	assert_int_equal(wire_recv(keeper[1], &init, &fx->in), 1);
	wire_in_close(&fx->in);
	assert_int_equal(wire_recv(keeper[1], &init, &fx->in), -EAGAIN);
	/* taken: the next one may come */
	client_send(fd, WIRE_OP_ATTACH, &uuid, &pair[1], 1);
	assert_int_equal(client_error(fx, fd, WIRE_OP_ATTACH), WIRE_ERR_OK);
	assert_int_equal(fx->server.accounts->table[0].audit_tokens, 0); /* what worked is rationed, too */
	(void)close(keeper[1]);
	(void)close(pair[0]);
	(void)close(pair[1]);
	(void)close(fd);
}

/* The same with the descriptors of replies: a peer has one at most, whatever it does with its sessions. */
static void K15_replies_with_descriptors_left_unread(void **state)
{
	struct fixture *fx = *state;
	const struct wire_session init = { .link = LINK_KEEPER, .peer = FROM_BROKER, .phase = PHASE_READY };
	struct wire_uuid uuid;
	int fds[40], first = client_open(fx), pair[2], keeper[2];
	struct lease *lease;
	unsigned attached = 0;

	assert_return_code(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair), errno);
	assert_return_code(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, keeper), errno);
	(void)lease_started(fx, first, 1);
	memset(uuid.uuid, 1, 16);
	lease = only_lease(fx);
	(void)close(lease->keeper);
	lease->keeper = keeper[0];
	lease->record->flags |= WIRE_SURVIVE;
	/* each connection asks twice and reads nothing, and the broker ends it */
	for (size_t i = 0; i < 40; i++) {
		const struct wire_hello hello = { .version = WIRE_VERSION };

		fds[i] = client_connect(fx);
		for (int n = -1; n < 2; n++) {
			if (wire_send(fds[i], n < 0 ? WIRE_OP_HELLO : WIRE_OP_ATTACH, WIRE_REQUEST, 9,
				      n < 0 ? (const void *)&hello : (const void *)&uuid, &pair[1], n >= 0) < 0)
				break;
			fixture_run(fx);
			if (n < 0 && recv(fds[i], (char[64]){ 0 }, 64, MSG_DONTWAIT) < 0)
				break;
			while (wire_recv(keeper[1], &init, &fx->in) == 1) {
				wire_in_close(&fx->in);
				attached += n == 0;
			}
		}
	}
	/* one each for as many sessions as a user may have: those stay his until he reads or closes */
	assert_int_equal(attached, fx->policy.sessions_user_max - 1);
	assert_int_equal(fx->server.accounts->table[0].sessions, fx->policy.sessions_user_max);
	for (size_t i = 0; i < 40; i++)
		(void)close(fds[i]);
	fixture_wait(fx, 1200);
	assert_int_equal(fx->server.accounts->table[0].sessions, 1);
	client_send(first, WIRE_OP_HOST, NULL, NULL, 0);
	assert_int_equal(client_error(fx, first, WIRE_OP_HOST), WIRE_ERR_OK);
	(void)close(keeper[1]);
	(void)close(pair[0]);
	(void)close(pair[1]);
	(void)close(first);
}

static void kill_and_gone(void **state)
{
	struct fixture *fx = *state;
	struct wire_uuid uuid;
	size_t before = open_fds();
	int fd = client_open(fx);
	struct wire_lease lease = lease_started(fx, fd, 1);
	uid_t me = lease.owner;

	memset(uuid.uuid, 1, 16);
	set_session_uid(fx, me + 64811);
	client_send(fd, WIRE_OP_KILL, &uuid, NULL, 0);
	assert_int_equal(client_error(fx, fd, WIRE_OP_KILL), WIRE_ERR_NOT_FOUND);
	assert_int_equal(spawner_recv(fx, WIRE_OP_S_KILL), 0);
	set_session_uid(fx, me);
	client_send(fd, WIRE_OP_KILL, &uuid, NULL, 0);
	assert_int_equal(client_error(fx, fd, WIRE_OP_KILL), WIRE_ERR_OK);
	assert_int_equal(spawner_recv(fx, WIRE_OP_S_KILL), 1);
	assert_int_equal(fx->in.msg.lease_id.id, lease.id);
	client_send(fd, WIRE_OP_KILL, &uuid, NULL, 0);
	assert_int_equal(client_error(fx, fd, WIRE_OP_KILL), WIRE_ERR_STOPPING);
	assert_int_equal(spawner_recv(fx, WIRE_OP_S_KILL), 0);
	spawner_send(fx, WIRE_OP_S_GONE, &(struct wire_gone){ .id = lease.id, .clean = 1 }, NULL, 0);
	fixture_run(fx);
	assert_int_equal(fx->server.leases.count, 0);
	assert_int_equal(fx->server.accounts->all.usage.sandboxes, 0);
	assert_int_equal(fx->labels.used_count, 0);
	client_send(fd, WIRE_OP_KILL, &uuid, NULL, 0);
	assert_int_equal(client_error(fx, fd, WIRE_OP_KILL), WIRE_ERR_NOT_FOUND);
	(void)close(fd);
	fixture_run(fx);
	assert_int_equal(open_fds(), before);
}

static void ended_is_told_to_the_owner_only(void **state)
{
	struct fixture *fx = *state;
	struct wire_gone gone = { .status = SIGKILL, .clean = 1, .oom = WIRE_OOM_LIMIT };
	int fd = client_open(fx);
	struct wire_lease lease = lease_started(fx, fd, 1);
	struct wire_uuid uuid;
	uid_t me = lease.owner;

	memset(uuid.uuid, 1, 16);
	client_send(fd, WIRE_OP_ENDED, &uuid, NULL, 0);
	assert_int_equal(client_error(fx, fd, WIRE_OP_ENDED), WIRE_ERR_NOT_FOUND); /* it lives */
	gone.id = lease.id;
	spawner_send(fx, WIRE_OP_S_GONE, &gone, NULL, 0);
	fixture_run(fx);
	client_send(fd, WIRE_OP_ENDED, &uuid, NULL, 0);
	assert_int_equal(client_recv(fx, fd, WIRE_OP_ENDED), WIRE_REPLY);
	assert_int_equal(fx->in.msg.ended.status, SIGKILL);
	assert_int_equal(fx->in.msg.ended.clean, 1);
	assert_int_equal(fx->in.msg.ended.oom, WIRE_OOM_LIMIT);
	assert_int_equal(fx->in.msg.ended.memory_mib, lease.limits[0].memory_mib);
	assert_true(fx->in.msg.ended.ended_ns >= lease.started_ns);
	set_session_uid(fx, me + 64811);
	client_send(fd, WIRE_OP_ENDED, &uuid, NULL, 0);
	assert_int_equal(client_error(fx, fd, WIRE_OP_ENDED), WIRE_ERR_NOT_FOUND);
	set_session_uid(fx, me);
	/* The same uuid again: what lives now counts, and nothing is said of the one before. */
	lease = lease_started(fx, fd, 1);
	client_send(fd, WIRE_OP_ENDED, &uuid, NULL, 0);
	assert_int_equal(client_error(fx, fd, WIRE_OP_ENDED), WIRE_ERR_NOT_FOUND);
	gone = (struct wire_gone){ .id = lease.id, .clean = 1 };
	spawner_send(fx, WIRE_OP_S_GONE, &gone, NULL, 0);
	fixture_run(fx);
	client_send(fd, WIRE_OP_ENDED, &uuid, NULL, 0);
	assert_int_equal(client_recv(fx, fd, WIRE_OP_ENDED), WIRE_REPLY);
	assert_int_equal(fx->in.msg.ended.oom, WIRE_OOM_NONE);
	(void)close(fd);
}

static void put_end(struct ended_ring *ring, uid_t owner, uint32_t n)
{
	struct wire_lease record = { .owner = owner };
	struct wire_gone gone = { .id = n + 1, .status = n };

	memcpy(record.uuid, &n, sizeof(n));
	ended_add(ring, &record, &gone);
}

static bool has_end(const struct ended_ring *ring, uid_t asker, uint32_t n)
{
	uint8_t uuid[16] = { 0 };
	const struct wire_ended *found;

	memcpy(uuid, &n, sizeof(n));
	found = ended_find(ring, uuid, asker);
	return found != NULL && found->status == n;
}

static void nobody_pushes_out_the_ends_of_others(void **state)
{
	static struct ended_ring ring;

	(void)state;
	put_end(&ring, 1000, 7);
	for (uint32_t n = 100; n < 100 + 4 * ENDED_MAX; n++)
		put_end(&ring, 2000, n);
	assert_true(has_end(&ring, 1000, 7));
	assert_true(has_end(&ring, 0, 7));
	assert_false(has_end(&ring, 2000, 7));
	assert_true(has_end(&ring, 2000, 100 + 4 * ENDED_MAX - 1)); /* the latest, as many as are a share */
	assert_true(has_end(&ring, 2000, 100 + 4 * ENDED_MAX - ENDED_USER_MAX));
	assert_false(has_end(&ring, 2000, 100 + 4 * ENDED_MAX - ENDED_USER_MAX - 1));
	for (uint32_t n = 0; n < ENDED_MAX; n++) /* all together do, the oldest first */
		put_end(&ring, 3000 + n, n);
	assert_false(has_end(&ring, 1000, 7));
	assert_true(has_end(&ring, 3000, 0));
}

static void unclean_end_keeps_uid_and_label(void **state)
{
	struct fixture *fx = *state;
	int fd = client_open(fx);
	struct wire_lease lease = lease_started(fx, fd, 1);

	spawner_send(fx, WIRE_OP_S_GONE, &(struct wire_gone){ .id = lease.id, .clean = 0 }, NULL, 0);
	fixture_run(fx);
	assert_int_equal(fx->server.leases.count, 0);
	assert_int_equal(fx->labels.used_count, 1);
	assert_int_equal(fx->server.ids.state.quarantine[0].uid, lease.uid);
	assert_true(fx->server.ids.state.quarantine[0].until == IDS_FOREVER);
	(void)close(fd);
}

static void root_may_kill_anybodys(void **state)
{
	struct fixture *fx = *state;
	struct wire_uuid uuid;
	int fd = client_open(fx);

	(void)lease_started(fx, fd, 1);
	only_lease(fx)->owner = 64810;
	memset(uuid.uuid, 1, 16);
	set_session_uid(fx, 0);
	client_send(fd, WIRE_OP_KILL, &uuid, NULL, 0);
	assert_int_equal(client_error(fx, fd, WIRE_OP_KILL), WIRE_ERR_OK);
	(void)close(fd);
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, open_room, close_room)
	const struct CMUnitTest tests[] = {
		T(hello_and_host),
		T(hypervisor_and_network),
		T(D26_without_a_rule_nothing_is_told),
		T(acquire_and_its_record),
		T(direct_mode_is_in_every_lease),
		T(K15_a_failed_start_gives_everything_back),
		T(K07_one_start_per_uuid_of_a_user),
		T(K15_quotas_and_the_table),
		T(nothing_left_to_give),
		T(vhost_by_descriptor_or_not_available),
		T(next_walks_the_callers_own),
		T(attach_is_for_the_owner),
		T(K15_attach_flood),
		T(K15_replies_with_descriptors_left_unread),
		T(kill_and_gone),
		T(ended_is_told_to_the_owner_only),
		T(nobody_pushes_out_the_ends_of_others),
		T(unclean_end_keeps_uid_and_label),
		T(root_may_kill_anybodys),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
