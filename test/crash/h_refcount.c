/* SPDX-License-Identifier: MIT */
/* Refcounts and the structures that hold them: classes H9, H10, H12, H21. */
#include "crash.h"

#define BLOCK (64 * 512)   /* what a block of 64-bit refcounts covers where clusters have 512 bytes */
#define TABLE (64 * BLOCK) /* and a table of one cluster */

static const struct sim_op allocate[] = {
	{.kind = SIM_WRITE, .first = 0, .sectors = 9},
	{.kind = SIM_WRITE, .first = 12, .sectors = 5},
	{.kind = SIM_WRITE, .first = 30, .sectors = 8},
	{.kind = SIM_FLUSH},
	{.kind = SIM_DISCARD, .first = 4, .sectors = 20},
	{.kind = SIM_WRITE, .first = 40, .sectors = 20},
	{.kind = SIM_WRITE, .first = 64, .sectors = 20},
};

/* Space in different blocks comes free and is taken, while slices are read again and again. */
static const struct sim_op here_and_there[] = {
	{.kind = SIM_DISCARD, .first = 0, .sectors = 6},
	{.kind = SIM_DISCARD, .first = 180, .sectors = 6},
	{.kind = SIM_FLUSH},
	{.kind = SIM_WRITE, .first = 100, .sectors = 1, .delay_us = 500},
	{.kind = SIM_WRITE, .first = 0, .sectors = 3},
	{.kind = SIM_WRITE, .first = 182, .sectors = 4},
	{.kind = SIM_WRITE, .first = 3, .sectors = 3},
	{.kind = SIM_DISCARD, .first = 98, .sectors = 6},
};

static const struct sim_op grow_the_table[] = {
	{.kind = SIM_WRITE, .first = 0, .sectors = 20},
	{.kind = SIM_WRITE, .first = 20, .sectors = 20},
	{.kind = SIM_FLUSH},
	{.kind = SIM_WRITE, .first = 40, .sectors = 24},
};

static const struct crash_case cases[] = {
	{.name = "h09-refcount-block-and-the-data-it-counts",
		CRASH_OPS(allocate),
		.refcount_bits = 64,
		.mutants = {27},
		.config.image = {.cluster_bits = 9, .guest_bytes = 96 * SIM_SECTOR, .used_until = 2 * BLOCK - 4 * 512}},
	{.name = "h10-refcounts-of-the-block-looked-up-last",
		CRASH_OPS(here_and_there),
		.refcount_bits = 64,
		.mutants = {35},
		.config = {.image = {.fill = SIM_FILL_FULL, .cluster_bits = 9, .guest_bytes = 192 * SIM_SECTOR},
			.options = {.refcount_cache_bytes = 512, .commit_interval_ns = 100000}}},
	{.name = "h12-larger-refcount-table",
		CRASH_OPS(grow_the_table),
		.rounds = 1,
		.refcount_bits = 64,
		.schedules = 20,
		.mutants = {3, 37},
		.config = {.image = {.cluster_bits = 9, .guest_bytes = 64 * SIM_SECTOR, .used_until = TABLE - 74 * 512},
			.cuts = 2,
			.all_cuts = 1}},
	{.name = "h12-larger-refcount-table-with-errors",
		CRASH_OPS(grow_the_table),
		.rounds = 2,
		.refcount_bits = 64,
		.schedules = 20,
		.mutants = {14},
		.config = {.image = {.cluster_bits = 9, .guest_bytes = 64 * SIM_SECTOR, .used_until = TABLE - 74 * 512},
			.cuts = 2,
			.all_cuts = 1,
			.faulty = true,
			.faults = {.write_in = 6, .full_in = 12}}},
	{.name = "h21-refcounts-of-one-bit",
		CRASH_OPS(allocate),
		.refcount_bits = 1,
		.mutants = {54},
		.config.image = {.fill = SIM_FILL_MIXED, .guest_bytes = 96 * SIM_SECTOR}},
	{.name = "h21-refcounts-of-two-bits",
		CRASH_OPS(allocate),
		.refcount_bits = 2,
		.mutants = {54},
		.config.image = {.fill = SIM_FILL_MIXED, .guest_bytes = 96 * SIM_SECTOR}},
};

int main(int argc, char **argv) { return crash_main(cases, sizeof(cases) / sizeof(cases[0]), argc, argv); }
