/* SPDX-License-Identifier: MIT */
/* What an image is changes between two lives, and the power is cut meanwhile. Classes H12, H15, H24, H26, H29. */
#include "crash.h"

/* first: the power is cut after so many events; the amendment is then made once more. */
static const struct sim_op widths[] = {
	{.kind = SIM_WRITE, .first = 0, .sectors = 9},
	{.kind = SIM_DISCARD, .first = 4, .sectors = 4},
	{.kind = SIM_AMEND, .sectors = SIM_AMENDMENT(0, 6, 0), .first = 12},
	{.kind = SIM_WRITE, .first = 12, .sectors = 8},
	{.kind = SIM_AMEND, .sectors = SIM_AMENDMENT(0, 2, 0), .first = 30},
	{.kind = SIM_ZERO_UNMAP, .first = 2, .sectors = 12},
	{.kind = SIM_FLUSH},
	{.kind = SIM_AMEND, .sectors = SIM_AMENDMENT(0, 5, 0)},
};

static const struct sim_op versions[] = {
	{.kind = SIM_ZERO_UNMAP, .first = 0, .sectors = 8},
	{.kind = SIM_ZERO, .first = 14, .sectors = 6},
	{.kind = SIM_AMEND, .sectors = SIM_AMENDMENT(2, 4, 0), .first = 25},
	{.kind = SIM_WRITE, .first = 2, .sectors = 3},
	{.kind = SIM_READ, .first = 0, .sectors = 32},
	{.kind = SIM_AMEND, .sectors = SIM_AMENDMENT(3, 7, 0), .first = 6},
	{.kind = SIM_WRITE, .first = 20, .sectors = 6},
	{.kind = SIM_AMEND, .sectors = SIM_AMENDMENT(2, 4, 0)},
	{.kind = SIM_AMEND, .sectors = SIM_AMENDMENT(3, 4, 0)},
};

static const struct sim_op lazy[] = {
	{.kind = SIM_WRITE, .first = 0, .sectors = 9},
	{.kind = SIM_AMEND, .sectors = SIM_AMENDMENT(0, 7, QCOW2_ON), .first = 10},
	{.kind = SIM_WRITE, .first = 6, .sectors = 9},
	{.kind = SIM_DISCARD, .first = 2, .sectors = 9},
	{.kind = SIM_FLUSH},
	{.kind = SIM_AMEND, .sectors = SIM_AMENDMENT(0, 7, QCOW2_OFF), .first = 8},
	{.kind = SIM_WRITE, .first = 20, .sectors = 9},
	{.kind = SIM_AMEND, .sectors = SIM_AMENDMENT(0, 3, QCOW2_ON), .first = 20},
	{.kind = SIM_WRITE, .first = 3, .sectors = 9},
	{.kind = SIM_CUT, .first = 20},
	{.kind = SIM_FLUSH},
};

/* The header is rewritten, whatever else it says. */
static const struct sim_op headers[] = {
	{.kind = SIM_WRITE, .first = 3, .sectors = 5},
	{.kind = SIM_AMEND, .sectors = SIM_AMENDMENT(3, 6, QCOW2_ON), .first = 9},
	{.kind = SIM_WRITE, .first = 11, .sectors = 5},
	{.kind = SIM_AMEND, .sectors = SIM_AMENDMENT(3, 4, QCOW2_OFF)},
	{.kind = SIM_READ, .first = 0, .sectors = 32},
};

static const struct crash_case cases[] = {
	{.name = "h12-refcounts-of-another-width",
		CRASH_OPS(widths),
		.rounds = 1,
		.mutants = {105, 106, 107},
		.config.image = {.fill = SIM_FILL_MIXED, .cluster_bits = 9}},
	{.name = "h12-widths-beside-snapshots",
		CRASH_OPS(widths),
		.rounds = 1,
		.mutants = {105, 106, 107},
		.config.image = {.fill = SIM_FILL_FULL, .snapshots = 2, .gaps_in = 3}},
	{.name = "h12-widths-with-errors",
		CRASH_OPS(widths),
		.rounds = 1,
		.mutants = {105, 106},
		.config = {.image = {.fill = SIM_FILL_MIXED, .cluster_bits = 9},
			.faulty = true,
			.faults = {.write_in = 25, .read_in = 60, .flush_in = 25}}},
	{.name = "h15-lazy-refcounts-come-and-go",
		CRASH_OPS(lazy),
		.mutants = {29, 91},
		.config.image = {.fill = SIM_FILL_MIXED}},
	{.name = "h26-version-2-over-a-backing-file",
		CRASH_OPS(versions),
		.mutants = {109, 110},
		.config = {.image = {.fill = SIM_FILL_MIXED},
			.below = SIM_BELOW_RAW,
			.base = {.guest_bytes = 32 * SIM_SECTOR}}},
	{.name = "h26-version-2-beside-snapshots",
		CRASH_OPS(versions),
		.mutants = {108, 110, 111},
		.config = {.image = {.fill = SIM_FILL_ZERO, .snapshots = 2},
			.below = SIM_BELOW_QCOW2,
			.base = {.guest_bytes = 20 * SIM_SECTOR, .fill = SIM_FILL_FULL}}},
	{.name = "h29-bitmaps-outlive-amendments",
		CRASH_OPS(headers),
		.mutants = {112},
		.config = {.bitmaps = true, .image = {.fill = SIM_FILL_MIXED, .bitmaps = 3}}},
	{.name = "h24-compression-type-outlives-amendments",
		CRASH_OPS(headers),
		.mutants = {113},
		.config.image = {.fill = SIM_FILL_FULL, .compressed_in = 2, .compression = SIM_ZSTD}},
};

/* The last one needs zstd. */
int main(int argc, char **argv)
{
	unsigned n = sizeof(cases) / sizeof(cases[0]);

	return crash_main(cases, sim_codec_there(SIM_ZSTD) ? n : n - 1, argc, argv);
}
