/* SPDX-License-Identifier: MIT */
/*
 * Trees: an L1 table's L2 tables, and the clusters that their entries name. Each tree that a cluster can be reached in
 * takes one reference of it, also where two trees share an L2 table: so a snapshot that comes or goes is one reference
 * more or less for everything in its tree (docs/interop/qcow2.rst, "Snapshots").
 *
 * A table is walked slice by slice, its entries in order, the table's own cluster last; what adjoins is counted in one go.
 * Whoever walks has seen to it that the table doesn't change meanwhile.
 */
#include <errno.h>
#include <string.h>

#include "qcow2/engine.h"

#define COMMIT_SLICES 256u /* so many slices walked, and their changes are committed */
#define INDICES_A_TURN 4096u
#define SLICES_A_TURN 16u /* of a table that is cached: then others have their turn */

typedef int run_fn(struct co *co, struct qcow2 *q, uint64_t cluster, uint64_t n, uint64_t *done);

struct table_walk {
	struct qcow2 *q;
	run_fn *fn;
	uint64_t most, done;  /* clusters, in the order of the walk: to be treated at most, and treated */
	uint64_t host, bytes; /* the run that is being put together */
	void *copy;           /* of a slice: it may leave the cache while the run is treated */
};

/* ---- one table ---- */

static int run_end(struct co *co, struct table_walk *w)
{
	uint64_t n = MIN(w->bytes >> w->q->cluster_bits, w->most - w->done), done = 0;
	int rc = n ? w->fn(co, w->q, qcow2_cluster_of(w->q, w->host), n, &done) : 0;

	w->done += done;
	w->bytes = 0;
	return rc;
}

static int run_add(struct co *co, struct table_walk *w, struct qcow2_span span)
{
	int rc = 0;

	if (w->bytes && w->host + w->bytes == span.host) {
		w->bytes += span.bytes;
		return 0;
	}
	if (w->bytes)
		rc = run_end(co, w);
	w->host = span.host;
	w->bytes = span.bytes;
	return rc;
}

static int walk_slice(struct co *co, struct table_walk *w, uint64_t host)
{
	struct qcow2_slice *s, view = {.data = w->copy};
	struct qcow2 *q = w->q;
	int rc = qcow2_cache_get(co, &q->l2_cache, host, &s);

	if (!rc)
		memcpy(w->copy, s->data, q->l2_cache.slice_bytes);
	for (uint32_t i = 0; !rc && i < qcow2_l2_slice_entries(q); i++) {
		struct qcow2_entry e = qcow2_l2_entry(q, &view, i);
		struct qcow2_span span = qcow2_entry_span(q, e.descriptor);

		if (!qcow2_l2_entry_valid(q, e))
			return qcow2_corrupt(
				co, q, "an entry of an L2 table, or the place of one, is what it can't be");
		if (span.bytes)
			rc = run_add(co, w, span);
	}
	return rc;
}

/* The first `most` clusters; *done tells how many it were. */
static int table_walk(struct co *co, struct qcow2 *q, uint64_t table, run_fn *fn, uint64_t most, uint64_t *done)
{
	struct table_walk w = {.q = q, .fn = fn, .most = most};
	uint64_t slices = q->cluster_bytes / q->l2_cache.slice_bytes;
	int rc = node_buffer_get(co, &q->node, q->l2_cache.slice_bytes, &w.copy);

	*done = 0;
	if (rc)
		return rc;
	qcow2_cache_prefetch(co, &q->l2_cache, table, q->cluster_bytes);
	for (uint64_t i = 0; !rc && i < slices && w.done < most; i++) {
		rc = walk_slice(co, &w, table + i * q->l2_cache.slice_bytes);
		if (i % SLICES_A_TURN == SLICES_A_TURN - 1)
			co_yield(co);
	}
	if (!rc)
		rc = run_add(co, &w, (struct qcow2_span){table, q->cluster_bytes});
	if (!rc)
		rc = run_end(co, &w);
	node_buffer_put(&q->node, w.copy, q->l2_cache.slice_bytes);
	*done = w.done;
	return rc;
}

static int drop_run(struct co *co, struct qcow2 *q, uint64_t cluster, uint64_t n, uint64_t *done)
{
	*done = n;
	return qcow2_refcount_drop(co, q, cluster, n);
}

/* What an error keeps from being given back is leaked; the rest goes on. */
static int release_run(struct co *co, struct qcow2 *q, uint64_t cluster, uint64_t n, uint64_t *done)
{
	*done = n;
	if (qcow2_release(co, q, cluster, n))
		q->stats.reclaim_errors++;
	return 0;
}

/* The entries lose COPIED. */
static int clear_copied(struct co *co, struct qcow2 *q, uint64_t table)
{
	for (uint64_t at = 0; at < q->cluster_bytes; at += q->l2_cache.slice_bytes) {
		struct qcow2_slice *s;
		int rc = qcow2_cache_get(co, &q->l2_cache, table + at, &s);

		if (rc)
			return rc;
		if (qcow2_entries_share(q, s->data) && !MUTANT(24))
			qcow2_cache_dirty(&q->l2_cache, s, 0, q->l2_cache.slice_bytes);
	}
	return 0;
}

int qcow2_table_share(struct co *co, struct qcow2 *q, uint64_t table)
{
	uint64_t raised, lowered;
	int rc;

	if (!qcow2_offset_valid(q, table))
		return qcow2_corrupt(co, q, "an entry of an L2 table, or the place of one, is what it can't be");
	rc = table_walk(co, q, table, qcow2_refcount_raise, UINT64_MAX, &raised);
	if (!rc)
		rc = clear_copied(co, q, table);
	if (rc && raised && table_walk(co, q, table, drop_run, raised, &lowered))
		q->stats.leaked += raised - lowered;
	return rc;
}

int qcow2_table_release(struct co *co, struct qcow2 *q, uint64_t table)
{
	uint64_t done;

	if (!qcow2_offset_valid(q, table))
		return qcow2_corrupt(co, q, "an entry of an L2 table, or the place of one, is what it can't be");
	return table_walk(co, q, table, release_run, UINT64_MAX, &done);
}

/* ---- many tables ---- */

struct index_walk { /* shared by the coroutines that walk */
	struct qcow2 *q;
	qcow2_index_fn *fn;
	void *arg;
	uint64_t next, n;
	unsigned slices;  /* walked since the last commit */
	unsigned commits; /* that walkers wait for: one runs, and those beyond it wait for the next */
	int rc;
};

/* A table is in use as long as somebody is in an epoch that began while it was: work of our own is no exception. */
static int one_index(struct co *co, struct index_walk *w, uint64_t index)
{
	struct node_op op;
	int rc;

	node_op_join(&w->q->node, &op);
	rc = w->fn(co, w->q, w->arg, index);
	node_op_end(&w->q->node, &op);
	return rc;
}

/* While a commit runs, the walk goes on as far as the next one: what that captures stays small, so that the guest's flushes
 * don't wait for much of ours, and the loop not long for the copy. */
static int commit_at_times(struct co *co, struct index_walk *w)
{
	struct qcow2_cache *c = &w->q->l2_cache;
	int rc = 0;

	w->slices += w->q->cluster_bytes / c->slice_bytes;
	if (w->slices < MIN(COMMIT_SLICES, c->entries / 4) && w->commits < 2)
		return 0;
	w->slices = 0;
	w->commits++;
	if (w->q->dirty)
		rc = qcow2_commit(co, w->q);
	w->commits--;
	return rc;
}

static void walker(struct co *co, void *arg)
{
	struct index_walk *w = arg;

	while (!w->rc && w->next < w->n) {
		uint64_t index = w->next++;
		int rc = w->q->closing ? -ECANCELED : one_index(co, w, index);

		if (rc > 0)
			rc = commit_at_times(co, w);
		if (rc && !w->rc)
			w->rc = rc;
		if (index % INDICES_A_TURN == 0)
			co_yield(co);
	}
}

int qcow2_each_index(struct co *co, struct qcow2 *q, uint64_t n, qcow2_index_fn *fn, void *arg)
{
	struct index_walk w = {.q = q, .fn = fn, .arg = arg, .n = n};
	struct co_group group;

	co_group_init(&group, co_sched_of(co));
	for (unsigned i = 1; i < QCOW2_WALKERS && n > 1; i++)
		if (co_group_spawn(&group, "qcow2-walker", walker, &w))
			break;
	walker(co, &w);
	co_group_wait(co, &group);
	return w.rc;
}

static int release_index(struct co *co, struct qcow2 *q, void *arg, uint64_t index)
{
	const uint64_t *l1 = arg;

	if (!l1[index])
		return 0;
	if (qcow2_table_release(co, q, l1[index])) {
		q->stats.reclaim_errors++;
		q->stats.leaked++;
	}
	return 1;
}

void qcow2_tree_release(struct co *co, struct qcow2 *q, const uint64_t *l1, uint64_t n)
{
	if (qcow2_each_index(co, q, n, release_index, (void *)l1))
		q->stats.reclaim_errors++;
}
