/* SPDX-License-Identifier: MIT */
/*
 * The checker's reading of compressed clusters. Most crash images have the same ones, so what was decompressed is
 * remembered by the content of the sectors that it was made of.
 */
#include "codec.h"
#include "raw_impl.h"

#define MEMO (1u << 12)

struct sim_memo {
	uint64_t key; /* 0: nothing */
	bool good;
	uint64_t tags[SIM_ENCODED_SECTORS];
};

struct span {
	uint64_t host;
	uint32_t sectors;
};

void sim_raw_encoded_fini(struct sim_raw *r)
{
	sim_free(r->memo);
	sim_free(r->encoded);
}

/* Source: docs/interop/qcow2.rst, "Compressed Clusters Descriptor". */
static struct span span_of(const struct sim_raw *r, uint64_t entry)
{
	unsigned x = 62 - (r->header.cluster_bits - 8);

	return (struct span){entry & ((UINT64_C(1) << x) - 1), (uint32_t)((entry & (FLAG_COMPRESSED - 1)) >> x) + 1};
}

bool sim_raw_encoded_claim(struct sim_raw *r, uint64_t entry, uint8_t tree)
{
	struct span s = span_of(r, entry);
	uint64_t cluster = UINT64_C(1) << r->header.cluster_bits;
	uint64_t first = align_down(s.host, cluster);
	uint64_t end = align_down(s.host, SIM_SECTOR) + (uint64_t)s.sectors * SIM_SECTOR;

	if (entry & FLAG_COPIED)
		return sim_raw_problem(r, "M4: compressed data at %#" PRIx64 " is COPIED", s.host);
	if (s.host < cluster || s.host >> 56)
		return sim_raw_problem(r, "M3: compressed data at %#" PRIx64, s.host);
	for (uint64_t at = first; at < end; at += cluster) {
		if (!sim_raw_claim(r, at, SIM_ROLE_COMPRESSED, tree))
			return false;
	}
	return true;
}

static uint64_t mix(uint64_t h, uint64_t v)
{
	h = (h ^ v) * UINT64_C(0x9fb21c651e98df25);
	return h ^ h >> 32;
}

static uint64_t key_of(const struct sim_raw *r, struct span s)
{
	uint64_t h = mix(r->header.cluster_bits, s.host % SIM_SECTOR << 32 | s.sectors);

	for (uint32_t i = 0; i < s.sectors; i++)
		h = mix(h, sim_version_content(r->image->disk, version_at(r, s.host + (uint64_t)i * SIM_SECTOR)));
	return h | 1;
}

static void decode(struct sim_raw *r, struct span s, struct sim_memo *m)
{
	uint64_t cluster = UINT64_C(1) << r->header.cluster_bits;
	uint8_t *from = r->encoded, *to = from + s.sectors * SIM_SECTOR;
	size_t skip = s.host % SIM_SECTOR;

	for (uint32_t i = 0; i < s.sectors; i++)
		memcpy(from + i * SIM_SECTOR, sector_at(r, s.host - skip + (uint64_t)i * SIM_SECTOR), SIM_SECTOR);
	m->good = sim_decode(
		(enum sim_compression)r->header.compression, from + skip, s.sectors * SIM_SECTOR - skip, to, cluster);
	for (uint64_t i = 0; i < cluster / SIM_SECTOR; i++)
		m->tags[i] = sim_stamp_get(to + i * SIM_SECTOR);
}

const uint64_t *sim_raw_encoded_tags(struct sim_raw *r, uint64_t entry)
{
	struct span s = span_of(r, entry);
	struct sim_memo *m;
	uint64_t key;

	if (r->header.cluster_bits > SIM_ENCODED_BITS || s.sectors > 2 * SIM_ENCODED_SECTORS) {
		sim_raw_problem(r, "compressed clusters of %u bits", r->header.cluster_bits);
		return NULL;
	}
	if (!r->memo) {
		r->memo = sim_alloc(MEMO * sizeof(*r->memo));
		r->encoded = sim_alloc(3 * SIM_ENCODED_SECTORS * SIM_SECTOR);
	}
	key = key_of(r, s);
	m = &r->memo[key >> 20 & (MEMO - 1)];
	if (m->key != key) {
		m->key = key;
		decode(r, s, m);
	}
	if (!m->good)
		sim_raw_problem(r, "the compressed data at %#" PRIx64 " can't be read", s.host);
	return m->good ? m->tags : NULL;
}
