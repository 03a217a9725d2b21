/* SPDX-License-Identifier: MIT */
/*
 * The checker's reading of compressed clusters. Most crash images have the same ones, so what was decompressed is
 * remembered by the content of the sectors that it was made of.
 */
#include "codec.h"
#include "raw_impl.h"

#define MEMO (1u << 10)

struct sim_memo {
	uint32_t cluster_bits, cluster_sectors;
	uint64_t key[MEMO]; /* 0: nothing */
	bool good[MEMO];
	uint64_t *tags;   /* of the sectors of each */
	uint8_t *scratch; /* a cluster, and twice as much for what it is made of: a descriptor has no room for more */
};

struct span {
	uint64_t host;
	uint32_t sectors;
};

static void memo_free(struct sim_memo *m)
{
	if (m) {
		sim_free(m->tags);
		sim_free(m->scratch);
	}
	sim_free(m);
}

static struct sim_memo *memo_new(uint32_t cluster_bits)
{
	struct sim_memo *m = sim_alloc(sizeof(*m));

	m->cluster_bits = cluster_bits;
	m->cluster_sectors = (1u << cluster_bits) / SIM_SECTOR;
	m->tags = sim_alloc(MEMO * m->cluster_sectors * sizeof(*m->tags));
	m->scratch = sim_alloc((size_t)3 << cluster_bits);
	return m;
}

void sim_raw_encoded_fini(struct sim_raw *r) { memo_free(r->memo); }

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

	if ((entry & FLAG_COPIED) && !r->damaged)
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

/* Sets the tags of the cluster; false: it can't be decompressed. */
static bool decode(struct sim_raw *r, struct span s, uint64_t *tags)
{
	struct sim_memo *m = r->memo;
	uint8_t *to = m->scratch, *from = to + (1u << m->cluster_bits);
	size_t skip = s.host % SIM_SECTOR, len = (size_t)s.sectors * SIM_SECTOR;
	bool good;

	for (uint32_t i = 0; i < s.sectors; i++)
		memcpy(from + i * SIM_SECTOR, sector_at(r, s.host - skip + (uint64_t)i * SIM_SECTOR), SIM_SECTOR);
	good = sim_decode(
		(enum sim_compression)r->header.compression, from + skip, len - skip, to, 1u << m->cluster_bits);
	for (uint32_t i = 0; i < m->cluster_sectors; i++)
		tags[i] = sim_stamp_get(to + i * SIM_SECTOR);
	return good;
}

const uint64_t *sim_raw_encoded_tags(struct sim_raw *r, uint64_t entry)
{
	struct span s = span_of(r, entry);
	uint64_t key = key_of(r, s), *tags;
	uint32_t i = key >> 20 & (MEMO - 1);

	if (!r->memo || r->memo->cluster_bits != r->header.cluster_bits) {
		memo_free(r->memo);
		r->memo = memo_new(r->header.cluster_bits);
	}
	tags = r->memo->tags + (size_t)i * r->memo->cluster_sectors;
	if (r->memo->key[i] != key) {
		r->memo->key[i] = key;
		r->memo->good[i] = decode(r, s, tags);
	}
	if (!r->memo->good[i])
		sim_raw_problem(r, "the compressed data at %#" PRIx64 " can't be read", s.host);
	return r->memo->good[i] ? tags : NULL;
}
