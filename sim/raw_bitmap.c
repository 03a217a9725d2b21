/* SPDX-License-Identifier: MIT */
/* The checker's walk from the header's bitmaps extension to what each bitmap says. */
#include "raw_impl.h"

#define AUTOCLEAR_BITMAPS UINT64_C(1)
#define EXTENSION_BITMAPS 0x23852875u
#define ENTRY_RESERVED UINT64_C(0xff000000000001fe)
#define DIRECTORY_ENTRY 24

static uint64_t cluster_of(const struct sim_raw *r) { return UINT64_C(1) << r->header.cluster_bits; }

/* Where the data of the extension lies; 0: there is none. */
static uint64_t extension_find(struct sim_raw *r)
{
	uint64_t at = number_at(r, 100, 4), backing = number_at(r, 8, 8);
	uint64_t end = backing ? backing : cluster_of(r);

	while (at + 8 <= end) {
		uint32_t type = (uint32_t)number_at(r, at, 4);
		uint64_t bytes = number_at(r, at + 4, 4);

		if (type == 0)
			return 0;
		if (type == EXTENSION_BITMAPS)
			return bytes == 24 && at + 8 + bytes <= end ? at + 8 : 0;
		at += 8 + align_up(bytes, 8);
	}
	return 0;
}

/* ---- one bitmap ---- */

static void bits_take(struct sim_raw_bitmap *b, uint64_t first, uint8_t byte)
{
	for (unsigned i = 0; i < 8 && first + i < b->granules; i++)
		b->bits[first + i] = byte >> i & 1;
}

/* Whether all bits of the data from this one on are zeros. */
static bool tail_is_zero(struct sim_raw *r, uint64_t host, uint64_t bit)
{
	if (bit % 8 != 0 && byte_at(r, host + bit / 8) >> bit % 8)
		return false;
	for (uint64_t at = div_round_up(bit, 8); at < cluster_of(r); at++) {
		if (at % SIM_SECTOR == 0 && tag_at(r, host + at) == SIM_TAG_ZERO)
			at += SIM_SECTOR - 1;
		else if (byte_at(r, host + at))
			return false;
	}
	return true;
}

static bool data_read(struct sim_raw *r, struct sim_raw_bitmap *b, uint64_t first, uint64_t entry)
{
	uint64_t host = entry & OFFSET_MASK, n = MIN(cluster_of(r) * 8, b->granules - first);

	for (uint64_t i = 0; i < n; i += 8)
		bits_take(b, first + i, host ? byte_at(r, host + i / 8) : entry & 1 ? 0xff : 0);
	return !host || tail_is_zero(r, host, n) ||
		sim_raw_problem(r, "bitmap data at %#" PRIx64 " has bits beyond the end of the disk", host);
}

static bool table_walk(struct sim_raw *r, struct sim_raw_bitmap *b, uint64_t table, uint64_t entries)
{
	for (uint64_t i = 0; i < entries; i++) {
		uint64_t entry = number_at(r, table + i * 8, 8), host = entry & OFFSET_MASK;

		if ((entry & ENTRY_RESERVED) || !is_aligned(host, cluster_of(r)) || (host && (entry & 1)))
			return sim_raw_problem(r, "M3: bitmap table entry %" PRIu64 " is %#" PRIx64, i, entry);
		if (host && !sim_raw_claim(r, host, SIM_ROLE_BITMAP_DATA, 0))
			return false;
		if (!(b->flags & SIM_BITMAP_IN_USE) && !data_read(r, b, i * cluster_of(r) * 8, entry))
			return false;
	}
	return true;
}

static struct sim_raw_bitmap *bitmap_named(struct sim_raw *r, uint64_t at, uint64_t bytes)
{
	unsigned slot = byte_at(r, at + 1) - '0';

	if (bytes != 2 || byte_at(r, at) != 'b' || slot >= SIM_BITMAPS)
		return NULL;
	return &r->bitmap[slot];
}

static bool entry_walk(struct sim_raw *r, uint64_t at, uint64_t *next)
{
	uint64_t table = number_at(r, at, 8), entries = number_at(r, at + 8, 4);
	uint64_t name = number_at(r, at + 18, 2), extra = number_at(r, at + 20, 4), needed;
	struct sim_raw_bitmap *b = bitmap_named(r, at + DIRECTORY_ENTRY + extra, name);

	if (!b || b->found)
		return sim_raw_problem(r, "bitmap directory at %#" PRIx64 ": a bitmap of a wrong name", at);
	b->found = true;
	b->flags = (uint32_t)number_at(r, at + 12, 4);
	b->granularity_bits = byte_at(r, at + 17);
	if (byte_at(r, at + 16) != 1 || (b->flags & ~7u) || b->granularity_bits < 9 || b->granularity_bits > 31)
		return sim_raw_problem(r, "bitmap directory at %#" PRIx64 ": flags %#x, granularity bits %u", at,
			b->flags, b->granularity_bits);
	b->granules = (uint32_t)div_round_up(r->header.size, UINT64_C(1) << b->granularity_bits);
	needed = div_round_up(div_round_up(b->granules, 8), cluster_of(r));
	if (!(b->flags & SIM_BITMAP_IN_USE) && entries != needed)
		return sim_raw_problem(r, "bitmap directory at %#" PRIx64 ": %" PRIu64 " table entries, not %" PRIu64,
			at, entries, needed);
	*next = at + align_up(DIRECTORY_ENTRY + extra + name, 8);
	return sim_raw_claim_run(r, table, entries * 8, SIM_ROLE_BITMAP_TABLE) && table_walk(r, b, table, entries);
}

/* ---- all of them ---- */

bool sim_raw_bitmaps(struct sim_raw *r)
{
	uint64_t extension, count, bytes, directory, at;

	for (unsigned i = 0; i < SIM_BITMAPS; i++)
		r->bitmap[i].found = false;
	if (!(r->header.autoclear & AUTOCLEAR_BITMAPS))
		return true;
	extension = extension_find(r);
	if (!extension)
		return sim_raw_problem(r, "the bitmaps bit is set, but there is no bitmaps extension");
	count = number_at(r, extension, 4);
	bytes = number_at(r, extension + 8, 8);
	directory = number_at(r, extension + 16, 8);
	if (count == 0 || count > SIM_BITMAPS || number_at(r, extension + 4, 4) || bytes > SIM_BITMAPS * 64)
		return sim_raw_problem(r, "bitmaps extension: %" PRIu64 " bitmaps, %" PRIu64 " bytes", count, bytes);
	if (!sim_raw_claim_run(r, directory, bytes, SIM_ROLE_BITMAP_DIRECTORY))
		return false;
	at = directory;
	for (uint64_t i = 0; i < count; i++)
		if (!entry_walk(r, at, &at))
			return false;
	return at == directory + bytes ||
		sim_raw_problem(r, "the bitmap directory has %" PRIu64 " bytes, not %" PRIu64, bytes, at - directory);
}
