/* SPDX-License-Identifier: MIT */
/* Disks that shrink, and grow again: classes H14, H26 to H28, H30. */
#include "crash.h"

static const struct sim_op there_and_back[] = {
	{.kind = SIM_WRITE, .first = 8, .sectors = 20},
	{.kind = SIM_WRITE, .first = 40, .sectors = 6},
	{.kind = SIM_FLUSH},
	{.kind = SIM_RESIZE, .sectors = 21},
	{.kind = SIM_WRITE, .first = 3, .sectors = 4},
	{.kind = SIM_WRITE, .first = 19, .sectors = 1},
	{.kind = SIM_RESIZE, .sectors = 47},
	{.kind = SIM_READ, .first = 15, .sectors = 32},
	{.kind = SIM_WRITE, .first = 33, .sectors = 5},
};

static const struct sim_op cut_between[] = {
	{.kind = SIM_WRITE, .first = 10, .sectors = 30},
	{.kind = SIM_FLUSH},
	{.kind = SIM_CUT, .first = 12},
	{.kind = SIM_RESIZE, .sectors = 13},
	{.kind = SIM_RESIZE, .sectors = 45, .delay_us = 900},
	{.kind = SIM_READ, .first = 0, .sectors = 13},
	{.kind = SIM_RESIZE, .sectors = 45},
};

static const struct sim_op cut_off[] = {
	{.kind = SIM_WRITE, .first = 10, .sectors = 30},
	{.kind = SIM_FLUSH},
	{.kind = SIM_CUT, .first = 12},
	{.kind = SIM_RESIZE, .sectors = 13},
	{.kind = SIM_READ, .first = 0, .sectors = 13},
};

static const struct sim_op beside_snapshots[] = {
	{.kind = SIM_WRITE, .first = 60, .sectors = 90},
	{.kind = SIM_SNAPSHOT_CREATE},
	{.kind = SIM_RESIZE, .sectors = 30},
	{.kind = SIM_WRITE, .first = 4, .sectors = 8},
	{.kind = SIM_RESIZE, .sectors = 160},
	{.kind = SIM_WRITE, .first = 70, .sectors = 20},
	{.kind = SIM_RESIZE, .sectors = 75},
	{.kind = SIM_SNAPSHOT_DELETE},
	{.kind = SIM_SNAPSHOT_CREATE},
	{.kind = SIM_RESIZE, .sectors = 160},
};

/* So much is zeroed that it takes several range locks, the last of them for the cluster in which the disk ends. */
static const struct sim_op zeroed_while_growing[] = {
	{.kind = SIM_ZERO_UNMAP, .first = 0, .sectors = 2061},
	{.kind = SIM_RESIZE, .sectors = 2070},
	{.kind = SIM_WRITE, .first = 2061, .sectors = 1},
	{.kind = SIM_READ, .first = 2050, .sectors = 11, .idle = true},
};

#define BYTES .guest_bytes = 47 * SIM_SECTOR
#define DISK BYTES, .fill = SIM_FILL_MIXED
#define LONGER .below = SIM_BELOW_RAW, .base.guest_bytes = 60 * SIM_SECTOR

static const struct crash_case cases[] = {
	{.name = "h14-snapshots-of-a-disk-that-shrinks",
		CRASH_OPS(beside_snapshots),
		.mutants = {99},
		.config = {.image = {.fill = SIM_FILL_FULL, .cluster_bits = 9, .guest_bytes = 160 * SIM_SECTOR},
			.weight[SIM_SNAPSHOT_CREATE] = 1,
			.audit = true}},
	{.name = "h27-shrunk-and-grown-again-over-a-longer-backing-file",
		CRASH_OPS(there_and_back),
		.mutants = {44, 95, 97},
		.config = {.image = {DISK}, LONGER}},
	{.name = "h27-version-2-shrunk-and-grown-again",
		CRASH_OPS(there_and_back),
		.mutants = {44, 95, 97},
		.config = {.image = {DISK, .version = 2}, .below = SIM_BELOW_RAW, .base.guest_bytes = 33 * SIM_SECTOR}},
	{.name = "h27-what-a-shrink-that-was-cut-off-has-left",
		CRASH_OPS(cut_between),
		.mutants = {44},
		.config = {.image = {DISK}, LONGER}},
	{.name = "h27-version-2-what-a-shrink-that-was-cut-off-has-left",
		CRASH_OPS(cut_between),
		.mutants = {44},
		.config = {.image = {DISK, .version = 2}, .below = SIM_BELOW_RAW, .base.guest_bytes = 17 * SIM_SECTOR}},
	{.name = "h28-what-a-shrink-that-was-cut-off-has-left-goes-back",
		CRASH_OPS(cut_off),
		.rounds = 1,
		.mutants = {160},
		.config = {.image = {DISK}, .audit = true}},
	{.name = "h28-compressed-clusters-are-cut-off",
		CRASH_OPS(there_and_back),
		.mutants = {95},
		.config = {.image = {DISK, .compressed_in = 1, .cluster_bits = 11}}},
	{.name = "h28-a-data-file-shrinks-after-the-disk",
		CRASH_OPS(there_and_back),
		.mutants = {95},
		.config = {.image = {DISK, .data = SIM_DATA_FILE}}},
	{.name = "h28-a-raw-data-file-shrinks-after-the-disk",
		CRASH_OPS(there_and_back),
		.mutants = {98},
		.config = {.image = {BYTES, .fill = SIM_FILL_FULL, .data = SIM_DATA_RAW}}},
	{.name = "h28-zeroed-up-to-an-end-that-moves",
		CRASH_OPS(zeroed_while_growing),
		.rounds = 1,
		.schedules = 20,
		.mutants = {100},
		.config = {.image = {.guest_bytes = 2061 * SIM_SECTOR, .fill = SIM_FILL_FULL},
			.guest_most = 2080 * SIM_SECTOR,
			.options.l2_cache_bytes = 1024,
			.cuts = 1,
			.all_cuts = 1}},
};

int main(int argc, char **argv) { return crash_main(cases, sizeof(cases) / sizeof(cases[0]), argc, argv); }
