/* SPDX-License-Identifier: MIT */
/*
 * Shrinking. When an operation is left out everything after it happens at other times, and the failure may be hidden by
 * mere luck; so each candidate is tried under several schedules. See shrink.h.
 */
#include "shrink.h"

#include <ctype.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/math.h"
#include "memory.h"
#include "run.h"

#define SCHEDULES 24
#define ATTEMPT_SECONDS 20

void sim_case_run(const struct sim_config *c, unsigned schedules)
{
	struct sim_tally tally = {0};

	for (unsigned i = 0; i < schedules; i++) {
		struct sim_config one = *c;

		one.schedule = c->schedule + i;
		sim_run(&one, &tally);
	}
	printf("%" PRIu64 " runs, %" PRIu64 " crash images, violations 0\n", tally.seeds, tally.images);
}

/* ---- attempts ---- */

#define KIND_BYTES 24

/* What a violation says, without its numbers: a shorter run must fail in the same way. */
struct kind {
	char text[KIND_BYTES];
};

static void kind_of(const char *output, struct kind *out)
{
	const char *p = strstr(output, "VIOLATION: ");
	unsigned n = 0;

	memset(out, 0, sizeof(*out));
	for (p = p ? p + strlen("VIOLATION: ") : ""; *p && *p != '\n' && n < KIND_BYTES - 1; p++) {
		if (isalpha((unsigned char)*p))
			out->text[n++] = *p;
	}
}

static void attempt(const struct sim_config *c, int to)
{
	alarm(ATTEMPT_SECONDS);
	if (dup2(to, STDOUT_FILENO) < 0 || !freopen("/dev/null", "w", stderr))
		_exit(0);
	sim_tracing = false;
	sim_case_run(c, 1);
	_exit(0);
}

/* Reads to the end; keeps the last part. */
static void output_read(int from, char *out, size_t bytes)
{
	size_t used = 0;
	ssize_t n;

	while ((n = read(from, out + used, bytes - 1 - used)) > 0) {
		used += (size_t)n;
		if (used == bytes - 1) {
			memmove(out, out + bytes / 2, used - bytes / 2);
			used -= bytes / 2;
		}
	}
	out[used] = '\0';
	close(from);
}

/* False: it doesn't fail. */
static bool fails_once(const struct sim_config *c, struct kind *kind)
{
	static char output[1 << 16];
	int pipes[2], status;
	pid_t child;

	fflush(stdout);
	if (pipe(pipes) != 0)
		return false;
	child = fork();
	if (child == 0)
		attempt(c, pipes[1]);
	close(pipes[1]);
	output_read(pipes[0], output, sizeof(output));
	if (child < 0 || waitpid(child, &status, 0) != child || (WIFSIGNALED(status) && WTERMSIG(status) == SIGALRM))
		return false;
	kind_of(output, kind);
	return kind->text[0] != '\0';
}

static struct kind wanted;

/* Under some schedule; c keeps the one that showed it. */
static bool fails(struct sim_config *c)
{
	uint64_t first = c->schedule;
	struct kind kind;

	for (unsigned i = 0; i < SCHEDULES; i++) {
		c->schedule = first + i;
		if (fails_once(c, &kind) && strcmp(kind.text, wanted.text) == 0)
			return true;
	}
	c->schedule = first;
	return false;
}

/* ---- operations ---- */

static bool without_ops(struct sim_config *c, uint32_t first, uint32_t n)
{
	struct sim_config less = *c;

	less.ops = sim_alloc(c->ops_count * sizeof(*c->ops));
	less.ops_count = c->ops_count - n;
	memcpy(less.ops, c->ops, first * sizeof(*c->ops));
	memcpy(less.ops + first, c->ops + first + n, (c->ops_count - first - n) * sizeof(*c->ops));
	if (!fails(&less)) {
		sim_free(less.ops);
		return false;
	}
	sim_free(c->ops);
	*c = less;
	return true;
}

static bool shrink_ops(struct sim_config *c)
{
	bool any = false;

	for (uint32_t n = MAX(c->ops_count / 2, 1u);; n /= 2) {
		for (uint32_t i = 0; i + n <= c->ops_count;) {
			bool gone = without_ops(c, i, n);

			any |= gone;
			i += gone ? 0 : n;
		}
		if (n <= 1)
			return any;
	}
}

/* ---- everything else ---- */

typedef void simplify(struct sim_config *c);

static void no_faults(struct sim_config *c) { c->faults = (struct sim_faults){0}; }
static void no_harm(struct sim_config *c)
{
	c->faults = (struct sim_faults){.no_zero = c->faults.no_zero, .no_punch = c->faults.no_punch};
	c->faulty = false;
}
static void no_buggify(struct sim_config *c) { c->buggify_in = 0; }
static void no_tail(struct sim_config *c) { c->latency.tail_in = 0; }
static void no_slow(struct sim_config *c) { c->latency.slow_in = 0; }
static void no_hangs(struct sim_config *c) { c->latency.hang_in = 0; }
static void no_gaps(struct sim_config *c) { c->image.gaps_in = 0; }
static void no_pressure(struct sim_config *c) { c->image.used_until = 0; }
static void no_snapshots(struct sim_config *c) { c->image.snapshots = 0; }
static void no_bitmaps(struct sim_config *c)
{
	for (uint32_t i = 0; i < c->ops_count; i++)
		if (sim_op_is_bitmap(c->ops[i].kind))
			return;
	c->bitmaps = false;
	c->image.bitmaps = 0;
}
static void no_names(struct sim_config *c) { c->image.names = 0; }
static void no_encryption(struct sim_config *c) { c->image.encrypted = c->base.encrypted = false; }
static void no_lazy(struct sim_config *c) { c->image.lazy = false; }
static void no_compressed(struct sim_config *c) { c->image.compressed_in = 0; }
static void zlib_only(struct sim_config *c) { c->image.compression = SIM_ZLIB; }
static void no_data_file(struct sim_config *c)
{
	c->image.data = SIM_DATA_INSIDE;
	c->data_device = false;
}
static void no_data_device(struct sim_config *c) { c->data_device = false; }
static void no_damage(struct sim_config *c) { c->damage = 0; }
static void no_recovery_cuts(struct sim_config *c) { memset(c->recovery_cuts, 0, sizeof(c->recovery_cuts)); }
static void no_device(struct sim_config *c) { c->device = false; }
static void small_units(struct sim_config *c) { c->unit_bytes = 512; }
static void wide_refcounts(struct sim_config *c) { c->image.refcount_order = 4; }
static void version_3(struct sim_config *c) { c->image.version = 3; }
static void empty(struct sim_config *c) { c->image.fill = SIM_FILL_EMPTY; }
static void in_order(struct sim_config *c) { c->fifo = true; }
static void one_by_one(struct sim_config *c) { c->depth = 1; }
static void raw_below(struct sim_config *c)
{
	if (c->below != SIM_BELOW_QCOW2)
		return;
	c->below = SIM_BELOW_RAW;
	c->image.backing_format = "raw";
}
static void nothing_below(struct sim_config *c)
{
	c->below = SIM_BELOW_NONE;
	c->base = (struct sim_geometry){0};
	c->image.backing = NULL;
}
static void plain_cache(struct sim_config *c) { c->options.l2_cache_bytes = c->options.refcount_cache_bytes = 0; }
static void no_nbd(struct sim_config *c) { c->nbd = false; }
static void no_delays(struct sim_config *c)
{
	for (uint32_t i = 0; i < c->ops_count; i++)
		c->ops[i].delay_us = 0;
}

static simplify *const simplifications[] = {no_faults, no_harm, no_buggify, no_tail, no_slow, no_hangs, no_gaps,
	no_pressure, no_snapshots, no_bitmaps, no_names, no_encryption, no_lazy, no_damage, no_recovery_cuts,
	no_compressed, zlib_only, no_data_file, no_data_device, no_device, small_units, wide_refcounts, version_3,
	empty, in_order, one_by_one, raw_below, nothing_below, plain_cache, no_nbd, no_delays};

static bool shrink_rest(struct sim_config *c)
{
	bool any = false;

	for (unsigned i = 0; i < sizeof(simplifications) / sizeof(simplifications[0]); i++) {
		struct sim_config simple = *c;

		simple.ops = sim_alloc(c->ops_count * sizeof(*c->ops));
		memcpy(simple.ops, c->ops, c->ops_count * sizeof(*c->ops));
		simplifications[i](&simple);
		if ((memcmp(&simple.image, &c->image, (char *)&c->ops - (char *)&c->image) == 0 &&
			    memcmp(simple.ops, c->ops, c->ops_count * sizeof(*c->ops)) == 0) ||
			!fails(&simple)) {
			sim_free(simple.ops);
			continue;
		}
		sim_free(c->ops);
		*c = simple;
		any = true;
	}
	return any;
}

/* Shorter operations, nearer to the start. */
static bool op_try(struct sim_config *c, uint32_t i, struct sim_op op)
{
	struct sim_op before = c->ops[i];

	if (memcmp(&before, &op, sizeof(op)) == 0)
		return false;
	c->ops[i] = op;
	if (fails(c))
		return true;
	c->ops[i] = before;
	return false;
}

static bool shrink_lengths(struct sim_config *c)
{
	bool any = false;

	for (uint32_t i = 0; i < c->ops_count; i++) {
		struct sim_op op = c->ops[i];

		op.idle = false;
		any |= op_try(c, i, op);
		op = c->ops[i];
		while (op.sectors > 1 && op.kind != SIM_RESIZE) {
			op.sectors /= 2;
			if (!op_try(c, i, op))
				break;
			any = true;
		}
	}
	return any;
}

/* ---- the test ---- */

static void op_print(const struct sim_op *op)
{
	char name[32];

	snprintf(name, sizeof(name), "%s", sim_op_name(op->kind));
	for (char *p = name; *p; p++)
		*p = *p == '-' ? '_' : (char)toupper((unsigned char)*p);
	printf("\t{.kind = SIM_%s", name);
	if (op->first)
		printf(", .first = %u", op->first);
	if (op->sectors)
		printf(", .sectors = %u", op->sectors);
	if (op->delay_us)
		printf(", .delay_us = %u", op->delay_us);
	printf("%s%s},\n", op->idle ? ", .idle = true" : "", op->lasting ? ", .lasting = true" : "");
}

#define FIELD(c, field)                                                                                                \
	do {                                                                                                           \
		if ((c)->field)                                                                                        \
			printf("\t\t." #field " = %" PRIu64 ",\n", (uint64_t)(c)->field);                              \
	} while (0)

static void geometry_print(const struct sim_geometry *g, const char *name)
{
	printf("\t\t.%s = {.version = %u, .cluster_bits = %u, .refcount_order = %u, .guest_bytes = %" PRIu64
	       ", .fill = (enum sim_fill)%d,\n\t\t\t.lazy = %d, .encrypted = %d, .extended = %d, .snapshots = %u, .gaps_in = %u, .used_until = %" PRIu64
	       ", .id = %#x",
		name, g->version, g->cluster_bits, g->refcount_order, g->guest_bytes, g->fill, g->lazy, g->encrypted,
		g->extended, g->snapshots, g->gaps_in, g->used_until, g->id);
	if (g->compressed_in)
		printf(",\n\t\t\t.compressed_in = %u, .compression = (enum sim_compression)%d", g->compressed_in,
			g->compression);
	if (g->data)
		printf(",\n\t\t\t.data = (enum sim_data)%d", g->data);
	if (g->bitmaps || g->names)
		printf(", .bitmaps = %u, .names = %u", g->bitmaps, g->names);
	if (g->backing)
		printf(",\n\t\t\t.backing = \"%s\", .backing_format = \"%s\"", g->backing, g->backing_format);
	printf("},\n");
}

static void faults_print(const struct sim_config *c)
{
	FIELD(c, faulty);
	FIELD(c, faults.read_in);
	FIELD(c, faults.write_in);
	FIELD(c, faults.flush_in);
	FIELD(c, faults.zero_in);
	FIELD(c, faults.short_in);
	FIELD(c, faults.again_in);
	FIELD(c, faults.interrupt_in);
	FIELD(c, faults.full_in);
	FIELD(c, faults.no_zero);
	FIELD(c, faults.no_punch);
	FIELD(c, faults.sticky_from);
	FIELD(c, faults.sticky_to);
	FIELD(c, faults.nth);
	FIELD(c, faults.limit);
	FIELD(c, fail_allocation);
}

static void host_print(const struct sim_config *c)
{
	FIELD(c, damage);
	FIELD(c, recovery_cuts[0]);
	FIELD(c, recovery_cuts[1]);
	FIELD(c, recovery_cuts[2]);
	FIELD(c, guest_most);
	FIELD(c, file_bytes);
	FIELD(c, unit_bytes);
	FIELD(c, device);
	FIELD(c, data_device);
	printf("\t\t.options.write = true,\n");
	FIELD(c, options.l2_cache_bytes);
	FIELD(c, options.refcount_cache_bytes);
	FIELD(c, options.commit_interval_ns);
	FIELD(c, options.no_discard);
	FIELD(c, options.growth);
	FIELD(c, latency.least);
	FIELD(c, latency.spread);
	FIELD(c, latency.flush);
	FIELD(c, latency.tail_in);
	FIELD(c, latency.tail);
	FIELD(c, latency.slow_in);
	FIELD(c, latency.slow);
	FIELD(c, latency.hang_in);
	FIELD(c, fifo);
	FIELD(c, overlap);
	FIELD(c, nbd);
	FIELD(c, bitmaps);
	FIELD(c, spared_in);
	FIELD(c, depth);
	FIELD(c, cuts);
	FIELD(c, all_cuts);
	FIELD(c, buggify_in);
}

static void test_print(const struct sim_config *c, const char *name)
{
	printf("/* SPDX-License-Identifier: MIT */\n/* %s */\n#include \"report.h\"\n#include \"shrink.h\"\n\n", name);
	if (c->ops_count > 0)
		printf("static struct sim_op ops[] = {\n");
	for (uint32_t i = 0; i < c->ops_count; i++)
		op_print(&c->ops[i]);
	printf("%sint main(void)\n{\n\tconst struct sim_config c = {\n", c->ops_count > 0 ? "};\n\n" : "");
	printf("\t\t.seed = %" PRIu64 ",\n\t\t.schedule = %" PRIu64 ",\n", c->seed, c->schedule);
	geometry_print(&c->image, "image");
	if (c->below != SIM_BELOW_NONE) {
		printf("\t\t.below = (enum sim_below_kind)%d,\n", c->below);
		geometry_print(&c->base, "base");
	}
	host_print(c);
	faults_print(c);
	if (c->ops_count > 0)
		printf("\t\t.ops = ops,\n\t\t.ops_count = sizeof(ops) / sizeof(ops[0]),\n");
	printf("\t};\n\n");
	printf("\tsim_report_signals();\n\tsim_case_run(&c, 200);\n\treturn 0;\n}\n");
}

bool sim_shrink(struct sim_config *c, const char *name)
{
	bool any = true;

	if (!fails_once(c, &wanted))
		return false;
	c->cuts = 32;
	c->all_cuts = 256;
	while (any && fails(c)) {
		any = shrink_ops(c);
		fprintf(stderr, "shrink: %u operations\n", c->ops_count);
		any |= shrink_rest(c);
		any |= shrink_lengths(c);
	}
	test_print(c, name);
	return true;
}
