/* SPDX-License-Identifier: MIT */
/*
 * Images on a pipe: written and read once, from the first byte to the last.
 *
 *   header | refcount table | refcount blocks | L1 table | { L2 table | its data, in the order of the disk } ...
 *
 * Metadata lies before what it is about, so whoever reads knows of each cluster what it is when it comes, and keeps one L2
 * table at a time. Whoever writes must know beforehand which clusters there will be: that is the plan.
 */
#ifndef CORRAL_QCOW2_STREAM_H
#define CORRAL_QCOW2_STREAM_H

#include "qcow2/qcow2.h"

/* ---- writing ---- */

/*
 * A node over sink, which takes every write behind the last one: a new image as `how` has it, written in order. -ENOTSUP,
 * explained: what such an image can't have. On success the sink is the node's.
 *
 * First it is told what it will get (qcow2_stream_plan), whole clusters but for the disk's last one. Then it is written to,
 * once, in the order of the disk; what was planned and isn't written is zeros, and what is written without having been
 * planned is -ESTALE. A flush writes what is left of the plan: nothing comes after it.
 */
int qcow2_stream_new(struct co *co, struct node *sink, const struct qcow2_create *how, struct node **out,
	struct err *err) ATTR_MUST_USE;
void qcow2_stream_plan(struct node *n, uint64_t off, uint64_t len);

/* ---- reading ---- */

/* Reads the next len bytes; fewer only at the end. The number, or a negative errno. */
typedef ssize_t qcow2_source_read(struct co *co, void *arg, void *buf, size_t len);

struct qcow2_source;

/* Part of the disk, as it comes. data is malloc'd, and the caller's. */
struct qcow2_source_piece {
	uint64_t off, len;   /* of the disk */
	char *data;          /* len bytes; if encoded, what becomes them by qcow2_source_decode */
	uint64_t data_bytes; /* encoded: of data */
	unsigned codec;
	bool encoded;
};

/* start: what has been read already, at least the header's sector. -ENOTSUP, explained: it can't be read in order, or needs
 * other files. */
int qcow2_source_new(struct co *co, const void *start, size_t len, qcow2_source_read *read, void *arg,
	struct qcow2_source **out, struct err *err) ATTR_MUST_USE;
void qcow2_source_free(struct qcow2_source *s);
uint64_t qcow2_source_size(const struct qcow2_source *s);
/* The next piece, of at most `most` bytes or a cluster; in the order of the file, which need not be the disk's. What isn't
 * in any piece reads zeros. *more is false at the end, when all of the input has been read. */
int qcow2_source_next(struct co *co, struct qcow2_source *s, uint64_t most, struct qcow2_source_piece *out, bool *more,
	struct err *err) ATTR_MUST_USE;
/* Pure and slow: replaces data by what it means. -EIO: it is damaged. */
int qcow2_source_decode(struct qcow2_source_piece *piece, uint64_t cluster_bytes) ATTR_MUST_USE;
uint64_t qcow2_source_cluster(const struct qcow2_source *s);

#endif
