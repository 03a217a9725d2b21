/* SPDX-License-Identifier: MIT */
/* Storage that keeps nothing: to measure and to test everything but the storage. */
#ifndef CORRAL_FILTER_NULL_H
#define CORRAL_FILTER_NULL_H

#include "node/node.h"

#define NULL_BYTES (UINT64_C(1) << 30) /* its size where none is given */

struct null_open {
	uint64_t size;
	uint64_t latency_ns; /* of every request */
	/* Reads leave the buffer as it is, rather than giving zeros. What the reader then sees is whatever the memory held: not
	 * for a disk that is served to somebody else. */
	bool unread;
};

int null_open(struct co *co, const struct null_open *how, struct node **out) ATTR_MUST_USE; /* -ENOMEM */

#endif
