/* SPDX-License-Identifier: MIT */
/*
 * Bitmap tables and the data that they refer to: read, planned, written, freed.
 *
 * A table that is in force is never changed: a bitmap that has changed gets a new table and new data, and the old ones are
 * freed when the directory that names the new table is durable (bitmap_store.c).
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "qcow2/bitmaps.h"

#define PIECE_BYTES 65536u         /* of a table that is read at once */
#define BATCH_BYTES (1024u * 1024) /* of data that is written at once */

/* ---- reading ---- */

bool qcow2_bitmap_entry_valid(const struct qcow2 *q, uint64_t entry)
{
	uint64_t host = qcow2_bitmap_entry_host(entry);

	if (entry & QCOW2_BITMAP_RESERVED)
		return false;
	return host == 0 || (!(entry & QCOW2_BITMAP_ONES) && qcow2_offset_valid(q, host));
}

static int walk_piece(struct co *co, struct qcow2 *q, const be64 *entries, uint32_t first, uint32_t n,
	int (*fn)(struct co *co, struct qcow2 *q, uint32_t index, uint64_t entry, void *arg), void *arg)
{
	int rc = 0;

	for (uint32_t i = 0; !rc && i < n; i++)
		rc = fn(co, q, first + i, be64_get(entries[i]), arg);
	return rc;
}

int qcow2_bitmap_table_walk(struct co *co, struct qcow2 *q, const struct qcow2_bitmap_disk *disk,
	int (*fn)(struct co *co, struct qcow2 *q, uint32_t index, uint64_t entry, void *arg), void *arg)
{
	AUTO_FREE be64 *piece = node_alloc(PIECE_BYTES);
	uint32_t most = PIECE_BYTES / sizeof(*piece);
	int rc = piece ? 0 : -ENOMEM;

	if (!rc &&
		(!qcow2_offset_valid(q, disk->table.off) ||
			disk->entries * sizeof(*piece) > q->file_bytes - disk->table.off))
		return -EINVAL;
	for (uint32_t at = 0; !rc && at < disk->entries; at += most) {
		uint32_t n = MIN(most, disk->entries - at);

		rc = node_read(
			co, q->node.file, disk->table.off + at * sizeof(*piece), IOV_BUF(piece, n * sizeof(*piece)));
		if (!rc)
			rc = walk_piece(co, q, piece, at, n, fn, arg);
	}
	return rc;
}

/* ---- freeing ---- */

static uint64_t table_bytes(const struct qcow2 *q, uint32_t entries)
{
	return align_up(entries * UINT64_C(8), q->cluster_bytes);
}

static int free_bytes(struct co *co, struct qcow2 *q, uint64_t host, uint64_t bytes)
{
	int rc = qcow2_free_throttle(co, q);

	if (!rc)
		rc = qcow2_free_prepare(q, 1);
	if (rc)
		q->stats.leaked += bytes >> q->cluster_bits;
	else
		qcow2_free(q, host, bytes);
	return rc;
}

static int free_entry(struct co *co, struct qcow2 *q, uint32_t index ATTR_UNUSED, uint64_t entry, void *arg ATTR_UNUSED)
{
	uint64_t host = qcow2_bitmap_entry_host(entry);

	return host && qcow2_bitmap_entry_valid(q, entry) ? free_bytes(co, q, host, q->cluster_bytes) : 0;
}

/* What can't be freed is leaked, which the search for leaks makes good when the image is opened next. */
void qcow2_bitmap_table_free(struct co *co, struct qcow2 *q, const struct qcow2_bitmap_disk *disk)
{
	int rc = qcow2_bitmap_table_walk(co, q, disk, free_entry, NULL);

	if (!rc)
		rc = free_bytes(co, q, disk->table.off, table_bytes(q, disk->entries));
	if (rc)
		q->stats.reclaim_errors++;
}

/* ---- planning ---- */

/* What all bits of an entry are, or MIXED. */
static enum { ZEROS, ONES, MIXED } look_at(const struct qcow2 *q, const struct sparse *bits, uint32_t index)
{
	uint64_t per = q->cluster_bytes * UINT64_C(8), first = index * per, end = MIN(first + per, bits->bits);

	if (sparse_find(bits, first, end, true) == end)
		return ZEROS;
	return sparse_find(bits, first, end, false) == end ? ONES : MIXED;
}

static void drop_clusters(struct co *co, struct qcow2 *q, uint64_t host, uint64_t bytes)
{
	if (qcow2_refcount_drop(co, q, qcow2_cluster_of(q, host), bytes >> q->cluster_bits))
		q->stats.leaked += bytes >> q->cluster_bits;
}

void qcow2_bitmap_plan_drop(struct co *co, struct qcow2 *q, struct qcow2_dirty_bitmap *b)
{
	uint32_t entries = b->next.entries;
	AUTO_FREE uint64_t *plan = take(b->plan);

	for (uint32_t i = 0; plan && i < entries; i++)
		if (qcow2_bitmap_entry_host(plan[i]))
			drop_clusters(co, q, plan[i], q->cluster_bytes);
	if (plan && b->next.table.off)
		drop_clusters(co, q, b->next.table.off, table_bytes(q, entries));
	b->next = b->now;
}

/* The bits behind the end of the disk must be zeros: an entry that says ones is for whole clusters of bits alone. */
static int plan_entry(struct co *co, struct qcow2 *q, const struct sparse *bits, uint32_t index, uint64_t *entry)
{
	uint64_t per = q->cluster_bytes * UINT64_C(8), host, got;
	bool zeroed, whole = (index + UINT64_C(1)) * per <= bits->bits;
	int rc;

	switch (look_at(q, bits, index)) {
	case ZEROS: return 0;
	case ONES:
		if (whole) {
			*entry = QCOW2_BITMAP_ONES;
			return 0;
		}
		break;
	default: break;
	}
	rc = qcow2_alloc(co, q, 1, &host, &got, &zeroed);
	if (!rc)
		*entry = host;
	return rc;
}

int qcow2_bitmap_plan(struct co *co, struct qcow2 *q, struct qcow2_dirty_bitmap *b, const struct sparse *bits)
{
	uint64_t entries = qcow2_bitmap_table_entries(q, bits->bits), table;
	int rc = 0;

	if (entries == 0 || entries * q->cluster_bytes > QCOW2_BITMAP_MAX_BYTES)
		return -EFBIG;
	b->plan = calloc(entries, sizeof(*b->plan));
	if (!b->plan)
		return -ENOMEM;
	b->planned = bits;
	b->next.table.off = 0;
	b->next.entries = (uint32_t)entries;
	for (uint32_t i = 0; !rc && i < entries; i++)
		rc = plan_entry(co, q, bits, i, &b->plan[i]);
	if (!rc)
		rc = qcow2_alloc_run(co, q, table_bytes(q, b->next.entries) >> q->cluster_bits, &table);
	if (rc)
		qcow2_bitmap_plan_drop(co, q, b);
	else
		b->next.table.off = table;
	return rc;
}

/* ---- writing ---- */

static int write_data(struct co *co, struct qcow2 *q, const struct qcow2_dirty_bitmap *b, struct qcow2_batch *out)
{
	size_t most = MAX(BATCH_BYTES / q->cluster_bytes, 1u);
	uint32_t i = 0;
	int rc = 0;

	while (!rc && i < b->next.entries) {
		rc = qcow2_batch_reset(out, most, most * q->cluster_bytes);
		for (size_t n = 0; !rc && n < most && i < b->next.entries; i++) {
			if (!qcow2_bitmap_entry_host(b->plan[i]))
				continue;
			sparse_export(b->planned, i * (q->cluster_bytes * UINT64_C(8)),
				qcow2_batch_add(out, NODE_EVENT_NONE, b->plan[i], q->cluster_bytes), q->cluster_bytes);
			n++;
		}
		if (!rc)
			rc = qcow2_batch_write(co, q, out);
	}
	return rc;
}

static int write_table(struct co *co, struct qcow2 *q, const struct qcow2_dirty_bitmap *b)
{
	uint64_t bytes = table_bytes(q, b->next.entries);
	AUTO_FREE be64 *table = node_alloc_zeroed(bytes);

	if (!table)
		return -ENOMEM;
	for (uint32_t i = 0; i < b->next.entries; i++)
		table[i] = be64_of(b->plan[i]);
	return node_write(co, q->node.file, b->next.table.off, IOV_BUF(table, bytes), 0);
}

int qcow2_bitmap_plan_write(struct co *co, struct qcow2 *q, const struct qcow2_dirty_bitmap *b)
{
	struct qcow2_batch batch = {0};
	int rc = write_data(co, q, b, &batch);

	qcow2_batch_fini(&batch);
	return rc ? rc : write_table(co, q, b);
}
