/* SPDX-License-Identifier: MIT */
/* Walks along the snapshot table and the bitmap directory: records of variable length, read through a window. */
#ifndef CORRAL_QCOW2_SNAPSHOT_H
#define CORRAL_QCOW2_SNAPSHOT_H

#include "qcow2/qcow2.h"

#define QCOW2_WINDOW_BYTES 65536
#define QCOW2_MAX_SNAPSHOT_EXTRA 1024
#define QCOW2_MAX_SNAPSHOT_TABLE (UINT64_C(64) << 20)

/* A piece of the file in memory. What lies past the file's end reads zeros. */
struct qcow2_window {
	struct node *file;
	char *bytes; /* QCOW2_WINDOW_BYTES; free it */
	uint64_t at;
	size_t len;
};
/* The bytes at [off, off + len), len at most QCOW2_WINDOW_BYTES, good until the next call. */
int qcow2_window_get(struct co *co, struct qcow2_window *w, uint64_t off, size_t len, const void **out) ATTR_MUST_USE;

struct qcow2_disk_snapshot {
	be64 l1_offset;
	be32 l1_entries;
	be16 id_bytes, name_bytes;
	be32 date_sec, date_nsec;
	be64 vm_clock_nsec;
	be32 vm_state_bytes;
	be32 extra_bytes;
} __attribute__((packed));

struct qcow2_snapshot {
	struct qcow2_snapshot_info info;
	struct host l1;
	uint32_t l1_entries;
	uint32_t extra_bytes;
};

struct qcow2_snapshot_walk {
	struct qcow2_window window;
	const struct qcow2_header *header;
	uint32_t next;
	uint64_t at; /* of the next one; at the end, the end of the table */
};
/* 1: *out is the next one. 0: that was all. -EINVAL: the table is malformed, explained. */
int qcow2_snapshot_next(struct co *co, struct qcow2_snapshot_walk *walk, struct qcow2_snapshot *out, struct err *err)
	ATTR_MUST_USE;

struct qcow2_snapshot_place { /* one of them, and where its record lies in the table: bytes [from, to) */
	struct qcow2_snapshot is;
	uint64_t from, to;
};
/* By ID or, where there is none of that ID, by name. -ENOENT. */
int qcow2_snapshot_find(struct co *co, struct node *file, const struct qcow2_header *h, const char *which,
	struct qcow2_snapshot_place *out, struct err *err) ATTR_MUST_USE;
/* Makes the header one of the disk as it was in the snapshot. */
int qcow2_snapshot_view(struct co *co, struct node *file, struct qcow2_header *h, const char *which, struct err *err)
	ATTR_MUST_USE;
/* Whether its L1 table lies in the file and is long enough for a disk of `bytes`. */
int qcow2_snapshot_check(const struct qcow2_header *h, uint64_t file_bytes, const struct qcow2_snapshot *s,
	uint64_t bytes, struct err *err) ATTR_MUST_USE;

struct qcow2_records { /* the snapshot table, as it lies in the file */
	char *bytes;   /* free it; room for one more */
	size_t len;    /* of all records, each padded to 8 */
	uint32_t n;
	uint64_t highest_id; /* of those that are numbers */
};
int qcow2_records_load(struct co *co, struct node *file, const struct qcow2_header *h, struct qcow2_records *out,
	struct err *err) ATTR_MUST_USE;
/* How long the record of one with this ID and name is. */
uint64_t qcow2_record_bytes(const struct qcow2_snapshot_info *info);
/* Appends one, as QEMU 7.2 writes it. -EFBIG, -ENAMETOOLONG. */
int qcow2_records_add(struct qcow2_records *r, const struct qcow2_snapshot *s, struct err *err) ATTR_MUST_USE;
/* Gives each record the fields that version 3 wants and it lacks: the size of the VM state, 64 bits wide, and that of the
 * disk. *changed: one lacked some. */
int qcow2_records_complete(struct qcow2_records *r, uint64_t disk_bytes, bool *changed) ATTR_MUST_USE;
void qcow2_records_remove(struct qcow2_records *r, uint64_t from, uint64_t to);

struct qcow2_disk_bitmap { /* an entry of the bitmap directory */
	be64 table_offset;
	be32 table_entries;
	be32 flags;
	uint8_t type, granularity_bits;
	be16 name_bytes;
	be32 extra_bytes;
} __attribute__((packed));

struct qcow2_bitmap {
	struct qcow2_bitmap_info info;
	struct host table;
	uint32_t table_entries;
	struct host extra; /* bytes of the entry that are kept for those who understand them */
	uint32_t extra_bytes;
};

struct qcow2_bitmap_walk {
	struct qcow2_window window;
	const struct qcow2_header *header;
	uint32_t next;
	uint64_t at;
};
int qcow2_bitmap_next(struct co *co, struct qcow2_bitmap_walk *walk, struct qcow2_bitmap *out, struct err *err)
	ATTR_MUST_USE;

#endif
