/* SPDX-License-Identifier: Apache-2.0
 * Runs: at build time only. Turns policy/syscalls/<profile>.syscalls into C arrays of classic BPF.
 *
 * The filters are compiled here so that the static programs that load them need neither libseccomp nor a parser: what
 * they load is a constant in their read-only data, and loading it costs one system call.
 *
 * A line of a profile (everything after # is the reason, and a rule without one is refused):
 *   default ALLOW|EPERM|KILL     what happens to calls without a rule
 *   newest NUMBER                calls from this number on did not exist when the profile was read: ENOSYS
 *   include PROFILE              every `allow` rule of another profile
 *   VERB CALL[=NUMBER][@ARCH] [argN=VALUE | argN!=VALUE | argN&MASK=VALUE]...
 * VERB is allow, kill (SIGSYS to the whole process), eperm, enosys, or zero (returns 0 and does nothing). =NUMBER is for
 * calls newer than libseccomp; @ARCH leaves the rule out elsewhere. Rules that say what the default says are
 * documentation and generate nothing. Another architecture, and x32 on x86_64, always kills.
 */
#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <seccomp.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define WORDS_MAX 8
#define INSNS_MAX 4096 /* BPF_MAXINSNS */

/* The architectures a profile can be compiled for: a new one is one line here and its @ARCH rules in the profiles. */
static const struct arch {
	const char *name, *macro, *audit;
	uint32_t token;
	bool x32; /* has a second numbering inside the same audit arch */
} archs[] = {
	{ "x86_64", "__x86_64__", "AUDIT_ARCH_X86_64", SCMP_ARCH_X86_64, true },
};

struct profile {
	const struct arch *arch;
	const char *path; /* being read, for messages */
	unsigned line;
	scmp_filter_ctx ctx;
	uint32_t fallback; /* default action */
	uint32_t newest;   /* 0: none */
	bool included;     /* inside an include: only `allow` counts */
};

static void die(const struct profile *p, const char *what, const char *detail)
{
	(void)fprintf(stderr, "%s:%u: %s: %s\n", p->path, p->line, what, detail);
	exit(1);
}

static uint64_t number(const struct profile *p, const char *text)
{
	char *end;
	uint64_t value;

	errno = 0;
	value = strtoull(text, &end, 0);
	if (errno != 0 || end == text || *end != '\0' || *text == '-')
		die(p, "not a number", text);
	return value;
}

/* argN=V, argN!=V, argN&M=V */
static struct scmp_arg_cmp condition(const struct profile *p, char *text)
{
	struct scmp_arg_cmp cmp = { 0 };
	char *equals = strchr(text, '='), *mask = strchr(text, '&');

	if (strncmp(text, "arg", 3) != 0 || text[3] < '0' || text[3] > '5' || equals == NULL)
		die(p, "not a condition", text);
	cmp.arg = (unsigned)(text[3] - '0');
	*equals = '\0';
	if (mask != NULL) {
		cmp.op = SCMP_CMP_MASKED_EQ;
		cmp.datum_a = number(p, mask + 1);
		cmp.datum_b = number(p, equals + 1);
		/* a value with bits outside the mask never matches: a rule that silently does nothing */
		if (mask != text + 4 || (cmp.datum_b & ~cmp.datum_a) != 0)
			die(p, "condition can never hold", text);
		return cmp;
	}
	cmp.op = text[4] == '!' ? SCMP_CMP_NE : SCMP_CMP_EQ;
	cmp.datum_a = number(p, equals + 1);
	if (text[4] != (cmp.op == SCMP_CMP_NE ? '!' : '\0'))
		die(p, "not a condition", text);
	return cmp;
}

/* The call's number, or -1 when the rule is for another architecture. */
static int resolve(const struct profile *p, char *name)
{
	char *at = strchr(name, '@'), *equals = strchr(name, '=');
	int nr;

	if (at != NULL) {
		*at = '\0';
		if (strcmp(at + 1, p->arch->name) != 0)
			return -1;
	}
	if (equals != NULL)
		*equals = '\0';
	nr = seccomp_syscall_resolve_name_arch(p->arch->token, name);
	if (nr >= 0 && equals != NULL && (uint64_t)nr != number(p, equals + 1))
		die(p, "libseccomp knows another number for", name);
	if (nr < 0 && equals != NULL)
		nr = (int)number(p, equals + 1);
	if (nr < 0)
		die(p, "no such system call on this architecture", name);
	return nr;
}

static uint32_t verb(const struct profile *p, const char *word)
{
	static const struct {
		const char *word;
		uint32_t action;
	} verbs[] = {
		{ "allow", SCMP_ACT_ALLOW },          { "kill", SCMP_ACT_KILL_PROCESS }, { "eperm", SCMP_ACT_ERRNO(EPERM) },
		{ "enosys", SCMP_ACT_ERRNO(ENOSYS) }, { "zero", SCMP_ACT_ERRNO(0) },     { "ALLOW", SCMP_ACT_ALLOW },
		{ "EPERM", SCMP_ACT_ERRNO(EPERM) },   { "KILL", SCMP_ACT_KILL_PROCESS },
	};

	for (size_t i = 0; i < sizeof(verbs) / sizeof(verbs[0]); i++)
		if (strcmp(verbs[i].word, word) == 0)
			return verbs[i].action;
	die(p, "not a verb", word);
	return 0;
}

static void rule(struct profile *p, char *words[], size_t count)
{
	struct scmp_arg_cmp cmps[WORDS_MAX];
	uint32_t action = verb(p, words[0]);
	unsigned n = 0;
	int nr, r;

	if (count < 2)
		die(p, "a rule needs a system call", words[0]);
	nr = resolve(p, words[1]);
	if (nr < 0 || action == p->fallback || (p->included && action != SCMP_ACT_ALLOW))
		return;
	for (size_t i = 2; i < count; i++)
		cmps[n++] = condition(p, words[i]);
	r = seccomp_rule_add_exact_array(p->ctx, action, nr, n, cmps);
	/* A profile and one it includes may well allow the same thing; saying it twice in one file is a mistake. */
	if (r < 0 && !(r == -EEXIST && p->included))
		die(p, strerror(-r), words[1]);
}

static void read_profile(struct profile *p, const char *path);

static void include(struct profile *p, const char *name)
{
	char path[4096];
	const char *slash = strrchr(p->path, '/');
	struct profile inner = *p;

	(void)snprintf(path, sizeof(path), "%.*s%s.syscalls", slash != NULL ? (int)(slash - p->path + 1) : 0, p->path, name);
	inner.included = true;
	read_profile(&inner, path);
}

static void start_filter(struct profile *p, const char *word)
{
	p->fallback = verb(p, word);
	p->ctx = seccomp_init(p->fallback);
	/* NNP is the loader's business; wrong arch and x32 kill; level 2 is a binary search instead of a chain */
	if (p->ctx == NULL || seccomp_attr_set(p->ctx, SCMP_FLTATR_ACT_BADARCH, SCMP_ACT_KILL_PROCESS) < 0 ||
	    seccomp_attr_set(p->ctx, SCMP_FLTATR_CTL_OPTIMIZE, 2) < 0)
		die(p, "libseccomp", "cannot make a filter");
	if (seccomp_arch_exist(p->ctx, p->arch->token) < 0 &&
	    (seccomp_arch_remove(p->ctx, SCMP_ARCH_NATIVE) < 0 || seccomp_arch_add(p->ctx, p->arch->token) < 0))
		die(p, "libseccomp", "cannot make a filter for this architecture");
}

static void read_line(struct profile *p, char *text)
{
	char *words[WORDS_MAX], *save = NULL, *reason = strchr(text, '#');
	size_t count = 0;

	if (reason != NULL)
		*reason++ = '\0';
	for (char *w = strtok_r(text, " \t\n", &save); w != NULL; w = strtok_r(NULL, " \t\n", &save)) {
		if (count == WORDS_MAX)
			die(p, "too many words", w);
		words[count++] = w;
	}
	if (count == 0)
		return;
	if (reason == NULL || strspn(reason, " \t\n") == strlen(reason))
		die(p, "no reason given for", words[0]);
	if (strcmp(words[0], "default") == 0 && count == 2) {
		if (!p->included)
			start_filter(p, words[1]);
	} else if (strcmp(words[0], "newest") == 0 && count == 2) {
		if (!p->included)
			p->newest = (uint32_t)number(p, words[1]);
	} else if (p->ctx == NULL) {
		die(p, "rule before the default", words[0]);
	} else if (strcmp(words[0], "include") == 0 && count == 2) {
		include(p, words[1]);
	} else {
		rule(p, words, count);
	}
}

static void read_profile(struct profile *p, const char *path)
{
	char *line = NULL;
	size_t size = 0;
	FILE *f;

	p->path = path;
	p->line = 0;
	f = fopen(path, "re");
	if (f == NULL)
		die(p, "cannot open", strerror(errno));
	while (getline(&line, &size, f) >= 0) {
		p->line++;
		read_line(p, line);
	}
	free(line);
	(void)fclose(f);
}

/* Calls newer than the profile: five instructions in front. Every jump in a filter is relative and forward, so what
 * libseccomp made stays right behind them; numbers with the x32 bit fall through to its kill. */
static size_t newest_prologue(const struct profile *p, struct sock_filter *out)
{
	const struct sock_filter prologue[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, arch)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, p->arch->token, 0, 4),
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JGE | BPF_K, 0x40000000, 2, 0),
		BPF_JUMP(BPF_JMP | BPF_JGE | BPF_K, p->newest, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | ENOSYS),
	};

	if (p->newest == 0)
		return 0;
	memcpy(out, prologue, sizeof(prologue));
	return sizeof(prologue) / sizeof(prologue[0]);
}

static size_t compile(struct profile *p, struct sock_filter *out)
{
	size_t count = newest_prologue(p, out);
	ssize_t bytes;
	int fd = memfd_create("bpf", MFD_CLOEXEC);

	if (fd < 0 || seccomp_export_bpf(p->ctx, fd) < 0)
		die(p, "libseccomp", "cannot export the filter");
	bytes = pread(fd, out + count, (INSNS_MAX - count) * sizeof(*out), 0);
	if (bytes <= 0 || (size_t)bytes % sizeof(*out) != 0 || count + (size_t)bytes / sizeof(*out) >= INSNS_MAX)
		die(p, "libseccomp", "the filter has an odd size");
	(void)close(fd);
	return count + (size_t)bytes / sizeof(*out);
}

static void emit(FILE *f, const char *name, const struct sock_filter *insns, size_t count)
{
	(void)fprintf(f, "static const struct sock_filter %s[] = {\n", name);
	for (size_t i = 0; i < count; i++)
		(void)fprintf(f, "\t{ 0x%04x, %u, %u, 0x%08x },\n", insns[i].code, insns[i].jt, insns[i].jf, insns[i].k);
	(void)fprintf(f, "};\n\n");
}

/* generate ARCH OUT NAME=FILE... in the order of enum syscall_profile */
int main(int argc, char *argv[])
{
	static struct sock_filter insns[INSNS_MAX];
	const struct arch *arch = NULL;
	FILE *f;

	for (size_t i = 0; argc > 3 && i < sizeof(archs) / sizeof(archs[0]); i++)
		if (strcmp(archs[i].name, argv[1]) == 0)
			arch = &archs[i];
	if (arch == NULL) {
		(void)fprintf(stderr,
			      "usage: generate ARCH OUT NAME=FILE...; no filters are written for this architecture yet\n");
		return 1;
	}
	f = fopen(argv[2], "we");
	if (f == NULL) {
		perror(argv[2]);
		return 1;
	}
	(void)fprintf(
		f,
		"/* SPDX-License-Identifier: Apache-2.0\n * Runs: start, broker, spawner, init. Generated by "
		"policy/syscalls/generate.c: change the .syscalls files. */\n"
		"#include \"policy/policy.h\"\n\n#include <linux/filter.h>\n\n#ifndef %s\n#error \"compiled for %s (%s)\"\n"
		"#endif\n\n",
		arch->macro, arch->name, arch->audit);
	for (int i = 3; i < argc; i++) {
		struct profile p = { .arch = arch };
		char *path = strchr(argv[i], '=');

		if (path == NULL)
			return 1;
		*path++ = '\0';
		read_profile(&p, path);
		if (p.ctx == NULL)
			die(&p, "empty profile", argv[i]);
		emit(f, argv[i], insns, compile(&p, insns));
		seccomp_release(p.ctx);
	}
	(void)fprintf(f, "static const struct {\n\tconst struct sock_filter *program;\n\tsize_t count;\n} programs[] = {\n");
	for (int i = 3; i < argc; i++)
		(void)fprintf(f, "\t[PROFILE_%s] = { %s, sizeof(%s) / sizeof(%s[0]) },\n", argv[i], argv[i], argv[i],
			      argv[i]);
	(void)fprintf(
		f,
		"};\n\nconst struct sock_filter *syscall_profile_program(enum syscall_profile profile, size_t *ret_count)\n"
		"{\n\tif ((size_t)profile >= sizeof(programs) / sizeof(programs[0]) || programs[profile].count == 0)\n"
		"\t\treturn NULL;\n\t*ret_count = programs[profile].count;\n\treturn programs[profile].program;\n}\n");
	return fclose(f) == 0 ? 0 : 1;
}
