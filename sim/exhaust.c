/* SPDX-License-Identifier: MIT */
/* The cases of the exhaustive tier: see exhaust.h. */
#include "exhaust.h"

#include <string.h>

#include "base/math.h"
#include "memory.h"

#define ALL_CUTS 256
#define IO_CASES 300

bool sim_tier_parse(const char *name, enum sim_tier *out)
{
	static const char *const names[] = {"none", "operations", "io", "memory"};

	for (unsigned i = 1; i < sizeof(names) / sizeof(names[0]); i++) {
		if (strcmp(name, names[i]) == 0) {
			*out = (enum sim_tier)i;
			return true;
		}
	}
	return false;
}

/* ---- sequences ---- */

/* Clusters, or subclusters, have two sectors: half of one, one, two, one and a half; and one of another L2 table, or
 * cluster. */
static const struct sim_op alphabet[] = {
	{.kind = SIM_WRITE, .first = 0, .sectors = 1},
	{.kind = SIM_WRITE, .first = 0, .sectors = 2},
	{.kind = SIM_WRITE, .first = 1, .sectors = 2},
	{.kind = SIM_WRITE, .first = 258, .sectors = 2},
	{.kind = SIM_WRITE_FUA, .first = 2, .sectors = 2},
	{.kind = SIM_WRITE_COMPRESSED, .first = 0, .sectors = 4},
	{.kind = SIM_ZERO, .first = 0, .sectors = 2},
	{.kind = SIM_ZERO_UNMAP, .first = 0, .sectors = 4},
	{.kind = SIM_DISCARD, .first = 0, .sectors = 1},
	{.kind = SIM_DISCARD, .first = 0, .sectors = 4},
	{.kind = SIM_READ, .first = 0, .sectors = 4},
	{.kind = SIM_FLUSH},
	{.kind = SIM_RESIZE, .sectors = 270},
	{.kind = SIM_SNAPSHOT_CREATE},
	{.kind = SIM_SNAPSHOT_DELETE},
	{.kind = SIM_REOPEN},
};
#define LETTERS (sizeof(alphabet) / sizeof(alphabet[0]))
#define MOST_OPS 3

enum {
	IMAGE_EMPTY,
	IMAGE_FULL,
	IMAGE_ZERO,
	IMAGE_SNAPSHOT,
	IMAGE_BACKING,
	IMAGE_COMPRESSED,
	IMAGE_VERSION_2,
	IMAGE_DATA,
	IMAGE_DATA_RAW,
	IMAGE_EXTENDED,
	IMAGE_EXTENDED_SHARED,
	IMAGES
};

static void image_choose(struct sim_config *c, unsigned image)
{
	c->image = (struct sim_geometry){
		.version = image == IMAGE_VERSION_2 ? 2 : 3,
		.cluster_bits = 10,
		.refcount_order = 4,
		.guest_bytes = 264 * 512,
		.id = SIM_ID_IMAGE,
	};
	switch (image) {
	case IMAGE_FULL:
	case IMAGE_VERSION_2: c->image.fill = SIM_FILL_FULL; break;
	case IMAGE_DATA:
		c->image.fill = SIM_FILL_MIXED;
		c->image.data = SIM_DATA_FILE;
		break;
	case IMAGE_DATA_RAW:
		c->image.fill = SIM_FILL_FULL;
		c->image.data = SIM_DATA_RAW;
		break;
	case IMAGE_COMPRESSED:
		c->image.fill = SIM_FILL_FULL;
		c->image.compressed_in = 1;
		break;
	case IMAGE_ZERO: c->image.fill = SIM_FILL_ZERO; break;
	case IMAGE_SNAPSHOT:
		c->image.fill = SIM_FILL_FULL;
		c->image.snapshots = 1;
		break;
	case IMAGE_BACKING:
		c->below = SIM_BELOW_RAW;
		c->base.guest_bytes = 261 * 512;
		c->image.backing = "base";
		c->image.backing_format = "raw";
		break;
	case IMAGE_EXTENDED_SHARED: c->image.snapshots = 1; __attribute__((fallthrough));
	case IMAGE_EXTENDED:
		c->image.extended = true;
		c->image.cluster_bits = 15;
		c->image.fill = SIM_FILL_MIXED;
		c->file_bytes = UINT64_C(4) << 20;
		break;
	default: break;
	}
}

static bool is_snapshot_op(enum sim_op_kind kind) { return kind == SIM_SNAPSHOT_CREATE || kind == SIM_SNAPSHOT_DELETE; }

static void sequence_write(struct sim_config *c, uint64_t sequence, bool together)
{
	uint32_t n = 1;

	for (uint64_t of_length = LETTERS; sequence >= of_length; n++) {
		sequence -= of_length;
		of_length *= LETTERS;
	}
	c->ops = sim_alloc(n * sizeof(*c->ops));
	c->ops_count = n;
	for (uint32_t i = 0; i < n; i++, sequence /= LETTERS) {
		c->ops[i] = alphabet[sequence % LETTERS];
		if (c->image.data && is_snapshot_op(c->ops[i].kind)) /* there are none with a data file */
			c->ops[i] = (struct sim_op){.kind = SIM_FLUSH};
		c->ops[i].idle = !together;
	}
}

static uint64_t sequences(uint32_t most_ops)
{
	uint64_t all = 0, of_length = 1;

	for (uint32_t n = 0; n < most_ops; n++) {
		of_length *= LETTERS;
		all += of_length;
	}
	return all;
}

/* A case is a sequence, one of the images, and whether its operations run one by one or all at once. Short ones come first. */
static bool operations_config(uint64_t number, uint32_t most_ops, struct sim_config *c)
{
	uint64_t sequence = number / (2 * IMAGES);

	if (sequence >= sequences(most_ops ? MIN(most_ops, (uint32_t)MOST_OPS) : MOST_OPS))
		return false;
	*c = (struct sim_config){
		.seed = number,
		.schedule = number,
		.guest_most = 270 * 512,
		.file_bytes = UINT64_C(1) << 20,
		.unit_bytes = 512,
		.options = {.write = true, .commit_interval_ns = 1000000},
		.latency = {.least = 1000, .spread = 50000},
		.overlap = true,
		.depth = 4,
		.cuts = 16,
		.all_cuts = ALL_CUTS,
	};
	image_choose(c, (unsigned)(number / 2 % IMAGES));
	sequence_write(c, sequence, number % 2);
	return true;
}

/* ---- the n-th fails ---- */

/* A short run of some seed, otherwise without faults. */
static bool failing_config(const struct sim_exhaust *x, struct sim_config *c)
{
	if (x->number >= IO_CASES)
		return false;
	sim_config_draw(c, UINT64_C(1000000) + x->number, SIM_OVERLAP_AUTO, 12);
	c->faults = (struct sim_faults){.no_zero = c->faults.no_zero, .no_punch = c->faults.no_punch};
	c->faulty = true;
	c->image.used_until = 0;
	c->cuts = 2;
	c->all_cuts = 16;
	if (x->tier == SIM_TIER_IO)
		c->faults.nth = x->nth;
	else
		c->fail_allocation = x->nth;
	return true;
}

bool sim_exhaust_config(const struct sim_exhaust *x, struct sim_config *c)
{
	return x->tier == SIM_TIER_OPERATIONS ? operations_config(x->number, x->most_ops, c) : failing_config(x, c);
}

void sim_exhaust_next(struct sim_exhaust *x, bool hit)
{
	if (x->tier != SIM_TIER_OPERATIONS && hit) {
		x->nth++;
		return;
	}
	x->number++;
	x->nth = 1;
}
