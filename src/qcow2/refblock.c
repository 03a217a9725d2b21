/* SPDX-License-Identifier: MIT */
/*
 * More refcount blocks, and a larger refcount table.
 *
 * A new block lies in the space that it counts, as its first cluster, and counts itself. Its content is on disk, then its
 * table entry is published by a commit, and only then may a cluster that it counts be given out (crash-safety O6): until
 * that commit has succeeded the entry in memory carries QCOW2_UNPUBLISHED, which never reaches the disk.
 *
 * A larger table lies behind the blocks that count it; blocks and table are written, then the header points to the new
 * table by the write of one sector, then the old table is freed (O7).
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "qcow2/engine.h"

#define ENTRY_ON_DISK (~QCOW2_UNPUBLISHED)

/* Writes a block whose refcounts [0, used) are 1, at host. */
static int write_block(struct co *co, struct qcow2 *q, uint64_t host, uint64_t used)
{
	void *block;
	int rc = node_buffer_get(co, &q->node, q->cluster_bytes, &block);

	if (rc)
		return rc;
	memset(block, 0, q->cluster_bytes);
	for (uint64_t i = 0; i < used; i++)
		qcow2_refcount_set(block, q->header.refcount_order, i, 1);
	rc = node_write(co, q->node.file, host, IOV_BUF(block, q->cluster_bytes), 0);
	node_buffer_put(&q->node, block, q->cluster_bytes);
	return rc;
}

/* Takes [from, end) into use, which no block counted so far. */
static int claim(struct co *co, struct qcow2 *q, uint64_t from, uint64_t end)
{
	int rc = q->corrupt ? -EIO : qcow2_guard_write(co, q, from, end - from);

	if (rc)
		return rc;
	qcow2_leaks_not(q, from, end - from);
	q->zero_from = MAX(q->zero_from, end);
	return qcow2_file_reach(co, q, end);
}

static int add_block(struct co *co, struct qcow2 *q, uint64_t i)
{
	uint64_t host = i * q->block_refcounts << q->cluster_bits;
	int rc;

	if (i == 0) /* cluster 0 is in use, so something counted it once */
		return qcow2_corrupt(co, q, "the cluster of the header isn't counted");
	node_event(co, q->node.file, NODE_EVENT_REFBLOCK_ALLOC);
	rc = claim(co, q, host, host + q->cluster_bytes);
	node_event(co, q->node.file, NODE_EVENT_REFBLOCK_ALLOC_WRITE);
	if (!rc)
		rc = write_block(co, q, host, MUTANT(27) ? 0 : 1);
	if (!rc)
		qcow2_table_set(q, &q->reftable, i, host | QCOW2_UNPUBLISHED);
	return rc;
}

struct growth { /* what a larger table needs, in clusters and entries */
	uint64_t first_block, blocks, table_clusters, entries;
};

/* The blocks count themselves and the table; the table has room for the blocks and half as much again. */
static int plan_growth(const struct qcow2 *q, uint64_t i, struct growth *g)
{
	uint64_t per_cluster = q->cluster_bytes / 8;

	*g = (struct growth){.first_block = i};
	do {
		g->blocks++;
		g->entries = MAX(i + g->blocks, q->reftable.n + q->reftable.n / 2);
		g->table_clusters = div_round_up(g->entries, per_cluster);
	} while (g->blocks * q->block_refcounts < g->blocks + g->table_clusters);
	g->entries = g->table_clusters * per_cluster;
	return g->entries * 8 > QCOW2_MAX_REFTABLE_BYTES ? -EFBIG : 0;
}

static int write_growth(struct co *co, struct qcow2 *q, const struct growth *g, const struct qcow2_table *table)
{
	uint64_t base = g->first_block * q->block_refcounts; /* the first cluster of the new space */
	uint64_t used = g->blocks + g->table_clusters;       /* of it, counted by the blocks */
	uint64_t bytes = g->table_clusters << q->cluster_bits;
	void *content = node_alloc(bytes);
	int rc = content ? claim(co, q, base << q->cluster_bits, (base + used) << q->cluster_bits) : -ENOMEM;

	node_event(co, q->node.file, NODE_EVENT_REFBLOCK_ALLOC_WRITE_BLOCKS);
	for (uint64_t k = 0; !rc && k < g->blocks; k++)
		rc = write_block(co, q, (base + k) << q->cluster_bits,
			MIN(q->block_refcounts, used - MIN(used, k * q->block_refcounts)));
	node_event(co, q->node.file, NODE_EVENT_REFBLOCK_ALLOC_WRITE_TABLE);
	if (!rc) {
		qcow2_table_export(table, 0, g->entries, ENTRY_ON_DISK, content);
		rc = node_write(co, q->node.file, (base + g->blocks) << q->cluster_bits, IOV_BUF(content, bytes), 0);
	}
	free(content);
	return rc;
}

static int grow_full(struct qcow2 *q, uint64_t entries)
{
	uint64_t slices_per_block = q->cluster_bytes / q->refcount_cache.slice_bytes;
	size_t before = bitmap_bytes(q->reftable.n * slices_per_block),
	       after = bitmap_bytes(entries * slices_per_block);
	uint32_t *full = realloc(q->full, after);

	if (!full)
		return -ENOMEM;
	memset((char *)full + before, 0, after - before);
	q->full = full;
	return 0;
}

/* The new table is on disk, or in order behind barrier 1: from now on it is the table. */
static void adopt(struct qcow2 *q, const struct growth *g, struct qcow2_table *table)
{
	qcow2_free(q, q->header.reftable.off, (uint64_t)q->header.reftable_clusters << q->cluster_bits);
	qcow2_table_fini(&q->reftable);
	q->reftable = *table;
	*table = (struct qcow2_table){0};
	q->header.reftable.off = (g->first_block * q->block_refcounts + g->blocks) << q->cluster_bits;
	q->header.reftable_clusters = (uint32_t)g->table_clusters;
	qcow2_header_changed(q);
	for (uint64_t i = g->first_block; i < g->first_block + g->blocks; i++)
		qcow2_guard_add(q, q->reftable.entries[i] & ENTRY_ON_DISK, QCOW2_ROLE_REFBLOCK, i);
}

static int grow_table(struct co *co, struct qcow2 *q, uint64_t i)
{
	struct qcow2_table table = {0};
	struct growth g;
	int rc = plan_growth(q, i, &g);

	node_event(co, q->node.file, NODE_EVENT_REFTABLE_GROW);
	if (!rc)
		rc = qcow2_table_init(&table, g.entries, q->unit_bytes);
	if (!rc)
		rc = grow_full(q, g.entries);
	if (!rc) {
		memcpy(table.entries, q->reftable.entries, q->reftable.n * 8);
		for (uint64_t k = 0; k < g.blocks; k++)
			table.entries[i + k] = (i * q->block_refcounts + k) << q->cluster_bits | QCOW2_UNPUBLISHED;
		rc = write_growth(co, q, &g, &table);
	}
	node_event(co, q->node.file, NODE_EVENT_REFBLOCK_ALLOC_SWITCH_TABLE);
	if (!rc)
		rc = qcow2_free_prepare(q, 1);
	if (!rc)
		adopt(q, &g, &table);
	qcow2_table_fini(&table);
	return rc;
}

/* A commit that began after they were written has published them all. */
static void publish_blocks(struct qcow2 *q)
{
	for (uint64_t i = 0; i < q->reftable.n; i++)
		q->reftable.entries[i] &= ENTRY_ON_DISK;
}

static int make_locked(struct co *co, struct qcow2 *q, uint64_t i)
{
	int rc = 0;

	if (i >= q->reftable.n)
		rc = grow_table(co, q, i);
	else if (!q->reftable.entries[i])
		rc = add_block(co, q, i);
	else if (!(q->reftable.entries[i] & QCOW2_UNPUBLISHED))
		return 0; /* somebody made it while we waited for the lock */
	node_event(co, q->node.file, NODE_EVENT_REFBLOCK_ALLOC_HOOKUP);
	if (!rc)
		rc = qcow2_commit(co, q);
	if (!rc)
		publish_blocks(q);
	return rc;
}

int qcow2_refblock_make(struct co *co, struct qcow2 *q, uint64_t cluster)
{
	int rc;

	co_mutex_lock(co, &q->grow_refcounts);
	rc = make_locked(co, q, cluster / q->block_refcounts);
	if (!MUTANT(40) || !rc)
		co_mutex_unlock(&q->grow_refcounts);
	return rc;
}
