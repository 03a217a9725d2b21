/* SPDX-License-Identifier: MIT */
/* A change of the header that may change its size: names, extensions, version. */
#ifndef CORRAL_QCOW2_REWRITE_H
#define CORRAL_QCOW2_REWRITE_H

#include "qcow2/header.h"

/* Makes the header what it should be. Atomic, and called twice: to plan, and at the instant of the change, when fields that
 * it leaves alone may differ. It must not change the cluster size. */
typedef void qcow2_header_change(struct qcow2_header *h, void *arg);

/*
 * Brings the changed header to disk: a power cut at any point leaves the old header or the new one, whole. What the header
 * names must be durable before. Unknown fields and extensions, feature names and the compression type are kept.
 *
 * -ENAMETOOLONG, -ENOSPC: it doesn't fit, and nothing was changed. After any other failure the disk has one or the other,
 * and what either refers to must stay.
 *
 * qcow2_rewrite_open: of an image that is open for writing (engine.h); also a commit. The caller holds none of its locks.
 * qcow2_rewrite_closed: of one that isn't, in its file node.
 */
struct qcow2;
int qcow2_rewrite_open(struct co *co, struct qcow2 *q, qcow2_header_change *change, void *arg, struct err *err)
	ATTR_MUST_USE;
int qcow2_rewrite_closed(struct co *co, struct node *file, qcow2_header_change *change, void *arg, struct err *err)
	ATTR_MUST_USE;

#endif
