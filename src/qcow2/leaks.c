/* SPDX-License-Identifier: MIT */
/*
 * What a crash has leaked goes back, in the background, after each opening for writing: so leaks don't add up from crash to
 * crash.
 *
 * A leaked cluster has a refcount and no reference. It stays so while the image is in use: nobody frees it, as nothing
 * refers to it, and the allocator doesn't take it. So the search may take its time. Every cluster is marked that
 *   - a table refers to when the search reads it,
 *   - is allocated or freed meanwhile, which covers whatever the search came too late or too early to see.
 * What is not marked at the end and has a refcount is leaked.
 *
 * The search begins with a barrier: what it reads must be what a power cut would leave, or it might give back a cluster to
 * which only an older, still durable state refers. Where the image has structures that we don't know, or one can't be read,
 * it ends without a result.
 */
#include <errno.h>
#include <stdlib.h>

#include "base/cleanup.h"
#include "qcow2/engine.h"
#include "qcow2/snapshot.h"

#define L1_PIECE 8192u /* entries of a snapshot's L1 table that are read at once */

void qcow2_leaks_not(struct qcow2 *q, uint64_t host, uint64_t bytes)
{
	uint64_t first = qcow2_cluster_of(q, host), n = div_round_up(bytes, q->cluster_bytes);

	if (!q->in_use)
		return;
	for (uint64_t i = first; i < first + n && i < q->in_use_clusters; i++)
		bit_set(q->in_use, i);
}

/* ---- marking ---- */

static void mark_entries(struct qcow2 *q, const be64 *table)
{
	for (uint32_t i = 0; i < q->l2_entries; i++) {
		struct qcow2_span span = qcow2_entry_span(q, be64_get(table[i * (q->l2_entry_bytes / sizeof(*table))]));

		if (span.bytes)
			qcow2_leaks_not(q, span.host, span.bytes);
	}
}

/* The table of an L1 entry, and what it refers to. */
static int mark_table(struct co *co, struct qcow2 *q, uint64_t l1_entry, be64 *table)
{
	uint64_t offset = l1_entry & QCOW2_OFFSET_MASK;
	int rc;

	if (!offset)
		return 0;
	qcow2_leaks_not(q, offset, q->cluster_bytes);
	rc = node_read(co, q->node.file, offset, IOV_BUF(table, q->cluster_bytes));
	if (!rc)
		mark_entries(q, table);
	return rc;
}

/* A table that was copied while it was read may have become something else: then the copy is read. */
static int mark_active(struct co *co, struct qcow2 *q, be64 *table)
{
	for (uint64_t i = 0; i < q->l1.n;) {
		uint64_t entry = q->l1.entries[i];
		int rc = q->closing ? -ECANCELED : mark_table(co, q, entry, table);

		if (rc)
			return rc;
		i += q->l1.entries[i] == entry;
	}
	return 0;
}

static int mark_snapshot(struct co *co, struct qcow2 *q, const struct qcow2_snapshot *s, be64 *table)
{
	AUTO_FREE be64 *l1 = malloc(L1_PIECE * sizeof(*l1));
	int rc = l1 ? 0 : -ENOMEM;

	qcow2_leaks_not(q, s->l1.off, s->l1_entries * UINT64_C(8));
	for (uint64_t at = 0; !rc && at < s->l1_entries; at += L1_PIECE) {
		uint64_t n = MIN((uint64_t)L1_PIECE, s->l1_entries - at);

		rc = node_read(co, q->node.file, s->l1.off + at * 8, IOV_BUF(l1, n * 8));
		for (uint64_t i = 0; !rc && i < n; i++)
			rc = q->closing ? -ECANCELED : mark_table(co, q, be64_get(l1[i]), table);
	}
	return rc;
}

static int mark_snapshots(struct co *co, struct qcow2 *q, be64 *table)
{
	AUTO_FREE char *window = malloc(QCOW2_WINDOW_BYTES);
	AUTO_FREE struct qcow2_snapshot *s = malloc(sizeof(*s));
	struct qcow2_snapshot_walk walk = {.window = {.file = q->node.file, .bytes = window},
		.header = &q->header,
		.at = q->header.snapshots_at.off};
	int rc = 0, more = window && s ? 1 : -ENOMEM;

	while (!rc && more > 0 && (more = qcow2_snapshot_next(co, &walk, s, NULL)) > 0)
		rc = mark_snapshot(co, q, s, table);
	if (q->header.snapshots)
		qcow2_leaks_not(q, q->header.snapshots_at.off, walk.at - q->header.snapshots_at.off);
	return rc ? rc : more;
}

static void mark_fixed(struct qcow2 *q)
{
	qcow2_leaks_not(q, 0, q->cluster_bytes);
	qcow2_leaks_not(q, q->header.l1.off, q->l1.n * 8);
	qcow2_leaks_not(q, q->header.reftable.off, (uint64_t)q->header.reftable_clusters << q->cluster_bits);
	for (uint64_t i = 0; i < q->reftable.n; i++)
		if (q->reftable.entries[i])
			qcow2_leaks_not(q, q->reftable.entries[i] & ~QCOW2_UNPUBLISHED, q->cluster_bytes);
}

static int mark_all(struct co *co, struct qcow2 *q)
{
	void *table;
	int rc = node_buffer_get(co, &q->node, q->cluster_bytes, &table);

	if (rc)
		return rc;
	mark_fixed(q);
	rc = mark_snapshots(co, q, table);
	if (!rc)
		rc = mark_active(co, q, table);
	node_buffer_put(&q->node, table, q->cluster_bytes);
	return rc;
}

/* ---- giving back ---- */

/*
 * Gives the cluster back if it is leaked. A free one may be allocated, and marked, while its refcount is loaded; a leaked
 * one stays leaked until its last reference is taken: then the allocator may have it, and it isn't ours any more.
 */
static int give_back(struct co *co, struct qcow2 *q, uint64_t cluster)
{
	uint64_t index, references = 0;
	struct qcow2_slice *s;
	int rc = qcow2_refcount_slice(co, q, cluster, &s, &index);

	if (!rc && s && (MUTANT(57) || !bit_test(q->in_use, cluster)))
		references = qcow2_refcount_get(s->data, q->header.refcount_order, index);
	q->stats.leaks_reclaimed += references > 0;
	for (; !rc && references > 0; references--)
		rc = qcow2_refcount_drop(co, q, cluster, 1);
	return rc;
}

static int sweep(struct co *co, struct qcow2 *q)
{
	int rc = 0;

	for (uint64_t i = 0; !rc && i < q->in_use_clusters; i++) {
		if (bit_test(q->in_use, i))
			continue;
		rc = q->closing ? -ECANCELED : give_back(co, q, i);
	}
	return rc;
}

static void search(struct co *co, void *arg)
{
	struct qcow2 *q = arg;
	int rc = qcow2_barrier(co, q);

	if (!rc)
		rc = mark_all(co, q);
	if (!rc)
		rc = sweep(co, q);
	if (rc && rc != -ECANCELED)
		q->stats.reclaim_errors++;
	free(q->in_use);
	q->in_use = NULL;
	q->leaks_alive = false;
	co_queue_wake_all(&q->leaks_done);
}

int qcow2_leaks_start(struct qcow2 *q)
{
	int rc;

	if (q->header.unknown_extensions || q->header.bitmaps || q->header.crypto_bytes)
		return 0; /* they may refer to clusters that look leaked */
	q->in_use_clusters = div_round_up(q->file_bytes, q->cluster_bytes);
	q->in_use = calloc(1, bitmap_bytes(q->in_use_clusters));
	if (!q->in_use)
		return -ENOMEM;
	rc = co_spawn(q->node.sched, "qcow2-leaks", search, q);
	q->leaks_alive = rc == 0;
	return rc;
}

void qcow2_leaks_stop(struct co *co, struct qcow2 *q)
{
	q->closing = true;
	while (q->leaks_alive)
		co_queue_wait(co, &q->leaks_done);
}
