/* SPDX-License-Identifier: MIT */
/*
 * What an overlay has goes into a layer below it. The order of writes:
 *
 *       the base grows, if it is smaller
 *       data and zeros of all layers above it   -> the base
 *       -------- the base is flushed: all of that is durable --------
 *       the overlay's mapping is forgotten      -> the overlay, as any other unmapping (qcow2/commit.c)
 *       the overlay is flushed
 *
 * So at any power cut the overlay reads as before: where its mapping is gone, the base has the content. A layer in between
 * isn't changed; what it shows is of no use any more.
 */
#ifndef CORRAL_JOB_COMMIT_H
#define CORRAL_JOB_COMMIT_H

#include "node/node.h"

struct commit_how {
	struct node *top, *base; /* base is below top, and both are open for writing */
	bool keep;               /* the overlay keeps its mapping */
	unsigned requests;       /* as in struct copy_how */
	uint64_t rate;
	bool (*progress)(void *arg, uint64_t done, uint64_t all);
	void *arg;
};

/* The top may be in use meanwhile only by readers. Errors are explained. */
int commit_run(struct co *co, const struct commit_how *how, struct err *err) ATTR_MUST_USE;

#endif
