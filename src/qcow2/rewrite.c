/* SPDX-License-Identifier: MIT */
/*
 * Rewriting the header cluster (crash-safety M9): the write of the first sector is the commit point.
 *
 * layout.c says which arrangements to go through, one or two; from each to the next:
 *
 *     sectors from the second on     what the next arrangement needs, where the present first sector doesn't look
 *     flush
 *     the first sector               from now on it is the next arrangement
 *     flush
 *
 * and at the end zeros where nothing looks any more. Of an open image the first sector is q->sector, and a commit writes
 * it, behind the flush that is its barrier 1; other commits may come in between, with the sector as it is at that time.
 */
#include "qcow2/rewrite.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "qcow2/engine.h"
#include "qcow2/extension.h"
#include "qcow2/layout.h"

struct rewrite {
	struct node *file;
	struct qcow2 *q; /* NULL: the image isn't open */
	qcow2_header_change *change;
	void *arg;
	struct qcow2_header now, next;
	struct qcow2_layout old, steps[QCOW2_LAYOUT_STEPS];
	unsigned steps_count;
	uint8_t *disk; /* the cluster as it lies on disk */
	uint8_t *wanted;
	size_t len;
};

static void rewrite_free(struct rewrite *r)
{
	if (!r)
		return;
	qcow2_layout_free(&r->old);
	for (unsigned i = 0; i < QCOW2_LAYOUT_STEPS; i++)
		qcow2_layout_free(&r->steps[i]);
	free(r->disk);
	free(r->wanted);
	free(r);
}

/* ---- reading and planning ---- */

static int load_cluster(struct co *co, struct rewrite *r, struct err *err)
{
	size_t there = MIN((uint64_t)r->len, r->file->size);
	int ret;

	r->disk = node_alloc_zeroed(r->len);
	r->wanted = node_alloc_zeroed(r->len);
	if (!r->disk || !r->wanted)
		return err_set(err, -ENOMEM, "no memory for the header");
	ret = node_read(co, r->file, 0, IOV_BUF(r->disk, there));
	if (ret < 0)
		return err_set(err, ret, "the header can't be read: %s", strerror(-ret));
	return 0;
}

static int plan(struct rewrite *r, struct err *err)
{
	r->next = r->now;
	r->change(&r->next, r->arg);
	assert(r->next.cluster_bits == r->now.cluster_bits);
	if (r->next.version == 2 && r->now.header_bytes > sizeof(struct qcow2_disk_header))
		return err_set(err, -ENOTSUP, "the header has fields that version 2 can't have");
	if (qcow2_layout_of(r->disk, r->len, &r->now, &r->old) < 0)
		return err_set(err, -ENOMEM, "no memory for the header");
	return qcow2_layout_plan(&r->old, &r->next, r->steps, &r->steps_count, err);
}

/* ---- writing ---- */

/* Brings the sectors behind the first one to disk, from the first that differs to the last. */
static int write_tail(struct co *co, struct rewrite *r)
{
	size_t from = QCOW2_HEADER_SECTOR, to = r->len;
	int ret;

	while (to > from &&
		memcmp(r->disk + to - QCOW2_HEADER_SECTOR, r->wanted + to - QCOW2_HEADER_SECTOR, QCOW2_HEADER_SECTOR) ==
			0)
		to -= QCOW2_HEADER_SECTOR;
	while (from < to && memcmp(r->disk + from, r->wanted + from, QCOW2_HEADER_SECTOR) == 0)
		from += QCOW2_HEADER_SECTOR;
	if (from == to)
		return 0;
	ret = node_write(co, r->file, from, IOV_BUF(r->wanted + from, to - from), 0);
	if (ret == 0)
		memcpy(r->disk + from, r->wanted + from, to - from);
	return ret;
}

/* At one instant: the header in memory, and its sector. */
static int switch_open(struct co *co, struct rewrite *r, const struct qcow2_layout *to, bool first)
{
	struct qcow2 *q = r->q;

	if (first)
		r->change(&q->header, r->arg);
	q->header.header_bytes = (uint32_t)qcow2_header_length(&q->header);
	memcpy(q->sector, to->bytes, QCOW2_HEADER_SECTOR);
	qcow2_header_changed(q);
	return qcow2_commit(co, q);
}

static int switch_closed(struct co *co, struct rewrite *r, const struct qcow2_layout *to)
{
	int ret = node_flush(co, r->file);

	if (ret == 0)
		ret = node_write(co, r->file, 0, IOV_BUF(to->bytes, QCOW2_HEADER_SECTOR), 0);
	return ret < 0 ? ret : node_flush(co, r->file);
}

static int step(struct co *co, struct rewrite *r, const struct qcow2_layout *from, const struct qcow2_layout *to)
{
	int ret;

	qcow2_layout_merge(from, to, r->wanted);
	ret = write_tail(co, r);
	if (ret < 0)
		return ret;
	return r->q ? switch_open(co, r, to, from == &r->old) : switch_closed(co, r, to);
}

static int write_all(struct co *co, struct rewrite *r)
{
	const struct qcow2_layout *from = &r->old;
	int ret = 0;

	for (unsigned i = 0; ret == 0 && i < r->steps_count; i++) {
		ret = step(co, r, from, &r->steps[i]);
		from = &r->steps[i];
	}
	if (ret < 0)
		return ret;
	for (size_t i = QCOW2_HEADER_SECTOR; i < r->len; i++)
		r->wanted[i] = from->used[i] ? from->bytes[i] : 0;
	return write_tail(co, r);
}

static int rewrite(struct co *co, struct rewrite *r, struct err *err)
{
	int ret;

	r->len = (size_t)1 << r->now.cluster_bits;
	ret = load_cluster(co, r, err);
	if (ret == 0)
		ret = plan(r, err);
	if (ret < 0)
		return ret;
	ret = write_all(co, r);
	return ret < 0 ? err_set(err, ret, "the header can't be written: %s", strerror(-ret)) : 0;
}

/* ---- doors ---- */

static struct rewrite *rewrite_new(struct node *file, struct qcow2 *q, qcow2_header_change *change, void *arg)
{
	struct rewrite *r = calloc(1, sizeof(*r));

	if (r) {
		r->file = file;
		r->q = q;
		r->change = change;
		r->arg = arg;
	}
	return r;
}

/*
 * It must be known which first sector lies on disk. So first what the last change may have left in between; and, once, the
 * sector as it was read: an earlier session may have written it whose flush failed, and then no other flush covers it.
 */
static int rewrite_locked(struct co *co, struct qcow2 *q, struct rewrite *r, struct err *err)
{
	int ret;

	if (!q->header_durable)
		qcow2_header_changed(q);
	ret = qcow2_commit(co, q);
	if (ret < 0)
		return err_set(err, ret, "the header can't be written: %s", strerror(-ret));
	q->header_durable = true;
	r->now = q->header;
	return rewrite(co, r, err);
}

int qcow2_rewrite_open(struct co *co, struct qcow2 *q, qcow2_header_change *change, void *arg, struct err *err)
{
	struct rewrite *r = rewrite_new(q->node.file, q, change, arg);
	int ret;

	if (!r)
		return err_set(err, -ENOMEM, "no memory for the header");
	co_mutex_lock(co, &q->rewriting);
	ret = rewrite_locked(co, q, r, err);
	co_mutex_unlock(&q->rewriting);
	rewrite_free(r);
	return ret;
}

int qcow2_rewrite_closed(struct co *co, struct node *file, qcow2_header_change *change, void *arg, struct err *err)
{
	struct rewrite *r = rewrite_new(file, NULL, change, arg);
	int ret;

	if (!r)
		return err_set(err, -ENOMEM, "no memory for the header");
	ret = qcow2_header_load(co, file, UINT64_MAX, &r->now, err);
	if (ret == 0)
		ret = rewrite(co, r, err);
	rewrite_free(r);
	return ret;
}
