/* SPDX-License-Identifier: MIT */
/* Layers of a backing chain that need not be asked, since they were asked before and can't have changed: skip.c. */
#ifndef CORRAL_NODE_SKIP_H
#define CORRAL_NODE_SKIP_H

#include "node/node.h"

struct node_skip {         /* of one walk down a chain; begins as zeros */
	struct node *head; /* the first layer that is only read; NULL: none was met yet */
	uint64_t off;
	unsigned layers; /* from the head on that have nothing at off */
	bool whole;      /* that is so for all of the granule */
};

/* The walk has come to this layer: which one to ask instead, itself or one further down. The walk's depth grows by as much as
 * skip->layers has. */
struct node *node_skip_begin(struct node_skip *skip, struct node *layer, uint64_t off, uint64_t len);
/* The layer has nothing there, and the walk goes on. */
void node_skip_over(struct node_skip *skip, const struct node *layer);
/* The walk is over: a layer has answered, or there is no further one. */
void node_skip_end(const struct node_skip *skip);

void node_skips_free(struct node_skips *s); /* NULL is fine */

#endif
