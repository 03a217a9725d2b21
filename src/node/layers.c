/* SPDX-License-Identifier: MIT */
/*
 * Where a stretch of a disk lies, down the backing chain: a loop over the layers, each asked for as much as the ones above
 * it leave open. While a layer other than the request's own is asked, and as long as its answer is used, an epoch of it is
 * held, so that the space it names is not given to others.
 */
#include "node/impl.h"

#include <assert.h>
#include <errno.h>

#include "base/math.h"
#include "node/skip.h"

void node_run_leave(struct node_run *run)
{
	if (run->entered)
		node_op_end(run->layer, &run->op);
	run->entered = false;
}

/* The layer may have become shorter while it was asked: what it then says of what lies behind its end means nothing. */
static void cut_answer(struct node_run *run, uint64_t off, uint64_t len)
{
	struct node *layer = run->layer;

	if (off >= layer->size) {
		run->beyond = true;
		run->at = (struct node_extent){.kind = NODE_UNALLOCATED, .len = len};
	} else if (!MUTANT(45)) {
		run->at.len = MIN(run->at.len, layer->size - off);
	}
}

/* Asks one layer. Storage isn't asked: all of it is data, at the same address. */
static int ask_layer(struct co *co, struct node *n, uint64_t off, uint64_t len, struct node_run *run)
{
	struct node *layer = run->layer;
	int err = 0;

	run->entered = layer != n && !node_is_storage(layer);
	if (run->entered)
		node_op_begin(co, layer, &run->op);
	run->at =
		(struct node_extent){.kind = NODE_DATA, .in_place = true, .has_host = true, .host = {off}, .len = len};
	if (node_is_lost(layer))
		err = -EIO;
	else if (!node_is_storage(layer) && off < layer->size)
		err = layer->ops->map(
			co, layer, (struct guest){off}, MUTANT(45) ? len : MIN(len, layer->size - off), &run->at);
	assert(err != 0 || (run->at.len > 0 && run->at.len <= len));
	if (err == 0)
		cut_answer(run, off, len);
	return err;
}

/* On from a layer that has nothing there, past those that are known to have nothing either. */
static void layer_next(struct node_run *run, struct node_skip *skip, uint64_t off, uint64_t len, struct node *next)
{
	unsigned before = skip->layers;

	run->layer = node_skip_begin(skip, next, off, len);
	run->depth += skip->layers - before;
}

int node_run_find(struct co *co, struct node *n, uint64_t off, uint64_t len, bool follow, struct node_run *run)
{
	struct node_skip skip = {0};
	int err;

	run->depth = 0;
	run->beyond = false;
	run->layer = n;
	while ((err = ask_layer(co, n, off, len, run)) == 0) {
		if (run->at.kind != NODE_UNALLOCATED || run->beyond || !follow || run->layer->backing == NULL) {
			node_skip_end(&skip);
			return 0;
		}
		node_run_leave(run);
		len = run->at.len;
		node_skip_over(&skip, run->layer);
		run->depth++;
		layer_next(run, &skip, off, len, run->layer->backing);
	}
	node_run_leave(run);
	return err;
}

int node_known_zero(struct co *co, struct node *n, uint64_t off, uint64_t len, bool *zero)
{
	*zero = true;
	while (len > 0 && *zero) {
		struct node_run run;
		int err = node_run_find(co, n, off, len, true, &run);

		if (err != 0)
			return err;
		node_run_leave(&run);
		*zero = run.at.kind == NODE_ZERO || run.at.kind == NODE_UNALLOCATED;
		off += run.at.len;
		len -= run.at.len;
	}
	return 0;
}
