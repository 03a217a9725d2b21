/* SPDX-License-Identifier: MIT */
/*
 * The exhaustive tier: what is small enough to be tried out entirely, rather than drawn. A case has a number, by which it
 * is repeated.
 */
#ifndef CORRAL_SIM_EXHAUST_H
#define CORRAL_SIM_EXHAUST_H

#include "run.h"

enum sim_tier {
	SIM_TIER_NONE,
	SIM_TIER_OPERATIONS, /* every sequence of up to three operations, with every power cut where they are few */
	SIM_TIER_IO,         /* short runs in which the N-th I/O fails, N = 1 ... done */
	SIM_TIER_MEMORY,     /* the same with the N-th allocation */
};

/* false: there is no such tier */
bool sim_tier_parse(const char *name, enum sim_tier *out);

struct sim_exhaust {
	enum sim_tier tier;
	uint64_t number;   /* of the case */
	uint64_t nth;      /* which I/O or allocation fails */
	uint32_t most_ops; /* of a sequence; 0: three */
};

/* The configuration of case x->number, in which x->nth fails; false: there is no such case. Free it by sim_config_free. */
bool sim_exhaust_config(const struct sim_exhaust *x, struct sim_config *c);
/* The case after x, which has been run; *hit tells whether what was to fail was ever reached. */
void sim_exhaust_next(struct sim_exhaust *x, bool hit);

#endif
