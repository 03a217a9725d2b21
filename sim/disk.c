/* SPDX-License-Identifier: MIT */
/*
 * The simulated disk: versions of sectors, from submission to durability. See disk.h.
 */
#include "disk.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>

#include "base/math.h"
#include "crypt.h"
#include "memory.h"

/* ---- versions ---- */

static uint32_t version_new(struct sim_disk *d)
{
	uint32_t v = d->versions_free;

	if (v != 0) {
		d->versions_free = d->versions[v].older;
		return v;
	}
	if (d->versions_used == d->versions_room)
		d->versions = sim_grow(d->versions, &d->versions_room, sizeof(*d->versions));
	return d->versions_used++;
}

void sim_version_drop(struct sim_disk *d, uint32_t v)
{
	struct sim_version *it = &d->versions[v];

	if (v == 0)
		return;
	if (it->bytes) {
		if (d->spare_count == d->spare_room)
			d->spare = sim_grow(d->spare, &d->spare_room, sizeof(*d->spare));
		d->spare[d->spare_count++] = it->bytes;
	}
	it->bytes = NULL;
	it->older = d->versions_free;
	d->versions_free = v;
}

/* Behind the bytes lies their hash. */
static void bytes_set(uint8_t *bytes, const uint8_t *sector)
{
	uint64_t words[SIM_SECTOR / 8], h = 0;

	memcpy(words, sector, SIM_SECTOR);
	for (unsigned i = 0; i < SIM_SECTOR / 8; i++) {
		h = (h ^ words[i]) * UINT64_C(0x9e3779b97f4a7c15);
		h ^= h >> 31;
	}
	memcpy(bytes, sector, SIM_SECTOR);
	memcpy(bytes + SIM_SECTOR, &h, sizeof(h));
}

uint64_t sim_version_content(const struct sim_disk *d, uint32_t version)
{
	const struct sim_version *v = &d->versions[version];
	uint64_t h = v->tag;

	if (v->bytes)
		memcpy(&h, v->bytes + SIM_SECTOR, sizeof(h));
	return h;
}

/* Done once for each version, so that power cuts can be judged as fast as ever. A stamp that is read there as it is was
 * not encrypted: to the guest it is garbage, and so is space that was never written. */
static uint64_t clear_of(const struct sim_disk *d, uint64_t tag, uint32_t number, const uint8_t *sector)
{
	uint8_t clear[SIM_SECTOR];

	if (!d->encrypted || tag != SIM_TAG_OTHER)
		return SIM_TAG_OTHER;
	sim_decrypt(number, sector, clear);
	return sim_stamp_get(clear);
}

static uint32_t version_of(struct sim_disk *d, uint32_t number, const uint8_t *sector, uint32_t write)
{
	uint32_t v = version_new(d);
	uint8_t *bytes = NULL;
	uint64_t tag = sim_stamp_get(sector);

	if (tag == SIM_TAG_OTHER) {
		bytes = d->spare_count ? d->spare[--d->spare_count] : sim_alloc(SIM_SECTOR + sizeof(uint64_t));
		bytes_set(bytes, sector);
	}
	d->versions[v] = (struct sim_version){
		.tag = tag, .clear = clear_of(d, tag, number, sector), .bytes = bytes, .write = write};
	return v;
}

const uint8_t *sim_version_bytes(const struct sim_disk *d, uint32_t version, uint8_t *scratch)
{
	static const uint8_t zeros[SIM_SECTOR];
	const struct sim_version *v = &d->versions[version];

	if (v->bytes)
		return v->bytes;
	if (v->tag == SIM_TAG_ZERO)
		return zeros;
	sim_stamp_put(scratch, v->tag);
	return scratch;
}

/* ---- chains ---- */

static void dirty_add(struct sim_disk *d, uint32_t sector)
{
	if (d->dirty_at[sector] != 0)
		return;
	d->dirty[d->dirty_count++] = sector;
	d->dirty_at[sector] = d->dirty_count;
}

static void dirty_remove(struct sim_disk *d, uint32_t sector)
{
	uint32_t at = d->dirty_at[sector] - 1;
	uint32_t last = d->dirty[--d->dirty_count];

	d->dirty[at] = last;
	d->dirty_at[last] = at + 1;
	d->dirty_at[sector] = 0;
}

static void chain_push(struct sim_disk *d, uint32_t sector, uint32_t version)
{
	d->versions[version].older = d->newest[sector];
	d->newest[sector] = version;
	dirty_add(d, sector);
}

static void chain_pop(struct sim_disk *d, uint32_t sector)
{
	uint32_t v = d->newest[sector];

	d->newest[sector] = d->versions[v].older;
	sim_version_drop(d, v);
	if (d->newest[sector] == d->durable[sector])
		dirty_remove(d, sector);
}

/* v, a version of the sector, is durable: nothing older can come back. */
static void chain_cut(struct sim_disk *d, uint32_t sector, uint32_t v)
{
	uint32_t last = d->durable[sector];

	if (v == last)
		return;
	for (uint32_t it = d->versions[v].older, next; it != last; it = next) {
		next = d->versions[it].older;
		sim_version_drop(d, it);
	}
	sim_version_drop(d, last);
	d->versions[v].older = 0;
	d->durable[sector] = d->found.version[sector] = v;
	if (d->newest[sector] == v)
		dirty_remove(d, sector);
}

static bool in_flight(const struct sim_disk *d, uint32_t sector)
{
	uint32_t v = d->newest[sector];

	return v != d->durable[sector] && d->writes[d->versions[v].write].done == 0;
}

/* ---- life ---- */

void sim_disk_init(struct sim_disk *d, uint64_t bytes, uint32_t unit_bytes, bool device)
{
	*d = (struct sim_disk){
		.sectors = (uint32_t)(bytes / SIM_SECTOR),
		.unit_sectors = unit_bytes / SIM_SECTOR,
		.device = device,
		.size = device ? bytes : 0,
		.durable_size = device ? bytes : 0,
		.versions_used = 1,
		.writes_used = 1,
	};
	d->newest = sim_alloc(d->sectors * sizeof(uint32_t));
	d->durable = sim_alloc(d->sectors * sizeof(uint32_t));
	d->dirty = sim_alloc(d->sectors * sizeof(uint32_t));
	d->dirty_at = sim_alloc(d->sectors * sizeof(uint32_t));
	d->versions_room = d->writes_room = 1024;
	d->versions = sim_alloc(d->versions_room * sizeof(*d->versions));
	d->writes = sim_alloc(d->writes_room * sizeof(*d->writes));
	d->versions[0].clear = SIM_TAG_OTHER;
	d->found = (struct sim_image){.disk = d, .version = sim_alloc(d->sectors * sizeof(uint32_t)), .size = d->size};
	for (uint32_t s = 0; device && s < d->sectors; s++) {
		uint32_t v = version_new(d);

		d->versions[v] = (struct sim_version){.tag = sim_tag_garbage(s), .clear = SIM_TAG_OTHER};
		d->newest[s] = d->durable[s] = d->found.version[s] = v;
	}
}

void sim_disk_fini(struct sim_disk *d)
{
	for (uint32_t v = 1; v < d->versions_used; v++)
		sim_free(d->versions[v].bytes);
	for (uint32_t i = 0; i < d->spare_count; i++)
		sim_free(d->spare[i]);
	sim_free(d->spare);
	sim_free(d->newest);
	sim_free(d->durable);
	sim_free(d->dirty);
	sim_free(d->dirty_at);
	sim_free(d->versions);
	sim_free(d->writes);
	sim_free(d->found.version);
	sim_free(d->size_changes);
}

static void sector_load(struct sim_disk *d, uint32_t sector, const uint8_t *bytes)
{
	uint32_t v = version_of(d, sector, bytes, 0);

	assert(d->newest[sector] == d->durable[sector]);
	sim_version_drop(d, d->durable[sector]);
	d->newest[sector] = d->durable[sector] = d->found.version[sector] = v;
}

void sim_disk_load_size(struct sim_disk *d, uint64_t size)
{
	if (!d->device)
		d->size = d->durable_size = d->found.size = size;
}

void sim_disk_load(struct sim_disk *d, uint64_t off, const void *bytes, uint64_t len)
{
	uint8_t sector[SIM_SECTOR];

	assert(off % SIM_SECTOR == 0 && off + len <= (uint64_t)d->sectors * SIM_SECTOR);
	for (uint64_t at = 0; at < len; at += SIM_SECTOR) {
		memset(sector, 0, sizeof(sector));
		memcpy(sector, (const uint8_t *)bytes + at, MIN(len - at, (uint64_t)SIM_SECTOR));
		sector_load(d, (uint32_t)((off + at) / SIM_SECTOR), sector);
	}
	if (off + len > d->size)
		sim_disk_load_size(d, off + len);
	d->changes++;
}

/* ---- writes ---- */

static bool range_busy(const struct sim_disk *d, uint32_t first, uint32_t sectors)
{
	for (uint32_t s = first; s < first + sectors; s++) {
		if (in_flight(d, s))
			return true;
	}
	return false;
}

uint32_t sim_disk_begin(struct sim_disk *d, uint64_t off, uint64_t len)
{
	uint32_t first = (uint32_t)(off / SIM_SECTOR);
	uint32_t sectors = len ? (uint32_t)((off + len - 1) / SIM_SECTOR) + 1 - first : 0;

	assert(off + len <= (uint64_t)d->sectors * SIM_SECTOR);
	if (range_busy(d, first, sectors))
		return 0;
	if (d->writes_used == d->writes_room)
		d->writes = sim_grow(d->writes, &d->writes_room, sizeof(*d->writes));
	d->writes[d->writes_used] = (struct sim_write){.first = first, .sectors = sectors};
	d->writes_in_flight++;
	d->changes++;
	return d->writes_used++;
}

static void size_change(struct sim_disk *d, uint64_t size, uint32_t write, bool truncate)
{
	if (d->device || (!truncate && size <= d->durable_size && d->size_changes_count == 0))
		return;
	if (d->size_changes_count == d->size_changes_room)
		d->size_changes = sim_grow(d->size_changes, &d->size_changes_room, sizeof(*d->size_changes));
	d->size_changes[d->size_changes_count++] = (struct sim_size_change){size, write, truncate};
}

struct gather { /* where we are in a vector */
	const struct iovec *v;
	size_t skip;
};

static void gather_copy(struct gather *g, uint8_t *to, size_t len)
{
	while (len > 0) {
		size_t n = MIN(len, g->v->iov_len - g->skip);

		if (n > 0)
			memcpy(to, (const uint8_t *)g->v->iov_base + g->skip, n);
		to += n;
		len -= n;
		g->skip += n;
		if (g->skip == g->v->iov_len && len > 0)
			*g = (struct gather){.v = g->v + 1};
	}
}

/* The contents that [off, off + len) of the vector give a sector: what it leaves out stays. */
static const uint8_t *sector_patch(
	struct sim_disk *d, uint32_t sector, uint32_t base, struct gather *g, uint64_t off, uint64_t end, uint8_t *out)
{
	uint64_t start = (uint64_t)sector * SIM_SECTOR;
	uint64_t from = MAX(off, start), to = MIN(end, start + SIM_SECTOR);
	uint8_t scratch[SIM_SECTOR];

	if (to - from < SIM_SECTOR)
		memcpy(out, sim_version_bytes(d, base, scratch), SIM_SECTOR);
	gather_copy(g, out + (from - start), to - from);
	return out;
}

uint32_t sim_disk_write(struct sim_disk *d, uint64_t off, const struct iovec *v, uint64_t len)
{
	uint32_t write = sim_disk_begin(d, off, len);
	struct gather g = {.v = v};
	uint8_t bytes[SIM_SECTOR];

	if (write == 0)
		return 0;
	for (uint32_t i = 0; i < d->writes[write].sectors; i++) {
		uint32_t s = d->writes[write].first + i;
		uint32_t base = d->newest[s];

		chain_push(d, s, version_of(d, s, sector_patch(d, s, base, &g, off, off + len, bytes), write));
	}
	size_change(d, off + len, write, false);
	return write;
}

bool sim_disk_same(const struct sim_disk *d, uint32_t write, uint64_t off, const struct iovec *v, uint64_t len)
{
	struct gather g = {.v = v};
	uint8_t now[SIM_SECTOR], then[SIM_SECTOR];

	for (uint64_t at = off; at < off + len;) {
		uint32_t s = (uint32_t)(at / SIM_SECTOR);
		uint64_t n = MIN(off + len, (s + UINT64_C(1)) * SIM_SECTOR) - at;

		assert(d->versions[d->newest[s]].write == write);
		gather_copy(&g, now, n);
		if (memcmp(now, sim_version_bytes(d, d->newest[s], then) + at % SIM_SECTOR, n) != 0)
			return false;
		at += n;
	}
	return true;
}

static void sectors_zero(struct sim_disk *d, uint32_t write)
{
	static const uint8_t zeros[SIM_SECTOR];
	const struct sim_write w = d->writes[write];

	for (uint32_t s = w.first; s < w.first + w.sectors; s++) {
		if (d->newest[s] != 0)
			chain_push(d, s, version_of(d, s, zeros, write));
	}
}

uint32_t sim_disk_zero(struct sim_disk *d, uint64_t off, uint64_t len, bool extends)
{
	uint32_t write;

	assert((off | len) % SIM_SECTOR == 0);
	write = sim_disk_begin(d, off, len);
	if (write == 0)
		return 0;
	sectors_zero(d, write);
	if (extends)
		size_change(d, off + len, write, false);
	return write;
}

uint32_t sim_disk_allocate(struct sim_disk *d, uint64_t off, uint64_t len)
{
	uint32_t write = sim_disk_begin(d, off + len, 0);

	size_change(d, off + len, write, false);
	return write;
}

/* What lies beyond the new end is gone; it doesn't come back when the file grows again. */
uint32_t sim_disk_truncate(struct sim_disk *d, uint64_t size)
{
	uint64_t from = align_up(size, SIM_SECTOR);
	uint32_t write;

	write = sim_disk_begin(d, from, d->size > from ? align_up(d->size, SIM_SECTOR) - from : 0);
	if (write == 0)
		return 0;
	sectors_zero(d, write);
	size_change(d, size, write, true);
	return write;
}

static void size_ended(struct sim_disk *d, uint32_t write, uint32_t kept)
{
	const struct sim_write *w = &d->writes[write];

	for (uint32_t i = 0; i < d->size_changes_count; i++) {
		struct sim_size_change *c = &d->size_changes[i];

		if (c->write != write)
			continue;
		if (kept < w->sectors)
			c->size = c->truncate ? d->size : MIN(c->size, (w->first + (uint64_t)kept) * SIM_SECTOR);
		d->size = c->truncate ? c->size : MAX(d->size, c->size);
	}
}

static void write_over(struct sim_disk *d, uint32_t write)
{
	d->writes[write].done = ++d->done;
	d->writes_in_flight--;
	d->changes++;
}

/* The versions of a write that didn't happen are still the newest of their sectors: it was alone there. */
static void sector_undo(struct sim_disk *d, uint32_t sector, uint32_t write)
{
	if (d->newest[sector] != d->durable[sector] && d->versions[d->newest[sector]].write == write)
		chain_pop(d, sector);
}

void sim_disk_end(struct sim_disk *d, uint32_t write, uint32_t kept)
{
	const struct sim_write w = d->writes[write];

	for (uint32_t i = kept; i < w.sectors; i++)
		sector_undo(d, w.first + i, write);
	size_ended(d, write, kept);
	write_over(d, write);
}

void sim_disk_fail(struct sim_disk *d, uint32_t write, struct sim_rng *r)
{
	const struct sim_write w = d->writes[write];
	uint32_t kept = 0;

	for (uint32_t i = 0; i < w.sectors; i += d->unit_sectors) {
		bool keep = sim_below(r, 2) == 0;

		for (uint32_t s = i; s < MIN(i + d->unit_sectors, w.sectors); s++) {
			if (!keep)
				sector_undo(d, w.first + s, write);
		}
		if (keep)
			kept = MIN(i + d->unit_sectors, w.sectors);
	}
	size_ended(d, write, kept);
	write_over(d, write);
}

/* ---- flush ---- */

uint64_t sim_disk_flush_begin(const struct sim_disk *d) { return d->done; }

static bool covered(const struct sim_disk *d, uint32_t write, uint64_t covers)
{
	const struct sim_write *w = &d->writes[write];

	return w->done != 0 && w->done <= covers && !w->lost;
}

static void sector_flush(struct sim_disk *d, uint32_t sector, uint64_t covers)
{
	uint32_t v = d->newest[sector];

	while (v != d->durable[sector] && !covered(d, d->versions[v].write, covers))
		v = d->versions[v].older;
	chain_cut(d, sector, v);
}

/* The size is one value: when a change of it is durable, so is what ended before it, even if a failed flush had lost that. */
static void size_flush(struct sim_disk *d, uint64_t covers)
{
	uint32_t left = 0, end = 0;

	for (uint32_t i = 0; i < d->size_changes_count; i++)
		if (covered(d, d->size_changes[i].write, covers))
			end = i + 1;
	for (uint32_t i = 0; i < d->size_changes_count; i++) {
		const struct sim_size_change c = d->size_changes[i];

		if (i < end && d->writes[c.write].done != 0)
			d->durable_size = c.truncate ? c.size : MAX(c.size, d->durable_size);
		else
			d->size_changes[left++] = c;
	}
	d->size_changes_count = left;
	d->found.size = d->durable_size;
}

void sim_disk_flush_end(struct sim_disk *d, uint64_t covers)
{
	for (uint32_t i = d->dirty_count; i-- > 0;)
		sector_flush(d, d->dirty[i], covers);
	size_flush(d, covers);
	d->changes++;
}

void sim_disk_flush_failed(struct sim_disk *d, uint64_t covers)
{
	for (uint32_t i = 0; i < d->dirty_count; i++) {
		for (uint32_t s = d->dirty[i], v = d->newest[s]; v != d->durable[s]; v = d->versions[v].older)
			d->writes[d->versions[v].write].lost |= covered(d, d->versions[v].write, covers);
	}
	for (uint32_t i = 0; i < d->size_changes_count; i++)
		d->writes[d->size_changes[i].write].lost |= covered(d, d->size_changes[i].write, covers);
}

void sim_disk_again(struct sim_disk *d, uint32_t sector, uint32_t version, uint32_t write)
{
	uint8_t scratch[SIM_SECTOR];

	chain_push(d, sector, version_of(d, sector, sim_version_bytes(d, version, scratch), write));
}

void sim_disk_force(struct sim_disk *d, uint32_t write)
{
	const struct sim_write w = d->writes[write];

	for (uint32_t s = w.first; s < w.first + w.sectors; s++) {
		if (d->dirty_at[s] != 0 && d->versions[d->newest[s]].write == write)
			chain_cut(d, s, d->newest[s]);
	}
	for (uint32_t i = 0; i < d->size_changes_count; i++) {
		if (d->size_changes[i].write == write)
			d->durable_size = d->found.size = MAX(d->durable_size, d->size_changes[i].size);
	}
	d->changes++;
}

/* ---- reads ---- */

static uint32_t version_read(const struct sim_disk *d, uint32_t sector, struct sim_rng *which)
{
	uint32_t v = d->newest[sector];

	if (in_flight(d, sector) && sim_below(which, 2) == 0)
		v = d->versions[v].older;
	return v;
}

static void scatter_copy(struct gather *g, const uint8_t *from, size_t len)
{
	while (len > 0) {
		size_t n = MIN(len, g->v->iov_len - g->skip);

		if (n > 0)
			memcpy((uint8_t *)g->v->iov_base + g->skip, from, n);
		from += n;
		len -= n;
		g->skip += n;
		if (g->skip == g->v->iov_len && len > 0)
			*g = (struct gather){.v = g->v + 1};
	}
}

uint64_t sim_disk_read(struct sim_disk *d, uint64_t off, const struct iovec *v, uint64_t len, struct sim_rng *which)
{
	uint64_t end = MIN(off + len, d->size);
	struct gather g = {.v = v};
	uint8_t scratch[SIM_SECTOR];

	for (uint64_t at = off; at < end;) {
		uint32_t s = (uint32_t)(at / SIM_SECTOR);
		uint64_t n = MIN(end, (s + UINT64_C(1)) * SIM_SECTOR) - at;

		scatter_copy(&g, sim_version_bytes(d, version_read(d, s, which), scratch) + at % SIM_SECTOR, n);
		at += n;
	}
	return end > off ? end - off : 0;
}
