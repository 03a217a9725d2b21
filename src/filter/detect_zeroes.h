/* SPDX-License-Identifier: MIT */
/* A write of nothing but zeros becomes a zeroing. */
#ifndef CORRAL_FILTER_DETECT_ZEROES_H
#define CORRAL_FILTER_DETECT_ZEROES_H

#include "node/node.h"

/* unmap: the space may be given back. On success the child belongs to the filter. */
int detect_zeroes_open(struct co *co, struct node *child, bool unmap, struct node **out) ATTR_MUST_USE;

#endif
