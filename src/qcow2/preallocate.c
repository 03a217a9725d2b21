/* SPDX-License-Identifier: MIT */
/*
 * Space for what a disk gains, in advance. What isn't mapped there becomes mapped, and reads zeros as before:
 *
 *                  not encrypted                                     encrypted
 *     metadata     data clusters in space that reads zeros           space that the entries don't read: zero marks stay
 *     falloc       the same, and the host has the space              the same, and the host has the space
 *     full         the same, written                                 the same, written with anything
 *
 * With extended L2 entries no subcluster becomes data: the cluster has its space, and that is all. Version 2 has no zero
 * mark: zeros are encrypted and written.
 *
 * The disk has its old size still, and the order on disk is that of writes: content, refcounts, entries.
 */
#include "qcow2/preallocate.h"

#include <errno.h>
#include <stdlib.h>

#include "base/cleanup.h"
#include "qcow2/engine.h"

#define ZEROS_BYTES (UINT64_C(1) << 20)

static int zeros_write(struct co *co, struct node *n, uint64_t off, uint64_t len)
{
	AUTO_FREE void *zeros = calloc(1, MIN(len, ZEROS_BYTES));
	int ret = zeros || len == 0 ? 0 : -ENOMEM;

	for (uint64_t now; ret == 0 && len > 0; off += now, len -= now) {
		now = MIN(len, ZEROS_BYTES);
		ret = node_write(co, n, off, IOV_BUF(zeros, now), 0);
	}
	return ret;
}

int qcow2_space_fill(struct co *co, struct node *n, uint64_t off, uint64_t len, enum qcow2_preallocation how)
{
	switch (how) {
	case QCOW2_PREALLOCATE_FULL: return zeros_write(co, n, off, len);
	case QCOW2_PREALLOCATE_FALLOC: return node_zero(co, n, off, len, 0);
	default: return 0;
	}
}

/* Whether the entries will read what lies in the space. */
static bool is_read(const struct qcow2 *q) { return q->subclusters == 1 && (!q->encrypted || q->header.version < 3); }

/* The space is what the entries will say of it. A data file ends where the disk will. */
static int fill(struct co *co, struct qcow2 *q, const struct node_reservation *res)
{
	struct node *file = qcow2_has_data_file(q) ? q->options.data_file : q->node.file;
	uint64_t len = qcow2_has_data_file(q) ? MIN(res->len, file->size - res->host.off) : res->len;
	int rc;

	if (is_read(q) && q->encrypted)
		return zeros_write(co, q->node.data, res->host.off, len);
	rc = qcow2_space_fill(co, file, res->host.off, len, q->options.growth);
	if (!rc && is_read(q) && !(res->zeroed || MUTANT(101)) && q->options.growth == QCOW2_PREALLOCATE_METADATA)
		rc = node_zero(co, file, res->host.off, len, NODE_MAY_UNMAP);
	return rc;
}

static int take_space(struct co *co, struct qcow2 *q, uint64_t at, uint64_t len, uint64_t *next)
{
	struct node_reservation res;
	int rc = qcow2_reserve(co, &q->node, (struct guest){at}, len, &res);

	if (rc)
		return rc;
	*next = res.guest.off + res.len;
	rc = fill(co, q, &res);
	if (!rc)
		rc = is_read(q) ? qcow2_publish(co, &q->node, &res) : qcow2_publish_space(co, q, &res);
	if (rc)
		qcow2_cancel(co, &q->node, &res);
	return rc;
}

int qcow2_preallocate(struct co *co, struct qcow2 *q, uint64_t from, uint64_t to)
{
	uint64_t at = align_up(from, q->cluster_bytes), next;
	int rc = 0;

	if (qcow2_data_is_raw(q)) /* where everything is mapped as it is */
		return qcow2_space_fill(co, q->options.data_file, from, to - from, q->options.growth);
	for (; !rc && at < align_up(to, q->cluster_bytes); at = next) {
		struct node_extent e;

		rc = qcow2_map(co, &q->node, (struct guest){at}, align_up(to, q->cluster_bytes) - at, &e);
		next = at + e.len;
		if (!rc && !e.has_host)
			rc = take_space(
				co, q, at, MIN(e.len, MAX(NODE_PIECE_BYTES, (uint64_t)q->cluster_bytes)), &next);
	}
	return rc;
}
