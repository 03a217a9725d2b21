/* SPDX-License-Identifier: MIT */
/*
 * A host without a world. Its clock stands still while coroutines run and jumps to the deadline when they wait; work is
 * done at the next wait. A wait that nothing would ever end fails the test.
 */
#ifndef CORRAL_TEST_UNIT_CO_HOST_H
#define CORRAL_TEST_UNIT_CO_HOST_H

#include <assert.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "co/co.h"

struct world {
	struct co_host host;
	uint64_t now;
	unsigned waits;    /* calls of wait */
	uint64_t deadline; /* of the last one */
	struct list works;
	char log[256]; /* what coroutines wrote down */
	struct co_sched *sched;
};

static inline struct world *world_of(struct co_host *host) { return container_of(host, struct world, host); }

static inline uint64_t world_now(struct co_host *host) { return world_of(host)->now; }

static inline void world_wait(struct co_host *host, uint64_t deadline)
{
	struct world *w = world_of(host);
	bool idle = list_empty(&w->works);

	w->waits++;
	w->deadline = deadline;
	list_for_each_safe(it, &w->works) {
		struct co_work *work = list_entry(it, struct co_work, link);

		list_remove(it);
		work->fn(work->arg);
		co_work_done(work);
	}
	if (!idle)
		return;
	if (deadline == CO_NEVER)
		fail_msg("everybody waits, and nothing will ever come");
	if (deadline > w->now)
		w->now = deadline;
}

static inline void world_offload(struct co_host *host, struct co_work *work)
{
	list_push(&world_of(host)->works, &work->link);
}

static const struct co_host_ops world_ops = {.now = world_now, .wait = world_wait, .offload = world_offload};

static inline void world_init_limits(struct world *w, const struct co_host_ops *ops, const struct co_limits *limits)
{
	*w = (struct world){.host = {ops}};
	list_init(&w->works);
	w->sched = co_sched_new(&w->host, limits);
	assert_non_null(w->sched);
}

static inline void world_init(struct world *w) { world_init_limits(w, &world_ops, NULL); }

static inline void world_fini(struct world *w)
{
	assert_int_equal(co_sched_alive(w->sched), 0);
	co_sched_free(w->sched);
}

/* Appends to the log of the world that the coroutine runs in. */
static inline void note(struct co *co, const char *what)
{
	struct world *w = world_of(co_host_of(co));

	assert(strlen(w->log) + strlen(what) < sizeof(w->log));
	strcat(w->log, what);
}

/* For use within coroutines, where a failed assertion of cmocka would jump to another stack. */
static inline void must(int rc) { assert(rc == 0); }

/* arg may be a string constant, which entry does not write to. */
static inline void go(struct world *w, const char *name, co_entry *entry, const void *arg)
{
	assert_int_equal(co_spawn(w->sched, name, entry, (void *)arg), 0);
}

#endif
