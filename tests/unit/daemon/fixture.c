/* SPDX-License-Identifier: Apache-2.0
 * Runs: tests. */
#include "fixture.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "common/log.h"

#define TURNS 8 /* of the loop; more than any exchange in these tests takes */

void fixture_prepare(struct fixture *fx)
{
	struct policy *policy = &fx->policy;

	memset(fx, 0, sizeof(*fx));
	log_init("test", getenv("POSTERN_TEST_LOG") != NULL ? LOG_LEVEL_DEBUG : LOG_LEVEL_ERROR - 1);
	policy->first_uid = FIRST_UID;
	policy->uid_count = UID_COUNT;
	policy->hypervisor_count = 2;
	policy->hypervisors[0] = (struct policy_hypervisor){ "mock", "/usr/libexec/postern/postern-mock-vmm",
							     POLICY_DRIVER_MOCK, PROFILE_MOCK };
	policy->hypervisors[1] =
		(struct policy_hypervisor){ "qemu", "/usr/bin/qemu-system-x86_64", POLICY_DRIVER_QEMU, PROFILE_QEMU };
	policy->network_count = 2;
	policy->networks[0] = (struct policy_network){ .name = "lan",
						       .uplink = true,
						       .gateway = 0x0a090001,
						       .prefix = 29,
						       .isolated = true,
						       .pin_ip = true,
						       .max_queues = 4 };
	policy->networks[1] = (struct policy_network){ .name = "dmz", .max_queues = 1 };
	policy->rule_count = 1;
	policy->rules[0] = (struct policy_rule){
		.users = { POLICY_ANY_USER }, .user_count = 1, .hypervisors = 1, .networks = 1, .kvm = true, .survive = true
	};
	policy->hello_ms = policy->idle_ms = policy->launch_ms = 60000;
	policy->sessions_max = 16;
	policy->sessions_user_max = 12;
	fx->host = (struct host_table){ .magic = TABLE_MAGIC, .size = sizeof(fx->host), .boot_id = 77 };
	memset(fx->host.outcomes, WIRE_BY_GRANTED, sizeof(fx->host.outcomes));
	fx->labels.categories = LABEL_CATEGORIES;
	strcpy(fx->labels.own, "system_u:system_r:postern_t:s0");
	strcpy(fx->dir, "/tmp/postern-unit-XXXXXX");
	assert_non_null(mkdtemp(fx->dir));
	fx->dirfd = open(fx->dir, O_PATH | O_DIRECTORY | O_CLOEXEC);
	assert_true(fx->dirfd >= 0);
}

static int listen_in(struct fixture *fx)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);

	assert_true(fd >= 0);
	assert_true(snprintf(address.sun_path, sizeof(address.sun_path), "%s/broker.sock", fx->dir) > 0);
	(void)unlink(address.sun_path);
	assert_return_code(bind(fd, (struct sockaddr *)&address, sizeof(address)), errno);
	assert_return_code(listen(fd, 64), errno);
	return fd;
}

void fixture_start(struct fixture *fx)
{
	struct server_fds fds = { .rendezvous = -1, .signals = -1, .notify = -1 };
	struct ids ids;
	int pair[2];

	assert_return_code(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair), errno);
	fds.listen = listen_in(fx);
	fds.spawner = pair[0];
	fx->spawner = pair[1];
	for (size_t i = 0; i < P_COUNT; i++)
		fds.kept[i] = i == P_CGROUP ? -1 : open("/dev/null", O_RDONLY | O_CLOEXEC);
	assert_int_equal(ids_open(fx->dirfd, FIRST_UID, UID_COUNT, now_ns(), &ids), 0);
	assert_int_equal(server_init(&fx->server, &fx->policy, &fx->host, &fx->labels, &ids, &fds, LEASES), 0);
}

void fixture_open(struct fixture *fx)
{
	fixture_prepare(fx);
	fixture_start(fx);
	assert_int_equal(spawner_recv(fx, WIRE_OP_S_HELLO), 1);
	spawner_welcome(fx, 0);
	fixture_run(fx);
	assert_true(link_ready(&fx->server.link));
}

void fixture_stop(struct fixture *fx)
{
	server_free(&fx->server);
	memset(fx->labels.used, 0, sizeof(fx->labels.used));
	fx->labels.used_count = 0;
	fd_close(&fx->spawner);
}

void fixture_close(struct fixture *fx)
{
	char path[128];

	fixture_stop(fx);
	fd_close(&fx->dirfd);
	(void)snprintf(path, sizeof(path), "%s/broker.sock", fx->dir);
	(void)unlink(path);
	(void)snprintf(path, sizeof(path), "%s/ids", fx->dir);
	(void)unlink(path);
	assert_return_code(rmdir(fx->dir), errno);
}

void fixture_run(struct fixture *fx)
{
	for (int i = 0; i < TURNS; i++)
		assert_int_equal(server_step(&fx->server, 0), 0);
}

void fixture_wait(struct fixture *fx, unsigned ms)
{
	uint64_t end = now_ns() + ms * UINT64_C(1000000);

	while (now_ns() < end)
		assert_int_equal(server_step(&fx->server, 5), 0);
	fixture_run(fx);
}

void spawner_welcome(struct fixture *fx, uint32_t count)
{
	const struct wire_spawner_hello hello = { .version = WIRE_VERSION,
						  .count = count,
						  .landlock_abi = 7,
						  .cgroup = WIRE_BY_BY_CGROUP1,
						  .port_filter = WIRE_BY_GRANTED,
						  .kvm = WIRE_BY_GRANTED };

	spawner_send(fx, WIRE_OP_S_WELCOME, &hello, NULL, 0);
}

int spawner_recv(struct fixture *fx, enum wire_op op)
{
	const struct wire_session all[] = {
		{ .link = LINK_SPAWNER, .peer = FROM_BROKER, .phase = PHASE_NEW | PHASE_SYNC | PHASE_READY },
	};
	struct pollfd waiting = { .fd = fx->spawner, .events = POLLIN };

	fixture_run(fx);
	if (poll(&waiting, 1, 0) <= 0)
		return 0;
	assert_int_equal(wire_recv(fx->spawner, all, &fx->in), 1);
	assert_string_equal(wire_op_name(fx->in.op), wire_op_name(op));
	return 1;
}

void spawner_send(struct fixture *fx, enum wire_op op, const void *msg, const int *fds, size_t fd_count)
{
	assert_int_equal(wire_send(fx->spawner, op, WIRE_REQUEST, 0, msg, fds, fd_count), 0);
}

int stand_in_pidfd(void)
{
	return open("/dev/null", O_RDONLY | O_CLOEXEC);
}

void spawner_started(struct fixture *fx, struct wire_lease *lease)
{
	int pidfd = stand_in_pidfd(), keeper[2];

	assert_true(pidfd >= 0);
	assert_return_code(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, keeper), errno);
	lease->init_pid = 4711;
	strcpy(lease->cgroup, "/postern/s1");
	spawner_send(fx, WIRE_OP_S_STARTED, lease, (int[]){ pidfd, keeper[0] }, 2);
	(void)close(pidfd);
	(void)close(keeper[0]);
	(void)close(keeper[1]);
}

void spawner_die(struct fixture *fx)
{
	fd_close(&fx->spawner);
	fixture_run(fx);
	assert_int_equal(fx->server.link.fd, -1);
}

int client_dial(const struct fixture *fx)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	assert_true(fd >= 0);
	assert_true(snprintf(address.sun_path, sizeof(address.sun_path), "%s/broker.sock", fx->dir) > 0);
	assert_return_code(connect(fd, (struct sockaddr *)&address, sizeof(address)), errno);
	return fd;
}

int client_connect(struct fixture *fx)
{
	int fd = client_dial(fx);

	fixture_run(fx);
	return fd;
}

int client_open(struct fixture *fx)
{
	const struct wire_hello hello = { .version = WIRE_VERSION };
	int fd = client_connect(fx);

	client_send(fd, WIRE_OP_HELLO, &hello, NULL, 0);
	assert_int_equal(client_recv(fx, fd, WIRE_OP_HELLO), WIRE_REPLY);
	return fd;
}

void client_send(int fd, enum wire_op op, const void *msg, const int *fds, size_t fd_count)
{
	assert_int_equal(wire_send(fd, op, WIRE_REQUEST, 9, msg, fds, fd_count), 0);
}

bool client_closed(int fd)
{
	char byte;

	return recv(fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT) == 0 || errno == ECONNRESET;
}

enum wire_kind client_recv(struct fixture *fx, int fd, enum wire_op op)
{
	const struct wire_session view = { .link = LINK_CLIENT, .peer = FROM_BROKER, .phase = PHASE_READY, .replies = true };

	fixture_run(fx);
	assert_int_equal(wire_recv(fd, &view, &fx->in), 1);
	assert_int_equal(fx->in.op, op);
	assert_int_equal(fx->in.sequence, 9);
	return fx->in.kind;
}

enum wire_error_code client_error(struct fixture *fx, int fd, enum wire_op op)
{
	enum wire_kind kind = client_recv(fx, fd, op);

	if (kind == WIRE_ERROR)
		return (enum wire_error_code)fx->in.msg.error.code;
	wire_in_close(&fx->in);
	return WIRE_ERR_OK;
}

struct wire_acquire acquire_mock(uint8_t number)
{
	struct wire_acquire ask = { .hypervisor = "mock", .vcpus = 1, .memory_mib = 64 };

	memset(ask.uuid, number, sizeof(ask.uuid));
	return ask;
}

int client_acquire(struct fixture *fx, int fd, const struct wire_acquire *ask)
{
	int pair[2];

	assert_return_code(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair), errno);
	client_send(fd, WIRE_OP_ACQUIRE, ask, &pair[1], 1);
	(void)close(pair[1]);
	fixture_run(fx);
	return pair[0];
}

struct wire_lease lease_started(struct fixture *fx, int fd, uint8_t number)
{
	struct wire_acquire ask = acquire_mock(number);
	int control = client_acquire(fx, fd, &ask);
	struct wire_lease lease;

	assert_int_equal(spawner_recv(fx, WIRE_OP_S_START), 1);
	lease = fx->in.msg.start.lease[0];
	wire_in_close(&fx->in);
	spawner_started(fx, &lease);
	assert_int_equal(client_recv(fx, fd, WIRE_OP_ACQUIRE), WIRE_REPLY);
	lease = fx->in.msg.lease;
	wire_in_close(&fx->in);
	(void)close(control);
	return lease;
}

struct lease *only_lease(struct fixture *fx)
{
	assert_int_equal(fx->server.leases.count, 1);
	for (size_t i = 0; i < fx->server.leases.high; i++)
		if (fx->server.leases.table[i].state != LEASE_FREE)
			return &fx->server.leases.table[i];
	fail();
	return NULL;
}

size_t open_fds(void)
{
	DIR *dir = opendir("/proc/self/fd");
	size_t count = 0;

	assert_non_null(dir);
	while (readdir(dir) != NULL)
		count++;
	(void)closedir(dir);
	return count;
}

void set_session_uid(struct fixture *fx, uid_t uid)
{
	for (size_t i = 0; i < fx->policy.sessions_max; i++) {
		struct session *session = &fx->server.sessions[i];

		if (session->fd < 0 || session->uid == uid)
			continue;
		session->account->sessions--;
		session->uid = uid;
		session->account = account_of(fx->server.accounts, uid, now_ns());
		session->account->sessions++;
	}
}
