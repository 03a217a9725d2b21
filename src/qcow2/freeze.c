/* SPDX-License-Identifier: MIT */
/*
 * The active tree at one instant, while guests go on writing.
 *
 *     begin     every guest range is locked: no change is under way. The L1 table is copied, its entries lose COPIED, the
 *               tables are marked pending. The locks go: this was the instant.
 *     pending   nothing below a table that isn't COPIED is written in place (map.c), and whoever wants to change the table
 *               must copy it (l2.c). Before that, it is frozen: one reference more to the table and to all that its entries
 *               name, which lose COPIED. From then on it is a shared table like any other.
 *     all       a walk freezes what nobody wanted to change.
 *
 * So a guest waits for the changes that are under way at the instant, each of which is bounded, and its first write below a
 * table waits for the freezing of this one. Reads and flushes wait for nothing. Whatever is committed meanwhile is sound:
 * refcounts that are too high, and a COPIED less.
 *
 * A table that can't be frozen ends it for all: the writer who met the error has nothing to do with it, and goes on.
 */
#include <errno.h>
#include <stdlib.h>

#include "qcow2/engine.h"

void qcow2_freeze_fini(struct qcow2_freeze *f)
{
	free(f->l1);
	free(f->pending);
	f->l1 = NULL;
	f->pending = NULL;
}

static int room_make(struct qcow2_freeze *f, uint64_t n)
{
	*f = (struct qcow2_freeze){.n = n};
	co_queue_init(&f->idle);
	f->l1 = calloc(MAX(n, UINT64_C(1)), sizeof(*f->l1));
	f->pending = calloc(1, bitmap_bytes(MAX(n, UINT64_C(1))));
	if (f->l1 && f->pending)
		return 0;
	qcow2_freeze_fini(f);
	return -ENOMEM;
}

static void take_tables(struct qcow2 *q, struct qcow2_freeze *f)
{
	f->size = q->node.size;
	for (uint64_t i = 0; i < f->n; i++) {
		uint64_t entry = q->l1.entries[i];

		f->l1[i] = entry & QCOW2_OFFSET_MASK;
		if (!f->l1[i])
			continue;
		bit_set(f->pending, i);
		if (!MUTANT(24))
			qcow2_table_set(q, &q->l1, i, entry & ~QCOW2_COPIED);
	}
	q->freeze = f;
}

int qcow2_freeze_begin(struct co *co, struct qcow2 *q, struct qcow2_freeze *f)
{
	struct node_range all;
	int rc;

	do { /* the disk may grow while we wait */
		rc = room_make(f, q->l1.n);
		if (rc)
			return rc;
		node_range_lock(co, &q->node, &all, 0, UINT64_MAX / 2);
		if (q->l1.n == f->n)
			take_tables(q, f);
		node_range_unlock(&q->node, &all);
		if (!q->freeze)
			qcow2_freeze_fini(f);
	} while (!q->freeze);
	return 0;
}

void qcow2_freeze_table(struct co *co, struct qcow2 *q, uint64_t l1_index)
{
	struct qcow2_freeze *f = q->freeze;
	int rc;

	if (!f || f->rc || l1_index >= f->n || !bit_test(f->pending, l1_index))
		return;
	f->running++;
	rc = qcow2_cache_relieve(co, &q->l2_cache);
	if (!rc)
		rc = qcow2_table_share(co, q, f->l1[l1_index]);
	f->running--;
	if (!rc)
		bit_clear(f->pending, l1_index);
	else if (!f->rc)
		f->rc = rc;
	co_queue_wake_all(&f->idle);
}

static int freeze_index(struct co *co, struct qcow2 *q, void *arg, uint64_t index)
{
	struct qcow2_freeze *f = arg;
	struct qcow2_making mine;

	if (!bit_test(f->pending, index))
		return 0;
	qcow2_making_begin(co, q, &mine, index);
	qcow2_freeze_table(co, q, index);
	qcow2_making_end(&mine);
	return f->rc ? f->rc : 1;
}

int qcow2_freeze_all(struct co *co, struct qcow2 *q, struct qcow2_freeze *f)
{
	int rc = qcow2_each_index(co, q, f->n, freeze_index, f);

	if (rc && !f->rc)
		f->rc = rc;
	return f->rc;
}

void qcow2_freeze_end(struct co *co, struct qcow2 *q, struct qcow2_freeze *f)
{
	if (q->freeze != f)
		return;
	while (f->running)
		co_queue_wait(co, &f->idle);
	for (uint64_t i = 0; i < f->n; i++)
		if (bit_test(f->pending, i))
			f->l1[i] = 0;
	q->freeze = NULL;
}
