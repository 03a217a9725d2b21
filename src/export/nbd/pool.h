/* SPDX-License-Identifier: MIT */
/*
 * The payload buffers of one connection. Sizes are powers of two from 4 KiB to 32 MiB, aligned for O_DIRECT. At most
 * NBD_POOL_BYTES are handed out at once, whatever the client asks for: the next one waits. Up to NBD_POOL_KEPT bytes
 * stay here when they come back, so that a steady load of small requests allocates nothing.
 */
#ifndef CORRAL_EXPORT_NBD_POOL_H
#define CORRAL_EXPORT_NBD_POOL_H

#include "co/sync.h"

#define NBD_POOL_BYTES (UINT64_C(64) << 20)
#define NBD_POOL_KEPT (UINT64_C(4) << 20)
#define NBD_POOL_CLASSES 14

struct nbd_pool {
	struct co_sem bytes;
	size_t kept;
	void *free[NBD_POOL_CLASSES]; /* each a chain through the buffers' first words */
};

struct nbd_buffer {
	void *data;
	unsigned class;
};

void nbd_pool_init(struct nbd_pool *p);
void nbd_pool_fini(struct nbd_pool *p); /* every buffer has come back */

/* At least `bytes`, which is at most 32 MiB. -ENOMEM only from the system. */
int nbd_pool_get(struct co *co, struct nbd_pool *p, size_t bytes, struct nbd_buffer *out) ATTR_MUST_USE;
void nbd_pool_put(
	struct nbd_pool *p, struct nbd_buffer *buffer); /* one without data is fine; it is without data then */

#endif
