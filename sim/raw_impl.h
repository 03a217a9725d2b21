/* SPDX-License-Identifier: MIT */
/* What the files of the checker share; raw.h is its face. Small and inline: it runs for every power cut that is tried. */
#ifndef CORRAL_SIM_RAW_IMPL_H
#define CORRAL_SIM_RAW_IMPL_H

#include <endian.h>
#include <inttypes.h>
#include <string.h>

#include "base/math.h"
#include "memory.h"
#include "raw.h"

#define OFFSET_MASK UINT64_C(0x00fffffffffffe00)
#define FLAG_COPIED (UINT64_C(1) << 63)
#define FLAG_COMPRESSED (UINT64_C(1) << 62)
#define FLAG_ZERO UINT64_C(1)
#define L1_RESERVED UINT64_C(0x7f000000000001ff)
#define L2_RESERVED UINT64_C(0x3f000000000001fe)
#define INCOMPATIBLE_DIRTY UINT64_C(1)
#define INCOMPATIBLE_CORRUPT UINT64_C(2)
#define INCOMPATIBLE_COMPRESSION UINT64_C(8)
#define INCOMPATIBLE_DATA_FILE UINT64_C(4)
#define AUTOCLEAR_RAW UINT64_C(2)
#define INCOMPATIBLE_EXTENDED UINT64_C(16)
#define SUBCLUSTERS 32u /* of a cluster with an extended L2 entry */

extern const char *const sim_role_names[];

/* Notes the first thing that is wrong; always false. */
bool sim_raw_problem(struct sim_raw *r, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* Whether refcounts say anything about this image. */
static inline bool sim_raw_refcounts_mean(const struct sim_raw *r)
{
	return !r->dirty && !(r->damaged && r->header.reftable_offset == r->damaged_table);
}

/* A reference to the cluster at off; tree tells one L1 table's tree from another's. */
bool sim_raw_claim(struct sim_raw *r, uint64_t off, enum sim_role role, uint8_t tree);
/* The same for whole clusters that aren't part of a tree. */
bool sim_raw_claim_run(struct sim_raw *r, uint64_t off, uint64_t bytes, enum sim_role role);

/* raw_tree.c: claims all that an L1 table refers to, and reads the disk that it makes. number: 0 is the active one. */
bool sim_raw_tree(struct sim_raw *r, uint64_t l1, uint32_t entries, struct sim_raw_tree *tree, uint8_t number);

/* raw_encoded.c: claims what the L2 entry of a compressed cluster names; what its sectors read as, NULL: a problem. */
bool sim_raw_encoded_claim(struct sim_raw *r, uint64_t entry, uint8_t tree);
const uint64_t *sim_raw_encoded_tags(struct sim_raw *r, uint64_t entry);
void sim_raw_encoded_fini(struct sim_raw *r);
/* raw_bitmap.c: claims all that bitmaps take, and reads what those that are valid say. */
bool sim_raw_bitmaps(struct sim_raw *r);

static inline bool is_extended(const struct sim_raw *r) { return r->header.incompatible & INCOMPATIBLE_EXTENDED; }
static inline unsigned l2_entry_bytes(const struct sim_raw *r) { return is_extended(r) ? 16 : 8; }

/* ---- bytes ---- */

static inline uint32_t version_at(const struct sim_raw *r, uint64_t off)
{
	uint64_t sector = off / SIM_SECTOR;

	return off >= r->image->size || sector >= r->image->disk->sectors ? 0 : r->image->version[sector];
}

/* The sector that holds off; good until the next call. */
static inline const uint8_t *sector_at(struct sim_raw *r, uint64_t off)
{
	return sim_version_bytes(r->image->disk, version_at(r, off), r->scratch);
}

/* Of what the guest wrote there. */
static inline uint64_t image_tag(const struct sim_image *image, uint64_t off)
{
	uint64_t sector = off / SIM_SECTOR;
	uint32_t version = off >= image->size || sector >= image->disk->sectors ? 0 : image->version[sector];

	return image->disk->encrypted ? image->disk->versions[version].clear : image->disk->versions[version].tag;
}

/* Of what an L2 entry names. */
static inline uint64_t data_tag_at(const struct sim_raw *r, uint64_t off)
{
	return image_tag(r->data ? r->data : r->image, off);
}

static inline uint64_t tag_at(const struct sim_raw *r, uint64_t off)
{
	return r->image->disk->versions[version_at(r, off)].tag;
}

static inline uint32_t get32(const uint8_t *p)
{
	uint32_t v;

	memcpy(&v, p, 4);
	return be32toh(v);
}

static inline uint64_t get64(const uint8_t *p)
{
	uint64_t v;

	memcpy(&v, p, 8);
	return be64toh(v);
}

static inline uint8_t byte_at(struct sim_raw *r, uint64_t off) { return sector_at(r, off)[off % SIM_SECTOR]; }

/* Big-endian, across sectors if need be. */
static inline uint64_t number_at(struct sim_raw *r, uint64_t off, unsigned bytes)
{
	uint64_t v = 0;

	for (unsigned i = 0; i < bytes; i++)
		v = v << 8 | byte_at(r, off + i);
	return v;
}

#endif
