/* SPDX-License-Identifier: MIT */
/*
 * Requests in flight. Each gets the next number when it enters, and the list keeps them in order of arrival: so the
 * first in the list is the oldest, and looking at it alone tells whether everybody older than a number has gone.
 */
#include "node/impl.h"

#include <assert.h>

static void enter(struct node *n, struct node_op *op, bool request)
{
	op->request = request;
	n->requests += request;
	op->epoch = n->next_epoch++;
	list_push(&n->ops_running, &op->link);
}

void node_op_join(struct node *n, struct node_op *op) { enter(n, op, false); }

void node_op_begin(struct co *co, struct node *n, struct node_op *op)
{
	while (n->drains > 0)
		co_queue_wait(co, &n->resumed);
	enter(n, op, true);
}

void node_op_end(struct node *n, struct node_op *op)
{
	list_remove(&op->link);
	if (op->request && --n->requests == 0)
		co_queue_wake_all(&n->drained);
}

uint64_t node_epoch_now(struct node *n) { return n->next_epoch; }

bool node_epoch_passed(const struct node *n, uint64_t epoch)
{
	return list_empty(&n->ops_running) || list_entry(n->ops_running.next, struct node_op, link)->epoch >= epoch;
}

int node_drain_begin(struct co *co, struct node *n)
{
	n->drains++;
	while (n->requests > 0)
		co_queue_wait(co, &n->drained);
	return MUTANT(49) ? 0 : node_flush_now(co, n);
}

void node_drain_end(struct node *n)
{
	assert(n->drains > 0);
	if (--n->drains == 0)
		co_queue_wake_all(&n->resumed);
}
