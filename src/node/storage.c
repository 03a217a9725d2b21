/* SPDX-License-Identifier: MIT */
/* Requests to storage nodes and filters: bounds, and the epoch that a drain waits for. */
#include "node/impl.h"

#include <errno.h>

#include "base/math.h"

/* Storage that must be accessed in blocks may be so in its last one, even if its size ends inside of it. */
bool node_is_inside(const struct node *n, uint64_t off, uint64_t len)
{
	uint64_t end;

	return !add_overflows(off, len, &end) && end <= align_up(n->size, n->align);
}

int node_storage_read(struct co *co, struct node *n, uint64_t off, struct iov to)
{
	struct node_op op;
	int err = -EINVAL;

	node_op_begin(co, n, &op);
	if (node_is_lost(n))
		err = -EIO;
	else if (node_is_inside(n, off, to.len))
		err = to.len > 0 ? node_pad_read(co, n, off, to) : 0;
	node_op_end(n, &op);
	return err;
}

static int write_inside(struct co *co, struct node *n, uint64_t off, struct iov from, unsigned flags)
{
	if (n->read_only)
		return -EROFS;
	if (n->failed != 0)
		return n->failed;
	if (!node_is_inside(n, off, from.len))
		return -ENOSPC;
	return from.len > 0 ? node_pad_write(co, n, off, from, flags) : 0;
}

int node_storage_write(struct co *co, struct node *n, uint64_t off, struct iov from, unsigned flags)
{
	struct node_op op;
	int err;

	node_op_begin(co, n, &op);
	err = write_inside(co, n, off, from, flags);
	node_op_end(n, &op);
	return err;
}

int node_data_write(struct co *co, struct node *n, uint64_t host, struct iov from)
{
	int err = n->ops->overwriting != NULL ? n->ops->overwriting(co, n, host, from.len) : 0;

	return err != 0 ? err : node_storage_write(co, n->data, host, from, 0);
}

static int copy_inside(struct co *co, struct node *n, uint64_t off, struct node *from, uint64_t from_off, uint64_t len)
{
	if (n->read_only)
		return -EROFS;
	if (n->failed != 0)
		return n->failed;
	if (!node_is_inside(n, off, len))
		return -ENOSPC;
	return n->ops->copy(co, n, off, from, from_off, len);
}

/* Storage that is accessed in blocks goes without. */
int node_copy(struct co *co, struct node *n, uint64_t off, struct node *from, uint64_t from_off, uint64_t len)
{
	struct node_op op, from_op;
	int err;

	if (!node_is_storage(n) || !n->ops->copy || n->align > 1 || from->align > 1)
		return -ENOTSUP;
	node_op_begin(co, n, &op);
	node_op_begin(co, from, &from_op);
	err = node_is_inside(from, from_off, len) ? copy_inside(co, n, off, from, from_off, len) : -EINVAL;
	node_op_end(from, &from_op);
	node_op_end(n, &op);
	return err;
}
