/* SPDX-License-Identifier: MIT */
/* The disk as a whole: what lies below it, its size, its file, and its end: classes H26 to H28, H38, H42. */
#include "crash.h"

static const struct sim_op zeroes[] = {
	{.kind = SIM_ZERO, .first = 0, .sectors = 4},
	{.kind = SIM_WRITE, .first = 4, .sectors = 3},
	{.kind = SIM_ZERO_UNMAP, .first = 4, .sectors = 5},
	{.kind = SIM_DISCARD, .first = 12, .sectors = 4},
	{.kind = SIM_WRITE, .first = 12, .sectors = 2},
	{.kind = SIM_DISCARD, .first = 13, .sectors = 1},
	{.kind = SIM_FLUSH},
	{.kind = SIM_READ, .first = 0, .sectors = 24},
};

static const struct sim_op grow[] = {
	{.kind = SIM_WRITE, .first = 18, .sectors = 3},
	{.kind = SIM_RESIZE, .sectors = 30},
	{.kind = SIM_READ, .first = 15, .sectors = 15},
	{.kind = SIM_RESIZE, .sectors = 47},
	{.kind = SIM_WRITE, .first = 40, .sectors = 5},
};

static const struct sim_op at_the_seam[] = {
	{.kind = SIM_READ, .first = 0, .sectors = 32},
	{.kind = SIM_WRITE, .first = 13, .sectors = 1},
	{.kind = SIM_WRITE, .first = 8, .sectors = 1},
	{.kind = SIM_READ, .first = 4, .sectors = 20},
};

static const struct sim_op odd_sizes[] = {
	{.kind = SIM_WRITE, .first = 16, .sectors = 5},
	{.kind = SIM_RESIZE, .sectors = 27},
	{.kind = SIM_DISCARD, .first = 19, .sectors = 8},
	{.kind = SIM_WRITE, .first = 20, .sectors = 7},
	{.kind = SIM_RESIZE, .sectors = 43},
	{.kind = SIM_ZERO, .first = 30, .sectors = 13},
	{.kind = SIM_WRITE, .first = 37, .sectors = 6},
	{.kind = SIM_REOPEN},
};

static const struct sim_op drains[] = {
	{.kind = SIM_WRITE, .first = 0, .sectors = 3},
	{.kind = SIM_DISCARD, .first = 8, .sectors = 4},
	{.kind = SIM_DRAIN},
	{.kind = SIM_WRITE, .first = 6, .sectors = 3, .delay_us = 200},
	{.kind = SIM_REOPEN},
	{.kind = SIM_WRITE, .first = 16, .sectors = 4},
	{.kind = SIM_DRAIN},
	{.kind = SIM_CUT, .first = 0},
	{.kind = SIM_READ, .first = 0, .sectors = 8, .delay_us = 200},
};

static const struct sim_op append[] = {
	{.kind = SIM_WRITE, .first = 0, .sectors = 40},
	{.kind = SIM_WRITE, .first = 40, .sectors = 50},
	{.kind = SIM_FLUSH},
	{.kind = SIM_WRITE, .first = 90, .sectors = 60},
	{.kind = SIM_WRITE_FUA, .first = 150, .sectors = 30},
	{.kind = SIM_CUT, .first = 40},
};

static const struct crash_case cases[] = {
	{.name = "h26-zeroes-hide-the-backing-file",
		CRASH_OPS(zeroes),
		.mutants = {16, 43},
		.config = {.image = {.fill = SIM_FILL_MIXED},
			.below = SIM_BELOW_RAW,
			.base.guest_bytes = 27 * SIM_SECTOR}},
	{.name = "h26-zeroes-hide-the-backing-image",
		CRASH_OPS(zeroes),
		.mutants = {16, 43},
		.config = {.image = {.fill = SIM_FILL_MIXED},
			.below = SIM_BELOW_QCOW2,
			.base = {.guest_bytes = 40 * SIM_SECTOR, .fill = SIM_FILL_FULL}}},
	{.name = "h27-grown-space-hides-a-longer-backing-file",
		CRASH_OPS(grow),
		.rounds = 1,
		.mutants = {44},
		.config = {.image.guest_bytes = 21 * SIM_SECTOR,
			.guest_most = 48 * SIM_SECTOR,
			.below = SIM_BELOW_RAW,
			.base.guest_bytes = 50 * SIM_SECTOR}},
	{.name = "h27-version-2-grows-over-a-longer-backing-file",
		CRASH_OPS(grow),
		.rounds = 1,
		.mutants = {44},
		.config = {.image = {.version = 2, .guest_bytes = 21 * SIM_SECTOR},
			.guest_most = 48 * SIM_SECTOR,
			.below = SIM_BELOW_RAW,
			.base.guest_bytes = 50 * SIM_SECTOR}},
	{.name = "h27-zeros-behind-a-shorter-backing-file",
		CRASH_OPS(at_the_seam),
		.mutants = {45},
		.config = {.below = SIM_BELOW_RAW, .base.guest_bytes = 13 * SIM_SECTOR}},
	{.name = "h28-odd-sizes-and-the-end-of-the-file",
		CRASH_OPS(odd_sizes),
		.rounds = 1,
		.mutants = {46},
		.config = {.image = {.cluster_bits = 12, .guest_bytes = 21 * SIM_SECTOR},
			.guest_most = 43 * SIM_SECTOR}},
	{.name = "h38-drain-leaves-nothing-behind",
		CRASH_OPS(drains),
		.mutants = {49},
		.config.image = {.fill = SIM_FILL_MIXED}},
	{.name = "h42-pointers-stay-inside-the-file",
		CRASH_OPS(append),
		.rounds = 2,
		.mutants = {3},
		.config.image = {.cluster_bits = 9, .guest_bytes = 192 * SIM_SECTOR}},
};

int main(int argc, char **argv) { return crash_main(cases, sizeof(cases) / sizeof(cases[0]), argc, argv); }
