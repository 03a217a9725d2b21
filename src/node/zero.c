/* SPDX-License-Identifier: MIT */
/*
 * Zeroing and discarding. Whole units (the subclusters of a format, the blocks of storage) are unmapped; the edges that cover
 * only a part of one are written as zeros, unless they are zero already.
 *
 *       | unit | unit | unit | unit | unit |
 *           ^off                   ^end
 *              ^first        ^last
 *
 * The last unit of a disk is whole even if the disk ends inside of it. The clusters that units lie in are locked. Where the
 * disk has grown in the meantime, that unit is whole no longer: it is looked at again.
 */
#include "node/impl.h"

#include <errno.h>

#include "base/math.h"

#define ZERO_BYTES 65536u
#define ZERO_TIMES 16u
#define ZERO_WRITE_BYTES ((uint64_t)ZERO_BYTES * ZERO_TIMES)

static const _Alignas(4096) char zeros[ZERO_BYTES];
static const struct iovec zeros_v[ZERO_TIMES] = {[0 ... ZERO_TIMES - 1] = {(void *)zeros, sizeof(zeros)}};

struct units {
	uint64_t off, end;
	uint64_t first, last; /* the whole ones: none if first >= last */
	uint64_t disk;        /* its size */
};

static struct units split(const struct node *n, uint64_t off, uint64_t len)
{
	uint64_t unit = node_is_storage(n) ? n->align : n->subcluster;
	struct units u = {.off = off, .end = off + len, .disk = n->size};

	u.first = align_up(off, unit);
	u.last = align_down(u.end, unit);
	if (!node_is_storage(n) && u.end >= n->size)
		u.last = align_up(u.end, unit);
	return u;
}

static int write_zeros(struct co *co, struct node *n, uint64_t off, uint64_t len)
{
	int err = 0;

	while (len > 0 && err == 0) {
		uint64_t now = MIN(len, ZERO_WRITE_BYTES);
		struct iov from = iov_slice(iov_of(zeros_v, ZERO_TIMES), 0, now);

		err = node_is_storage(n) ? node_pad_write(co, n, off, from, 0) : node_layers_write(co, n, off, from);
		off += now;
		len -= now;
	}
	return err;
}

static int zero_edge(struct co *co, struct node *n, uint64_t off, uint64_t end)
{
	bool zero = false;
	int err = 0;

	if (off >= end)
		return 0;
	if (!node_is_storage(n))
		err = node_known_zero(co, n, off, end - off, &zero);
	return err != 0 || zero ? err : write_zeros(co, n, off, end - off);
}

static int zero_edges(struct co *co, struct node *n, const struct units *u)
{
	int err;

	if (u->first >= u->last)
		return zero_edge(co, n, u->off, u->end);
	err = zero_edge(co, n, u->off, u->first);
	return err != 0 ? err : zero_edge(co, n, u->last, u->end);
}

static int zero_storage(struct co *co, struct node *n, uint64_t off, uint64_t len, enum node_unmap how, unsigned flags)
{
	const struct node_ops *ops = n->ops;

	if (how == NODE_UNMAP_DISCARD)
		return ops->discard != NULL ? ops->discard(co, n, off, len) : -ENOTSUP;
	node_event(co, n, NODE_EVENT_PWRITEV_ZERO);
	return ops->zero != NULL ? ops->zero(co, n, off, len, flags) : -ENOTSUP;
}

static int unmap_format(struct co *co, struct node *n, uint64_t off, uint64_t len, enum node_unmap how)
{
	int err;

	node_mapping_begin(n);
	err = n->ops->unmap(co, n, (struct guest){off}, len, how);
	node_mapping_end(n);
	if (MUTANT(122))
		n->changes--;
	return err;
}

/* Whole units, alone in them. The disk may have another size when our turn comes: -EAGAIN, they may not be whole any more. */
static int unmap_locked(
	struct co *co, struct node *n, uint64_t off, uint64_t len, uint64_t disk, enum node_unmap how, unsigned flags)
{
	uint64_t unit = node_is_storage(n) ? n->align : n->cluster;
	struct node_range lock;
	int err;

	node_blocks_lock(co, n, &lock, off, MUTANT(5) && how == NODE_UNMAP_DISCARD ? 0 : len, MAX(unit, NODE_SECTOR));
	if (off + len > align_up(n->size, unit))
		err = -ENOSPC;
	else if (off + len > disk && n->size > disk && !node_is_storage(n) && !MUTANT(100))
		err = -EAGAIN;
	else if (node_is_storage(n))
		err = zero_storage(co, n, off, len, how, flags);
	else
		err = unmap_format(co, n, off, len, how);
	node_range_unlock(n, &lock);
	return err;
}

/* The whole units from u->first on, which is moved past what is done. A format does a bounded number at a time. */
static int unmap_units(struct co *co, struct node *n, struct units *u, enum node_unmap how, unsigned flags)
{
	uint64_t step = node_is_storage(n) ? UINT64_MAX : (uint64_t)NODE_UNMAP_CLUSTERS * n->cluster;

	while (u->first < u->last) {
		uint64_t len = MIN(u->last - u->first, step - u->first % step);
		int err = unmap_locked(co, n, u->first, len, u->disk, how, flags);

		if (err != 0)
			return err;
		u->first += len;
	}
	return 0;
}

int node_zero_inside(struct co *co, struct node *n, uint64_t off, uint64_t len, unsigned flags)
{
	enum node_unmap how = flags & NODE_MAY_UNMAP ? NODE_UNMAP_FREE : NODE_UNMAP_KEEP;
	struct units u, left;
	int err;

	do {
		u = left = split(n, off, len);
		err = unmap_units(co, n, &left, how, flags & (NODE_MAY_UNMAP | NODE_NO_FALLBACK));
	} while (err == -EAGAIN && n->size != u.disk);
	if (err == -ENOTSUP && (flags & NODE_NO_FALLBACK) == 0)
		err = write_zeros(co, n, left.first, MIN(left.last, left.end) - left.first);
	return err != 0 ? err : zero_edges(co, n, &u);
}

/* Where there is no whole unit, it is still asked whether the format could: what it can't do is left alone everywhere. */
int node_discard_inside(struct co *co, struct node *n, uint64_t off, uint64_t len)
{
	struct units u, left;
	int err;

	do {
		u = split(n, off, len);
		if (MUTANT(16) && !node_is_storage(n) && u.first >= u.last)
			u = split(n, align_down(off, n->cluster), n->cluster);
		left = u;
		err = unmap_units(co, n, &left, NODE_UNMAP_DISCARD, 0);
	} while (err == -EAGAIN && n->size != u.disk);
	if (u.first >= u.last)
		err = unmap_locked(
			co, n, align_down(off, MAX(n->cluster, n->align)), 0, n->size, NODE_UNMAP_DISCARD, 0);
	if (err == -ENOTSUP || (MUTANT(50) && err != 0))
		return 0;
	return err != 0 ? err : zero_edges(co, n, &u);
}

int node_forget_inside(struct co *co, struct node *n)
{
	struct units u = {.disk = n->size, .last = align_up(n->size, n->cluster)};

	return node_is_storage(n) ? -ENOTSUP : unmap_units(co, n, &u, NODE_UNMAP_FORGET, 0);
}
