/* SPDX-License-Identifier: MIT */
/*
 * Builds a qcow2 file in memory: trees first (which guest cluster lies where), then every table is laid out from them, and
 * the refcounts are counted last. See make.h.
 */
#include "make.h"

#include <assert.h>
#include <endian.h>
#include <stdlib.h>
#include <string.h>

#include "base/math.h"
#include "crypt.h"
#include "memory.h"

#define COPIED (UINT64_C(1) << 63)
#define COMPRESSED (UINT64_C(1) << 62)
#define ZERO UINT64_C(1)
#define EXTENDED UINT64_C(16)
#define SUBCLUSTERS 32u
#define ALL_DATA UINT64_C(0x00000000ffffffff)
#define ALL_ZERO UINT64_C(0xffffffff00000000)
#define UNUSED 0xdb /* in the rest of clusters with compressed data */
#define FILE_ROOM (UINT64_C(8) << 20)

struct tree {
	uint64_t *l2;     /* of each L1 entry: where its table lies; 0: none */
	uint64_t *entry;  /* of each guest cluster: its L2 entry, without COPIED */
	uint64_t *bitmap; /* the second half of extended entries */
	uint64_t l1;      /* where the L1 table lies */
};

struct maker {
	const struct sim_geometry *g;
	struct sim_made *out;
	struct sim_rng *r;
	uint64_t cluster, end;
	uint32_t gaps_in;
	uint32_t guest_clusters, per_l2, l1_entries, entry_bytes;
	struct tree active, snapshot[SIM_SNAPSHOTS];
	uint16_t *refs;     /* per host cluster */
	uint64_t packed_at; /* where the next compressed data goes; 0: into a fresh cluster */
	uint64_t reftable, reftable_clusters, snapshot_table, crypto;
	uint64_t bitmaps, bitmaps_bytes; /* their directory */
};

static void put16(uint8_t *p, uint16_t v) { memcpy(p, &(uint16_t){htobe16(v)}, 2); }
static void put32(uint8_t *p, uint32_t v) { memcpy(p, &(uint32_t){htobe32(v)}, 4); }
static void put64(uint8_t *p, uint64_t v) { memcpy(p, &(uint64_t){htobe64(v)}, 8); }

/* ---- space ---- */

static void garbage_fill(struct maker *m, uint64_t off)
{
	for (uint64_t at = 0; at < m->cluster; at += SIM_SECTOR)
		sim_stamp_put(m->out->bytes + off + at, sim_tag_garbage((off + at) / SIM_SECTOR));
}

static uint64_t take_run(struct maker *m, uint64_t n)
{
	uint64_t off;

	if (sim_one_in(m->r, m->gaps_in)) {
		garbage_fill(m, m->end);
		m->end += m->cluster;
	}
	off = m->end;
	m->end += n * m->cluster;
	assert(m->end <= FILE_ROOM);
	for (uint64_t i = 0; i < n; i++)
		m->refs[off / m->cluster + i] = 1;
	return off;
}

/* ---- guest data ---- */

static void sector_put(struct maker *m, uint64_t host, uint64_t tag)
{
	sim_stamp_put(m->out->bytes + host, tag);
	if (m->g->encrypted)
		sim_encrypt(host / SIM_SECTOR, m->out->bytes + host);
}

static void tags_set(struct maker *m, uint32_t c, uint64_t host, uint32_t id)
{
	uint64_t per = m->cluster / SIM_SECTOR, all = m->g->guest_bytes / SIM_SECTOR;

	for (uint64_t s = c * per, i = 0; i < per && s < all; s++, i++) {
		m->out->tags[s] = host ? sim_tag(s, id) : SIM_TAG_ZERO;
		m->out->holds[s] = true;
		if (host)
			sector_put(m, host + i * SIM_SECTOR, m->out->tags[s]);
	}
}

static void l2_need(struct maker *m, uint32_t c)
{
	uint64_t *l2 = &m->active.l2[c / m->per_l2];

	if (*l2 == 0)
		*l2 = take_run(m, 1);
}

/* ---- compressed clusters: packed as QEMU does it, byte by byte, so that they share sectors ---- */

static uint64_t pack_fresh(struct maker *m)
{
	uint64_t host = take_run(m, 1);

	memset(m->out->bytes + host, UNUSED, m->cluster);
	return host;
}

/* References that a cluster may have from one tree: snapshots will hold as many. */
static uint64_t sharers_most(const struct maker *m)
{
	uint64_t most = UINT64_MAX >> (64 - (1u << m->g->refcount_order));

	return MIN(most / (1 + m->g->snapshots), UINT64_C(1) << 15);
}

/* The range may go on in the next cluster, where that is the next one to be taken. */
static uint64_t pack(struct maker *m, uint64_t bytes)
{
	uint64_t at = m->packed_at, next = align_up(at, m->cluster);
	bool more = at && at + bytes > next;

	if (at == 0 || (more && next != m->end) || m->refs[at / m->cluster] >= sharers_most(m)) {
		at = pack_fresh(m);
	} else {
		m->refs[at / m->cluster]++;
		if (more) {
			m->refs[m->end / m->cluster] = 1;
			memset(m->out->bytes + m->end, UNUSED, m->cluster);
			m->end += m->cluster;
		}
	}
	m->packed_at = (at + bytes) % m->cluster ? at + bytes : 0;
	return at;
}

static bool cluster_compressed(struct maker *m, uint32_t c, uint32_t id)
{
	uint64_t per = m->cluster / SIM_SECTOR, all = m->g->guest_bytes / SIM_SECTOR, bytes, host;
	uint8_t *data = sim_alloc(2 * m->cluster), *to = data + m->cluster;

	for (uint64_t s = c * per, i = 0; i < per && s < all; s++, i++)
		sim_stamp_put(data + i * SIM_SECTOR, sim_tag(s, id));
	bytes = sim_encode(m->g->compression, data, m->cluster, to, m->cluster - 1);
	if (bytes > 0) {
		l2_need(m, c);
		host = pack(m, bytes);
		memcpy(m->out->bytes + host, to, bytes);
		m->active.bitmap[c] = 0;
		m->active.entry[c] = COMPRESSED | host |
			((host + bytes - 1) / SIM_SECTOR - host / SIM_SECTOR) << (62 - (m->g->cluster_bits - 8));
		for (uint64_t s = c * per, i = 0; i < per && s < all; s++, i++) {
			m->out->tags[s] = sim_tag(s, id);
			m->out->holds[s] = true;
		}
	}
	sim_free(data);
	return bytes > 0;
}

static void cluster_data(struct maker *m, uint32_t c, uint32_t id)
{
	if (sim_one_in(m->r, m->g->compressed_in) && cluster_compressed(m, c, id))
		return;
	l2_need(m, c);
	m->active.entry[c] = take_run(m, 1);
	m->active.bitmap[c] = ALL_DATA;
	tags_set(m, c, m->active.entry[c], id);
}

static void cluster_zero(struct maker *m, uint32_t c, bool keeps_space)
{
	l2_need(m, c);
	m->active.entry[c] = m->g->extended ? 0 : ZERO;
	m->active.bitmap[c] = ALL_ZERO;
	if (keeps_space) {
		uint64_t host = take_run(m, 1);

		garbage_fill(m, host);
		m->active.entry[c] |= host;
	}
	tags_set(m, c, 0, 0);
}

static void subcluster_set(struct maker *m, uint32_t c, unsigned sub, bool data)
{
	uint64_t per = m->cluster / SIM_SECTOR / SUBCLUSTERS, all = m->g->guest_bytes / SIM_SECTOR;

	m->active.bitmap[c] |= UINT64_C(1) << (sub + (data ? 0 : SUBCLUSTERS));
	for (uint64_t i = sub * per, s = c * per * SUBCLUSTERS + i; i < (sub + 1) * per && s < all; i++, s++) {
		m->out->tags[s] = data ? sim_tag(s, m->g->id) : SIM_TAG_ZERO;
		m->out->holds[s] = true;
		if (data)
			sector_put(m, m->active.entry[c] + i * SIM_SECTOR, m->out->tags[s]);
	}
}

/* Runs of all kinds; without a host cluster there is no data. */
static void cluster_subclusters(struct maker *m, uint32_t c)
{
	bool has_host = sim_below(m->r, 4) != 0;
	uint32_t kind = 0;

	l2_need(m, c);
	if (has_host) {
		m->active.entry[c] = take_run(m, 1);
		garbage_fill(m, m->active.entry[c]);
	}
	for (unsigned sub = 0; sub < SUBCLUSTERS; sub++) {
		if (sub == 0 || sim_one_in(m->r, 4))
			kind = sim_below(m->r, 3);
		if (kind == 1 || (kind == 2 && has_host))
			subcluster_set(m, c, sub, kind == 2);
	}
}

static void cluster_fill(struct maker *m, uint32_t c)
{
	bool zeroes = m->g->version >= 3;

	switch (m->g->fill) {
	case SIM_FILL_EMPTY: break;
	case SIM_FILL_FULL: cluster_data(m, c, m->g->id); break;
	case SIM_FILL_ZERO:
		if (zeroes)
			cluster_zero(m, c, true);
		break;
	case SIM_FILL_MIXED:
		switch (sim_below(m->r, 5)) {
		case 0:
		case 1: cluster_data(m, c, m->g->id); break;
		case 2:
			if (zeroes)
				cluster_zero(m, c, sim_below(m->r, 2) == 0);
			break;
		default:
			if (m->g->extended)
				cluster_subclusters(m, c);
			break;
		}
	}
}

/* ---- snapshots ---- */

static void tree_new(struct maker *m, struct tree *t)
{
	t->l2 = sim_alloc(m->l1_entries * sizeof(*t->l2));
	t->entry = sim_alloc((size_t)m->l1_entries * m->per_l2 * sizeof(*t->entry));
	t->bitmap = sim_alloc((size_t)m->l1_entries * m->per_l2 * sizeof(*t->bitmap));
	t->l1 = take_run(m, MAX(div_round_up(m->l1_entries * UINT64_C(8), m->cluster), UINT64_C(1)));
}

static void tree_free(struct tree *t)
{
	sim_free(t->l2);
	sim_free(t->entry);
	sim_free(t->bitmap);
}

static void snapshot_take(struct maker *m, uint32_t k)
{
	uint64_t sectors = m->g->guest_bytes / SIM_SECTOR;

	tree_new(m, &m->snapshot[k]);
	memcpy(m->snapshot[k].l2, m->active.l2, m->l1_entries * sizeof(uint64_t));
	memcpy(m->snapshot[k].entry, m->active.entry, m->guest_clusters * sizeof(uint64_t));
	memcpy(m->snapshot[k].bitmap, m->active.bitmap, m->guest_clusters * sizeof(uint64_t));
	memcpy(m->out->snapshot_tags[k], m->out->tags, sectors * sizeof(uint64_t));
	memcpy(m->out->snapshot_holds[k], m->out->holds, sectors * sizeof(bool));
}

static bool l2_is_shared(const struct maker *m, uint32_t c)
{
	for (uint32_t k = 0; k < m->g->snapshots; k++) {
		if (m->snapshot[k].l2 && m->snapshot[k].l2[c / m->per_l2] == m->active.l2[c / m->per_l2])
			return true;
	}
	return false;
}

/* Some clusters are written after the snapshot: their L2 table is no longer shared. */
static void diverge(struct maker *m, uint32_t id)
{
	for (uint32_t c = 0; c < m->guest_clusters; c++) {
		if (sim_below(m->r, 6) != 0)
			continue;
		if (m->active.l2[c / m->per_l2] && l2_is_shared(m, c))
			m->active.l2[c / m->per_l2] = take_run(m, 1);
		cluster_data(m, c, id);
	}
}

/* ---- tables ---- */

struct span { /* of host clusters */
	uint64_t first, n;
};

static struct span entry_span(const struct maker *m, uint64_t entry)
{
	unsigned x = 62 - (m->g->cluster_bits - 8);
	uint64_t host = entry & ((UINT64_C(1) << x) - 1), sectors = ((entry & (COMPRESSED - 1)) >> x) + 1;
	uint64_t first = host / m->cluster;

	if (!(entry & COMPRESSED))
		return (struct span){(entry & ~ZERO) / m->cluster, 1};
	return (struct span){first, ((host / SIM_SECTOR + sectors) * SIM_SECTOR - 1) / m->cluster + 1 - first};
}

static void tree_forget(struct maker *m, const struct tree *t)
{
	for (uint32_t i = 0; i < m->l1_entries; i++)
		m->refs[t->l2[i] / m->cluster] = 0;
	for (uint32_t c = 0; c < m->guest_clusters; c++) {
		struct span s = entry_span(m, t->entry[c]);

		for (uint64_t i = 0; i < s.n; i++)
			m->refs[s.first + i] = 0;
	}
}

static void tree_count(struct maker *m, const struct tree *t)
{
	for (uint32_t i = 0; i < m->l1_entries; i++)
		m->refs[t->l2[i] / m->cluster]++;
	for (uint32_t c = 0; c < m->guest_clusters; c++) {
		struct span s = entry_span(m, t->entry[c]);

		for (uint64_t i = 0; i < s.n; i++)
			m->refs[s.first + i]++;
	}
}

/* Space was counted once when it was taken; guest clusters and L2 tables are counted by their references. */
static void count(struct maker *m)
{
	const struct tree *trees[1 + SIM_SNAPSHOTS] = {&m->active};

	for (uint32_t k = 0; k < m->g->snapshots; k++)
		trees[1 + k] = &m->snapshot[k];
	for (uint32_t k = 0; k <= m->g->snapshots; k++)
		tree_forget(m, trees[k]);
	for (uint32_t k = 0; k <= m->g->snapshots; k++)
		tree_count(m, trees[k]);
	m->refs[0] = 1;
}

static uint64_t copied(const struct maker *m, uint64_t host, bool active)
{
	return active && host && m->refs[host / m->cluster] == 1 ? COPIED : 0;
}

static void tree_write(struct maker *m, const struct tree *t, bool active)
{
	uint8_t *bytes = m->out->bytes;

	for (uint32_t i = 0; i < m->l1_entries; i++)
		put64(bytes + t->l1 + i * 8, t->l2[i] | copied(m, t->l2[i], active));
	for (uint32_t c = 0; c < m->guest_clusters; c++) {
		uint64_t l2 = t->l2[c / m->per_l2], entry = t->entry[c];
		uint8_t *to = bytes + l2 + c % m->per_l2 * m->entry_bytes;

		if (l2 != 0)
			put64(to, entry | (entry & COMPRESSED ? 0 : copied(m, entry & ~ZERO, active)));
		if (l2 != 0 && m->g->extended)
			put64(to + 8, t->bitmap[c]);
	}
}

static void refcount_put(uint8_t *block, unsigned order, uint64_t index, uint64_t v)
{
	switch (order) {
	case 3: block[index] = (uint8_t)v; break;
	case 4: put16(block + index * 2, (uint16_t)v); break;
	case 5: put32(block + index * 4, (uint32_t)v); break;
	case 6: put64(block + index * 8, v); break;
	default: block[(index << order) / 8] |= (uint8_t)(v << ((index << order) % 8)); break;
	}
}

static uint64_t per_block(const struct maker *m) { return m->cluster * 8 >> m->g->refcount_order; }

/* Blocks are laid out until they count themselves as well. */
static void blocks_take(struct maker *m)
{
	uint64_t index = 0;

	m->gaps_in = 0;
	while (index * per_block(m) * m->cluster < m->end) {
		assert(index < m->reftable_clusters * m->cluster / 8);
		put64(m->out->bytes + m->reftable + index++ * 8, take_run(m, 1));
	}
}

static void blocks_write(struct maker *m)
{
	for (uint64_t c = 0; c < m->end / m->cluster; c++) {
		uint64_t block;

		memcpy(&block, m->out->bytes + m->reftable + c / per_block(m) * 8, 8);
		refcount_put(m->out->bytes + be64toh(block), m->g->refcount_order, c % per_block(m), m->refs[c]);
	}
}

static void snapshot_table_write(struct maker *m)
{
	uint8_t *p = m->out->bytes + m->snapshot_table;

	for (uint32_t k = 0; k < m->g->snapshots; k++, p += 64) {
		put64(p, m->snapshot[k].l1);
		put32(p + 8, m->l1_entries);
		put16(p + 12, 1);
		put16(p + 14, 1);
		put32(p + 36, 16);
		put64(p + 48, m->g->guest_bytes);
		p[56] = (uint8_t)('1' + k);
		p[57] = (uint8_t)('a' + k);
	}
}

static uint8_t *extension_write(uint8_t *tail, uint32_t type, const void *data, uint32_t bytes)
{
	put32(tail, type);
	put32(tail + 4, bytes);
	memcpy(tail + 8, data, bytes);
	return tail + 8 + align_up(bytes, 8);
}

/* Returns where the backing name may lie: behind the end. */
static uint8_t *extensions_write(const struct maker *m, uint8_t *tail)
{
	const struct sim_geometry *g = m->g;
	uint8_t names[16 * 48] = {0}, bitmaps[24] = {0}, crypto[16];

	if (g->backing)
		tail = extension_write(tail, 0xe2792aca, g->backing_format, (uint32_t)strlen(g->backing_format));
	for (uint32_t i = 0; i < g->names; i++) {
		names[i * 48 + 1] = (uint8_t)i;
		names[i * 48 + 2] = 'f';
	}
	if (g->names)
		tail = extension_write(tail, 0x6803f857, names, g->names * 48);
	put64(crypto, m->crypto);
	put64(crypto + 8, SIM_CRYPT_BYTES);
	if (g->encrypted)
		tail = extension_write(tail, 0x0537be77, crypto, sizeof(crypto));
	put32(bitmaps, g->bitmaps);
	put64(bitmaps + 8, m->bitmaps_bytes);
	put64(bitmaps + 16, m->bitmaps);
	if (g->bitmaps)
		tail = extension_write(tail, 0x23852875, bitmaps, sizeof(bitmaps));
	return tail + 8;
}

static void header_write(struct maker *m)
{
	const struct sim_geometry *g = m->g;
	uint32_t header_bytes = g->version < 3 ? 72 : g->compression ? 112 : 104;
	uint8_t *p = m->out->bytes, *tail = p + header_bytes;

	put32(p, 0x514649fb);
	put32(p + 4, g->version);
	put32(p + 20, g->cluster_bits);
	put64(p + 24, g->guest_bytes);
	put32(p + 36, m->l1_entries);
	put64(p + 40, m->active.l1);
	put64(p + 48, m->reftable);
	put32(p + 56, (uint32_t)m->reftable_clusters);
	put32(p + 60, g->snapshots);
	put64(p + 64, g->snapshots ? m->snapshot_table : 0);
	put32(p + 32, g->encrypted ? 2 : 0);
	if (g->version >= 3) {
		put64(p + 72, (g->extended ? EXTENDED : 0) | (g->compression ? 8 : 0));
		put64(p + 80, g->lazy);
		put64(p + 88, g->bitmaps > 0);
		put32(p + 96, g->refcount_order);
		put32(p + 100, header_bytes);
		if (g->compression)
			p[104] = (uint8_t)g->compression;
	}
	tail = extensions_write(m, tail);
	if (!g->backing)
		return;
	put64(p + 8, (uint64_t)(tail - p));
	put32(p + 16, (uint32_t)strlen(g->backing));
	memcpy(tail, g->backing, strlen(g->backing));
}

/* ---- all of it ---- */

static void out_init(struct maker *m)
{
	uint64_t sectors = m->g->guest_bytes / SIM_SECTOR;

	*m->out = (struct sim_made){.bytes = sim_alloc(FILE_ROOM),
		.tags = sim_alloc(sectors * 8),
		.holds = sim_alloc(sectors * sizeof(bool))};
	for (uint32_t k = 0; k < m->g->snapshots; k++) {
		m->out->snapshot_tags[k] = sim_alloc(sectors * 8);
		m->out->snapshot_holds[k] = sim_alloc(sectors * sizeof(bool));
	}
}

static void content_make(struct maker *m)
{
	for (uint32_t c = 0; c < m->guest_clusters; c++)
		cluster_fill(m, c);
	for (uint32_t k = 0; k < m->g->snapshots; k++) {
		snapshot_take(m, k);
		diverge(m, SIM_ID_SNAPSHOT + k);
	}
}

static uint64_t crypto_make(struct maker *m)
{
	uint64_t at = take_run(m, div_round_up(SIM_CRYPT_BYTES, m->cluster));

	sim_crypt_header(m->out->bytes + at);
	return at;
}

static void space_use_up(struct maker *m)
{
	while (m->end < m->g->used_until)
		take_run(m, 1);
}

/* At least what the image will need, so that the refcount table is laid out first and is large enough. */
static uint64_t space_estimate(const struct maker *m)
{
	uint64_t clusters = m->guest_clusters + m->guest_clusters / m->per_l2 + 2;

	clusters *= 1 + m->g->snapshots;
	clusters += m->g->bitmaps * 8;
	clusters *= m->g->gaps_in ? 2 : 1;
	clusters = MAX(clusters + 20, m->g->used_until / m->cluster);
	return (clusters + div_round_up(clusters, per_block(m) - 1)) * m->cluster;
}

static uint64_t bitmap_take(void *arg, uint64_t clusters) { return take_run(arg, clusters); }

void sim_make(struct sim_made *out, const struct sim_geometry *g, struct sim_rng *r)
{
	struct maker m = {.g = g, .out = out, .r = r, .cluster = UINT64_C(1) << g->cluster_bits, .gaps_in = g->gaps_in};

	m.entry_bytes = g->extended ? 16 : 8;
	m.per_l2 = (uint32_t)(m.cluster / m.entry_bytes);
	m.guest_clusters = (uint32_t)div_round_up(g->guest_bytes, m.cluster);
	m.l1_entries = MAX((uint32_t)div_round_up(m.guest_clusters, m.per_l2), 1u);
	m.refs = sim_alloc(FILE_ROOM / SIM_SECTOR * sizeof(*m.refs));
	m.end = m.cluster;
	out_init(&m);
	m.reftable_clusters = div_round_up(space_estimate(&m), per_block(&m) * m.cluster * (m.cluster / 8));
	m.reftable = take_run(&m, m.reftable_clusters);
	tree_new(&m, &m.active);
	content_make(&m);
	if (g->snapshots)
		m.snapshot_table = take_run(&m, 1);
	m.bitmaps_bytes = sim_make_bitmaps(out, g, r, bitmap_take, &m, &m.bitmaps);
	if (g->encrypted)
		m.crypto = crypto_make(&m);
	space_use_up(&m);
	blocks_take(&m);
	count(&m);
	tree_write(&m, &m.active, true);
	for (uint32_t k = 0; k < g->snapshots; k++)
		tree_write(&m, &m.snapshot[k], false);
	tree_write(&m, &m.active, true);
	blocks_write(&m);
	snapshot_table_write(&m);
	header_write(&m);
	out->len = m.end;
	tree_free(&m.active);
	for (uint32_t k = 0; k < g->snapshots; k++)
		tree_free(&m.snapshot[k]);
	sim_free(m.refs);
}

void sim_made_free(struct sim_made *m)
{
	sim_free(m->bytes);
	sim_free(m->data);
	sim_free(m->tags);
	sim_free(m->holds);
	for (unsigned k = 0; k < SIM_SNAPSHOTS; k++) {
		sim_free(m->snapshot_tags[k]);
		sim_free(m->snapshot_holds[k]);
	}
	for (unsigned k = 0; k < SIM_BITMAPS; k++)
		sim_free(m->bitmap[k].bits);
}
