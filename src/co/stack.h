/* SPDX-License-Identifier: MIT */
/*
 * A pool of stacks in one mapping.
 *
 * The mapping has a slot for each stack that the limit allows, and one more for signals:
 *
 *     | guard, never accessible | stack, grows down ... | head | colour |
 *
 * The head is the memory of the owner (struct co), which begins with a struct co_stack; so starting a coroutine allocates
 * nothing. Slots become accessible in batches when the free list is empty, lowest first; a free stack that was used
 * last is taken first, as its top is still in the cache. Nothing is given back to the kernel before the end.
 */
#ifndef CORRAL_CO_STACK_H
#define CORRAL_CO_STACK_H

#include <stdbool.h>
#include <stddef.h>

#include "base/attr.h"

struct co_stack { /* the head is its own high end */
	struct co_stack *next;
	char *low;        /* the lowest byte that may be used */
	const char *name; /* of the coroutine; NULL: free */
	unsigned valgrind_id;
};

struct co_stack_pool {
	struct co_stack *free;
	char *base;
	size_t guard_bytes, slot_bytes, head_bytes;
	unsigned limit; /* stacks that there may be */
	unsigned ready; /* slots that are accessible */
};

/* stack_bytes are what a coroutine can use, less than a page more. -ENOMEM. */
int co_stack_pool_init(struct co_stack_pool *p, size_t stack_bytes, unsigned limit, size_t head_bytes) ATTR_MUST_USE;
void co_stack_pool_fini(struct co_stack_pool *p);

/* Fills the empty free list: -EAGAIN at the limit, -ENOMEM. */
int co_stack_pool_grow(struct co_stack_pool *p) ATTR_MUST_USE;

static inline int co_stack_take(struct co_stack_pool *p, struct co_stack **out)
{
	if (__builtin_expect(!p->free, 0)) {
		int rc = co_stack_pool_grow(p);

		if (rc)
			return rc;
	}
	*out = p->free;
	p->free = p->free->next;
	return 0;
}

/* The stack may go on being used until the next take. */
static inline void co_stack_give(struct co_stack_pool *p, struct co_stack *s)
{
	s->name = NULL;
	s->next = p->free;
	p->free = s;
}

size_t co_stack_pool_peak(const struct co_stack_pool *p);

/* The stack into whose guard an address points, or NULL. Only looks: a signal handler may call it. */
const struct co_stack *co_stack_of_guard(const struct co_stack_pool *p, const void *address);

/* Memory for a signal stack. */
void *co_stack_for_signals(const struct co_stack_pool *p, size_t *bytes);

#endif
