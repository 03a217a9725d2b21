/* SPDX-License-Identifier: MIT */
/*
 * The scheduler: a ring of what is runnable, a heap of deadlines, and a loop that goes from one to the other and to the
 * host. A coroutine that suspends itself always switches to the loop, and only the loop switches to a coroutine.
 *
 * A coroutine is in the ring at most once (co_ready asserts it), so that the ring, as large as the limit on coroutines,
 * can't overflow; and it has at most one timer, so neither can the heap. The data path allocates nothing.
 */
#include "co/sched.h"

#include <assert.h>
#include <stdlib.h>

#include "base/math.h"
#include "co/overflow.h"

/* Room for a signal frame with wide registers and some of our own. */
#define STACK_BYTES_MIN (16 << 10)

/* ---- life ---- */

static unsigned ring_size(unsigned stacks)
{
	unsigned size = 1;

	while (size < stacks)
		size *= 2;
	return size;
}

static int sched_init(struct co_sched *s, size_t stack_bytes, unsigned stacks)
{
	int rc;

	s->ring_mask = ring_size(stacks) - 1;
	s->ring = malloc((s->ring_mask + (size_t)1) * sizeof(struct co *));
	if (!s->ring)
		return -1;
	rc = co_timers_init(&s->timers, stacks);
	if (rc == 0)
		rc = co_stack_pool_init(&s->pool, MAX(stack_bytes, (size_t)STACK_BYTES_MIN), stacks, sizeof(struct co));
	if (rc != 0) {
		free(s->timers.heap);
		free(s->ring);
	}
	return rc;
}

struct co_sched *co_sched_new(struct co_host *host, const struct co_limits *limits)
{
	struct co_sched *s = calloc(1, sizeof(*s));
	struct co_limits l = limits ? *limits : (struct co_limits){0};

	if (!s)
		return NULL;
	s->host = host;
	if (sched_init(s, l.stack_bytes ? l.stack_bytes : CO_STACK_BYTES, l.stacks ? l.stacks : CO_STACKS) != 0) {
		free(s);
		return NULL;
	}
	co_overflow_watch(&s->pool);
	return s;
}

void co_sched_free(struct co_sched *s)
{
	if (!s)
		return;
	assert(s->alive == 0 && !s->running);
	co_overflow_unwatch(&s->pool);
	co_stack_pool_fini(&s->pool);
	co_timers_fini(&s->timers);
	free(s->ring);
	free(s);
}

unsigned co_sched_alive(const struct co_sched *s) { return s->alive; }
size_t co_sched_stack_peak(const struct co_sched *s) { return co_stack_pool_peak(&s->pool); }
struct co_sched *co_sched_of(struct co *co) { return co->sched; }
struct co_host *co_host_of(struct co *co) { return co->sched->host; }
const char *co_name(const struct co *co) { return co->stack.name; }
uint64_t co_sched_now(const struct co_sched *s) { return s->host->ops->now(s->host); }
uint64_t co_now(struct co *co) { return co_sched_now(co->sched); }

/* ---- the run queue ---- */

static inline unsigned ring_ready(const struct co_sched *s) { return s->tail - s->head; }

static inline void ring_push(struct co_sched *s, struct co *co)
{
	assert(!co->queued);
	co->queued = true;
	s->ring[s->tail++ & s->ring_mask] = co;
}

/* Brings the chosen one to the head; the others keep their order. */
static void ring_choose(struct co_sched *s, size_t chosen)
{
	struct co *co = s->ring[(s->head + chosen) & s->ring_mask];

	assert(chosen < ring_ready(s));
	for (unsigned i = s->head + (unsigned)chosen; i != s->head; i--)
		s->ring[i & s->ring_mask] = s->ring[(i - 1) & s->ring_mask];
	s->ring[s->head & s->ring_mask] = co;
}

static inline struct co *ring_pop(struct co_sched *s)
{
	struct co *co = s->ring[s->head++ & s->ring_mask];

	co->queued = false;
	return co;
}

/* ---- switching ---- */

/* From a coroutine to the loop. last: the coroutine is finished, and this does not return. */
static inline __attribute__((always_inline)) void suspend(struct co_sched *s, struct co *co, bool last)
{
	s->running = NULL;
	co_fiber_leave(&co->fiber, &s->fiber, last);
	co_context_switch(&co->context, &s->context);
	co_fiber_arrive(&co->fiber, &s->fiber);
}

/* From the loop to a coroutine, until it suspends itself. Returns s, as co_context_switch does. */
static inline __attribute__((always_inline)) struct co_sched *resume(struct co_sched *s, struct co *co)
{
	s->running = co;
	co_fiber_leave(&s->fiber, &co->fiber, false);
	s = container_of(co_context_switch(&s->context, &co->context), struct co_sched, context);
	co_fiber_arrive(&s->fiber, &co->fiber);
	if (CO_TSAN && !co->stack.name)
		co_fiber_fini(&co->fiber);
	return s;
}

/* The first and last function of each coroutine. Its stack is free before it is left: nobody takes it meanwhile. */
static void co_begin(struct co_context *self)
{
	struct co *co = container_of(self, struct co, context);
	struct co_sched *s = co->sched;

	co_fiber_arrive(&co->fiber, &s->fiber);
	co->entry(co, co->arg);
	assert(s->running == co && !co->queued);
	if (co->group)
		co_group_left(co->group);
	s->alive--;
	co_stack_give(&s->pool, &co->stack);
	suspend(s, co, true);
	__builtin_unreachable();
}

int co_spawn_into(struct co_group *group, struct co_sched *s, const char *name, co_entry *entry, void *arg)
{
	struct co_stack *stack;
	struct co *co;
	int rc = co_stack_take(&s->pool, &stack);

	if (rc)
		return rc;
	stack->name = name;
	co = container_of(stack, struct co, stack);
	co->sched = s;
	co->entry = entry;
	co->arg = arg;
	co->group = group;
	co->queued = false;
	co_timer_init(&co->timer);
	co_fiber_init(&co->fiber, stack->low, co);
	co_context_init(&co->context, stack->low, co, co_begin);
	s->alive++;
	ring_push(s, co);
	return 0;
}

int co_spawn(struct co_sched *s, const char *name, co_entry *entry, void *arg)
{
	assert(name);
	return co_spawn_into(NULL, s, name, entry, arg);
}

static inline __attribute__((always_inline)) void park(struct co *co)
{
	assert(co->sched->running == co);
	suspend(co->sched, co, false);
}

void co_park(struct co *co) { park(co); }
void co_ready(struct co *co) { ring_push(co->sched, co); }

void co_yield(struct co *co)
{
	ring_push(co->sched, co);
	park(co);
}

/* ---- time ---- */

bool co_park_until(struct co *co, struct list *wait, uint64_t deadline_ns)
{
	if (deadline_ns == CO_NEVER) {
		park(co);
		return false;
	}
	co->timed_out = false;
	co->timed_wait = wait;
	co_timers_arm(&co->sched->timers, &co->timer, deadline_ns);
	park(co);
	if (co_timer_armed(&co->timer))
		co_timers_disarm(&co->sched->timers, &co->timer);
	return co->timed_out;
}

void co_sleep_until(struct co *co, uint64_t deadline_ns)
{
	assert(deadline_ns != CO_NEVER);
	co_park_until(co, NULL, deadline_ns);
}

void co_sleep(struct co *co, uint64_t ns)
{
	uint64_t deadline;

	if (add_overflows(co_now(co), ns, &deadline))
		deadline = CO_NEVER - 1;
	co_sleep_until(co, MIN(deadline, CO_NEVER - 1));
}

/* Who was woken in this turn, before his time was up, is out of the wait queue and in the ring: the wake counts. */
static void time_up(struct co *co)
{
	if (co->timed_wait) {
		if (list_empty(co->timed_wait))
			return;
		list_remove(co->timed_wait);
	}
	co->timed_out = true;
	ring_push(co->sched, co);
}

static void fire_timers(struct co_sched *s)
{
	struct co_timer *timer;
	uint64_t now;

	if (co_timers_next(&s->timers) == CO_NEVER)
		return;
	now = s->host->ops->now(s->host);
	while ((timer = co_timers_expire(&s->timers, now)))
		time_up(container_of(timer, struct co, timer));
}

/* ---- the loop ---- */

/* What is runnable now; what becomes so meanwhile waits for its turn, so that the host is asked in between. */
static void run_ready(struct co_sched *s)
{
	size_t (*pick)(struct co_host *, size_t) = s->host->ops->pick;

	for (unsigned n = ring_ready(s); n > 0; n--) {
		if (pick)
			ring_choose(s, pick(s->host, ring_ready(s)));
		s = resume(s, ring_pop(s));
	}
}

void co_sched_watch(struct co_sched *s, struct co_turns *turns) { s->turns = turns; }

static void turn_measure(struct co_turns *turns, uint64_t ns)
{
	turns->turns++;
	turns->longest_ns = MAX(turns->longest_ns, ns);
	if (ns > turns->limit_ns)
		turns->slow(turns, ns);
}

static void turn(struct co_sched *s)
{
	struct co_turns *turns = s->turns;
	uint64_t begun = turns ? co_sched_now(s) : 0;

	run_ready(s);
	fire_timers(s);
	if (turns && turns == s->turns)
		turn_measure(turns, co_sched_now(s) - begun);
}

void co_sched_run(struct co_sched *s)
{
	stack_t signals;

	assert(!s->running);
	co_fiber_init_thread(&s->fiber);
	co_overflow_enter(&s->pool, &signals);
	while (s->alive) {
		turn(s);
		if (s->alive)
			s->host->ops->wait(s->host, ring_ready(s) ? 0 : co_timers_next(&s->timers));
	}
	co_overflow_leave(&signals);
}

int co_main(struct co_sched *s, const char *name, co_entry *entry, void *arg)
{
	int rc = co_spawn(s, name, entry, arg);

	if (rc == 0)
		co_sched_run(s);
	return rc;
}
