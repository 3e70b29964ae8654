/* SPDX-License-Identifier: Apache-2.0
 * Runs: every process. The one place where the layout of every message is declared.
 *
 * A message is a list of fields; from that list wire.h makes the struct, wire.c the encoder, the decoder and the
 * validator, and docs/protocol.md is compared with it by a test. Integers are little-endian on the wire whatever the
 * host is, fields follow each other without padding, and every message has exactly one length.
 *
 * Field kinds (name, and what a decoder accepts):
 *   U8/U16/U32/U64 (name, min, max)   number inside the closed range
 *   FLAGS (name, mask)                u32 with no bit outside mask
 *   NAME  (name, size)                empty, or [a-z0-9] then [a-z0-9._-]*, NUL-terminated, zero-padded
 *   TEXT  (name, size)                printable ASCII made by us (paths, labels), NUL-terminated, zero-padded
 *   BYTES (name, size)                anything
 *   SUB   (name, count, message)      count messages of another kind
 *
 * No message from an unprivileged peer to the broker has a TEXT field: no path and no argv word crosses that way.
 */
#pragma once

#define WIRE_VERSION 1u

/* Limits a peer can reach. Each is checked where the number enters. */
#define WIRE_NICS_MAX 8u         /* NICs of one sandbox */
#define WIRE_QUEUES_MAX 8u       /* queue pairs of one NIC */
#define WIRE_TAP_FDS_MAX 32u     /* queue pairs of all NICs of one sandbox */
#define WIRE_VCPUS_MAX 1024u
#define WIRE_MEMORY_MAX 16777216u /* MiB: 16 TiB */
#define WIRE_ASSETS_MAX 64u      /* descriptors a controller hands to its VMM */
#define WIRE_FDS_MAX 96u         /* descriptors in one message, whatever it is */
#define WIRE_WORDS_MAX 32768u    /* bytes of argv in one plan, NULs included */
#define WIRE_FACT_FDS_MAX 192u   /* descriptors one receipt can describe */
#define WIRE_UID_NONE 0xffffffffu

/* What a sandbox may be granted; index of lease.grants[]. */
#define WIRE_GRANTS(X) \
	X(KVM, "kvm") X(TAP, "tap") X(VHOST_NET, "vhost-net") X(VHOST_VSOCK, "vhost-vsock") X(LABEL, "label") \
	X(CGROUP, "cgroup") X(LANDLOCK, "landlock") X(PORT_FILTER, "port-filter")

/* How a grant was met, or why it was not. The first five are successes and name the strategy. */
#define WIRE_OUTCOMES(X) \
	X(NOT_ASKED, "not asked for") \
	X(GRANTED, "granted") \
	X(BY_FD, "granted: descriptor") \
	X(BY_NODE, "granted: device node inside the sandbox") \
	X(BY_GROUP, "granted: supplementary group") \
	X(BY_CGROUP2, "granted: cgroup v2 controllers") \
	X(BY_CGROUP1, "granted: cgroup v1 controllers; v2 group for kill and liveness only") \
	X(BY_RLIMIT, "granted: the number of processes, by rlimit; no limit on memory and CPU without a cgroup controller") \
	X(NO_NODE, "not available: the device node does not exist on this host (is the module loaded?)") \
	X(NO_ACCESS, "not available: the broker may not open the device node (check its group)") \
	X(NO_KERNEL, "not available: this kernel does not have it") \
	X(NO_POLICY, "not available: the policy does not grant it") \
	X(FAILED, "not available: setting it up failed (see the broker's log)") \
	X(PARTIAL, "granted in part: this host does not have all that Postern uses of it")

/* Whether the kernel's OOM killer ended something in a sandbox: because its own limit was reached, or because the host, or
 * a group around all sandboxes, had no more (cgroup version 1 does not tell the two apart: LIMIT). */
#define WIRE_OOM_NONE 0u
#define WIRE_OOM_LIMIT 1u
#define WIRE_OOM_HOST 2u

/* Steps of a launch. FAILED messages carry one, so that an error names what failed; test builds can fail each. */
#define WIRE_STEPS(X) \
	X(NONE, "nothing") \
	X(TAP_OPEN, "open /dev/net/tun") X(TAP_CREATE, "create the tap") X(TAP_ATTACH, "attach the tap to its bridge") \
	X(TAP_PORT, "lock and isolate the bridge port") X(TAP_FDB, "pin the MAC on the bridge port") \
	X(TAP_FILTER, "install the source filter") X(TAP_UP, "bring the tap up") \
	X(CGROUP_MAKE, "make the cgroup") X(CGROUP_LIMIT, "set the cgroup limits") X(CGROUP_ENTER, "enter the cgroup") \
	X(SOCKETS, "make the keeper sockets") X(CLONE, "clone into new namespaces") X(MAP, "write the id maps") \
	X(RECORD, "send the record to the broker") X(RELEASE, "release the child") \
	X(DROP_WAIT, "wait for the id maps") X(DROP_FDS, "arrange descriptors") X(DROP_GROUPS, "set supplementary groups") \
	X(DROP_GID, "set the gid") X(DROP_UID, "set the uid") X(DROP_DUMPABLE, "clear dumpable") \
	X(DROP_MOUNT_RUN, "mount /run") X(DROP_MOUNT_MASK, "hide a device node") X(DROP_PROCFS, "make a procfs") \
	X(DROP_HOSTNAME, "set the host name") X(DROP_RLIMITS, "set rlimits") X(DROP_SECUREBITS, "lock the securebits") \
	X(DROP_BOUNDING, "empty the bounding set") X(DROP_AMBIENT, "clear the ambient set") \
	X(DROP_CAPSET, "clear the capability sets") X(DROP_NNP, "set no_new_privs") X(DROP_VERIFY, "verify the drop") \
	X(DROP_EXEC, "execute postern-init") \
	X(INIT_DUMPABLE, "clear dumpable in init") X(INIT_VERIFY, "verify that init has no privilege") \
	X(INIT_BOOT, "receive the boot record") X(INIT_FILTER_BASE, "load the base syscall filter") \
	X(INIT_PLAN, "receive the plan") X(INIT_PLAN_CHECK, "check the plan") X(INIT_ASSET, "take over an asset") \
	X(INIT_CHANNELS, "make the control and console channels") X(INIT_FORK, "fork the VMM") \
	X(VMM_FDS, "arrange the VMM's descriptors") X(VMM_LABEL, "set the SELinux label") X(VMM_LANDLOCK, "apply Landlock") \
	X(VMM_FILTER, "load the VMM's syscall filter") X(VMM_EXEC, "execute the VMM") \
	X(INIT_FILTER, "load init's own syscall filter") X(INIT_FACTS, "read the facts for the receipt") \
	X(INIT_SEND, "send to the controller")

/* Why the broker said no. Every one has a text for the user in launcher/sandbox/broker_client.c. */
#define WIRE_ERRORS(X) \
	X(OK) X(VERSION) X(NOT_ALLOWED) X(HYPERVISOR_UNKNOWN) X(HYPERVISOR_DENIED) X(NETWORK_UNKNOWN) X(NETWORK_DENIED) \
	X(KVM_DENIED) X(KVM_MISSING) X(VHOST_DENIED) X(VHOST_MISSING) X(VSOCK_DENIED) X(VSOCK_MISSING) X(LABEL_DENIED) \
	X(LABEL_MISSING) X(CGROUP_MISSING) X(LANDLOCK_MISSING) X(FILTER_MISSING) X(QUOTA_SANDBOXES_USER) \
	X(QUOTA_SANDBOXES_ALL) X(QUOTA_TAPS_USER) X(QUOTA_TAPS_ALL) X(QUOTA_VCPUS_USER) X(QUOTA_VCPUS_ALL) \
	X(QUOTA_MEMORY_USER) X(QUOTA_MEMORY_ALL) X(QUOTA_RATE) X(IDS_EXHAUSTED) X(CIDS_EXHAUSTED) X(LABELS_EXHAUSTED) \
	X(UUID_IN_USE) X(NOT_FOUND) X(SPAWNER_DOWN) X(STARTING) X(STOPPING) X(TIMEOUT) X(STEP_FAILED) X(TAPS_TOO_MANY) \
	X(OPTION_DENIED) X(INTERNAL) X(TAP_MISSING) X(ADDRESSES_EXHAUSTED) X(NOT_SURVIVING)

/* flags of acquire and lease */
#define WIRE_KVM_WANT 0x1u         /* grant /dev/kvm when the policy allows and the host has it */
#define WIRE_KVM_REQUIRE 0x2u      /* ... and refuse the lease when not */
#define WIRE_KVM_FD_OK 0x4u        /* this VMM takes /dev/kvm as a descriptor */
#define WIRE_VSOCK_WANT 0x8u
#define WIRE_VSOCK_REQUIRE 0x10u
#define WIRE_LABEL_REQUIRE 0x20u
#define WIRE_NETNS_SHARED 0x40u    /* share the one empty network namespace instead of having an own */
#define WIRE_SURVIVE 0x80u         /* outlive the controller until somebody attaches */
#define WIRE_CGROUP_REQUIRE 0x100u /* rlimits alone are not enough */
#define WIRE_ACQUIRE_FLAGS 0x1ffu  /* those a client may set */
#define WIRE_DIRECT 0x200u         /* set by the broker: the sandbox has no user namespace of its own, see direct mode */
#define WIRE_LEASE_FLAGS 0x3ffu
/* flags of a NIC */
#define WIRE_NIC_VHOST_WANT 0x1u
#define WIRE_NIC_VHOST_REQUIRE 0x2u
#define WIRE_NIC_ISOLATED 0x4u     /* set by the broker from the policy */
#define WIRE_NIC_PIN_IP 0x8u       /* set by the broker from the policy: only nic.ip may be the source */
#define WIRE_NIC_FLAGS 0xfu
#define WIRE_NIC_ASK_FLAGS 0x3u    /* those a client may set */

/* ---- parts ---------------------------------------------------------------------------------------------------- */

/* A NIC as a client asks for it. */
#define MSG_nic_ask(U8, U16, U32, U64, FLAGS, NAME, TEXT, BYTES, SUB) \
	NAME(network, 32) U8(queues, 0, WIRE_QUEUES_MAX) FLAGS(flags, WIRE_NIC_ASK_FLAGS)

/* A NIC as it was granted. ip is IPv4 in host order, 0 when the policy pins none. */
#define MSG_nic(U8, U16, U32, U64, FLAGS, NAME, TEXT, BYTES, SUB) \
	NAME(network, 32) U8(queues, 0, WIRE_QUEUES_MAX) FLAGS(flags, WIRE_NIC_FLAGS) BYTES(mac, 6) \
	U32(ip, 0, 0xffffffff) U32(ifindex, 0, 0x7fffffff) U8(bridge, 0, 31) U8(vhost, 0, 1)

/* Resource limits; 0 = as the policy says (in acquire) or none (in a lease). */
#define MSG_limits(U8, U16, U32, U64, FLAGS, NAME, TEXT, BYTES, SUB) \
	U32(memory_mib, 0, WIRE_MEMORY_MAX) U32(swap_mib, 0, WIRE_MEMORY_MAX) U32(pids, 0, 65535) \
	U32(cpu_percent, 0, 1000000) U32(io_weight, 0, 10000)

/* Everything that is true of a sandbox for its whole life. Never changes after launch, so copies cannot diverge. */
#define MSG_lease(U8, U16, U32, U64, FLAGS, NAME, TEXT, BYTES, SUB) \
	BYTES(uuid, 16) U64(id, 0, UINT64_MAX) U64(started_ns, 0, UINT64_MAX) U32(owner, 0, UINT32_MAX) \
	U32(uid, 0, UINT32_MAX) U32(gid, 0, UINT32_MAX) U32(init_pid, 0, 0x7fffffff) NAME(hypervisor, 32) \
	U32(vcpus, 1, WIRE_VCPUS_MAX) U32(memory_mib, 1, WIRE_MEMORY_MAX) FLAGS(flags, WIRE_LEASE_FLAGS) \
	U32(cid, 0, UINT32_MAX) U8(nic_count, 0, WIRE_NICS_MAX) SUB(nics, WIRE_NICS_MAX, nic) SUB(limits, 1, limits) \
	BYTES(grants, 8) U8(landlock_abi, 0, 255) TEXT(label, 128) TEXT(cgroup, 128)

/* ---- client <-> broker ---------------------------------------------------------------------------------------- */

#define MSG_empty(U8, U16, U32, U64, FLAGS, NAME, TEXT, BYTES, SUB)

#define MSG_hello(U8, U16, U32, U64, FLAGS, NAME, TEXT, BYTES, SUB) U32(version, 0, UINT32_MAX)

#define MSG_hello_reply(U8, U16, U32, U64, FLAGS, NAME, TEXT, BYTES, SUB) \
	U32(version, 0, UINT32_MAX) U64(boot_id, 0, UINT64_MAX) TEXT(release, 32)

/* Sent instead of the reply. number: the limit that was met, the errno of a failed step. */
#define MSG_error(U8, U16, U32, U64, FLAGS, NAME, TEXT, BYTES, SUB) \
	U32(code, 0, 255) U32(step, 0, 255) U64(number, 0, UINT64_MAX) NAME(object, 32)

/* What this host and policy offer the caller; outcomes are indexed by grant. */
#define MSG_host_reply(U8, U16, U32, U64, FLAGS, NAME, TEXT, BYTES, SUB) \
	BYTES(outcomes, 8) U8(landlock_abi, 0, 255) U8(direct_mode, 0, 1) U32(first_uid, 0, UINT32_MAX) \
	U32(uid_count, 0, UINT32_MAX) U32(sandboxes_user, 0, UINT32_MAX) U32(sandboxes_user_max, 0, UINT32_MAX) \
	U32(sandboxes_all, 0, UINT32_MAX) U32(sandboxes_all_max, 0, UINT32_MAX)

#define MSG_name(U8, U16, U32, U64, FLAGS, NAME, TEXT, BYTES, SUB) NAME(name, 32)

/* kind: enum driver_kind of include/postern/driver.h. path is for the caller's version probe and argv[0]. */
#define MSG_hypervisor_reply(U8, U16, U32, U64, FLAGS, NAME, TEXT, BYTES, SUB) U8(kind, 0, 15) TEXT(path, 256)

#define MSG_network_reply(U8, U16, U32, U64, FLAGS, NAME, TEXT, BYTES, SUB) \
	U32(gateway, 0, UINT32_MAX) U8(prefix, 0, 32) U8(isolated, 0, 1) U8(pin_ip, 0, 1) U8(max_queues, 0, WIRE_QUEUES_MAX)

#define MSG_acquire(U8, U16, U32, U64, FLAGS, NAME, TEXT, BYTES, SUB) \
	BYTES(uuid, 16) NAME(hypervisor, 32) U32(vcpus, 1, WIRE_VCPUS_MAX) U32(memory_mib, 1, WIRE_MEMORY_MAX) \
	FLAGS(flags, WIRE_ACQUIRE_FLAGS) U8(nic_count, 0, WIRE_NICS_MAX) SUB(nics, WIRE_NICS_MAX, nic_ask) \
	SUB(limits, 1, limits) NAME(label_type, 32)

#define MSG_uuid(U8, U16, U32, U64, FLAGS, NAME, TEXT, BYTES, SUB) BYTES(uuid, 16)

/* The end of a sandbox, as S_GONE told it. memory_mib: its limit, 0 without one. ended_ns: CLOCK_REALTIME. */
#define MSG_ended(U8, U16, U32, U64, FLAGS, NAME, TEXT, BYTES, SUB) \
	U32(status, 0, UINT32_MAX) U8(clean, 0, 1) U8(oom, 0, 2) U32(memory_mib, 0, WIRE_MEMORY_MAX) \
	U64(ended_ns, 0, UINT64_MAX)

/* A walk over the caller's leases: ask with the last id seen (0 first), get the next one or NOT_FOUND. */
#define MSG_cursor(U8, U16, U32, U64, FLAGS, NAME, TEXT, BYTES, SUB) U64(after, 0, UINT64_MAX)

/* ---- broker <-> spawner --------------------------------------------------------------------------------------- */

/* hypervisor: index into the table both were started with. groups: 1 when X gets the group of /dev/kvm. */
#define MSG_start(U8, U16, U32, U64, FLAGS, NAME, TEXT, BYTES, SUB) \
	SUB(lease, 1, lease) U32(hypervisor, 0, 31) U8(kvm_fd, 0, 1) U8(vsock_fd, 0, 1) U8(vhost_fds, 0, WIRE_TAP_FDS_MAX)

#define MSG_lease_id(U8, U16, U32, U64, FLAGS, NAME, TEXT, BYTES, SUB) U64(id, 1, UINT64_MAX)

#define MSG_step_failed(U8, U16, U32, U64, FLAGS, NAME, TEXT, BYTES, SUB) \
	U64(id, 0, UINT64_MAX) U32(step, 0, 255) U32(error, 0, 4095) U8(burn, 0, 1)

/* Everything of the sandbox is gone: processes, tap, cgroup. status is waitpid's of init, or 0 when nobody could know.
 * oom: WIRE_OOM_*. */
#define MSG_gone(U8, U16, U32, U64, FLAGS, NAME, TEXT, BYTES, SUB) \
	U64(id, 1, UINT64_MAX) U32(status, 0, UINT32_MAX) U8(clean, 0, 1) U8(oom, 0, 2)

/* First message each way after a (re)start of either. count: how many inventory messages follow. */
#define MSG_spawner_hello(U8, U16, U32, U64, FLAGS, NAME, TEXT, BYTES, SUB) \
	U32(version, 0, UINT32_MAX) U32(count, 0, UINT32_MAX) U8(landlock_abi, 0, 255) U8(cgroup, 0, 255) \
	U8(port_filter, 0, 255) U8(kvm, 0, 255)

/* postern-start joins a new half to the surviving one: it passes an end of a fresh socket pair and gets the kept set
 * (broker/inherit.h, enum p_fd) back; bit i of present says that P_<i> is among the descriptors, in order. */
#define MSG_joined(U8, U16, U32, U64, FLAGS, NAME, TEXT, BYTES, SUB) FLAGS(present, 0xffffffu) U32(leases, 0, UINT32_MAX)

/* ---- spawner <-> init, init <-> controller --------------------------------------------------------------------- */

/* From the spawner, before anything else: what init is and which program it may execute. */
#define MSG_boot(U8, U16, U32, U64, FLAGS, NAME, TEXT, BYTES, SUB) \
	SUB(lease, 1, lease) U8(profile, 0, 15) U8(kvm_node, 0, 1) U8(kvm_fd, 0, 1) U8(tap_fds, 0, WIRE_TAP_FDS_MAX) \
	U8(vhost_fds, 0, WIRE_TAP_FDS_MAX) U8(vsock_fd, 0, 1) U8(kvm_group, 0, 1) U32(kvm_gid, 0, UINT32_MAX) TEXT(path, 256)

/* Assets come as descriptors with the message, in the order of this table.
 * use: 0 inherited at its slot (plan.h), 1 copied to /run/<name> as a read-only file and closed. */
#define MSG_asset(U8, U16, U32, U64, FLAGS, NAME, TEXT, BYTES, SUB) U8(use, 0, 1) U8(writable, 0, 1) NAME(name, 32)

#define MSG_plan(U8, U16, U32, U64, FLAGS, NAME, TEXT, BYTES, SUB) \
	U16(word_count, 1, 1024) U16(word_bytes, 1, WIRE_WORDS_MAX) U8(asset_count, 0, WIRE_ASSETS_MAX) \
	SUB(assets, WIRE_ASSETS_MAX, asset) BYTES(words, WIRE_WORDS_MAX)

/* One open descriptor of the VMM. access: 0 read, 1 write, 2 both, 3 O_PATH. */
#define MSG_fact_fd(U8, U16, U32, U64, FLAGS, NAME, TEXT, BYTES, SUB) \
	U32(fd, 0, 0x7fffffff) U32(mode, 0, UINT32_MAX) U64(dev, 0, UINT64_MAX) U64(ino, 0, UINT64_MAX) \
	U64(rdev, 0, UINT64_MAX) U8(access, 0, 3)

/* What init was given for the VMM, just before exec, and what the VMM has after: compared by the controller.
 * held: 1 when read while the VMM stood still at its first instruction. */
#define MSG_facts(U8, U16, U32, U64, FLAGS, NAME, TEXT, BYTES, SUB) \
	U32(vmm_pid, 0, 0x7fffffff) SUB(init_ids, 1, fact_ids) SUB(vmm_ids, 1, fact_ids) \
	SUB(namespaces, 8, fact_ns) U64(root_dev, 0, UINT64_MAX) U64(root_ino, 0, UINT64_MAX) \
	U64(init_root_dev, 0, UINT64_MAX) U64(init_root_ino, 0, UINT64_MAX) U64(cwd_dev, 0, UINT64_MAX) \
	U64(cwd_ino, 0, UINT64_MAX) U32(tasks, 0, UINT32_MAX) U32(tasks_filtered, 0, UINT32_MAX) U8(landlock_abi, 0, 255) \
	U32(oom_score_adj, 0, UINT32_MAX) TEXT(label, 128) TEXT(cgroup, 128) TEXT(exe, 256) \
	U64(rlimit_nofile, 0, UINT64_MAX) U64(rlimit_core, 0, UINT64_MAX) U64(rlimit_memlock, 0, UINT64_MAX) \
	U64(rlimit_nproc, 0, UINT64_MAX) U16(given_count, 0, WIRE_FACT_FDS_MAX) SUB(given, WIRE_FACT_FDS_MAX, fact_fd) \
	U16(fd_count, 0, WIRE_FACT_FDS_MAX) SUB(fds, WIRE_FACT_FDS_MAX, fact_fd) U8(held, 0, 1)

/* From /proc/PID/status, as numbers. group_count may be larger than the table; then the receipt fails. */
#define MSG_fact_ids(U8, U16, U32, U64, FLAGS, NAME, TEXT, BYTES, SUB) \
	SUB(uids, 4, fact_id) SUB(gids, 4, fact_id) U32(group_count, 0, UINT32_MAX) SUB(groups, 8, fact_id) \
	U64(cap_inh, 0, UINT64_MAX) U64(cap_prm, 0, UINT64_MAX) U64(cap_eff, 0, UINT64_MAX) U64(cap_bnd, 0, UINT64_MAX) \
	U64(cap_amb, 0, UINT64_MAX) U8(no_new_privs, 0, 255) U8(seccomp, 0, 255) U32(seccomp_filters, 0, UINT32_MAX)

#define MSG_fact_id(U8, U16, U32, U64, FLAGS, NAME, TEXT, BYTES, SUB) U32(id, 0, UINT32_MAX)

/* In the order user, pid, mnt, net, ipc, uts, cgroup, time: the VMM's, and init's. */
#define MSG_fact_ns(U8, U16, U32, U64, FLAGS, NAME, TEXT, BYTES, SUB) \
	U64(vmm, 0, UINT64_MAX) U64(init, 0, UINT64_MAX)

/* signal 0: end the sandbox in order (SIGTERM to the VMM, SIGKILL after grace_ms). */
#define MSG_stop(U8, U16, U32, U64, FLAGS, NAME, TEXT, BYTES, SUB) U32(signal, 0, 64) U32(grace_ms, 0, 600000)

#define MSG_exited(U8, U16, U32, U64, FLAGS, NAME, TEXT, BYTES, SUB) U32(status, 0, UINT32_MAX)

/* Every message, parts before the messages that contain them. */
#define WIRE_MESSAGES(X) \
	X(empty) X(nic_ask) X(nic) X(limits) X(lease) X(hello) X(hello_reply) X(error) X(host_reply) X(name) \
	X(hypervisor_reply) X(network_reply) X(acquire) X(uuid) X(ended) X(cursor) X(start) X(lease_id) \
	X(step_failed) X(gone) X(spawner_hello) X(joined) X(boot) X(asset) X(plan) X(fact_id) X(fact_ids) X(fact_ns) \
	X(fact_fd) X(facts) X(stop) X(exited)

/* ---- operations ------------------------------------------------------------------------------------------------
 * X(number, NAME, link, direction, request, fds, reply, reply fds, phases)
 *   link       CLIENT (client-broker), SPAWNER (broker-spawner), RENDEZVOUS (start-broker, start-spawner),
 *              KEEPER (spawner/broker-init), CONTROL (controller-init)
 *   direction  the side that sends the request: FROM_CLIENT, FROM_BROKER, FROM_SPAWNER, FROM_START, FROM_INIT,
 *              FROM_CONTROLLER
 *   fds        exact count, or the name of a counting function in wire.c that looks at the message
 *   reply      "empty" with NO_REPLY for one-way messages
 *   phases     phases of the receiving session in which it is allowed; anything else ends the session
 */
#define WIRE_OPS(X) \
	X(1, HELLO, CLIENT, FROM_CLIENT, hello, 0, hello_reply, 0, PHASE_NEW) \
	X(2, HOST, CLIENT, FROM_CLIENT, empty, 0, host_reply, 0, PHASE_READY) \
	X(3, HYPERVISOR, CLIENT, FROM_CLIENT, name, 0, hypervisor_reply, 0, PHASE_READY) \
	X(4, NETWORK, CLIENT, FROM_CLIENT, name, 0, network_reply, 0, PHASE_READY) \
	X(5, ACQUIRE, CLIENT, FROM_CLIENT, acquire, 1, lease, 1, PHASE_READY) \
	X(6, ATTACH, CLIENT, FROM_CLIENT, uuid, 1, lease, 1, PHASE_READY) \
	X(7, NEXT, CLIENT, FROM_CLIENT, cursor, 0, lease, 0, PHASE_READY) \
	X(8, KILL, CLIENT, FROM_CLIENT, uuid, 0, empty, 0, PHASE_READY) \
	X(9, ENDED, CLIENT, FROM_CLIENT, uuid, 0, ended, 0, PHASE_READY) \
	X(32, S_HELLO, SPAWNER, FROM_BROKER, spawner_hello, 0, empty, NO_REPLY, PHASE_NEW) \
	X(33, S_KNOWN, SPAWNER, FROM_BROKER, lease, 2, empty, NO_REPLY, PHASE_SYNC) \
	X(34, S_START, SPAWNER, FROM_BROKER, start, fds_of_start, empty, NO_REPLY, PHASE_READY) \
	X(35, S_KILL, SPAWNER, FROM_BROKER, lease_id, 0, empty, NO_REPLY, PHASE_READY) \
	X(36, S_SHUTDOWN, SPAWNER, FROM_BROKER, empty, 0, empty, NO_REPLY, PHASE_READY) \
	X(40, S_WELCOME, SPAWNER, FROM_SPAWNER, spawner_hello, 0, empty, NO_REPLY, PHASE_NEW) \
	X(41, S_HAVE, SPAWNER, FROM_SPAWNER, lease, 2, empty, NO_REPLY, PHASE_SYNC) \
	X(42, S_STARTED, SPAWNER, FROM_SPAWNER, lease, 2, empty, NO_REPLY, PHASE_READY) \
	X(43, S_FAILED, SPAWNER, FROM_SPAWNER, step_failed, 0, empty, NO_REPLY, PHASE_READY) \
	X(44, S_GONE, SPAWNER, FROM_SPAWNER, gone, 0, empty, NO_REPLY, PHASE_READY) \
	X(48, R_JOIN, RENDEZVOUS, FROM_START, empty, 1, joined, fds_of_joined, PHASE_READY) \
	X(64, K_BOOT, KEEPER, FROM_SPAWNER, boot, 0, empty, NO_REPLY, PHASE_NEW) \
	X(65, K_ATTACH, KEEPER, FROM_BROKER, empty, 1, empty, NO_REPLY, PHASE_READY) \
	X(66, K_FAILED, KEEPER, FROM_INIT, step_failed, 0, empty, NO_REPLY, PHASE_NEW | PHASE_READY) \
	X(80, C_PLAN, CONTROL, FROM_CONTROLLER, plan, fds_of_plan, empty, NO_REPLY, PHASE_NEW) \
	X(81, C_AUDIT, CONTROL, FROM_CONTROLLER, empty, 0, empty, NO_REPLY, PHASE_READY) \
	X(82, C_STOP, CONTROL, FROM_CONTROLLER, stop, 0, empty, NO_REPLY, PHASE_READY) \
	X(83, C_KEEP, CONTROL, FROM_CONTROLLER, empty, 0, empty, NO_REPLY, PHASE_READY) \
	X(90, C_CHANNELS, CONTROL, FROM_INIT, empty, 3, empty, NO_REPLY, PHASE_NEW | PHASE_READY) \
	X(91, C_FACTS, CONTROL, FROM_INIT, facts, 0, empty, NO_REPLY, PHASE_READY) \
	X(92, C_FAILED, CONTROL, FROM_INIT, step_failed, 0, empty, NO_REPLY, PHASE_NEW | PHASE_READY) \
	X(93, C_EXITED, CONTROL, FROM_INIT, exited, 0, empty, NO_REPLY, PHASE_READY)
