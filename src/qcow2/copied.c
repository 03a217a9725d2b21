/* SPDX-License-Identifier: MIT */
/*
 * COPIED, set again where it was lost: after a snapshot has gone, and after a crash while one came or went. What has one
 * reference and is reached from the active tree, is the active tree's own (docs/interop/qcow2.rst, "Cluster mapping").
 *
 * A refcount in memory is at least what any pointer on disk or in memory needs, and whoever else could raise it (snapshot
 * operations) is excluded: so 1 stays 1 as long as the entry stays, however long we waited for it, and the commit writes
 * the refcount before the entry (crash-safety O14). Entries that have changed meanwhile are left alone.
 *
 * What is COPIED may be written in place: for whoever is about to write there, that must not change. So the bits are set
 * under the range lock, in an instant.
 *
 * A table that is shared has nothing to be set in it: what it names is shared as well.
 */
#include <errno.h>
#include <string.h>

#include "qcow2/engine.h"

struct look { /* at one slice */
	uint64_t guest;
	char *copy;
	uint32_t own[QCOW2_SLICE_BYTES / 8 / 32]; /* bitmap of entries: not COPIED, refcount 1 */
};

static bool is_own(uint64_t count) { return count == 1 || (MUTANT(79) && count == 2); }

static bool may_be_own(struct qcow2_entry e)
{
	return !qcow2_entry_is_compressed(e) && qcow2_entry_has_host(e) && !qcow2_entry_is_own(e);
}

/* 1: there are some in l->own. */
static int find_own(struct co *co, struct qcow2 *q, struct look *l)
{
	struct qcow2_slice *s, view = {.data = l->copy};
	uint32_t index;
	int found = 0;
	int rc = qcow2_l2_get(co, q, l->guest, &s, &index);

	if (rc || !s)
		return rc;
	memcpy(l->copy, s->data, q->l2_cache.slice_bytes);
	memset(l->own, 0, sizeof(l->own));
	for (uint32_t i = 0; i < qcow2_l2_slice_entries(q); i++) {
		struct qcow2_entry e = qcow2_l2_entry(q, &view, i);
		uint64_t count;

		if (!may_be_own(e))
			continue;
		rc = qcow2_refcount_find(co, q, qcow2_cluster_of(q, qcow2_entry_host(e)), &count);
		if (rc)
			return rc;
		if (is_own(count)) {
			bit_set(l->own, i);
			found = 1;
		}
	}
	return found;
}

static int set_locked(struct co *co, struct qcow2 *q, const struct look *l)
{
	struct qcow2_slice *s, view = {.data = l->copy};
	uint32_t index;
	int rc = qcow2_l2_get(co, q, l->guest, &s, &index);

	if (rc || !s || !qcow2_l1_is_own(q, l->guest))
		return rc;
	for (uint32_t i = 0; i < qcow2_l2_slice_entries(q); i++) {
		struct qcow2_entry e = qcow2_l2_entry(q, s, i);

		if (!bit_test(l->own, i) || e.descriptor != qcow2_l2_entry(q, &view, i).descriptor)
			continue;
		e.descriptor |= QCOW2_COPIED;
		qcow2_l2_set(q, s, i, e);
	}
	return 0;
}

static int set_own(struct co *co, struct qcow2 *q, const struct look *l)
{
	struct node_range lock;
	int rc;

	node_range_lock(co, &q->node, &lock, l->guest, (uint64_t)qcow2_l2_slice_entries(q) << q->cluster_bits);
	rc = set_locked(co, q, l);
	node_range_unlock(&q->node, &lock);
	return rc;
}

static int restore_entries(struct co *co, struct qcow2 *q, uint64_t l1_index)
{
	uint64_t slice_covers = (uint64_t)qcow2_l2_slice_entries(q) << q->cluster_bits;
	uint64_t slices = q->cluster_bytes / q->l2_cache.slice_bytes;
	struct look l = {.guest = l1_index * slices * slice_covers};
	void *copy;
	int rc = node_buffer_get(co, &q->node, q->l2_cache.slice_bytes, &copy);

	if (rc)
		return rc;
	l.copy = copy;
	for (uint64_t i = 0; rc >= 0 && i < slices; i++, l.guest += slice_covers) {
		rc = find_own(co, q, &l);
		if (rc > 0)
			rc = set_own(co, q, &l);
		if (i % 16 == 15)
			co_yield(co);
	}
	node_buffer_put(&q->node, copy, q->l2_cache.slice_bytes);
	return rc;
}

/* The L1 entry itself. Whoever copies the table just now comes first: then it is another one. */
static void restore_table(struct co *co, struct qcow2 *q, uint64_t l1_index, uint64_t entry)
{
	uint64_t covers = (uint64_t)q->l2_entries << q->cluster_bits;
	struct node_range lock;

	if (entry & QCOW2_COPIED)
		return;
	node_range_lock(co, &q->node, &lock, l1_index * covers, covers);
	if (q->l1.entries[l1_index] == entry)
		qcow2_table_set(q, &q->l1, l1_index, entry | QCOW2_COPIED);
	node_range_unlock(&q->node, &lock);
}

static int restore_index(struct co *co, struct qcow2 *q, void *arg, uint64_t index)
{
	const uint32_t *only = arg;
	uint64_t entry = index < q->l1.n ? q->l1.entries[index] : 0, count;
	int rc;

	if (only && q->leaks_paused)
		return -ECANCELED;
	if (!(entry & QCOW2_OFFSET_MASK) || (only && !bit_test(only, index)))
		return 0;
	rc = qcow2_refcount_find(co, q, qcow2_cluster_of(q, entry & QCOW2_OFFSET_MASK), &count);
	if (rc || !is_own(count))
		return rc;
	restore_table(co, q, index, entry);
	rc = restore_entries(co, q, index);
	return rc ? rc : 1;
}

int qcow2_copied_restore(struct co *co, struct qcow2 *q, const uint32_t *only, uint64_t n)
{
	if (q->header.incompatible & QCOW2_INCOMPAT_DATA_FILE)
		return 0;
	return qcow2_each_index(co, q, only ? n : q->l1.n, restore_index, (void *)only);
}
