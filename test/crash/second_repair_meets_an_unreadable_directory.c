/* SPDX-License-Identifier: MIT */
/* What a second repair can't read it doesn't call corrupt. */
#include "report.h"
#include "shrink.h"

int main(void)
{
	const struct sim_config c = {
		.seed = 9009418,
		.schedule = 9009418,
		.image = {.version = 3,
			.cluster_bits = 10,
			.refcount_order = 4,
			.guest_bytes = 53760,
			.fill = (enum sim_fill)0,
			.lazy = 0,
			.encrypted = 0,
			.extended = 0,
			.snapshots = 0,
			.gaps_in = 0,
			.used_until = 0,
			.id = 0xfffffff0,
			.bitmaps = 3,
			.names = 0},
		.damage = 27,
		.guest_most = 107520,
		.file_bytes = 8388608,
		.unit_bytes = 512,
		.device = 1,
		.options.write = true,
		.options.commit_interval_ns = 200000,
		.latency.least = 1000,
		.latency.spread = 100000,
		.latency.tail = 2000020,
		.latency.slow = 6464000,
		.fifo = 1,
		.overlap = 1,
		.bitmaps = 1,
		.depth = 1,
		.cuts = 32,
		.all_cuts = 256,
		.faulty = 1,
		.faults.read_in = 234,
		.faults.flush_in = 61,
		.faults.short_in = 7,
		.faults.sticky_from = 68096,
		.faults.sticky_to = 71168,
	};

	sim_report_signals();
	sim_case_run(&c, 200);
	return 0;
}
