/* SPDX-License-Identifier: MIT */
/* The guest's data in a file of its own: what must be on which disk, and when. Classes H1, H26, H28 and rule O22. */
#include "crash.h"

/* Places that are new, that are written again, and that are given up, with half of the writes made durable. */
static const struct sim_op two_files[] = {
	{.kind = SIM_WRITE, .first = 1, .sectors = 3},
	{.kind = SIM_FLUSH},
	{.kind = SIM_WRITE, .first = 8, .sectors = 8},
	{.kind = SIM_DISCARD, .first = 0, .sectors = 4},
	{.kind = SIM_WRITE_FUA, .first = 3, .sectors = 2},
	{.kind = SIM_ZERO_UNMAP, .first = 8, .sectors = 6},
	{.kind = SIM_WRITE, .first = 20, .sectors = 1},
	{.kind = SIM_ZERO, .first = 4, .sectors = 8},
	{.kind = SIM_FLUSH},
	{.kind = SIM_READ, .first = 0, .sectors = 24},
};

/* The disk ends inside a cluster, and the data file behind the disk's end. */
static const struct sim_op odd_end[] = {
	{.kind = SIM_WRITE, .first = 28, .sectors = 3},
	{.kind = SIM_RESIZE, .sectors = 37},
	{.kind = SIM_WRITE, .first = 30, .sectors = 1},
	{.kind = SIM_FLUSH},
	{.kind = SIM_RESIZE, .sectors = 61},
	{.kind = SIM_ZERO_UNMAP, .first = 35, .sectors = 26},
	{.kind = SIM_WRITE, .first = 60, .sectors = 1},
	{.kind = SIM_READ, .first = 0, .sectors = 61},
};

static const struct crash_case cases[] = {
	{.name = "o22-data-file-is-flushed-before-the-mapping",
		CRASH_OPS(two_files),
		.mutants = {75},
		.config.image = {.fill = SIM_FILL_MIXED, .data = SIM_DATA_FILE}},
	{.name = "h01-unmapping-in-a-data-file",
		CRASH_OPS(two_files),
		.mutants = {5},
		.config.image = {.fill = SIM_FILL_FULL, .data = SIM_DATA_FILE}},
	{.name = "h26-new-places-in-a-data-file-hide-what-they-held",
		CRASH_OPS(two_files),
		.mutants = {7, 77},
		.config = {.image = {.fill = SIM_FILL_MIXED, .data = SIM_DATA_FILE}, .below = SIM_BELOW_RAW}},
	{.name = "h26-zeros-in-a-raw-data-file-are-written",
		CRASH_OPS(two_files),
		.mutants = {75, 76},
		.config.image = {.fill = SIM_FILL_FULL, .data = SIM_DATA_RAW}},
	{.name = "h26-zeros-in-a-raw-data-file-that-can-not-be-punched",
		CRASH_OPS(two_files),
		.mutants = {76},
		.config = {.image = {.fill = SIM_FILL_FULL, .data = SIM_DATA_RAW},
			.faults = {.no_zero = true, .no_punch = true}}},
	{.name = "h28-odd-sizes-of-a-data-file",
		CRASH_OPS(odd_end),
		.rounds = 1,
		.mutants = {44},
		.config = {.image = {.fill = SIM_FILL_MIXED, .guest_bytes = 31 * SIM_SECTOR, .data = SIM_DATA_FILE},
			.guest_most = 64 * SIM_SECTOR}},
	{.name = "h28-odd-sizes-of-a-raw-data-file",
		CRASH_OPS(odd_end),
		.rounds = 1,
		.mutants = {44},
		.config = {.image = {.fill = SIM_FILL_FULL, .guest_bytes = 31 * SIM_SECTOR, .data = SIM_DATA_RAW},
			.guest_most = 64 * SIM_SECTOR}},
};

int main(int argc, char **argv) { return crash_main(cases, sizeof(cases) / sizeof(cases[0]), argc, argv); }
