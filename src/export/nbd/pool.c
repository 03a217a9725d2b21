/* SPDX-License-Identifier: MIT */
/* Payload buffers of one connection; see pool.h. */
#include "export/nbd/pool.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>

#include "io/io.h"

#define NBD_POOL_SMALLEST ((size_t)4096)

static size_t class_bytes(unsigned class) { return NBD_POOL_SMALLEST << class; }

static unsigned class_of(size_t bytes)
{
	unsigned class = 0;

	while (class_bytes(class) < bytes)
		class ++;
	assert(class < NBD_POOL_CLASSES);
	return class;
}

void nbd_budget_init(struct nbd_budget *b)
{
	b->bytes = NBD_BUDGET_BYTES;
	list_init(&b->waiting);
}

void nbd_pool_init(struct nbd_pool *p, struct nbd_budget *budget)
{
	*p = (struct nbd_pool){.budget = budget, .own = NBD_POOL_OWN};
	co_queue_init(&p->turn);
	co_mutex_init(&p->first);
}

void nbd_pool_fini(struct nbd_pool *p)
{
	assert(p->own == NBD_POOL_OWN && p->shared == 0);
	for (unsigned class = 0; class < NBD_POOL_CLASSES; class ++) {
		while (p->free[class]) {
			void *buffer = p->free[class];

			p->free[class] = *(void **)buffer;
			free(buffer);
		}
	}
}

/* ---- who may have how much ---- */

static bool claim_own(struct nbd_pool *p, size_t bytes)
{
	if (bytes > p->own)
		return false;
	p->own -= bytes;
	return true;
}

/* Whether a connection may have so much more, if only there is as much. */
static bool may_share(const struct nbd_pool *p, uint64_t bytes) { return p->shared + bytes <= NBD_POOL_BYTES; }

/* Who is next: nobody overtakes him. Those who have all that they may have keep nobody waiting. NULL: nobody. */
static struct nbd_pool *budget_next(struct nbd_budget *b)
{
	list_for_each(it, &b->waiting) {
		struct nbd_pool *p = list_entry(it, struct nbd_pool, link);

		if (may_share(p, p->wants))
			return p;
	}
	return NULL;
}

static bool claim_shared(struct nbd_pool *p, size_t bytes, bool waits)
{
	struct nbd_budget *b = p->budget;
	struct nbd_pool *next = budget_next(b);

	if ((next && !(waits && next == p)) || bytes > b->bytes || !may_share(p, bytes))
		return false;
	b->bytes -= bytes;
	p->shared += bytes;
	return true;
}

static bool claim(struct nbd_pool *p, size_t bytes, bool waits, bool *shared)
{
	*shared = !claim_own(p, bytes);
	return !*shared || claim_shared(p, bytes, waits);
}

/* The next one looks again whenever something has come back. */
static void budget_wake(struct nbd_budget *b)
{
	struct nbd_pool *next = budget_next(b);

	if (next)
		co_queue_wake_one(&next->turn);
}

static void claim_wait(struct co *co, struct nbd_pool *p, size_t bytes, bool *shared)
{
	struct nbd_budget *b = p->budget;

	if (co_queue_empty(&p->turn) && !p->first.locked && claim(p, bytes, false, shared))
		return;
	co_mutex_lock(co, &p->first);
	p->wants = bytes;
	list_push(&b->waiting, &p->link);
	while (!claim(p, bytes, true, shared))
		co_queue_wait(co, &p->turn);
	list_remove(&p->link);
	co_mutex_unlock(&p->first);
	budget_wake(b); /* the next one may fit into what is left */
}

static void claim_return(struct nbd_pool *p, size_t bytes, bool shared)
{
	if (shared) {
		p->budget->bytes += bytes;
		p->shared -= bytes;
		budget_wake(p->budget);
	} else {
		p->own += bytes;
		co_queue_wake_one(&p->turn);
	}
}

/* ---- buffers ---- */

int nbd_pool_get(struct co *co, struct nbd_pool *p, size_t bytes, struct nbd_buffer *out)
{
	unsigned class = class_of(bytes);
	bool shared;

	claim_wait(co, p, class_bytes(class), &shared);
	*out = (struct nbd_buffer){.data = p->free[class], .class = class, .shared = shared};
	if (out->data) {
		p->free[class] = *(void **)out->data;
		p->kept -= class_bytes(class);
		return 0;
	}
	out->data = io_alloc(class_bytes(class));
	if (out->data)
		return 0;
	claim_return(p, class_bytes(class), shared);
	return -ENOMEM;
}

void nbd_pool_put(struct nbd_pool *p, struct nbd_buffer *buffer)
{
	size_t bytes = class_bytes(buffer->class);
	void *data = take(buffer->data);

	if (!data)
		return;
	if (p->kept + bytes <= NBD_POOL_KEPT) {
		*(void **)data = p->free[buffer->class];
		p->free[buffer->class] = data;
		p->kept += bytes;
	} else {
		free(data);
	}
	claim_return(p, bytes, buffer->shared);
}
