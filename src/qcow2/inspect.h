/* SPDX-License-Identifier: MIT */
/*
 * A bounded look at an image from a stranger: what it refers to, what it needs, and whether what it claims can be true. No
 * reference is followed. It reads the header, the L1 table (32 MiB at most), the refcount table (8 MiB at most), and the lists
 * of snapshots and bitmaps, and takes memory for a piece of them at a time; L2 tables, refcount blocks and data are for check.
 */
#ifndef CORRAL_QCOW2_INSPECT_H
#define CORRAL_QCOW2_INSPECT_H

#include "qcow2/qcow2.h"

struct qcow2_inspection {
	/* Not to be used if it couldn't even be parsed leniently: the first anomaly says why. */
	bool has_header;
	struct qcow2_header header;
	uint64_t anomalies;   /* how many were told */
	uint64_t l2_tables;   /* that the L1 table refers to */
	uint64_t bad_entries; /* of the L1 and the refcount table */
};

/* Tells say(arg, text) each anomaly, a line without newline; of damaged table entries the first few. The result is negative
 * only where the file couldn't be read or there is no memory, explained. */
int qcow2_inspect(struct co *co, struct node *file, qcow2_say *say, void *arg, struct qcow2_inspection *out,
	struct err *err) ATTR_MUST_USE;

#endif
