/* SPDX-License-Identifier: MIT */
/* What most filters do alike: requests that go on to the child as they are, and a node that looks like its child. */
#ifndef CORRAL_FILTER_PASS_H
#define CORRAL_FILTER_PASS_H

#include "node/node.h"

/* Makes *n, whose memory is zeros, a node over the child, which it owns on success. -ENOMEM. */
int pass_init(struct co *co, struct node *n, const struct node_ops *ops, struct node *child) ATTR_MUST_USE;

/* Members of node_ops. zero never has the child write zeros as data: whoever is above us does so, and that is then a write
 * that we see. */
int pass_read(struct co *co, struct node *n, uint64_t off, struct iov to) ATTR_MUST_USE;
int pass_write(struct co *co, struct node *n, uint64_t off, struct iov from, unsigned flags) ATTR_MUST_USE;
int pass_zero(struct co *co, struct node *n, uint64_t off, uint64_t len, unsigned flags) ATTR_MUST_USE;
int pass_discard(struct co *co, struct node *n, uint64_t off, uint64_t len) ATTR_MUST_USE;
int pass_flush(struct co *co, struct node *n) ATTR_MUST_USE;
int pass_resize(struct co *co, struct node *n, uint64_t size) ATTR_MUST_USE;
int pass_map(struct co *co, struct node *n, struct guest at, uint64_t len, struct node_extent *out) ATTR_MUST_USE;

#endif
