/* SPDX-License-Identifier: MIT */
/*
 * What must not be written over: the clusters that hold metadata. Whoever writes guest data asks before, whoever takes space
 * asks whether it is free of them, and whoever changes a table asks whether it is the only thing that lies there.
 *
 * A wrong answer would be a catastrophe either way, so the truth is asked and nothing else: the header, and the tables in
 * memory. What has one place in the file (header, L1 table, refcount table, bitmap directory, encryption header) is compared
 * with it. L2 tables and refcount blocks are many: a hash table tells, for a cluster, which entry would have to name it, and
 * then that entry is looked at. So what the hash table knows may be out of date. What lies in snapshots isn't in memory: it
 * is in the hash table from the opening, or from its making, until its refcount falls to 0.
 *
 * Only of images that are open for writing; 16 bytes and as much again for each table that the file holds.
 */
#ifndef CORRAL_QCOW2_GUARD_H
#define CORRAL_QCOW2_GUARD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/attr.h"
#include "co/co.h"

struct qcow2;

enum qcow2_role {
	QCOW2_ROLE_NONE,
	QCOW2_ROLE_HEADER,
	QCOW2_ROLE_L1,
	QCOW2_ROLE_L2,
	QCOW2_ROLE_REFTABLE,
	QCOW2_ROLE_REFBLOCK,
	QCOW2_ROLE_SNAPSHOTS,
	QCOW2_ROLE_INACTIVE_L1,
	QCOW2_ROLE_INACTIVE_L2,
	QCOW2_ROLE_BITMAPS,
	QCOW2_ROLE_CRYPTO,
};

struct qcow2_guarded {
	uint64_t cluster; /* 0: a free slot */
	uint32_t index;   /* of the L1 table or the refcount table */
	uint32_t role;
};

struct qcow2_guard {
	struct qcow2_guarded *v; /* a hash table; NULL: the image isn't open for writing */
	size_t n, slots;         /* slots: a power of two, at least twice n */
	bool incomplete;         /* there was no memory for some */
};

/* All that the tables in memory name, which have just been loaded, and what snapshots have. */
int qcow2_guard_start(struct co *co, struct qcow2 *q) ATTR_MUST_USE;
void qcow2_guard_fini(struct qcow2 *q);
/* The entry names this cluster from now on. */
void qcow2_guard_add(struct qcow2 *q, uint64_t host, enum qcow2_role role, uint64_t index);
/* Snapshots have [host, host + bytes), until it is free. */
void qcow2_guard_keep(struct qcow2 *q, uint64_t host, uint64_t bytes, enum qcow2_role role);
/* The cluster's refcount has fallen to 0. */
void qcow2_guard_free(struct qcow2 *q, uint64_t cluster);

/* Whether [host, host + bytes) may be written, or given out. If not the image is marked corrupt: -EIO. */
int qcow2_guard_write(struct co *co, struct qcow2 *q, uint64_t host, uint64_t bytes) ATTR_MUST_USE;
/* Whether the table at host, which the entry names, may be changed. The same. */
int qcow2_guard_table(struct co *co, struct qcow2 *q, uint64_t host, enum qcow2_role role, uint64_t index)
	ATTR_MUST_USE;

#endif
