/* SPDX-License-Identifier: MIT */
/* The checker's walk from an L1 table down to what a guest reads. */
#include "raw_impl.h"

struct walk {
	struct sim_raw *r;
	struct sim_raw_tree *tree;
	uint8_t number; /* 0: the active one */
	uint64_t cluster_sectors;
};

static uint64_t below(const struct sim_raw *r, uint64_t sector)
{
	return sector < r->below_sectors ? r->below[sector] : SIM_TAG_ZERO;
}

/* How many of so many sectors the disk has. */
static uint64_t sectors_inside(const struct walk *w, uint64_t first, uint64_t n)
{
	uint64_t all = w->tree->size / SIM_SECTOR;

	return first >= all ? 0 : MIN(n, all - first);
}

static void note_beyond(const struct walk *w, uint64_t first)
{
	w->r->beyond += w->number == 0 && sectors_inside(w, first, 1) == 0;
}

static uint64_t guest_sectors(const struct walk *w, uint64_t first)
{
	return sectors_inside(w, first, w->cluster_sectors);
}

static void fill_below_run(struct walk *w, uint64_t first, uint64_t sectors)
{
	for (uint64_t i = 0, n = sectors_inside(w, first, sectors); i < n; i++)
		w->tree->tags[first + i] = below(w->r, first + i);
}

static void fill_below(struct walk *w, uint64_t first) { fill_below_run(w, first, w->cluster_sectors); }

static void fill_zero(struct walk *w, uint64_t first)
{
	for (uint64_t i = 0, n = guest_sectors(w, first); i < n; i++)
		w->tree->tags[first + i] = SIM_TAG_ZERO;
}

static void fill_data(struct walk *w, uint64_t first, uint64_t host)
{
	for (uint64_t i = 0, n = guest_sectors(w, first); i < n; i++)
		w->tree->tags[first + i] = data_tag_at(w->r, host + i * SIM_SECTOR);
}

static bool fill_encoded(struct walk *w, uint64_t first, uint64_t entry)
{
	const uint64_t *tags = NULL;

	if (sim_raw_encoded_claim(w->r, entry, w->number + 1))
		tags = sim_raw_encoded_tags(w->r, entry);
	for (uint64_t i = 0, n = guest_sectors(w, first); tags && i < n; i++)
		w->tree->tags[first + i] = tags[i];
	return tags != NULL;
}

/* M4, of which the rest is looked at when all is counted; refcounts mean nothing while the dirty bit is set. */
static bool copied_check(struct walk *w, const char *what, uint64_t entry, uint64_t host)
{
	struct sim_raw *r = w->r;
	uint64_t refcount = r->refcount[host >> r->header.cluster_bits];

	if (!sim_raw_refcounts_mean(r) || w->number != 0)
		return true;
	if ((entry & FLAG_COPIED) && refcount == 0)
		return sim_raw_problem(
			r, "M4: %s %#" PRIx64 " is COPIED, its refcount is %" PRIu64, what, host, refcount);
	if (entry & FLAG_COPIED)
		r->copied[host >> r->header.cluster_bits] = true;
	if (r->exact && !(entry & FLAG_COPIED) && refcount == 1)
		return sim_raw_problem(r, "M4: %s %#" PRIx64 " is not COPIED, its refcount is 1", what, host);
	return true;
}

/* M3, for the bitmap of an extended entry: data lies in a host cluster, and a subcluster is of one kind. */
static bool bitmap_check(struct walk *w, uint64_t first, uint64_t entry, uint64_t bitmap, bool has_host)
{
	uint32_t data = (uint32_t)bitmap, zero = (uint32_t)(bitmap >> 32);

	if (!(entry & FLAG_ZERO) && !(data & zero) && (data == 0 || has_host))
		return true;
	return sim_raw_problem(w->r,
		"M3: extended L2 entry %#" PRIx64 " with bitmap %#" PRIx64 " for guest sector %" PRIu64, entry, bitmap,
		first);
}

static void fill_subclusters(struct walk *w, uint64_t first, uint64_t host, uint64_t bitmap)
{
	uint64_t n = guest_sectors(w, first), per = w->cluster_sectors / SUBCLUSTERS;

	for (uint64_t i = 0; i < n; i++) {
		uint64_t *tag = &w->tree->tags[first + i];

		if (bitmap >> (i / per) & 1)
			*tag = data_tag_at(w->r, host + i * SIM_SECTOR);
		else
			*tag = bitmap >> (SUBCLUSTERS + i / per) & 1 ? SIM_TAG_ZERO : below(w->r, first + i);
	}
}

/* bitmap: of an extended entry. */
static bool entry_walk(struct walk *w, uint64_t first, uint64_t entry, uint64_t bitmap)
{
	struct sim_raw *r = w->r;
	uint64_t host = entry & OFFSET_MASK;
	bool has_host = host != 0 || (r->data && (entry & FLAG_COPIED));

	if ((entry & FLAG_COMPRESSED) && bitmap != 0)
		return sim_raw_problem(
			r, "M3: compressed cluster with bitmap %#" PRIx64 " at guest sector %" PRIu64, bitmap, first);
	if (entry & FLAG_COMPRESSED)
		return fill_encoded(w, first, entry);
	if ((entry & L2_RESERVED) || ((entry & FLAG_ZERO) && r->header.version < 3))
		return sim_raw_problem(r, "M3: L2 entry %#" PRIx64 " for guest sector %" PRIu64, entry, first);
	if ((!is_aligned(host, UINT64_C(1) << r->header.cluster_bits) && !(r->damaged && (entry & FLAG_ZERO))) ||
		(host == 0 && (entry & FLAG_COPIED) && !r->data))
		return sim_raw_problem(r, "M3: L2 entry %#" PRIx64 " for guest sector %" PRIu64, entry, first);
	if (has_host && r->data && (host != first * SIM_SECTOR || !((entry & FLAG_COPIED) || r->damaged)))
		return sim_raw_problem(
			r, "M3: L2 entry %#" PRIx64 " for guest sector %" PRIu64 " in the data file", entry, first);
	if (has_host && !r->data &&
		(!sim_raw_claim(r, host, SIM_ROLE_DATA, w->number + 1) ||
			!copied_check(w, "data cluster", entry, host)))
		return false;
	if (is_extended(r)) {
		fill_subclusters(w, first, host, bitmap);
		return bitmap_check(w, first, entry, bitmap, has_host);
	}
	if (entry & FLAG_ZERO)
		fill_zero(w, first);
	else if (has_host)
		fill_data(w, first, host);
	else
		fill_below(w, first);
	return true;
}

static bool l2_sector_walk(struct walk *w, uint64_t first, uint64_t host)
{
	struct sim_raw *r = w->r;
	unsigned words = l2_entry_bytes(r) / 8;
	uint64_t scratch[SIM_SECTOR / 8];
	const uint64_t *entries = (const uint64_t *)(const void *)sim_version_bytes(
		r->image->disk, version_at(r, host), (uint8_t *)scratch);

	for (unsigned i = 0; i < SIM_SECTOR / 8; i += words, first += w->cluster_sectors) {
		uint64_t bitmap = words > 1 ? be64toh(entries[i + 1]) : 0;

		if (entries[i] == 0 && bitmap == 0) {
			fill_below(w, first);
			continue;
		}
		note_beyond(w, first);
		if (!entry_walk(w, first, be64toh(entries[i]), bitmap))
			return false;
	}
	return true;
}

static bool l2_walk(struct walk *w, uint64_t first, uint64_t host)
{
	struct sim_raw *r = w->r;
	uint64_t cluster = UINT64_C(1) << r->header.cluster_bits;
	uint64_t covered = SIM_SECTOR / l2_entry_bytes(r) * w->cluster_sectors;

	for (uint64_t at = 0; at < cluster; at += SIM_SECTOR, first += covered) {
		if (tag_at(r, host + at) == SIM_TAG_ZERO)
			fill_below_run(w, first, covered);
		else if (!l2_sector_walk(w, first, host + at))
			return false;
	}
	return true;
}

static bool l1_entry_walk(struct walk *w, uint64_t index, uint64_t entry)
{
	struct sim_raw *r = w->r;
	uint64_t per_table = (UINT64_C(1) << r->header.cluster_bits) / l2_entry_bytes(r);
	uint64_t first = index * per_table * w->cluster_sectors;
	uint64_t host = entry & OFFSET_MASK;

	if ((entry & L1_RESERVED) || !is_aligned(host, UINT64_C(1) << r->header.cluster_bits) ||
		(host == 0 && entry != 0))
		return sim_raw_problem(r, "M3: L1 entry %" PRIu64 " is %#" PRIx64, index, entry);
	if (host == 0) {
		for (uint64_t i = 0; i < per_table; i++)
			fill_below(w, first + i * w->cluster_sectors);
		return true;
	}
	note_beyond(w, first);
	return sim_raw_claim(r, host, SIM_ROLE_L2, w->number + 1) && copied_check(w, "L2 table", entry, host) &&
		l2_walk(w, first, host);
}

bool sim_raw_tree(struct sim_raw *r, uint64_t l1, uint32_t entries, struct sim_raw_tree *tree, uint8_t number)
{
	struct walk w = {.r = r,
		.tree = tree,
		.number = number,
		.cluster_sectors = (UINT64_C(1) << r->header.cluster_bits) / SIM_SECTOR};
	uint64_t per_entry = w.cluster_sectors * (UINT64_C(1) << r->header.cluster_bits) / l2_entry_bytes(r);
	uint64_t needed = div_round_up(tree->size, per_entry * SIM_SECTOR);

	if (entries < needed)
		return sim_raw_problem(r, "L1 table %u: %u entries for %" PRIu64 " bytes", number, entries, tree->size);
	if (entries > 0 && !sim_raw_claim_run(r, l1, entries * UINT64_C(8), SIM_ROLE_L1))
		return false;
	for (uint64_t i = 0; i < entries; i++) {
		if (!l1_entry_walk(&w, i, get64(sector_at(r, l1 + i * 8) + i * 8 % SIM_SECTOR)))
			return false;
	}
	return true;
}
