/* SPDX-License-Identifier: MIT */
/* Counting requests; see stats.h. */
#include "export/stats.h"

#include "base/math.h"

/* Below 8 ns each value has a bucket of its own; from there on the three bits behind the leading one choose. */
static unsigned bucket_of(uint64_t ns)
{
	unsigned exponent;

	if (ns < 8)
		return (unsigned)ns;
	exponent = 63 - (unsigned)__builtin_clzll(ns);
	return MIN((exponent - 2) * 8 + (unsigned)(ns >> (exponent - 3) & 7), (unsigned)EXPORT_BUCKETS - 1);
}

static uint64_t bucket_end(unsigned bucket)
{
	if (bucket < 8)
		return bucket;
	return ((uint64_t)(8 + bucket % 8 + 1) << (bucket / 8 - 1)) - 1;
}

const char *export_op_name(enum export_op op)
{
	static const char *const names[EXPORT_OPS] = {
		[EXPORT_READ] = "read",
		[EXPORT_WRITE] = "write",
		[EXPORT_ZERO] = "zero",
		[EXPORT_DISCARD] = "discard",
		[EXPORT_FLUSH] = "flush",
		[EXPORT_OTHER] = "other",
	};

	return names[op];
}

void export_stats_add(struct export_stats *s, enum export_op op, uint64_t bytes, uint64_t ns, bool succeeded)
{
	struct export_counter *c = &s->op[op];

	c->requests++;
	c->bytes += succeeded ? bytes : 0;
	c->errors += !succeeded;
	c->longest_ns = MAX(c->longest_ns, ns);
	c->buckets[bucket_of(ns)]++;
}

uint64_t export_counter_percentile(const struct export_counter *c, unsigned permille)
{
	uint64_t wanted = c->requests * permille / 1000 + (c->requests * permille % 1000 != 0), seen = 0;

	if (c->requests == 0)
		return 0;
	for (unsigned i = 0; i < EXPORT_BUCKETS - 1; i++) {
		seen += c->buckets[i];
		if (seen >= wanted)
			return MIN(bucket_end(i), c->longest_ns);
	}
	return c->longest_ns;
}
