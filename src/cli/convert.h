/* SPDX-License-Identifier: MIT */
/* corral convert inside: what was asked for. */
#ifndef CORRAL_CLI_CONVERT_H
#define CORRAL_CLI_CONVERT_H

#include "cli/create.h"
#include "cli/options.h"
#include "job/copy.h"

struct convert {
	const char **sources; /* of argv */
	unsigned sources_n;
	const char *target, *source_format, *format;
	const char *snapshot;              /* ID or name; NULL: the disk as it is */
	char *snapshot_id, *snapshot_name; /* the same, as it must be; owned */
	enum image_cache cache, source_cache;
	bool cache_given, sparse_given, has_options;
	bool compressed, progress, quiet, skip_create, force_share, offload, salvage, target_is_zero;
	bool bitmaps, skip_broken_bitmaps;
	uint64_t sparse, rate;
	unsigned requests;
	struct cli_allow allow;
	struct create create; /* of the target; its secrets are those of all */
	struct err err;       /* not on a coroutine's stack */
};

/* 0; 1: help was printed; or negative, explained on stderr. Free it in any case. */
int convert_parse(struct convert *c, int argc, char **argv) ATTR_MUST_USE;
void convert_free(struct convert *c);

/* ---- convert_bitmaps.c; each gives the exit status, and has told what failed ---- */

/* Before anything is done: whether they can be copied. */
int convert_bitmaps_check(struct co *co, struct convert *c, struct node *from);
int convert_bitmaps_copy(struct co *co, struct convert *c, struct node *from, struct node *to);

#endif
