/* SPDX-License-Identifier: MIT */
/* -s of io and nbd: what is written is forgotten when the disk is closed. */
#ifndef CORRAL_CLI_SCRATCH_H
#define CORRAL_CLI_SCRATCH_H

#include "base/err.h"
#include "node/node.h"

/* Lays an empty image, in a file that has no name any more, over the node, which it takes over whatever happens. */
int cli_scratch_open(struct co *co, struct node *below, struct node **out, struct err *err) ATTR_MUST_USE;

#endif
