/* SPDX-License-Identifier: MIT */
/*
 * L2 tables: finding the slice that maps a guest address, making a table where there is none, copying one that a snapshot
 * shares.
 *
 * A new table is written as zeros (or lies where the file reads zeros), then the L1 entry changes in memory: from there on
 * the commit sees to the order on disk, the table's content and refcount before the L1 entry. A copy replaces the shared
 * table in the same way, and the old table loses a reference when the new L1 entry is durable (crash-safety O3, O5).
 *
 * While a snapshot is being created, a table is frozen before it is copied (freeze.c).
 *
 * Two that need the same new table meet here, at its L1 entry; others don't notice.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "qcow2/engine.h"

bool qcow2_l1_entry_valid(const struct qcow2 *q, uint64_t entry)
{
	return !(entry & QCOW2_L1_RESERVED) && qcow2_offset_valid(q, entry & QCOW2_OFFSET_MASK);
}

static struct qcow2_making *making_of(struct qcow2 *q, uint64_t l1_index)
{
	list_for_each(it, &q->l1_making) {
		struct qcow2_making *m = list_entry(it, struct qcow2_making, link);

		if (m->l1_index == l1_index && !MUTANT(34))
			return m;
	}
	return NULL;
}

void qcow2_making_begin(struct co *co, struct qcow2 *q, struct qcow2_making *m, uint64_t l1_index)
{
	struct qcow2_making *other;

	while ((other = making_of(q, l1_index)))
		co_queue_wait(co, &other->done);
	m->l1_index = l1_index;
	co_queue_init(&m->done);
	list_push(&q->l1_making, &m->link);
}

void qcow2_making_end(struct qcow2_making *m)
{
	list_remove(&m->link);
	co_queue_wake_all(&m->done);
}

static uint64_t slice_host(const struct qcow2 *q, uint64_t table, uint64_t guest, uint32_t *index)
{
	uint64_t in_table = (guest >> q->cluster_bits) % q->l2_entries;
	uint32_t in_slice = qcow2_l2_slice_entries(q);

	*index = (uint32_t)(in_table % in_slice);
	return table + in_table / in_slice * q->l2_cache.slice_bytes;
}

int qcow2_l2_get(struct co *co, struct qcow2 *q, uint64_t guest, struct qcow2_slice **out, uint32_t *index)
{
	uint64_t l1_index = qcow2_l1_index(q, guest);
	uint64_t entry;
	int rc;

	do { /* the table may be replaced by a copy while its slice is loaded */
		*out = NULL;
		if (l1_index >= q->l1.n || q->l1.entries[l1_index] == 0)
			return 0;
		entry = q->l1.entries[l1_index];
		if (!qcow2_l1_entry_valid(q, entry))
			return qcow2_corrupt(co, q,
				"L2 table offset %#" PRIx64 " unaligned, or not in the file (L1 index: %#" PRIx64 ")",
				entry & ~QCOW2_COPIED, l1_index);
		rc = qcow2_cache_get(co, &q->l2_cache, slice_host(q, entry & QCOW2_OFFSET_MASK, guest, index), out);
		if (rc)
			return rc;
	} while (q->l1.entries[l1_index] != entry);
	return 0;
}

int qcow2_l2_read(struct co *co, struct qcow2 *q, uint64_t from, char *to)
{
	uint32_t step = q->l2_cache.slice_bytes;

	node_event(co, q->node.file, NODE_EVENT_L2_ALLOC_COW_READ);
	qcow2_cache_prefetch(co, &q->l2_cache, from, q->cluster_bytes);
	for (uint32_t at = 0; at < q->cluster_bytes; at += step) {
		struct qcow2_slice *s;
		int rc = qcow2_cache_get(co, &q->l2_cache, from + at, &s);

		if (rc)
			return rc;
		memcpy(to + at, s->data, step);
	}
	return 0;
}

/* Copies a shared table to `to`, whole. It doesn't change, but it may have changed while it was ours alone, so the cache is
 * asked. What it names is shared as well: no entry is COPIED, whoever wrote it. */
static int copy_table(struct co *co, struct qcow2 *q, uint64_t from, uint64_t to)
{
	void *table;
	int rc = node_buffer_get(co, &q->node, q->cluster_bytes, &table);

	if (rc)
		return rc;
	rc = qcow2_l2_read(co, q, from, table);
	for (uint32_t at = 0; !rc && at < q->cluster_bytes; at += q->l2_cache.slice_bytes)
		qcow2_entries_share(q, (char *)table + at);
	if (!rc)
		rc = node_write(co, q->node.file, to, IOV_BUF(table, q->cluster_bytes), 0);
	node_buffer_put(&q->node, table, q->cluster_bytes);
	return rc;
}

static int zero_table(struct co *co, struct qcow2 *q, uint64_t host)
{
	void *table;
	int rc = node_buffer_get(co, &q->node, q->cluster_bytes, &table);

	if (rc)
		return rc;
	memset(table, 0, q->cluster_bytes);
	rc = node_write(co, q->node.file, host, IOV_BUF(table, q->cluster_bytes), 0);
	node_buffer_put(&q->node, table, q->cluster_bytes);
	return rc;
}

/* Puts the table's first content where it will lie: a copy, or zeros, of which the slice for guest goes into the cache. */
static int fill_table(struct co *co, struct qcow2 *q, uint64_t from, uint64_t host, bool zeroed, uint64_t guest)
{
	struct qcow2_slice *s;
	uint32_t index;
	int rc = 0;

	node_event(co, q->node.file, NODE_EVENT_L2_ALLOC_WRITE);
	if (from)
		return copy_table(co, q, from, host);
	if (!zeroed)
		rc = zero_table(co, q, host);
	if (!rc)
		rc = qcow2_cache_get_zero(co, &q->l2_cache, slice_host(q, host, guest, &index), &s);
	return rc;
}

/* Gives the L1 entry a table of its own; old is what the entry says now. */
static int make_table(struct co *co, struct qcow2 *q, uint64_t guest, uint64_t old)
{
	uint64_t from = old & QCOW2_OFFSET_MASK;
	uint64_t host, got;
	bool zeroed;
	int rc;

	if (old && !qcow2_l1_entry_valid(q, old))
		return qcow2_corrupt(co, q,
			"L2 table offset %#" PRIx64 " unaligned, or not in the file (L1 index: %#" PRIx64 ")",
			old & ~QCOW2_COPIED, qcow2_l1_index(q, guest));
	rc = qcow2_alloc(co, q, 1, &host, &got, &zeroed);
	if (rc)
		return rc;
	rc = fill_table(co, q, from, host, zeroed, guest);
	if (!rc)
		rc = qcow2_free_prepare(q, 1);
	if (rc) {
		if (qcow2_refcount_drop(co, q, qcow2_cluster_of(q, host), 1))
			q->stats.leaked++;
		return rc;
	}
	if (from)
		qcow2_free(q, from, q->cluster_bytes);
	qcow2_table_set(q, &q->l1, qcow2_l1_index(q, guest), host | QCOW2_COPIED);
	if (from)
		qcow2_guard_keep(q, from, q->cluster_bytes, QCOW2_ROLE_INACTIVE_L2);
	return 0;
}

static int ensure_own_table(struct co *co, struct qcow2 *q, uint64_t guest)
{
	uint64_t l1_index = qcow2_l1_index(q, guest);
	struct qcow2_making mine;
	int rc = 0;

	if (q->l1.entries[l1_index] & QCOW2_COPIED)
		return 0;
	qcow2_making_begin(co, q, &mine, l1_index);
	qcow2_freeze_table(co, q, l1_index);
	if (!(q->l1.entries[l1_index] & QCOW2_COPIED))
		rc = make_table(co, q, guest, q->l1.entries[l1_index]);
	qcow2_making_end(&mine);
	return rc;
}

int qcow2_l2_get_writable(struct co *co, struct qcow2 *q, uint64_t guest, struct qcow2_slice **out, uint32_t *index)
{
	uint64_t l1_index = qcow2_l1_index(q, guest);
	int rc;

	if (l1_index >= q->l1.n)
		return -EINVAL;
	if (q->corrupt)
		return -EIO;
	do {
		rc = ensure_own_table(co, q, guest);
		if (!rc)
			rc = qcow2_l2_get(co, q, guest, out, index);
		if (rc)
			return rc;
	} while (!(q->l1.entries[l1_index] & QCOW2_COPIED));
	return qcow2_guard_table(co, q, q->l1.entries[l1_index] & QCOW2_OFFSET_MASK, QCOW2_ROLE_L2, l1_index);
}
