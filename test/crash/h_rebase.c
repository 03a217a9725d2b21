/* SPDX-License-Identifier: MIT */
/* An image gets other backing files between two lives, and the power is cut meanwhile. Classes H26, H27. */
#include "crash.h"

/* first: the power is cut after so many events; what is odd goes to the second one behind in "base", "other", none. */
static const struct sim_op there_and_back[] = {
	{.kind = SIM_WRITE, .first = 0, .sectors = 5},
	{.kind = SIM_AMEND, .sectors = SIM_REBASE, .first = 12},
	{.kind = SIM_WRITE, .first = 14, .sectors = 3},
	{.kind = SIM_DISCARD, .first = 20, .sectors = 4},
	{.kind = SIM_AMEND, .sectors = SIM_REBASE, .first = 31},
	{.kind = SIM_READ, .first = 0, .sectors = 32},
	{.kind = SIM_AMEND, .sectors = SIM_REBASE},
	{.kind = SIM_AMEND, .sectors = SIM_REBASE, .first = 20},
};

static const struct crash_case cases[] = {
	{.name = "h26-another-backing-file",
		CRASH_OPS(there_and_back),
		.rounds = 1,
		.mutants = {176, 177},
		.config = {.image = {.fill = SIM_FILL_MIXED},
			.below = SIM_BELOW_RAW,
			.base = {.guest_bytes = 32 * SIM_SECTOR}}},
	{.name = "h26-another-backing-file-with-errors",
		CRASH_OPS(there_and_back),
		.rounds = 1,
		.mutants = {175, 176, 177},
		.config = {.image = {.fill = SIM_FILL_MIXED, .cluster_bits = 9},
			.below = SIM_BELOW_RAW,
			.base = {.guest_bytes = 20 * SIM_SECTOR},
			.faulty = true,
			.faults = {.write_in = 25, .read_in = 60, .flush_in = 25}}},
	{.name = "h26-another-backing-file-of-version-2",
		CRASH_OPS(there_and_back),
		.rounds = 1,
		.mutants = {175, 177},
		.config = {.image = {.fill = SIM_FILL_MIXED, .version = 2},
			.below = SIM_BELOW_RAW,
			.base = {.guest_bytes = 32 * SIM_SECTOR}}},
	{.name = "h26-another-backing-file-by-subclusters",
		CRASH_OPS(there_and_back),
		.rounds = 1,
		.mutants = {177},
		.config = {.image = {.fill = SIM_FILL_MIXED, .cluster_bits = 14, .extended = true},
			.below = SIM_BELOW_RAW,
			.base = {.guest_bytes = 32 * SIM_SECTOR}}},
};

int main(int argc, char **argv) { return crash_main(cases, sizeof(cases) / sizeof(cases[0]), argc, argv); }
