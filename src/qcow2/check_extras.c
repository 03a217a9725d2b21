/* SPDX-License-Identifier: MIT */
/*
 * References from the snapshot table and the bitmap directory. Where one of them is malformed, what it refers to isn't
 * known: then nothing may be given back. Source: docs/interop/qcow2.rst, "Snapshots" and "Bitmaps".
 */
#include "qcow2/check.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "qcow2/snapshot.h"

#define SNAPSHOT_V3_EXTRA 16

/* Before its end. What can't be read may be in order: only what was read can be corrupt. */
static void walk_ended(struct qcow2_checker *c, int why, const struct err *err)
{
	bool malformed = why == -EINVAL || why == -EFBIG;

	c->incomplete = true;
	qcow2_check_found(c, malformed ? &c->out->corruptions : &c->out->check_errors, "ERROR %s", err->text);
}

/* ---- snapshots ---- */

static int snapshot_check(struct co *co, struct qcow2_checker *c, const struct qcow2_snapshot *s, uint32_t index)
{
	uint64_t *corruptions = &c->out->corruptions;

	if (c->header.version >= 3 && s->extra_bytes < SNAPSHOT_V3_EXTRA) {
		c->bad_snapshots++;
		qcow2_check_found(c, corruptions, "ERROR snapshot table entry %" PRIu32 " is incomplete", index);
	}
	if (!is_aligned(s->l1.off, c->cluster_bytes)) {
		c->unsure = true;
		qcow2_check_found(c, corruptions,
			"ERROR snapshot %s (%s) l1_offset=%#" PRIx64
			": L1 table is not cluster aligned; snapshot table entry corrupted",
			s->info.id, s->info.name, s->l1.off);
		return 0;
	}
	if (s->l1_entries > QCOW2_MAX_L1_BYTES / 8) {
		c->unsure = true;
		qcow2_check_found(c, corruptions,
			"ERROR snapshot %s (%s) l1_size=%#" PRIx32
			": L1 table is too large; snapshot table entry corrupted",
			s->info.id, s->info.name, s->l1_entries);
		return 0;
	}
	return qcow2_check_l1(co, c, s->l1, s->l1_entries, false);
}

int qcow2_check_snapshots(struct co *co, struct qcow2_checker *c)
{
	struct qcow2_snapshot_walk walk = {.window.file = c->file, .header = &c->header};
	struct qcow2_snapshot one;
	struct err err = {0};
	int ret = 0, more;

	while ((more = qcow2_snapshot_next(co, &walk, &one, &err)) > 0 && ret == 0)
		ret = snapshot_check(co, c, &one, walk.next - 1);
	free(walk.window.bytes);
	if (more < 0)
		walk_ended(c, more, &err);
	if (ret < 0 || walk.next == 0)
		return ret;
	return qcow2_counts_add(
		c, c->header.snapshots_at.off, walk.at - c->header.snapshots_at.off, QCOW2_ROLE_OTHER, 0);
}

int qcow2_check_trees(struct co *co, struct qcow2_checker *c, qcow2_table_fn *fn)
{
	struct qcow2_snapshot_walk walk = {.window.file = c->file, .header = &c->header};
	struct qcow2_snapshot one;
	int ret = qcow2_check_tables(co, c, c->header.l1, c->header.l1_entries, fn), more = 1;

	while (ret == 0 && (more = qcow2_snapshot_next(co, &walk, &one, NULL)) > 0) {
		if (is_aligned(one.l1.off, c->cluster_bytes) && one.l1_entries <= QCOW2_MAX_L1_BYTES / 8)
			ret = qcow2_check_tables(co, c, one.l1, one.l1_entries, fn);
	}
	free(walk.window.bytes);
	return ret < 0 ? ret : more;
}

/* ---- bitmaps ---- */

static int bitmap_entry_check(struct qcow2_checker *c, const struct qcow2_bitmap *b, uint32_t index, uint64_t entry)
{
	uint64_t host = entry & CHECK_OFFSET_MASK;
	/* Bit 0 says that an unallocated cluster reads ones; with an offset it is reserved. */
	uint64_t reserved = ~CHECK_OFFSET_MASK & ~(host == 0 ? UINT64_C(1) : 0);

	if ((entry & reserved) || !is_aligned(host, c->cluster_bytes)) {
		c->incomplete = true;
		qcow2_check_found(c, &c->out->corruptions,
			"ERROR bitmap '%s' table entry %" PRIu32 " is invalid: %" PRIx64, b->info.name, index, entry);
		return 0;
	}
	return host ? qcow2_counts_add(c, host, c->cluster_bytes, QCOW2_ROLE_OTHER, 0) : 0;
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
			c->incomplete = true;
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
	int ret = qcow2_counts_add(c, b->table.off, UINT64_C(8) * b->table_entries, QCOW2_ROLE_OTHER, 0);

	if (ret == 0)
		ret = bitmap_entries_check(co, c, b, &window);
	free(window.bytes);
	return ret;
}

int qcow2_check_bitmaps(struct co *co, struct qcow2_checker *c)
{
	struct qcow2_bitmap_walk walk = {.window.file = c->file, .header = &c->header};
	struct qcow2_bitmap *one;
	struct err err = {0};
	int ret, more = 0;
	uint64_t end;

	if (c->header.bitmaps == 0)
		return 0;
	one = malloc(sizeof(*one));
	if (!one)
		return -ENOMEM;
	ret = qcow2_counts_add(
		c, c->header.bitmap_directory.off, c->header.bitmap_directory_bytes, QCOW2_ROLE_OTHER, 0);
	while (ret == 0 && (more = qcow2_bitmap_next(co, &walk, one, &err)) > 0)
		ret = bitmap_check(co, c, one);
	end = c->header.bitmap_directory.off + c->header.bitmap_directory_bytes;
	if (ret == 0 && more == 0 && walk.at != end)
		qcow2_check_found(c, &c->out->corruptions,
			"ERROR the bitmap directory has %" PRIu64 " bytes behind its last entry", end - walk.at);
	free(walk.window.bytes);
	free(one);
	if (more < 0)
		walk_ended(c, more, &err);
	return ret;
}
