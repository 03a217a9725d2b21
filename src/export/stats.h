/* SPDX-License-Identifier: MIT */
/*
 * What an export has done: how many requests, how much data, how many failed, how long they took. Latencies are counted
 * in buckets, eight for each doubling, so that a percentile is right to 12 % and adding one is an increment.
 */
#ifndef CORRAL_EXPORT_STATS_H
#define CORRAL_EXPORT_STATS_H

#include <stdbool.h>
#include <stdint.h>

enum export_op {
	EXPORT_READ,
	EXPORT_WRITE,
	EXPORT_ZERO,
	EXPORT_DISCARD,
	EXPORT_FLUSH,
	EXPORT_OTHER,
	EXPORT_OPS,
};

#define EXPORT_BUCKETS (8 * 38) /* up to 2^40 ns, 18 minutes; what took longer is in the last one */

struct export_counter {
	uint64_t requests, bytes, errors; /* bytes: of those that succeeded */
	uint64_t longest_ns;
	uint64_t buckets[EXPORT_BUCKETS];
};

struct export_stats {
	struct export_counter op[EXPORT_OPS];
	uint64_t clients; /* that ever came */
	uint64_t refused; /* for want of room, or since they broke the protocol */
};

const char *export_op_name(enum export_op op);
void export_stats_add(struct export_stats *s, enum export_op op, uint64_t bytes, uint64_t ns, bool succeeded);
/* The time that so many of a thousand requests didn't exceed, rounded up to its bucket's end; 0 without requests. */
uint64_t export_counter_percentile(const struct export_counter *c, unsigned permille);

#endif
