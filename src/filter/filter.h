/* SPDX-License-Identifier: MIT */
/* Nodes over one child, which they own. They pass size, alignment and everything else through. */
#ifndef CORRAL_FILTER_FILTER_H
#define CORRAL_FILTER_FILTER_H

#include "node/node.h"

/* Every request waits first. A park rule holds those that touch one range, to show what waits for what. */
struct delay_rules {
	uint64_t read_ns, write_ns, flush_ns; /* zero and discard count as writes */
	/* Requests of these kinds that overlap [park_off, park_off + park_len) wait park_ns, once or every time. */
	bool park_reads, park_writes, park_once;
	uint64_t park_off, park_len, park_ns;
};

struct delay_counts { /* since the node was made */
	uint64_t reads, writes, flushes, zeroes, discards, parked;
	unsigned in_flight, most_in_flight;
};

/* The disk is what lies in a window of the child. */
#define RAW_ALL UINT64_MAX
struct raw_window {
	uint64_t off, size; /* size: RAW_ALL, or a multiple of 512 */
	bool guarded; /* a write that would make the start look like qcow2 is -EPERM: nobody has said that it is raw */
};

/* -EINVAL: it isn't all inside the child. The child is taken over on success. */
int raw_open(struct co *co, struct node *child, const struct raw_window *window, struct node **out, struct err *err)
	ATTR_MUST_USE;

/* On success the child belongs to the filter; on failure it stays the caller's. */
int delay_open(struct co *co, struct node *child, const struct delay_rules *rules, struct node **out) ATTR_MUST_USE;
struct delay_rules *delay_rules(struct node *n); /* may be changed while it runs */
const struct delay_counts *delay_counts(const struct node *n);

#endif
