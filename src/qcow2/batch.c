/* SPDX-License-Identifier: MIT */
/* The metadata writes of one phase of a commit: private copies, joined where they adjoin, many in flight at once. */
#include <assert.h>
#include <errno.h>
#include <stdlib.h>

#include "qcow2/engine.h"

void qcow2_batch_fini(struct qcow2_batch *b)
{
	free(b->v);
	free(b->arena);
	*b = (struct qcow2_batch){0};
}

static int grow_writes(struct qcow2_batch *b, size_t writes)
{
	struct qcow2_write *v = realloc(b->v, writes * sizeof(*v));

	if (!v)
		return -ENOMEM;
	b->v = v;
	b->room = writes;
	return 0;
}

static int grow_arena(struct qcow2_batch *b, size_t bytes)
{
	unsigned char *arena = node_alloc(bytes);

	if (!arena)
		return -ENOMEM;
	free(b->arena);
	b->arena = arena;
	b->size = bytes;
	return 0;
}

int qcow2_batch_reset(struct qcow2_batch *b, size_t writes, size_t bytes)
{
	int rc = 0;

	b->n = b->used = 0;
	if (writes > b->room)
		rc = grow_writes(b, writes);
	if (!rc && bytes > b->size)
		rc = grow_arena(b, bytes);
	return rc;
}

void *qcow2_batch_add(struct qcow2_batch *b, enum node_event event, uint64_t host, size_t bytes)
{
	struct qcow2_write *last = b->n ? &b->v[b->n - 1] : NULL;

	if (last && last->host + last->bytes == host && last->event == event) {
		last->bytes += bytes;
	} else {
		assert(b->n < b->room);
		b->used = align_up(b->used, QCOW2_SECTOR);
		b->v[b->n++] = (struct qcow2_write){.event = event, .host = host, .at = b->used, .bytes = bytes};
	}
	b->used += bytes;
	assert(b->used <= b->size);
	return b->arena + b->used - bytes;
}

struct batch_run { /* shared by the coroutines that write one batch */
	struct qcow2 *q;
	struct qcow2_batch *batch;
	size_t next;
	int rc;
};

static void write_some(struct co *co, void *arg)
{
	struct batch_run *run = arg;

	while (run->next < run->batch->n) {
		const struct qcow2_write *w = &run->batch->v[run->next++];
		int rc;

		node_event(co, run->q->node.file, w->event);
		rc = node_write(co, run->q->node.file, w->host, IOV_BUF(run->batch->arena + w->at, w->bytes), 0);

		if (rc && !run->rc && !MUTANT(14))
			run->rc = rc;
	}
}

int qcow2_batch_write(struct co *co, struct qcow2 *q, struct qcow2_batch *b)
{
	struct batch_run run = {.q = q, .batch = b};
	struct co_group group;

	co_group_init(&group, co_sched_of(co));
	for (size_t i = 1; i < MIN(b->n, (size_t)QCOW2_COMMIT_WRITES); i++)
		if (co_group_spawn(&group, "qcow2-commit-write", write_some, &run))
			break; /* as many as are alive already will do it */
	write_some(co, &run);
	co_group_wait(co, &group);
	return run.rc;
}
