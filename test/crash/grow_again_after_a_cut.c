/* SPDX-License-Identifier: MIT */
/* A version 2 disk over a longer backing file whose growing was cut off by a power failure must grow when asked again. */
#include "report.h"
#include "shrink.h"

static struct sim_op ops[] = {
	{.kind = SIM_CUT, .first = 32},
	{.kind = SIM_WRITE_FUA, .sectors = 1},
	{.kind = SIM_ZERO_UNMAP, .first = 4, .sectors = 1},
	{.kind = SIM_ZERO_UNMAP, .first = 4, .sectors = 1, .delay_us = 1678},
	{.kind = SIM_RESIZE, .sectors = 18},
	{.kind = SIM_WRITE_FUA, .first = 12, .sectors = 1},
	{.kind = SIM_RESIZE, .sectors = 18},
};

int main(void)
{
	const struct sim_config c = {
		.seed = 5197,
		.schedule = 5307,
		.image = {.version = 2,
			.cluster_bits = 11,
			.refcount_order = 4,
			.guest_bytes = 4608,
			.fill = (enum sim_fill)0,
			.lazy = 0,
			.snapshots = 1,
			.gaps_in = 2,
			.used_until = 0,
			.id = 0xfffffff0,
			.backing = "base",
			.backing_format = "raw"},
		.below = (enum sim_below_kind)1,
		.base = {.version = 2,
			.cluster_bits = 10,
			.refcount_order = 4,
			.guest_bytes = 23552,
			.fill = (enum sim_fill)3,
			.lazy = 0,
			.snapshots = 0,
			.gaps_in = 0,
			.used_until = 0,
			.id = 0xfffffff1},
		.guest_most = 9216,
		.file_bytes = 4194304,
		.unit_bytes = 512,
		.options.write = true,
		.options.commit_interval_ns = 200000,
		.latency.least = 1000,
		.latency.tail = 7,
		.latency.slow = 98000,
		.fifo = 1,
		.depth = 1,
		.cuts = 32,
		.all_cuts = 256,
		.faults.again_in = 30,
		.ops = ops,
		.ops_count = sizeof(ops) / sizeof(ops[0]),
	};

	sim_report_signals();
	sim_case_run(&c, 200);
	return 0;
}
