/* SPDX-License-Identifier: MIT */
/* Bounce memory of one node: a budget, and a few buffers that are kept for the next one who needs such a size. */
#ifndef CORRAL_NODE_BUFFER_H
#define CORRAL_NODE_BUFFER_H

#include "node/node.h"

int node_buffers_new(struct node_buffers **out) ATTR_MUST_USE; /* -ENOMEM */
void node_buffers_free(struct node_buffers *b);                /* nobody has one; NULL is fine */

#endif
