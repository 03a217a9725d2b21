/* SPDX-License-Identifier: MIT */
/*
 * Where coroutines of one scheduler meet. Everything is first come, first served: a lock is handed to the one that
 * waited longest, a newcomer never overtakes. Unlocking never yields, so it may stand in cleanup. All are plain structs:
 * init before use; there is nothing to free, but nobody may wait any more when the memory goes away.
 */
#ifndef CORRAL_CO_SYNC_H
#define CORRAL_CO_SYNC_H

#include "co/co.h"

struct co_queue { /* a wait queue, the base of all others */
	struct list waiters;
};
void co_queue_init(struct co_queue *q);
void co_queue_wait(struct co *co, struct co_queue *q);
/* 0, or -ETIMEDOUT if nobody woke us before the deadline. */
int co_queue_wait_until(struct co *co, struct co_queue *q, uint64_t deadline_ns) ATTR_MUST_USE;
bool co_queue_wake_one(struct co_queue *q); /* false: nobody waited */
void co_queue_wake_all(struct co_queue *q);
bool co_queue_empty(const struct co_queue *q);

struct co_mutex {
	bool locked;
	struct co_queue queue;
};
void co_mutex_init(struct co_mutex *m);
void co_mutex_lock(struct co *co, struct co_mutex *m);
bool co_mutex_try_lock(struct co_mutex *m);
void co_mutex_unlock(struct co_mutex *m);

struct co_rwlock {
	unsigned readers;
	bool writer;
	struct list waiters;
};
void co_rwlock_init(struct co_rwlock *l);
void co_rwlock_read_lock(struct co *co, struct co_rwlock *l);
void co_rwlock_read_unlock(struct co_rwlock *l);
void co_rwlock_write_lock(struct co *co, struct co_rwlock *l);
void co_rwlock_write_unlock(struct co_rwlock *l);

struct co_sem { /* counts units of anything: requests, bytes */
	uint64_t available;
	struct list waiters;
};
void co_sem_init(struct co_sem *s, uint64_t available);
void co_sem_acquire(struct co *co, struct co_sem *s, uint64_t units); /* units must be able to become available */
bool co_sem_try_acquire(struct co_sem *s, uint64_t units);
void co_sem_release(struct co_sem *s, uint64_t units);

struct co_group { /* wait for many */
	struct co_sched *sched;
	unsigned members;
	struct co_queue done;
};
void co_group_init(struct co_group *g, struct co_sched *sched);
int co_group_spawn(struct co_group *g, const char *name, co_entry *entry, void *arg) ATTR_MUST_USE; /* as co_spawn */
void co_group_wait(struct co *co, struct co_group *g); /* until every member has finished */

#endif
