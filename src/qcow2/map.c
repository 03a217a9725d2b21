/* SPDX-License-Identifier: MIT */
/*
 * Where is this guest range? The answer to the node layer: a run of subclusters that are alike, across L2
 * entries that continue each other. Source: docs/interop/qcow2.rst, "Cluster mapping" and "Extended L2 Entries".
 */
#include <errno.h>
#include <inttypes.h>

#include "qcow2/engine.h"

static enum node_kind kind_of(struct qcow2_entry e, unsigned sub)
{
	if (MUTANT(69) && (e.descriptor & QCOW2_ZERO)) /* which in a compressed one is a bit of the offset */
		return NODE_ZERO;
	if (qcow2_entry_is_compressed(e))
		return NODE_ENCODED;
	if (e.data >> sub & 1)
		return NODE_DATA;
	return e.zero >> sub & 1 ? NODE_ZERO : NODE_UNALLOCATED;
}

static void classify_compressed(const struct qcow2 *q, struct qcow2_entry e, struct node_extent *out)
{
	struct qcow2_span at = qcow2_entry_bytes(q, e.descriptor);

	out->has_host = true;
	out->host.off = at.host;
	out->encoded_bytes = at.bytes;
	out->compressed = true;
}

static void classify(
	const struct qcow2 *q, struct qcow2_entry e, unsigned sub, uint64_t in_cluster, struct node_extent *out)
{
	*out = (struct node_extent){.kind = kind_of(e, sub)};
	if (out->kind == NODE_ENCODED)
		classify_compressed(q, e, out);
	if (qcow2_entry_is_compressed(e) || !qcow2_entry_has_host(e))
		return;
	out->has_host = true;
	out->host.off = qcow2_entry_host(e) + in_cluster;
	out->in_place = out->kind == NODE_DATA && qcow2_entry_is_own(e);
	if (out->kind == NODE_DATA && q->header.crypt_method == QCOW2_CRYPT_AES) { /* aes.c */
		out->kind = NODE_ENCODED;
		out->in_place = false;
	}
}

/* How many of the entry's subclusters, from this one on, are of its kind. */
static unsigned alike_in_entry(const struct qcow2 *q, struct qcow2_entry e, unsigned sub)
{
	uint32_t data = e.data ^ (e.data >> sub & 1 ? UINT32_MAX : 0),
		 zero = e.zero ^ (e.zero >> sub & 1 ? UINT32_MAX : 0);
	uint32_t others = (data | zero) >> sub;
	unsigned most = q->subclusters - sub;

	if (!others || (MUTANT(42) && q->subclusters > 1))
		return most;
	return MIN((unsigned)__builtin_ctz(others), most);
}

/* Whether the entry that is n behind the first begins as that one ends: alike, and n clusters further in the file where
 * there is space at all. */
static bool continues(const struct qcow2 *q, struct qcow2_entry first, struct qcow2_entry e, uint64_t n)
{
	uint64_t step = qcow2_entry_has_host(first) ? q->cluster_bytes : 0;

	if (MUTANT(42) && ((e.descriptor ^ (first.descriptor + n * step)) & QCOW2_OFFSET_MASK) == 0)
		return true;
	return e.descriptor == first.descriptor + n * step && kind_of(e, 0) == kind_of(first, q->subclusters - 1) &&
		qcow2_l2_entry_valid(q, e);
}

/* How many subclusters, from that one of the entry on, are alike, each one further in the file where they have space. */
static uint64_t run_length(
	const struct qcow2 *q, const struct qcow2_slice *s, uint32_t index, unsigned sub, uint64_t want)
{
	struct qcow2_entry first = qcow2_l2_entry(q, s, index);
	uint64_t run = alike_in_entry(q, first, sub);

	if (qcow2_entry_is_compressed(first))
		return run;
	for (uint32_t n = 1; run < want && sub + run == (uint64_t)n * q->subclusters; n++) {
		struct qcow2_entry e;

		if (index + n >= qcow2_l2_slice_entries(q))
			break;
		e = qcow2_l2_entry(q, s, index + n);
		if (!continues(q, first, e, n))
			break;
		run += alike_in_entry(q, e, 0);
	}
	return run;
}

/* Bytes from guest on, at most len, for which there is no L2 table. */
static uint64_t run_without_table(const struct qcow2 *q, uint64_t guest, uint64_t len)
{
	uint64_t table_covers = (uint64_t)q->l2_entries << q->cluster_bits;
	uint64_t index = qcow2_l1_index(q, guest), end = (index + 1) * table_covers;

	while (end - guest < len && ++index < q->l1.n && q->l1.entries[index] == 0)
		end += table_covers;
	return MIN(len, end - guest);
}

int qcow2_map(struct co *co, struct node *n, struct guest at, uint64_t len, struct node_extent *out)
{
	struct qcow2 *q = qcow2_of(n);
	uint64_t in_cluster = at.off & (q->cluster_bytes - 1), in_sub = at.off & (n->subcluster - 1);
	unsigned sub = (unsigned)(in_cluster / n->subcluster);
	struct qcow2_slice *s;
	struct qcow2_entry e;
	uint64_t run;
	uint32_t index;
	int rc = qcow2_l2_get(co, q, at.off, &s, &index);

	if (rc)
		return rc;
	if (!s) {
		*out = (struct node_extent){.kind = NODE_UNALLOCATED, .len = run_without_table(q, at.off, len)};
		return 0;
	}
	e = qcow2_l2_entry(q, s, index);
	if (!qcow2_l2_entry_valid(q, e) || !qcow2_entry_is_placed(q, e, at.off))
		return qcow2_corrupt(co, q,
			"the L2 entry of guest offset %#" PRIx64 " is %#" PRIx64 ", which it can't be", at.off,
			e.descriptor);
	classify(q, e, sub, in_cluster, out);
	out->in_place = out->in_place && (qcow2_l1_is_own(q, at.off) || MUTANT(78));
	run = run_length(q, s, index, sub, div_round_up(in_sub + len, n->subcluster));
	out->len = MIN(len, run * n->subcluster - in_sub);
	return 0;
}
