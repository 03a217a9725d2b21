/* SPDX-License-Identifier: MIT */
/* Snapshots that come, go and are gone back to while the disk is written: classes H13, H14, H21. */
#include "crash.h"

static const struct sim_op create_while_writing[] = {
	{.kind = SIM_WRITE, .first = 0, .sectors = 8},
	{.kind = SIM_SNAPSHOT_CREATE},
	{.kind = SIM_WRITE, .first = 2, .sectors = 4},
	{.kind = SIM_WRITE, .first = 9, .sectors = 6},
	{.kind = SIM_DISCARD, .first = 4, .sectors = 8},
	{.kind = SIM_FLUSH},
	{.kind = SIM_WRITE, .first = 1, .sectors = 1},
	{.kind = SIM_SNAPSHOT_DELETE, .idle = true},
	{.kind = SIM_WRITE, .first = 60, .sectors = 4},
};

static const struct sim_op delete_while_writing[] = {
	{.kind = SIM_SNAPSHOT_DELETE},
	{.kind = SIM_WRITE, .first = 0, .sectors = 3},
	{.kind = SIM_WRITE, .first = 12, .sectors = 8},
	{.kind = SIM_FLUSH},
	{.kind = SIM_SNAPSHOT_CREATE, .idle = true},
	{.kind = SIM_WRITE, .first = 5, .sectors = 1},
	{.kind = SIM_WRITE, .first = 0, .sectors = 2},
};

static const struct sim_op go_back[] = {
	{.kind = SIM_WRITE, .first = 0, .sectors = 7},
	{.kind = SIM_SNAPSHOT_GOTO},
	{.kind = SIM_WRITE, .first = 3, .sectors = 8},
	{.kind = SIM_SNAPSHOT_CREATE},
	{.kind = SIM_WRITE, .first = 4, .sectors = 2},
	{.kind = SIM_SNAPSHOT_GOTO, .first = 1},
	{.kind = SIM_DISCARD, .first = 0, .sectors = 6},
	{.kind = SIM_SNAPSHOT_READ},
	{.kind = SIM_SNAPSHOT_DELETE, .first = 2},
};

/* The power goes in the middle; what it leaves is put right while the next snapshot is already wanted. */
static const struct sim_op interrupt[] = {
	{.kind = SIM_WRITE, .first = 0, .sectors = 16},
	{.kind = SIM_CUT, .first = 14},
	{.kind = SIM_SNAPSHOT_CREATE},
	{.kind = SIM_SNAPSHOT_DELETE},
	{.kind = SIM_WRITE, .first = 2, .sectors = 3},
	{.kind = SIM_CUT, .first = 9},
	{.kind = SIM_SNAPSHOT_CREATE, .delay_us = 20},
	{.kind = SIM_SNAPSHOT_DELETE},
	{.kind = SIM_SNAPSHOT_CREATE},
};

static const struct sim_op too_many[] = {
	{.kind = SIM_WRITE, .first = 0, .sectors = 8},
	{.kind = SIM_SNAPSHOT_CREATE},
	{.kind = SIM_SNAPSHOT_CREATE},
	{.kind = SIM_WRITE, .first = 3, .sectors = 2},
	{.kind = SIM_SNAPSHOT_CREATE},
	{.kind = SIM_SNAPSHOT_GOTO},
	{.kind = SIM_WRITE, .first = 6, .sectors = 8},
};

/* Two L2 tables, and more. */
#define DISK .fill = SIM_FILL_FULL, .cluster_bits = 9, .guest_bytes = 160 * SIM_SECTOR

static const struct crash_case cases[] = {
	{.name = "h13-tables-are-frozen-before-they-are-copied",
		CRASH_OPS(create_while_writing),
		.mutants = {24, 78},
		.config = {.image = {DISK}, .weight[SIM_SNAPSHOT_CREATE] = 1}},
	{.name = "h14-create-references-before-the-header",
		CRASH_OPS(create_while_writing),
		.mutants = {25},
		.config = {.image = {DISK}, .weight[SIM_SNAPSHOT_CREATE] = 1, .audit = true}},
	{.name = "h14-delete-header-before-the-references",
		CRASH_OPS(delete_while_writing),
		.mutants = {79, 80},
		.config = {.image = {DISK, .snapshots = 2}, .weight[SIM_SNAPSHOT_CREATE] = 1, .audit = true}},
	{.name = "h14-goto-by-the-header-alone",
		CRASH_OPS(go_back),
		.mutants = {26},
		.config = {.image = {DISK, .snapshots = 1}, .weight[SIM_SNAPSHOT_CREATE] = 1}},
	{.name = "h14-what-an-interruption-leaves-is-put-right",
		CRASH_OPS(interrupt),
		.mutants = {81},
		.config = {.image = {DISK}, .weight[SIM_SNAPSHOT_CREATE] = 1, .audit = true}},
	{.name = "h21-refcounts-that-hold-no-more",
		CRASH_OPS(too_many),
		.refcount_bits = 2,
		.mutants = {82},
		.config = {.image = {DISK}, .weight[SIM_SNAPSHOT_CREATE] = 1, .audit = true}},
};

int main(int argc, char **argv) { return crash_main(cases, sizeof(cases) / sizeof(cases[0]), argc, argv); }
