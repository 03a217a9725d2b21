/* SPDX-License-Identifier: MIT */
/* How large an image's file will be. Pure, but for the bitmaps; the numbers are those of qemu-img measure. */
#ifndef CORRAL_QCOW2_MEASURE_H
#define CORRAL_QCOW2_MEASURE_H

#include "qcow2/qcow2.h"

/* As how says, of a disk of how->size bytes that is written everywhere. -EINVAL: such an image can't be, explained. */
int qcow2_measure(const struct qcow2_create *how, uint64_t *bytes, struct err *err) ATTR_MUST_USE;
/* What the bitmaps of an open image take in one of other clusters. */
int qcow2_measure_bitmaps(struct co *co, struct node *n, unsigned cluster_bits, uint64_t *bytes, struct err *err)
	ATTR_MUST_USE;

#endif
