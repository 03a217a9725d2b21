/* SPDX-License-Identifier: MIT */
/*
 * Locks and wait queues: see sync.h. A waiter lies on the stack of who waits. Who unlocks gives the lock to the first
 * waiter there and then, and makes him runnable: the lock is never free while somebody waits, so nobody can overtake.
 */
#include "co/sync.h"

#include <assert.h>
#include <errno.h>

#include "base/math.h"
#include "co/sched.h"

struct waiter {
	struct list link;
	struct co *co;
	uint64_t units; /* of a semaphore */
	bool writer;    /* of an rwlock */
};

static inline struct waiter *waiter_first(const struct list *waiters)
{
	return list_first(waiters, struct waiter, link);
}

static inline void waiter_wait(struct waiter *w, struct list *waiters)
{
	list_push(waiters, &w->link);
	co_park(w->co);
}

static inline void waiter_wake(struct waiter *w)
{
	list_remove(&w->link);
	co_ready(w->co);
}

/* ---- wait queue ---- */

void co_queue_init(struct co_queue *q) { list_init(&q->waiters); }
bool co_queue_empty(const struct co_queue *q) { return list_empty(&q->waiters); }

void co_queue_wait(struct co *co, struct co_queue *q)
{
	struct waiter w = {.co = co};

	waiter_wait(&w, &q->waiters);
}

int co_queue_wait_until(struct co *co, struct co_queue *q, uint64_t deadline_ns)
{
	struct waiter w = {.co = co};

	list_push(&q->waiters, &w.link);
	return co_park_until(co, &w.link, deadline_ns) ? -ETIMEDOUT : 0;
}

bool co_queue_wake_one(struct co_queue *q)
{
	struct waiter *w = waiter_first(&q->waiters);

	if (!w)
		return false;
	waiter_wake(w);
	return true;
}

void co_queue_wake_all(struct co_queue *q)
{
	while (co_queue_wake_one(q))
		;
}

/* ---- mutex ---- */

void co_mutex_init(struct co_mutex *m)
{
	m->locked = false;
	co_queue_init(&m->queue);
}

bool co_mutex_try_lock(struct co_mutex *m)
{
	if (m->locked)
		return false;
	m->locked = true;
	return true;
}

void co_mutex_lock(struct co *co, struct co_mutex *m)
{
	if (!co_mutex_try_lock(m))
		co_queue_wait(co, &m->queue);
}

void co_mutex_unlock(struct co_mutex *m)
{
	assert(m->locked);
	if (!co_queue_wake_one(&m->queue))
		m->locked = false;
}

/* ---- readers and a writer ---- */

void co_rwlock_init(struct co_rwlock *l)
{
	*l = (struct co_rwlock){0};
	list_init(&l->waiters);
}

static bool rwlock_take(struct co_rwlock *l, bool writer)
{
	if (l->writer || (writer && l->readers))
		return false;
	if (writer)
		l->writer = true;
	else
		l->readers++;
	return true;
}

/* Lets in the first waiter, and those behind him who get along with him. */
static void rwlock_hand_over(struct co_rwlock *l)
{
	struct waiter *w;

	while ((w = waiter_first(&l->waiters)) && rwlock_take(l, w->writer))
		waiter_wake(w);
}

static void rwlock_lock(struct co *co, struct co_rwlock *l, bool writer)
{
	struct waiter w = {.co = co, .writer = writer};

	if (!list_empty(&l->waiters) || !rwlock_take(l, writer))
		waiter_wait(&w, &l->waiters);
}

void co_rwlock_read_lock(struct co *co, struct co_rwlock *l) { rwlock_lock(co, l, false); }
void co_rwlock_write_lock(struct co *co, struct co_rwlock *l) { rwlock_lock(co, l, true); }

void co_rwlock_read_unlock(struct co_rwlock *l)
{
	assert(l->readers > 0);
	l->readers--;
	rwlock_hand_over(l);
}

void co_rwlock_write_unlock(struct co_rwlock *l)
{
	assert(l->writer);
	l->writer = false;
	rwlock_hand_over(l);
}

/* ---- semaphore ---- */

void co_sem_init(struct co_sem *s, uint64_t available)
{
	s->available = available;
	list_init(&s->waiters);
}

bool co_sem_try_acquire(struct co_sem *s, uint64_t units)
{
	if (!list_empty(&s->waiters) || s->available < units)
		return false;
	s->available -= units;
	return true;
}

void co_sem_acquire(struct co *co, struct co_sem *s, uint64_t units)
{
	struct waiter w = {.co = co, .units = units};

	if (!co_sem_try_acquire(s, units))
		waiter_wait(&w, &s->waiters);
}

void co_sem_release(struct co_sem *s, uint64_t units)
{
	struct waiter *w;
	bool overflow = add_overflows(s->available, units, &s->available);

	assert(!overflow);
	while ((w = waiter_first(&s->waiters)) && w->units <= s->available) {
		s->available -= w->units;
		waiter_wake(w);
	}
}

/* ---- group ---- */

void co_group_init(struct co_group *g, struct co_sched *sched)
{
	g->sched = sched;
	g->members = 0;
	co_queue_init(&g->done);
}

int co_group_spawn(struct co_group *g, const char *name, co_entry *entry, void *arg)
{
	int rc = co_spawn_into(g, g->sched, name, entry, arg);

	if (rc == 0)
		g->members++;
	return rc;
}

void co_group_left(struct co_group *g)
{
	assert(g->members > 0);
	if (--g->members == 0)
		co_queue_wake_all(&g->done);
}

void co_group_wait(struct co *co, struct co_group *g)
{
	while (g->members > 0)
		co_queue_wait(co, &g->done);
}
