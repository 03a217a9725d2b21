/* SPDX-License-Identifier: MIT */
/*
 * Reading a format: each run of the request is read from where it lies. No lock is taken; the epoch of the layer is held
 * from before the mapping is asked until the data is there.
 */
#include "node/impl.h"

#include <errno.h>

#include "base/math.h"

/* A layer may have data in its last cluster beyond the end of a file that reads zeros there. */
static int read_child(struct co *co, struct node *layer, uint64_t off, struct iov to)
{
	struct node *file = layer->data;
	uint64_t there = off < file->size ? MIN(to.len, file->size - off) : 0;

	node_event(co, layer->file, NODE_EVENT_READ_AIO);

	if (there < to.len) {
		if (!file->grows_zeroed)
			return -EIO;
		iov_fill(iov_slice(to, there, to.len - there), 0);
	}
	return there > 0 ? node_storage_read(co, file, off, iov_slice(to, 0, there)) : 0;
}

/* n: whose request it is. */
static int read_run(struct co *co, struct node *n, struct node_run *run, uint64_t off, struct iov to)
{
	struct node *layer = run->layer;
	int err = 0;

	if (run->depth > 0)
		node_event(co, n->file, NODE_EVENT_READ_BACKING_AIO);

	switch (run->at.kind) {
	case NODE_UNALLOCATED:
	case NODE_ZERO: iov_fill(to, 0); break;
	case NODE_DATA:
		if (node_is_storage(layer))
			err = node_storage_read(co, layer, run->at.host.off, to);
		else
			err = read_child(co, layer, run->at.host.off, to);
		break;
	case NODE_ENCODED: err = layer->ops->decode(co, layer, &run->at, (struct guest){off}, to); break;
	}
	node_run_leave(run);
	return err;
}

static void read_piece(struct co *co, void *arg)
{
	struct node_piece *piece = arg;

	node_piece_end(piece, read_run(co, piece->n, &piece->run, piece->off, piece->iov));
}

static bool needs_io(const struct node_run *run) { return run->at.kind == NODE_DATA || run->at.kind == NODE_ENCODED; }

/* The pieces of [off, ...) side by side; what needs no I/O, and the last one, in the caller. */
static int read_many(struct co *co, struct node *n, uint64_t off, struct iov to)
{
	struct node_pieces set;

	node_pieces_init(&set, n);
	while (to.len > 0 && set.err == 0) {
		struct node_piece *piece = node_piece_get(co, &set);
		int err = node_run_find(co, n, off, to.len, true, &piece->run);
		uint64_t len;

		if (err != 0) {
			node_piece_end(piece, err);
			break;
		}
		len = piece->run.at.len;
		piece->n = n;
		piece->off = off;
		piece->iov = iov_slice(to, 0, len);
		off += len;
		to = iov_slice(to, len, to.len - len);
		if (to.len == 0 || !needs_io(&piece->run) || !node_piece_start(piece, "node read", read_piece))
			read_piece(co, piece);
	}
	return node_pieces_wait(co, &set);
}

int node_layers_read(struct co *co, struct node *n, uint64_t off, struct iov to)
{
	struct node_run run;
	int err = node_run_find(co, n, off, to.len, true, &run);

	if (err != 0)
		return err;
	if (run.at.len == to.len)
		return read_run(co, n, &run, off, to);
	node_run_leave(&run);
	return read_many(co, n, off, to);
}
