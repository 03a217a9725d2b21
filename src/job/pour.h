/* SPDX-License-Identifier: MIT */
/*
 * What comes as a stream becomes the content of a node. Pieces are taken from their source one after the other, by one
 * coroutine; what they need (decoding, writing) is done beside it, a bounded number at a time.
 */
#ifndef CORRAL_JOB_POUR_H
#define CORRAL_JOB_POUR_H

#include "node/node.h"

#define POUR_PIECES 16u /* under way */

struct pour_piece {
	uint64_t off, len;
	char *data; /* on the heap; whoever has the piece owns it */
	void *more; /* the source's, of fixed size, on the heap; or NULL */
};

struct pour_how {
	struct node *to;
	/* The next piece, or *more = false. Errors are explained. */
	int (*next)(struct co *co, void *arg, struct pour_piece *piece, bool *more, struct err *err);
	/* Pure work on a piece, on a helper thread; needed says whether it is for this one. NULL: there is none. */
	bool (*decode_needed)(const struct pour_piece *piece);
	int (*decode)(void *arg, struct pour_piece *piece);
	void *arg;
	uint64_t sparse; /* zeros are left out in blocks of this many bytes, a power of two; 0: all is written */
	bool compressed; /* whole clusters are written compressed */
	bool grows;      /* the target becomes as large as what comes */
	bool in_order;   /* every byte is written, in order: what lies between pieces as zeros, */
	uint64_t end;    /* and what lies behind the last, up to here */
	uint64_t rate;
	bool (*progress)(void *arg, uint64_t done); /* false: give up; or NULL */
};

int pour_run(struct co *co, const struct pour_how *how, struct err *err) ATTR_MUST_USE;

#endif
