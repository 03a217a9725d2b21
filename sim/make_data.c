/* SPDX-License-Identifier: MIT */
/*
 * Moves the data of an image that was made into an external data file: each cluster to the place that it has on the disk. What
 * it leaves behind in the image is free, and full of garbage, and so is what no cluster of the disk lies in.
 */
#include <assert.h>
#include <endian.h>
#include <string.h>

#include "base/math.h"
#include "crypt.h"
#include "make.h"
#include "memory.h"

#define COPIED (UINT64_C(1) << 63)
#define ZERO UINT64_C(1)
#define OFFSET_MASK UINT64_C(0x00fffffffffffe00)
#define EXTENDED UINT64_C(16)
#define DATA_FILE UINT64_C(4)
#define RAW UINT64_C(2)
#define SUBCLUSTERS 32u
#define NAME "data"
#define NAME_BYTES 16 /* of its header extension */

struct mover {
	struct sim_made *out;
	bool raw, extended, encrypted;
	uint64_t cluster, guest_bytes;
	uint64_t used; /* end of the last cluster of the disk that has a place */
};

static uint64_t get(const uint8_t *p, unsigned bytes)
{
	uint64_t v = 0;

	for (unsigned i = 0; i < bytes; i++)
		v = v << 8 | p[i];
	return v;
}

static void put(uint8_t *p, unsigned bytes, uint64_t v)
{
	for (unsigned i = 0; i < bytes; i++)
		p[i] = (uint8_t)(v >> 8 * (bytes - 1 - i));
}

/* The cluster is free. */
static void refcount_clear(struct mover *m, uint64_t host)
{
	uint8_t *bytes = m->out->bytes;
	unsigned order = (unsigned)get(bytes + 96, 4);
	uint64_t per_block = m->cluster * 8 >> order, c = host / m->cluster;
	uint8_t *block = bytes + get(bytes + get(bytes + 48, 8) + c / per_block * 8, 8);
	uint64_t bit = c % per_block << order;

	if (order >= 3)
		memset(block + bit / 8, 0, (size_t)1 << (order - 3));
	else
		block[bit / 8] &= (uint8_t) ~(((1u << (1u << order)) - 1) << bit % 8);
}

/* What of the cluster at `to` reads zeros without being data is zeros. */
static void zeros_write(const struct mover *m, uint8_t *to, uint64_t entry, uint64_t bitmap)
{
	uint64_t part = m->cluster / SUBCLUSTERS;

	if (!m->extended && (entry & ZERO))
		memset(to, 0, m->cluster);
	for (unsigned i = 0; m->extended && i < SUBCLUSTERS; i++) {
		if (!(bitmap >> i & 1))
			memset(to + i * part, 0, part);
	}
}

/* What is encrypted by its place is so by the new one. */
static void content_move(const struct mover *m, uint64_t host, uint64_t guest)
{
	uint8_t *to = m->out->data + guest, clear[SIM_SECTOR];

	memcpy(to, m->out->bytes + host, m->cluster);
	for (uint64_t at = 0; m->encrypted && at < m->cluster; at += SIM_SECTOR) {
		sim_decrypt((host + at) / SIM_SECTOR, to + at, clear);
		memcpy(to + at, clear, SIM_SECTOR);
		sim_encrypt((guest + at) / SIM_SECTOR, to + at);
	}
}

static void cluster_move(struct mover *m, uint64_t guest, uint8_t *at)
{
	uint64_t entry = get(at, 8), host = entry & OFFSET_MASK;
	uint8_t *to = m->out->data + guest;

	if (host) {
		content_move(m, host, guest);
		refcount_clear(m, host);
	}
	if (!host && !m->raw)
		return;
	if (m->raw)
		zeros_write(m, to, entry, m->extended ? get(at + 8, 8) : 0);
	put(at, 8, COPIED | guest | (m->raw ? 0 : entry & ZERO));
	if (m->raw && m->extended)
		put(at + 8, 8, UINT32_MAX);
	m->used = guest + m->cluster;
}

static void clusters_move(struct mover *m)
{
	uint8_t *bytes = m->out->bytes;
	uint64_t l1 = get(bytes + 40, 8), entry_bytes = m->extended ? 16 : 8, per_l2 = m->cluster / entry_bytes;

	for (uint64_t guest = 0, c = 0; guest < m->guest_bytes; guest += m->cluster, c++) {
		uint64_t l2 = get(bytes + l1 + c / per_l2 * 8, 8) & OFFSET_MASK;

		assert(l2 || !m->raw);
		if (l2)
			cluster_move(m, guest, bytes + l2 + c % per_l2 * entry_bytes);
	}
}

/* The name goes before the other extensions. */
static void header_write(struct mover *m)
{
	uint8_t *p = m->out->bytes, *ext = p + get(p + 100, 4);
	uint64_t backing = get(p + 8, 8);

	p[79] |= (uint8_t)DATA_FILE;
	p[95] |= (uint8_t)(m->raw ? RAW : 0);
	memmove(ext + NAME_BYTES, ext, (size_t)(p + m->cluster - NAME_BYTES - ext));
	memset(ext, 0, NAME_BYTES);
	put(ext, 4, 0x44415441);
	put(ext + 4, 4, strlen(NAME));
	memcpy(ext + 8, NAME, strlen(NAME));
	if (backing)
		put(p + 8, 8, backing + NAME_BYTES);
}

void sim_make_data(struct sim_made *out, const struct sim_geometry *g, uint64_t room, struct sim_rng *r)
{
	struct mover m = {.out = out,
		.raw = g->data == SIM_DATA_RAW,
		.extended = get(out->bytes + 72, 8) & EXTENDED,
		.encrypted = g->encrypted,
		.cluster = UINT64_C(1) << g->cluster_bits,
		.guest_bytes = g->guest_bytes};

	out->data = sim_alloc(align_up(MAX(room, g->guest_bytes), m.cluster));
	for (uint64_t at = 0; at < room; at += SIM_SECTOR)
		sim_stamp_put(out->data + at, sim_tag_garbage(at / SIM_SECTOR));
	clusters_move(&m);
	header_write(&m);
	switch (sim_below(r, 3)) {
	case 0: out->data_len = g->guest_bytes; break;
	case 1: out->data_len = room; break;
	default: out->data_len = MIN(m.raw ? g->guest_bytes : m.used, g->guest_bytes);
	}
}
