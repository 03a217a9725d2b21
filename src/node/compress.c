/* SPDX-License-Identifier: MIT */
/*
 * Writing clusters compressed: each one as a piece of the request, so that several are compressed side by side. The format
 * compresses and stores it, under the range lock of the cluster; what doesn't get smaller is written as any other data.
 */
#include "node/impl.h"

#include <errno.h>

#include "base/math.h"

static int compress_locked(struct co *co, struct node *n, uint64_t off, struct iov from, bool *stored)
{
	struct node_range lock;
	int err = -ENOSPC; /* the disk has shrunk while we waited */

	node_blocks_lock(co, n, &lock, off, from.len, n->cluster);
	node_mapping_begin(n);
	if (off + from.len <= n->size && (is_aligned(from.len, n->cluster) || off + from.len == n->size))
		err = n->ops->compress(co, n, (struct guest){off}, from, stored);
	node_mapping_end(n);
	node_range_unlock(n, &lock);
	return err;
}

static void compress_piece(struct co *co, void *arg)
{
	struct node_piece *piece = arg;
	bool stored = false;
	int err = compress_locked(co, piece->n, piece->off, piece->iov, &stored);

	if (err == 0 && !stored)
		err = node_layers_write(co, piece->n, piece->off, piece->iov);
	node_piece_end(piece, err);
}

int node_compress_inside(struct co *co, struct node *n, uint64_t off, struct iov from)
{
	struct node_pieces set;

	if (!is_aligned(off, n->cluster) || (!is_aligned(from.len, n->cluster) && off + from.len != n->size))
		return -EINVAL;
	node_pieces_init(&set, n);
	while (from.len > 0 && set.err == 0) {
		uint64_t len = MIN(from.len, n->cluster);
		struct node_piece *piece = node_piece_get(co, &set);

		piece->n = n;
		piece->off = off;
		piece->iov = iov_slice(from, 0, len);
		off += len;
		from = iov_slice(from, len, from.len - len);
		if (from.len == 0 || !node_piece_start(piece, "node compress", compress_piece))
			compress_piece(co, piece);
	}
	return node_pieces_wait(co, &set);
}
