/* SPDX-License-Identifier: MIT */
/* Several disks behind each other, as one to read. Each takes whole sectors: what its last one lacks reads zeros. */
#ifndef CORRAL_FILTER_CONCAT_H
#define CORRAL_FILTER_CONCAT_H

#include "node/node.h"

/* On success the parts, but not the array, belong to the node. -ENOMEM; -EFBIG: together they are too large. */
int concat_open(struct co *co, struct node *const *parts, unsigned n, struct node **out) ATTR_MUST_USE;

#endif
