/* SPDX-License-Identifier: MIT */
/* Clusters that are freed while somebody uses them, or used again before it is safe: classes H1 to H4, H13, H41. */
#include "crash.h"

/* Parts of clusters are written, which copies the rest, or not, and discarded as a whole. */
static const struct sim_op write_and_discard[] = {
	{.kind = SIM_WRITE, .first = 1, .sectors = 1},
	{.kind = SIM_DISCARD, .first = 0, .sectors = 4},
	{.kind = SIM_WRITE, .first = 14, .sectors = 4},
	{.kind = SIM_WRITE, .first = 6, .sectors = 1},
	{.kind = SIM_DISCARD, .first = 4, .sectors = 16},
	{.kind = SIM_WRITE, .first = 20, .sectors = 4},
	{.kind = SIM_WRITE, .first = 10, .sectors = 1},
	{.kind = SIM_DISCARD, .first = 8, .sectors = 16},
	{.kind = SIM_FLUSH},
	{.kind = SIM_READ, .first = 0, .sectors = 24},
};

static const struct sim_op write_and_zero[] = {
	{.kind = SIM_WRITE, .first = 0, .sectors = 3},
	{.kind = SIM_ZERO_UNMAP, .first = 0, .sectors = 4},
	{.kind = SIM_WRITE, .first = 2, .sectors = 1},
	{.kind = SIM_ZERO, .first = 2, .sectors = 4},
	{.kind = SIM_WRITE, .first = 8, .sectors = 4},
	{.kind = SIM_FLUSH},
	{.kind = SIM_ZERO_UNMAP, .first = 8, .sectors = 4},
	{.kind = SIM_READ, .first = 0, .sectors = 12},
};

static const struct sim_op read_and_reuse[] = {
	{.kind = SIM_WRITE, .first = 0, .sectors = 8, .idle = true},
	{.kind = SIM_READ, .first = 0, .sectors = 8, .idle = true},
	{.kind = SIM_READ, .first = 2, .sectors = 4},
	{.kind = SIM_DISCARD, .first = 0, .sectors = 8},
	{.kind = SIM_FLUSH},
	{.kind = SIM_WRITE, .first = 8, .sectors = 8, .delay_us = 1500},
	{.kind = SIM_DISCARD, .first = 8, .sectors = 8, .idle = true},
	{.kind = SIM_FLUSH, .idle = true},
};

/* Somebody else writes at once what has been freed. */
static const struct sim_op free_and_reuse[] = {
	{.kind = SIM_DISCARD, .first = 0, .sectors = 8},
	{.kind = SIM_WRITE, .first = 16, .sectors = 6},
	{.kind = SIM_FLUSH},
	{.kind = SIM_WRITE, .first = 24, .sectors = 6, .delay_us = 1200},
	{.kind = SIM_ZERO_UNMAP, .first = 16, .sectors = 16},
	{.kind = SIM_WRITE, .first = 0, .sectors = 8},
};

/* Entries of one sector change all the time, while commits write it. */
static const struct sim_op change_while_committing[] = {
	{.kind = SIM_WRITE, .first = 0, .sectors = 2},
	{.kind = SIM_FLUSH},
	{.kind = SIM_WRITE, .first = 2, .sectors = 2},
	{.kind = SIM_DISCARD, .first = 4, .sectors = 2},
	{.kind = SIM_WRITE, .first = 6, .sectors = 2},
	{.kind = SIM_FLUSH},
	{.kind = SIM_DISCARD, .first = 0, .sectors = 4},
	{.kind = SIM_WRITE_FUA, .first = 8, .sectors = 2},
};

static const struct sim_op diverge[] = {
	{.kind = SIM_WRITE, .first = 0, .sectors = 2},
	{.kind = SIM_WRITE, .first = 64, .sectors = 1},
	{.kind = SIM_FLUSH},
	{.kind = SIM_DISCARD, .first = 128, .sectors = 4},
	{.kind = SIM_WRITE, .first = 3, .sectors = 1},
};

static const struct sim_op churn[] = {
	{.kind = SIM_WRITE, .first = 0, .sectors = 32},
	{.kind = SIM_DISCARD, .first = 0, .sectors = 32},
	{.kind = SIM_WRITE, .first = 0, .sectors = 7},
	{.kind = SIM_FLUSH},
};

static const struct crash_case cases[] = {
	{.name = "h01-write-against-discard",
		CRASH_OPS(write_and_discard),
		.mutants = {5},
		.config.image = {.fill = SIM_FILL_FULL, .cluster_bits = 11, .snapshots = 1}},
	{.name = "h01-write-against-zeroes",
		CRASH_OPS(write_and_zero),
		.mutants = {19},
		.config.image = {.fill = SIM_FILL_FULL}},
	{.name = "h01-read-while-its-cluster-is-reused", CRASH_OPS(read_and_reuse), .mutants = {21}},
	{.name = "h02-punch-against-reuse",
		CRASH_OPS(free_and_reuse),
		.mutants = {31},
		.config.image = {.fill = SIM_FILL_FULL}},
	{.name = "h03-reuse-before-unmapping-is-durable",
		CRASH_OPS(free_and_reuse),
		.mutants = {1, 11, 18},
		.config.image = {.fill = SIM_FILL_FULL}},
	{.name = "h04-entry-changed-during-a-commit",
		CRASH_OPS(change_while_committing),
		.mutants = {10, 12},
		.config.image = {.fill = SIM_FILL_MIXED}},
	{.name = "h13-shared-table-outlives-its-copy",
		CRASH_OPS(diverge),
		.mutants = {1, 11},
		.config.image =
			{.fill = SIM_FILL_FULL, .cluster_bits = 9, .guest_bytes = 192 * SIM_SECTOR, .snapshots = 2}},
	/* The file is just large enough for the guest and for what a quarantine may hold. */
	{.name = "h41-churn-does-not-grow-the-file",
		CRASH_OPS(churn),
		.rounds = 30,
		.schedules = 12,
		.mutants = {51},
		.config = {.image = {.fill = SIM_FILL_FULL}, .file_bytes = 192 << 10, .cuts = 1}},
};

int main(int argc, char **argv) { return crash_main(cases, sizeof(cases) / sizeof(cases[0]), argc, argv); }
