/* SPDX-License-Identifier: MIT */
/*
 * Class H37 where the host goes on: a flush has failed, the page cache shows what the storage doesn't have, and whoever opens
 * the image next acts on it. Each list has little else to act on than what its name says.
 */
#include "crash.h"

static const struct sim_op allocations[] = {
	{.kind = SIM_WRITE, .first = 0, .sectors = 4},
	{.kind = SIM_WRITE, .first = 20, .sectors = 6},
	{.kind = SIM_FLUSH},
	{.kind = SIM_WRITE, .first = 8, .sectors = 4},
	{.kind = SIM_CUT, .first = 4},
	{.kind = SIM_READ, .first = 0, .sectors = 32},
};

static const struct sim_op discards[] = {
	{.kind = SIM_DISCARD, .first = 0, .sectors = 8},
	{.kind = SIM_FLUSH},
	{.kind = SIM_REOPEN},
	{.kind = SIM_READ, .first = 0, .sectors = 32, .delay_us = 4000},
	{.kind = SIM_DISCARD, .first = 12, .sectors = 8},
	{.kind = SIM_FLUSH},
	{.kind = SIM_REOPEN},
	{.kind = SIM_READ, .first = 0, .sectors = 32, .delay_us = 4000},
};

static const struct sim_op overwrites[] = {
	{.kind = SIM_WRITE, .first = 4, .sectors = 2},
	{.kind = SIM_FLUSH, .idle = true},
	{.kind = SIM_REOPEN},
	{.kind = SIM_WRITE, .first = 4, .sectors = 2, .idle = true},
	{.kind = SIM_FLUSH, .idle = true},
	{.kind = SIM_REOPEN},
};

/* What is written last lies where something else lay before. */
static const struct sim_op reads[] = {
	{.kind = SIM_WRITE, .first = 0, .sectors = 8},
	{.kind = SIM_FLUSH, .idle = true},
	{.kind = SIM_DISCARD, .first = 0, .sectors = 8},
	{.kind = SIM_FLUSH, .idle = true},
	{.kind = SIM_WRITE, .first = 16, .sectors = 8, .idle = true},
	{.kind = SIM_FLUSH, .idle = true},
	{.kind = SIM_READ, .first = 0, .sectors = 32},
	{.kind = SIM_READ, .first = 0, .sectors = 32},
	{.kind = SIM_DISCARD, .first = 16, .sectors = 8, .idle = true},
	{.kind = SIM_REOPEN},
};

static const struct sim_op widths[] = {
	{.kind = SIM_WRITE, .first = 0, .sectors = 3},
	{.kind = SIM_AMEND, .sectors = SIM_AMENDMENT(0, 6, 0)},
	{.kind = SIM_WRITE, .first = 4, .sectors = 2},
	{.kind = SIM_AMEND, .sectors = SIM_AMENDMENT(0, 3, 0)},
};

static const struct crash_case cases[] = {
	{.name = "h37-recovery-after-a-failed-flush",
		CRASH_OPS(allocations),
		.mutants = {150},
		.config = {.image.lazy = true,
			.options.keep_leaks = true,
			.faulty = true,
			.faults.flush_in = 4,
			.spared_in = 1}},
	{.name = "h37-search-for-leaks-after-a-failed-flush",
		CRASH_OPS(discards),
		.mutants = {150},
		.config = {.image.fill = SIM_FILL_FULL, .faulty = true, .faults.flush_in = 4, .spared_in = 1}},
	{.name = "h37-write-in-place-after-a-failed-flush",
		CRASH_OPS(overwrites),
		.mutants = {150},
		.config = {.options.keep_leaks = true, .faulty = true, .faults.flush_in = 4, .spared_in = 1}},
	{.name = "h37-nothing-is-read-after-a-failed-flush",
		CRASH_OPS(reads),
		.mutants = {151},
		.config = {.options.no_discard = true, .faulty = true, .faults.flush_in = 4, .spared_in = 2}},
	{.name = "h37-what-an-opening-finds-is-durable",
		CRASH_OPS(widths),
		.mutants = {152},
		.config = {.image = {.fill = SIM_FILL_FULL, .bitmaps = 2},
			.bitmaps = true,
			.faulty = true,
			.faults.flush_in = 8,
			.spared_in = 1}},
};

int main(int argc, char **argv) { return crash_main(cases, sizeof(cases) / sizeof(cases[0]), argc, argv); }
