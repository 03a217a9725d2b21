/* SPDX-License-Identifier: MIT */
/*
 * The mapping tables, walked: L1, each L2 table, and what their entries point to. L2 tables are read many at once, the
 * next ones while these are looked at; they are looked at in their order, so that what is told doesn't depend on which
 * read came back first. Source: docs/interop/qcow2.rst, "Cluster mapping".
 */
#include "qcow2/check.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "qcow2/snapshot.h"

#define L1_RESERVED UINT64_C(0x7f000000000001ff)
#define L2_RESERVED UINT64_C(0x3f000000000001fe)

/* ---- reading the tables ---- */

struct walk {
	struct qcow2_checker *c;
	struct qcow2_window window; /* on the L1 table */
	struct host l1;
	uint64_t next, entries; /* of it */
	qcow2_table_fn *fn;
	struct qcow2_fetch fetch[2]; /* one is looked at while the other is read */
};

static int l1_entry_read(struct co *co, struct walk *w, uint64_t index, uint64_t *out)
{
	const void *bytes;
	be64 entry;
	int ret = qcow2_window_get(co, &w->window, w->l1.off + index * 8, sizeof(entry), &bytes);

	if (ret < 0)
		return ret;
	memcpy(&entry, bytes, sizeof(entry));
	*out = be64_get(entry);
	return 0;
}

/* The next tables. Where the L1 table can't be read, it ends. */
static void fetch_fill(struct co *co, struct walk *w, struct qcow2_fetch *f)
{
	for (f->n = 0; w->next < w->entries && !qcow2_fetch_full(f); w->next++) {
		uint64_t entry;
		int ret = l1_entry_read(co, w, w->next, &entry);

		if (ret < 0) {
			w->c->incomplete = true;
			qcow2_check_found(w->c, &w->c->out->check_errors,
				"ERROR: the L1 table at 0x%" PRIx64 " can't be read: %s", w->l1.off + w->next * 8,
				strerror(-ret));
			w->next = w->entries;
			return;
		}
		if (entry != 0)
			qcow2_fetch_add(f, entry & CHECK_OFFSET_MASK, w->next, entry);
	}
}

static int fetch_look(struct co *co, struct walk *w, struct qcow2_fetch *f)
{
	int ret = 0;

	for (unsigned i = 0; i < f->n && ret == 0; i++) {
		if (f->v[i].result == 0) {
			ret = w->fn(co, w->c, &f->v[i]);
		} else {
			w->c->incomplete = true;
			qcow2_check_found(w->c, &w->c->out->check_errors,
				"ERROR: the L2 table at 0x%" PRIx64 " can't be read: %s", f->v[i].host,
				strerror(-f->v[i].result));
		}
		if (ret == 0)
			ret = qcow2_check_step(w->c, qcow2_check_table_entries(w->c));
		co_yield(co); /* a table is some 200 us: whoever shares the loop wants to be looked after in between */
	}
	return ret;
}

static int tables_walk(struct co *co, struct walk *w)
{
	struct qcow2_fetch *now = &w->fetch[0], *ahead = &w->fetch[1];
	int ret = 0;

	fetch_fill(co, w, now);
	qcow2_fetch_start(co, now);
	while (now->n > 0) {
		struct qcow2_fetch *looked = now;

		if (ret == 0)
			fetch_fill(co, w, ahead);
		else
			ahead->n = 0;
		qcow2_fetch_start(co, ahead);
		qcow2_fetch_wait(co, now);
		if (ret == 0)
			ret = fetch_look(co, w, now);
		now = ahead;
		ahead = looked;
	}
	qcow2_fetch_wait(co, now);
	return ret;
}

/* What lies past the end of the file is zeros. */
int qcow2_check_tables(struct co *co, struct qcow2_checker *c, struct host l1, uint32_t entries, qcow2_table_fn *fn)
{
	uint64_t inside = l1.off < c->file->size ? div_round_up(c->file->size - l1.off, 8) : 0;
	AUTO_FREE struct walk *w = calloc(1, sizeof(*w));
	int ret;

	if (!w)
		return -ENOMEM;
	*w = (struct walk){
		.c = c, .window.file = c->file, .l1 = l1, .entries = MIN((uint64_t)entries, inside), .fn = fn};
	ret = qcow2_fetch_init(&w->fetch[0], c, w->entries);
	if (ret == 0)
		ret = qcow2_fetch_init(&w->fetch[1], c, w->entries);
	if (ret == 0)
		ret = tables_walk(co, w);
	qcow2_fetch_fini(&w->fetch[0]);
	qcow2_fetch_fini(&w->fetch[1]);
	free(w->window.bytes);
	return ret;
}

/* ---- L2 entries ---- */

static enum qcow2_entry_kind entry_kind(const struct qcow2_checker *c, uint64_t raw)
{
	if (raw & CHECK_COMPRESSED)
		return QCOW2_ENTRY_INFLATABLE;
	if (raw & CHECK_OFFSET_MASK)
		return QCOW2_ENTRY_ALLOCATED;
	if ((raw & CHECK_ZERO) && !qcow2_check_is_extended(c))
		return QCOW2_ENTRY_ZEROS;
	/* Offset 0 is a place like any other in an external data file; the flag tells it from nothing. */
	return qcow2_check_has_data_file(c) && (raw & CHECK_COPIED) ? QCOW2_ENTRY_ALLOCATED : QCOW2_ENTRY_UNALLOCATED;
}

struct qcow2_check_entry qcow2_check_entry_get(const struct qcow2_checker *c, const void *table, uint64_t index)
{
	const be64 *words = table;
	bool extended = qcow2_check_is_extended(c);
	uint64_t raw = be64_get(extended ? words[2 * index] : words[index]);

	return (struct qcow2_check_entry){
		.kind = entry_kind(c, raw),
		.index = index,
		.raw = raw,
		.host = raw & CHECK_OFFSET_MASK,
		.subclusters = extended ? be64_get(words[2 * index + 1]) : 0,
	};
}

bool qcow2_check_entry_has_data(const struct qcow2_checker *c, const struct qcow2_check_entry *e)
{
	return qcow2_check_is_extended(c) ? (e->subclusters & CHECK_ALL_SUBCLUSTERS) != 0 : !(e->raw & CHECK_ZERO);
}

static int compressed_check(struct qcow2_checker *c, const struct qcow2_check_entry *e, bool active)
{
	unsigned shift = 62 - (c->header.cluster_bits - 8);
	uint64_t host = e->raw & ((UINT64_C(1) << shift) - 1);
	uint64_t sectors = (e->raw & (CHECK_COMPRESSED - 1)) >> shift;
	uint64_t bytes = (sectors + 1) * 512 - host % 512;

	if (e->raw & CHECK_COPIED) {
		c->fixable_entries++;
		qcow2_check_found(c, &c->out->corruptions,
			"ERROR: coffset=0x%" PRIx64 ": copied flag must never be set for compressed clusters", host);
	}
	if (qcow2_check_has_data_file(c) || e->subclusters != 0) {
		qcow2_check_found(c, &c->out->corruptions,
			"ERROR compressed cluster %" PRIu64 " with %s, entry=0x%" PRIx64, e->index,
			qcow2_check_has_data_file(c) ? "data file" : "non-zero subcluster allocation bitmap",
			e->raw & ~CHECK_COPIED);
		return 0;
	}
	if (active) {
		/* Compressed clusters are fragmented by nature. */
		c->out->allocated_clusters++;
		c->out->compressed_clusters++;
		c->out->fragmented_clusters++;
	}
	return qcow2_counts_add(c, host, bytes, QCOW2_ROLE_COMPRESSED, 0);
}

static void host_check(struct qcow2_checker *c, const struct qcow2_check_entry *e, bool active)
{
	if ((e->subclusters >> 32) & e->subclusters)
		qcow2_check_found(c, &c->out->corruptions,
			"ERROR offset=%" PRIx64 ": Allocated cluster has corrupted subcluster allocation bitmap",
			e->host);
	if (!is_aligned(e->host, c->cluster_bytes)) {
		bool data = qcow2_check_entry_has_data(c, e);

		c->copied_wrong |= active;
		c->fixable_entries += !data;
		qcow2_check_found(c, &c->out->corruptions,
			"ERROR offset=%" PRIx64 ": %s cluster is not properly aligned; L2 entry corrupted.", e->host,
			data ? "Data" : "Preallocated");
	}
}

static unsigned reference_flags(uint64_t entry, bool active)
{
	if (!active)
		return 0;
	return entry & CHECK_COPIED ? QCOW2_REF_COPIED : QCOW2_REF_PLAIN;
}

static int allocated_check(
	struct qcow2_checker *c, const struct qcow2_check_entry *e, bool active, uint64_t *contiguous)
{
	if (((e->subclusters >> 32) & e->subclusters) || !is_aligned(e->host, c->cluster_bytes))
		host_check(c, e, active);
	if (active) {
		c->out->allocated_clusters++;
		if (*contiguous != 0 && e->host != *contiguous)
			c->out->fragmented_clusters++;
		*contiguous = e->host + c->cluster_bytes;
	}
	if (!qcow2_check_has_data_file(c))
		return qcow2_counts_add(c, e->host, c->cluster_bytes, QCOW2_ROLE_DATA, reference_flags(e->raw, active));
	c->copied_wrong |= active && !(e->raw & CHECK_COPIED);
	return 0;
}

static int entry_check(struct qcow2_checker *c, const struct qcow2_check_entry *e, bool active, uint64_t *contiguous)
{
	if (e->kind != QCOW2_ENTRY_INFLATABLE && (e->raw & L2_RESERVED))
		qcow2_check_found(
			c, &c->out->corruptions, "ERROR found l2 entry with reserved bits set: %" PRIx64, e->raw);
	switch (e->kind) {
	case QCOW2_ENTRY_INFLATABLE: return compressed_check(c, e, active);
	case QCOW2_ENTRY_ALLOCATED: return allocated_check(c, e, active, contiguous);
	case QCOW2_ENTRY_ZEROS: return 0;
	case QCOW2_ENTRY_UNALLOCATED: break;
	}
	if (e->subclusters & CHECK_ALL_SUBCLUSTERS)
		qcow2_check_found(
			c, &c->out->corruptions, "ERROR: Unallocated cluster has non-zero subcluster allocation map");
	return 0;
}

static int l2_check(struct qcow2_checker *c, const struct qcow2_piece *t, bool active)
{
	uint64_t entries = qcow2_check_table_entries(c), before = c->out->corruptions, contiguous = 0;
	int ret;

	if (t->entry & L1_RESERVED)
		qcow2_check_found(
			c, &c->out->corruptions, "ERROR found L1 entry with reserved bits set: %" PRIx64, t->entry);
	ret = qcow2_counts_add(c, t->host, c->cluster_bytes, QCOW2_ROLE_L2, reference_flags(t->entry, active));
	if (!is_aligned(t->host, c->cluster_bytes)) {
		c->copied_wrong |= active;
		qcow2_check_found(c, &c->out->corruptions,
			"ERROR l2_offset=%" PRIx64 ": Table is not cluster aligned; L1 entry corrupted", t->host);
	}
	c->unsure |= c->out->corruptions > before;
	for (uint64_t i = 0; i < entries && ret == 0; i++) {
		struct qcow2_check_entry e = qcow2_check_entry_get(c, t->bytes, i);

		if (e.raw != 0 || e.subclusters != 0)
			ret = entry_check(c, &e, active, &contiguous);
	}
	return ret;
}

static int active_l2_check(struct co *co ATTR_UNUSED, struct qcow2_checker *c, const struct qcow2_piece *t)
{
	return l2_check(c, t, true);
}

static int snapshot_l2_check(struct co *co ATTR_UNUSED, struct qcow2_checker *c, const struct qcow2_piece *t)
{
	return l2_check(c, t, false);
}

int qcow2_check_l1(struct co *co, struct qcow2_checker *c, struct host l1, uint32_t entries, bool active)
{
	uint64_t before = c->out->corruptions;
	int ret = qcow2_counts_add(c, l1.off, UINT64_C(8) * entries, QCOW2_ROLE_L1, 0);

	c->unsure |= c->out->corruptions > before;
	if (ret < 0)
		return ret;
	return qcow2_check_tables(co, c, l1, entries, active ? active_l2_check : snapshot_l2_check);
}

/* ---- the COPIED flags ---- */

static void data_copied_check(struct co *co, struct qcow2_checker *c, uint64_t raw)
{
	uint64_t refcount = 1;

	if (!qcow2_check_has_data_file(c) &&
		qcow2_check_refcount(co, c, (raw & CHECK_OFFSET_MASK) / c->cluster_bytes, &refcount) < 0)
		return;
	if ((refcount == 1) != ((raw & CHECK_COPIED) != 0))
		qcow2_check_found(c, &c->out->corruptions,
			"ERROR OFLAG_COPIED data cluster: l2_entry=%" PRIx64 " refcount=%" PRIu64, raw, refcount);
}

static int l2_copied_check(struct co *co, struct qcow2_checker *c, const struct qcow2_piece *t)
{
	uint64_t refcount;

	/* Where the refcount can't be had, the comparison has said so already. */
	if (t->host == 0 || qcow2_check_refcount(co, c, t->host / c->cluster_bytes, &refcount) < 0)
		return 0;
	if ((refcount == 1) != ((t->entry & CHECK_COPIED) != 0))
		qcow2_check_found(c, &c->out->corruptions,
			"ERROR OFLAG_COPIED L2 cluster: l1_index=%" PRIu64 " l1_entry=%" PRIx64 " refcount=%" PRIu64,
			t->index, t->entry, refcount);
	for (uint64_t i = 0; i < qcow2_check_table_entries(c); i++) {
		struct qcow2_check_entry e = qcow2_check_entry_get(c, t->bytes, i);

		if (e.kind == QCOW2_ENTRY_ALLOCATED)
			data_copied_check(co, c, e.raw);
	}
	return 0;
}

int qcow2_check_copied(struct co *co, struct qcow2_checker *c)
{
	/* What the comparison found out spares most images a second walk. */
	if (!c->copied_wrong)
		return 0;
	qcow2_check_refcounts_forget(c);
	return qcow2_check_tables(co, c, c->header.l1, c->header.l1_entries, l2_copied_check);
}
