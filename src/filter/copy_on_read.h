/* SPDX-License-Identifier: MIT */
/*
 * What is read from below an image is written into it, so that it needs what is below less and less. The guest reads what it
 * would have read anyhow; where the copy can't be written (no space), it still does.
 */
#ifndef CORRAL_FILTER_COPY_ON_READ_H
#define CORRAL_FILTER_COPY_ON_READ_H

#include "node/node.h"

/* The child is an image with a backing file, open for writing; nobody else writes to it. On success it belongs to the node.
 * -ENOMEM. */
int copy_on_read_open(struct co *co, struct node *child, struct node **out) ATTR_MUST_USE;

#endif
