/* SPDX-License-Identifier: MIT */
/*
 * The checker: header, refcounts, then every tree from its L1 table down (raw_tree.c), then what was counted against what
 * was found. Speed matters: this runs for every power cut that is tried. See raw.h.
 */
#include "raw_impl.h"

#include <stdarg.h>
#include <stdio.h>

const char *const sim_role_names[] = {"nothing", "header", "refcount table", "refcount block", "L1 table", "L2 table",
	"guest data", "compressed data", "snapshot table", "bitmap directory", "bitmap table", "bitmap data",
	"encryption header"};

bool sim_raw_problem(struct sim_raw *r, const char *format, ...)
{
	va_list ap;

	if (r->problem[0])
		return false;
	va_start(ap, format);
	vsnprintf(r->problem, sizeof(r->problem), format, ap);
	va_end(ap);
	return false;
}

/* ---- life ---- */

void sim_raw_init(struct sim_raw *r, uint64_t file_bytes, uint64_t guest_bytes)
{
	*r = (struct sim_raw){
		.room = (uint32_t)(file_bytes / SIM_SECTOR), .guest_room = (uint32_t)(guest_bytes / SIM_SECTOR)};
	r->refcount = sim_alloc(r->room * sizeof(*r->refcount));
	r->references = sim_alloc(r->room * sizeof(*r->references));
	r->role = sim_alloc(r->room);
	r->tree = sim_alloc(r->room);
	r->copied = sim_alloc(r->room * sizeof(*r->copied));
	r->active.tags = sim_alloc(r->guest_room * sizeof(uint64_t));
	for (unsigned i = 0; i < SIM_SNAPSHOTS; i++)
		r->snapshot[i].tags = sim_alloc(r->guest_room * sizeof(uint64_t));
	for (unsigned i = 0; i < SIM_BITMAPS; i++)
		r->bitmap[i].bits = sim_alloc(r->guest_room);
}

void sim_raw_fini(struct sim_raw *r)
{
	sim_free(r->refcount);
	sim_free(r->references);
	sim_free(r->role);
	sim_free(r->tree);
	sim_raw_encoded_fini(r);
	sim_free(r->copied);
	sim_free(r->active.tags);
	for (unsigned i = 0; i < SIM_SNAPSHOTS; i++)
		sim_free(r->snapshot[i].tags);
	for (unsigned i = 0; i < SIM_BITMAPS; i++)
		sim_free(r->bitmap[i].bits);
}

/* ---- header ---- */

static void header_read(struct sim_raw_header *h, const uint8_t *p)
{
	*h = (struct sim_raw_header){
		.version = get32(p + 4),
		.cluster_bits = get32(p + 20),
		.size = get64(p + 24),
		.l1_entries = get32(p + 36),
		.l1_offset = get64(p + 40),
		.reftable_offset = get64(p + 48),
		.reftable_clusters = get32(p + 56),
		.snapshots = get32(p + 60),
		.snapshots_offset = get64(p + 64),
		.refcount_order = 4,
	};
	if (h->version >= 3) {
		h->incompatible = get64(p + 72);
		h->compatible = get64(p + 80);
		h->autoclear = get64(p + 88);
		h->refcount_order = get32(p + 96);
		h->compression = get32(p + 100) > 104 ? p[104] : 0;
	}
}

/* Whoever writes to the image keeps what the data file promises, and so may go on saying so. */
static bool data_file_check(struct sim_raw *r)
{
	const struct sim_raw_header *h = &r->header;

	if (((h->incompatible & INCOMPATIBLE_DATA_FILE) != 0) != (r->data != NULL) ||
		((h->autoclear & AUTOCLEAR_RAW) != 0) != r->data_alone)
		return sim_raw_problem(r, "header: data file: features %#" PRIx64 ", autoclear %#" PRIx64,
			h->incompatible, h->autoclear);
	return true;
}

static bool header_check(struct sim_raw *r)
{
	const uint8_t *p = sector_at(r, 0);
	struct sim_raw_header *h = &r->header;

	if (get32(p) != 0x514649fb)
		return sim_raw_problem(r, "the header is gone");
	header_read(h, p);
	if (h->version < 2 || h->version > 3 || h->cluster_bits < 9 || h->cluster_bits > 21 || h->refcount_order > 6)
		return sim_raw_problem(r, "header: version %u, cluster bits %u, refcount order %u", h->version,
			h->cluster_bits, h->refcount_order);
	if (h->incompatible &
		~(INCOMPATIBLE_DIRTY | INCOMPATIBLE_COMPRESSION | INCOMPATIBLE_DATA_FILE | INCOMPATIBLE_EXTENDED |
			(r->damaged ? INCOMPATIBLE_CORRUPT : 0)))
		return sim_raw_problem(r, "header: incompatible features %#" PRIx64, h->incompatible);
	if (h->compression > 1 || (h->compression != 0) != ((h->incompatible & INCOMPATIBLE_COMPRESSION) != 0))
		return sim_raw_problem(r, "header: compression type %u", h->compression);
	if (!data_file_check(r))
		return false;
	if (h->snapshots > SIM_SNAPSHOTS)
		return sim_raw_problem(r, "header: %u snapshots", h->snapshots);
	if (h->size / SIM_SECTOR > r->guest_room)
		return sim_raw_problem(r, "header: size %" PRIu64, h->size);
	r->dirty = h->incompatible & INCOMPATIBLE_DIRTY;
	r->encrypted = get32(p + 32) == 2;
	r->clusters = (uint32_t)div_round_up(r->image->size, UINT64_C(1) << h->cluster_bits);
	return true;
}

/* ---- what is used, and for what ---- */

/* A reference to the cluster at off; tree tells one L1 table's tree from another's. */
bool sim_raw_claim(struct sim_raw *r, uint64_t off, enum sim_role role, uint8_t tree)
{
	uint64_t c = off >> r->header.cluster_bits;

	if (c >= r->clusters)
		return sim_raw_problem(r, "M3: %s at %#" PRIx64 ", beyond the end of the file at %#" PRIx64,
			sim_role_names[role], off, r->image->size);
	if (r->damaged)
		return ++r->references[c] > 0;
	if (r->role[c] != SIM_ROLE_NONE && r->role[c] != role)
		return sim_raw_problem(r, "M2: cluster %#" PRIx64 " is both %s and %s", off, sim_role_names[r->role[c]],
			sim_role_names[role]);
	if (r->role[c] == role && r->tree[c] == tree && role != SIM_ROLE_COMPRESSED)
		return sim_raw_problem(
			r, "M2: cluster %#" PRIx64 " (%s) is referenced twice", off, sim_role_names[role]);
	r->role[c] = role;
	r->tree[c] = tree;
	r->references[c]++;
	return true;
}

bool sim_raw_claim_run(struct sim_raw *r, uint64_t off, uint64_t bytes, enum sim_role role)
{
	uint64_t cluster = UINT64_C(1) << r->header.cluster_bits;

	if (off == 0 || !is_aligned(off, cluster))
		return sim_raw_problem(r, "M3: %s at %#" PRIx64 ", not aligned", sim_role_names[role], off);
	for (uint64_t at = 0; at < bytes; at += cluster) {
		if (!sim_raw_claim(r, off + at, role, 0))
			return false;
	}
	return true;
}

/* ---- refcounts ---- */

static void block_decode(struct sim_raw *r, const uint8_t *p, unsigned order, uint32_t first, uint32_t n)
{
	uint64_t *to = r->refcount + first;

	for (uint32_t i = 0; i < n; i++) {
		switch (order) {
		case 3: to[i] = p[i]; break;
		case 4: to[i] = (uint64_t)p[2 * i] << 8 | p[2 * i + 1]; break;
		case 5: to[i] = get32(p + 4 * i); break;
		case 6: to[i] = get64(p + 8 * i); break;
		default: to[i] = p[(i << order) / 8] >> ((i << order) % 8) & ((1u << (1u << order)) - 1); break;
		}
	}
}

/* The refcounts of clusters from first on, from the block at off; those beyond the file don't interest. */
static void block_read(struct sim_raw *r, uint64_t off, uint64_t first)
{
	unsigned order = r->header.refcount_order;
	uint64_t per_sector = (SIM_SECTOR * UINT64_C(8)) >> order;
	uint64_t cluster = UINT64_C(1) << r->header.cluster_bits;

	for (uint64_t at = 0; at < cluster && first < r->clusters; at += SIM_SECTOR, first += per_sector)
		block_decode(r, sector_at(r, off + at), order, (uint32_t)first,
			(uint32_t)MIN(per_sector, r->clusters - first));
}

static bool reftable_entry(struct sim_raw *r, uint64_t index, uint64_t entry)
{
	uint64_t per_block = (UINT64_C(8) << r->header.cluster_bits) >> r->header.refcount_order;

	if (entry == 0)
		return true;
	if (!is_aligned(entry, UINT64_C(1) << r->header.cluster_bits))
		return sim_raw_problem(r, "M3: refcount table entry %" PRIu64 " is %#" PRIx64, index, entry);
	if (!sim_raw_claim(r, entry, SIM_ROLE_REFBLOCK, 0))
		return false;
	block_read(r, entry, index * per_block);
	return true;
}

static bool reftable_check(struct sim_raw *r)
{
	uint64_t bytes = (uint64_t)r->header.reftable_clusters << r->header.cluster_bits;
	uint64_t entries[SIM_SECTOR / 8];

	if (r->damaged && !sim_raw_refcounts_mean(r))
		return true;
	if (!sim_raw_claim_run(r, r->header.reftable_offset, bytes, SIM_ROLE_REFTABLE))
		return false;
	for (uint64_t at = 0; at < bytes; at += SIM_SECTOR) {
		if (tag_at(r, r->header.reftable_offset + at) == SIM_TAG_ZERO)
			continue;
		memcpy(entries, sector_at(r, r->header.reftable_offset + at), SIM_SECTOR);
		for (unsigned i = 0; i < SIM_SECTOR / 8; i++) {
			if (!reftable_entry(r, at / 8 + i, be64toh(entries[i])))
				return false;
		}
	}
	return true;
}

/* ---- snapshots ---- */

static void text_read(struct sim_raw *r, uint64_t at, uint64_t bytes, char out[SIM_SNAPSHOT_NAME])
{
	uint64_t n = MIN(bytes, (uint64_t)SIM_SNAPSHOT_NAME - 1);

	for (uint64_t i = 0; i < n; i++)
		out[i] = (char)byte_at(r, at + i);
	out[n] = '\0';
}

/* M12: IDs are unique. */
static bool names_read(struct sim_raw *r, unsigned i, uint64_t at, uint64_t extra)
{
	uint64_t id = number_at(r, at + 12, 2), name = number_at(r, at + 14, 2);

	text_read(r, at + 40 + extra, id, r->snapshot[i].id);
	text_read(r, at + 40 + extra + id, name, r->snapshot[i].name);
	for (unsigned k = 0; k < i; k++)
		if (strcmp(r->snapshot[k].id, r->snapshot[i].id) == 0)
			return sim_raw_problem(r, "M12: two snapshots have the ID %s", r->snapshot[i].id);
	return true;
}

static bool snapshot_walk(struct sim_raw *r, unsigned i, uint64_t at)
{
	uint64_t l1 = number_at(r, at, 8);
	uint32_t entries = (uint32_t)number_at(r, at + 8, 4);
	uint64_t extra = number_at(r, at + 36, 4);

	if (!names_read(r, i, at, extra))
		return false;
	r->snapshot[i].size = extra >= 16 ? number_at(r, at + 40 + 8, 8) : r->header.size;
	if (r->snapshot[i].size / SIM_SECTOR > r->guest_room)
		return sim_raw_problem(r, "snapshot %u: size %" PRIu64, i, r->snapshot[i].size);
	return sim_raw_tree(r, l1, entries, &r->snapshot[i], (uint8_t)(i + 1));
}

static bool snapshots_check(struct sim_raw *r)
{
	uint64_t at = r->header.snapshots_offset;

	if (r->header.snapshots == 0)
		return true;
	for (unsigned i = 0; i < r->header.snapshots; i++) {
		uint64_t bytes = 40 + number_at(r, at + 36, 4) + number_at(r, at + 12, 2) + number_at(r, at + 14, 2);

		if (!snapshot_walk(r, i, at))
			return false;
		at += align_up(bytes, 8);
	}
	return sim_raw_claim_run(r, r->header.snapshots_offset, at - r->header.snapshots_offset, SIM_ROLE_SNAPSHOTS);
}

/* ---- encryption ---- */

/* Its header is named by an extension; which sectors it has besides never changes here. */
static bool crypto_check(struct sim_raw *r)
{
	uint64_t at = r->header.version >= 3 ? number_at(r, 100, 4) : 72;
	uint64_t end = UINT64_C(1) << r->header.cluster_bits, type;

	if (!r->encrypted)
		return true;
	while (at + 24 <= end && (type = number_at(r, at, 4)) != 0) {
		if (type == 0x0537be77)
			return sim_raw_claim_run(r, number_at(r, at + 8, 8), number_at(r, at + 16, 8), SIM_ROLE_CRYPTO);
		at += 8 + align_up(number_at(r, at + 4, 4), 8);
	}
	return sim_raw_problem(r, "the encryption header's place is gone");
}

/* ---- all of it ---- */

/* M4: what is COPIED has one reference; its refcount says so too, unless others were being counted. */
static bool copied_compare(struct sim_raw *r, uint32_t c)
{
	uint64_t off = (uint64_t)c << r->header.cluster_bits;

	if (r->references[c] != 1)
		return sim_raw_problem(r, "M4: %s %#" PRIx64 " is COPIED, it has %u references",
			sim_role_names[r->role[c]], off, r->references[c]);
	if (r->refcount[c] > 1 && !r->sharing)
		return sim_raw_problem(r, "M4: %s %#" PRIx64 " is COPIED, its refcount is %" PRIu64,
			sim_role_names[r->role[c]], off, r->refcount[c]);
	return true;
}

static bool refcounts_compare(struct sim_raw *r)
{
	uint64_t widest = UINT64_MAX >> (64 - (1u << r->header.refcount_order));

	for (uint32_t c = 0; c < r->clusters; c++) {
		if (r->copied[c] && sim_raw_refcounts_mean(r) && !copied_compare(r, c))
			return false;
		r->allocated += r->references[c] != 0;
		if (r->refcount[c] > r->references[c])
			r->leaks++;
		else if (r->refcount[c] < r->references[c] && sim_raw_refcounts_mean(r) &&
			!(r->damaged && r->refcount[c] == widest)) /* two roles, and no room to say so */
			return sim_raw_problem(r, "M1: cluster %#" PRIx64 " (%s): refcount %" PRIu64 ", references %u",
				(uint64_t)c << r->header.cluster_bits, sim_role_names[r->role[c]], r->refcount[c],
				r->references[c]);
	}
	return true;
}

/* A raw data file is what the guest reads; it may be read by programs that don't know of the image. */
static bool data_compare(struct sim_raw *r)
{
	for (uint64_t s = 0; r->data_alone && s < r->active.size / SIM_SECTOR; s++) {
		uint64_t tag = data_tag_at(r, s * SIM_SECTOR);

		if (tag != r->active.tags[s])
			return sim_raw_problem(r,
				"sector %" PRIu64 " of the raw data file is %#" PRIx64 ", but %#" PRIx64
				" in the image",
				s, tag, r->active.tags[s]);
	}
	return !r->data_alone || r->data->size >= r->active.size ||
		sim_raw_problem(
			r, "the raw data file has %" PRIu64 " bytes, the disk %" PRIu64, r->data->size, r->active.size);
}

static void forget(struct sim_raw *r)
{
	memset(r->refcount, 0, r->clusters * sizeof(*r->refcount));
	memset(r->references, 0, r->clusters * sizeof(*r->references));
	memset(r->role, 0, r->clusters);
	memset(r->tree, 0, r->clusters);
	memset(r->copied, 0, r->clusters * sizeof(*r->copied));
	r->leaks = r->allocated = r->beyond = 0;
}

/* By the first letter of the name. */
static void backing_choose(struct sim_raw *r)
{
	uint64_t at = number_at(r, 8, 8), letter = at ? number_at(r, at, 1) : 0;

	r->below = letter == 'o' ? r->other : at ? r->backing : NULL;
	r->below_sectors = letter == 'o' ? r->other_sectors : at ? r->backing_sectors : 0;
}

bool sim_raw_check(struct sim_raw *r, const struct sim_image *image)
{
	r->image = image;
	r->problem[0] = '\0';
	if (!header_check(r))
		return false;
	forget(r);
	backing_choose(r);
	r->active.size = r->header.size;
	return sim_raw_claim(r, 0, SIM_ROLE_HEADER, 0) && reftable_check(r) &&
		sim_raw_tree(r, r->header.l1_offset, r->header.l1_entries, &r->active, 0) && snapshots_check(r) &&
		sim_raw_bitmaps(r) && crypto_check(r) && refcounts_compare(r) && data_compare(r);
}
