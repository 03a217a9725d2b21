/* SPDX-License-Identifier: MIT */
/* Damage for the repair to put right. */
#ifndef CORRAL_SIM_DAMAGE_H
#define CORRAL_SIM_DAMAGE_H

#include "make.h"

enum {
	SIM_DAMAGE_LOW = 1 << 0,        /* refcounts of 0 */
	SIM_DAMAGE_HIGH = 1 << 1,       /* refcounts that are too high */
	SIM_DAMAGE_FLAGS = 1 << 2,      /* COPIED set or clear where it shouldn't be */
	SIM_DAMAGE_STRUCTURES = 1 << 3, /* of the refcounts */
	SIM_DAMAGE_TANGLE = 1 << 4,     /* guest data and metadata in one cluster */
	SIM_DAMAGE_BITS = 1 << 5,       /* the dirty or the corrupt bit */
	SIM_DAMAGE_ENTRIES =
		1 << 6, /* COPIED compressed clusters, space without data that can't be where it is said to be */
	SIM_DAMAGE_SNAPSHOTS = 1 << 7, /* an incomplete record */
	SIM_DAMAGE_ALL = (1 << 8) - 1,
};

void sim_damage(struct sim_made *made, const struct sim_geometry *g, uint32_t kinds, struct sim_rng *r);

#endif
