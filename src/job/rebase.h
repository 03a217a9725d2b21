/* SPDX-License-Identifier: MIT */
/*
 * An overlay gets another backing file and reads as before. The order of writes:
 *
 *       where the overlay has nothing, and the old chain differs from the new one: what the old one reads   -> the overlay
 *       -------- the overlay is flushed: all of that is durable --------
 *       its header names the new backing file                                                               -> one sector
 *
 * At any power cut the overlay reads as before: on the old chain what was copied is what reads there, and on the new one
 * all that differs is copied. Whoever reads a snapshot inside of the overlay sees the new chain where the snapshot has
 * nothing: it isn't looked at, and QEMU's tool doesn't, either.
 */
#ifndef CORRAL_JOB_REBASE_H
#define CORRAL_JOB_REBASE_H

#include "node/node.h"

struct rebase_how {
	struct node *top; /* open for writing, on its old chain; what is zeroed in it reads zeros on the new one, too */
	struct node *fresh; /* the new backing file; may be of the old chain; NULL: there will be none */
	bool compressed;    /* what is copied is compressed, in whole clusters */
	unsigned requests;  /* in flight; 0: as many as is sensible */
	/* The header of top is to name the new backing file, in one sector's write. */
	int (*switch_over)(struct co *co, void *arg, struct err *err);
	bool (*progress)(void *arg, uint64_t done, uint64_t all); /* as in struct copy_how */
	void *arg;
};

/* top has its old chain as long as it is open. Errors are explained. */
int rebase_run(struct co *co, const struct rebase_how *how, struct err *err) ATTR_MUST_USE;

#endif
