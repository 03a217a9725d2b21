/* SPDX-License-Identifier: MIT */
/* Life of a node: it is made by its driver, and closed together with what it owns. */
#include "node/impl.h"

#include <assert.h>

#include "base/math.h"
#include "node/buffer.h"
#include "node/skip.h"

int node_init(struct node *n, struct co_sched *sched)
{
	assert(is_power_of_two(n->align) && is_power_of_two(n->mem_align) && is_power_of_two(n->cluster));
	assert(node_is_storage(n) || (n->cluster >= NODE_SECTOR && n->file != NULL && node_is_storage(n->file)));
	assert(n->data == NULL || node_is_storage(n->data));
	assert(n->subcluster == 0 || (is_power_of_two(n->subcluster) && n->subcluster >= NODE_SECTOR));

	if (n->data == NULL)
		n->data = n->file;
	if (n->subcluster == 0)
		n->subcluster = n->cluster;
	n->sched = sched;
	n->skips = NULL;
	n->failed = 0;
	n->failure_told = false;
	list_init(&n->ranges);
	list_init(&n->ops_running);
	n->next_epoch = 0;
	n->changes = n->changes_written = 0;
	n->changing = 0;
	n->requests = 0;
	n->drains = 0;
	co_queue_init(&n->drained);
	co_queue_init(&n->resumed);
	return node_buffers_new(&n->buffers);
}

void node_fini(struct node *n)
{
	assert(list_empty(&n->ranges) && list_empty(&n->ops_running));
	assert(co_queue_empty(&n->drained) && co_queue_empty(&n->resumed));

	node_buffers_free(n->buffers);
	n->buffers = NULL;
	node_skips_free(n->skips);
	n->skips = NULL;
}

/* The drain is never ended: nobody may come any more. */
static int close_one(struct co *co, struct node *n)
{
	int drained = node_drain_begin(co, n);
	int closed = n->ops->close(co, n);

	return drained != 0 ? drained : closed;
}

/* What is to be closed next hangs on the end of the backing chain, as nobody reads through it any more. */
static struct node *close_after(struct node *first, struct node *then)
{
	struct node *last = first;

	if (first == NULL)
		return then;
	while (last->backing != NULL)
		last = last->backing;
	last->backing = then;
	return first;
}

/* A loop, since a chain may be deeper than a stack would allow. */
int node_close(struct co *co, struct node *n)
{
	int first_err = 0;

	while (n != NULL) {
		struct node *data = n->data != n->file ? n->data : NULL;
		struct node *next = close_after(data, close_after(n->file, n->backing));
		int err = close_one(co, n);

		if (first_err == 0)
			first_err = err;
		n = next;
	}
	return first_err;
}
