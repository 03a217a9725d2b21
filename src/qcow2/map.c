/* SPDX-License-Identifier: MIT */
/*
 * Where is this guest range? The answer to the node layer: a run of L2 entries that continue each other.
 * Source: docs/interop/qcow2.rst, "Cluster mapping".
 */
#include <errno.h>

#include "qcow2/engine.h"

static void classify(uint64_t entry, uint64_t in_cluster, struct node_extent *out)
{
	uint64_t offset = entry & QCOW2_OFFSET_MASK;

	*out = (struct node_extent){.kind = NODE_UNALLOCATED};
	if (entry & QCOW2_COMPRESSED) {
		out->kind = NODE_ENCODED;
		return;
	}
	if (entry & QCOW2_ZERO)
		out->kind = NODE_ZERO;
	else if (offset)
		out->kind = NODE_DATA;
	out->has_host = offset != 0;
	out->host.off = offset ? offset + in_cluster : 0;
	out->in_place = out->kind == NODE_DATA && (entry & QCOW2_COPIED);
}

/* How many entries from index on say the same as the first, each one cluster further in the file where they have one. */
static uint64_t run_length(const struct qcow2 *q, const struct qcow2_slice *s, uint32_t index, uint64_t want)
{
	uint64_t first = qcow2_l2_entry(q, s, index);
	uint64_t step = first & QCOW2_OFFSET_MASK ? q->cluster_bytes : 0;
	uint64_t n = 1;

	if (first & QCOW2_COMPRESSED)
		return 1;
	for (; n < want && index + n < qcow2_l2_slice_entries(q); n++) {
		uint64_t entry = qcow2_l2_entry(q, s, index + (uint32_t)n);

		if (MUTANT(42) && ((entry ^ (first + n * step)) & QCOW2_OFFSET_MASK) == 0)
			continue;
		if (entry != first + n * step || !qcow2_l2_entry_valid(q, entry))
			break;
	}
	return n;
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
	uint64_t in_cluster = at.off & (q->cluster_bytes - 1);
	struct qcow2_slice *s;
	uint64_t clusters;
	uint32_t index;
	int rc = qcow2_l2_get(co, q, at.off, &s, &index);

	if (rc)
		return rc;
	if (!s) {
		*out = (struct node_extent){.kind = NODE_UNALLOCATED, .len = run_without_table(q, at.off, len)};
		return 0;
	}
	if (!qcow2_l2_entry_valid(q, qcow2_l2_entry(q, s, index)))
		return qcow2_corrupt(co, q);
	classify(qcow2_l2_entry(q, s, index), in_cluster, out);
	clusters = run_length(q, s, index, div_round_up(in_cluster + len, q->cluster_bytes));
	out->len = MIN(len, (clusters << q->cluster_bits) - in_cluster);
	return 0;
}
