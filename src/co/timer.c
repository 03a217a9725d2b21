/* SPDX-License-Identifier: MIT */
/* The heap of deadlines: heap[i] is not after heap[2i + 1] and heap[2i + 2], and each timer knows its place. */
#include "co/timer.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>

int co_timers_init(struct co_timers *t, unsigned max)
{
	*t = (struct co_timers){.max = max, .heap = malloc(max * sizeof(*t->heap))};
	return t->heap ? 0 : -ENOMEM;
}

void co_timers_fini(struct co_timers *t)
{
	assert(t->n == 0);
	free(t->heap);
}

static bool entry_before(const struct co_timer_entry *a, const struct co_timer_entry *b)
{
	if (a->deadline_ns != b->deadline_ns)
		return a->deadline_ns < b->deadline_ns;
	return a->serial < b->serial;
}

static void entry_put(struct co_timers *t, unsigned at, struct co_timer_entry entry)
{
	t->heap[at] = entry;
	entry.timer->at = at;
}

/* Puts an entry into the hole at `at`, or above it. */
static void sift_up(struct co_timers *t, unsigned at, struct co_timer_entry entry)
{
	while (at > 0) {
		unsigned parent = (at - 1) / 2;

		if (!entry_before(&entry, &t->heap[parent]))
			break;
		entry_put(t, at, t->heap[parent]);
		at = parent;
	}
	entry_put(t, at, entry);
}

/* Moves the hole at `at` down to the bottom, then the entry up from there: what came last in the array is seldom early. */
static void sift_down(struct co_timers *t, unsigned at, struct co_timer_entry entry)
{
	unsigned child;

	while ((child = 2 * at + 1) < t->n) {
		if (child + 1 < t->n && entry_before(&t->heap[child + 1], &t->heap[child]))
			child++;
		entry_put(t, at, t->heap[child]);
		at = child;
	}
	sift_up(t, at, entry);
}

void co_timers_arm(struct co_timers *t, struct co_timer *timer, uint64_t deadline_ns)
{
	assert(!co_timer_armed(timer) && t->n < t->max);
	sift_up(t, t->n++, (struct co_timer_entry){deadline_ns, t->next_serial++, timer});
}

void co_timers_disarm(struct co_timers *t, struct co_timer *timer)
{
	unsigned at = timer->at;

	assert(at < t->n && t->heap[at].timer == timer);
	timer->at = CO_TIMER_OFF;
	if (at != --t->n)
		sift_down(t, at, t->heap[t->n]);
}

struct co_timer *co_timers_expire(struct co_timers *t, uint64_t now_ns)
{
	struct co_timer *first;

	if (co_timers_next(t) > now_ns || t->n == 0)
		return NULL;
	first = t->heap[0].timer;
	co_timers_disarm(t, first);
	return first;
}
