/* SPDX-License-Identifier: MIT */
/* Writes that meet in a cluster, a table, a cache entry or a request: classes H5 to H8, H20, H23, H32, H43, H44. */
#include "crash.h"

/* A new cluster beside one that is written where it lies. */
static const struct sim_op beside_a_neighbour[] = {
	{.kind = SIM_DISCARD, .first = 0, .sectors = 2},
	{.kind = SIM_WRITE, .first = 2, .sectors = 2, .idle = true},
	{.kind = SIM_WRITE, .first = 1, .sectors = 1},
	{.kind = SIM_WRITE, .first = 3, .sectors = 1},
	{.kind = SIM_WRITE, .first = 2, .sectors = 1},
	{.kind = SIM_WRITE, .first = 0, .sectors = 1},
	{.kind = SIM_READ, .first = 0, .sectors = 4, .idle = true},
};

static const struct sim_op parts_of_a_cluster[] = {
	{.kind = SIM_WRITE, .first = 0, .sectors = 1},
	{.kind = SIM_WRITE, .first = 3, .sectors = 2},
	{.kind = SIM_WRITE, .first = 6, .sectors = 4},
	{.kind = SIM_WRITE, .first = 15, .sectors = 1},
	{.kind = SIM_READ, .first = 0, .sectors = 16, .idle = true},
	{.kind = SIM_DISCARD, .first = 0, .sectors = 16},
};

/* An address in each of four L2 tables. */
static const struct sim_op many_tables[] = {
	{.kind = SIM_WRITE, .first = 0, .sectors = 1},
	{.kind = SIM_READ, .first = 64, .sectors = 2},
	{.kind = SIM_WRITE, .first = 130, .sectors = 1},
	{.kind = SIM_DISCARD, .first = 66, .sectors = 2},
	{.kind = SIM_READ, .first = 192, .sectors = 2},
	{.kind = SIM_WRITE, .first = 65, .sectors = 1},
	{.kind = SIM_READ, .first = 0, .sectors = 2},
};

static const struct sim_op one_table[] = {
	{.kind = SIM_WRITE, .first = 0, .sectors = 1},
	{.kind = SIM_WRITE, .first = 10, .sectors = 2},
	{.kind = SIM_WRITE, .first = 64, .sectors = 1},
	{.kind = SIM_WRITE, .first = 70, .sectors = 1},
	{.kind = SIM_ZERO, .first = 20, .sectors = 2},
	{.kind = SIM_FLUSH},
	{.kind = SIM_READ, .first = 0, .sectors = 80},
};

static const struct sim_op fill_the_gaps[] = {
	{.kind = SIM_WRITE, .first = 0, .sectors = 12},
	{.kind = SIM_WRITE, .first = 14, .sectors = 18},
	{.kind = SIM_DISCARD, .first = 6, .sectors = 4},
	{.kind = SIM_FLUSH},
};

static const struct sim_op across_kinds[] = {
	{.kind = SIM_READ, .first = 0, .sectors = 64},
	{.kind = SIM_ZERO, .first = 7, .sectors = 6},
	{.kind = SIM_WRITE, .first = 4, .sectors = 24},
	{.kind = SIM_READ, .first = 3, .sectors = 40},
	{.kind = SIM_DISCARD, .first = 16, .sectors = 6},
	{.kind = SIM_WRITE, .first = 33, .sectors = 20},
	{.kind = SIM_ZERO, .first = 40, .sectors = 10},
};

static const struct sim_op long_transfers[] = {
	{.kind = SIM_WRITE, .first = 0, .sectors = 13},
	{.kind = SIM_READ, .first = 0, .sectors = 32},
	{.kind = SIM_WRITE, .first = 9, .sectors = 20},
	{.kind = SIM_READ, .first = 3, .sectors = 19},
	{.kind = SIM_FLUSH},
};

static const struct sim_op parts_of_a_block[] = {
	{.kind = SIM_WRITE, .first = 0, .sectors = 1},
	{.kind = SIM_WRITE, .first = 1, .sectors = 3},
	{.kind = SIM_WRITE, .first = 7, .sectors = 2},
	{.kind = SIM_READ, .first = 1, .sectors = 9},
	{.kind = SIM_DISCARD, .first = 8, .sectors = 8},
	{.kind = SIM_FLUSH},
};

/* Whoever comes second finds that the first has taken a part of the clusters meanwhile. */
static const struct sim_op into_each_other[] = {
	{.kind = SIM_WRITE, .first = 0, .sectors = 12},
	{.kind = SIM_WRITE, .first = 5, .sectors = 14},
	{.kind = SIM_WRITE, .first = 2, .sectors = 9},
	{.kind = SIM_WRITE, .first = 9, .sectors = 11},
	{.kind = SIM_FLUSH, .idle = true},
	{.kind = SIM_READ, .first = 0, .sectors = 24},
	{.kind = SIM_DISCARD, .first = 0, .sectors = 24, .idle = true},
};

static const struct crash_case cases[] = {
	{.name = "h05-copy-on-write-spares-the-neighbour",
		CRASH_OPS(beside_a_neighbour),
		.mutants = {32},
		.config.image = {.fill = SIM_FILL_FULL}},
	{.name = "h06-two-writes-one-cluster",
		CRASH_OPS(parts_of_a_cluster),
		.mutants = {6},
		.config.image = {.cluster_bits = 12}},
	{.name = "h07-two-requests-one-cache-entry",
		CRASH_OPS(many_tables),
		.mutants = {33},
		.config = {.image = {.fill = SIM_FILL_FULL, .cluster_bits = 9, .guest_bytes = 256 * SIM_SECTOR},
			.options.l2_cache_bytes = 512}},
	{.name = "h08-two-queues-one-table",
		CRASH_OPS(one_table),
		.rounds = 1,
		.mutants = {34},
		.config.image = {.cluster_bits = 9, .guest_bytes = 128 * SIM_SECTOR}},
	{.name = "h20-data-stays-off-metadata",
		CRASH_OPS(fill_the_gaps),
		.mutants = {41},
		.config.image = {.fill = SIM_FILL_MIXED, .gaps_in = 2}},
	{.name = "h23-runs-end-where-the-kind-changes",
		CRASH_OPS(across_kinds),
		.mutants = {42},
		.config.image = {.fill = SIM_FILL_MIXED, .guest_bytes = 64 * SIM_SECTOR}},
	{.name = "h32-short-transfers-go-on-where-they-ended",
		CRASH_OPS(long_transfers),
		.mutants = {28, 47},
		.config = {.image = {.fill = SIM_FILL_FULL},
			.faults = {.short_in = 2, .again_in = 10, .interrupt_in = 10}}},
	{.name = "h43-small-writes-in-large-blocks",
		CRASH_OPS(parts_of_a_block),
		.mutants = {52},
		.config = {.image = {.fill = SIM_FILL_MIXED, .cluster_bits = 12}, .unit_bytes = 4096}},
	{.name = "h43-clusters-smaller-than-blocks",
		CRASH_OPS(parts_of_a_block),
		.mutants = {52},
		.config = {.image = {.fill = SIM_FILL_MIXED}, .unit_bytes = 4096}},
	{.name = "h44-overlapping-writes-keep-their-tails",
		CRASH_OPS(into_each_other),
		.mutants = {53},
		.config.image = {.fill = SIM_FILL_MIXED, .cluster_bits = 9, .gaps_in = 2}},
};

int main(int argc, char **argv) { return crash_main(cases, sizeof(cases) / sizeof(cases[0]), argc, argv); }
