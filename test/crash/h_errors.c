/* SPDX-License-Identifier: MIT */
/* What the engine does when the host fails: classes H11, H16 to H19, H37, H39. */
#include "crash.h"

static const struct sim_op scattered[] = {
	{.kind = SIM_WRITE, .first = 0, .sectors = 3},
	{.kind = SIM_DISCARD, .first = 100, .sectors = 8},
	{.kind = SIM_WRITE, .first = 180, .sectors = 4},
	{.kind = SIM_FLUSH},
	{.kind = SIM_WRITE, .first = 101, .sectors = 4},
	{.kind = SIM_ZERO_UNMAP, .first = 0, .sectors = 8},
	{.kind = SIM_WRITE, .first = 60, .sectors = 5},
};

static const struct sim_op allocate[] = {
	{.kind = SIM_DISCARD, .first = 0, .sectors = 8},
	{.kind = SIM_WRITE, .first = 0, .sectors = 4, .delay_us = 1500},
	{.kind = SIM_WRITE, .first = 9, .sectors = 4},
	{.kind = SIM_WRITE, .first = 4, .sectors = 4},
	{.kind = SIM_DISCARD, .first = 9, .sectors = 8},
	{.kind = SIM_WRITE, .first = 20, .sectors = 8},
	{.kind = SIM_REOPEN},
};

static const struct sim_op new_blocks[] = {
	{.kind = SIM_WRITE, .first = 0, .sectors = 20},
	{.kind = SIM_WRITE, .first = 20, .sectors = 20},
	{.kind = SIM_WRITE, .first = 40, .sectors = 20},
	{.kind = SIM_WRITE, .first = 0, .sectors = 60},
};

static const struct sim_op flushes[] = {
	{.kind = SIM_WRITE, .first = 0, .sectors = 1},
	{.kind = SIM_FLUSH},
	{.kind = SIM_FLUSH, .idle = true},
	{.kind = SIM_WRITE_FUA, .first = 3, .sectors = 1},
	{.kind = SIM_FLUSH},
};

static const struct sim_op discards[] = {
	{.kind = SIM_DISCARD, .first = 0, .sectors = 2},
	{.kind = SIM_READ, .first = 64, .sectors = 1},
	{.kind = SIM_READ, .first = 0, .sectors = 2, .idle = true},
	{.kind = SIM_DISCARD, .first = 128, .sectors = 2},
	{.kind = SIM_READ, .first = 64, .sectors = 1},
	{.kind = SIM_READ, .first = 128, .sectors = 2, .idle = true},
};

static const struct crash_case cases[] = {
	{.name = "h11-refcounts-that-could-not-be-read",
		CRASH_OPS(scattered),
		.refcount_bits = 64,
		.mutants = {36},
		.config = {.image = {.fill = SIM_FILL_FULL, .cluster_bits = 9, .guest_bytes = 192 * SIM_SECTOR},
			.options.refcount_cache_bytes = 512,
			.faulty = true,
			.faults.read_in = 8}},
	{.name = "h11-refcounts-that-could-not-be-written",
		CRASH_OPS(scattered),
		.refcount_bits = 64,
		.mutants = {14},
		.config = {.image = {.fill = SIM_FILL_FULL, .cluster_bits = 9, .guest_bytes = 192 * SIM_SECTOR},
			.faulty = true,
			.faults.write_in = 8}},
	{.name = "h16-table-of-a-failed-copy-stays-in-use",
		CRASH_OPS(scattered),
		.mutants = {30},
		.config = {.image = {.fill = SIM_FILL_FULL,
				   .cluster_bits = 9,
				   .guest_bytes = 192 * SIM_SECTOR,
				   .snapshots = 1},
			.faulty = true,
			.faults.write_in = 8}},
	{.name = "h17-error-frees-what-was-taken",
		CRASH_OPS(allocate),
		.mutants = {38},
		.config = {.image = {.fill = SIM_FILL_FULL}, .faulty = true, .faults.write_in = 6}},
	{.name = "h18-error-frees-once",
		CRASH_OPS(allocate),
		.mutants = {39},
		.config = {.image = {.fill = SIM_FILL_FULL}, .faulty = true, .faults.write_in = 6}},
	{.name = "h18-replaced-cluster-is-freed-once",
		CRASH_OPS(allocate),
		.mutants = {17},
		.config = {.image = {.fill = SIM_FILL_FULL, .snapshots = 1}}},
	{.name = "h19-no-lock-outlives-an-error",
		CRASH_OPS(new_blocks),
		.refcount_bits = 64,
		.mutants = {40},
		.config = {.image = {.cluster_bits = 9,
				   .guest_bytes = 64 * SIM_SECTOR,
				   .used_until = 64 * 512 - 4 * 512},
			.faulty = true,
			.faults = {.write_in = 6, .full_in = 6}}},
	{.name = "h37-failed-flush-is-final",
		CRASH_OPS(flushes),
		.mutants = {48},
		.config = {.image = {.fill = SIM_FILL_FULL}, .faulty = true, .faults.flush_in = 4}},
	{.name = "h39-failed-discard-is-told",
		CRASH_OPS(discards),
		.mutants = {50},
		.config = {.image = {.fill = SIM_FILL_FULL, .cluster_bits = 9, .guest_bytes = 192 * SIM_SECTOR},
			.options.l2_cache_bytes = 512,
			.faulty = true,
			.faults.read_in = 4}},
};

int main(int argc, char **argv) { return crash_main(cases, sizeof(cases) / sizeof(cases[0]), argc, argv); }
