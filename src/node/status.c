/* SPDX-License-Identifier: MIT */
/* What lies where, for those who ask: block status, map, convert. Nothing of the data path rests on the answers. */
#include "node/impl.h"

#include <errno.h>

#include "base/math.h"

/* Storage may be able to tell holes from data. */
static int ask_storage(struct co *co, struct node *n, uint64_t off, struct node_run *run)
{
	struct node *layer = run->layer;
	int err;

	if (layer->ops->map == NULL)
		return 0;
	run->entered = layer != n;
	if (run->entered)
		node_op_begin(co, layer, &run->op);
	err = layer->ops->map(co, layer, (struct guest){off}, run->at.len, &run->at);
	node_run_leave(run);
	return err;
}

/* Without a backing file, or when all of the chain was asked, what nobody has reads zeros. */
static bool reads_zero(const struct node_run *run, bool follow)
{
	if (run->at.kind == NODE_UNALLOCATED)
		return follow || run->beyond || run->layer->backing == NULL;
	return run->at.kind == NODE_ZERO;
}

/* Whether what is found there, as it lies, is what the guest reads. */
static bool lies_as_it_is(const struct node_run *run)
{
	const struct node *data = run->layer->data;

	return run->at.has_host && run->at.kind != NODE_ENCODED && !(data != NULL && data->opaque);
}

static void describe(const struct node_run *run, bool follow, struct node_status *out)
{
	*out = (struct node_status){
		.len = run->at.len,
		.zero = reads_zero(run, follow),
		.allocated = run->at.kind != NODE_UNALLOCATED,
		.depth = run->depth,
		.has_host = lies_as_it_is(run),
		.holder = run->layer,
		.compressed = run->at.compressed,
	};
	if (out->has_host)
		out->host = run->at.host;
}

static int status_inside(
	struct co *co, struct node *n, uint64_t off, uint64_t len, bool follow, struct node_status *out)
{
	struct node_run run;
	int err;

	if (off >= n->size || len == 0)
		return -EINVAL;
	err = node_run_find(co, n, off, MIN(len, n->size - off), follow, &run);
	if (err != 0)
		return err;
	if (node_is_storage(run.layer) && !run.beyond)
		err = ask_storage(co, n, off, &run);
	describe(&run, follow, out);
	node_run_leave(&run);
	return err;
}

int node_status(struct co *co, struct node *n, uint64_t off, uint64_t len, bool follow, struct node_status *out)
{
	struct node_op op;
	int err;

	node_op_begin(co, n, &op);
	err = status_inside(co, n, off, len, follow, out);
	node_op_end(n, &op);
	return err;
}
