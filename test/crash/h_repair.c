/* SPDX-License-Identifier: MIT */
/* Refcounts that are put right later: lazy ones, and damaged ones. Classes H12, H15, H40. */
#include "crash.h"
#include "damage.h"

static const struct sim_op change[] = {
	{.kind = SIM_WRITE, .first = 0, .sectors = 9},
	{.kind = SIM_WRITE, .first = 12, .sectors = 5},
	{.kind = SIM_FLUSH},
	{.kind = SIM_DISCARD, .first = 4, .sectors = 8},
	{.kind = SIM_WRITE, .first = 20, .sectors = 8},
	{.kind = SIM_FLUSH},
};

static const struct sim_op change_and_reopen[] = {
	{.kind = SIM_WRITE, .first = 0, .sectors = 6},
	{.kind = SIM_ZERO_UNMAP, .first = 2, .sectors = 12},
	{.kind = SIM_FLUSH},
	{.kind = SIM_WRITE, .first = 16, .sectors = 8},
	{.kind = SIM_REOPEN},
};

static const struct sim_op change_and_cut[] = {
	{.kind = SIM_WRITE, .first = 0, .sectors = 6},
	{.kind = SIM_FLUSH},
	{.kind = SIM_DISCARD, .first = 2, .sectors = 12},
	{.kind = SIM_WRITE, .first = 16, .sectors = 8},
	{.kind = SIM_CUT, .first = 25},
	{.kind = SIM_FLUSH},
	{.kind = SIM_WRITE, .first = 10, .sectors = 8},
	{.kind = SIM_FLUSH},
};

static const struct crash_case cases[] = {
	{.name = "h12-rebuilt-refcounts",
		CRASH_OPS(change),
		.rounds = 1,
		.mutants = {90, 94},
		.config = {.image = {.fill = SIM_FILL_MIXED, .cluster_bits = 9},
			.damage = SIM_DAMAGE_STRUCTURES | SIM_DAMAGE_HIGH}},
	{.name = "h12-rebuilt-refcounts-with-errors",
		CRASH_OPS(change),
		.rounds = 1,
		.mutants = {90},
		.config = {.image = {.fill = SIM_FILL_FULL, .cluster_bits = 9},
			.damage = SIM_DAMAGE_STRUCTURES,
			.faulty = true,
			.faults = {.write_in = 12, .read_in = 60, .flush_in = 12}}},
	{.name = "h15-lazy-refcounts-and-the-dirty-bit",
		CRASH_OPS(change_and_reopen),
		.mutants = {29, 91},
		.config.image = {.fill = SIM_FILL_MIXED, .lazy = true}},
	{.name = "h15-lazy-refcounts-in-a-small-cache",
		CRASH_OPS(change_and_reopen),
		.refcount_bits = 64,
		.mutants = {29, 91},
		.config = {.image = {.fill = SIM_FILL_MIXED, .cluster_bits = 9, .lazy = true},
			.options.refcount_cache_bytes = 512}},
	{.name = "h15-recovery-is-cut-off-too",
		CRASH_OPS(change_and_cut),
		.rounds = 4,
		.mutants = {94},
		.config.image = {.fill = SIM_FILL_MIXED, .lazy = true, .snapshots = 1}},
	{.name = "h40-repair-makes-nothing-worse",
		CRASH_OPS(change),
		.rounds = 1,
		.mutants = {92},
		.config = {.image = {.fill = SIM_FILL_FULL},
			.damage = SIM_DAMAGE_TANGLE | SIM_DAMAGE_FLAGS | SIM_DAMAGE_HIGH | SIM_DAMAGE_BITS}},
	{.name = "h40-repair-stops-where-it-cannot-read",
		CRASH_OPS(change),
		.rounds = 1,
		.mutants = {136},
		.config = {.image = {.fill = SIM_FILL_FULL},
			.damage = SIM_DAMAGE_TANGLE | SIM_DAMAGE_STRUCTURES,
			.faulty = true,
			.faults = {.read_in = 10}}},
	{.name = "h40-repaired-snapshot-table",
		CRASH_OPS(change),
		.rounds = 1,
		.mutants = {94, 135},
		.config = {.image = {.fill = SIM_FILL_MIXED, .snapshots = 2},
			.damage = SIM_DAMAGE_SNAPSHOTS | SIM_DAMAGE_ENTRIES}},
	{.name = "h40-repair-beside-snapshots",
		CRASH_OPS(change),
		.rounds = 1,
		.mutants = {90, 93, 94},
		.config = {.image = {.fill = SIM_FILL_MIXED, .snapshots = 2}, .damage = SIM_DAMAGE_ALL}},
};

int main(int argc, char **argv) { return crash_main(cases, sizeof(cases) / sizeof(cases[0]), argc, argv); }
