/* SPDX-License-Identifier: MIT */
/* Parts of one request that run side by side, a bounded number at a time, in memory of the request. */
#include "node/impl.h"

#include <assert.h>

void node_pieces_init(struct node_pieces *set, struct node *n)
{
	co_group_init(&set->group, n->sched);
	co_queue_init(&set->freed);
	set->busy = 0;
	set->err = 0;
	for (unsigned i = 0; i < NODE_PIECES; i++)
		set->slot[i].busy = false;
}

struct node_piece *node_piece_get(struct co *co, struct node_pieces *set)
{
	struct node_piece *piece = set->slot;

	while (set->busy == NODE_PIECES)
		co_queue_wait(co, &set->freed);
	while (piece->busy)
		piece++;
	assert(piece < set->slot + NODE_PIECES);
	set->busy++;
	piece->busy = true;
	piece->set = set;
	return piece;
}

void node_piece_end(struct node_piece *piece, int err)
{
	struct node_pieces *set = piece->set;

	if (set->err == 0)
		set->err = err;
	piece->busy = false;
	set->busy--;
	co_queue_wake_one(&set->freed);
}

bool node_piece_start(struct node_piece *piece, const char *name, co_entry *entry)
{
	return co_group_spawn(&piece->set->group, name, entry, piece) == 0;
}

int node_pieces_wait(struct co *co, struct node_pieces *set)
{
	co_group_wait(co, &set->group);
	return set->err;
}
