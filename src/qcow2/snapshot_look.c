/* SPDX-License-Identifier: MIT */
/* What the engine has to know of the snapshots that are there when an image is opened for writing. */
#include <errno.h>
#include <stdlib.h>

#include "base/cleanup.h"
#include "qcow2/engine.h"
#include "qcow2/snapshot_ops.h"

#define MOST_GUARDED                                                                                                   \
	(UINT64_C(1) << 20) /* clusters of their L1 tables; records may claim the same ones again and again */

struct look {
	struct qcow2 *q;
	struct qcow2_snapshot one;
	uint64_t left; /* clusters that may be guarded */
};

/* Of one whose record doesn't say how large its disk was, the size of the disk is what tells. */
static void see(struct look *l)
{
	uint64_t bytes = l->one.l1_entries * UINT64_C(8), clusters = div_round_up(bytes, l->q->cluster_bytes);

	l->q->unsized_snapshots |= l->one.extra_bytes < 16;
	l->q->vm_states |= l->one.info.vm_state_bytes > 0;
	if (clusters > l->left || l->one.l1.off >= l->q->file_bytes)
		return;
	l->left -= clusters;
	qcow2_guard_keep(l->q, l->one.l1.off, bytes, QCOW2_ROLE_INACTIVE_L1);
}

/* A table that is malformed belongs to nobody who could be asked: it is left alone, and so is the disk's size. */
static int look(struct co *co, struct look *l)
{
	struct qcow2 *q = l->q;
	uint64_t start = q->header.snapshots_at.off;
	struct qcow2_snapshot_walk walk = {.window.file = q->node.file, .header = &q->header, .at = start};
	int more;

	while ((more = qcow2_snapshot_next(co, &walk, &l->one, NULL)) > 0)
		see(l);
	free(walk.window.bytes);
	q->unsized_snapshots |= more == -EINVAL;
	q->vm_states |= more == -EINVAL;
	qcow2_guard_keep(q, start, MIN(walk.at - start, QCOW2_MAX_SNAPSHOT_TABLE), QCOW2_ROLE_SNAPSHOTS);
	return more == -EINVAL ? 0 : more;
}

int qcow2_snapshots_look(struct co *co, struct qcow2 *q)
{
	AUTO_FREE struct look *l = NULL;

	if (!q->options.write || q->header.snapshots == 0)
		return 0;
	l = calloc(1, sizeof(*l));
	if (!l)
		return -ENOMEM;
	l->q = q;
	l->left = MIN(div_round_up(q->file_bytes, q->cluster_bytes), MOST_GUARDED);
	return look(co, l);
}
