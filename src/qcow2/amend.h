/* SPDX-License-Identifier: MIT */
/* What amend.c is made of. */
#ifndef CORRAL_QCOW2_AMEND_H
#define CORRAL_QCOW2_AMEND_H

#include "qcow2/engine.h"

/* ---- amend_refcounts.c: of an image that isn't open, in its file node ---- */

/* Whether every refcount fits in 1 << order bits. -ERANGE: not, explained in qemu-img's words. */
int qcow2_refcount_width_check(struct co *co, struct node *file, unsigned order, struct err *err) ATTR_MUST_USE;
/* Makes refcounts 1 << order bits wide; nobody else has the file open. A power cut at any point leaves them as they were or
 * as they shall be, and at most leaked clusters. */
int qcow2_refcount_width(struct co *co, struct node *file, unsigned order, qcow2_progress *progress, void *arg,
	struct err *err) ATTR_MUST_USE;

/* ---- amend_zeros.c: of an open image, which nobody else uses ---- */

/* Version 2 has no zero flag: no entry of any tree has it afterwards, and everything reads as before. Durable. */
int qcow2_zeros_expand(struct co *co, struct qcow2 *q, qcow2_progress *progress, void *arg, struct err *err)
	ATTR_MUST_USE;
/* Whether an entry of any tree is compressed. */
int qcow2_is_compressed(struct co *co, struct qcow2 *q, bool *compressed, struct err *err) ATTR_MUST_USE;

#endif
