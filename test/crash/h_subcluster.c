/* SPDX-License-Identifier: MIT */
/* Clusters in parts, with extended L2 entries: classes H5, H17, H23, H26, and the order of data and bits. */
#include "crash.h"

/* Sectors 0 to 63 are the first cluster, of subclusters of two sectors; some of them get data while others have it. */
static const struct sim_op one_by_one[] = {
	{.kind = SIM_WRITE, .first = 0, .sectors = 2},
	{.kind = SIM_WRITE, .first = 8, .sectors = 4},
	{.kind = SIM_READ, .first = 0, .sectors = 64},
	{.kind = SIM_WRITE, .first = 40, .sectors = 6},
	{.kind = SIM_FLUSH},
	{.kind = SIM_WRITE, .first = 20, .sectors = 2},
	{.kind = SIM_ZERO, .first = 0, .sectors = 64, .idle = true},
};

static const struct sim_op zero_and_write[] = {
	{.kind = SIM_ZERO, .first = 0, .sectors = 32},
	{.kind = SIM_WRITE, .first = 4, .sectors = 6},
	{.kind = SIM_DISCARD, .first = 6, .sectors = 2},
	{.kind = SIM_WRITE, .first = 30, .sectors = 4},
	{.kind = SIM_READ, .first = 0, .sectors = 64, .idle = true},
};

static const struct sim_op into_shared_clusters[] = {
	{.kind = SIM_WRITE, .first = 10, .sectors = 1},
	{.kind = SIM_WRITE, .first = 70, .sectors = 40},
	{.kind = SIM_READ, .first = 0, .sectors = 128, .idle = true},
	{.kind = SIM_WRITE, .first = 130, .sectors = 2},
	{.kind = SIM_ZERO_UNMAP, .first = 0, .sectors = 12},
	{.kind = SIM_FLUSH, .idle = true},
};

static const struct sim_op free_in_parts[] = {
	{.kind = SIM_DISCARD, .first = 0, .sectors = 20},
	{.kind = SIM_WRITE, .first = 128, .sectors = 10},
	{.kind = SIM_ZERO_UNMAP, .first = 24, .sectors = 40},
	{.kind = SIM_READ, .first = 0, .sectors = 128, .idle = true},
	{.kind = SIM_DISCARD, .first = 20, .sectors = 4},
	{.kind = SIM_WRITE, .first = 0, .sectors = 64, .idle = true},
	{.kind = SIM_DISCARD, .first = 128, .sectors = 64},
};

static const struct sim_op parts_of_subclusters[] = {
	{.kind = SIM_WRITE, .first = 1, .sectors = 1},
	{.kind = SIM_WRITE, .first = 5, .sectors = 4},
	{.kind = SIM_WRITE, .first = 63, .sectors = 2},
	{.kind = SIM_READ, .first = 0, .sectors = 80, .idle = true},
	{.kind = SIM_DISCARD, .first = 0, .sectors = 80},
};

static const struct sim_op across_kinds[] = {
	{.kind = SIM_READ, .first = 0, .sectors = 128},
	{.kind = SIM_ZERO, .first = 6, .sectors = 10},
	{.kind = SIM_WRITE, .first = 9, .sectors = 70},
	{.kind = SIM_READ, .first = 3, .sectors = 120},
	{.kind = SIM_DISCARD, .first = 30, .sectors = 11},
	{.kind = SIM_WRITE, .first = 100, .sectors = 3},
	{.kind = SIM_ZERO, .first = 60, .sectors = 10},
};

static const struct sim_op grow[] = {
	{.kind = SIM_WRITE, .first = 150, .sectors = 21},
	{.kind = SIM_RESIZE, .sectors = 174},
	{.kind = SIM_READ, .first = 128, .sectors = 46},
	{.kind = SIM_RESIZE, .sectors = 190},
	{.kind = SIM_WRITE, .first = 180, .sectors = 3},
	{.kind = SIM_RESIZE, .sectors = 411},
	{.kind = SIM_READ, .first = 160, .sectors = 251, .idle = true},
};

#define EXTENDED .extended = true, .cluster_bits = 15, .guest_bytes = 192 * SIM_SECTOR

static const struct crash_case cases[] = {
	{.name = "subcluster-data-before-its-bit",
		CRASH_OPS(one_by_one),
		.mutants = {70, 3},
		.config = {.image = {EXTENDED, .fill = SIM_FILL_ZERO}, .file_bytes = 8 << 20}},
	{.name = "subcluster-of-one-kind-only",
		CRASH_OPS(zero_and_write),
		.mutants = {71},
		.config = {.image = {EXTENDED, .fill = SIM_FILL_FULL}, .file_bytes = 8 << 20}},
	{.name = "h05-shared-cluster-is-copied-with-all-its-subclusters",
		CRASH_OPS(into_shared_clusters),
		.mutants = {72},
		.config = {.image = {EXTENDED, .fill = SIM_FILL_MIXED, .snapshots = 1}, .file_bytes = 8 << 20}},
	{.name = "h17-cluster-stays-while-a-subcluster-has-data",
		CRASH_OPS(free_in_parts),
		.mutants = {73},
		.config = {.image = {EXTENDED, .fill = SIM_FILL_FULL}, .file_bytes = 8 << 20}},
	{.name = "h26-rest-of-a-subcluster-shows-what-lies-below",
		CRASH_OPS(parts_of_subclusters),
		.mutants = {74, 43},
		.config = {.image = {EXTENDED, .fill = SIM_FILL_MIXED},
			.below = SIM_BELOW_RAW,
			.base.guest_bytes = 150 * SIM_SECTOR,
			.file_bytes = 8 << 20}},
	{.name = "h23-runs-end-where-the-kind-changes-inside-a-cluster",
		CRASH_OPS(across_kinds),
		.mutants = {42},
		.config = {.image = {EXTENDED, .fill = SIM_FILL_MIXED}, .file_bytes = 8 << 20}},
	{.name = "h27-grown-space-behind-a-part-of-a-cluster",
		CRASH_OPS(grow),
		.rounds = 1,
		.mutants = {44},
		.config = {.image = {.extended = true,
				   .cluster_bits = 15,
				   .guest_bytes = 171 * SIM_SECTOR,
				   .fill = SIM_FILL_MIXED,
				   .snapshots = 1},
			.below = SIM_BELOW_RAW,
			.base.guest_bytes = 600 * SIM_SECTOR,
			.guest_most = 500 * SIM_SECTOR,
			.file_bytes = 8 << 20}},
};

int main(int argc, char **argv) { return crash_main(cases, sizeof(cases) / sizeof(cases[0]), argc, argv); }
