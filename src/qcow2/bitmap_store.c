/* SPDX-License-Identifier: MIT */
/*
 * Storing bitmaps. Nothing that a directory in force refers to is ever overwritten: what is to be said goes into clusters
 * of its own, and one rewrite of the header makes all of it true at once (crash-safety M11, O19).
 *
 *     data, table       of each bitmap that has changed: new clusters, refcounts in memory  } in any order: nothing that is
 *     directory         all of it, in new clusters                                          } durable refers to any of it
 *     commit            refcounts, barrier: all of the above is durable
 *     header            the bitmaps extension and the autoclear bit, switched by the first sector (rewrite.c), barrier
 *     free              the old directory, the tables and data that the new one doesn't refer to
 *
 * So each power cut finds the old directory, whole, or the new one. When an image is opened, the same switch marks in use
 * what requests may change, before the first of them; when it is closed, it takes the marks away.
 *
 * crash-safety O19 has a barrier between data, table and directory. One before the header does the same work, since only
 * the header makes any of them reachable.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "qcow2/bitmaps.h"
#include "qcow2/extension.h"
#include "qcow2/rewrite.h"
#include "qcow2/snapshot.h"

/* ---- the directory ---- */

struct directory {
	uint32_t bitmaps;
	struct host at;
	uint64_t bytes; /* without padding up to the cluster */
};

static uint64_t entry_bytes(const struct qcow2_dirty_bitmap *b)
{
	return align_up(sizeof(struct qcow2_disk_bitmap) + b->extra_bytes + strlen(b->name), 8);
}

static void entry_put(const struct qcow2_dirty_bitmap *b, char *to)
{
	struct qcow2_disk_bitmap disk = {
		.table_offset = be64_of(b->next.table.off),
		.table_entries = be32_of(b->next.entries),
		.flags = be32_of(b->next.flags),
		.type = 1,
		.granularity_bits = (uint8_t)b->granularity_bits,
		.name_bytes = be16_of((uint16_t)strlen(b->name)),
		.extra_bytes = be32_of(b->extra_bytes),
	};

	memcpy(to, &disk, sizeof(disk));
	if (b->extra_bytes)
		memcpy(to + sizeof(disk), b->extra, b->extra_bytes);
	memcpy(to + sizeof(disk) + b->extra_bytes, b->name, strlen(b->name));
}

static void directory_measure(const struct qcow2 *q, struct directory *d)
{
	*d = (struct directory){0};
	list_for_each(it, &q->bitmaps->all) {
		const struct qcow2_dirty_bitmap *b = list_entry(it, struct qcow2_dirty_bitmap, link);

		d->bitmaps += !b->removed;
		d->bytes += b->removed ? 0 : entry_bytes(b);
	}
}

static int directory_put(struct co *co, struct qcow2 *q, const struct directory *d)
{
	uint64_t bytes = align_up(d->bytes, q->cluster_bytes);
	AUTO_FREE char *to = node_alloc_zeroed(bytes);
	uint64_t at = 0;

	if (!to)
		return -ENOMEM;
	list_for_each(it, &q->bitmaps->all) {
		const struct qcow2_dirty_bitmap *b = list_entry(it, struct qcow2_dirty_bitmap, link);

		if (b->removed)
			continue;
		entry_put(b, to + at);
		at += entry_bytes(b);
	}
	return node_write(co, q->node.file, d->at.off, IOV_BUF(to, bytes), 0);
}

static void directory_drop(struct co *co, struct qcow2 *q, const struct directory *d)
{
	uint64_t clusters = div_round_up(d->bytes, q->cluster_bytes);

	if (d->at.off && qcow2_refcount_drop(co, q, qcow2_cluster_of(q, d->at.off), clusters))
		q->stats.leaked += clusters;
}

static int directory_write(struct co *co, struct qcow2 *q, struct directory *d, struct err *err)
{
	int rc;

	directory_measure(q, d);
	if (d->bitmaps == 0)
		return 0;
	if (d->bitmaps > QCOW2_MAX_BITMAPS)
		return err_set(err, -EFBIG, "Maximum number of persistent bitmaps is already reached");
	if (d->bytes > QCOW2_MAX_BITMAP_DIRECTORY_BYTES)
		return err_set(err, -EFBIG, "Not enough space in the bitmap directory");
	rc = qcow2_alloc_run(co, q, div_round_up(d->bytes, q->cluster_bytes), &d->at.off);
	if (rc)
		d->at.off = 0;
	else
		rc = directory_put(co, q, d);
	return rc ? err_set(err, rc, "the bitmap directory can't be written: %s", strerror(-rc)) : 0;
}

/* ---- the switch ---- */

static void directory_use(struct qcow2_header *h, void *arg)
{
	const struct directory *d = arg;

	h->bitmaps = d->bitmaps;
	h->bitmap_directory = d->at;
	h->bitmap_directory_bytes = d->bytes;
	if (d->bitmaps)
		h->autoclear |= QCOW2_AUTOCLEAR_BITMAPS;
	else
		h->autoclear &= ~(uint64_t)QCOW2_AUTOCLEAR_BITMAPS;
}

/* Whether the header in memory says so; what the disk says may be unknown then, if the rewrite failed. */
static bool directory_in_use(const struct qcow2 *q, const struct directory *d)
{
	return q->header.bitmaps == d->bitmaps && q->header.bitmap_directory.off == d->at.off;
}

/* The plan is carried out, and its table is in force: what it replaces is freed, if that may be. */
static void settle_one(struct co *co, struct qcow2 *q, struct qcow2_dirty_bitmap *b, bool may_free)
{
	struct qcow2_bitmap_disk old = b->now;
	bool replaced = b->removed || (b->plan && !b->added);

	free(take(b->plan));
	b->now = b->next;
	b->added = false;
	if (b->removed)
		qcow2_bitmap_free(b);
	if (replaced && may_free)
		qcow2_bitmap_table_free(co, q, &old);
}

static void settle(struct co *co, struct qcow2 *q, const struct directory *old, bool may_free)
{
	list_for_each_safe(it, &q->bitmaps->all)
		settle_one(co, q, list_entry(it, struct qcow2_dirty_bitmap, link), may_free);
	if (!old->bytes || !may_free)
		return;
	if (qcow2_free_prepare(q, 1))
		q->stats.leaked += div_round_up(old->bytes, q->cluster_bytes);
	else
		qcow2_free(q, old->at.off, align_up(old->bytes, q->cluster_bytes));
}

static void undo(struct co *co, struct qcow2 *q, const struct directory *d)
{
	directory_drop(co, q, d);
	list_for_each(it, &q->bitmaps->all) {
		struct qcow2_dirty_bitmap *b = list_entry(it, struct qcow2_dirty_bitmap, link);

		qcow2_bitmap_plan_drop(co, q, b);
		b->removed = false;
	}
}

static int plans_write(struct co *co, struct qcow2 *q, struct err *err)
{
	int rc = 0;

	list_for_each(it, &q->bitmaps->all) {
		const struct qcow2_dirty_bitmap *b = list_entry(it, struct qcow2_dirty_bitmap, link);

		if (!rc && b->plan)
			rc = qcow2_bitmap_plan_write(co, q, b);
	}
	return rc ? err_set(err, rc, "the bitmaps can't be written: %s", strerror(-rc)) : 0;
}

int qcow2_bitmaps_switch(struct co *co, struct qcow2 *q, struct err *err)
{
	struct directory next,
		old = {.at = q->header.bitmap_directory,
			.bytes = q->header.bitmap_directory_bytes,
			.bitmaps = q->header.bitmaps};
	int rc = MUTANT(84) ? 0 : plans_write(co, q, err);
	bool written;

	next = (struct directory){0};
	if (!rc)
		rc = directory_write(co, q, &next, err);
	written = rc == 0;
	if (written)
		rc = qcow2_rewrite_open(co, q, directory_use, &next, err);
	if (rc && !((written || MUTANT(137)) && directory_in_use(q, &next))) {
		undo(co, q, &next);
		return rc;
	}
	if (MUTANT(84) && !rc)
		rc = plans_write(co, q, err);
	q->bitmaps->unsure |= rc != 0;
	settle(co, q, &old, rc == 0);
	return rc;
}

/* ---- closing ---- */

static uint32_t stored_flags(const struct qcow2_dirty_bitmap *b)
{
	uint32_t flags = b->now.flags & ~(uint32_t)(QCOW2_BITMAP_IN_USE | QCOW2_BITMAP_AUTO);

	return flags | (b->enabled ? QCOW2_BITMAP_AUTO : 0);
}

/* Only what can be said of the whole disk is stored; what can't stays in use. */
static bool is_storable(const struct qcow2 *q, const struct qcow2_dirty_bitmap *b)
{
	return b->usable && (b->now.flags & QCOW2_BITMAP_IN_USE) && b->bits.bits > 0 &&
		b->bits.bits == qcow2_bitmap_bits(b, q->node.size);
}

int qcow2_bitmaps_close(struct co *co, struct qcow2 *q)
{
	bool any = false;
	int rc = 0;

	if (!q->bitmaps || q->node.failed || q->node.read_only)
		return 0;
	list_for_each(it, &q->bitmaps->all) {
		struct qcow2_dirty_bitmap *b = list_entry(it, struct qcow2_dirty_bitmap, link);

		if (rc || !is_storable(q, b))
			continue;
		b->next.flags = stored_flags(b);
		if (b->changed)
			rc = qcow2_bitmap_plan(co, q, b, &b->bits);
		any = true;
	}
	if (rc) {
		undo(co, q, &(struct directory){0});
		return rc;
	}
	return any ? qcow2_bitmaps_switch(co, q, NULL) : 0;
}
