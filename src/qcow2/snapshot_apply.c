/* SPDX-License-Identifier: MIT */
/*
 * Going back to a snapshot. The node is drained: no request is inside.
 *
 *   every table of the snapshot's tree is shared: one reference more to all of it, no entry is COPIED   (tree.c)
 *   commit: A refcounts | barrier | B COPIED clears | barrier
 *   commit: A a new L1 table | barrier | B header: its place, its length, the disk's size, one sector | barrier
 *   requests may come; the tree that was the active one gives its references back, its L1 table is free
 *
 * The L1 table is never overwritten where it lies (crash-safety O17): before the header's sector the disk is the old one,
 * after it the new one, whole. When that write fails, memory goes back to the old table; which of the two the disk has is
 * unknown until a commit succeeds, so nothing of either is given back before.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "qcow2/bitmaps.h"
#include "qcow2/snapshot_ops.h"

struct application {
	struct qcow2_snapshot_place place;
	uint64_t *l1, *shared; /* of the snapshot's tree; as much of it as has its new references */
	uint64_t n, size;
	struct qcow2_space space; /* for the new L1 table */
	struct qcow2_table table; /* the new L1 table; after the switch the old one */
	bool announced;
};

/* ---- before the drain ---- */

static int prepare(struct co *co, struct qcow2 *q, struct application *a, const char *which, struct err *err)
{
	const struct qcow2_snapshot *s = &a->place.is;
	uint64_t table_covers = (uint64_t)q->l2_entries << q->cluster_bits;
	int rc = qcow2_snapshot_find(co, q->node.file, &q->header, which, &a->place, err);

	if (!rc) /* one that doesn't tell its size is as large as the disk, which may have grown since */
		rc = qcow2_snapshot_check(
			&q->header, q->file_bytes, s, s->extra_bytes >= 16 ? s->info.disk_bytes : 0, err);
	if (rc)
		return rc;
	a->size = s->info.disk_bytes;
	a->n = MAX((uint64_t)s->l1_entries, div_round_up(a->size, table_covers));
	a->l1 = node_alloc_zeroed(a->n * sizeof(*a->l1));
	a->shared = calloc(MAX(a->n, UINT64_C(1)), sizeof(*a->shared));
	if (!a->l1 || !a->shared || qcow2_table_init(&a->table, a->n, q->unit_bytes))
		return err_set(err, -ENOMEM, "no memory for the L1 table");
	rc = qcow2_l1_read(co, q, s->l1.off, a->l1, s->l1_entries);
	if (rc)
		return err_set(err, rc, "the snapshot's L1 table can't be read: %s", strerror(-rc));
	memcpy(a->table.entries, a->l1, a->n * sizeof(*a->l1));
	return qcow2_space_take(co, q, a->n * 8, &a->space, err);
}

/* ---- while nobody is inside ---- */

static int share_index(struct co *co, struct qcow2 *q, void *arg, uint64_t index)
{
	struct application *a = arg;
	int rc = a->l1[index] ? qcow2_table_share(co, q, a->l1[index]) : 0;

	if (rc || !a->l1[index])
		return rc;
	a->shared[index] = a->l1[index];
	return 1;
}

static int share_tree(struct co *co, struct qcow2 *q, struct application *a, struct err *err)
{
	int rc = qcow2_each_index(co, q, a->n, share_index, a);

	if (rc == -ERANGE)
		return err_set(err, rc, "a cluster has as many references already as %u bits can count",
			1u << q->header.refcount_order);
	if (!rc && !MUTANT(26))
		rc = qcow2_commit(co, q);
	return rc ? err_set(err, rc, "the references can't be counted: %s", strerror(-rc)) : 0;
}

/* The tables of what was the active tree are a snapshot's from now on, or free in a moment; those of q->l1 are active. */
static void guard(struct qcow2 *q, const struct qcow2_table *was)
{
	for (uint64_t i = 0; i < was->n; i++)
		if (was->entries[i] & QCOW2_OFFSET_MASK)
			qcow2_guard_keep(
				q, was->entries[i] & QCOW2_OFFSET_MASK, q->cluster_bytes, QCOW2_ROLE_INACTIVE_L2);
	for (uint64_t i = 0; i < q->l1.n; i++)
		if (q->l1.entries[i] & QCOW2_OFFSET_MASK)
			qcow2_guard_add(q, q->l1.entries[i] & QCOW2_OFFSET_MASK, QCOW2_ROLE_L2, i);
}

/* Exchanges what the disk is with what it was; the next commit writes an L1 table that is new. */
static void exchange(struct qcow2 *q, struct application *a, bool fresh)
{
	struct qcow2_table table = q->l1;
	struct qcow2_space space = a->space;
	uint64_t size = q->header.size;

	a->space = (struct qcow2_space){q->header.l1.off, align_up(q->l1.n * 8, q->cluster_bytes)};
	q->l1 = a->table;
	a->table = table;
	q->header.l1.off = space.host;
	q->header.l1_entries = (uint32_t)q->l1.n;
	q->header.size = a->size;
	a->size = size;
	q->l1_moved = fresh;
	qcow2_header_changed(q);
	guard(q, &a->table);
}

static int exchange_tables(struct co *co, struct qcow2 *q, struct application *a, struct err *err)
{
	int rc;

	if (MUTANT(26)) {
		if (qcow2_l1_write(co, q, q->header.l1.off, a->l1, MIN(a->n, q->l1.n)))
			return -EIO;
	}
	a->announced = true;
	exchange(q, a, true);
	rc = qcow2_commit(co, q);
	if (rc) {
		exchange(q, a, false);
		return err_set(err, rc, "the header can't be written: %s", strerror(-rc));
	}
	q->node.size = q->header.size;
	return 0;
}

/* All of the disk changes, and maybe its size: only then a disabled bitmap has to follow. */
static int switch_over(struct co *co, struct qcow2 *q, struct application *a, struct err *err)
{
	bool sized = a->size != q->node.size;
	int rc = sized ? qcow2_bitmaps_resize_begin(co, q, a->size) : 0;

	if (rc)
		err_set(err, rc, "the dirty bitmaps can't follow: %s", strerror(-rc));
	if (!rc)
		rc = share_tree(co, q, a, err);
	if (!rc)
		rc = exchange_tables(co, q, a, err);
	if (sized)
		qcow2_bitmaps_resize_end(q);
	if (!rc)
		qcow2_bitmaps_changing(&q->node, 0, q->node.size);
	return rc;
}

static int apply_drained(struct co *co, struct qcow2 *q, struct application *a, struct err *err)
{
	int rc = node_drain_begin(co, &q->node);

	if (rc)
		err_set(err, rc, "what was written before can't be flushed: %s", strerror(-rc));
	if (!rc)
		rc = switch_over(co, q, a, err);
	node_drain_end(&q->node);
	return rc;
}

/* ---- after it ---- */

/* The tree that was the active one: nothing leads to it any more. */
static void release_old(struct co *co, struct qcow2 *q, struct application *a)
{
	for (uint64_t i = 0; i < a->table.n; i++)
		a->table.entries[i] &= QCOW2_OFFSET_MASK;
	qcow2_tree_release(co, q, a->table.entries, a->table.n);
	qcow2_space_give_back(co, q, &a->space);
	if (qcow2_commit(co, q))
		q->stats.reclaim_errors++;
}

static void undo(struct co *co, struct qcow2 *q, struct application *a)
{
	if (a->announced)
		qcow2_space_free(q, &a->space);
	else
		qcow2_space_give_back(co, q, &a->space);
	if (!a->shared)
		return;
	if (q->closing || qcow2_commit(co, q))
		q->stats.reclaim_errors++;
	else
		qcow2_tree_release(co, q, a->shared, a->n);
}

int qcow2_snapshot_apply(struct co *co, struct node *n, const char *which, struct err *err)
{
	struct qcow2 *q = qcow2_of(n);
	AUTO_FREE struct application *a = calloc(1, sizeof(*a));
	int rc = a ? qcow2_snapshot_enter(co, q, err) : err_set(err, -ENOMEM, "no memory");

	if (rc)
		return rc;
	rc = prepare(co, q, a, which, err);
	if (!rc)
		rc = apply_drained(co, q, a, err);
	if (rc)
		undo(co, q, a);
	else
		release_old(co, q, a);
	qcow2_table_fini(&a->table);
	free(a->l1);
	free(a->shared);
	qcow2_snapshot_leave(q);
	return rc;
}
