/* SPDX-License-Identifier: MIT */
/*
 * Whole subclusters that read zeros from now on.
 *
 *                        keep the space              may free            version 2
 *     nothing            nothing, or zero mark       the same            nothing; over a backing file: can't
 *     data, own          zero mark, space kept       zero mark, freed    entry 0, freed (never where space is to be kept)
 *     data, shared       zero mark, one ref less     the same            the same
 *     compressed         the same, in each cluster that it lies in
 *     zero, with space   nothing                     zero mark, freed    -
 *
 * Forgetting (whole clusters) makes every entry 0 and frees its cluster, in version 2 as well: the backing file shows, which
 * has the same content by then, durably.
 *
 * "zero mark" is the zero flag, or the subcluster's zero bit; where nothing is mapped and no backing file reaches, there is
 * nothing to do, unless another backing file will come that does (qcow2_backing_expect). A host cluster is freed when none of its subclusters has data any more; a compressed cluster of which only a
 * part is unmapped becomes a standard one first. Version 2 has no zero mark:
 * -ENOTSUP lets the node layer write zeros, or drop a discard (crash-safety G8, G9).
 */
#include <errno.h>
#include <stdlib.h>

#include "base/cleanup.h"
#include "qcow2/engine.h"

static bool backing_covers(const struct qcow2 *q, uint64_t guest)
{
	return q->other_backing || (q->node.backing && guest < q->node.backing->size);
}

static bool is_nothing(struct qcow2_entry e) { return !e.descriptor && !e.zero; }

/* What the entry becomes when these subclusters, the first of them at guest, are unmapped; *freed tells whether it loses
 * its host cluster. -ENOTSUP: it can't be said. */
static int unmapped_entry(const struct qcow2 *q, uint64_t guest, struct qcow2_entry e, uint32_t mask,
	enum node_unmap how, struct qcow2_entry *to, bool *freed)
{
	bool keep = how == NODE_UNMAP_KEEP && qcow2_entry_is_own(e);

	*to = e;
	if (how == NODE_UNMAP_FORGET) {
		*freed = qcow2_entry_is_compressed(e) || qcow2_entry_has_host(e);
		if (!MUTANT(116))
			*to = (struct qcow2_entry){0};
		return 0;
	}
	to->data &= ~mask;
	*freed = (qcow2_entry_is_compressed(e) || qcow2_entry_has_host(e)) && !keep && (!to->data || MUTANT(73));
	if (*freed && !to->data)
		to->descriptor = 0;
	if (is_nothing(e) && !backing_covers(q, guest))
		return 0;
	if (q->header.version < 3)
		return keep || backing_covers(q, guest) ? -ENOTSUP : 0;
	if (keep || !MUTANT(43))
		to->zero |= mask;
	return 0;
}

static void change_entry(struct qcow2 *q, struct qcow2_slice *s, uint32_t index, struct qcow2_entry to, bool freed)
{
	struct qcow2_entry e = qcow2_l2_entry(q, s, index);

	if (freed)
		qcow2_entry_free(q, e.descriptor);
	if (to.descriptor != e.descriptor || to.data != e.data || to.zero != e.zero)
		qcow2_l2_set(q, s, index, to);
}

/* [from, to), which lies in one slice. First a look whether all of it can be changed, so that it's all or nothing. */
static int unmap_slice(
	struct qcow2 *q, struct qcow2_slice *s, uint32_t index, uint64_t from, uint64_t to, enum node_unmap how)
{
	uint64_t first = align_down(from, q->cluster_bytes), n = div_round_up(to - first, q->cluster_bytes);
	int rc = qcow2_free_prepare(q, n);

	for (unsigned pass = 0; pass < 2; pass++) {
		for (uint32_t i = 0; !rc && i < n; i++) {
			uint64_t guest = first + ((uint64_t)i << q->cluster_bits);
			struct qcow2_entry e;
			bool freed;

			rc = unmapped_entry(q, MAX(guest, from), qcow2_l2_entry(q, s, index + i),
				qcow2_subclusters(q, guest, from, to), how, &e, &freed);
			if (!rc && pass == 1)
				change_entry(q, s, index + i, e, freed);
		}
	}
	return rc;
}

/* Those that map [from, to). */
static bool entries_valid(
	const struct qcow2 *q, const struct qcow2_slice *s, uint32_t index, uint64_t from, uint64_t to)
{
	uint64_t n = div_round_up(to, q->cluster_bytes) - from / q->cluster_bytes;

	for (uint64_t i = 0; i < n; i++)
		if (!qcow2_l2_entry_valid(q, qcow2_l2_entry(q, s, index + (uint32_t)i)))
			return false;
	return true;
}

/* Nothing to do where there is no table, and nothing to hide: no backing file, or it ends before. */
static int slice_to_unmap(
	struct co *co, struct qcow2 *q, uint64_t guest, enum node_unmap how, struct qcow2_slice **s, uint32_t *index)
{
	int rc = qcow2_l2_get(co, q, guest, s, index);

	if (rc || (!*s && (how == NODE_UNMAP_FORGET || !backing_covers(q, guest))))
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
			rc = slice_to_unmap(co, q, guest, how, &s, &index);
		if (!rc && s && !entries_valid(q, s, index, guest, end))
			rc = qcow2_corrupt(co, q, "an entry of an L2 table, or the place of one, is what it can't be");
		else if (!rc && s)
			rc = unmap_slice(q, s, index, guest, end, how);
		if (rc)
			return rc;
		guest = end;
	}
	return 0;
}

/* There is a compressed cluster around this address: it becomes a standard one. */
static int expand_at(struct co *co, struct qcow2 *q, uint64_t at)
{
	uint64_t cluster = align_down(at, q->cluster_bytes);
	AUTO_FREE void *buffer = NULL;
	struct node_extent e = {0};
	int rc = at > cluster ? qcow2_map(co, &q->node, (struct guest){at}, 1, &e) : 0;

	if (rc || e.kind != NODE_ENCODED)
		return rc;
	buffer = node_alloc(q->cluster_bytes);
	return buffer ? qcow2_rewrite(co, q, cluster, cluster + q->cluster_bytes, buffer) : -ENOMEM;
}

/* Of no length, it only tells whether it could be done there. */
int qcow2_unmap(struct co *co, struct node *n, struct guest at, uint64_t len, enum node_unmap how)
{
	struct qcow2 *q = qcow2_of(n);
	uint64_t end = at.off + len;
	bool must_mark;
	int rc;

	if (len == 0)
		return q->header.version < 3 && backing_covers(q, at.off) ? -ENOTSUP : 0;
	rc = qcow2_data_unmap(co, q, at.off, len, how, &must_mark);
	if (rc || !must_mark)
		return rc;
	rc = expand_at(co, q, at.off);
	if (!rc && end < n->size)
		rc = expand_at(co, q, end);
	return rc ? rc : unmap_slices(co, q, at.off, end, how);
}
