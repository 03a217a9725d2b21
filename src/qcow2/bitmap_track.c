/* SPDX-License-Identifier: MIT */
/* Bitmaps in memory: what changes is noted before it changes, and what they say is looked up. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "qcow2/bitmaps.h"

/* ---- changes ---- */

static void note(struct qcow2_dirty_bitmap *b, uint64_t off, uint64_t len)
{
	uint64_t first = off >> b->granularity_bits;
	uint64_t last =
		(off + len - (MUTANT(87) ? MIN(len, UINT64_C(1) << b->granularity_bits) : 1)) >> b->granularity_bits;

	sparse_set(&b->bits, first, last - first + 1);
	b->changed = true;
}

/* Before the change, so that whatever ends the session the bitmap in memory never knows less than the disk. */
void qcow2_bitmaps_changing(struct node *n, uint64_t off, uint64_t len)
{
	const struct qcow2_bitmaps *all = qcow2_of(n)->bitmaps;

	list_for_each(it, &all->all) {
		struct qcow2_dirty_bitmap *b = list_entry(it, struct qcow2_dirty_bitmap, link);

		if (b->usable && b->enabled && !MUTANT(86))
			note(b, off, len);
	}
}

/* ---- another size ---- */

/* A valid bitmap on disk has a table for the disk's size: those that aren't marked in use yet would not. */
static int mark_all(struct co *co, struct qcow2 *q)
{
	bool any = false;

	list_for_each(it, &q->bitmaps->all) {
		struct qcow2_dirty_bitmap *b = list_entry(it, struct qcow2_dirty_bitmap, link);

		if (b->now.flags & QCOW2_BITMAP_IN_USE)
			continue;
		b->next.flags |= QCOW2_BITMAP_IN_USE;
		any = true;
	}
	return any ? qcow2_bitmaps_switch(co, q, NULL) : 0;
}

static int grow_bits(struct qcow2 *q, uint64_t size)
{
	list_for_each(it, &q->bitmaps->all) {
		struct qcow2_dirty_bitmap *b = list_entry(it, struct qcow2_dirty_bitmap, link);
		uint64_t bits = qcow2_bitmap_bits(b, size);
		int rc = b->usable && bits > b->bits.bits ? sparse_resize(&b->bits, bits) : 0;

		if (rc)
			return rc;
		b->changed = true;
	}
	return 0;
}

int qcow2_bitmaps_resize_begin(struct co *co, struct qcow2 *q, uint64_t size)
{
	int rc;

	co_mutex_lock(co, &q->bitmaps->editing);
	rc = mark_all(co, q);
	if (!rc)
		rc = grow_bits(q, size);
	co_mutex_unlock(&q->bitmaps->editing);
	return rc;
}

void qcow2_bitmaps_resize_end(struct qcow2 *q)
{
	list_for_each(it, &q->bitmaps->all) {
		struct qcow2_dirty_bitmap *b = list_entry(it, struct qcow2_dirty_bitmap, link);
		uint64_t bits = qcow2_bitmap_bits(b, q->node.size);

		if (b->usable && bits != b->bits.bits)
			b->usable = sparse_resize(&b->bits, bits) == 0;
	}
}

/* ---- looking ---- */

static void tell(const struct qcow2_dirty_bitmap *b, struct qcow2_bitmap_status *out)
{
	snprintf(out->name, sizeof(out->name), "%s", b->name);
	out->granularity = b->granularity_bits < 64 ? UINT64_C(1) << b->granularity_bits : 0;
	out->usable = b->usable;
	out->enabled = b->enabled;
	out->in_use = b->now.flags & QCOW2_BITMAP_IN_USE;
	out->dirty_bytes = b->usable ? b->bits.ones << b->granularity_bits : 0;
}

static unsigned count(const struct qcow2 *q)
{
	unsigned n = 0;

	list_for_each(it, &q->bitmaps->all)
		n++;
	return n;
}

static int load_locked(struct co *co, struct qcow2 *q, struct err *err)
{
	int rc;

	co_mutex_lock(co, &q->bitmaps->editing);
	rc = qcow2_bitmaps_load(co, q, err);
	co_mutex_unlock(&q->bitmaps->editing);
	return rc;
}

int qcow2_bitmap_list(
	struct co *co, struct node *n, struct qcow2_bitmap_status **out, unsigned *count_out, struct err *err)
{
	struct qcow2 *q = qcow2_of(n);
	int rc = load_locked(co, q, err);

	if (rc)
		return rc;
	*count_out = 0;
	*out = calloc(MAX(count(q), 1u), sizeof(**out));
	if (!*out)
		return err_set(err, -ENOMEM, "no memory for the bitmaps");
	list_for_each(it, &q->bitmaps->all)
		tell(list_entry(it, struct qcow2_dirty_bitmap, link), &(*out)[(*count_out)++]);
	return 0;
}

int qcow2_bitmap_run(
	struct co *co, struct node *n, const char *name, uint64_t off, uint64_t len, struct qcow2_bitmap_extent *out)
{
	struct qcow2 *q = qcow2_of(n);
	int rc = load_locked(co, q, NULL);
	const struct qcow2_dirty_bitmap *b;
	uint64_t first, last, end;

	if (rc)
		return rc;
	b = qcow2_bitmaps_find(q, name);
	if (!b)
		return -ENOENT;
	if (!b->usable)
		return -EUCLEAN;
	if (len == 0 || off >= n->size || len > n->size - off)
		return -EINVAL;
	first = off >> b->granularity_bits;
	last = (off + len - 1) >> b->granularity_bits;
	out->dirty = sparse_test(&b->bits, first);
	end = sparse_find(&b->bits, first, last + 1, !out->dirty) << b->granularity_bits;
	out->len = MIN(len, end - off);
	return 0;
}
