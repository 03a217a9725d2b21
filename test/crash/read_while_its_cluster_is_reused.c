/* SPDX-License-Identifier: MIT */
/* H1: a slow read of clusters that are zeroed, discarded, freed and written at other addresses meanwhile. */
#include "report.h"
#include "shrink.h"

static struct sim_op ops[] = {
	{.kind = SIM_READ, .first = 8, .sectors = 12},
	{.kind = SIM_ZERO_UNMAP, .sectors = 8},
	{.kind = SIM_DISCARD, .first = 16, .sectors = 8},
	{.kind = SIM_WRITE, .first = 96, .sectors = 11},
	{.kind = SIM_WRITE, .first = 8, .sectors = 1},
	{.kind = SIM_WRITE, .sectors = 1},
};

int main(void)
{
	const struct sim_config c = {
		.seed = 449,
		.schedule = 471,
		.image = {.version = 3,
			.cluster_bits = 12,
			.refcount_order = 4,
			.guest_bytes = 54784,
			.fill = (enum sim_fill)1,
			.lazy = 0,
			.snapshots = 0,
			.gaps_in = 8,
			.used_until = 0,
			.id = 0xfffffff0},
		.guest_most = 109568,
		.file_bytes = 4194304,
		.unit_bytes = 512,
		.options.write = true,
		.options.commit_interval_ns = 50000000,
		.latency.least = 1000,
		.latency.spread = 5000000,
		.latency.tail_in = 28,
		.latency.tail = 45000009,
		.latency.slow_in = 4,
		.latency.slow = 385077000,
		.fifo = 1,
		.overlap = 1,
		.depth = 3,
		.cuts = 32,
		.all_cuts = 256,
		.ops = ops,
		.ops_count = sizeof(ops) / sizeof(ops[0]),
	};

	sim_report_signals();
	sim_case_run(&c, 200);
	return 0;
}
