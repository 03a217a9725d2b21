/* SPDX-License-Identifier: MIT */
/* What create, delete and apply share, and what the driver needs of them. */
#ifndef CORRAL_QCOW2_SNAPSHOT_OPS_H
#define CORRAL_QCOW2_SNAPSHOT_OPS_H

#include "qcow2/engine.h"
#include "qcow2/snapshot.h"

/* One operation at a time, and no search for leaks meanwhile. Fails, explained, where there can be none; then it isn't to
 * be left. */
int qcow2_snapshot_enter(struct co *co, struct qcow2 *q, struct err *err) ATTR_MUST_USE;
void qcow2_snapshot_leave(struct qcow2 *q);

/* Version 3 wants the 64-bit size of the VM state and that of the disk in each snapshot's record. Durable. */
int qcow2_snapshots_complete(struct co *co, struct qcow2 *q, struct err *err) ATTR_MUST_USE;

struct qcow2_space { /* adjacent clusters of ours; bytes 0: none */
	uint64_t host, bytes;
};
int qcow2_space_take(struct co *co, struct qcow2 *q, uint64_t bytes, struct qcow2_space *out, struct err *err)
	ATTR_MUST_USE;
/* At once: no header on disk can name it. */
void qcow2_space_give_back(struct co *co, struct qcow2 *q, struct qcow2_space *s);
/* Through quarantine: the header on disk may name it until a commit has succeeded. */
void qcow2_space_free(struct qcow2 *q, struct qcow2_space *s);

/* An L1 table on disk, from and to one in host order; entries are read without their flags. */
int qcow2_l1_write(struct co *co, struct qcow2 *q, uint64_t host, const uint64_t *l1, uint64_t n) ATTR_MUST_USE;
int qcow2_l1_read(struct co *co, struct qcow2 *q, uint64_t host, uint64_t *l1, uint64_t n) ATTR_MUST_USE;

/* ---- snapshot_look.c ---- */

/* Before the first request: finds out what must be known of the snapshots that are there. */
int qcow2_snapshots_look(struct co *co, struct qcow2 *q) ATTR_MUST_USE;

/* ---- snapshot_ops.c ---- */

/* Waits for those that run; they give up what would take long. */
void qcow2_snapshots_stop(struct co *co, struct qcow2 *q);

#endif
