/* SPDX-License-Identifier: Apache-2.0
 * Runs: test (whoever builds). The loader: what a policy means, and every way to be refused with line and path. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "policy/policy.h"

static struct policy policy;
static struct policy_error error;

static int load(const char *text, size_t len)
{
	cleanup_fd int fd = memfd_create("policy", MFD_CLOEXEC);

	assert_true(fd >= 0);
	assert_int_equal(write(fd, text, len), (ssize_t)len);
	memset(&policy, 0xaa, sizeof(policy));
	memset(&error, 0xaa, sizeof(error));
	return policy_load(fd, &policy, &error);
}

/* Line 1 to 3 of every document; numbers that no account needs to have. */
#define TOP \
	"{\"version\":1,\n" \
	" \"daemon\":{\"user\":64800,\"spawn_user\":64801},\n" \
	" \"hypervisors\":{\"qemu\":{\"driver\":\"qemu\",\"path\":\"/usr/bin/q\"}},\n"
#define RULES " \"rules\":[]}\n"

static void load_ok(const char *text)
{
	if (load(text, strlen(text)) != 0)
		fail_msg("%u: %s: %s\n%s", error.line, error.where, error.text, text);
}

static void test_defaults(void **state)
{
	(void)state;
	load_ok(TOP RULES);
	assert_int_equal(policy.broker_uid, 64800);
	assert_int_equal(policy.spawn_uid, 64801);
	assert_int_equal(policy.broker_gid, 64800); /* no account has the number */
	assert_int_equal(policy.socket_gid, 64800);
	assert_int_equal(policy.socket_mode, 0666);
	assert_int_equal(policy.first_uid, 0x70000000);
	assert_int_equal(policy.uid_count, 0x08000000);
	assert_false(policy.kvm_gid_set);
	assert_int_equal(policy.kvm, POLICY_KVM_AUTO);
	assert_int_equal(policy.mode, POLICY_MODE_NAMESPACE);
	assert_int_equal(policy.hypervisor_count, 1);
	assert_int_equal(policy.hypervisors[0].driver, POLICY_DRIVER_QEMU);
	assert_int_equal(policy.hypervisors[0].profile, PROFILE_QEMU);
	assert_int_equal(policy.network_count, 0);
	assert_int_equal(policy.rule_count, 0);
	assert_int_equal(policy.required, 0);
	assert_int_equal(policy.quota.sandboxes, 0);
	assert_int_equal(policy.limits.memory_mib, 512);
	assert_int_equal(policy.limits.pids, 2048);
	assert_int_equal(policy.limits.swap_mib, 0);
	assert_int_equal(policy.hello_ms, 2000);
	assert_int_equal(policy.idle_ms, 60000);
	assert_int_equal(policy.launch_ms, 10000);
	assert_int_equal(policy.sessions_max, 256);
	assert_int_equal(policy.sessions_user_max, 64);
	assert_string_equal(error.text, "");
}

static void test_everything(void **state)
{
	(void)state;
	/* rules before what they name: order in the document does not matter */
	load_ok("{\"rules\":[{\"users\":[0,\"1000\",\"root\",\"*\"],\"groups\":[0,\"root\",\"2147483647\"],\"hypervisors\":["
		"\"m\",\"q\"],"
		"\"networks\":[\"b\"],\"kvm\":true,\"vsock\":true,\"survive\":true,\"shared_netns\":true,\"labels\":[\"x\","
		"\"y\"],"
		"\"quota\":{\"sandboxes\":1,\"taps\":2,\"vcpus\":3,\"memory_mib\":4,\"starts_per_minute\":5}}],"
		"\"version\":1,\"daemon\":{\"user\":64800,\"spawn_user\":\"64801\",\"kvm_group\":64802,\"socket_mode\":"
		"\"0606\","
		"\"socket_group\":64803,\"mode\":\"direct\"},"
		"\"ids\":{\"first\":1879048192,\"count\":65536},\"template\":{\"binds\":[\"/opt/vmm\",\"/opt/vmm2\"]},"
		"\"hypervisors\":{\"q\":{\"driver\":\"qemu\",\"path\":\"/usr/bin/"
		"q\"},\"m\":{\"driver\":\"mock\",\"path\":\"/opt/vmm/mock\"}},"
		"\"networks\":{\"a\":{},\"b\":{\"address\":\"10.44.0.1/"
		"24\",\"isolated\":false,\"pin_ip\":true,\"vhost\":true,"
		"\"max_queues\":8},\"c\":{\"address\":\"10.44.1.1/24\"}},"
		"\"quota\":{\"memory_mib\":1099511627776},\"required\":[\"label\",\"cgroup\"],\"kvm\":\"node\","
		"\"labels\":\"prefer\",\"limits\":{\"overhead_mib\":0,\"swap_mib\":1,\"pids\":2,\"cpu_percent\":3,\"io_weight\":4},"
		"\"timeouts\":{\"hello_ms\":10,\"idle_ms\":11,\"launch_ms\":12},\"sessions\":{\"all\":13,\"user\":14}}");
	assert_int_equal(policy.rule_count, 1);
	assert_int_equal(policy.rules[0].user_count, 4);
	assert_int_equal(policy.rules[0].users[0], 0);
	assert_int_equal(policy.rules[0].users[1], 1000);
	assert_int_equal(policy.rules[0].users[2], 0);
	assert_int_equal(policy.rules[0].users[3], POLICY_ANY_USER);
	assert_int_equal(policy.rules[0].groups[2], 2147483647);
	assert_int_equal(policy.rules[0].hypervisors, 3);
	assert_int_equal(policy.rules[0].networks, 2);
	assert_int_equal(policy.rules[0].label_count, 2);
	assert_true(policy.rules[0].kvm && policy.rules[0].vsock && policy.rules[0].survive && policy.rules[0].shared_netns);
	assert_int_equal(policy.rules[0].quota.starts_per_minute, 5);
	assert_int_equal(policy.socket_mode, 0606);
	assert_int_equal(policy.socket_gid, 64803);
	assert_int_equal(policy.mode, POLICY_MODE_DIRECT);
	assert_int_equal(policy.kvm_gid, 64802);
	assert_true(policy.kvm_gid_set);
	assert_string_equal(policy.binds[1], "/opt/vmm2");
	assert_int_equal(policy.hypervisors[1].profile, PROFILE_MOCK);
	assert_false(policy.networks[0].uplink);
	assert_true(policy.networks[0].isolated);
	assert_false(policy.networks[0].vhost);
	assert_int_equal(policy.networks[0].max_queues, 1);
	assert_int_equal(policy.networks[1].gateway, 0x0a2c0001);
	assert_int_equal(policy.networks[1].prefix, 24);
	assert_false(policy.networks[1].isolated);
	assert_true(policy.networks[1].pin_ip && policy.networks[1].vhost && policy.networks[1].uplink);
	assert_int_equal(policy.quota.memory_mib, 1099511627776);
	assert_int_equal(policy.required, 1u << WIRE_GRANT_LABEL | 1u << WIRE_GRANT_CGROUP);
	assert_int_equal(policy.kvm, POLICY_KVM_NODE);
	assert_int_equal(policy.labels, POLICY_LABELS_PREFER);
	assert_int_equal(policy.limits.memory_mib, 0);
	assert_int_equal(policy.limits.io_weight, 4);
	assert_int_equal(policy.launch_ms, 12);
	assert_int_equal(policy.sessions_user_max, 14);
}

struct refusal {
	const char *text, *where;
	unsigned line;
	const char *reason; /* part of it */
};

static void refused(const struct refusal *table, size_t count)
{
	for (size_t i = 0; i < count; i++) {
		static struct policy untouched;

		memset(&untouched, 0xaa, sizeof(untouched));
		if (load(table[i].text, strlen(table[i].text)) != -EINVAL)
			fail_msg("accepted: %s", table[i].text);
		if (strcmp(error.where, table[i].where) != 0 || error.line != table[i].line ||
		    strstr(error.text, table[i].reason) == NULL)
			fail_msg("%s\nline %u, \"%s\": %s\nexpected line %u, \"%s\": %s", table[i].text, error.line,
				 error.where, error.text, table[i].line, table[i].where, table[i].reason);
		assert_memory_equal(&policy, &untouched, sizeof(policy));
	}
}

static void test_document(void **state)
{
	static const struct refusal table[] = {
		{ "", "", 1, "not JSON" },
		{ "{\"version\":1,\n\n x}", "", 3, "not JSON" },
		{ "[]", "", 1, "must be an object, is an array" },
		{ TOP RULES "x", "", 5, "not JSON" },
		{ "{\"version\":1,\n\"version\":1}", "", 2, "duplicate" },
		{ TOP "\"rules\":[{\"users\":[1],\"users\":[2]}]}", "", 4, "duplicate" },
		{ "{\"version\":1,\"a\\u0000b\":1}", "", 1, "not JSON" },
		{ "{\"version\":1,\"\xff\":1}", "", 1, "not JSON" },
		{ "{\"version\":99999999999999999999}", "", 1, "not JSON" },
		{ TOP "\n\n  \"ruels\":[]}", "ruels", 6, "unknown key; known here: version, ids, daemon" },
		{ "{\"daemon\":{}}", "", 1, "lacks the key \"version\"" },
		{ "{\"version\":2}", "version", 1, "must be 1" },
		{ "{\"version\":1.0}", "version", 1, "must be 1" },
		{ "{\"version\":1}", "", 1, "lacks the key \"daemon\"" },
		{ "{\"version\":1,\n \"daemon\":\n {\"user\":64800}}", "daemon", 2, "lacks the key \"spawn_user\"" },
		{ "{\"version\":1,\"daemon\":{\"user\":64800,\"spawn_user\":64801}}", "", 1,
		  "lacks the key \"hypervisors\"" },
		{ TOP "\"limits\":{}}", "", 1, "lacks the key \"rules\"" },
	};

	(void)state;
	refused(table, ARRAY_SIZE(table));
}

#define DAEMON(more) "{\"version\":1,\n\"daemon\":{" more "},\n\"hypervisors\":{},\"rules\":[]}"
#define USER(value) DAEMON("\"spawn_user\":64801,\n \"user\":" value)

/* ATTACKS 16: every spelling of an id that some parser has got wrong. */
static void test_ids(void **state)
{
	static const struct refusal table[] = {
		{ USER("0"), "daemon.user", 3, "must not be root" },
		{ USER("\"root\""), "daemon.user", 3, "must not be root" },
		{ USER("\"0\""), "daemon.user", 3, "must not be root" },
		{ USER("2147483648"), "daemon.user", 3, "between 0 and 2147483647" },
		{ USER("4294967295"), "daemon.user", 3, "between 0 and 2147483647" },
		{ USER("4294967296"), "daemon.user", 3, "between 0 and 2147483647" },
		{ USER("4295032096"), "daemon.user", 3, "between 0 and 2147483647" }, /* 64800 + 2^32 */
		{ USER("-1"), "daemon.user", 3, "between 0 and 2147483647" },
		{ USER("-9223372036854775808"), "daemon.user", 3, "between 0 and 2147483647" },
		{ USER("9223372036854775807"), "daemon.user", 3, "between 0 and 2147483647" },
		{ USER("65534"), "daemon.user", 3, "stands for everybody" },
		{ USER("65535"), "daemon.user", 3, "stands for everybody" },
		{ USER("1e3"), "daemon.user", 3, "must be a string, is a number with a fraction" },
		{ USER("true"), "daemon.user", 3, "must be a string, is a boolean" },
		{ USER("null"), "daemon.user", 3, "must be a string, is null" },
		{ USER("\"0x0\""), "daemon.user", 3, "neither a name nor a number" },
		{ USER("\"+5\""), "daemon.user", 3, "neither a name nor a number" },
		{ USER("\"-1\""), "daemon.user", 3, "neither a name nor a number" },
		{ USER("\"\""), "daemon.user", 3, "neither a name nor a number" },
		{ USER("\"5 \""), "daemon.user", 3, "neither a name nor a number" },
		{ USER("\" 5\""), "daemon.user", 3, "no user \" 5\"" },
		{ USER("\"01000\""), "daemon.user", 3, "without leading zeros" },
		{ USER("\"2147483648\""), "daemon.user", 3, "between 0 and 2147483647" },
		{ USER("\"4294967296\""), "daemon.user", 3, "between 0 and 2147483647" },
		{ USER("\"18446744073709551616\""), "daemon.user", 3, "without leading zeros" },
		{ USER("\"no-such-user-here\""), "daemon.user", 3, "there is no user \"no-such-user-here\"" },
		{ USER("\"a:b\""), "daemon.user", 3, "neither a name nor a number" },
		{ USER("64801"), "daemon.spawn_user", 2, "must differ" },
		{ DAEMON("\"user\":64800,\"spawn_user\":0"), "daemon.spawn_user", 2, "must not be root" },
		{ DAEMON("\"user\":64800,\"spawn_user\":64801,\"kvm_group\":0"), "daemon.kvm_group", 2,
		  "must not be root's group" },
		{ DAEMON("\"user\":64800,\"spawn_user\":64801,\"kvm_group\":\"root\""), "daemon.kvm_group", 2,
		  "must not be root's" },
		{ DAEMON("\"user\":64800,\"spawn_user\":64801,\"kvm_group\":\"no-such\""), "daemon.kvm_group", 2,
		  "no group" },
		{ DAEMON("\"user\":64800,\"spawn_user\":64801,\"socket_mode\":438"), "daemon.socket_mode", 2,
		  "must be a string" },
		{ DAEMON("\"user\":64800,\"spawn_user\":64801,\"socket_mode\":\"0777\""), "daemon.socket_mode", 2,
		  "one of" },
		{ DAEMON("\"user\":64800,\"spawn_user\":64801,\"socket_mode\":\"666\""), "daemon.socket_mode", 2, "one of" },
		{ DAEMON("\"user\":64800,\"spawn_user\":64801,\"socket_mode\":\"06660\""), "daemon.socket_mode", 2,
		  "one of" },
		{ DAEMON("\"user\":64800,\"spawn_user\":64801,\"mode\":\"Direct\""), "daemon.mode", 2,
		  "must be one of namespace, direct" },
		{ DAEMON("\"user\":64800,\"spawn_user\":64801,\"mode\":\"\""), "daemon.mode", 2, "must be one of" },
		{ DAEMON("\"user\":64800,\"spawn_user\":64801,\"mode\":true"), "daemon.mode", 2, "must be a string" },
		{ DAEMON("\"user\":64800,\"spawn_user\":64801,\"sokket\":1"), "daemon.sokket", 2,
		  "unknown key; known here: user," },
		{ TOP "\"ids\":{\"first\":0,\"count\":1},\"rules\":[]}", "ids", 4, "root" },
		{ TOP "\"ids\":{\"first\":1000,\"count\":1},\"rules\":[]}", "ids", 4, "65536 or above" },
		{ TOP "\"ids\":{\"first\":61000,\"count\":500},\"rules\":[]}", "ids", 4, "dynamic users" },
		{ TOP "\"ids\":{\"first\":65534,\"count\":1},\"rules\":[]}", "ids", 4, "nobody" },
		{ TOP "\"ids\":{\"first\":70000,\"count\":500000},\"rules\":[]}", "ids", 4, "containers of systemd" },
		{ TOP "\"ids\":{\"first\":600000,\"count\":65536},\"rules\":[]}", "ids", 4, "containers of systemd" },
		{ TOP "\"ids\":{\"first\":1879048191,\"count\":2},\"rules\":[]}", "ids", 4, "containers of systemd" },
		{ TOP "\"ids\":{\"first\":2147352575,\"count\":2},\"rules\":[]}", "ids", 4, "foreign ids" },
		{ TOP "\"ids\":{\"first\":2147483647,\"count\":2},\"rules\":[]}", "ids", 4, "2^31" },
		{ TOP "\"ids\":{\"first\":4294967295,\"count\":4294967295},\"rules\":[]}", "ids", 4, "2^31" },
		{ TOP "\"ids\":{\"first\":4294967296,\"count\":1},\"rules\":[]}", "ids.first", 4, "must be between 0 and" },
		{ TOP "\"ids\":{\"first\":1879048192,\"count\":0},\"rules\":[]}", "ids.count", 4, "must be between 1 and" },
		{ TOP "\"ids\":{\"first\":1879048192,\n\"count\":-1},\"rules\":[]}", "ids.count", 5,
		  "must be between 1 and" },
		{ TOP "\"ids\":{\"first\":1879048192},\"rules\":[]}", "ids", 4, "lacks the key \"count\"" },
		{ "{\"version\":1,\"daemon\":{\"user\":64800,\"spawn_user\":1879048200},\"ids\":{\"first\":1879048192,"
		  "\"count\":16},"
		  "\"hypervisors\":{},\"rules\":[]}",
		  "daemon", 1, "inside the range of sandboxes" },
		{ "{\"version\":1,\"daemon\":{\"user\":1879048200,\"spawn_user\":64801},\n"
		  "\"hypervisors\":{},\"rules\":[]}",
		  "daemon", 1, "inside the range of sandboxes" },
	};

	(void)state;
	refused(table, ARRAY_SIZE(table));
}

#define BINDS(list) TOP " \"template\":{\"binds\":[" list "]}," RULES
#define PATH(path) \
	"{\"version\":1,\"daemon\":{\"user\":64800,\"spawn_user\":64801},\"hypervisors\":{\n\"a\":{\"driver\":\"mock\",\n" \
	"\"path\":\"" path "\"}},\"rules\":[]}"
#define NAMED(name) \
	"{\"version\":1,\"daemon\":{\"user\":64800,\"spawn_user\":64801},\"hypervisors\":{\n\"" name "\":{}},\"rules\":[]}"

static void test_paths(void **state)
{
	static const struct refusal table[] = {
		{ PATH("qemu"), "hypervisors.a.path", 3, "must be an absolute path" },
		{ PATH(""), "hypervisors.a.path", 3, "must be an absolute path" },
		{ PATH("/"), "hypervisors.a.path", 3, "must be an absolute path" },
		{ PATH("/usr"), "hypervisors.a.path", 3, "is not under /usr" },
		{ PATH("/usr/"), "hypervisors.a.path", 3, "must be an absolute path" },
		{ PATH("/usr//bin/x"), "hypervisors.a.path", 3, "must be an absolute path" },
		{ PATH("/usr/./x"), "hypervisors.a.path", 3, "must be an absolute path" },
		{ PATH("/usr/../home/x"), "hypervisors.a.path", 3, "must be an absolute path" },
		{ PATH("/usr/bin/.."), "hypervisors.a.path", 3, "must be an absolute path" },
		{ PATH("/usrx/bin/y"), "hypervisors.a.path", 3, "is not under /usr" },
		{ PATH("/home/alice/vmm"), "hypervisors.a.path", 3, "is not under /usr nor under one of template.binds" },
		{ PATH("/usr/a\\nb"), "hypervisors.a.path", 3, "printable ASCII" },
		{ PATH("/usr/\\u00e4"), "hypervisors.a.path", 3, "printable ASCII" },
		{ NAMED("a"), "hypervisors.a", 2, "lacks the key \"driver\"" },
		{ NAMED(""), "hypervisors.", 2, "a name is" },
		{ NAMED("A"), "hypervisors.A", 2, "a name is" },
		{ NAMED("-a"), "hypervisors.-a", 2, "a name is" },
		{ NAMED("a/b"), "hypervisors.a/b", 2, "a name is" },
		{ NAMED("a%d"), "hypervisors.a%d", 2, "a name is" },
		{ NAMED("abcdefghijklmnopqrstuvwxyz012345"), "hypervisors.abcdefghijklmnopqrstuvwxyz012345", 2,
		  "a name is" },
		{ "{\"version\":1,\"daemon\":{\"user\":64800,\"spawn_user\":64801},\"hypervisors\":[],\"rules\":[]}",
		  "hypervisors", 1, "must be an object" },
		{ "{\"version\":1,\"daemon\":{\"user\":64800,\"spawn_user\":64801},\"hypervisors\":{\"a\":{\"driver\":"
		  "\"firecracker\","
		  "\"path\":\"/usr/x\"}},\"rules\":[]}",
		  "hypervisors.a.driver", 1, "must be one of qemu, mock" },
		{ BINDS("\"/\""), "template.binds[0]", 4, "must be an absolute path" },
		{ BINDS("\"/etc\""), "template.binds[0]", 4, "/etc and what is below it" },
		{ BINDS("\"/dev/shm\""), "template.binds[0]", 4, "/dev and what is below it" },
		{ BINDS("\"/opt/a\",\n\"/opt/a/b\""), "template.binds[1]", 5, "overlaps with /opt/a" },
		{ BINDS("\"/opt/a\",\"/opt/a\""), "template.binds[1]", 4, "overlaps with /opt/a" },
		{ BINDS("\"/1\",\"/2\",\"/3\",\"/4\",\"/5\",\"/6\",\"/7\",\"/8\",\"/9\",\"/10\",\"/11\",\"/12\",\"/13\",\"/"
			"14\",\"/15\",\"/16\","
			"\"/17\""),
		  "template.binds", 4, "at most 16" },
	};
	char path[300], text[600];

	(void)state;
	refused(table, ARRAY_SIZE(table));
	/* one byte too long for the field */
	memset(path, 'x', sizeof(path));
	memcpy(path, "/usr/", 5);
	path[256] = '\0';
	(void)snprintf(text, sizeof(text),
		       "{\"version\":1,\"daemon\":{\"user\":64800,\"spawn_user\":64801},\"hypervisors\":{\"a\":{\"driver\":"
		       "\"mock\","
		       "\"path\":\"%s\"}},\"rules\":[]}",
		       path);
	assert_int_equal(load(text, strlen(text)), -EINVAL);
	assert_non_null(strstr(error.text, "longer than 255"));
}

#define NET(more) TOP " \"networks\":{\"n\":{" more "}}," RULES
#define ADDRESS(a) NET("\n\"address\":\"" a "\"")

static void test_networks(void **state)
{
	static const struct refusal table[] = {
		{ ADDRESS("10.44.0.1"), "networks.n.address", 5, "must look like" },
		{ ADDRESS("10.44.0.1/"), "networks.n.address", 5, "prefix length" },
		{ ADDRESS("10.44.0.1/024"), "networks.n.address", 5, "prefix length" },
		{ ADDRESS("10.44.0.1/+24"), "networks.n.address", 5, "prefix length" },
		{ ADDRESS("10.44.0.1/24 "), "networks.n.address", 5, "prefix length" },
		{ ADDRESS("10.44.0.1/31"), "networks.n.address", 5, "prefix length" },
		{ ADDRESS("10.44.0.1/7"), "networks.n.address", 5, "prefix length" },
		{ ADDRESS("10.44.0.1/4294967320"), "networks.n.address", 5, "prefix length" }, /* 24 + 2^32 */
		{ ADDRESS("10.44.1/24"), "networks.n.address", 5, "is not an IPv4 address" },
		{ ADDRESS("10.44.0.256/24"), "networks.n.address", 5, "is not an IPv4 address" },
		{ ADDRESS("0x0a.44.0.1/24"), "networks.n.address", 5, "is not an IPv4 address" },
		{ ADDRESS("010.44.0.1/24"), "networks.n.address", 5, "is not an IPv4 address" },
		{ ADDRESS("fe80::1/64"), "networks.n.address", 5, "prefix length" },
		{ ADDRESS("1111.2222.3333.4444/24"), "networks.n.address", 5, "must look like" },
		{ ADDRESS("127.0.0.1/8"), "networks.n.address", 5, "an interface can have" },
		{ ADDRESS("0.0.0.1/8"), "networks.n.address", 5, "an interface can have" },
		{ ADDRESS("224.0.0.1/24"), "networks.n.address", 5, "an interface can have" },
		{ ADDRESS("10.44.0.0/24"), "networks.n.address", 5, "broadcast" },
		{ ADDRESS("10.44.0.255/24"), "networks.n.address", 5, "broadcast" },
		{ NET("\"pin_ip\":true"), "networks.n", 4, "needs \"address\"" },
		{ NET("\"pin_ip\":1"), "networks.n.pin_ip", 4, "must be true or false, is an integer" },
		{ NET("\"max_queues\":0"), "networks.n.max_queues", 4, "between 1 and 8" },
		{ NET("\"max_queues\":9"), "networks.n.max_queues", 4, "between 1 and 8" },
		{ NET("\"max_queues\":257"), "networks.n.max_queues", 4, "between 1 and 8" },
		{ TOP " \"networks\":{\"a\":{\"address\":\"10.0.0.1/8\"},\n\"b\":{\"address\":\"10.44.0.1/24\"}}," RULES,
		  "networks.b", 5, "overlaps with that of network \"a\"" },
	};

	(void)state;
	refused(table, ARRAY_SIZE(table));
}

#define RULE(more) TOP " \"rules\":[\n{\"users\":[1000],\"hypervisors\":[\"qemu\"]},\n{" more "}]}"

static void test_rules(void **state)
{
	static const struct refusal table[] = {
		{ RULE("\"users\":[1000]"), "rules[1]", 6, "lacks the key \"hypervisors\"" },
		{ RULE("\"hypervisors\":[]"), "rules[1]", 6, "names nobody" },
		{ RULE("\"users\":[],\"groups\":[],\"hypervisors\":[]"), "rules[1]", 6, "names nobody" },
		{ RULE("\"users\":\"*\",\"hypervisors\":[]"), "rules[1].users", 6, "must be an array, is a string" },
		{ RULE("\"users\":[5,\n-1],\"hypervisors\":[]"), "rules[1].users[1]", 7, "an id is" },
		{ RULE("\"users\":[[5]],\"hypervisors\":[]"), "rules[1].users[0]", 6, "must be a string, is an array" },
		{ RULE("\"users\":[65534],\"hypervisors\":[]"), "rules[1].users[0]", 6, "stands for everybody" },
		{ RULE("\"groups\":[\"*\"],\"hypervisors\":[]"), "rules[1].groups[0]", 6, "there is no group \"*\"" },
		{ RULE("\"users\":[\"*\"],\"hypervisors\":[\"qemu\",\n \n\"xen\"]"), "rules[1].hypervisors[1]", 8,
		  "has no \"xen\"" },
		{ RULE("\"users\":[\"*\"],\"hypervisors\":[],\"networks\":[\"lan\"]"), "rules[1].networks[0]", 6,
		  "has no \"lan\"" },
		{ RULE("\"users\":[\"*\"],\"hypervisors\":[],\"kvm\":\"yes\""), "rules[1].kvm", 6, "must be true or false" },
		{ RULE("\"users\":[\"*\"],\"hypervisors\":[],\"labels\":[\"A\"]"), "rules[1].labels[0]", 6,
		  "a label type is" },
		{ RULE("\"users\":[\"*\"],\"hypervisors\":[],\"quota\":{\"taps\":-1}"), "rules[1].quota.taps", 6,
		  "between 0 and 1000000" },
		{ RULE("\"users\":[\"*\"],\"hypervisors\":[],\"quota\":{\"taps\":4294967297}"), "rules[1].quota.taps", 6,
		  "between" },
		{ RULE("\"users\":[\"*\"],\"hypervisors\":[],\"quota\":{\"tapz\":1}"), "rules[1].quota.tapz", 6,
		  "unknown key" },
		{ RULE("\"users\":[\"*\"],\"hypervisors\":[],\"quota\":{\"vcpus\":1.5}"), "rules[1].quota.vcpus", 6,
		  "must be an integer" },
		/* strings that look like structure must not lead the line count astray */
		{ RULE("\"users\":[\"*\"],\"hypervisors\":[\"qemu\"],\"labels\":[\"a\\\"]}{\\\\\",\n1]"),
		  "rules[1].labels[0]", 6, "a label" },
		{ TOP "\"rules\":[{\"users\":[\"*\"],\"hypervisors\":[\"qemu\"],\"labels\":[\"x\",\"]}\\\"\\n\"]}]}",
		  "rules[0].labels[1]", 4, "a label" },
	};

	(void)state;
	refused(table, ARRAY_SIZE(table));
}

static void test_labels(void **state)
{
	static const struct {
		const char *text;
		enum policy_labels labels;
		uint32_t required;
	} table[] = {
		{ TOP RULES, POLICY_LABELS_PREFER, 0 },
		{ TOP "\"labels\":\"prefer\"," RULES, POLICY_LABELS_PREFER, 0 },
		{ TOP "\"labels\":\"require\"," RULES, POLICY_LABELS_REQUIRE, 1u << WIRE_GRANT_LABEL },
		{ TOP "\"labels\":\"require\",\"required\":[\"label\"]," RULES, POLICY_LABELS_REQUIRE,
		  1u << WIRE_GRANT_LABEL },
		{ TOP "\"labels\":\"forbid\",\"required\":[\"cgroup\"]," RULES, POLICY_LABELS_FORBID,
		  1u << WIRE_GRANT_CGROUP },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
		assert_int_equal(load(table[i].text, strlen(table[i].text)), 0);
		assert_int_equal(policy.labels, table[i].labels);
		assert_int_equal(policy.required, table[i].required);
	}
}

static void test_others(void **state)
{
	static const struct refusal table[] = {
		{ TOP "\"required\":[\"label\",\n\"selinux\"]," RULES, "required[1]", 5,
		  "must be one of kvm, tap, vhost-net" },
		{ TOP "\"kvm\":\"best\"," RULES, "kvm", 4, "must be one of auto" },
		{ TOP "\"kvm\":true," RULES, "kvm", 4, "must be a string" },
		{ TOP "\"labels\":\"always\"," RULES, "labels", 4, "must be one of prefer, require, forbid" },
		{ TOP "\"labels\":false," RULES, "labels", 4, "must be a string" },
		{ TOP "\"labels\":\"forbid\",\"required\":[\"label\"]," RULES, "labels", 4, "must not be \"forbid\"" },
		{ TOP "\"limits\":{\"pids\":65536}," RULES, "limits.pids", 4, "between 0 and 65535" },
		{ TOP "\"limits\":{\"overhead_mib\":16777217}," RULES, "limits.overhead_mib", 4, "between" },
		{ TOP "\"timeouts\":{\"hello_ms\":9}," RULES, "timeouts.hello_ms", 4, "between 10 and 600000" },
		{ TOP "\"timeouts\":5," RULES, "timeouts", 4, "must be an object, is an integer" },
		{ TOP "\"sessions\":{\"all\":0}," RULES, "sessions.all", 4, "between 1 and 4096" },
		{ TOP "\"quota\":{\"memory_mib\":1099511627777}," RULES, "quota.memory_mib", 4, "between" },
	};

	(void)state;
	refused(table, ARRAY_SIZE(table));
}

static void test_sizes(void **state)
{
	char *text = malloc(POLICY_FILE_MAX + 1);
	size_t len = strlen(TOP RULES);

	(void)state;
	assert_non_null(text);
	(void)snprintf(text, POLICY_FILE_MAX + 1, "%s", TOP RULES);
	memset(text + len, ' ', POLICY_FILE_MAX + 1 - len);
	assert_int_equal(load(text, POLICY_FILE_MAX), 0);
	assert_int_equal(load(text, POLICY_FILE_MAX + 1), -EINVAL);
	assert_non_null(strstr(error.text, "262144"));
	free(text);
	assert_int_equal(policy_load(-1, &policy, &error), -EINVAL);
	assert_non_null(strstr(error.text, "cannot read"));
}

/* A path in the document longer than the room for it, and the deepest nesting jansson takes. */
static void test_extremes(void **state)
{
	char text[8192] = "{\"version\":1,\"";
	size_t len = strlen(text);

	(void)state;
	memset(text + len, 'k', 4000);
	(void)snprintf(text + len + 4000, 8, "\":1}");
	assert_int_equal(load(text, strlen(text)), -EINVAL);
	assert_int_equal(strlen(error.where), sizeof(error.where) - 1);
	(void)snprintf(text, sizeof(text), "%s", TOP "\"kvm\":");
	len = strlen(text);
	memset(text + len, '[', 1500);
	memset(text + len + 1500, ']', 1500);
	(void)snprintf(text + len + 3000, sizeof(text) - len - 3000, "," RULES);
	assert_int_equal(load(text, strlen(text)), -EINVAL);
	assert_string_equal(error.where, "kvm");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_defaults), cmocka_unit_test(test_everything), cmocka_unit_test(test_document),
		cmocka_unit_test(test_ids),      cmocka_unit_test(test_paths),      cmocka_unit_test(test_networks),
		cmocka_unit_test(test_rules),    cmocka_unit_test(test_labels), cmocka_unit_test(test_others),     cmocka_unit_test(test_sizes),
		cmocka_unit_test(test_extremes),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
