/* SPDX-License-Identifier: MIT */
/*
 * What a crash has leaked goes back, in the background, after each opening for writing: so leaks don't add up from crash to
 * crash. A leak is a refcount that is higher than the number of references: of a cluster that nothing refers to, or, when a
 * snapshot was coming or going, of one that is in use.
 *
 *     count     the references of every cluster, by what lies on disk
 *     sweep     refcounts that are too high are lowered
 *     restore   COPIED is set where one reference is left and the bit isn't set (copied.c)
 *
 * The search may take its time while the image is in use. A cluster that is allocated or freed after the image was opened
 * is touched, and let alone: whatever the search came too late or too early to see happened to such a cluster. All others
 * keep their references as long as it runs; for what changes references in other ways, snapshot operations, it stands still
 * and begins again. That an L2 table is copied moves a reference but keeps their number: a table is counted if its L1 entry
 * is the same before and after it was read.
 *
 * It begins with a commit: what it reads must be what a power cut would leave, or it might lower the refcount of a cluster
 * to which only an older, still durable state refers. Where the image has structures that we don't know, or one can't be
 * read, it ends without a result.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "qcow2/bitmaps.h"
#include "qcow2/snapshot.h"

#define TABLE_PIECE 8192u /* entries of a snapshot's L1 table or a bitmap's table that are read at once */

struct search {
	struct qcow2 *q;
	struct qcow2_refs counts;
	uint32_t *loose; /* bitmap of L1 indices: an entry there isn't COPIED */
	uint64_t loose_n;
	be64 *table, *piece; /* an L2 table, and a piece of another one */
};

void qcow2_leaks_not(struct qcow2 *q, uint64_t host, uint64_t bytes)
{
	uint64_t first = qcow2_cluster_of(q, host), n = div_round_up(bytes, q->cluster_bytes);

	if (!q->touched)
		return;
	for (uint64_t i = first; i < first + n && i < q->touched_clusters; i++)
		bit_set(q->touched, i);
}

/* Somebody wants to close the image, or to change it in a way that the search can't follow. */
static int disturbed(const struct qcow2 *q)
{
	if (q->corrupt)
		return -EIO;
	return q->closing || (q->leaks_paused && !MUTANT(81)) ? -ECANCELED : 0;
}

/* ---- count ---- */

static int count_run(struct search *s, uint64_t host, uint64_t bytes)
{
	uint64_t first = qcow2_cluster_of(s->q, host), n = div_round_up(bytes, s->q->cluster_bytes);
	int rc = 0;

	for (uint64_t i = first; !rc && i < first + n && i < s->counts.clusters; i++)
		rc = qcow2_refs_add(&s->counts, i);
	return rc;
}

/* The data of an image with an external data file doesn't lie in the image. */
static bool is_elsewhere(const struct qcow2 *q, uint64_t entry)
{
	return (q->header.incompatible & QCOW2_INCOMPAT_DATA_FILE) && !(entry & QCOW2_COMPRESSED);
}

/* *loose: one of them refers to a cluster and isn't COPIED. */
static int count_entries(struct search *s, bool *loose)
{
	struct qcow2 *q = s->q;
	int rc = 0;

	for (uint32_t i = 0; !rc && i < q->l2_entries; i++) {
		uint64_t entry = be64_get(s->table[i * (q->l2_entry_bytes / sizeof(*s->table))]);
		struct qcow2_span span = qcow2_entry_span(q, entry);

		if (!span.bytes || is_elsewhere(q, entry))
			continue;
		rc = count_run(s, span.host, span.bytes);
		*loose |= !(entry & (QCOW2_COPIED | QCOW2_COMPRESSED));
	}
	return rc;
}

static int read_table(struct co *co, struct search *s, uint64_t table)
{
	return node_read(co, s->q->node.file, table, IOV_BUF(s->table, s->q->cluster_bytes));
}

/* The table is in use while it is read, or else the entry has changed. */
static int count_active_index(struct co *co, struct search *s, uint64_t index, bool *counted)
{
	struct qcow2 *q = s->q;
	uint64_t entry = q->l1.entries[index], table = entry & QCOW2_OFFSET_MASK;
	bool loose = !(entry & QCOW2_COPIED);
	int rc;

	*counted = true;
	if (!table)
		return 0;
	rc = read_table(co, s, table);
	*counted = index < q->l1.n && (q->l1.entries[index] & QCOW2_OFFSET_MASK) == table;
	if (rc || !*counted)
		return rc;
	rc = count_run(s, table, q->cluster_bytes);
	if (!rc)
		rc = count_entries(s, &loose);
	if (loose && index < s->loose_n)
		bit_set(s->loose, index);
	return rc;
}

static int count_active(struct co *co, struct search *s)
{
	struct qcow2 *q = s->q;

	for (uint64_t i = 0; i < q->l1.n;) {
		struct node_op op;
		bool counted;
		int rc = disturbed(q);

		if (rc)
			return rc;
		node_op_join(&q->node, &op);
		rc = count_active_index(co, s, i, &counted);
		node_op_end(&q->node, &op);
		if (rc)
			return rc;
		i += counted;
	}
	return 0;
}

static int count_snapshot_table(struct co *co, struct search *s, uint64_t table)
{
	bool loose = false;
	int rc = disturbed(s->q);

	if (rc || !table)
		return rc;
	rc = read_table(co, s, table);
	if (!rc)
		rc = count_run(s, table, s->q->cluster_bytes);
	return rc ? rc : count_entries(s, &loose);
}

/* The offsets of a table of n at host, a piece at a time, to fn; the table itself is counted. */
static int count_pieces(struct co *co, struct search *s, uint64_t host, uint64_t n,
	int (*fn)(struct co *co, struct search *s, uint64_t offset))
{
	int rc = count_run(s, host, n * 8);

	for (uint64_t at = 0; !rc && at < n; at += TABLE_PIECE) {
		uint64_t entries = MIN((uint64_t)TABLE_PIECE, n - at);

		rc = node_read(co, s->q->node.file, host + at * 8, IOV_BUF(s->piece, entries * 8));
		for (uint64_t i = 0; !rc && i < entries; i++)
			rc = fn(co, s, be64_get(s->piece[i]) & QCOW2_OFFSET_MASK);
	}
	return rc;
}

static int count_snapshots(struct co *co, struct search *s)
{
	struct qcow2 *q = s->q;
	AUTO_FREE struct qcow2_snapshot *one = malloc(sizeof(*one));
	struct qcow2_snapshot_walk walk = {
		.window.file = q->node.file, .header = &q->header, .at = q->header.snapshots_at.off};
	int rc = 0, more = one ? 1 : -ENOMEM;

	while (!rc && more > 0 && (more = qcow2_snapshot_next(co, &walk, one, NULL)) > 0)
		rc = count_pieces(co, s, one->l1.off, one->l1_entries, count_snapshot_table);
	free(walk.window.bytes);
	if (!rc && more == 0 && q->header.snapshots)
		rc = count_run(s, q->header.snapshots_at.off, walk.at - q->header.snapshots_at.off);
	return rc ? rc : more;
}

static int count_bitmap_cluster(struct co *co, struct search *s, uint64_t offset)
{
	(void)co;
	return offset ? count_run(s, offset, s->q->cluster_bytes) : disturbed(s->q);
}

/* Nobody changes the directory or a table meanwhile. */
static int count_bitmaps_locked(struct co *co, struct search *s)
{
	struct qcow2 *q = s->q;
	AUTO_FREE struct qcow2_bitmap *one = malloc(sizeof(*one));
	struct qcow2_bitmap_walk walk = {.window.file = q->node.file, .header = &q->header};
	int rc = 0, more = one ? 1 : -ENOMEM;

	if (q->header.bitmaps == 0)
		return 0;
	while (!rc && more > 0 && (more = qcow2_bitmap_next(co, &walk, one, NULL)) > 0)
		rc = count_pieces(co, s, one->table.off, one->table_entries, count_bitmap_cluster);
	free(walk.window.bytes);
	if (!rc)
		rc = count_run(s, q->header.bitmap_directory.off, q->header.bitmap_directory_bytes);
	return rc ? rc : more;
}

static int count_bitmaps(struct co *co, struct search *s)
{
	struct qcow2_bitmaps *all = s->q->bitmaps;
	int rc;

	co_mutex_lock(co, &all->editing);
	rc = all->unsure ? -EIO : count_bitmaps_locked(co, s);
	co_mutex_unlock(&all->editing);
	return rc;
}

static int count_fixed(struct search *s)
{
	struct qcow2 *q = s->q;
	int rc = count_run(s, 0, q->cluster_bytes);

	if (!rc)
		rc = count_run(s, q->header.l1.off, q->l1.n * 8);
	if (!rc)
		rc = count_run(s, q->header.reftable.off, (uint64_t)q->header.reftable_clusters << q->cluster_bits);
	for (uint64_t i = 0; !rc && i < q->reftable.n; i++)
		if (q->reftable.entries[i])
			rc = count_run(s, q->reftable.entries[i] & ~QCOW2_UNPUBLISHED, q->cluster_bytes);
	return rc ? rc : count_run(s, q->header.crypto.off, q->header.crypto_bytes);
}

static int count_all(struct co *co, struct search *s)
{
	int rc = count_fixed(s);

	if (!rc)
		rc = count_snapshots(co, s);
	if (!rc)
		rc = count_bitmaps(co, s);
	return rc ? rc : count_active(co, s);
}

/* ---- sweep ---- */

/* Of one slice of refcounts, those from cluster on; nothing yields in here. */
static void sweep_slice(struct search *s, struct qcow2_slice *slice, uint64_t index, uint64_t cluster)
{
	struct qcow2 *q = s->q;
	unsigned order = q->header.refcount_order;

	for (; index < qcow2_slice_refcounts(q) && cluster < s->counts.clusters; index++, cluster++) {
		uint64_t has = qcow2_refcount_get(slice->data, order, index);
		uint64_t needs = qcow2_refs_get(&s->counts, cluster);

		if (has <= needs || (bit_test(q->touched, cluster) && !MUTANT(57)))
			continue;
		qcow2_refcount_put(q, slice, index, cluster, needs);
		q->stats.leaks_reclaimed++;
	}
}

static int sweep(struct co *co, struct search *s)
{
	struct qcow2 *q = s->q;

	for (uint64_t i = 0; i < s->counts.clusters; i += qcow2_slice_refcounts(q)) {
		struct qcow2_slice *slice;
		uint64_t index;
		int rc = disturbed(q);

		if (!rc)
			rc = qcow2_refcount_slice(co, q, i, &slice, &index);
		if (rc)
			return rc;
		if (slice)
			sweep_slice(s, slice, index, i);
		co_yield(co);
	}
	return 0;
}

/* ---- the search ---- */

static int search_with(struct co *co, struct search *s)
{
	int rc = qcow2_commit(co, s->q);

	if (!rc)
		rc = count_all(co, s);
	if (!rc)
		rc = sweep(co, s);
	return rc ? rc : qcow2_copied_restore(co, s->q, s->loose, s->loose_n);
}

static int search_once(struct co *co, struct qcow2 *q)
{
	struct search s = {.q = q, .loose_n = q->l1.n};
	int rc = qcow2_refs_init(&s.counts, q->touched_clusters);

	s.loose = calloc(1, bitmap_bytes(MAX(q->l1.n, UINT64_C(1))));
	s.table = node_alloc(q->cluster_bytes);
	s.piece = node_alloc(TABLE_PIECE * sizeof(*s.piece));
	if (!rc)
		rc = s.loose && s.table && s.piece ? search_with(co, &s) : -ENOMEM;
	qcow2_refs_fini(&s.counts);
	free(s.loose);
	free(s.table);
	free(s.piece);
	return rc;
}

static void search(struct co *co, void *arg)
{
	struct qcow2 *q = arg;
	int rc = -ECANCELED;

	while (rc == -ECANCELED && !q->closing) {
		q->leaks_running = q->leaks_paused == 0;
		if (q->leaks_running)
			rc = search_once(co, q);
		q->leaks_running = false;
		co_queue_wake_all(&q->leaks_done);
		if (rc == -ECANCELED && !q->closing)
			co_queue_wait(co, &q->leaks_wake);
	}
	if (rc && rc != -ECANCELED)
		q->stats.reclaim_errors++;
	free(q->touched);
	q->touched = NULL;
	q->leaks_alive = false;
	co_queue_wake_all(&q->leaks_done);
}

int qcow2_leaks_start(struct qcow2 *q)
{
	int rc;

	if (q->header.unknown_extensions)
		return 0; /* they may refer to clusters that look leaked */
	q->touched_clusters = div_round_up(q->file_bytes, q->cluster_bytes);
	q->touched = calloc(1, bitmap_bytes(q->touched_clusters));
	if (!q->touched)
		return -ENOMEM;
	rc = co_spawn(q->node.sched, "qcow2-leaks", search, q);
	q->leaks_alive = rc == 0;
	return rc;
}

void qcow2_leaks_stop(struct co *co, struct qcow2 *q)
{
	q->closing = true;
	co_queue_wake_all(&q->leaks_wake);
	while (q->leaks_alive)
		co_queue_wait(co, &q->leaks_done);
}

void qcow2_leaks_pause(struct co *co, struct qcow2 *q)
{
	q->leaks_paused++;
	while (q->leaks_running && !MUTANT(81))
		co_queue_wait(co, &q->leaks_done);
}

void qcow2_leaks_resume(struct qcow2 *q)
{
	if (--q->leaks_paused == 0)
		co_queue_wake_all(&q->leaks_wake);
}
