/* SPDX-License-Identifier: MIT */
/*
 * Whole clusters that read zeros from now on.
 *
 *                        keep the space              may free            version 2
 *     nothing            nothing, or zero mark       the same            nothing; over a backing file: can't
 *     data, own          zero mark, space kept       zero mark, freed    entry 0, freed (never where space is to be kept)
 *     data, shared       zero mark, one ref less     the same            the same
 *     zero, with space   nothing                     zero mark, freed    -
 *
 * "zero mark" is the plain zero cluster; where nothing is mapped and no backing file reaches, there is nothing to do.
 * Version 2 has no zero mark: -ENOTSUP lets the node layer write zeros, or drop a discard (crash-safety G8, G9).
 */
#include <errno.h>

#include "qcow2/engine.h"

static bool backing_covers(const struct qcow2 *q, uint64_t guest)
{
	return q->node.backing && guest < q->node.backing->size;
}

/* What the entry becomes; *freed tells whether it loses its host cluster. -ENOTSUP: it can't be said. */
static int unmapped_entry(
	const struct qcow2 *q, uint64_t guest, uint64_t entry, enum node_unmap how, uint64_t *to, bool *freed)
{
	bool has_host = entry & QCOW2_OFFSET_MASK, own = entry & QCOW2_COPIED;
	bool keep = how == NODE_UNMAP_KEEP && has_host && own;

	if (entry & QCOW2_COMPRESSED)
		return -ENOTSUP;
	*freed = has_host && !keep;
	*to = entry;
	if (entry == 0 && !backing_covers(q, guest))
		return 0;
	if (q->header.version < 3) {
		*to = 0;
		return keep || backing_covers(q, guest) ? -ENOTSUP : 0;
	}
	*to = keep ? entry | QCOW2_ZERO : MUTANT(43) ? 0 : QCOW2_ZERO;
	return 0;
}

/* The entries of one slice, from guest on. First a look whether all of them can be changed, so that it's all or nothing. */
static int unmap_slice(
	struct qcow2 *q, struct qcow2_slice *s, uint32_t index, uint64_t guest, uint64_t n, enum node_unmap how)
{
	uint64_t to;
	bool freed;
	int rc = qcow2_free_prepare(q, n);

	for (uint64_t i = 0; !rc && i < n; i++)
		rc = unmapped_entry(
			q, guest + (i << q->cluster_bits), qcow2_l2_entry(q, s, index + (uint32_t)i), how, &to, &freed);
	for (uint64_t i = 0; !rc && i < n; i++) {
		uint64_t entry = qcow2_l2_entry(q, s, index + (uint32_t)i);

		rc = unmapped_entry(q, guest + (i << q->cluster_bits), entry, how, &to, &freed);
		if (freed)
			qcow2_entry_free(q, entry);
		if (to != entry)
			qcow2_l2_set(q, s, index + (uint32_t)i, to);
	}
	return rc;
}

/* Nothing to do where there is no table, no backing file, or it ends before. */
static int slice_to_unmap(struct co *co, struct qcow2 *q, uint64_t guest, struct qcow2_slice **s, uint32_t *index)
{
	int rc = qcow2_l2_get(co, q, guest, s, index);

	if (rc || (!*s && !backing_covers(q, guest)))
		return rc;
	if (!*s && q->header.version < 3)
		return -ENOTSUP;
	return qcow2_l2_get_writable(co, q, guest, s, index);
}

static int unmap_slices(struct co *co, struct qcow2 *q, uint64_t from, uint64_t to, enum node_unmap how)
{
	uint64_t slice_covers = (uint64_t)qcow2_l2_slice_entries(q) << q->cluster_bits;

	for (uint64_t guest = from; guest < to;) {
		uint64_t end = MIN(to, align_down(guest, slice_covers) + slice_covers);
		struct qcow2_slice *s;
		uint32_t index;
		int rc = qcow2_free_throttle(co, q);

		if (!rc)
			rc = slice_to_unmap(co, q, guest, &s, &index);
		if (!rc && s)
			rc = unmap_slice(q, s, index, guest, div_round_up(end - guest, q->cluster_bytes), how);
		if (rc)
			return rc;
		guest = end;
	}
	return 0;
}

/* Of no length, it only tells whether it could be done there. */
int qcow2_unmap(struct co *co, struct node *n, struct guest at, uint64_t len, enum node_unmap how)
{
	struct qcow2 *q = qcow2_of(n);

	if (len == 0)
		return q->header.version < 3 && backing_covers(q, at.off) ? -ENOTSUP : 0;
	return unmap_slices(co, q, at.off, at.off + len, how);
}
