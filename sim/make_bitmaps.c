/* SPDX-License-Identifier: MIT */
/* Bitmaps of an image that is made of raw bytes: what they say, and where it lies. See make.h. */
#include <endian.h>
#include <string.h>

#include "base/math.h"
#include "make.h"
#include "memory.h"

#define ENTRY_BYTES 32 /* with a name of two letters, padded */

struct maker {
	struct sim_made *out;
	const struct sim_geometry *g;
	struct sim_rng *r;
	sim_take *take;
	void *arg;
	uint64_t cluster;
};

static void put64(uint8_t *p, uint64_t v) { memcpy(p, &(uint64_t){htobe64(v)}, 8); }
static void put32(uint8_t *p, uint32_t v) { memcpy(p, &(uint32_t){htobe32(v)}, 4); }

static uint32_t granules(const struct maker *m, const struct sim_made_bitmap *b)
{
	return (uint32_t)div_round_up(m->g->guest_bytes, UINT64_C(1) << b->granularity_bits);
}

static void bitmap_draw(struct maker *m, struct sim_made_bitmap *b)
{
	uint32_t style = sim_below(m->r, 3);

	b->enabled = sim_below(m->r, 3) != 0;
	b->granularity_bits = 9 + sim_below(m->r, 4);
	b->bits = sim_alloc(granules(m, b));
	for (uint32_t i = 0; i < granules(m, b); i++)
		b->bits[i] = style == 0 ? 0 : style == 1 ? 1 : sim_below(m->r, 2);
}

/* The entry of a bitmap table: data of its own unless all of it is alike, and then too now and then. */
static uint64_t piece_put(struct maker *m, const struct sim_made_bitmap *b, uint64_t first)
{
	uint64_t end = MIN(first + m->cluster * 8, (uint64_t)granules(m, b)), ones = 0, host;

	for (uint64_t i = first; i < end; i++)
		ones += b->bits[i];
	if ((ones == 0 || ones == end - first) && sim_below(m->r, 3))
		return ones != 0;
	host = m->take(m->arg, 1);
	memset(m->out->bytes + host, 0, m->cluster);
	for (uint64_t i = first; i < end; i++)
		m->out->bytes[host + (i - first) / 8] |= (uint8_t)(b->bits[i] << (i - first) % 8);
	return host;
}

static void bitmap_put(struct maker *m, unsigned k, uint8_t *entry)
{
	const struct sim_made_bitmap *b = &m->out->bitmap[k];
	uint64_t pieces = div_round_up(div_round_up(granules(m, b), 8), m->cluster);
	uint64_t table = m->take(m->arg, div_round_up(pieces * 8, m->cluster));

	for (uint64_t i = 0; i < pieces; i++)
		put64(m->out->bytes + table + i * 8, piece_put(m, b, i * m->cluster * 8));
	put64(entry, table);
	put32(entry + 8, (uint32_t)pieces);
	put32(entry + 12, b->enabled ? SIM_BITMAP_AUTO : 0);
	entry[16] = 1;
	entry[17] = (uint8_t)b->granularity_bits;
	entry[19] = 2;
	entry[24] = 'b';
	entry[25] = (uint8_t)('0' + k);
}

uint64_t sim_make_bitmaps(struct sim_made *out, const struct sim_geometry *g, struct sim_rng *r, sim_take *take,
	void *arg, uint64_t *directory)
{
	struct maker m = {
		.out = out, .g = g, .r = r, .take = take, .arg = arg, .cluster = UINT64_C(1) << g->cluster_bits};

	if (g->bitmaps == 0)
		return 0;
	*directory = take(arg, 1);
	for (unsigned k = 0; k < g->bitmaps; k++) {
		bitmap_draw(&m, &out->bitmap[k]);
		bitmap_put(&m, k, out->bytes + *directory + (uint64_t)k * ENTRY_BYTES);
	}
	return (uint64_t)g->bitmaps * ENTRY_BYTES;
}
