/* SPDX-License-Identifier: MIT */
/*
 * A new snapshot table with complete records: version 3 wants 16 bytes of extra data in each. The old one stays as it is
 * until the header points to the new one.
 * Source: docs/interop/qcow2.rst, "Snapshots".
 */
#include "qcow2/repair.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "qcow2/snapshot.h"

static int table_write(struct co *co, struct qcow2_repairer *r, const struct qcow2_records *t)
{
	struct qcow2_checker *c = r->c;
	uint64_t host;
	int ret = qcow2_repair_claim(co, r, div_round_up(t->len, c->cluster_bytes), QCOW2_ROLE_OTHER, &host);

	if (ret == 0)
		ret = qcow2_repair_write(co, r, host, t->bytes, t->len);
	if (ret == 0 && !MUTANT(135))
		ret = qcow2_repair_flush(co, r);
	if (ret < 0)
		return ret;
	c->header.snapshots_at.off = host;
	return qcow2_repair_header(co, r);
}

int qcow2_repair_snapshots(struct co *co, struct qcow2_repairer *r)
{
	struct qcow2_records t;
	bool changed;
	int ret = qcow2_records_load(co, r->c->file, &r->c->header, &t, NULL);

	if (ret == 0)
		ret = qcow2_records_complete(&t, r->c->header.size, &changed);
	if (ret == 0) {
		qcow2_check_found(r->c, NULL, "Repairing the snapshot table: incomplete entries");
		ret = table_write(co, r, &t);
	}
	if (ret == -ENOSPC) {
		qcow2_check_found(r->c, NULL, "No free cluster is left for a new snapshot table");
		ret = 0;
	}
	free(t.bytes);
	return ret;
}
