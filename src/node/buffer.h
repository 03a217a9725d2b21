/* SPDX-License-Identifier: MIT */
/*
 * Bounce memory: a budget, and a few buffers that are kept for the next one who needs such a size. Each node has one
 * (node_buffer_get); a driver whose requests need memory while they may hold a buffer of that one has a second.
 */
#ifndef CORRAL_NODE_BUFFER_H
#define CORRAL_NODE_BUFFER_H

#include "node/node.h"

int node_buffers_new(struct node_buffers **out) ATTR_MUST_USE; /* -ENOMEM */
void node_buffers_free(struct node_buffers *b);                /* nobody has one; NULL is fine */
/* As node_buffer_get and node_buffer_put, in node.h. */
int node_buffers_get(struct co *co, struct node_buffers *b, size_t bytes, void **out) ATTR_MUST_USE;
void node_buffers_put(struct node_buffers *b, void *buffer, size_t bytes);

#endif
