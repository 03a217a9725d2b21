/* SPDX-License-Identifier: MIT */
/*
 * Bitmaps from disk. A directory that is malformed makes opening for writing fail: what is not understood can't be kept up.
 * A bitmap whose own content is malformed, or of a kind that isn't known here, is kept and not used.
 *
 * Memory: the file must be large enough for all tables that the directory claims, and one budget holds for all content.
 * Where that is used up a bitmap claims more than was changed (base/sparse.h), or, as a whole, isn't used.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "qcow2/bitmaps.h"
#include "qcow2/snapshot.h"

/* ---- life ---- */

void qcow2_bitmap_free(struct qcow2_dirty_bitmap *b)
{
	list_remove(&b->link);
	sparse_fini(&b->bits);
	free(b->plan);
	free(b->extra);
	free(b->name);
	free(b);
}

void qcow2_bitmaps_free(struct qcow2 *q)
{
	if (!q->bitmaps)
		return;
	list_for_each_safe(it, &q->bitmaps->all)
		qcow2_bitmap_free(list_entry(it, struct qcow2_dirty_bitmap, link));
	free(take(q->bitmaps));
}

struct qcow2_dirty_bitmap *qcow2_bitmaps_find(const struct qcow2 *q, const char *name)
{
	list_for_each(it, &q->bitmaps->all) {
		struct qcow2_dirty_bitmap *b = list_entry(it, struct qcow2_dirty_bitmap, link);

		if (strcmp(b->name, name) == 0)
			return b;
	}
	return NULL;
}

/* ---- the directory ---- */

static int extra_read(struct co *co, struct qcow2 *q, struct qcow2_dirty_bitmap *b, const struct qcow2_bitmap *from)
{
	if (from->extra_bytes == 0)
		return 0;
	b->extra = node_alloc(from->extra_bytes);
	if (!b->extra)
		return -ENOMEM;
	b->extra_bytes = from->extra_bytes;
	return node_read(co, q->node.file, from->extra.off, IOV_BUF(b->extra, b->extra_bytes));
}

/* Whether its content may be used, going by its entry alone. */
static bool is_understood(const struct qcow2 *q, const struct qcow2_dirty_bitmap *b)
{
	uint64_t bits;

	if (b->now.flags & QCOW2_BITMAP_IN_USE)
		return false;
	if (b->extra_bytes && !(b->now.flags & QCOW2_BITMAP_EXTRA_COMPATIBLE))
		return false;
	if (b->granularity_bits < QCOW2_BITMAP_MIN_GRANULARITY_BITS ||
		b->granularity_bits > QCOW2_BITMAP_MAX_GRANULARITY_BITS)
		return false;
	bits = qcow2_bitmap_bits(b, q->node.size);
	return b->now.entries == qcow2_bitmap_table_entries(q, bits) &&
		b->now.entries * (uint64_t)q->cluster_bytes <= QCOW2_BITMAP_MAX_BYTES &&
		!qcow2_bitmaps_find(q, b->name);
}

static int entry_take(struct co *co, struct qcow2 *q, const struct qcow2_bitmap *from)
{
	struct qcow2_dirty_bitmap *b = calloc(1, sizeof(*b));
	int rc;

	if (!b)
		return -ENOMEM;
	list_init(&b->link);
	b->name = strdup(from->info.name);
	b->granularity_bits = from->info.granularity_bits;
	b->now = b->next = (struct qcow2_bitmap_disk){
		.table = from->table, .entries = from->table_entries, .flags = from->info.flags};
	rc = b->name ? extra_read(co, q, b, from) : -ENOMEM;
	if (rc) {
		qcow2_bitmap_free(b);
		return rc;
	}
	b->enabled = b->now.flags & QCOW2_BITMAP_AUTO;
	b->usable = is_understood(q, b);
	list_push(&q->bitmaps->all, &b->link);
	return 0;
}

/* The tables of all bitmaps lie apart, so the file holds them all. */
static int tables_check(const struct qcow2 *q, struct err *err)
{
	uint64_t bytes = 0;

	list_for_each(it, &q->bitmaps->all)
		bytes += list_entry(it, struct qcow2_dirty_bitmap, link)->now.entries * UINT64_C(8);
	if (bytes > q->file_bytes)
		return err_set(err, -EINVAL, "the tables of the bitmaps are larger than the file");
	return 0;
}

static int by_name(const void *a, const void *b)
{
	return strcmp((*(struct qcow2_dirty_bitmap *const *)a)->name, (*(struct qcow2_dirty_bitmap *const *)b)->name);
}

/* Names are unique: of several with the same one none is used. */
static int names_check(struct qcow2 *q)
{
	AUTO_FREE struct qcow2_dirty_bitmap **v =
		calloc(MAX(q->header.bitmaps, 1u), sizeof(struct qcow2_dirty_bitmap *));
	size_t n = 0;

	if (!v)
		return -ENOMEM;
	list_for_each(it, &q->bitmaps->all)
		v[n++] = list_entry(it, struct qcow2_dirty_bitmap, link);
	qsort(v, n, sizeof(struct qcow2_dirty_bitmap *), by_name);
	for (size_t i = 1; i < n; i++)
		if (by_name(&v[i - 1], &v[i]) == 0)
			v[i - 1]->usable = v[i]->usable = false;
	return 0;
}

static int directory_read(struct co *co, struct qcow2 *q, struct err *err)
{
	struct qcow2_bitmap_walk walk = {.window.file = q->node.file, .header = &q->header};
	AUTO_FREE struct qcow2_bitmap *one = malloc(sizeof(*one));
	int rc = one ? 0 : -ENOMEM, more = 0;

	while (!rc && (more = qcow2_bitmap_next(co, &walk, one, err)) > 0)
		rc = entry_take(co, q, one);
	free(walk.window.bytes);
	if (!rc && more == 0)
		rc = names_check(q);
	if (rc)
		return err_set(err, rc, "the bitmap directory can't be read: %s", strerror(-rc));
	return more < 0 ? more : tables_check(q, err);
}

/* ---- content ---- */

struct content {
	struct qcow2_dirty_bitmap *b;
	void *cluster;
};

static int content_entry(struct co *co, struct qcow2 *q, uint32_t index, uint64_t entry, void *arg)
{
	struct content *c = arg;
	uint64_t per = q->cluster_bytes * UINT64_C(8), host = qcow2_bitmap_entry_host(entry);
	int rc = 0;

	if (!qcow2_bitmap_entry_valid(q, entry))
		return -EINVAL;
	if (host)
		rc = node_read(co, q->node.file, host, IOV_BUF(c->cluster, q->cluster_bytes));
	if (!rc && host)
		sparse_import(&c->b->bits, index * per, c->cluster, q->cluster_bytes);
	else if (!rc && entry)
		sparse_set(&c->b->bits, index * per, MIN(per, c->b->bits.bits - index * per));
	return rc;
}

/* Where only this bitmap can't be used, that isn't an error. */
static int content_read(struct co *co, struct qcow2 *q, struct qcow2_dirty_bitmap *b)
{
	AUTO_FREE void *cluster = node_alloc(q->cluster_bytes);
	struct content c = {b, cluster};
	int rc;

	if (!cluster)
		return -ENOMEM;
	if (sparse_init(&b->bits, qcow2_bitmap_bits(b, q->node.size), &q->bitmaps->memory)) {
		b->usable = false;
		return 0;
	}
	rc = qcow2_bitmap_table_walk(co, q, &b->now, content_entry, &c);
	if (rc)
		sparse_fini(&b->bits);
	b->usable = rc == 0;
	return rc == -EINVAL ? 0 : rc;
}

static int contents_read(struct co *co, struct qcow2 *q, struct err *err)
{
	list_for_each(it, &q->bitmaps->all) {
		struct qcow2_dirty_bitmap *b = list_entry(it, struct qcow2_dirty_bitmap, link);
		int rc = b->usable ? content_read(co, q, b) : 0;

		if (rc)
			return err_set(err, rc, "the bitmap '%s' can't be read: %s", b->name, strerror(-rc));
	}
	return 0;
}

int qcow2_bitmaps_load(struct co *co, struct qcow2 *q, struct err *err)
{
	int rc;

	if (q->bitmaps->loaded)
		return 0;
	rc = directory_read(co, q, err);
	if (!rc)
		rc = contents_read(co, q, err);
	q->bitmaps->loaded = rc == 0;
	if (rc)
		list_for_each_safe(it, &q->bitmaps->all)
			qcow2_bitmap_free(list_entry(it, struct qcow2_dirty_bitmap, link));
	return rc;
}

/* ---- opening ---- */

/*
 * Whatever says that it follows all changes: it either does, from now on in memory alone, or can't. A mark that is there
 * already is written anew as well: it may come from somebody whose flush failed, and not be durable.
 */
static int mark_in_use(struct co *co, struct qcow2 *q, struct err *err)
{
	bool any = false;

	list_for_each(it, &q->bitmaps->all) {
		struct qcow2_dirty_bitmap *b = list_entry(it, struct qcow2_dirty_bitmap, link);

		if (b->enabled)
			b->next.flags |= QCOW2_BITMAP_IN_USE;
		any |= (b->next.flags & QCOW2_BITMAP_IN_USE) != 0;
	}
	return any && !MUTANT(83) && !MUTANT(86) ? qcow2_bitmaps_switch(co, q, err) : 0;
}

int qcow2_bitmaps_init(struct qcow2 *q)
{
	q->bitmaps = calloc(1, sizeof(*q->bitmaps));
	if (!q->bitmaps)
		return -ENOMEM;
	list_init(&q->bitmaps->all);
	co_mutex_init(&q->bitmaps->editing);
	q->bitmaps->memory.limit = QCOW2_BITMAPS_MEMORY;
	return 0;
}

int qcow2_bitmaps_open(struct co *co, struct qcow2 *q, struct err *err)
{
	int rc;

	if (!q->options.write)
		return 0;
	co_mutex_lock(co, &q->bitmaps->editing);
	rc = qcow2_bitmaps_load(co, q, err);
	if (!rc)
		rc = mark_in_use(co, q, err);
	co_mutex_unlock(&q->bitmaps->editing);
	return rc;
}

uint64_t qcow2_bitmaps_autoclear(const struct qcow2 *q)
{
	return q->header.bitmaps ? (uint64_t)QCOW2_AUTOCLEAR_BITMAPS : 0;
}
