/* SPDX-License-Identifier: MIT */
/* What a seed has drawn, in words. */
#include <inttypes.h>
#include <stdio.h>

#include "config.h"

static void tell_if(bool on, const char *what)
{
	if (on)
		printf(", %s", what);
}

void sim_config_tell(const struct sim_config *c)
{
	static const char *const fills[] = {"empty", "mixed", "full", "zero"};
	static const char *const belows[] = {"none", "raw", "qcow2"};
	const struct sim_geometry *g = &c->image;

	printf("image: version %u, clusters of %u, %u-bit refcounts, guest of %" PRIu64
	       " bytes, %s, %u snapshots, backing %s",
		g->version, 1u << g->cluster_bits, 1u << g->refcount_order, g->guest_bytes, fills[g->fill],
		g->snapshots, belows[c->below]);
	tell_if(g->lazy, "lazy");
	tell_if(g->encrypted, "encrypted");
	tell_if(g->extended, "extended");
	tell_if(g->compressed_in, g->compression ? "zstd" : "zlib");
	tell_if(g->data == SIM_DATA_FILE, "data file");
	tell_if(g->data == SIM_DATA_RAW, "raw data file");
	tell_if(c->device, "device");
	tell_if(c->unit_bytes > 512, "4k sectors");
	tell_if(c->faulty, "faulty");
	tell_if(c->bitmaps, "bitmaps");
	if (c->damage)
		printf("\ndamage: %#x", c->damage);
	printf("\nrun: %u operations, %s, depth %u%s\n", c->ops_count, c->overlap ? "overlapping" : "apart", c->depth,
		c->nbd ? ", NBD" : "");
}

bool sim_config_rebases(const struct sim_config *c)
{
	for (uint32_t i = 0; i < c->ops_count; i++) {
		if (c->ops[i].kind == SIM_AMEND && c->ops[i].sectors == SIM_REBASE)
			return true;
	}
	return false;
}
