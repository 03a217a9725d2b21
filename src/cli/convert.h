/* SPDX-License-Identifier: MIT */
/* corral convert inside: what was asked for. */
#ifndef CORRAL_CLI_CONVERT_H
#define CORRAL_CLI_CONVERT_H

#include "cli/create.h"
#include "cli/source.h"
#include "job/copy.h"

struct convert {
	const char **sources; /* of argv */
	unsigned sources_n;
	const char *target, *format; /* of the target; NULL: look at it */
	struct cli_common common;
	struct cli_image source; /* each of them */
	struct cli_image image;  /* the target */
	struct cli_source as_it_was;
	bool sparse_given, has_options;
	bool compressed, skip_create, offload, salvage, target_is_zero;
	bool bitmaps, skip_broken_bitmaps;
	uint64_t sparse, rate;
	unsigned requests;
	struct create create; /* of the target */
	struct err err;       /* not on a coroutine's stack */
};

/* 0; 1: help was printed; or negative, explained on stderr. Free it in any case. */
int convert_parse(struct convert *c, int argc, char **argv) ATTR_MUST_USE;
void convert_free(struct convert *c);
/* Tells the error that c->err holds; 1. */
int convert_complain(struct convert *c);

/* ---- convert_target.c; each gives the exit status, and has told what failed ---- */

struct convert_target {
	struct node *node;
	bool made;  /* here */
	bool blank; /* so far it reads zeros, or its backing file */
};

int convert_target_make(struct co *co, struct convert *c, uint64_t size, struct convert_target *t);
int convert_target_open(struct co *co, struct convert *c, struct convert_target *t);
/* Whether a disk of that size goes there. */
int convert_target_fits(const struct convert *c, const struct node *to, uint64_t size);
/* status: of what was done so far; after a failure nothing is flushed. */
int convert_target_close(struct co *co, const struct convert *c, struct convert_target *t, int status);

/* ---- convert_stream.c, the same: "-" as source or target ---- */

bool convert_from_stream(const struct convert *c);
bool convert_to_stream(const struct convert *c);
int convert_stream_check(const struct convert *c);
int convert_stream_out(struct co *co, struct convert *c, struct node *from);
int convert_stream_in(struct co *co, struct convert *c);

/* ---- convert_bitmaps.c; each gives the exit status, and has told what failed ---- */

/* Before anything is done: whether they can be copied. */
int convert_bitmaps_check(struct co *co, struct convert *c, struct node *from);
int convert_bitmaps_copy(struct co *co, struct convert *c, struct node *from, struct node *to);

#endif
