/* SPDX-License-Identifier: MIT */
/* A repair that can no longer read a table leaves its COPIED flags as they are: then no refcount may rise either. */
#include "report.h"
#include "shrink.h"

int main(void)
{
	const struct sim_config c = {
		.seed = 1009008710,
		.schedule = 1009008710,
		.image = {.version = 3,
			.cluster_bits = 11,
			.refcount_order = 4,
			.guest_bytes = 40448,
			.fill = (enum sim_fill)2,
			.lazy = 0,
			.encrypted = 0,
			.extended = 0,
			.snapshots = 0,
			.gaps_in = 0,
			.used_until = 0,
			.id = 0xfffffff0},
		.damage = 27,
		.recovery_cuts[0] = 16,
		.recovery_cuts[1] = 5,
		.guest_most = 80896,
		.file_bytes = 4194304,
		.unit_bytes = 4096,
		.options.write = true,
		.options.commit_interval_ns = 2000000,
		.latency.least = 1000,
		.latency.spread = 5000000,
		.latency.tail = 30000006,
		.latency.slow = 105021000,
		.fifo = 1,
		.depth = 1,
		.cuts = 32,
		.all_cuts = 256,
		.faulty = 1,
		.faults.read_in = 116,
		.faults.write_in = 194,
		.faults.zero_in = 228,
		.faults.full_in = 19,
	};

	sim_report_signals();
	sim_case_run(&c, 200);
	return 0;
}
