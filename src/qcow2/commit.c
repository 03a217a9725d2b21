/* SPDX-License-Identifier: MIT */
/*
 * The commit: the one place where metadata reaches the disk.
 *
 *     capture      copy every dirty unit, at one instant (no yield): what changes later belongs to the next commit
 *     phase A      refcount units (they only ever say more than needed); a moved L1 table
 *     barrier 1    the file's flush: all data written before, new tables, phase A; and that of the data file
 *     phase B      pointers: L2 units, L1 units, refcount-table units, the header sector
 *     barrier 2
 *     phase C      what became unreachable goes to reclaim.c: punch, decrement, reuse
 *
 * Barrier 2 is left out when phase B is empty. One commit runs at a time, so that no metadata sector has two writes in
 * flight; whoever asks meanwhile joins the next one, and all who wait for the same commit share it.
 *
 * Lazy refcounts are left out of phase A: the disk's may be too low then, which the dirty bit says (O20, M10). It goes
 * before everything else:
 *
 *     the header as it is on disk, with the dirty bit; barrier        once, before the first commit that leaves some out
 *     ...
 *     at the end, a commit with all of phase A, whose phase B has the header without the dirty bit
 *
 * After an error everything captured is dirty again and what was freed stays in quarantine: nothing on disk is relied on
 * until a later commit has written it again.
 */
#include <errno.h>
#include <stddef.h>
#include <string.h>

#include "qcow2/engine.h"

struct commit_waiter {
	struct list link;
	struct co_queue wake;
	bool done;
	int rc;
};

/* ---- capture ---- */

static uint32_t slice_unit(const struct qcow2_cache *c) { return MIN(c->q->unit_bytes, c->slice_bytes); }

static size_t units_dirty(const struct qcow2_cache *c)
{
	size_t n = 0;

	list_for_each(it, &c->dirty)
		n += (size_t)__builtin_popcount(list_entry(it, struct qcow2_slice, dirty_link)->dirty);
	return n;
}

static void capture_slice(struct qcow2_cache *c, struct qcow2_slice *s, struct qcow2_batch *b)
{
	uint32_t unit = slice_unit(c);

	for (uint32_t i = 0; i < c->slice_bytes / unit; i++)
		if (s->dirty >> i & 1)
			memcpy(qcow2_batch_add(b, c->update_event, s->host + (uint64_t)i * unit, unit),
				(char *)s->data + (size_t)i * unit, unit);
	s->writing = s->dirty;
	if (!MUTANT(12))
		s->dirty = 0;
	list_remove(&s->dirty_link);
	list_push(&c->writing, &s->writing_link);
}

static void capture_cache(struct qcow2_cache *c, struct qcow2_batch *b)
{
	list_for_each_safe(it, &c->dirty)
		capture_slice(c, list_entry(it, struct qcow2_slice, dirty_link), b);
}

static uint64_t table_units(const struct qcow2 *q, const struct qcow2_table *t)
{
	return div_round_up(t->n * 8, q->unit_bytes);
}

static size_t table_units_dirty(const struct qcow2 *q, const struct qcow2_table *t)
{
	size_t n = 0;

	for (uint64_t i = 0; i < table_units(q, t); i++)
		n += bit_test(t->dirty, i);
	return n;
}

/* Entries of the units that are dirty, or of all. The last unit is cut where the table ends. */
static void capture_table(
	struct qcow2 *q, struct qcow2_table *t, enum node_event event, uint64_t host, bool all, struct qcow2_batch *b)
{
	uint64_t per_unit = q->unit_bytes / 8;

	for (uint64_t i = 0; i < table_units(q, t); i++) {
		uint64_t first = i * per_unit, n = MIN(per_unit, t->n - first);

		if (!all && !bit_test(t->dirty, i))
			continue;
		qcow2_table_export(t, first, n, ~QCOW2_UNPUBLISHED, qcow2_batch_add(b, event, host + first * 8, n * 8));
		bit_clear(t->dirty, i);
		bit_set(t->writing, i);
	}
}

static void capture_header(struct qcow2 *q, enum node_event event)
{
	qcow2_header_patch(&q->header, q->sector);
	memcpy(qcow2_batch_add(MUTANT(37) ? &q->phase_a : &q->phase_b, event, 0, QCOW2_HEADER_SECTOR), q->sector,
		QCOW2_HEADER_SECTOR);
	q->header_dirty = false;
	q->header_writing = true;
}

static bool defers_refcounts(const struct qcow2 *q) { return qcow2_is_lazy(q) && !q->refcounts_wanted; }

/* Atomic: it doesn't yield. -ENOMEM: nothing has been captured. */
static int capture(struct qcow2 *q, bool *l1_moved)
{
	size_t refcounts = defers_refcounts(q) ? 0 : units_dirty(&q->refcount_cache);
	size_t l2 = MUTANT(9) || MUTANT(10) || MUTANT(29) ? 4096 : units_dirty(&q->l2_cache);
	size_t l1 = q->l1_moved ? table_units(q, &q->l1) : table_units_dirty(q, &q->l1);
	size_t reftable = table_units_dirty(q, &q->reftable), unit = q->unit_bytes;
	int rc = qcow2_batch_reset(&q->phase_a, refcounts + l1 + MUTANT(37), (refcounts + l1 + MUTANT(37)) * unit);

	if (!rc)
		rc = qcow2_batch_reset(&q->phase_b, l2 + l1 + reftable + 1, (l2 + l1 + reftable + 1) * unit);
	if (rc)
		return rc;
	*l1_moved = q->l1_moved;
	if (refcounts)
		capture_cache(
			&q->refcount_cache, MUTANT(9) || (MUTANT(29) && qcow2_is_lazy(q)) ? &q->phase_b : &q->phase_a);
	capture_table(q, &q->l1, *l1_moved ? NODE_EVENT_L1_GROW_WRITE_TABLE : NODE_EVENT_L1_UPDATE, q->header.l1.off,
		q->l1_moved, q->l1_moved || MUTANT(8) ? &q->phase_a : &q->phase_b);
	if (!MUTANT(10))
		capture_cache(&q->l2_cache, &q->phase_b);
	capture_table(q, &q->reftable, NODE_EVENT_REFTABLE_UPDATE, q->header.reftable.off, false, &q->phase_b);
	if (q->header_dirty)
		capture_header(q, *l1_moved ? NODE_EVENT_L1_GROW_ACTIVATE_TABLE : NODE_EVENT_NONE);
	qcow2_freed_move(&q->freed_commit, &q->freed);
	q->l1_moved = q->dirty = q->commit_soon = q->refcounts_wanted = false;
	return 0;
}

/* ---- what a commit leaves behind ---- */

static void settle_cache(struct qcow2_cache *c, bool written)
{
	list_for_each_safe(it, &c->writing) {
		struct qcow2_slice *s = list_entry(it, struct qcow2_slice, writing_link);

		list_remove(&s->writing_link);
		if (MUTANT(12))
			s->dirty = 0;
		if (!written && !s->dirty)
			list_push(&c->dirty, &s->dirty_link);
		if (!written)
			s->dirty |= s->writing;
		s->writing = 0;
	}
	co_queue_wake_all(&c->room);
}

static void settle_table(struct qcow2 *q, struct qcow2_table *t, bool written)
{
	for (uint64_t i = 0; i < table_units(q, t); i++) {
		if (!written && bit_test(t->writing, i))
			bit_set(t->dirty, i);
		bit_clear(t->writing, i);
	}
}

static void settle(struct qcow2 *q, bool written, bool l1_moved)
{
	settle_cache(&q->refcount_cache, written);
	settle_cache(&q->l2_cache, written);
	settle_table(q, &q->l1, written);
	settle_table(q, &q->reftable, written);
	if (!written) {
		q->l1_moved |= l1_moved;
		q->header_dirty |= q->header_writing;
		qcow2_dirtied(q);
	} else if (q->header_writing) {
		memcpy(q->durable_sector, q->sector, sizeof(q->sector));
	}
	q->header_writing = false;
	qcow2_freed_settle(q, written);
}

/* ---- the commit itself ---- */

int qcow2_barrier(struct co *co, struct qcow2 *q)
{
	q->stats.barriers++;
	node_event(co, q->node.file, NODE_EVENT_FLUSH_TO_DISK);
	return qcow2_data_flush(co, q);
}

/* What phase B wrote is in the file alone. */
static int second_barrier(struct co *co, struct qcow2 *q)
{
	q->stats.barriers++;
	node_event(co, q->node.file, NODE_EVENT_FLUSH_TO_DISK);
	return node_flush(co, q->node.file);
}

static int write_phases(struct co *co, struct qcow2 *q)
{
	int rc = qcow2_batch_write(co, q, MUTANT(2) ? &q->phase_b : &q->phase_a);

	if (!rc && !MUTANT(3))
		rc = qcow2_barrier(co, q);
	if (MUTANT(10))
		capture_cache(&q->l2_cache, &q->phase_b);
	if (!rc && q->phase_b.n)
		rc = qcow2_batch_write(co, q, MUTANT(2) ? &q->phase_a : &q->phase_b);
	if (MUTANT(18))
		qcow2_freed_settle(q, true);
	if (!rc && q->phase_b.n && !MUTANT(4))
		rc = second_barrier(co, q);
	return rc;
}

/* The dirty bit is durable before a mapping can be whose refcount isn't. Not the header as it should be: what that points
 * to may have to be written first. */
static int mark_dirty(struct co *co, struct qcow2 *q)
{
	uint8_t *at = q->durable_sector + offsetof(struct qcow2_disk_header, incompatible);
	be64 features;
	int rc;

	if (!defers_refcounts(q) || (q->header.incompatible & QCOW2_INCOMPAT_DIRTY) ||
		list_empty(&q->refcount_cache.dirty))
		return 0;
	memcpy(&features, at, sizeof(features));
	features = be64_of(be64_get(features) | QCOW2_INCOMPAT_DIRTY);
	memcpy(at, &features, sizeof(features));
	rc = MUTANT(91) ? 0 : node_write(co, q->node.file, 0, IOV_BUF(q->durable_sector, QCOW2_HEADER_SECTOR), 0);
	if (!rc && !MUTANT(91))
		rc = qcow2_barrier(co, q);
	if (rc)
		return rc;
	q->header.incompatible |= QCOW2_INCOMPAT_DIRTY;
	if (MUTANT(91))
		qcow2_header_changed(q);
	return 0;
}

static int commit_once(struct co *co, struct qcow2 *q)
{
	bool l1_moved;
	int rc;

	q->stats.commits++;
	if (!q->dirty)
		return qcow2_barrier(co, q);
	rc = mark_dirty(co, q);
	if (!rc)
		rc = capture(q, &l1_moved);
	if (rc)
		return rc;
	rc = write_phases(co, q);
	settle(q, rc == 0, l1_moved);
	if (buggify("commit-yield") || MUTANT(20))
		co_yield(co);
	return rc;
}

/* Runs one commit for all who wait now, and hands the lead to one of those who came meanwhile. */
static void lead(struct co *co, struct qcow2 *q)
{
	struct list served;
	int rc;

	list_init(&served);
	list_splice(&served, &q->commit_waiters);
	q->commit_running = true;
	rc = commit_once(co, q);
	q->commit_running = false;
	list_for_each_safe(it, &served) {
		struct commit_waiter *w = list_entry(it, struct commit_waiter, link);

		list_remove(&w->link);
		w->rc = rc;
		w->done = true;
		co_queue_wake_one(&w->wake);
	}
	if (!list_empty(&q->commit_waiters))
		co_queue_wake_one(&list_first(&q->commit_waiters, struct commit_waiter, link)->wake);
}

int qcow2_commit(struct co *co, struct qcow2 *q)
{
	struct commit_waiter me = {.done = false};

	if (MUTANT(15) && q->commit_running)
		return 0;
	co_queue_init(&me.wake);
	list_push(&q->commit_waiters, &me.link);
	while (!me.done) {
		if (q->commit_running)
			co_queue_wait(co, &me.wake);
		else
			lead(co, q);
	}
	return me.rc;
}
