/* SPDX-License-Identifier: MIT */
/* A storage node in memory that tells what was done to it, can hold requests up, and can fail. */
#ifndef CORRAL_TEST_EXPORT_MEM_H
#define CORRAL_TEST_EXPORT_MEM_H

#include "node/node.h"

struct mem {
	struct node node;
	uint8_t *data;
	unsigned reads, writes, fua_writes, zeroes, discards, flushes;
	unsigned last_zero_flags;
	unsigned in_flight, most_in_flight;
	int fail_reads, fail_writes, fail_flushes; /* a negative errno for the next ones */
	bool hold;                                 /* reads and writes wait */
	struct co_queue held;
	bool no_fast_zero;
};

struct mem *mem_new(struct co *co, uint64_t size);
void mem_release(struct mem *m); /* ends the hold */

#endif
