/* SPDX-License-Identifier: MIT */
/*
 * The file's end, when the image is closed: nothing is in flight, what was freed is free, and all refcounts are durable.
 *
 *     always                       the space that the file has grown ahead goes back
 *     after the disk has shrunk    what is free at the end of the file goes, too:
 *         refcount blocks there that count nothing but themselves: their entries in the table become 0; a commit
 *         the file's size
 */
#include "qcow2/engine.h"

/* Moves *end, in clusters, down to behind the last cluster in use before it. */
static int find_used(struct co *co, struct qcow2 *q, uint64_t *end)
{
	while (*end > 0) {
		struct qcow2_slice *s;
		uint64_t index;
		int rc = qcow2_refcount_slice(co, q, *end - 1, &s, &index);

		if (rc)
			return rc;
		if (!s) {
			*end = align_down(*end - 1, q->block_refcounts);
			continue;
		}
		for (uint64_t left = index + 1; left > 0; left--, --*end)
			if (qcow2_refcount_get(s->data, q->header.refcount_order, left - 1) != 0)
				return 0;
	}
	return 0;
}

/* The block that lies in the last cluster before `end` and counts that one. */
static bool is_block_of_its_own(const struct qcow2 *q, uint64_t end)
{
	uint64_t i = (end - 1) / q->block_refcounts;

	return i < q->reftable.n && q->reftable.entries[i] == (end - 1) << q->cluster_bits;
}

/* *end: in clusters. Blocks that would count nothing are taken out of the table, in memory. */
static int find_end(struct co *co, struct qcow2 *q, uint64_t *end)
{
	int rc = find_used(co, q, end);

	while (!rc && *end > 0 && is_block_of_its_own(q, *end)) {
		uint64_t i = (*end - 1) / q->block_refcounts, before = *end - 1;

		rc = find_used(co, q, &before);
		if (rc || before > i * q->block_refcounts)
			return rc;
		qcow2_table_set(q, &q->reftable, i, 0);
		*end = before;
	}
	return rc;
}

/* Where it can't be found out the file stays as long as it is. */
static int lower_end(struct co *co, struct qcow2 *q)
{
	uint64_t end = div_round_up(q->high_water, q->cluster_bytes);
	int rc = find_end(co, q, &end);

	if (rc)
		q->stats.reclaim_errors++;
	else
		q->high_water = MIN(q->high_water, end << q->cluster_bits);
	return q->dirty ? qcow2_commit(co, q) : 0;
}

int qcow2_trim(struct co *co, struct qcow2 *q)
{
	int rc = 0;

	if (!q->node.file->grows_zeroed || q->corrupt)
		return 0;
	if (q->shrunk)
		rc = lower_end(co, q);
	if (rc || q->high_water >= q->file_bytes)
		return rc;
	return node_resize(co, q->node.file, q->high_water - (MUTANT(46) ? q->cluster_bytes : 0));
}
