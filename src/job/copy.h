/* SPDX-License-Identifier: MIT */
/*
 * The copy engine: the content of one node becomes that of another.
 *
 * A bounded number of requests is in flight, each with a buffer of its own; they are taken in order from the walk (walk.h)
 * and end in any order. Zeros are found where the source's mapping tells of them, and in blocks of what was read.
 *
 *       walk -> [read -> look for zeros -> write] x requests
 *
 * Where the target takes writes only in order (a stream), whoever has read waits for his turn.
 */
#ifndef CORRAL_JOB_COPY_H
#define CORRAL_JOB_COPY_H

#include "node/node.h"

#define COPY_REQUESTS 16u                      /* in flight, where nothing else is said */
#define COPY_REQUEST_BYTES (UINT64_C(1) << 20) /* of data in each, at most */
#define COPY_SPARSE_BYTES UINT64_C(4096)       /* qemu-img's -S, where nothing else is said */

struct copy_how {
	struct node *from, *to;
	uint64_t len; /* of `to`, from its start; beyond the end of `from` it becomes zeros */
	const struct node
		*shared; /* this layer below `from`, and all below it, are below `to` as well: not copied. Or NULL */
	uint64_t shared_size;   /* with it: of the file below `to` */
	unsigned requests;      /* 0: COPY_REQUESTS */
	uint64_t request_bytes; /* a power of two; 0: COPY_REQUEST_BYTES */
	uint64_t
		sparse; /* zeros within data become holes where so many bytes lie together; 0: all is written as data */
	bool target_zero; /* what isn't written reads zeros */
	bool compressed;  /* node_write_compressed */
	bool in_order;    /* the target wants every byte, in order: zeros are written as data */
	bool offload;     /* storage copies by itself where it can: no zeros are looked for in what it does */
	bool salvage;     /* what can't be read becomes zeros, and is told */
	uint64_t rate;    /* bytes written in a second; 0: no limit */
	/* How much data has been copied of how much there is; false: give up, with -ECANCELED. NULL: nobody asks. */
	bool (*progress)(void *arg, uint64_t done, uint64_t all);
	void (*unreadable)(void *arg, uint64_t off, uint64_t len, int err); /* with salvage; or NULL */
	void *arg;
};

struct copy_counts {
	uint64_t data_bytes;    /* written as data */
	uint64_t zero_bytes;    /* found to be zeros: skipped, or said to the target */
	uint64_t shared_bytes;  /* left to the layers below */
	uint64_t salvage_bytes; /* couldn't be read */
};

/* The target isn't flushed: that is the caller's. Errors are in qemu-img's words, and name the file. counts may be NULL. */
int copy_run(struct co *co, const struct copy_how *how, struct copy_counts *counts, struct err *err) ATTR_MUST_USE;

#endif
