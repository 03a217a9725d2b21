/* SPDX-License-Identifier: MIT */
/* Whether two disks read the same. Behind the end of the shorter one the longer one is held against zeros. */
#ifndef CORRAL_JOB_COMPARE_H
#define CORRAL_JOB_COMPARE_H

#include "node/node.h"

enum compare_found {
	COMPARE_SAME,
	COMPARE_CONTENT, /* they differ in a sector */
	COMPARE_STATUS,  /* strict: one has a range otherwise than the other */
};

struct compare_how {
	struct node *n[2];
	bool strict; /* ranges must be data, zeros, or nothing at all in both */
	bool (*progress)(void *arg, uint64_t done, uint64_t all); /* false: give up, with -ECANCELED; or NULL */
	void *arg;
};

struct compare_result {
	enum compare_found found;
	uint64_t off; /* of the first difference */
	/* Of an error: which of the two, and whether it was its map that couldn't be read. */
	unsigned which;
	bool map;
};

/* 0, or the error of a request; then off says where it was. */
int compare_run(struct co *co, const struct compare_how *how, struct compare_result *out) ATTR_MUST_USE;

#endif
