/* SPDX-License-Identifier: MIT */
/*
 * Damage planted in a made image, of the kinds that a repair can put right: what the guest reads stays as it was, but
 * where guest data is put on top of something else; there its tags become what is found there.
 */
#include "damage.h"

#include <endian.h>
#include <string.h>

#include "base/math.h"
#include "memory.h"
#include "stamp.h"

#define COPIED (UINT64_C(1) << 63)
#define COMPRESSED (UINT64_C(1) << 62)
#define EXTENDED (UINT64_C(1) << 4)
#define ZERO UINT64_C(1)
#define OFFSET UINT64_C(0x00fffffffffffe00)
#define FAR_AWAY UINT64_C(0x7ff00000) /* beyond the end of every file here */

struct image {
	struct sim_made *made;
	struct sim_rng *r;
	uint64_t cluster, l1, reftable, per_block;
	uint32_t version, order, l1_entries, entry_bytes;
	uint64_t tangled, tangled_on; /* which guest cluster now lies on what; 0: none does */
};

static uint32_t get32(const uint8_t *p)
{
	uint32_t v;

	memcpy(&v, p, 4);
	return be32toh(v);
}
static uint64_t get64(const uint8_t *p)
{
	uint64_t v;

	memcpy(&v, p, 8);
	return be64toh(v);
}
static void put64(uint8_t *p, uint64_t v) { memcpy(p, &(uint64_t){htobe64(v)}, 8); }

static struct image image_of(struct sim_made *made, struct sim_rng *r)
{
	const uint8_t *p = made->bytes;
	struct image im = {.made = made, .r = r, .version = get32(p + 4), .order = 4};

	im.cluster = UINT64_C(1) << get32(p + 20);
	im.l1_entries = get32(p + 36);
	im.l1 = get64(p + 40);
	im.reftable = get64(p + 48);
	im.entry_bytes = 8;
	if (im.version >= 3) {
		im.order = get32(p + 96);
		im.entry_bytes = get64(p + 72) & EXTENDED ? 16 : 8;
	}
	im.per_block = im.cluster * 8 >> im.order;
	return im;
}

/* ---- refcounts ---- */

static void refcount_put(struct image *im, uint64_t cluster, uint64_t value)
{
	uint64_t index = cluster % im->per_block, bits = UINT64_C(1) << im->order, at = index * bits;
	uint8_t *block = im->made->bytes + get64(im->made->bytes + im->reftable + cluster / im->per_block * 8);

	if (bits < 8) {
		unsigned shift = (unsigned)(at % 8), mask = ((1u << bits) - 1) << shift;

		block[at / 8] = (uint8_t)((block[at / 8] & ~mask) | ((unsigned)value << shift & mask));
		return;
	}
	for (uint64_t i = bits / 8; i-- > 0; value >>= 8)
		block[at / 8 + i] = (uint8_t)value;
}

static void refcounts_bend(struct image *im, bool low)
{
	uint64_t clusters = im->made->len / im->cluster, most = im->order == 0 ? 1 : im->order == 1 ? 3 : 5;

	for (uint32_t n = 1 + sim_below(im->r, 12); n > 0; n--) {
		uint64_t cluster = sim_below(im->r, (uint32_t)clusters);

		refcount_put(im, cluster, low ? 0 : sim_below(im->r, (uint32_t)most) + 1);
	}
}

/* The table, or an entry of it, names what isn't a refcount block: nothing, beyond the end, unaligned, the L1 table. */
static void structures_bend(struct image *im)
{
	uint8_t *p = im->made->bytes;
	uint64_t blocks = div_round_up(im->made->len / im->cluster, im->per_block);
	uint8_t *entry = p + im->reftable + sim_below(im->r, (uint32_t)blocks) * 8;

	switch (sim_below(im->r, 7)) {
	case 0: put64(entry, 0); break;
	case 1: put64(entry, FAR_AWAY); break;
	case 2: put64(entry, get64(entry) + 8); break;
	case 3: put64(entry, im->l1); break;
	case 4: put64(p + 48, FAR_AWAY); break;
	case 5: put64(p + 48, im->l1); break;
	default: put64(p + 48, 0); break;
	}
}

/* ---- tables ---- */

struct place {          /* of an L2 entry */
	uint8_t *entry; /* NULL: none was met */
	uint64_t table, guest_cluster;
};

/* Any entry of the active L2 tables that names a cluster, or compressed data. */
static struct place entry_any(struct image *im, bool compressed)
{
	uint64_t per_table = im->cluster / im->entry_bytes;

	for (unsigned tries = 0; tries < 100; tries++) {
		uint64_t i = sim_below(im->r, im->l1_entries), j = sim_below(im->r, (uint32_t)per_table);
		uint64_t table = get64(im->made->bytes + im->l1 + i * 8) & OFFSET;
		uint8_t *entry = im->made->bytes + table + j * im->entry_bytes;

		if (table != 0 && (get64(entry) & OFFSET) && !(get64(entry) & COMPRESSED) == !compressed)
			return (struct place){entry, table, i * per_table + j};
	}
	return (struct place){0};
}

static void flags_bend(struct image *im)
{
	for (uint32_t n = 1 + sim_below(im->r, 6); n > 0; n--) {
		uint8_t *l1 = im->made->bytes + im->l1 + sim_below(im->r, im->l1_entries) * 8;
		uint8_t *l2 = entry_any(im, false).entry;

		if (sim_below(im->r, 3) == 0 && (get64(l1) & OFFSET))
			put64(l1, get64(l1) ^ COPIED);
		if (l2)
			put64(l2, get64(l2) ^ COPIED);
	}
}

/* Guest data that isn't shared with a snapshot now lies on a table. */
static void data_tangle(struct image *im, const struct sim_geometry *g)
{
	struct place p = entry_any(im, false);
	const uint64_t on[] = {im->l1, p.table, im->reftable, get64(im->made->bytes + im->reftable)};

	if (!p.entry || g->snapshots > 0 || (get64(p.entry) & ZERO) || g->encrypted || im->entry_bytes > 8 ||
		g->data != SIM_DATA_INSIDE)
		return;
	im->tangled = p.guest_cluster;
	im->tangled_on = on[sim_below(im->r, 4)];
	put64(p.entry, im->tangled_on | COPIED);
}

/* What is found there, when all else has been done. */
static void tangle_tags(const struct image *im, const struct sim_geometry *g)
{
	uint64_t sectors = im->cluster / SIM_SECTOR, all = g->guest_bytes / SIM_SECTOR;

	for (uint64_t s = im->tangled * sectors, i = 0; im->tangled_on && i < sectors && s < all; s++, i++)
		im->made->tags[s] = sim_stamp_get(im->made->bytes + im->tangled_on + i * SIM_SECTOR);
}

/* A compressed cluster is COPIED; a zero cluster's space doesn't begin where a cluster does. */
static void entries_bend(struct image *im, const struct sim_geometry *g)
{
	struct place c = entry_any(im, true), p = entry_any(im, false);

	if (c.entry && !g->data)
		put64(c.entry, get64(c.entry) | COPIED);
	if (p.entry && (get64(p.entry) & ZERO) && im->entry_bytes == 8 && g->data == SIM_DATA_INSIDE &&
		im->cluster > SIM_SECTOR && g->snapshots == 0)
		put64(p.entry, get64(p.entry) + SIM_SECTOR);
}

/* The last record of the snapshot table loses its extra data: the names move up. */
static void snapshots_bend(struct image *im, const struct sim_geometry *g)
{
	uint8_t *record;

	if (g->snapshots == 0 || im->version < 3) /* version 2 does without */
		return;
	record = im->made->bytes + get64(im->made->bytes + 64) + (g->snapshots - 1) * UINT64_C(64);
	memset(record + 36, 0, 4);
	memmove(record + 40, record + 56, 2);
	memset(record + 42, 0, 22);
}

void sim_damage(struct sim_made *made, const struct sim_geometry *g, uint32_t kinds, struct sim_rng *r)
{
	struct image im = image_of(made, r);

	if (kinds & SIM_DAMAGE_TANGLE)
		data_tangle(&im, g);
	if (kinds & SIM_DAMAGE_ENTRIES)
		entries_bend(&im, g);
	if (kinds & SIM_DAMAGE_SNAPSHOTS)
		snapshots_bend(&im, g);
	if (kinds & SIM_DAMAGE_FLAGS)
		flags_bend(&im);
	if (kinds & SIM_DAMAGE_LOW)
		refcounts_bend(&im, true);
	if (kinds & SIM_DAMAGE_HIGH)
		refcounts_bend(&im, false);
	if (kinds & SIM_DAMAGE_STRUCTURES)
		structures_bend(&im);
	if (im.version >= 3 && (kinds & SIM_DAMAGE_BITS))
		put64(made->bytes + 72, get64(made->bytes + 72) | (1 + sim_below(r, 3)));
	tangle_tags(&im, g);
}
