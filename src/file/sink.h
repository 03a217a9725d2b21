/* SPDX-License-Identifier: MIT */
/* The storage node that is a stream: what is written to it must come in order, without a gap, and can't be read again. */
#ifndef CORRAL_FILE_SINK_H
#define CORRAL_FILE_SINK_H

#include "io/io.h"
#include "node/node.h"

/* Takes the stream over on success. A write elsewhere than behind the last one is -ESPIPE. -ENOMEM. */
int sink_open(struct co *co, struct io_stream *stream, const char *name, struct node **out) ATTR_MUST_USE;

#endif
