/* SPDX-License-Identifier: MIT */
/*
 * Another size for the guest disk (crash-safety G14, O18; a smaller one: shrink.c). The new space reads zeros, over a longer
 * backing file too, and whatever an earlier, larger disk had there:
 *
 *     the data file's size, if there is one (data.c)
 *     a larger L1 table, if one is needed: its content, barrier, the header (O4); the disk has its old size still
 *     zeros behind the old end: the rest of its last subcluster, and zero marks where the backing file would show
 *     space for the clusters behind it, if that is wanted (preallocate.c)
 *     a commit
 *     the size in the header, by one sector's write; a commit
 */
#include <errno.h>
#include <string.h>

#include "qcow2/bitmaps.h"
#include "qcow2/preallocate.h"

static int grow_l1(struct co *co, struct qcow2 *q, uint64_t entries)
{
	uint64_t old_bytes = align_up(q->l1.n * 8, q->cluster_bytes);
	uint64_t clusters = div_round_up(entries * 8, q->cluster_bytes), host;
	int rc;

	if (entries * 8 > QCOW2_MAX_L1_BYTES)
		return -EFBIG;
	node_event(co, q->node.file, NODE_EVENT_L1_GROW_ALLOC_TABLE);
	rc = qcow2_alloc_run(co, q, clusters, &host);
	if (rc)
		return rc;
	rc = qcow2_free_prepare(q, 1);
	if (!rc)
		rc = qcow2_table_grow(&q->l1, entries, q->unit_bytes);
	if (rc) {
		if (qcow2_refcount_drop(co, q, qcow2_cluster_of(q, host), clusters))
			q->stats.leaked += clusters;
		return rc;
	}
	if (old_bytes)
		qcow2_free(q, q->header.l1.off, old_bytes);
	q->header.l1.off = host;
	q->header.l1_entries = (uint32_t)entries;
	q->l1_moved = true;
	qcow2_header_changed(q);
	return 0;
}

/* The caller is inside the node, so it asks the children itself. Into zeros: what is beyond the child's end stays so. */
static int read_child(struct co *co, struct node *child, uint64_t off, void *to, uint64_t bytes)
{
	if (off >= child->size)
		return 0;
	return node_read(co, child, off, IOV_BUF(to, MIN(bytes, child->size - off)));
}

static int read_extent(struct co *co, struct qcow2 *q, const struct node_extent *e, uint64_t guest, void *to)
{
	switch (e->kind) {
	case NODE_ZERO: return 0;
	case NODE_DATA: return read_child(co, q->node.data, e->host.off, to, e->len);
	case NODE_UNALLOCATED: return q->node.backing ? read_child(co, q->node.backing, guest, to, e->len) : 0;
	case NODE_ENCODED: return qcow2_decode(co, &q->node, e, (struct guest){guest}, IOV_BUF(to, e->len));
	}
	return -EINVAL;
}

/* Guest bytes as they read now, into a buffer of zeros. */
static int read_now(struct co *co, struct qcow2 *q, uint64_t guest, uint64_t bytes, char *to)
{
	int rc = 0;

	while (!rc && bytes > 0) {
		struct node_extent e;

		rc = qcow2_map(co, &q->node, (struct guest){guest}, bytes, &e);
		if (!rc)
			rc = read_extent(co, q, &e, guest, to);
		if (!rc) {
			guest += e.len;
			bytes -= e.len;
			to += e.len;
		}
	}
	return rc;
}

/* A data file ends where the disk will end; it has that size already. */
static int write_data(struct co *co, struct qcow2 *q, uint64_t host, const void *from, uint64_t bytes)
{
	struct node *data = q->node.data;
	int rc = qcow2_has_data_file(q) ? 0 : qcow2_file_reach(co, q, host + bytes);

	if (qcow2_has_data_file(q))
		bytes = MIN(bytes, q->options.data_file->size - host);
	if (!rc)
		rc = qcow2_overwriting(co, &q->node, host, bytes);
	return rc ? rc : node_write(co, data, host, IOV_BUF((void *)from, bytes), 0);
}

/* The content of a reservation: what is there now, of what lies before guest address `end`; zeros behind it. */
static int fill_reserved(struct co *co, struct qcow2 *q, const struct node_reservation *res, uint64_t end, void *buffer)
{
	uint64_t keep = end > res->guest.off ? MIN(end - res->guest.off, res->len) : 0;
	int rc;

	memset(buffer, 0, q->cluster_bytes);
	rc = read_now(co, q, res->guest.off, keep, buffer);
	return rc ? rc : write_data(co, q, res->host.off, buffer, res->len);
}

/* The subcluster at guest reads zeros from guest address `end` on, from space of its own. What is in place already (the tail
 * of the disk, or what a resize that was cut off left behind its end) is zeroed there. */
int qcow2_rewrite(struct co *co, struct qcow2 *q, uint64_t guest, uint64_t end, void *buffer)
{
	uint64_t unit = q->node.subcluster, keep = end - guest;
	struct node_reservation res;
	struct node_extent e;
	int rc = qcow2_map(co, &q->node, (struct guest){guest}, unit, &e);

	memset(buffer, 0, unit);
	if (!rc && e.in_place)
		return write_data(co, q, e.host.off + keep, buffer, unit - keep);
	if (!rc)
		rc = qcow2_reserve(co, &q->node, (struct guest){guest}, unit, &res);
	if (rc)
		return rc;
	rc = fill_reserved(co, q, &res, end, buffer);
	if (!rc)
		rc = qcow2_publish(co, &q->node, &res);
	if (rc)
		qcow2_cancel(co, &q->node, &res);
	return rc;
}

static bool backing_shows(const struct qcow2 *q, uint64_t from)
{
	return q->node.backing && q->node.backing->size > from;
}

/* The subcluster that holds the old end reads zeros behind it. */
static int zero_tail(struct co *co, struct qcow2 *q, void *buffer)
{
	uint64_t end = q->node.size, next = align_up(end, q->node.subcluster);
	struct node_extent e;
	int rc;

	if (end == next)
		return 0;
	rc = qcow2_map(co, &q->node, (struct guest){end}, next - end, &e);
	if (rc || e.kind == NODE_ZERO || (e.kind == NODE_UNALLOCATED && !backing_shows(q, end)))
		return rc;
	return qcow2_rewrite(co, q, next - q->node.subcluster, end, buffer);
}

/* Up to where in [from, to) zeros must be written: version 2 has no zero mark to hide the backing file behind. */
static uint64_t must_write(const struct qcow2 *q, uint64_t from, uint64_t to)
{
	if (q->header.version >= 3 || !backing_shows(q, from))
		return from;
	return MIN(to, align_up(q->node.backing->size, q->cluster_bytes));
}

/* Whole subclusters in [from, to) read zeros. */
static int zero_subclusters(struct co *co, struct qcow2 *q, uint64_t from, uint64_t to, void *buffer)
{
	uint64_t written = from < to ? must_write(q, from, to) : to;
	int rc = 0;

	for (; !rc && from < written; from += q->node.subcluster)
		rc = qcow2_rewrite(co, q, from, from, buffer);
	if (!rc && from < to)
		rc = qcow2_unmap(co, &q->node, (struct guest){from}, to - from, NODE_UNMAP_FREE);
	return rc;
}

static int zero_new_space(struct co *co, struct qcow2 *q, uint64_t size)
{
	void *buffer;
	int rc = node_buffer_get(co, &q->node, q->cluster_bytes, &buffer);

	if (rc)
		return rc;
	if (!MUTANT(97))
		rc = zero_tail(co, q, buffer);
	if (!rc)
		rc = zero_subclusters(
			co, q, align_up(q->node.size, q->node.subcluster), align_up(size, q->cluster_bytes), buffer);
	node_buffer_put(&q->node, buffer, q->cluster_bytes);
	return rc;
}

static int set_size(struct co *co, struct qcow2 *q, uint64_t size)
{
	uint64_t before = q->header.size;
	int rc;

	q->header.size = size;
	qcow2_header_changed(q);
	rc = qcow2_commit(co, q);
	if (rc) { /* which of the two the disk says is unknown; both are right for what the guest saw */
		q->header.size = before;
		qcow2_header_changed(q);
		return rc;
	}
	q->node.size = size;
	return 0;
}

/* All of it, or nothing that was taken for it stays. */
static int preallocate(struct co *co, struct qcow2 *q, uint64_t size)
{
	int rc = qcow2_preallocate(co, q, q->node.size, size);

	if (rc && qcow2_cut(co, q, q->node.size))
		q->stats.reclaim_errors++;
	return rc;
}

static int grow(struct co *co, struct qcow2 *q, uint64_t size)
{
	uint64_t entries = div_round_up(size, (uint64_t)q->l2_entries << q->cluster_bits);
	int rc = qcow2_data_grow(co, q, size);

	if (!rc && entries > q->l1.n)
		rc = grow_l1(co, q, entries);
	if (!rc && qcow2_data_is_raw(q))
		rc = qcow2_data_map_all(co, q, q->node.size, size);
	else if (!rc && !MUTANT(44))
		rc = zero_new_space(co, q, size);
	if (!rc && q->options.growth != QCOW2_PREALLOCATE_OFF)
		rc = preallocate(co, q, size);
	if (!rc)
		rc = qcow2_commit(co, q);
	return rc ? rc : set_size(co, q, size);
}

/* Mutants: the size comes after what it must precede. */
static int cut_too_early(struct co *co, struct qcow2 *q, uint64_t size)
{
	int rc = MUTANT(95) ? qcow2_cut(co, q, size) : 0;

	if (!rc && MUTANT(95))
		rc = qcow2_commit(co, q);
	return !rc && MUTANT(98) ? qcow2_data_cut(co, q, size) : rc;
}

/* Once it has the size the disk is the small one, whatever happens to what lies behind its end. */
static int shrink(struct co *co, struct qcow2 *q, uint64_t size)
{
	int rc = cut_too_early(co, q, size);

	if (!rc && size < q->node.size)
		rc = set_size(co, q, size);
	q->shrunk |= rc == 0;
	if (!rc)
		rc = qcow2_cut(co, q, size);
	return rc ? rc : qcow2_data_cut(co, q, size);
}

int qcow2_resize(struct co *co, struct node *n, uint64_t size)
{
	struct qcow2 *q = qcow2_of(n);
	int rc;

	if (size < n->size && q->unsized_snapshots)
		return -ENOTSUP;
	rc = qcow2_bitmaps_resize_begin(co, q, size);
	if (!rc)
		rc = size > n->size ? grow(co, q, size) : shrink(co, q, size);
	qcow2_bitmaps_resize_end(q);
	return rc;
}
