/* SPDX-License-Identifier: MIT */
/*
 * Writing to a format. A piece of a request is done either
 *
 *   in place      the exact bytes are locked, are mapped to data that may change where it lies, and are written there
 *   allocating    whole clusters are locked; the mapping is asked again, as somebody may have come first; space is
 *                 reserved, filled (fill.c) and published
 *
 * Content reaches the space before publish, never after: the order of these on disk is the format's to keep.
 */
#include "node/impl.h"

#include <assert.h>
#include <errno.h>

#include "base/math.h"

static uint64_t piece_bytes(const struct node *n) { return MAX(NODE_PIECE_BYTES, n->cluster); }

/* The disk may have shrunk while we waited for the lock. */
static bool is_outside(const struct node *n, uint64_t off, uint64_t len) { return off + len > n->size; }

static int map(struct co *co, struct node *n, uint64_t off, uint64_t len, struct node_extent *out)
{
	int err;

	if (is_outside(n, off, len))
		return -ENOSPC;
	err = n->ops->map(co, n, (struct guest){off}, len, out);
	assert(err != 0 || (out->len > 0 && out->len <= len));
	return err;
}

static bool is_in_place(const struct node_extent *at) { return at->kind == NODE_DATA && at->in_place; }

/* Another program may have left it shorter than the last cluster that it maps. */
static int write_mapped(struct co *co, struct node *n, const struct node_extent *at, struct iov from)
{
	uint64_t end = at->host.off + from.len;
	int err = end > n->data->size ? node_reach(co, n->data, end) : 0;

	if (err != 0)
		return err;
	node_event(co, n->file, NODE_EVENT_WRITE_AIO);
	return node_data_write(co, n, at->host.off, from);
}

/* Writes what of it is in place from its start on, if that is `least` bytes or more. *at is what was found. */
static int write_in_place(struct co *co, struct node *n, uint64_t off, struct iov from, size_t least, size_t *done,
	struct node_extent *at)
{
	struct node_range lock;
	int err;

	*done = 0;
	node_blocks_lock(co, n, &lock, off, from.len, NODE_SECTOR);
	err = map(co, n, off, from.len, at);
	if (err == 0 && is_in_place(at) && at->len >= least) {
		*done = at->len;
		err = write_mapped(co, n, at, iov_slice(from, 0, at->len));
	}
	node_range_unlock(n, &lock);
	return err;
}

/* Some of what was asked for, from its first subcluster on, and maybe more of its clusters. */
static bool is_reserved(const struct node *n, const struct node_reservation *res, uint64_t first, uint64_t len)
{
	uint64_t end = res->guest.off + res->len;

	return is_aligned(res->guest.off, n->subcluster) && is_aligned(res->len, n->subcluster) &&
		res->guest.off <= first && end > first && res->guest.off >= align_down(first, n->cluster) &&
		end <= align_up(first + len, n->cluster);
}

/* Reserves, fills, publishes. The clusters of [off, off + run) are locked, and not in place. */
static int write_reserved(struct co *co, struct node *n, struct node_range *lock, uint64_t off, struct iov from,
	uint64_t run, size_t *done)
{
	uint64_t first = align_down(off, n->subcluster);
	uint64_t len = align_up(off + run, n->subcluster) - first + (MUTANT(32) ? n->cluster : 0);
	struct node_reservation res;
	int err = n->ops->reserve(co, n, (struct guest){first}, len, &res);

	if (err != 0)
		return err;
	assert(is_reserved(n, &res, first, len));
	*done = MIN(from.len, res.guest.off + res.len - off);
	err = node_fill(co, n, &res, off, iov_slice(from, 0, *done));
	if (MUTANT(13))
		err = 0;
	if (MUTANT(19)) {
		node_range_unlock(n, lock);
		node_range_lock(co, n, lock, off, 0);
		co_yield(co);
	}
	if (err == 0) {
		node_mapping_begin(n);
		err = n->ops->publish(co, n, &res);
		node_mapping_end(n);
	}
	if (err != 0)
		n->ops->cancel(co, n, &res);
	if (MUTANT(39) && err != 0)
		n->ops->cancel(co, n, &res);
	return err;
}

/* Writes some of it, at least a byte. */
static int write_allocating(struct co *co, struct node *n, uint64_t off, struct iov from, size_t *done)
{
	uint64_t most = align_down(off, n->cluster) + piece_bytes(n) - off;
	struct node_range lock;
	struct node_extent at;
	int err;

	from = iov_slice(from, 0, MIN(from.len, most));
	node_blocks_lock(co, n, &lock, off, from.len, MUTANT(6) ? NODE_SECTOR : n->cluster);
	err = map(co, n, off, from.len, &at);
	if (err == 0 && is_in_place(&at)) {
		*done = at.len;
		err = write_mapped(co, n, &at, iov_slice(from, 0, at.len));
	} else if (err == 0) {
		err = write_reserved(co, n, &lock, off, from, at.len, done);
	}
	node_range_unlock(n, &lock);
	return err;
}

static int write_all(struct co *co, struct node *n, uint64_t off, struct iov from)
{
	while (from.len > 0) {
		struct node_extent at;
		size_t done;
		int err = write_in_place(co, n, off, from, 1, &done, &at);

		if (err == 0 && done == 0)
			err = write_allocating(co, n, off, from, &done);
		if (err != 0)
			return err;
		off += done;
		from = iov_slice(from, done, from.len - done);
	}
	return 0;
}

static void write_piece(struct co *co, void *arg)
{
	struct node_piece *piece = arg;

	node_piece_end(piece, write_all(co, piece->n, piece->off, piece->iov));
}

/* How much of [off, off + len) to take on in one go, going by what the mapping was a moment ago. */
static uint64_t piece_len(const struct node *n, const struct node_extent *at, uint64_t off, uint64_t len)
{
	uint64_t run = MIN(at->len, len);

	return is_in_place(at) ? run : MIN(run, align_down(off + piece_bytes(n), n->cluster) - off);
}

/* at: the mapping at off. */
static int write_many(struct co *co, struct node *n, uint64_t off, struct iov from, struct node_extent *at)
{
	struct node_pieces set;
	int err = 0;

	node_pieces_init(&set, n);
	while (from.len > 0 && err == 0 && set.err == 0) {
		uint64_t len = piece_len(n, at, off, from.len);
		struct node_piece *piece = node_piece_get(co, &set);

		piece->n = n;
		piece->off = off;
		piece->iov = iov_slice(from, 0, len);
		off += len;
		from = iov_slice(from, len, from.len - len);
		if (from.len == 0 || !node_piece_start(piece, "node write", write_piece))
			write_piece(co, piece);
		if (from.len > 0)
			err = map(co, n, off, from.len, at);
	}
	return node_pieces_wait(co, &set) != 0 ? set.err : err;
}

int node_layers_write(struct co *co, struct node *n, uint64_t off, struct iov from)
{
	struct node_extent at;
	size_t done;
	int err = write_in_place(co, n, off, from, from.len, &done, &at);

	if (err != 0 || done > 0)
		return err;
	if (is_in_place(&at) || piece_len(n, &at, off, from.len) < from.len)
		return write_many(co, n, off, from, &at);
	err = write_allocating(co, n, off, from, &done);
	return err != 0 || MUTANT(53) ? err : write_all(co, n, off + done, iov_slice(from, done, from.len - done));
}
