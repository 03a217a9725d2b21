/* SPDX-License-Identifier: MIT */
/*
 * What persistent bitmaps may say (docs/crash-safety.md, G16): for each of them which granules it must have, and which it
 * may have. An operation that returned is in both, one that failed or is under way only in the second.
 */
#ifndef CORRAL_SIM_BITMAPS_H
#define CORRAL_SIM_BITMAPS_H

#include "raw.h"

struct sim_bitmap_state {
	bool exists, enabled;
	bool lost;  /* it was found in use: it stays so until it is removed */
	bool sound; /* it must not be marked in use */
	unsigned granularity_bits;
	bool *least, *most; /* per granule */
};

struct sim_bitmap {
	struct sim_bitmap_state now, next; /* next: after the operation that is under way */
	bool changing;                     /* there is one: either may be found */
	bool vague;                        /* one has failed: not known until the image is opened again */
	bool followed;                     /* enabled since `base` */
};

struct sim_bitmaps {
	struct sim_bitmap v[SIM_BITMAPS];
	uint64_t *base; /* what each sector was when it was last known for sure */
	uint32_t sectors;
};

#endif
