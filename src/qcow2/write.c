/* SPDX-License-Identifier: MIT */
/*
 * Host space for a guest range, and its linking. The node layer holds the range lock of these clusters from reserve to
 * publish or cancel, so their entries don't change in between; the slice may come and go.
 *
 *     reserve    space of our own that holds no data yet (zero, or unallocated subclusters) is taken as it is; else fresh
 *                clusters, refcount 1 in memory
 *     (the node layer writes the content)
 *     publish    the entries, in memory; what they replace goes into quarantine
 *
 * A fresh cluster replaces the old one as a whole. So where the old one is shared and has data in other subclusters, or is
 * compressed, the reservation is wider than asked: from the first to the last of them, for the node layer to copy. What
 * lies outside of a reservation stays zero or unallocated, and is never read from the host cluster.
 *
 * The commit writes entry and refcount in the right order (commit.c).
 */
#include <errno.h>
#include <inttypes.h>

#include "qcow2/engine.h"

/* What of the entry's host cluster must be copied when another one takes its place. */
static uint32_t to_copy(const struct qcow2 *q, struct qcow2_entry e)
{
	if (qcow2_entry_is_compressed(e))
		return (uint32_t)((UINT64_C(1) << q->subclusters) - 1);
	return qcow2_entry_is_own(e) || MUTANT(72) ? 0 : e.data;
}

/* Whether entry e, n behind the first, can be given space together with it: adjacent space of our own, or fresh space. */
static bool goes_with(const struct qcow2 *q, struct qcow2_entry first, struct qcow2_entry e, uint64_t n)
{
	if (!qcow2_l2_entry_valid(q, e))
		return false;
	if (qcow2_entry_is_own(first))
		return e.descriptor == first.descriptor + n * q->cluster_bytes;
	return !qcow2_entry_is_own(e) || (MUTANT(32) && e.data);
}

/* How many subclusters from this one of the entry on, at most want, can be given space by one reservation. */
static uint64_t count_alike(
	const struct qcow2 *q, const struct qcow2_slice *s, uint32_t index, unsigned sub, uint64_t want)
{
	struct qcow2_entry first = qcow2_l2_entry(q, s, index);
	uint64_t run = 0;

	for (uint32_t n = 0; run < want && index + n < qcow2_l2_slice_entries(q); n++) {
		struct qcow2_entry e = qcow2_l2_entry(q, s, index + n);
		uint32_t taken = qcow2_entry_is_own(first) ? e.data >> (n ? 0 : sub) : 0;

		if (!goes_with(q, first, e, n))
			break;
		if (taken)
			return MIN(want, run + (unsigned)__builtin_ctz(taken));
		run += q->subclusters - (n ? 0 : sub);
	}
	return MIN(want, run);
}

/* Widens the subclusters [*from, *to), counted from the entry's first one, by what must be copied around them. */
static void widen(const struct qcow2 *q, const struct qcow2_slice *s, uint32_t index, uint64_t *from, uint64_t *to)
{
	uint64_t last = (*to - 1) / q->subclusters, base = last * q->subclusters;
	uint32_t before = to_copy(q, qcow2_l2_entry(q, s, index));
	uint32_t behind = to_copy(q, qcow2_l2_entry(q, s, index + (uint32_t)last));

	if (before)
		*from = MIN(*from, (uint64_t)__builtin_ctz(before));
	if (behind)
		*to = MAX(*to, base + 32 - (unsigned)__builtin_clz(behind));
}

/* Clusters for those at guest address `cluster`: in a data file their own, which hold who knows what. */
static int take_clusters(
	struct co *co, struct qcow2 *q, uint64_t cluster, uint64_t want, uint64_t *got, struct node_reservation *out)
{
	if (!qcow2_has_data_file(q))
		return qcow2_alloc(co, q, want, &out->host.off, got, &out->zeroed);
	if (cluster + (want << q->cluster_bits) > QCOW2_OFFSET_MASK)
		return -EFBIG;
	out->host.off = cluster;
	out->reused = true;
	out->zeroed = MUTANT(77);
	*got = want;
	return 0;
}

/* Gives [from, to) fresh clusters, or the first part of it. */
static int reserve_fresh(
	struct co *co, struct qcow2 *q, uint64_t cluster, uint64_t from, uint64_t to, struct node_reservation *out)
{
	uint64_t unit = q->node.subcluster, got = 0;
	int rc = take_clusters(co, q, cluster, div_round_up(to, q->subclusters), &got, out);

	out->zeroed &= !q->encrypted || MUTANT(89);
	out->guest.off = cluster + from * unit;
	out->host.off += from * unit;
	out->len = (MIN(to, got * q->subclusters) - from) * unit;
	return rc;
}

/* Another program may have left the file shorter than the last cluster that it holds: it had written only a part of it. */
static int reserve_own(
	struct co *co, struct qcow2 *q, struct qcow2_entry e, uint64_t from, uint64_t to, struct node_reservation *out)
{
	out->reused = true;
	out->host.off = qcow2_entry_host(e) + from * q->node.subcluster;
	out->len = (to - from) * q->node.subcluster;
	return qcow2_has_data_file(q) ? 0 : qcow2_file_reach(co, q, out->host.off + out->len);
}

int qcow2_reserve(struct co *co, struct node *n, struct guest at, uint64_t len, struct node_reservation *out)
{
	struct qcow2 *q = qcow2_of(n);
	uint64_t cluster = align_down(at.off, q->cluster_bytes), from = (at.off - cluster) / n->subcluster, to;
	struct qcow2_entry first;
	struct qcow2_slice *s;
	uint32_t index;
	int rc = qcow2_l2_get_writable(co, q, at.off, &s, &index);

	if (rc)
		return rc;
	first = qcow2_l2_entry(q, s, index);
	if (!qcow2_l2_entry_valid(q, first) || !qcow2_entry_is_placed(q, first, at.off))
		return qcow2_corrupt(co, q,
			"the L2 entry of guest offset %#" PRIx64 " is %#" PRIx64 ", which it can't be", at.off,
			first.descriptor);
	to = from + count_alike(q, s, index, (unsigned)from, len / n->subcluster);
	*out = (struct node_reservation){.guest = at};
	if (!qcow2_entry_is_own(first)) {
		widen(q, s, index, &from, &to);
		return reserve_fresh(co, q, cluster, from, to, out);
	}
	rc = reserve_own(co, q, first, from, to, out);
	return !rc && MUTANT(70) ? qcow2_publish(co, n, out) : rc;
}

/* Takes its references from what the entry names. */
void qcow2_entry_free(struct qcow2 *q, uint64_t descriptor)
{
	struct qcow2_span span = qcow2_entry_span(q, descriptor);

	if (MUTANT(66) && (descriptor & QCOW2_COMPRESSED))
		span.bytes = q->cluster_bytes;
	if (span.bytes)
		qcow2_free(q, span.host, span.bytes);
}

/* These subclusters lie in the host cluster from now on; where it is a new one, no others do. None: they read as before, but
 * a standard cluster reads zeros then. */
static void link_cluster(struct qcow2 *q, struct qcow2_slice *s, uint32_t index, uint64_t host, uint32_t mask)
{
	struct qcow2_entry e = qcow2_l2_entry(q, s, index);

	if (qcow2_entry_bytes(q, e.descriptor).host != host) {
		qcow2_entry_free(q, e.descriptor);
		if (MUTANT(17))
			qcow2_entry_free(q, e.descriptor);
		e.data = 0;
	}
	e.descriptor = host | QCOW2_COPIED;
	e.data |= mask;
	if (!MUTANT(71) || q->subclusters == 1)
		e.zero &= ~mask;
	if (!mask && q->subclusters == 1)
		e.zero = 1;
	qcow2_l2_set(q, s, index, e);
}

static uint64_t clusters_of(const struct qcow2 *q, const struct node_reservation *res)
{
	return (align_up(res->host.off + res->len, q->cluster_bytes) - align_down(res->host.off, q->cluster_bytes)) >>
		q->cluster_bits;
}

int qcow2_overwriting(struct co *co, struct node *n, uint64_t host, uint64_t len)
{
	struct qcow2 *q = qcow2_of(n);

	return qcow2_has_data_file(q) ? 0 : qcow2_guard_write(co, q, host, len);
}

/* A reservation lies within one slice. data: it holds what the guest is to read. */
static int publish(struct co *co, struct qcow2 *q, const struct node_reservation *res, bool data)
{
	uint64_t clusters = clusters_of(q, res), end = res->guest.off + res->len;
	uint64_t guest = align_down(res->guest.off, q->cluster_bytes),
		 host = align_down(res->host.off, q->cluster_bytes);
	struct qcow2_slice *s;
	uint32_t index;
	int rc = qcow2_l2_get_writable(co, q, res->guest.off, &s, &index);

	if (!rc)
		rc = qcow2_free_prepare(q, MUTANT(17) ? 2 * clusters : clusters);
	for (uint64_t i = 0; !rc && i < clusters; i++, guest += q->cluster_bytes, host += q->cluster_bytes)
		link_cluster(
			q, s, index + (uint32_t)i, host, data ? qcow2_subclusters(q, guest, res->guest.off, end) : 0);
	return rc;
}

int qcow2_publish(struct co *co, struct node *n, const struct node_reservation *res)
{
	return publish(co, qcow2_of(n), res, true);
}

int qcow2_publish_space(struct co *co, struct qcow2 *q, const struct node_reservation *res)
{
	return publish(co, q, res, false);
}

/* Nothing on disk ever pointed to fresh clusters, so they are free at once. */
void qcow2_cancel(struct co *co, struct node *n, const struct node_reservation *res)
{
	struct qcow2 *q = qcow2_of(n);
	uint64_t clusters = clusters_of(q, res);

	if (!res->reused && qcow2_refcount_drop(co, q, qcow2_cluster_of(q, res->host.off) - MUTANT(38), clusters))
		q->stats.leaked += clusters;
}
