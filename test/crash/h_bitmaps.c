/* SPDX-License-Identifier: MIT */
/* Bitmaps that say too little: H29, H30. What a valid bitmap must have is judged in every crash image. */
#include "crash.h"

/* Every kind of change, at odd places, between openings that store the bitmaps and power cuts that don't. */
static const struct sim_op changes[] = {
	{.kind = SIM_WRITE, .first = 3, .sectors = 7},
	{.kind = SIM_FLUSH},
	{.kind = SIM_ZERO_UNMAP, .first = 12, .sectors = 4},
	{.kind = SIM_REOPEN},
	{.kind = SIM_DISCARD, .first = 17, .sectors = 6},
	{.kind = SIM_WRITE_FUA, .first = 30, .sectors = 1},
	{.kind = SIM_REOPEN},
	{.kind = SIM_ZERO, .first = 1, .sectors = 1},
	{.kind = SIM_FLUSH, .idle = true},
	{.kind = SIM_CUT, .first = 9},
	{.kind = SIM_WRITE, .first = 20, .sectors = 3},
	{.kind = SIM_FLUSH},
	{.kind = SIM_BITMAP_REMOVE},
	{.kind = SIM_BITMAP_ADD, .sectors = 1},
	{.kind = SIM_REOPEN},
};

/* A disk that grows, with bitmaps of both kinds; they are stored for its new size. */
static const struct sim_op grow[] = {
	{.kind = SIM_BITMAP_DISABLE, .first = 1},
	{.kind = SIM_WRITE, .first = 0, .sectors = 4},
	{.kind = SIM_RESIZE, .sectors = 45},
	{.kind = SIM_WRITE, .first = 40, .sectors = 5},
	{.kind = SIM_REOPEN},
	{.kind = SIM_RESIZE, .sectors = 80},
	{.kind = SIM_BITMAP_MERGE, .first = 1, .sectors = 2},
	{.kind = SIM_DISCARD, .first = 70, .sectors = 9},
	{.kind = SIM_REOPEN},
};

/* Edits one after the other: whatever a power cut finds is the bitmaps of before or of after. */
static const struct sim_op edits[] = {
	{.kind = SIM_BITMAP_DISABLE, .first = 0},
	{.kind = SIM_WRITE, .first = 5, .sectors = 9},
	{.kind = SIM_BITMAP_CLEAR, .first = 0},
	{.kind = SIM_BITMAP_MERGE, .first = 0, .sectors = 1},
	{.kind = SIM_BITMAP_ENABLE, .first = 0},
	{.kind = SIM_BITMAP_REMOVE, .first = 2},
	{.kind = SIM_WRITE, .first = 11, .sectors = 2},
	{.kind = SIM_FLUSH},
	{.kind = SIM_BITMAP_ADD, .first = 2, .sectors = 3},
	{.kind = SIM_BITMAP_CLEAR, .first = 1},
	{.kind = SIM_BITMAP_DISABLE, .first = 1},
	{.kind = SIM_REOPEN},
	{.kind = SIM_BITMAP_REMOVE, .first = 0},
	{.kind = SIM_BITMAP_REMOVE, .first = 1},
	{.kind = SIM_BITMAP_REMOVE, .first = 2},
	{.kind = SIM_REOPEN},
	{.kind = SIM_BITMAP_ADD, .first = 0, .sectors = 1},
	{.kind = SIM_BITMAP_ADD, .first = 1, .sectors = 2},
	{.kind = SIM_BITMAP_ADD, .first = 2, .sectors = 4},
};

/* The whole disk changes at once, and its size; the snapshots are those from before it grew and after. */
static const struct sim_op go_back[] = {
	{.kind = SIM_SNAPSHOT_CREATE},
	{.kind = SIM_WRITE, .first = 8, .sectors = 6},
	{.kind = SIM_RESIZE, .sectors = 51},
	{.kind = SIM_SNAPSHOT_CREATE},
	{.kind = SIM_BITMAP_CLEAR, .first = 0},
	{.kind = SIM_SNAPSHOT_GOTO, .first = 0},
	{.kind = SIM_REOPEN},
	{.kind = SIM_BITMAP_CLEAR, .first = 1},
	{.kind = SIM_SNAPSHOT_GOTO, .first = 1},
	{.kind = SIM_REOPEN},
};

/* An image that has none yet, on a host that fails: one that couldn't be stored isn't there, and doesn't come back. */
static const struct sim_op first_ones[] = {
	{.kind = SIM_BITMAP_ADD, .first = 0, .sectors = 1},
	{.kind = SIM_WRITE, .first = 5, .sectors = 9},
	{.kind = SIM_BITMAP_ADD, .first = 1, .sectors = 1},
	{.kind = SIM_REOPEN},
	{.kind = SIM_BITMAP_REMOVE, .first = 0},
	{.kind = SIM_BITMAP_REMOVE, .first = 1},
	{.kind = SIM_REOPEN},
};

static const struct crash_case cases[] = {
	{.name = "h30-bitmaps-miss-no-write",
		CRASH_OPS(changes),
		.mutants = {83, 85, 86, 87},
		.config = {.bitmaps = true, .image = {.fill = SIM_FILL_MIXED, .bitmaps = 3}}},
	{.name = "h30-bitmaps-of-a-disk-that-grows",
		CRASH_OPS(grow),
		.rounds = 1,
		.mutants = {83, 85},
		.config = {.bitmaps = true,
			.image = {.cluster_bits = 9, .guest_bytes = 33 * SIM_SECTOR, .bitmaps = 3},
			.guest_most = 90 * SIM_SECTOR}},
	{.name = "h30-bitmaps-of-a-disk-that-goes-back",
		CRASH_OPS(go_back),
		.rounds = 1,
		.mutants = {83, 86},
		.config = {.bitmaps = true,
			.image = {.guest_bytes = 33 * SIM_SECTOR, .fill = SIM_FILL_MIXED, .bitmaps = 3},
			.guest_most = 60 * SIM_SECTOR}},
	{.name = "h30-first-bitmaps-that-fail",
		CRASH_OPS(first_ones),
		.mutants = {137},
		.config = {.bitmaps = true,
			.image = {.fill = SIM_FILL_MIXED, .gaps_in = 2},
			.faulty = true,
			.faults = {.write_in = 12}}},
	{.name = "h29-edits-are-whole",
		CRASH_OPS(edits),
		.rounds = 2,
		.mutants = {84},
		.config = {.bitmaps = true, .image = {.cluster_bits = 12, .bitmaps = 3, .names = 8}}},
};

int main(int argc, char **argv) { return crash_main(cases, sizeof(cases) / sizeof(cases[0]), argc, argv); }
