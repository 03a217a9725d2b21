/* SPDX-License-Identifier: MIT */
/*
 * Space for compressed data: several ranges share a host cluster, and each takes a reference to it.
 *
 *       |######|####|####### : #|##|          |
 *        ^ host cluster       ^ the next      ^
 *                                   ^ q->compressed_at: the open cluster, and where the next range goes
 *
 * Ranges are whole sectors (units), so that none is ever written twice: not while it is in flight, and not when it is
 * published. A range that begins in the open cluster may go on in the next one, if that is free; else it begins in a fresh
 * one, and what was left of the open one stays unused.
 *
 * The open cluster may be on its way out meanwhile, as all that was in it has been replaced. So it is closed where that is
 * decided: when its last reference is about to be taken (reclaim.c), which may punch it, or when it has none (refcount.c).
 * Whoever waits while he takes space looks again whether it is still open. q->pack keeps those who take space apart.
 */
#include <errno.h>

#include "qcow2/engine.h"

/* Where clusters are smaller than a sector of the disk, they share it in any case: node/pad.c sees to that. */
uint32_t qcow2_pack_unit(const struct qcow2 *q) { return MIN(q->unit_bytes, q->cluster_bytes); }

void qcow2_pack_close(struct qcow2 *q, uint64_t cluster)
{
	if (q->compressed_at && qcow2_cluster_of(q, q->compressed_at) == cluster && !MUTANT(65))
		q->compressed_at = 0;
}

static void drop(struct co *co, struct qcow2 *q, uint64_t cluster, uint64_t n)
{
	if (qcow2_refcount_drop(co, q, cluster, n))
		q->stats.leaked += n;
}

void qcow2_pack_cancel(struct co *co, struct qcow2 *q, uint64_t host, uint64_t bytes)
{
	uint64_t first = qcow2_cluster_of(q, host);

	drop(co, q, first, qcow2_cluster_of(q, host + bytes - 1) - first + 1);
}

/* The next range goes to `at`; behind a full cluster, to a fresh one. */
static void open_at(struct qcow2 *q, uint64_t at) { q->compressed_at = is_aligned(at, q->cluster_bytes) ? 0 : at; }

static int pack_fresh(struct co *co, struct qcow2 *q, uint64_t bytes, uint64_t *host)
{
	uint64_t got;
	bool zeroed;
	int rc = qcow2_alloc(co, q, 1, host, &got, &zeroed);

	if (!rc)
		open_at(q, *host + bytes);
	return rc;
}

/* One more reference to the open cluster; *shared is false where it has been closed, or has as many as its refcount holds. */
static int share_open(struct co *co, struct qcow2 *q, bool *shared)
{
	uint64_t at = q->compressed_at, index;
	struct qcow2_slice *s;
	int rc = qcow2_refcount_slice(co, q, qcow2_cluster_of(q, at), &s, &index);

	*shared = !rc && s && q->compressed_at == at && (MUTANT(67) || qcow2_refcount_raise_at(q, s, index));
	return rc;
}

/* Closes the cluster where the range can't go there. */
static int pack_open(struct co *co, struct qcow2 *q, uint64_t bytes, uint64_t *host)
{
	uint64_t at = q->compressed_at, next = qcow2_cluster_of(q, at) + 1;
	bool both = at + bytes > next << q->cluster_bits, good = true;
	int rc = both ? qcow2_alloc_at(co, q, next, &good) : 0;

	if (rc && rc != -ENOSPC)
		return rc;
	good = good && !rc;
	both = both && good;
	rc = 0;
	if (good && q->compressed_at == at)
		rc = share_open(co, q, &good);
	if (!rc && good && q->compressed_at == at) {
		*host = at;
		open_at(q, at + bytes);
		return 0;
	}
	if (both)
		drop(co, q, next, 1);
	if (q->compressed_at == at)
		q->compressed_at = 0;
	return rc;
}

int qcow2_pack(struct co *co, struct qcow2 *q, uint64_t bytes, uint64_t *host)
{
	int rc = 0;

	*host = 0;
	node_event(co, q->node.file, NODE_EVENT_CLUSTER_ALLOC_BYTES);
	co_mutex_lock(co, &q->pack);
	while (!rc && !*host)
		rc = q->compressed_at ? pack_open(co, q, bytes, host) : pack_fresh(co, q, bytes, host);
	co_mutex_unlock(&q->pack);
	return rc;
}
