/* SPDX-License-Identifier: MIT */
/*
 * Helper threads of an engine: a pool for computing and one for system calls that block, so that neither keeps the
 * other waiting. Threads are started when there is work for them, up to the limit, and stay. What is done is announced
 * through one eventfd; everything but the work itself happens on the engine's thread.
 */
#ifndef CORRAL_IO_POOL_H
#define CORRAL_IO_POOL_H

#include <pthread.h>

#include "io/backend.h"

enum {
	IO_COMPUTERS = 4, /* threads that compute */
	IO_BLOCKERS = 8,  /* threads that block */
};

struct io_pool {
	pthread_mutex_t lock; /* guards everything down to stop */
	pthread_cond_t work;
	struct list queue, done;
	unsigned queued, idle;
	bool stop;

	unsigned limit, threads; /* the engine's thread alone, as is pending */
	unsigned pending;        /* given and not yet collected */
	int event_fd;
	void (*run)(struct list *item);      /* on a helper thread */
	void (*done_one)(struct list *item); /* on the engine's thread */
	pthread_t ids[IO_BLOCKERS];
};

struct io_helpers {
	int event_fd; /* readable when there is something to collect; eight bytes read from it reset it */
	struct io_pool computers, blockers;
};

int io_helpers_init(struct io_helpers *h) ATTR_MUST_USE;
void io_helpers_fini(struct io_helpers *h); /* nothing pending */
void io_helpers_compute(struct io_helpers *h, struct co_work *work);
void io_helpers_block(struct io_helpers *h, struct io_op *op);
bool io_helpers_pending(const struct io_helpers *h);
void io_helpers_reset(struct io_helpers *h); /* the event, when it is readable */
/* All threads end when they have finished what they have in hand; the caller waits for it. Until start nothing runs. */
void io_helpers_stop(struct io_helpers *h);
void io_helpers_start(struct io_helpers *h);
/* Completes what is done. */
void io_helpers_collect(struct io_helpers *h);

#endif
