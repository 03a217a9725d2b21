/* SPDX-License-Identifier: MIT */
/*
 * The persistent dirty bitmaps of an open image. Source: docs/interop/qcow2.rst, "Bitmaps extension" and "Bitmaps".
 *
 * Each bitmap has a state on disk, `now`: the entry of the directory that is in force. What it shall be after the next
 * switch of the directory is `next`; outside of a switch the two are the same. Its content in memory is `bits`, right for
 * all that requests have changed or are about to change, where `usable` says so.
 *
 *     enabled    marked in use on disk as long as the image is open for writing; stored by the close
 *     disabled   right on disk at all times, and not marked, unless the disk is resized: then stored by the close
 *     unusable   of a program that ended before it stored it, or not understood: kept, not looked at; may be removed
 *
 * All that changes the list, the directory or a table holds `editing`. Tracking needs no lock, as it doesn't yield.
 */
#ifndef CORRAL_QCOW2_BITMAPS_H
#define CORRAL_QCOW2_BITMAPS_H

#include "base/sparse.h"
#include "qcow2/engine.h"

#define QCOW2_BITMAP_MIN_GRANULARITY_BITS 9
#define QCOW2_BITMAP_MAX_GRANULARITY_BITS 31
#define QCOW2_BITMAP_MAX_BYTES (UINT64_C(512) << 20)       /* of one bitmap's data: QEMU takes no more */
#define QCOW2_BITMAPS_MEMORY (UINT64_C(256) << 20)         /* of all of them, in memory */
#define QCOW2_BITMAP_RESERVED UINT64_C(0xff000000000001fe) /* bits of a table entry */
#define QCOW2_BITMAP_ONES UINT64_C(1)                      /* an entry without data: all ones */

struct qcow2_bitmap_disk {
	struct host table;
	uint32_t entries;
	uint32_t flags; /* QCOW2_BITMAP_* */
};

struct qcow2_dirty_bitmap {
	struct list link;
	char *name;
	unsigned granularity_bits;
	void *extra; /* bytes of the directory entry that are kept as they are */
	uint32_t extra_bytes;
	struct qcow2_bitmap_disk now, next;
	uint64_t *plan; /* the entries of a table of next's own that isn't in force yet; NULL: it keeps its table */
	const struct sparse *planned;
	bool added, removed; /* by the switch that is under way */
	bool usable, enabled;
	bool changed; /* bits differ from what the table says */
	struct sparse bits;
};

struct qcow2_bitmaps {
	struct list all;         /* of qcow2_dirty_bitmap, in the directory's order */
	struct co_mutex editing; /* before all other locks of the image */
	struct sparse_budget memory;
	bool loaded;
	bool unsure; /* which directory the disk has, after an error: what an older one refers to isn't known any more */
};

static inline uint64_t qcow2_bitmap_bits(const struct qcow2_dirty_bitmap *b, uint64_t disk_bytes)
{
	return div_round_up(disk_bytes, UINT64_C(1) << b->granularity_bits);
}

/* Entries that the table of so many bits has. */
static inline uint64_t qcow2_bitmap_table_entries(const struct qcow2 *q, uint64_t bits)
{
	return div_round_up(div_round_up(bits, 8), q->cluster_bytes);
}

/* ---- bitmap_table.c ---- */

/* What the entry refers to; 0: nothing. */
static inline uint64_t qcow2_bitmap_entry_host(uint64_t entry) { return entry & QCOW2_OFFSET_MASK; }
bool qcow2_bitmap_entry_valid(const struct qcow2 *q, uint64_t entry);

/* Calls fn for each entry of a table on disk; the first result that isn't 0 ends it and is the result. */
int qcow2_bitmap_table_walk(struct co *co, struct qcow2 *q, const struct qcow2_bitmap_disk *disk,
	int (*fn)(struct co *co, struct qcow2 *q, uint32_t index, uint64_t entry, void *arg), void *arg) ATTR_MUST_USE;

/* Takes the references of a table that isn't in force any more, and of its data. */
void qcow2_bitmap_table_free(struct co *co, struct qcow2 *q, const struct qcow2_bitmap_disk *disk);

/* Takes space for `bits` as b->plan, and b->next.table; nothing is written yet. The bits stay as they are until the switch. */
int qcow2_bitmap_plan(struct co *co, struct qcow2 *q, struct qcow2_dirty_bitmap *b, const struct sparse *bits)
	ATTR_MUST_USE;
/* Writes the data, then the table. */
int qcow2_bitmap_plan_write(struct co *co, struct qcow2 *q, const struct qcow2_dirty_bitmap *b) ATTR_MUST_USE;
/* It isn't to be: gives the space back. Nothing on disk ever pointed to it. */
void qcow2_bitmap_plan_drop(struct co *co, struct qcow2 *q, struct qcow2_dirty_bitmap *b);

/* ---- bitmap_store.c ---- */

/* Puts a directory into force that says what each bitmap's `next` says; then `now` says so too, and what the old one alone
 * referred to is freed. Where it fails before that, all is as it was. Else the disk has one or the other: what both refer
 * to stays, and `now` is what the new one says. */
int qcow2_bitmaps_switch(struct co *co, struct qcow2 *q, struct err *err) ATTR_MUST_USE;

/* The image is about to be closed; no request is in flight. */
int qcow2_bitmaps_close(struct co *co, struct qcow2 *q) ATTR_MUST_USE;

/* ---- bitmap_load.c ---- */

void qcow2_bitmap_free(struct qcow2_dirty_bitmap *b); /* its memory */
int qcow2_bitmaps_init(struct qcow2 *q) ATTR_MUST_USE;
void qcow2_bitmaps_free(struct qcow2 *q);
struct qcow2_dirty_bitmap *qcow2_bitmaps_find(const struct qcow2 *q, const char *name);
/* Reads the directory and the content of what is valid, once; the caller holds `editing`. */
int qcow2_bitmaps_load(struct co *co, struct qcow2 *q, struct err *err) ATTR_MUST_USE;
/* At the opening of an image; for writing: also marks in use what may change. */
int qcow2_bitmaps_open(struct co *co, struct qcow2 *q, struct err *err) ATTR_MUST_USE;
/* Of autoclear bits: those that stay, since what they promise is kept up. */
uint64_t qcow2_bitmaps_autoclear(const struct qcow2 *q);

/* ---- bitmap_track.c ---- */

void qcow2_bitmaps_changing(struct node *n, uint64_t off, uint64_t len);
/* Around a change of the disk's size. New space is clean, as QEMU has it: the size itself tells of it. */
int qcow2_bitmaps_resize_begin(struct co *co, struct qcow2 *q, uint64_t size) ATTR_MUST_USE;
void qcow2_bitmaps_resize_end(struct qcow2 *q);

#endif
