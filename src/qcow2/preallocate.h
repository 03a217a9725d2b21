/* SPDX-License-Identifier: MIT */
/* Space that is had before anything is written to it: for new images, and for disks that grow. */
#ifndef CORRAL_QCOW2_PREALLOCATE_H
#define CORRAL_QCOW2_PREALLOCATE_H

#include "qcow2/qcow2.h"

struct qcow2;

/* Makes the host have [off, off + len) of a file, which reads zeros there: falloc, full; otherwise nothing. */
int qcow2_space_fill(struct co *co, struct node *n, uint64_t off, uint64_t len, enum qcow2_preallocation how)
	ATTR_MUST_USE;
/* Of the disk, as the image's options say: clusters behind `from`, up to that in which `to` lies, get their space. */
int qcow2_preallocate(struct co *co, struct qcow2 *q, uint64_t from, uint64_t to) ATTR_MUST_USE;

#endif
