/* SPDX-License-Identifier: MIT */
/*
 * Range locks. n->ranges has all of them, held and waited for, in order of arrival; each counts the earlier ones that
 * overlap it, and is held when there are none. So nobody is overtaken by one that overlaps it, and as a coroutine holds
 * one at a time, whoever waits waits for an earlier one: no circle.
 */
#include "node/impl.h"

#include <assert.h>

#include "base/math.h"

static struct node_range *range_of(struct list *l) { return list_entry(l, struct node_range, link); }

static bool overlap(const struct node_range *a, const struct node_range *b)
{
	return ranges_overlap(a->off, a->len, b->off, b->len);
}

void node_range_lock(struct co *co, struct node *n, struct node_range *r, uint64_t off, uint64_t len)
{
	*r = (struct node_range){.off = off, .len = len};
	co_queue_init(&r->granted);
	list_for_each(it, &n->ranges)
		r->blockers += overlap(range_of(it), r);
	list_push(&n->ranges, &r->link);
	while (r->blockers > 0)
		co_queue_wait(co, &r->granted);
	if (buggify("range-yield"))
		co_yield(co);
}

void node_range_unlock(struct node *n, struct node_range *r)
{
	assert(r->blockers == 0);
	for (struct list *it = r->link.next; it != &n->ranges; it = it->next) {
		struct node_range *later = range_of(it);

		if (overlap(r, later) && --later->blockers == 0)
			co_queue_wake_one(&later->granted);
	}
	list_remove(&r->link);
}
