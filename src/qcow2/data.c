/* SPDX-License-Identifier: MIT */
/*
 * The external data file. A guest cluster lies there at the place that it has on the disk, so there is nothing to allocate,
 * to count or to free, and nobody else ever gets the place. Source: docs/interop/qcow2.rst, incompatible feature bit 2,
 * autoclear feature bit 1, and bit 63 of the L2 entry.
 *
 *     write      content, into the data file -> barrier 1, of both files -> L2 entry (crash-safety O1, O22)
 *     zeroes     zeros or a punch, in the data file, at once; then the mark, as always, in memory
 *     grow       the data file's size, zeros in what it had beyond the old end -> barrier -> the size in the header
 *     shrink     the size in the header -> barrier -> the data file's size
 *
 * Zeros need not wait for the mark to be durable (O10): until then the old entry shows them, which is what the request is
 * for, and what is punched is given to no one. They must not come after it, since from the mark on the place may be written
 * to anew.
 *
 * A raw data file holds what the guest reads, by itself, at any time. So zeros are really written there, and need no mark;
 * and all of the disk is mapped to data from the start, so that no power cut can leave content that only the file knows of.
 */
#include <errno.h>
#include <inttypes.h>

#include "qcow2/engine.h"

/* ---- opening ---- */

static int reach(struct co *co, struct node *data, uint64_t size)
{
	if (data->size >= size)
		return 0;
	return data->grows_zeroed ? node_reach(co, data, size) : -ENOSPC;
}

int qcow2_data_check(const struct qcow2_header *h, const struct qcow2_options *o, struct err *err)
{
	bool wanted = h->incompatible & QCOW2_INCOMPAT_DATA_FILE;

	if (wanted && !o->data_file)
		return err_set(err, -EINVAL, "the image keeps its data in another file ('%s'), which must be given",
			h->data_file);
	if (!wanted && o->data_file)
		return err_set(err, -EINVAL, "a data file was given, but the image has its data in itself");
	if (wanted && o->write && h->snapshots)
		return err_set(err, -ENOTSUP,
			"the image has internal snapshots and an external data file: writing would change the snapshots; open it read only");
	return 0;
}

/* From here on no write to the disk reaches beyond the data file's end. */
int qcow2_data_start(struct co *co, struct qcow2 *q, struct err *err)
{
	struct node *data = q->options.data_file;
	int rc = qcow2_has_data_file(q) && q->options.write ? reach(co, data, q->node.size) : 0;

	if (rc)
		return err_set(err, rc,
			"the data file '%s' has %" PRIu64 " bytes, too few for a disk of %" PRIu64
			", and can't be made larger",
			data->name, data->size, q->node.size);
	return 0;
}

/* ---- flushing ---- */

struct data_flush {
	struct node *node;
	int rc;
};

static void flush_data(struct co *co, void *arg)
{
	struct data_flush *f = arg;

	f->rc = node_flush(co, f->node);
}

/* Both files side by side: no order between them is needed. */
int qcow2_data_flush(struct co *co, struct qcow2 *q)
{
	struct data_flush f = {.node = q->node.data};
	struct co_group group;
	int rc;

	if (!qcow2_has_data_file(q) || MUTANT(75))
		return node_flush(co, q->node.file);
	co_group_init(&group, co_sched_of(co));
	if (co_group_spawn(&group, "qcow2-data-flush", flush_data, &f))
		flush_data(co, &f);
	rc = node_flush(co, q->node.file);
	co_group_wait(co, &group);
	return rc ? rc : f.rc;
}

/* ---- zeros ---- */

/* What lies beyond the data file's end reads zeros as it is. */
static uint64_t inside(const struct node *data, uint64_t off, uint64_t len)
{
	return off < data->size ? MIN(len, data->size - off) : 0;
}

/* The node layer writes zeros as it writes data where the file can't do better; but it would drop a discard. */
static int zero_raw(struct co *co, struct qcow2 *q, uint64_t off, uint64_t len, enum node_unmap how)
{
	unsigned flags = how == NODE_UNMAP_KEEP || q->options.no_discard ? 0 : NODE_MAY_UNMAP;

	if (how != NODE_UNMAP_DISCARD)
		flags |= NODE_NO_FALLBACK;
	return len ? node_zero(co, q->node.data, off, len, flags) : 0;
}

int qcow2_data_unmap(struct co *co, struct qcow2 *q, uint64_t off, uint64_t len, enum node_unmap how, bool *must_mark)
{
	*must_mark = true;
	/* What is to be forgotten must stay until that is durable; afterwards nobody looks at it. */
	if (!qcow2_has_data_file(q) || how == NODE_UNMAP_FORGET)
		return 0;
	len = inside(q->node.data, off, len);
	if (qcow2_data_is_raw(q) && !MUTANT(76)) {
		*must_mark = false;
		return zero_raw(co, q, off, len, how);
	}
	if (how == NODE_UNMAP_KEEP || q->options.no_discard || len == 0)
		return 0;
	return node_discard(co, q->node.data, off, len);
}

/* ---- another size ---- */

/* The file may be longer than the disk was: what it has there isn't the guest's. Others zero it where it is mapped. */
int qcow2_data_grow(struct co *co, struct qcow2 *q, uint64_t size)
{
	struct node *data = q->node.data;
	uint64_t from = q->node.size, stale = inside(data, from, size - from);
	int rc = 0;

	if (!qcow2_has_data_file(q))
		return 0;
	if (qcow2_data_is_raw(q) && stale && !MUTANT(44))
		rc = node_zero(co, data, from, stale, NODE_MAY_UNMAP);
	return rc ? rc : reach(co, q->options.data_file, size);
}

/* A device keeps its size. */
int qcow2_data_cut(struct co *co, struct qcow2 *q, uint64_t size)
{
	struct node *data = q->options.data_file;

	if (!qcow2_has_data_file(q) || data->size <= size || !data->grows_zeroed)
		return 0;
	return node_resize(co, data, size);
}

/* The entries of one slice, from guest on. */
static void map_slice(struct qcow2 *q, struct qcow2_slice *s, uint32_t index, uint64_t guest, uint64_t end)
{
	for (; guest < end; guest += q->cluster_bytes, index++)
		qcow2_l2_set(q, s, index,
			(struct qcow2_entry){.descriptor = guest | QCOW2_COPIED,
				.data = qcow2_subclusters(q, guest, guest, guest + q->cluster_bytes)});
}

int qcow2_data_map_all(struct co *co, struct qcow2 *q, uint64_t from, uint64_t to)
{
	uint64_t slice_covers = (uint64_t)qcow2_l2_slice_entries(q) << q->cluster_bits;
	int rc = 0;

	for (uint64_t guest = align_down(from, q->cluster_bytes), end; !rc && guest < to; guest = end) {
		struct qcow2_slice *s;
		uint32_t index;

		end = MIN(align_up(to, q->cluster_bytes), align_down(guest, slice_covers) + slice_covers);
		rc = qcow2_l2_get_writable(co, q, guest, &s, &index);
		if (!rc)
			map_slice(q, s, index, guest, end);
	}
	return rc;
}
