/* SPDX-License-Identifier: MIT */
/* A mapping, as share.c and memory.c of this room know it; nothing outside includes this. */
#ifndef CORRAL_IO_MAP_H
#define CORRAL_IO_MAP_H

#include "io/posix.h"
#include "io/share.h"

struct io_map {
	uint8_t *bytes; /* what was asked for */
	uint64_t len;
	uint8_t *start; /* the pages that it lies in */
	uint64_t span;
	int slot; /* in the table of the process */
};

#endif
