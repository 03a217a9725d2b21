/* SPDX-License-Identifier: MIT */
/* The first bitmap of an image that could not be written is not there: the next one must not bring it back. */
#include "report.h"
#include "shrink.h"

static struct sim_op ops[] = {
	{.kind = SIM_WRITE_FUA, .first = 2, .sectors = 2},
	{.kind = SIM_DISCARD, .first = 14, .sectors = 2},
	{.kind = SIM_WRITE_FUA, .first = 2, .sectors = 2},
	{.kind = SIM_DISCARD, .first = 4, .sectors = 2},
	{.kind = SIM_BITMAP_ADD, .sectors = 1},
	{.kind = SIM_BITMAP_ADD, .first = 1, .sectors = 1},
};

int main(void)
{
	const struct sim_config c = {
		.seed = 50001064,
		.schedule = 50001098,
		.image = {.version = 3,
			.cluster_bits = 15,
			.refcount_order = 4,
			.guest_bytes = 18944,
			.fill = (enum sim_fill)2,
			.lazy = 0,
			.encrypted = 0,
			.extended = 1,
			.snapshots = 0,
			.gaps_in = 0,
			.used_until = 0,
			.id = 0xfffffff0,
			.bitmaps = 0,
			.names = 9},
		.damage = 13,
		.guest_most = 37888,
		.file_bytes = 16777216,
		.unit_bytes = 512,
		.options.write = true,
		.options.commit_interval_ns = 200000,
		.options.no_discard = 1,
		.latency.least = 1000,
		.latency.spread = 100000,
		.latency.tail = 600006,
		.latency.slow = 6060000,
		.fifo = 1,
		.depth = 1,
		.cuts = 32,
		.all_cuts = 256,
		.faulty = 1,
		.faults.read_in = 70,
		.faults.write_in = 59,
		.faults.zero_in = 115,
		.faults.short_in = 18,
		.faults.again_in = 17,
		.faults.full_in = 53,
		.faults.no_zero = 1,
		.bitmaps = true,
		.ops = ops,
		.ops_count = sizeof(ops) / sizeof(ops[0]),
	};

	sim_report_signals();
	sim_case_run(&c, 60);
	return 0;
}
