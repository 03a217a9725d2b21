/* SPDX-License-Identifier: MIT */
/* What a coroutine and a scheduler consist of. For co/ alone. */
#ifndef CORRAL_CO_SCHED_H
#define CORRAL_CO_SCHED_H

#include "co/co.h"
#include "co/fiber.h"
#include "co/stack.h"
#include "co/switch.h"
#include "co/sync.h"
#include "co/timer.h"

/* Lies at the high end of its own stack. */
struct co {
	struct co_stack stack; /* first: the pool hands this out */
	struct co_context context;
	struct co_sched *sched;
	co_entry *entry;
	void *arg;
	struct co_group *group; /* that it is a member of, or NULL */
	bool queued;            /* it is in the run queue */
	bool timed_out;         /* its timer came before anything else */
	struct co_timer timer;
	struct list *timed_wait; /* what the timer takes out of a wait queue, or NULL */
	struct co_fiber fiber;
};

struct co_sched {
	struct co_context context; /* the loop */
	struct co *running;        /* NULL: the loop itself */
	struct co **ring;          /* the run queue: entries head to tail, both modulo the size */
	unsigned ring_mask, head, tail;
	unsigned alive;
	struct co_host *host;
	struct co_turns *turns; /* NULL: they aren't measured */
	struct co_stack_pool pool;
	struct co_timers timers;
	struct co_fiber fiber;
};

int co_spawn_into(struct co_group *group, struct co_sched *sched, const char *name, co_entry *entry, void *arg)
	ATTR_MUST_USE;

/* A member has finished. */
void co_group_left(struct co_group *g);

/* Parks, but no longer than until the deadline: then `wait` is taken out of the list that it is in (unless somebody did
 * so just before, which is a co_ready on its way) and true is returned. wait may be NULL. */
bool co_park_until(struct co *co, struct list *wait, uint64_t deadline_ns);

#endif
