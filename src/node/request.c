/* SPDX-License-Identifier: MIT */
/* The doors of a node: a request is entered, checked, and handed to the one who does it. */
#include "node/impl.h"

#include <errno.h>
#include <string.h>

#include "base/log.h"
#include "base/math.h"

static bool is_outside(const struct node *n, uint64_t off, uint64_t len)
{
	uint64_t end;

	return add_overflows(off, len, &end) || end > n->size;
}

int node_read(struct co *co, struct node *n, uint64_t off, struct iov to)
{
	struct node_op op;
	int err = -EINVAL;

	if (node_is_storage(n))
		return node_storage_read(co, n, off, to);
	if (!MUTANT(21))
		node_op_begin(co, n, &op);
	if (!is_outside(n, off, to.len))
		err = to.len > 0 ? node_layers_read(co, n, off, to) : 0;
	if (!MUTANT(21))
		node_op_end(n, &op);
	return err;
}

static int refuse_change(const struct node *n)
{
	if (n->read_only)
		return -EROFS;
	return n->failed;
}

/* Enters a request that changes [off, off + len). On a failure it has left again. */
static int change_begin(struct co *co, struct node *n, struct node_op *op, uint64_t off, uint64_t len, unsigned flags)
{
	int err;

	node_op_begin(co, n, op);
	err = refuse_change(n);
	if (err == 0 && is_outside(n, off, len))
		err = -ENOSPC;
	if (err != 0)
		node_op_end(n, op);
	else if (n->ops->changing != NULL && len > 0 && (flags & NODE_UNCHANGED) == 0)
		n->ops->changing(n, off, len);
	return err;
}

/*
 * What a write in place needs to be found again is in memory alone as long as any change of the mapping is: the change that
 * put it there may be somebody else's, and not written yet.
 */
static bool is_lasting(const struct node *n)
{
	return MUTANT(120) || (n->changing == 0 && n->changes == n->changes_written);
}

static int change_end(struct co *co, struct node *n, struct node_op *op, int err, unsigned flags)
{
	if (err == 0 && ((flags & NODE_FUA) != 0 || ((flags & NODE_LASTING) != 0 && !is_lasting(n))))
		err = MUTANT(23) && n->file ? node_flush(co, n->file) : node_flush_now(co, n);
	node_op_end(n, op);
	return err;
}

int node_write(struct co *co, struct node *n, uint64_t off, struct iov from, unsigned flags)
{
	struct node_op op;
	int err;

	if (node_is_storage(n))
		return node_storage_write(co, n, off, from, flags);
	err = change_begin(co, n, &op, off, from.len, flags);
	if (err != 0)
		return err;
	err = from.len > 0 ? node_layers_write(co, n, off, from) : 0;
	return change_end(co, n, &op, err, flags);
}

int node_write_compressed(struct co *co, struct node *n, uint64_t off, struct iov from, unsigned flags)
{
	struct node_op op;
	int err;

	if (n->ops->compress == NULL)
		return -ENOTSUP;
	err = change_begin(co, n, &op, off, from.len, flags);
	if (err != 0)
		return err;
	return change_end(co, n, &op, node_compress_inside(co, n, off, from), flags);
}

int node_zero(struct co *co, struct node *n, uint64_t off, uint64_t len, unsigned flags)
{
	struct node_op op;
	int err = change_begin(co, n, &op, off, MUTANT(85) ? 0 : len, flags);

	if (err != 0)
		return err;
	return change_end(co, n, &op, node_zero_inside(co, n, off, len, flags), flags);
}

int node_discard(struct co *co, struct node *n, uint64_t off, uint64_t len)
{
	struct node_op op;
	int err = change_begin(co, n, &op, off, MUTANT(85) ? 0 : len, 0);

	if (err != 0)
		return err;
	return change_end(co, n, &op, node_discard_inside(co, n, off, len), 0);
}

/* What the disk reads stays the same, if its caller has done his part: no bitmap needs to know. */
int node_forget(struct co *co, struct node *n)
{
	struct node_op op;
	int err = change_begin(co, n, &op, 0, 0, 0);

	if (err != 0)
		return err;
	return change_end(co, n, &op, node_forget_inside(co, n), 0);
}

/* Once, and not where a durable write fails: that may be deep in a stack. */
static int failure(struct node *n)
{
	if (!n->failure_told)
		log_line(n->log, LOG_LEVEL_ERROR,
			"%s: a flush has failed (%s): what was written since the last one may be lost, and nothing more is read or "
			"written; open it again: what was flushed before is there",
			n->name, strerror(-n->failed));
	n->failure_told = true;
	return n->failed;
}

/* After a failure nothing is known of what was written before: a flush that succeeds later doesn't make it good. */
int node_flush_now(struct co *co, struct node *n)
{
	uint64_t changes = n->changes;
	int err;

	if (n->read_only)
		return 0;
	if (n->failed != 0)
		return failure(n);
	if (n->file != NULL)
		node_event(co, n->file, NODE_EVENT_FLUSH_TO_OS);
	err = n->ops->flush(co, n);
	if (MUTANT(48))
		return err;
	if (err != 0)
		node_fail(n, err);
	else
		n->changes_written = MAX(n->changes_written, MUTANT(121) ? n->changes : changes);
	return n->failed != 0 ? failure(n) : 0;
}

int node_flush(struct co *co, struct node *n)
{
	struct node_op op;
	int err;

	node_op_begin(co, n, &op);
	err = node_flush_now(co, n);
	node_op_end(n, &op);
	return err;
}

/* ---- size ---- */

static uint64_t resize_from(const struct node *n, uint64_t size) { return align_down(MIN(n->size, size), n->cluster); }

/*
 * From the cluster that holds the smaller size on: what lies before isn't touched, and is written meanwhile. Somebody who
 * came first may have made the disk smaller while we waited: then once more, from there.
 */
static void lock_for_resize(struct co *co, struct node *n, struct node_range *lock, uint64_t size)
{
	uint64_t from = resize_from(n, size);

	node_range_lock(co, n, lock, from, UINT64_MAX / 2 - MIN(from, UINT64_MAX / 2));
	while (resize_from(n, size) < from) {
		node_range_unlock(n, lock);
		from = resize_from(n, size);
		node_range_lock(co, n, lock, from, UINT64_MAX / 2 - from);
	}
}

static int resize(struct co *co, struct node *n, uint64_t size, bool only_grow)
{
	struct node_range lock;
	struct node_op op;
	int err = change_begin(co, n, &op, 0, 0, 0);

	if (err != 0)
		return err;
	lock_for_resize(co, n, &lock, size);
	if (n->ops->resize == NULL)
		err = -ENOTSUP;
	else if (!only_grow || size > n->size)
		err = n->ops->resize(co, n, size);
	node_range_unlock(n, &lock);
	node_op_end(n, &op);
	return err;
}

int node_resize(struct co *co, struct node *n, uint64_t size) { return resize(co, n, size, false); }
int node_reach(struct co *co, struct node *n, uint64_t size) { return resize(co, n, size, true); }
