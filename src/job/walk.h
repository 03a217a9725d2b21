/* SPDX-License-Identifier: MIT */
/*
 * What there is to copy of a disk: its ranges in order, each alike throughout, found by asking the node (node_status), never
 * by reading data. Neighbours that are alike are put together: to a copy it is nothing that they lie in different places.
 */
#ifndef CORRAL_JOB_WALK_H
#define CORRAL_JOB_WALK_H

#include "node/node.h"

enum walk_kind {
	WALK_DATA,
	WALK_ZERO,
	WALK_SHARED, /* only layers that the target stands on as well have it, or is */
};

struct walk_range {
	uint64_t off, len;
	enum walk_kind kind;
};

struct walk {
	struct node *from;
	const struct node *shared; /* this layer of the chain and those below it are the target's too; NULL: none is */
	uint64_t shared_size;      /* with shared: of the target's backing file */
	const struct node *own;    /* this layer is the target itself: what it has is there; NULL: another one is */
	uint64_t end;              /* how much of the disk is meant; beyond the disk's own end it reads zeros */
	uint64_t unit; /* a power of two: ranges begin and end at its multiples, and are data where any part is; or 1 */
	uint64_t at;   /* what comes next begins here */
	struct walk_range ahead; /* what has been found beyond it already; len 0: nothing */
};

void walk_init(struct walk *w, struct node *from, uint64_t end);

/* The next range. Data has at most `most` bytes (whole units) and ends at a multiple of it. *more is false at the end. */
int walk_next(struct co *co, struct walk *w, uint64_t most, struct walk_range *out, bool *more) ATTR_MUST_USE;

/* Keeps at most so many bytes (whole units) of the range that walk_next just gave; the rest comes next. */
void walk_shorten(struct walk *w, struct walk_range *r, uint64_t most);

#endif
