/* SPDX-License-Identifier: MIT */
/* corral bench: what is asked for (bench.c), and the load (bench_load.c). */
#ifndef CORRAL_CLI_BENCH_H
#define CORRAL_CLI_BENCH_H

#include "cli/open.h"
#include "co/sync.h"
#include "export/stats.h"

struct bench {
	/* the command line */
	unsigned requests, depth, flush_interval; /* 0: no flush */
	uint64_t offset, bytes, step;             /* step: 0: as long as a request */
	uint64_t seed;                            /* 0: in order */
	unsigned reads_percent;                   /* of a mix */
	uint8_t pattern;
	bool write, mix, no_drain;

	/* the run */
	struct node *node;
	struct co_group group;
	struct co_queue gate; /* where requests wait while what is in flight goes out for a flush */
	char *memory;         /* depth times bytes */
	unsigned left, in_flight, workers;
	bool draining;
	int failed; /* the first failure */

	/* what was measured */
	uint64_t ns;
	double cpu_s; /* of the process, helper threads and the kernel's work for it included */
	struct export_stats stats;
	struct co_turns turns;
};

/* 0, or the failure of the first request that failed. */
int bench_load_run(struct co *co, struct bench *b) ATTR_MUST_USE;

#endif
