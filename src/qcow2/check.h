/* SPDX-License-Identifier: MIT */
/* The check inside: what its files share. It reads the image by itself and uses nothing of the engine's caches. */
#ifndef CORRAL_QCOW2_CHECK_H
#define CORRAL_QCOW2_CHECK_H

#include "base/attr.h"
#include "qcow2/qcow2.h"

/* What a host cluster is used for. A cluster may serve many times, but only as one thing. */
enum qcow2_role {
	QCOW2_ROLE_NONE,
	QCOW2_ROLE_HEADER,
	QCOW2_ROLE_L1,
	QCOW2_ROLE_L2,
	QCOW2_ROLE_DATA,
	QCOW2_ROLE_COMPRESSED,
	QCOW2_ROLE_REFCOUNTS,
	QCOW2_ROLE_OTHER, /* snapshot table, bitmaps, encryption header */
};

/* References counted per host cluster. Memory comes in leaves, as clusters are met: what a sparse file only claims costs
 * nothing. */
struct qcow2_counts {
	uint32_t **leaves;
	uint64_t leaf_entries; /* of the array above */
	uint64_t clusters;     /* one more than the highest that is in the file or was met */
	uint64_t bytes;        /* of leaves */
};

struct qcow2_refcounts { /* those that the image has on disk, read as needed */
	be64 *table;     /* header.reftable_clusters of them */
	uint64_t entries;
	unsigned char *blocks; /* a direct-mapped cache */
	uint64_t *cached;      /* which block lies in a slot, + 1 */
	uint64_t slots;
	uint64_t per_block;
};

struct qcow2_checker {
	struct node *file;
	struct qcow2_header header;
	uint64_t cluster_bytes;
	uint64_t refcount_max;
	struct qcow2_counts counts;
	struct qcow2_refcounts refcounts;
	qcow2_say *say;
	void *say_arg;
	struct qcow2_check *out;
};

/* One line told; *total, if there is one, goes up. */
void qcow2_check_found(struct qcow2_checker *c, uint64_t *total, const char *format, ...) ATTR_PRINTF(3, 4);

/* ---- check_counts.c ---- */

int qcow2_counts_init(struct qcow2_checker *c, struct err *err) ATTR_MUST_USE;
void qcow2_counts_fini(struct qcow2_checker *c);
/* Host bytes [off, off + bytes) are used once (more). What lies outside the file is a corruption, told here. */
int qcow2_counts_add(struct qcow2_checker *c, uint64_t off, uint64_t bytes, enum qcow2_role role) ATTR_MUST_USE;
uint64_t qcow2_counts_get(const struct qcow2_checker *c, uint64_t cluster);
/* The refcount that the image has for it. -EIO: there is no telling. */
int qcow2_check_refcount(struct co *co, struct qcow2_checker *c, uint64_t cluster, uint64_t *out) ATTR_MUST_USE;
/* Counts against refcounts, for every cluster. */
int qcow2_check_compare(struct co *co, struct qcow2_checker *c) ATTR_MUST_USE;
/* Reads what there is of [off, off + len); zeros past the end of the file. */
int qcow2_check_read(struct co *co, struct qcow2_checker *c, uint64_t off, void *to, size_t len) ATTR_MUST_USE;

/* ---- check_tables.c ---- */

/* Counts what an L1 table refers to, itself included. active: the one the guest sees, which tells of fragmentation. */
int qcow2_check_l1(struct co *co, struct qcow2_checker *c, struct host l1, uint32_t entries, bool active) ATTR_MUST_USE;
/* Whether the COPIED flags of the active tables tell the truth. */
int qcow2_check_copied(struct co *co, struct qcow2_checker *c) ATTR_MUST_USE;

#endif
