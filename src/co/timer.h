/* SPDX-License-Identifier: MIT */
/*
 * Deadlines in order: a binary heap. A timer is embedded in what waits for it; the heap's array has its full size from the
 * start, so that arming one allocates nothing. Equal deadlines come in the order in which they were armed.
 */
#ifndef CORRAL_CO_TIMER_H
#define CORRAL_CO_TIMER_H

#include <limits.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/attr.h"

#define CO_TIMER_OFF UINT_MAX

struct co_timer {
	unsigned at; /* its place in the heap, or CO_TIMER_OFF */
};

struct co_timer_entry {
	uint64_t deadline_ns;
	uint64_t serial;
	struct co_timer *timer;
};

struct co_timers {
	struct co_timer_entry *heap;
	unsigned n, max;
	uint64_t next_serial;
};

int co_timers_init(struct co_timers *t, unsigned max) ATTR_MUST_USE; /* -ENOMEM */
void co_timers_fini(struct co_timers *t);

static inline void co_timer_init(struct co_timer *timer) { timer->at = CO_TIMER_OFF; }
static inline bool co_timer_armed(const struct co_timer *timer) { return timer->at != CO_TIMER_OFF; }

void co_timers_arm(struct co_timers *t, struct co_timer *timer, uint64_t deadline_ns);
void co_timers_disarm(struct co_timers *t, struct co_timer *timer);

/* UINT64_MAX if there is none. */
static inline uint64_t co_timers_next(const struct co_timers *t) { return t->n ? t->heap[0].deadline_ns : UINT64_MAX; }

/* Takes out the first timer whose deadline is not after now; NULL if there is none. */
struct co_timer *co_timers_expire(struct co_timers *t, uint64_t now_ns);

#endif
