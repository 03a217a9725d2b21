/* SPDX-License-Identifier: MIT */
/*
 * Where in the header cluster its parts lie, and how one arrangement may follow another on disk. Pure functions.
 *
 * The first sector is written at once. What the other sectors hold may change only where the first sector, as it is on
 * disk, doesn't refer to it: the extensions up to their end, and the backing name.
 */
#ifndef CORRAL_QCOW2_LAYOUT_H
#define CORRAL_QCOW2_LAYOUT_H

#include "qcow2/header.h"

struct qcow2_layout {
	uint8_t *bytes; /* the whole header cluster */
	bool *used;     /* per byte: the header refers to it */
	size_t len;
};

void qcow2_layout_free(struct qcow2_layout *l);

/* The cluster as it was read; h is what it was parsed to. */
int qcow2_layout_of(const void *cluster, size_t len, const struct qcow2_header *h, struct qcow2_layout *out)
	ATTR_MUST_USE;

#define QCOW2_LAYOUT_STEPS 2

/*
 * What to write so that the cluster says what h says and keeps what `old` has beyond that (unknown fields, unknown
 * extensions, feature names): one layout, or two. Each may follow the one before (qcow2_layout_merge), and each says all of
 * h; one on the way may lack the feature names. -ENAMETOOLONG: h doesn't fit. -ENOSPC: it would, but not beside what is
 * there. Both explained.
 */
int qcow2_layout_plan(const struct qcow2_layout *old, const struct qcow2_header *h,
	struct qcow2_layout steps[QCOW2_LAYOUT_STEPS], unsigned *n, struct err *err) ATTR_MUST_USE;

/* The cluster between the two: behind the first sector it serves either first sector. */
void qcow2_layout_merge(const struct qcow2_layout *from, const struct qcow2_layout *to, uint8_t *cluster);

#endif
