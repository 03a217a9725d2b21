/* SPDX-License-Identifier: MIT */
/*
 * Finding free clusters: the lowest ones first, by the refcounts in memory.
 *
 * There is no free cluster below q->next_cluster, and none in a slice whose bit in q->full is set. A cluster in quarantine
 * still has its refcount, so it isn't found here. Cluster 0 holds the header and is never given out.
 *
 * The file grows in steps, ahead of what is given out; space that was never written reads zeros there (zero_from), so that
 * nobody need write zeros into it. Clusters always lie wholly inside the file.
 */
#include <errno.h>

#include "qcow2/engine.h"

#define SLICES_A_TURN 16u /* of refcounts that are cached and full */

static uint64_t growth_step(const struct qcow2 *q)
{
	uint64_t step = MIN(MAX(q->file_bytes / 16, UINT64_C(16) * q->cluster_bytes), 64 * MiB);

	return align_up(step, q->cluster_bytes);
}

static int grow_file(struct co *co, struct qcow2 *q, uint64_t end)
{
	uint64_t size = align_up(end, q->cluster_bytes) + growth_step(q);
	int rc = node_resize(co, q->node.file, size);

	if (rc) {
		size = end;
		rc = node_resize(co, q->node.file, size);
	}
	if (!rc)
		q->file_bytes = size;
	return rc;
}

int qcow2_file_reach(struct co *co, struct qcow2 *q, uint64_t end)
{
	int rc = 0;

	if (end > q->file_bytes) {
		co_mutex_lock(co, &q->grow_file);
		if (end > q->file_bytes)
			rc = q->node.file->grows_zeroed ? grow_file(co, q, end) : -ENOSPC;
		co_mutex_unlock(&q->grow_file);
	}
	if (!rc)
		q->high_water = MAX(q->high_water, end);
	return rc;
}

/* Sets n refcounts of the slice from index on to 1. */
static void mark_used(struct qcow2 *q, struct qcow2_slice *s, uint64_t index, uint64_t n)
{
	unsigned order = q->header.refcount_order;
	uint64_t first_byte = (index << order) / 8, last_byte = (((index + n) << order) - 1) / 8;

	for (uint64_t i = 0; i < n; i++)
		qcow2_refcount_set(s->data, order, index + i, 1);
	qcow2_cache_dirty(&q->refcount_cache, s, (uint32_t)first_byte, (uint32_t)(last_byte - first_byte + 1));
	q->stats.clusters_allocated += n;
}

/* Takes a run of free refcounts of the slice that counts q->next_cluster. 0: there was none, next_cluster has moved on. */
static uint64_t take_run(struct qcow2 *q, struct qcow2_slice *s, uint64_t index, uint64_t want, uint64_t *cluster)
{
	unsigned order = q->header.refcount_order;
	uint64_t entries = qcow2_slice_refcounts(q);
	uint64_t base = q->next_cluster - index;
	uint64_t n = 0;

	while (index < entries && qcow2_refcount_get(s->data, order, index) != 0)
		index++;
	while (index + n < entries && n < want &&
		(qcow2_refcount_get(s->data, order, index + n) == 0 || (MUTANT(41) && n)))
		n++;
	if (n == 0)
		bit_set(q->full, base / entries);
	else
		mark_used(q, s, index, n);
	*cluster = base + index;
	q->next_cluster = base + index + n;
	return n;
}

/* Where the search for a run goes on: behind a slice that is known to be full, else at the cluster itself. */
static uint64_t skip_full(const struct qcow2 *q, uint64_t cluster)
{
	uint64_t entries = qcow2_slice_refcounts(q);

	while (cluster / q->block_refcounts < q->reftable.n && bit_test(q->full, cluster / entries))
		cluster = (cluster / entries + 1) * entries;
	return cluster;
}

static int find_run(struct co *co, struct qcow2 *q, uint64_t want, uint64_t *cluster, uint64_t *n)
{
	for (;;) {
		uint64_t at = q->next_cluster = skip_full(q, q->next_cluster);
		struct qcow2_slice *s;
		uint64_t index;
		int rc;

		rc = qcow2_refcount_slice(co, q, at, &s, &index);
		if (!rc && !s)
			rc = qcow2_refblock_make(co, q, at);
		if (rc)
			return rc;
		if (!s || (q->next_cluster != at && !MUTANT(35)))
			continue;
		*n = take_run(q, s, index, want, cluster);
		if (*n)
			return 0;
	}
}

static int alloc_once(struct co *co, struct qcow2 *q, uint64_t want, uint64_t *host, uint64_t *got, bool *zeroed)
{
	uint64_t cluster, end;
	int rc = q->corrupt ? -EIO : find_run(co, q, want, &cluster, got);

	if (rc)
		return rc;
	*host = cluster << q->cluster_bits;
	end = *host + (*got << q->cluster_bits);
	rc = qcow2_guard_write(co, q, *host, end - *host);
	if (rc)
		return rc;
	if (!MUTANT(56))
		qcow2_leaks_not(q, *host, end - *host);
	*zeroed = *host >= q->zero_from;
	q->zero_from = MAX(q->zero_from, end);
	rc = qcow2_file_reach(co, q, end);
	if (rc && qcow2_refcount_drop(co, q, cluster, *got))
		q->stats.leaked += *got;
	return rc;
}

/* Where nothing is left, what waits in quarantine may help. */
int qcow2_alloc(struct co *co, struct qcow2 *q, uint64_t want, uint64_t *host, uint64_t *got, bool *zeroed)
{
	int rc;

	if (buggify("alloc-yield"))
		co_yield(co);
	node_event(co, q->node.file, NODE_EVENT_CLUSTER_ALLOC);
	rc = alloc_once(co, q, want, host, got, zeroed);
	if (rc != -ENOSPC || q->freed.n + q->freed_commit.n + q->freed_durable.n == 0)
		return rc;
	rc = qcow2_commit(co, q);
	if (!rc)
		rc = qcow2_reclaim(co, q);
	return rc ? rc : alloc_once(co, q, want, host, got, zeroed);
}

/* Takes one given cluster; *taken is false where it is in use. */
static int take_cluster(struct co *co, struct qcow2 *q, uint64_t cluster, bool *taken)
{
	struct qcow2_slice *s;
	uint64_t index;
	int rc;

	*taken = false;
	if (q->corrupt)
		return -EIO;
	do {
		rc = qcow2_refcount_slice(co, q, cluster, &s, &index);
		if (!rc && !s)
			rc = qcow2_refblock_make(co, q, cluster);
		if (rc)
			return rc;
	} while (!s);
	if (qcow2_refcount_get(s->data, q->header.refcount_order, index) != 0)
		return 0;
	mark_used(q, s, index, 1);
	qcow2_leaks_not(q, cluster << q->cluster_bits, q->cluster_bytes);
	*taken = true;
	return qcow2_guard_write(co, q, cluster << q->cluster_bits, q->cluster_bytes);
}

int qcow2_alloc_at(struct co *co, struct qcow2 *q, uint64_t cluster, bool *taken)
{
	uint64_t end = (cluster + 1) << q->cluster_bits;
	int rc = take_cluster(co, q, cluster, taken);

	if (rc || !*taken)
		return rc;
	q->zero_from = MAX(q->zero_from, end);
	rc = qcow2_file_reach(co, q, end);
	if (rc && qcow2_refcount_drop(co, q, cluster, 1))
		q->stats.leaked++;
	return rc;
}

/* The first free cluster, a slice at a time: a large image that is full has many, so others have their turn in between. */
static int find_free(struct co *co, struct qcow2 *q, uint64_t *cluster)
{
	uint64_t entries = qcow2_slice_refcounts(q);

	for (unsigned slices = 1;; slices++) {
		uint64_t at = q->next_cluster = skip_full(q, q->next_cluster), n = at % entries;
		struct qcow2_slice *s;
		uint64_t index;
		int rc = qcow2_refcount_slice(co, q, at, &s, &index);

		*cluster = at;
		if (rc || !s)
			return rc;
		if (q->next_cluster != at)
			continue;
		while (n < entries && qcow2_refcount_get(s->data, q->header.refcount_order, n) != 0)
			n++;
		*cluster = q->next_cluster = at - at % entries + n;
		if (n < entries)
			return 0;
		bit_set(q->full, at / entries);
		if (slices % SLICES_A_TURN == 0)
			co_yield(co);
	}
}

/* Takes clusters one by one; the first that isn't free sends it on, to begin behind that one. */
static int take_adjacent(struct co *co, struct qcow2 *q, uint64_t n, uint64_t *start)
{
	uint64_t taken = 0;
	int rc = find_free(co, q, start);

	while (!rc && taken < n) {
		bool ok;

		rc = take_cluster(co, q, *start + taken, &ok);
		if (!rc && ok) {
			taken++;
			continue;
		}
		if (taken && qcow2_refcount_drop(co, q, *start, taken))
			q->stats.leaked += taken;
		*start = skip_full(q, *start + taken + 1);
		taken = 0;
	}
	return rc;
}

int qcow2_alloc_run(struct co *co, struct qcow2 *q, uint64_t n, uint64_t *host)
{
	uint64_t start, end;
	int rc;

	node_event(co, q->node.file, NODE_EVENT_CLUSTER_ALLOC);
	rc = take_adjacent(co, q, n, &start);
	if (rc)
		return rc;
	end = (start + n) << q->cluster_bits;
	*host = start << q->cluster_bits;
	q->zero_from = MAX(q->zero_from, end);
	rc = qcow2_file_reach(co, q, end);
	if (rc && qcow2_refcount_drop(co, q, start, n))
		q->stats.leaked += n;
	return rc;
}
