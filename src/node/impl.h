/* SPDX-License-Identifier: MIT */
/*
 * What the files of this room share; nothing outside it includes this.
 *
 * From the outside in: request.c has the doors that others call, which check a request and enter it (node_op). Behind
 * them everything is done on behalf of a request that is inside already, and never enters the same node again, since a
 * drain that begins in between would then wait for us and we for it.
 */
#ifndef CORRAL_NODE_IMPL_H
#define CORRAL_NODE_IMPL_H

#include "base/math.h"
#include "base/mutant.h"
#include "node/node.h"

/* A range of bytes must not be split finer than this when writes beside each other are kept apart: two of them in one
 * sector would have no defined order on disk. */
#define NODE_SECTOR 512u

#define NODE_UNMAP_CLUSTERS 1024u /* are unmapped under one range lock */

static inline bool node_is_storage(const struct node *n) { return n->ops->read != NULL; }

/* A flush, or a durable write, has failed: nothing that comes later succeeds. */
static inline void node_fail(struct node *n, int err) { n->failed = n->failed != 0 ? n->failed : err; }

/*
 * Whether storage may have lost what was written, and reads as older than it was. What a format knows of it, in memory, then
 * doesn't agree with it any more, and space that was given out may show what its last owner left there.
 */
static inline bool node_is_lost(const struct node *n)
{
	if (MUTANT(151))
		return false;
	return node_is_storage(n) ? n->failed != 0 : n->file->failed != 0 || n->data->failed != 0;
}

/* Around whatever changes a format's mapping, which is in memory alone until a flush. */
static inline void node_mapping_begin(struct node *n) { n->changing++; }

static inline void node_mapping_end(struct node *n)
{
	n->changing--;
	n->changes++;
}

/* Locks the blocks that [off, off + len) touches; block is at least a sector. */
static inline void node_blocks_lock(
	struct co *co, struct node *n, struct node_range *r, uint64_t off, uint64_t len, uint64_t block)
{
	uint64_t first = align_down(off, block);

	node_range_lock(co, n, r, first, align_up(off + len, block) - first);
}

/* ---- request.c ---- */

/* The flush itself, for whoever is inside a request or has the node to himself. */
int node_flush_now(struct co *co, struct node *n) ATTR_MUST_USE;

/* ---- storage.c: requests to storage, as its parents make them; each enters the storage node ---- */

int node_storage_read(struct co *co, struct node *n, uint64_t off, struct iov to) ATTR_MUST_USE;
int node_storage_write(struct co *co, struct node *n, uint64_t off, struct iov from, unsigned flags) ATTR_MUST_USE;
/* What a format has in `data`, if it agrees. */
int node_data_write(struct co *co, struct node *n, uint64_t host, struct iov from) ATTR_MUST_USE;

bool node_is_inside(const struct node *n, uint64_t off, uint64_t len);

/* ---- pad.c: requests to storage of any alignment, of somebody who is inside ---- */

int node_pad_read(struct co *co, struct node *n, uint64_t off, struct iov to) ATTR_MUST_USE;
int node_pad_write(struct co *co, struct node *n, uint64_t off, struct iov from, unsigned flags) ATTR_MUST_USE;

/* ---- layers.c: where does it lie, down the backing chain? ---- */

struct node_run {              /* a stretch of a disk that is alike */
	struct node *layer;    /* who answered: the last one asked where nobody has it */
	unsigned depth;        /* of that layer */
	struct node_extent at; /* in the layer; UNALLOCATED: in no layer at all, reads zeros */
	bool beyond;           /* the layer is too short to have it */
	bool entered;          /* an epoch of the layer is held by op */
	struct node_op op;
};

/*
 * The run at off, at most len bytes. follow: through backing layers. The caller is inside n; what lies in another layer
 * holds its epoch until node_run_leave, which is owed after a success.
 */
int node_run_find(struct co *co, struct node *n, uint64_t off, uint64_t len, bool follow, struct node_run *run)
	ATTR_MUST_USE;
void node_run_leave(struct node_run *run);
/* Whether [off, off + len) is known to read zeros without looking at data. Beyond the end everything does. */
int node_known_zero(struct co *co, struct node *n, uint64_t off, uint64_t len, bool *zero) ATTR_MUST_USE;

/* ---- pieces.c: parts of one request, side by side ---- */

struct node_pieces;

struct node_piece {
	struct node_pieces *set;
	bool busy;
	struct node *n;
	uint64_t off;
	struct iov iov;
	struct node_run run; /* reads only */
};

struct node_pieces { /* on the stack of the request */
	struct co_group group;
	struct co_queue freed;
	unsigned busy;
	int err; /* the first that a piece met; no more of them should be started */
	struct node_piece slot[NODE_PIECES];
};

void node_pieces_init(struct node_pieces *set, struct node *n);
/* An unused piece, to be filled; waits for one. Whoever does it ends it. */
struct node_piece *node_piece_get(struct co *co, struct node_pieces *set);
void node_piece_end(struct node_piece *piece, int err);
/* Does it beside the caller. false: there is no coroutine to be had, and the caller does it, if more slowly. */
bool node_piece_start(struct node_piece *piece, const char *name, co_entry *entry) ATTR_MUST_USE;
int node_pieces_wait(struct co *co, struct node_pieces *set) ATTR_MUST_USE; /* for all of them; the first error */

/* ---- read.c, write.c, fill.c: formats ---- */

int node_layers_read(struct co *co, struct node *n, uint64_t off, struct iov to) ATTR_MUST_USE;
int node_layers_write(struct co *co, struct node *n, uint64_t off, struct iov from) ATTR_MUST_USE;
/* Writes from, which goes to off, and what else the reservation needs, to the reserved space. */
int node_fill(struct co *co, struct node *n, const struct node_reservation *res, uint64_t off, struct iov from)
	ATTR_MUST_USE;

/* ---- compress.c ---- */

int node_compress_inside(struct co *co, struct node *n, uint64_t off, struct iov from) ATTR_MUST_USE;

/* ---- zero.c ---- */

int node_zero_inside(struct co *co, struct node *n, uint64_t off, uint64_t len, unsigned flags) ATTR_MUST_USE;
int node_forget_inside(struct co *co, struct node *n) ATTR_MUST_USE;
int node_discard_inside(struct co *co, struct node *n, uint64_t off, uint64_t len) ATTR_MUST_USE;

#endif
