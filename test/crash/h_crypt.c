/* SPDX-License-Identifier: MIT */
/* Encrypted images: class H31, and H27, H29, H43 where data is encrypted. What is read and judged is decrypted. */
#include "crash.h"

/* Parts of clusters, so that each copy has a head, data and a tail; over what there is, and over nothing. */
static const struct sim_op parts[] = {
	{.kind = SIM_WRITE, .first = 1, .sectors = 1},
	{.kind = SIM_WRITE, .first = 10, .sectors = 4},
	{.kind = SIM_READ, .first = 0, .sectors = 24},
	{.kind = SIM_FLUSH},
	{.kind = SIM_WRITE, .first = 17, .sectors = 2},
	{.kind = SIM_DISCARD, .first = 8, .sectors = 8},
	{.kind = SIM_WRITE_FUA, .first = 14, .sectors = 3},
	{.kind = SIM_ZERO, .first = 2, .sectors = 3},
	{.kind = SIM_WRITE, .first = 23, .sectors = 9},
	{.kind = SIM_READ, .first = 0, .sectors = 32, .idle = true},
};

static const struct sim_op grow[] = {
	{.kind = SIM_WRITE, .first = 18, .sectors = 3},
	{.kind = SIM_RESIZE, .sectors = 30},
	{.kind = SIM_READ, .first = 0, .sectors = 30},
	{.kind = SIM_WRITE, .first = 25, .sectors = 2},
	{.kind = SIM_FLUSH},
	{.kind = SIM_RESIZE, .sectors = 45},
	{.kind = SIM_READ, .first = 0, .sectors = 45},
	{.kind = SIM_REOPEN},
	{.kind = SIM_READ, .first = 0, .sectors = 45},
};

static const struct sim_op amend[] = {
	{.kind = SIM_WRITE, .first = 3, .sectors = 5},
	{.kind = SIM_ZERO_UNMAP, .first = 12, .sectors = 6},
	{.kind = SIM_AMEND, .sectors = SIM_AMENDMENT(2, 4, 0), .first = 20},
	{.kind = SIM_WRITE, .first = 11, .sectors = 5},
	{.kind = SIM_AMEND, .sectors = SIM_AMENDMENT(3, 5, 0)},
	{.kind = SIM_READ, .first = 0, .sectors = 32},
};

static const struct crash_case cases[] = {
	{.name = "h31-every-sector-is-encrypted-by-its-own-place",
		CRASH_OPS(parts),
		.mutants = {88},
		.config.image = {.encrypted = true, .fill = SIM_FILL_MIXED, .cluster_bits = 12}},
	{.name = "h31-copies-of-shared-clusters",
		CRASH_OPS(parts),
		.mutants = {88},
		.config.image = {.encrypted = true, .fill = SIM_FILL_FULL, .cluster_bits = 11, .snapshots = 1}},
	{.name = "h31-over-an-encrypted-image",
		CRASH_OPS(parts),
		.mutants = {88},
		.config = {.image = {.encrypted = true},
			.below = SIM_BELOW_QCOW2,
			.base = {.encrypted = true, .guest_bytes = 20 * SIM_SECTOR, .fill = SIM_FILL_FULL}}},
	{.name = "h31-in-a-data-file",
		CRASH_OPS(parts),
		.mutants = {88},
		.config.image = {.encrypted = true, .data = SIM_DATA_FILE, .fill = SIM_FILL_FULL, .cluster_bits = 11}},
	{.name = "h31-fresh-space-is-not-zero",
		CRASH_OPS(parts),
		.mutants = {89},
		.config.image = {.encrypted = true, .cluster_bits = 11}},
	{.name = "h27-grown-space-is-encrypted-zeros",
		CRASH_OPS(grow),
		.rounds = 1,
		.config = {.image = {.encrypted = true,
				   .cluster_bits = 12,
				   .fill = SIM_FILL_FULL,
				   .guest_bytes = 21 * SIM_SECTOR},
			.guest_most = 48 * SIM_SECTOR}},
	{.name = "h29-encryption-header-outlives-amendments",
		CRASH_OPS(amend),
		.mutants = {114},
		.config = {.image = {.encrypted = true, .fill = SIM_FILL_MIXED},
			.below = SIM_BELOW_RAW,
			.base = {.guest_bytes = 32 * SIM_SECTOR}}},
	{.name = "h43-encrypted-clusters-smaller-than-blocks",
		CRASH_OPS(parts),
		.config = {.image = {.encrypted = true, .fill = SIM_FILL_MIXED, .cluster_bits = 9},
			.unit_bytes = 4096}},
};

int main(int argc, char **argv) { return crash_main(cases, sizeof(cases) / sizeof(cases[0]), argc, argv); }
