/* SPDX-License-Identifier: MIT */
/*
 * Helper threads and the two lists, of what is to be done and what is done, between them and the engine's thread. Work
 * is its threads' own from the moment it is taken until it is announced; nobody else looks at it meanwhile.
 */
#include "io/pool.h"

#include <assert.h>
#include <errno.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/math.h"
#include "io/posix.h"

/* ---- a pool ---- */

/* One wake-up is enough for all that is done until the list is collected. */
static void pool_announce(struct io_pool *p, struct list *item)
{
	uint64_t one = 1;
	bool first;

	pthread_mutex_lock(&p->lock);
	first = list_empty(&p->done);
	list_push(&p->done, item);
	pthread_mutex_unlock(&p->lock);
	if (first) {
		ssize_t n = write(p->event_fd, &one, sizeof(one));

		assert(n == (ssize_t)sizeof(one)); /* it could only block after 2^64 wake-ups */
	}
}

/* NULL: the pool is at its end. */
static struct list *pool_next(struct io_pool *p)
{
	struct list *item = NULL;

	pthread_mutex_lock(&p->lock);
	p->idle++;
	while (p->queued == 0 && !p->stop)
		pthread_cond_wait(&p->work, &p->lock);
	p->idle--;
	if (!p->stop) {
		item = p->queue.next;
		list_remove(item);
		p->queued--;
	}
	pthread_mutex_unlock(&p->lock);
	return item;
}

static void *pool_thread(void *arg)
{
	struct io_pool *p = arg;
	struct list *item;

	while ((item = pool_next(p)) != NULL) {
		p->run(item);
		pool_announce(p, item);
	}
	return NULL;
}

/* Signals are for the threads of the program; only those that a fault of the thread's own raises stay with it. */
static int thread_start(pthread_t *id, void *(*fn)(void *), void *arg)
{
	static const int own[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP, SIGABRT};
	sigset_t all, before;
	int r;

	sigfillset(&all);
	for (unsigned i = 0; i < ARRAY_ENTRIES(own); i++)
		sigdelset(&all, own[i]);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	r = pthread_create(id, NULL, fn, arg);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	return -r;
}

static void pool_grow(struct io_pool *p)
{
	if (p->threads < p->limit && thread_start(&p->ids[p->threads], pool_thread, p) == 0)
		p->threads++;
}

/* Without any thread (the system has none left) the work is done here and now: slow, but it goes on. */
static void pool_hand_over(struct io_pool *p, struct list *item)
{
	bool more;

	pthread_mutex_lock(&p->lock);
	more = p->queued >= p->idle;
	pthread_mutex_unlock(&p->lock);
	if (more)
		pool_grow(p);
	if (p->threads == 0) {
		p->run(item);
		pool_announce(p, item);
		return;
	}
	pthread_mutex_lock(&p->lock);
	list_push(&p->queue, item);
	p->queued++;
	pthread_cond_signal(&p->work);
	pthread_mutex_unlock(&p->lock);
}

static void pool_give(struct io_pool *p, struct list *item)
{
	p->pending++;
	pool_hand_over(p, item);
}

static void pool_collect(struct io_pool *p)
{
	struct list done;

	list_init(&done);
	pthread_mutex_lock(&p->lock);
	list_splice(&done, &p->done);
	pthread_mutex_unlock(&p->lock);
	list_for_each_safe(it, &done) {
		list_remove(it);
		p->pending--;
		p->done_one(it);
	}
}

static void pool_init(struct io_pool *p, int event_fd, unsigned limit)
{
	assert(limit <= ARRAY_ENTRIES(p->ids));
	pthread_mutex_init(&p->lock, NULL);
	pthread_cond_init(&p->work, NULL);
	list_init(&p->queue);
	list_init(&p->done);
	p->queued = p->idle = p->threads = p->pending = 0;
	p->stop = false;
	p->event_fd = event_fd;
	p->limit = limit;
}

static void pool_stop(struct io_pool *p)
{
	pthread_mutex_lock(&p->lock);
	p->stop = true;
	pthread_cond_broadcast(&p->work);
	pthread_mutex_unlock(&p->lock);
	for (unsigned i = 0; i < p->threads; i++)
		pthread_join(p->ids[i], NULL);
	p->threads = 0;
}

/* No thread is alive: nobody else looks at the queue. */
static void pool_start(struct io_pool *p)
{
	struct list left;

	list_init(&left);
	list_splice(&left, &p->queue);
	p->queued = 0;
	p->stop = false;
	list_for_each_safe(it, &left) {
		list_remove(it);
		pool_hand_over(p, it);
	}
}

static void pool_fini(struct io_pool *p)
{
	assert(p->pending == 0);
	pool_stop(p);
	pthread_cond_destroy(&p->work);
	pthread_mutex_destroy(&p->lock);
}

/* ---- both of them ---- */

static void work_run(struct list *item)
{
	struct co_work *work = list_entry(item, struct co_work, link);

	work->fn(work->arg);
}

static void work_done(struct list *item) { co_work_done(list_entry(item, struct co_work, link)); }

static void op_run(struct list *item)
{
	struct io_op *op = list_entry(item, struct io_op, link);

	op->result = io_posix_do(op);
}

static void op_done(struct list *item)
{
	struct io_op *op = list_entry(item, struct io_op, link);

	io_complete(op, op->result);
}

int io_helpers_init(struct io_helpers *h)
{
	h->event_fd = eventfd(0, EFD_CLOEXEC);
	if (h->event_fd < 0)
		return -errno;
	pool_init(&h->computers, h->event_fd, IO_COMPUTERS);
	h->computers.run = work_run;
	h->computers.done_one = work_done;
	pool_init(&h->blockers, h->event_fd, IO_BLOCKERS);
	h->blockers.run = op_run;
	h->blockers.done_one = op_done;
	return 0;
}

void io_helpers_fini(struct io_helpers *h)
{
	pool_fini(&h->computers);
	pool_fini(&h->blockers);
	close(h->event_fd);
}

void io_helpers_stop(struct io_helpers *h)
{
	pool_stop(&h->computers);
	pool_stop(&h->blockers);
}

void io_helpers_start(struct io_helpers *h)
{
	pool_start(&h->computers);
	pool_start(&h->blockers);
}

void io_helpers_compute(struct io_helpers *h, struct co_work *work) { pool_give(&h->computers, &work->link); }

void io_helpers_block(struct io_helpers *h, struct io_op *op) { pool_give(&h->blockers, &op->link); }

bool io_helpers_pending(const struct io_helpers *h) { return h->computers.pending + h->blockers.pending > 0; }

void io_helpers_reset(struct io_helpers *h)
{
	uint64_t count;
	ssize_t n = read(h->event_fd, &count, sizeof(count));

	assert(n == (ssize_t)sizeof(count));
}

void io_helpers_collect(struct io_helpers *h)
{
	pool_collect(&h->computers);
	pool_collect(&h->blockers);
}
