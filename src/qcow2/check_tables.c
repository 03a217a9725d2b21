/* SPDX-License-Identifier: MIT */
/*
 * The mapping tables, walked: L1, each L2 table, and what their entries point to. L2 tables are read several at once; they
 * are looked at in their order, so that what is told doesn't depend on which read came back first.
 */
#include "qcow2/check.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/math.h"
#include "qcow2/snapshot.h"

#define OFFSET_MASK UINT64_C(0x00fffffffffffe00)
#define L1_RESERVED UINT64_C(0x7f000000000001ff)
#define L2_RESERVED UINT64_C(0x3f000000000001fe)
#define COPIED (UINT64_C(1) << 63)
#define COMPRESSED (UINT64_C(1) << 62)
#define ZERO UINT64_C(1)
#define ALL_SUBCLUSTERS UINT64_C(0xffffffff)
#define BATCH_BYTES (UINT64_C(4) << 20)
#define BATCH_TABLES 32

/* ---- reading the tables ---- */

struct table {          /* an L2 table of the batch */
	uint64_t index; /* in the L1 table */
	uint64_t l1_entry;
	void *bytes;
	int result;
	struct walk *walk;
};

typedef int table_fn(struct co *co, struct qcow2_checker *c, const struct table *t);

struct walk {
	struct qcow2_checker *c;
	struct table batch[BATCH_TABLES];
	unsigned n, room;
	char *memory;
	table_fn *fn;
};

static void table_read(struct co *co, void *arg)
{
	struct table *t = arg;
	struct qcow2_checker *c = t->walk->c;

	t->result = qcow2_check_read(co, c, t->l1_entry & OFFSET_MASK, t->bytes, c->cluster_bytes);
}

static int batch_flush(struct co *co, struct walk *w)
{
	struct co_group group;
	int ret = 0;

	co_group_init(&group, co_sched_of(co));
	for (unsigned i = 0; i < w->n; i++) {
		if (w->n == 1 || co_group_spawn(&group, "check-read", table_read, &w->batch[i]) < 0)
			table_read(co, &w->batch[i]);
	}
	co_group_wait(co, &group);
	for (unsigned i = 0; i < w->n && ret == 0; i++) {
		if (w->batch[i].result < 0)
			qcow2_check_found(w->c, &w->c->out->check_errors,
				"ERROR: the L2 table at 0x%" PRIx64 " can't be read: %s",
				w->batch[i].l1_entry & OFFSET_MASK, strerror(-w->batch[i].result));
		else
			ret = w->fn(co, w->c, &w->batch[i]);
	}
	w->n = 0;
	return ret;
}

static int batch_add(struct co *co, struct walk *w, uint64_t index, uint64_t l1_entry)
{
	struct table *t = &w->batch[w->n];

	*t = (struct table){
		.index = index,
		.l1_entry = l1_entry,
		.bytes = w->memory + w->n * w->c->cluster_bytes,
		.walk = w,
	};
	return ++w->n == w->room ? batch_flush(co, w) : 0;
}

static int entries_walk(struct co *co, struct walk *w, struct host l1, uint64_t entries)
{
	struct qcow2_window window = {.file = w->c->file};
	int ret = 0;

	for (uint64_t i = 0; i < entries && ret == 0; i++) {
		const void *bytes;
		be64 entry;

		ret = qcow2_window_get(co, &window, l1.off + i * 8, sizeof(entry), &bytes);
		if (ret < 0) {
			qcow2_check_found(w->c, &w->c->out->check_errors,
				"ERROR: the L1 table at 0x%" PRIx64 " can't be read: %s", l1.off + i * 8,
				strerror(-ret));
			ret = 0;
			break;
		}
		memcpy(&entry, bytes, sizeof(entry));
		if (be64_get(entry) != 0)
			ret = batch_add(co, w, i, be64_get(entry));
	}
	free(window.bytes);
	return ret < 0 ? ret : batch_flush(co, w);
}

/* fn for every L1 entry that names an L2 table, in order. What lies past the end of the file is zeros. */
static int tables_walk(struct co *co, struct qcow2_checker *c, struct host l1, uint32_t entries, table_fn *fn)
{
	uint64_t room = MIN(MAX(BATCH_BYTES / c->cluster_bytes, UINT64_C(1)), (uint64_t)BATCH_TABLES);
	uint64_t inside = l1.off < c->file->size ? div_round_up(c->file->size - l1.off, 8) : 0;
	AUTO_FREE struct walk *w = calloc(1, sizeof(*w));
	AUTO_FREE char *memory = malloc(room * c->cluster_bytes);

	if (!w || !memory)
		return -ENOMEM;
	w->c = c;
	w->room = (unsigned)room;
	w->memory = memory;
	w->fn = fn;
	return entries_walk(co, w, l1, MIN((uint64_t)entries, inside));
}

/* ---- L2 entries ---- */

enum kind { UNALLOCATED, ZEROS, ALLOCATED, INFLATABLE };

struct entry {
	enum kind kind;
	uint64_t index; /* in its table */
	uint64_t raw;
	uint64_t host;        /* of ALLOCATED */
	uint64_t subclusters; /* the bitmap of an extended entry */
};

static bool is_extended(const struct qcow2_checker *c) { return c->header.incompatible & QCOW2_INCOMPAT_EXTENDED_L2; }
static bool has_data_file(const struct qcow2_checker *c) { return c->header.incompatible & QCOW2_INCOMPAT_DATA_FILE; }
static uint64_t entries_per_table(const struct qcow2_checker *c)
{
	return c->cluster_bytes / (is_extended(c) ? 16 : 8);
}

static enum kind entry_kind(const struct qcow2_checker *c, uint64_t raw)
{
	if (raw & COMPRESSED)
		return INFLATABLE;
	if (raw & OFFSET_MASK)
		return ALLOCATED;
	if ((raw & ZERO) && !is_extended(c))
		return ZEROS;
	/* Offset 0 is a place like any other in an external data file; the flag tells it from nothing. */
	return has_data_file(c) && (raw & COPIED) ? ALLOCATED : UNALLOCATED;
}

static struct entry entry_get(const struct qcow2_checker *c, const void *table, uint64_t index)
{
	const be64 *words = table;
	uint64_t raw = be64_get(is_extended(c) ? words[2 * index] : words[index]);

	return (struct entry){
		.kind = entry_kind(c, raw),
		.index = index,
		.raw = raw,
		.host = raw & OFFSET_MASK,
		.subclusters = is_extended(c) ? be64_get(words[2 * index + 1]) : 0,
	};
}

static int compressed_check(struct qcow2_checker *c, const struct entry *e, bool active)
{
	unsigned shift = 62 - (c->header.cluster_bits - 8);
	uint64_t host = e->raw & ((UINT64_C(1) << shift) - 1);
	uint64_t sectors = (e->raw & (COMPRESSED - 1)) >> shift;
	uint64_t bytes = (sectors + 1) * 512 - host % 512;

	if (e->raw & COPIED)
		qcow2_check_found(c, &c->out->corruptions,
			"ERROR: coffset=0x%" PRIx64 ": copied flag must never be set for compressed clusters", host);
	if (has_data_file(c) || e->subclusters != 0) {
		qcow2_check_found(c, &c->out->corruptions,
			"ERROR compressed cluster %" PRIu64 " with %s, entry=0x%" PRIx64, e->index,
			has_data_file(c) ? "data file" : "non-zero subcluster allocation bitmap", e->raw & ~COPIED);
		return 0;
	}
	if (active) {
		/* Compressed clusters are fragmented by nature. */
		c->out->allocated_clusters++;
		c->out->compressed_clusters++;
		c->out->fragmented_clusters++;
	}
	return qcow2_counts_add(c, host, bytes, QCOW2_ROLE_COMPRESSED);
}

static bool entry_has_data(const struct qcow2_checker *c, const struct entry *e)
{
	return is_extended(c) ? (e->subclusters & ALL_SUBCLUSTERS) != 0 : !(e->raw & ZERO);
}

static int allocated_check(struct qcow2_checker *c, const struct entry *e, bool active, uint64_t *contiguous)
{
	if ((e->subclusters >> 32) & e->subclusters)
		qcow2_check_found(c, &c->out->corruptions,
			"ERROR offset=%" PRIx64 ": Allocated cluster has corrupted subcluster allocation bitmap",
			e->host);
	if (!is_aligned(e->host, c->cluster_bytes))
		qcow2_check_found(c, &c->out->corruptions,
			"ERROR offset=%" PRIx64 ": %s cluster is not properly aligned; L2 entry corrupted.", e->host,
			entry_has_data(c, e) ? "Data" : "Preallocated");
	if (active) {
		c->out->allocated_clusters++;
		if (*contiguous != 0 && e->host != *contiguous)
			c->out->fragmented_clusters++;
		*contiguous = e->host + c->cluster_bytes;
	}
	return has_data_file(c) ? 0 : qcow2_counts_add(c, e->host, c->cluster_bytes, QCOW2_ROLE_DATA);
}

static int entry_check(struct qcow2_checker *c, const struct entry *e, bool active, uint64_t *contiguous)
{
	if (e->kind != INFLATABLE && (e->raw & L2_RESERVED))
		qcow2_check_found(
			c, &c->out->corruptions, "ERROR found l2 entry with reserved bits set: %" PRIx64, e->raw);
	switch (e->kind) {
	case INFLATABLE: return compressed_check(c, e, active);
	case ALLOCATED: return allocated_check(c, e, active, contiguous);
	case ZEROS: return 0;
	case UNALLOCATED: break;
	}
	if (e->subclusters & ALL_SUBCLUSTERS)
		qcow2_check_found(
			c, &c->out->corruptions, "ERROR: Unallocated cluster has non-zero subcluster allocation map");
	return 0;
}

static int l2_check(struct qcow2_checker *c, const struct table *t, bool active)
{
	uint64_t host = t->l1_entry & OFFSET_MASK, contiguous = 0;
	int ret;

	if (t->l1_entry & L1_RESERVED)
		qcow2_check_found(
			c, &c->out->corruptions, "ERROR found L1 entry with reserved bits set: %" PRIx64, t->l1_entry);
	ret = qcow2_counts_add(c, host, c->cluster_bytes, QCOW2_ROLE_L2);
	if (!is_aligned(host, c->cluster_bytes))
		qcow2_check_found(c, &c->out->corruptions,
			"ERROR l2_offset=%" PRIx64 ": Table is not cluster aligned; L1 entry corrupted", host);
	for (uint64_t i = 0; i < entries_per_table(c) && ret == 0; i++) {
		struct entry e = entry_get(c, t->bytes, i);

		if (e.raw != 0 || e.subclusters != 0)
			ret = entry_check(c, &e, active, &contiguous);
	}
	return ret;
}

static int active_l2_check(struct co *co ATTR_UNUSED, struct qcow2_checker *c, const struct table *t)
{
	return l2_check(c, t, true);
}

static int snapshot_l2_check(struct co *co ATTR_UNUSED, struct qcow2_checker *c, const struct table *t)
{
	return l2_check(c, t, false);
}

int qcow2_check_l1(struct co *co, struct qcow2_checker *c, struct host l1, uint32_t entries, bool active)
{
	int ret = qcow2_counts_add(c, l1.off, UINT64_C(8) * entries, QCOW2_ROLE_L1);

	if (ret < 0)
		return ret;
	return tables_walk(co, c, l1, entries, active ? active_l2_check : snapshot_l2_check);
}

/* ---- the COPIED flags ---- */

static void data_copied_check(struct co *co, struct qcow2_checker *c, uint64_t raw)
{
	uint64_t refcount = 1;

	if (!has_data_file(c) && qcow2_check_refcount(co, c, (raw & OFFSET_MASK) / c->cluster_bytes, &refcount) < 0)
		return;
	if ((refcount == 1) != ((raw & COPIED) != 0))
		qcow2_check_found(c, &c->out->corruptions,
			"ERROR OFLAG_COPIED data cluster: l2_entry=%" PRIx64 " refcount=%" PRIu64, raw, refcount);
}

static int l2_copied_check(struct co *co, struct qcow2_checker *c, const struct table *t)
{
	uint64_t host = t->l1_entry & OFFSET_MASK, refcount;

	/* Where the refcount can't be had, the comparison has said so already. */
	if (host == 0 || qcow2_check_refcount(co, c, host / c->cluster_bytes, &refcount) < 0)
		return 0;
	if ((refcount == 1) != ((t->l1_entry & COPIED) != 0))
		qcow2_check_found(c, &c->out->corruptions,
			"ERROR OFLAG_COPIED L2 cluster: l1_index=%" PRIu64 " l1_entry=%" PRIx64 " refcount=%" PRIu64,
			t->index, t->l1_entry, refcount);
	for (uint64_t i = 0; i < entries_per_table(c); i++) {
		struct entry e = entry_get(c, t->bytes, i);

		if (e.kind == ALLOCATED)
			data_copied_check(co, c, e.raw);
	}
	return 0;
}

int qcow2_check_copied(struct co *co, struct qcow2_checker *c)
{
	return tables_walk(co, c, c->header.l1, c->header.l1_entries, l2_copied_check);
}
