/* SPDX-License-Identifier: MIT */
/*
 * Host space for a guest range, and its linking. The node layer holds the range lock of these clusters from reserve to
 * publish or cancel, so their entries don't change in between; the slice may come and go.
 *
 *     reserve    a zero cluster of our own that keeps its space is taken as it is; else fresh clusters, refcount 1 in memory
 *     (the node layer writes the content)
 *     publish    the entries, in memory; what they replace goes into quarantine
 *
 * The commit writes entry and refcount in the right order (commit.c).
 */
#include <errno.h>

#include "qcow2/engine.h"

/* An entry whose space may be written as it is, though it reads zeros now. */
static bool is_own_zero(uint64_t entry)
{
	return (entry & QCOW2_ZERO) && (entry & QCOW2_COPIED) && (entry & QCOW2_OFFSET_MASK);
}

static bool is_in_place(uint64_t entry)
{
	return !(entry & QCOW2_ZERO) && (entry & QCOW2_COPIED) && (entry & QCOW2_OFFSET_MASK);
}

/* How many entries from index on, at most want, can be given space by one reservation: adjacent zero clusters of our own,
 * or entries that all need fresh space. */
static int count_alike(struct qcow2 *q, const struct qcow2_slice *s, uint32_t index, uint64_t want, uint64_t *n)
{
	uint64_t first = qcow2_l2_entry(q, s, index);

	for (*n = 0; *n < want && index + *n < qcow2_l2_slice_entries(q); ++*n) {
		uint64_t entry = qcow2_l2_entry(q, s, index + (uint32_t)*n);

		if (entry & QCOW2_COMPRESSED)
			break;
		if (is_own_zero(first) ? entry != first + *n * q->cluster_bytes
				       : is_own_zero(entry) || (is_in_place(entry) && !MUTANT(32)))
			break;
	}
	return *n ? 0 : -ENOTSUP;
}

int qcow2_reserve(struct co *co, struct node *n, struct guest at, uint64_t len, struct node_reservation *out)
{
	struct qcow2 *q = qcow2_of(n);
	struct qcow2_slice *s;
	uint64_t clusters, first;
	uint32_t index;
	int rc = qcow2_l2_get_writable(co, q, at.off, &s, &index);

	if (rc)
		return rc;
	first = qcow2_l2_entry(q, s, index);
	if (!qcow2_l2_entry_valid(q, first))
		return qcow2_corrupt(co, q);
	rc = count_alike(q, s, index, len >> q->cluster_bits, &clusters);
	if (rc)
		return rc;
	*out = (struct node_reservation){.guest = at};
	if (is_own_zero(first)) {
		out->reused = true;
		out->host.off = first & QCOW2_OFFSET_MASK;
	} else {
		rc = qcow2_alloc(co, q, clusters, &out->host.off, &clusters, &out->zeroed);
	}
	out->len = clusters << q->cluster_bits;
	return rc;
}

/* Takes its references from what the entry names. */
void qcow2_entry_free(struct qcow2 *q, uint64_t entry)
{
	struct qcow2_span span = qcow2_entry_span(q, entry);

	if (span.bytes)
		qcow2_free(q, span.host, span.bytes);
}

static void link_cluster(struct qcow2 *q, struct qcow2_slice *s, uint32_t index, uint64_t host)
{
	uint64_t old = qcow2_l2_entry(q, s, index);

	if (qcow2_entry_bytes(q, old).host != host)
		qcow2_entry_free(q, old);
	if (MUTANT(17) && qcow2_entry_bytes(q, old).host != host)
		qcow2_entry_free(q, old);
	qcow2_l2_set(q, s, index, host | QCOW2_COPIED);
}

/* A reservation lies within one slice. */
int qcow2_publish(struct co *co, struct node *n, const struct node_reservation *res)
{
	struct qcow2 *q = qcow2_of(n);
	uint64_t clusters = res->len >> q->cluster_bits;
	struct qcow2_slice *s;
	uint32_t index;
	int rc = qcow2_l2_get_writable(co, q, res->guest.off, &s, &index);

	if (!rc)
		rc = qcow2_free_prepare(q, MUTANT(17) ? 2 * clusters : clusters);
	for (uint64_t i = 0; !rc && i < clusters; i++)
		link_cluster(q, s, index + (uint32_t)i, res->host.off + (i << q->cluster_bits));
	return rc;
}

/* Nothing on disk ever pointed to fresh clusters, so they are free at once. */
void qcow2_cancel(struct co *co, struct node *n, const struct node_reservation *res)
{
	struct qcow2 *q = qcow2_of(n);
	uint64_t clusters = res->len >> q->cluster_bits;

	if (!res->reused && qcow2_refcount_drop(co, q, qcow2_cluster_of(q, res->host.off) - MUTANT(38), clusters))
		q->stats.leaked += clusters;
}
