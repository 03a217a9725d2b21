/* SPDX-License-Identifier: MIT */
/* Compressed clusters: classes H24, H25. How well data compresses depends on its operation's number: sim/stamp.h. */
#include "crash.h"

/* Clusters have four sectors: parts of compressed ones are read and written, others zeroed, dropped, replaced. */
static const struct sim_op replace[] = {
	{.kind = SIM_READ, .first = 0, .sectors = 32},
	{.kind = SIM_WRITE, .first = 1, .sectors = 6},
	{.kind = SIM_ZERO, .first = 8, .sectors = 3},
	{.kind = SIM_ZERO_UNMAP, .first = 12, .sectors = 8},
	{.kind = SIM_WRITE_COMPRESSED, .first = 4, .sectors = 12},
	{.kind = SIM_FLUSH},
	{.kind = SIM_DISCARD, .first = 22, .sectors = 6},
	{.kind = SIM_WRITE, .first = 24, .sectors = 1},
	{.kind = SIM_WRITE_COMPRESSED, .first = 0, .sectors = 32},
};

static const struct sim_op grow[] = {
	{.kind = SIM_WRITE_COMPRESSED, .first = 16, .sectors = 5},
	{.kind = SIM_RESIZE, .sectors = 30},
	{.kind = SIM_READ, .first = 0, .sectors = 30},
	{.kind = SIM_WRITE_COMPRESSED, .first = 0, .sectors = 12},
	{.kind = SIM_RESIZE, .sectors = 47},
	{.kind = SIM_WRITE, .first = 29, .sectors = 10},
	{.kind = SIM_REOPEN},
	{.kind = SIM_READ, .first = 0, .sectors = 47},
};

/* One after the other into the same host cluster, from where all is dropped again while more comes. */
static const struct sim_op come_and_go[] = {
	{.kind = SIM_WRITE_COMPRESSED, .first = 0, .sectors = 4},
	{.kind = SIM_DISCARD, .first = 0, .sectors = 4, .delay_us = 150},
	{.kind = SIM_FLUSH},
	{.kind = SIM_WRITE_COMPRESSED, .first = 8, .sectors = 4},
	{.kind = SIM_WRITE_COMPRESSED, .first = 12, .sectors = 4},
	{.kind = SIM_DISCARD, .first = 8, .sectors = 8},
	{.kind = SIM_FLUSH},
	{.kind = SIM_WRITE_COMPRESSED, .first = 16, .sectors = 4},
	{.kind = SIM_WRITE_COMPRESSED, .first = 20, .sectors = 4},
	{.kind = SIM_ZERO_UNMAP, .first = 16, .sectors = 8},
	{.kind = SIM_FLUSH},
};

static const struct sim_op reuse[] = {
	{.kind = SIM_WRITE_COMPRESSED, .first = 0, .sectors = 8},
	{.kind = SIM_READ, .first = 0, .sectors = 8, .idle = true},
	{.kind = SIM_DISCARD, .first = 0, .sectors = 8},
	{.kind = SIM_FLUSH, .idle = true},
	{.kind = SIM_WRITE_COMPRESSED, .first = 8, .sectors = 8, .delay_us = 3000},
	{.kind = SIM_READ, .first = 8, .sectors = 8, .idle = true},
	{.kind = SIM_DISCARD, .first = 8, .sectors = 8},
	{.kind = SIM_FLUSH, .idle = true},
	{.kind = SIM_READ, .first = 0, .sectors = 16, .delay_us = 3000},
};

static const struct crash_case cases[] = {
	{.name = "h24-compressed-is-not-zero",
		CRASH_OPS(replace),
		.mutants = {69},
		.config.image = {.fill = SIM_FILL_FULL, .cluster_bits = 11, .compressed_in = 1, .snapshots = 2}},
	{.name = "h25-shared-clusters-are-counted",
		CRASH_OPS(replace),
		.mutants = {66, 67},
		.config.image = {.fill = SIM_FILL_FULL, .cluster_bits = 11, .compressed_in = 1}},
	{.name = "h25-shared-clusters-over-snapshots",
		CRASH_OPS(replace),
		.refcount_bits = 4,
		.mutants = {67},
		.config.image = {.fill = SIM_FILL_FULL, .cluster_bits = 11, .compressed_in = 2, .snapshots = 2}},
	{.name = "h25-refcounts-that-hold-three",
		CRASH_OPS(replace),
		.refcount_bits = 2,
		.mutants = {66, 67},
		.config.image = {.fill = SIM_FILL_MIXED, .cluster_bits = 11, .compressed_in = 1}},
	{.name = "h25-nothing-is-put-into-a-cluster-on-its-way-out",
		CRASH_OPS(come_and_go),
		.rounds = 6,
		.mutants = {65},
		.config.image = {.cluster_bits = 11}},
	{.name = "h25-what-lay-there-before-is-forgotten",
		CRASH_OPS(reuse),
		.rounds = 6,
		.mutants = {68},
		.config.image = {.cluster_bits = 11}},
	/* The last one: zstd may be missing. */
	{.name = "h24-compression-type-outlives-the-header",
		CRASH_OPS(grow),
		.rounds = 1,
		.mutants = {69},
		.config = {.image = {.fill = SIM_FILL_FULL,
				   .cluster_bits = 11,
				   .compressed_in = 1,
				   .compression = SIM_ZSTD,
				   .guest_bytes = 21 * SIM_SECTOR},
			.guest_most = 48 * SIM_SECTOR}},
};

int main(int argc, char **argv)
{
	unsigned n = sizeof(cases) / sizeof(cases[0]);

	return crash_main(cases, sim_codec_there(SIM_ZSTD) ? n : n - 1, argc, argv);
}
