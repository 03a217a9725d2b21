/* SPDX-License-Identifier: MIT */
/*
 * The payload buffers of one connection. Sizes are powers of two from 4 KiB to 32 MiB, aligned for O_DIRECT. A connection
 * has NBD_POOL_OWN bytes for itself, and beyond that what it gets of a budget that all connections of the server share,
 * up to NBD_POOL_BYTES; whoever wants more waits. So a client that asks for much and takes nothing can hold what it
 * has, but the others always have their own. Of the budget, who came first gets first. Up to NBD_POOL_KEPT bytes stay here
 * when they come back, so that a steady load of small requests allocates nothing.
 */
#ifndef CORRAL_EXPORT_NBD_POOL_H
#define CORRAL_EXPORT_NBD_POOL_H

#include "co/sync.h"

#define NBD_BUDGET_BYTES (UINT64_C(256) << 20)
#define NBD_POOL_BYTES (UINT64_C(64) << 20)
#define NBD_POOL_OWN (UINT64_C(1) << 20)
#define NBD_POOL_KEPT (UINT64_C(1) << 20)
#define NBD_POOL_CLASSES 14

struct nbd_budget {          /* of a server */
	uint64_t bytes;      /* that are left */
	struct list waiting; /* of nbd_pool: one coroutine of each, the others wait for that one */
};
void nbd_budget_init(struct nbd_budget *b);

struct nbd_pool {
	struct nbd_budget *budget;
	uint64_t own, shared; /* bytes left of its own; bytes taken of the budget */
	struct list link;     /* of budget->waiting */
	uint64_t wants;       /* what is waited for there */
	struct co_queue turn; /* whoever waits in the budget's list */
	struct co_mutex first;
	size_t kept;
	void *free[NBD_POOL_CLASSES]; /* each a chain through the buffers' first words */
};

struct nbd_buffer {
	void *data;
	unsigned class;
	bool shared; /* it was paid from the budget */
};

void nbd_pool_init(struct nbd_pool *p, struct nbd_budget *budget);
void nbd_pool_fini(struct nbd_pool *p); /* every buffer has come back */

/* At least `bytes`, which is at most 32 MiB. -ENOMEM only from the system. */
int nbd_pool_get(struct co *co, struct nbd_pool *p, size_t bytes, struct nbd_buffer *out) ATTR_MUST_USE;
void nbd_pool_put(
	struct nbd_pool *p, struct nbd_buffer *buffer); /* one without data is fine; it is without data then */

#endif
