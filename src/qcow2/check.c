/* SPDX-License-Identifier: MIT */
/*
 * The check: every reference in the image is counted, then the counts are held against the refcounts. It reads the file
 * with its own eyes (nothing is shared with the engine but the header's parser), so that it can find the engine's mistakes
 * too. Lines and totals are those of qemu-img check, but for clusters that serve two purposes, which it doesn't see.
 */
#include "qcow2/check.h"

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/math.h"
#include "qcow2/snapshot.h"

#define KNOWN_FEATURES                                                                                                 \
	(QCOW2_INCOMPAT_DIRTY | QCOW2_INCOMPAT_CORRUPT | QCOW2_INCOMPAT_DATA_FILE | QCOW2_INCOMPAT_COMPRESSION |       \
		QCOW2_INCOMPAT_EXTENDED_L2)
#define REFTABLE_RESERVED UINT64_C(0x1ff)
#define BITMAP_OFFSET_MASK UINT64_C(0x00fffffffffffe00)
#define SNAPSHOT_V3_EXTRA 16

void qcow2_check_found(struct qcow2_checker *c, uint64_t *total, const char *format, ...)
{
	char text[ERR_TEXT_BYTES + 64];
	va_list args;

	va_start(args, format);
	vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	if (total)
		++*total;
	if (c->say)
		c->say(c->say_arg, text);
}

/* ---- snapshots ---- */

static int snapshot_check(struct co *co, struct qcow2_checker *c, const struct qcow2_snapshot *s, uint32_t index)
{
	uint64_t *corruptions = &c->out->corruptions;

	if (c->header.version >= 3 && s->extra_bytes < SNAPSHOT_V3_EXTRA)
		qcow2_check_found(c, corruptions, "ERROR snapshot table entry %" PRIu32 " is incomplete", index);
	if (!is_aligned(s->l1.off, c->cluster_bytes)) {
		qcow2_check_found(c, corruptions,
			"ERROR snapshot %s (%s) l1_offset=%#" PRIx64
			": L1 table is not cluster aligned; snapshot table entry corrupted",
			s->info.id, s->info.name, s->l1.off);
		return 0;
	}
	if (s->l1_entries > QCOW2_MAX_L1_BYTES / 8) {
		qcow2_check_found(c, corruptions,
			"ERROR snapshot %s (%s) l1_size=%#" PRIx32
			": L1 table is too large; snapshot table entry corrupted",
			s->info.id, s->info.name, s->l1_entries);
		return 0;
	}
	return qcow2_check_l1(co, c, s->l1, s->l1_entries, false);
}

static int snapshots_check(struct co *co, struct qcow2_checker *c)
{
	struct qcow2_snapshot_walk walk = {.window.file = c->file, .header = &c->header};
	struct qcow2_snapshot one;
	struct err err = {0};
	int ret = 0, more;

	while ((more = qcow2_snapshot_next(co, &walk, &one, &err)) > 0 && ret == 0)
		ret = snapshot_check(co, c, &one, walk.next - 1);
	free(walk.window.bytes);
	if (more < 0)
		qcow2_check_found(c, &c->out->corruptions, "ERROR %s", err.text);
	if (ret < 0 || walk.next == 0)
		return ret;
	return qcow2_counts_add(c, c->header.snapshots_at.off, walk.at - c->header.snapshots_at.off, QCOW2_ROLE_OTHER);
}

/* ---- bitmaps ---- */

static int bitmap_entry_check(struct qcow2_checker *c, const struct qcow2_bitmap *b, uint32_t index, uint64_t entry)
{
	uint64_t host = entry & BITMAP_OFFSET_MASK;
	/* Bit 0 says that an unallocated cluster reads ones; with an offset it is reserved. */
	uint64_t reserved = ~BITMAP_OFFSET_MASK & ~(host == 0 ? UINT64_C(1) : 0);

	if ((entry & reserved) || !is_aligned(host, c->cluster_bytes)) {
		qcow2_check_found(c, &c->out->corruptions,
			"ERROR bitmap '%s' table entry %" PRIu32 " is invalid: %" PRIx64, b->info.name, index, entry);
		return 0;
	}
	return host ? qcow2_counts_add(c, host, c->cluster_bytes, QCOW2_ROLE_OTHER) : 0;
}

static int bitmap_entries_check(
	struct co *co, struct qcow2_checker *c, const struct qcow2_bitmap *b, struct qcow2_window *window)
{
	uint64_t inside = b->table.off < c->file->size ? div_round_up(c->file->size - b->table.off, 8) : 0;
	int ret = 0;

	for (uint32_t i = 0; i < MIN((uint64_t)b->table_entries, inside) && ret == 0; i++) {
		const void *bytes;
		be64 entry;

		ret = qcow2_window_get(co, window, b->table.off + UINT64_C(8) * i, sizeof(entry), &bytes);
		if (ret < 0) {
			qcow2_check_found(c, &c->out->check_errors, "ERROR: the table of bitmap '%s' can't be read: %s",
				b->info.name, strerror(-ret));
			return 0;
		}
		memcpy(&entry, bytes, sizeof(entry));
		ret = bitmap_entry_check(c, b, i, be64_get(entry));
	}
	return ret;
}

static int bitmap_check(struct co *co, struct qcow2_checker *c, const struct qcow2_bitmap *b)
{
	struct qcow2_window window = {.file = c->file};
	int ret = qcow2_counts_add(c, b->table.off, UINT64_C(8) * b->table_entries, QCOW2_ROLE_OTHER);

	if (ret == 0)
		ret = bitmap_entries_check(co, c, b, &window);
	free(window.bytes);
	return ret;
}

static int bitmaps_check(struct co *co, struct qcow2_checker *c)
{
	struct qcow2_bitmap_walk walk = {.window.file = c->file, .header = &c->header};
	struct qcow2_bitmap *one;
	struct err err = {0};
	int ret, more = 0;

	if (c->header.bitmaps == 0)
		return 0;
	one = malloc(sizeof(*one));
	if (!one)
		return -ENOMEM;
	ret = qcow2_counts_add(c, c->header.bitmap_directory.off, c->header.bitmap_directory_bytes, QCOW2_ROLE_OTHER);
	while (ret == 0 && (more = qcow2_bitmap_next(co, &walk, one, &err)) > 0)
		ret = bitmap_check(co, c, one);
	free(walk.window.bytes);
	free(one);
	if (more < 0)
		qcow2_check_found(c, &c->out->corruptions, "ERROR %s", err.text);
	return ret;
}

/* ---- refcounts ---- */

static int reftable_entry_check(struct qcow2_checker *c, uint64_t index, uint64_t entry)
{
	uint64_t *corruptions = &c->out->corruptions, count;
	uint64_t host = entry & ~REFTABLE_RESERVED;
	int ret;

	if (entry & REFTABLE_RESERVED) {
		qcow2_check_found(
			c, corruptions, "ERROR refcount table entry %" PRIu64 " has reserved bits set", index);
		return 0;
	}
	if (!is_aligned(host, c->cluster_bytes)) {
		qcow2_check_found(c, corruptions,
			"ERROR refcount block %" PRIu64 " is not cluster aligned; refcount table entry corrupted",
			index);
		return 0;
	}
	if (host >= c->file->size) {
		qcow2_check_found(c, corruptions, "ERROR refcount block %" PRIu64 " is outside image", index);
		return 0;
	}
	if (host == 0)
		return 0;
	ret = qcow2_counts_add(c, host, c->cluster_bytes, QCOW2_ROLE_REFCOUNTS);
	count = qcow2_counts_get(c, host / c->cluster_bytes);
	if (ret == 0 && count != 1)
		qcow2_check_found(c, corruptions, "ERROR refcount block %" PRIu64 " refcount=%" PRIu64, index, count);
	return ret;
}

static int refcounts_check(struct co *co, struct qcow2_checker *c)
{
	uint64_t bytes = c->header.reftable_clusters * c->cluster_bytes;
	int ret = qcow2_counts_add(c, c->header.reftable.off, bytes, QCOW2_ROLE_REFCOUNTS);

	if (ret == 0 && c->header.crypto_bytes != 0)
		ret = qcow2_counts_add(c, c->header.crypto.off, c->header.crypto_bytes, QCOW2_ROLE_OTHER);
	if (ret == 0)
		ret = bitmaps_check(co, c);
	if (ret == 0)
		ret = qcow2_check_read(co, c, c->header.reftable.off, c->refcounts.table, bytes);
	for (uint64_t i = 0; i < c->refcounts.entries && ret == 0; i++) {
		if (be64_get(c->refcounts.table[i]) != 0)
			ret = reftable_entry_check(c, i, be64_get(c->refcounts.table[i]));
	}
	return ret;
}

/* ---- all of it ---- */

static int check_all(struct co *co, struct qcow2_checker *c)
{
	int ret = qcow2_counts_add(c, 0, c->cluster_bytes, QCOW2_ROLE_HEADER);

	if (ret == 0)
		ret = qcow2_check_l1(co, c, c->header.l1, c->header.l1_entries, true);
	if (ret == 0)
		ret = snapshots_check(co, c);
	if (ret == 0)
		ret = refcounts_check(co, c);
	if (ret == 0)
		ret = qcow2_check_compare(co, c);
	if (ret == 0)
		ret = qcow2_check_copied(co, c);
	return ret;
}

int qcow2_check_run(
	struct co *co, struct node *file, qcow2_say *say, void *arg, struct qcow2_check *out, struct err *err)
{
	struct qcow2_checker *c = calloc(1, sizeof(*c));
	unsigned width;
	int ret;

	*out = (struct qcow2_check){0};
	if (!c)
		return err_set(err, -ENOMEM, "no memory for the check");
	c->file = file;
	c->say = say;
	c->say_arg = arg;
	c->out = out;
	ret = qcow2_header_load(co, file, KNOWN_FEATURES, &c->header, err);
	if (ret == 0) {
		c->cluster_bytes = UINT64_C(1) << c->header.cluster_bits;
		width = 1u << c->header.refcount_order;
		c->refcount_max = width == 64 ? UINT64_MAX : (UINT64_C(1) << width) - 1;
		out->total_clusters = div_round_up(c->header.size, c->cluster_bytes);
		ret = qcow2_counts_init(c, err);
	}
	if (ret == 0) {
		ret = check_all(co, c);
		if (ret < 0)
			err_set(err, ret, "the check had to be given up: %s", strerror(-ret));
	}
	qcow2_counts_fini(c);
	free(c);
	return ret;
}
