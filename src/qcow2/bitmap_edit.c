/* SPDX-License-Identifier: MIT */
/*
 * Adding, removing, clearing, enabling, disabling and merging bitmaps of an open image.
 *
 * Each edit happens while the node is drained: a request that was under way when a bitmap was cleared would otherwise be
 * missing in it, as it was noted before and changes the disk after. An edit says what shall be in `next` and a plan, puts it
 * into force by one switch of the directory (bitmap_store.c), and only then changes what is in memory. What an enabled
 * bitmap holds is in memory alone until the close; so clearing it, or merging into it, needs no switch.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "qcow2/bitmaps.h"

#define DEFAULT_LEAST 4096u
#define DEFAULT_MOST 65536u
#define MAX_NAME 1023u

/* ---- around each edit ---- */

static int edit_begin(struct co *co, struct qcow2 *q, struct err *err)
{
	int rc;

	if (q->node.read_only)
		return err_set(err, -EROFS, "%s: the image is open read only", q->node.name);
	rc = node_drain_begin(co, &q->node);
	if (rc) {
		node_drain_end(&q->node);
		return err_set(
			err, rc, "%s: what was written before can't be made durable: %s", q->node.name, strerror(-rc));
	}
	co_mutex_lock(co, &q->bitmaps->editing);
	return 0;
}

static void edit_end(struct qcow2 *q)
{
	co_mutex_unlock(&q->bitmaps->editing);
	node_drain_end(&q->node);
}

static int find(struct qcow2 *q, const char *name, bool usable, struct qcow2_dirty_bitmap **out, struct err *err)
{
	*out = qcow2_bitmaps_find(q, name);
	if (!*out)
		return err_set(err, -ENOENT, "Dirty bitmap '%s' not found", name);
	if (usable && !(*out)->usable)
		return err_set(err, -EUCLEAN,
			"Bitmap '%s' is inconsistent and cannot be used\n"
			"Try block-dirty-bitmap-remove to delete this bitmap from disk",
			name);
	return 0;
}

/* ---- one bitmap as it shall be ---- */

static uint32_t flags_of(uint32_t now, bool enabled)
{
	uint32_t flags = QCOW2_BITMAP_AUTO | QCOW2_BITMAP_IN_USE;

	return enabled ? now | flags : now & ~flags;
}

static void adopt(struct qcow2_dirty_bitmap *b, struct sparse *bits, bool enabled)
{
	if (bits) {
		sparse_fini(&b->bits);
		b->bits = *bits;
		*bits = (struct sparse){0};
	}
	b->enabled = enabled;
	b->changed = enabled && (b->changed || bits);
}

static bool disk_is(const struct qcow2_bitmap_disk *a, const struct qcow2_bitmap_disk *b)
{
	return a->flags == b->flags && a->table.off == b->table.off;
}

/* bits: its new content, which is taken over unless it fails; NULL: it stays. A disabled bitmap is right on disk. */
static int make(struct co *co, struct qcow2 *q, struct qcow2_dirty_bitmap *b, struct sparse *bits, bool enabled,
	struct err *err)
{
	struct qcow2_bitmap_disk wanted;
	int rc = 0;

	b->next.flags = flags_of(b->now.flags, enabled);
	if (b->added || (!enabled && (bits || b->changed)))
		rc = qcow2_bitmap_plan(co, q, b, bits ? bits : &b->bits);
	if (rc) {
		b->next = b->now;
		return err_set(err, rc, "no space for the bitmap '%s': %s", b->name, strerror(-rc));
	}
	wanted = b->next;
	if (!disk_is(&wanted, &b->now))
		rc = qcow2_bitmaps_switch(co, q, err);
	if (disk_is(&wanted, &b->now))
		adopt(b, bits, enabled);
	return rc;
}

/* ---- add, remove ---- */

static int name_check(const struct qcow2 *q, const char *name, struct err *err)
{
	if (!name[0])
		return err_set(err, -EINVAL, "Bitmap name cannot be empty");
	if (qcow2_bitmaps_find(q, name))
		return err_set(err, -EEXIST, "Bitmap already exists: %s", name);
	if (q->header.version < 3)
		return err_set(err, -ENOTSUP,
			"Can't make bitmap '%s' persistent in '%s': Cannot store dirty bitmaps in qcow2 v2 files", name,
			q->node.name);
	if (strlen(name) > MAX_NAME)
		return err_set(err, -EINVAL,
			"Can't make the bitmap persistent in '%s': Name length exceeds maximum (%u characters)",
			q->node.name, MAX_NAME);
	return 0;
}

static int granularity_check(const struct qcow2 *q, const char *name, uint64_t granularity, struct err *err)
{
	uint64_t bits = div_round_up(q->node.size, granularity);

	if (!is_power_of_two(granularity) || granularity < UINT64_C(1) << QCOW2_BITMAP_MIN_GRANULARITY_BITS ||
		granularity > UINT64_C(1) << QCOW2_BITMAP_MAX_GRANULARITY_BITS)
		return err_set(err, -EINVAL, "Granularity must be power of 2 and at least 512");
	if (bits == 0)
		return err_set(err, -EINVAL, "Can't make bitmap '%s' persistent in '%s': the disk is empty", name,
			q->node.name);
	if (qcow2_bitmap_table_entries(q, bits) * q->cluster_bytes > QCOW2_BITMAP_MAX_BYTES)
		return err_set(err, -EINVAL,
			"Can't make bitmap '%s' persistent in '%s': Too much space will be occupied by the bitmap. Use larger "
			"granularity",
			name, q->node.name);
	return 0;
}

static struct qcow2_dirty_bitmap *bitmap_new(struct qcow2 *q, const char *name, uint64_t granularity)
{
	struct qcow2_dirty_bitmap *b = calloc(1, sizeof(*b));

	if (!b)
		return NULL;
	list_init(&b->link);
	b->added = b->usable = true;
	b->granularity_bits = (unsigned)__builtin_ctzll(granularity);
	b->name = strdup(name);
	if (b->name && !sparse_init(&b->bits, qcow2_bitmap_bits(b, q->node.size), &q->bitmaps->memory)) {
		list_push(&q->bitmaps->all, &b->link);
		return b;
	}
	qcow2_bitmap_free(b);
	return NULL;
}

static int add(struct co *co, struct qcow2 *q, const char *name, uint64_t granularity, bool enabled, struct err *err)
{
	struct qcow2_dirty_bitmap *b;
	int rc = name_check(q, name, err);

	if (!granularity)
		granularity = MIN(MAX(q->cluster_bytes, DEFAULT_LEAST), DEFAULT_MOST);
	if (!rc)
		rc = granularity_check(q, name, granularity, err);
	if (rc)
		return rc;
	b = bitmap_new(q, name, granularity);
	if (!b)
		return err_set(err, -ENOMEM, "no memory for the bitmap '%s'", name);
	rc = make(co, q, b, NULL, enabled, err);
	if (b->added)
		qcow2_bitmap_free(b);
	return rc;
}

int qcow2_bitmap_add(
	struct co *co, struct node *n, const char *name, uint64_t granularity, bool enabled, struct err *err)
{
	int rc = edit_begin(co, qcow2_of(n), err);

	if (rc)
		return rc;
	rc = add(co, qcow2_of(n), name, granularity, enabled, err);
	edit_end(qcow2_of(n));
	return rc;
}

int qcow2_bitmap_remove(struct co *co, struct node *n, const char *name, struct err *err)
{
	struct qcow2 *q = qcow2_of(n);
	struct qcow2_dirty_bitmap *b;
	int rc = edit_begin(co, q, err);

	if (rc)
		return rc;
	rc = find(q, name, false, &b, err);
	if (!rc) {
		b->removed = true;
		rc = qcow2_bitmaps_switch(co, q, err);
	}
	edit_end(q);
	return rc;
}

/* ---- clear, enable, merge ---- */

static int empty_bits(struct qcow2 *q, const struct qcow2_dirty_bitmap *b, struct sparse *out, struct err *err)
{
	if (sparse_init(out, b->bits.bits, &q->bitmaps->memory))
		return err_set(err, -ENOMEM, "no memory for the bitmap '%s'", b->name);
	return 0;
}

int qcow2_bitmap_clear(struct co *co, struct node *n, const char *name, struct err *err)
{
	struct qcow2 *q = qcow2_of(n);
	struct qcow2_dirty_bitmap *b;
	struct sparse empty = {0};
	int rc = edit_begin(co, q, err);

	if (rc)
		return rc;
	rc = find(q, name, true, &b, err);
	if (!rc)
		rc = empty_bits(q, b, &empty, err);
	if (!rc)
		rc = make(co, q, b, &empty, b->enabled, err);
	sparse_fini(&empty);
	edit_end(q);
	return rc;
}

int qcow2_bitmap_enable(struct co *co, struct node *n, const char *name, bool enabled, struct err *err)
{
	struct qcow2 *q = qcow2_of(n);
	struct qcow2_dirty_bitmap *b;
	int rc = edit_begin(co, q, err);

	if (rc)
		return rc;
	rc = find(q, name, true, &b, err);
	if (!rc)
		rc = make(co, q, b, NULL, enabled, err);
	edit_end(q);
	return rc;
}

/* Granules of one size that are set, in those of another: whatever they touch. */
static void add_bits(struct sparse *to, unsigned to_bits, const struct sparse *from, unsigned from_bits)
{
	for (uint64_t at = 0; (at = sparse_find(from, at, from->bits, true)) < from->bits;) {
		uint64_t end = sparse_find(from, at, from->bits, false);
		uint64_t first = at << from_bits >> to_bits, last = ((end << from_bits) - 1) >> to_bits;

		sparse_set(to, first, MIN(last, to->bits - 1) - first + 1);
		at = end;
	}
}

static int source_load(struct co *co, struct qcow2 *from, const char *name, struct err *err)
{
	struct qcow2_bitmap_status *list;
	struct qcow2_dirty_bitmap *b;
	unsigned count;
	int rc = qcow2_bitmap_list(co, &from->node, &list, &count, err);

	if (rc)
		return rc;
	free(list);
	return find(from, name, true, &b, err);
}

/* Doesn't yield from looking the source up to the last use of it. */
static int sum_bits(struct qcow2 *q, const struct qcow2_dirty_bitmap *b, struct qcow2 *from, const char *name,
	struct sparse *sum, struct err *err)
{
	struct qcow2_dirty_bitmap *source;
	int rc = find(from, name, true, &source, err);

	if (!rc && from->node.size != q->node.size)
		rc = err_set(err, -EINVAL,
			"Bitmaps are of different sizes (destination size is %" PRIu64 ", source size is %" PRIu64
			") and can't be merged",
			q->node.size, from->node.size);
	if (!rc)
		rc = empty_bits(q, b, sum, err);
	if (rc)
		return rc;
	add_bits(sum, b->granularity_bits, &b->bits, b->granularity_bits);
	add_bits(sum, b->granularity_bits, &source->bits, source->granularity_bits);
	return 0;
}

int qcow2_bitmap_merge(
	struct co *co, struct node *n, const char *name, struct node *from, const char *source, struct err *err)
{
	struct qcow2 *q = qcow2_of(n);
	struct qcow2_dirty_bitmap *b;
	struct sparse sum = {0};
	int rc = source_load(co, qcow2_of(from), source, err);

	if (!rc)
		rc = edit_begin(co, q, err);
	if (rc)
		return rc;
	rc = find(q, name, true, &b, err);
	if (!rc)
		rc = sum_bits(q, b, qcow2_of(from), source, &sum, err);
	if (!rc)
		rc = make(co, q, b, &sum, b->enabled, err);
	sparse_fini(&sum);
	edit_end(q);
	return rc;
}
