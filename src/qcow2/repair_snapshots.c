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

#define LEAST_EXTRA 16u

struct new_table {
	char *bytes;
	size_t used, room;
};

static int room_make(struct new_table *t, size_t more)
{
	size_t room = MAX(t->used + more, 2 * t->room);
	char *bytes = t->used + more <= t->room ? t->bytes : realloc(t->bytes, room);

	if (!bytes)
		return -ENOMEM;
	if (bytes != t->bytes)
		t->room = room;
	t->bytes = bytes;
	return 0;
}

/* The record at `at`, `bytes` long, with what its extra data lacks. */
static int record_copy(
	struct co *co, struct qcow2_checker *c, struct new_table *t, uint64_t at, size_t bytes, uint32_t extra)
{
	size_t more = extra < LEAST_EXTRA ? LEAST_EXTRA - extra : 0;
	struct qcow2_disk_snapshot *disk;
	char *to, *behind;
	int ret = room_make(t, align_up(bytes + more, 8));

	if (ret < 0)
		return ret;
	to = t->bytes + t->used;
	memset(to, 0, align_up(bytes + more, 8));
	ret = qcow2_check_read(co, c, at, to, bytes);
	if (ret < 0)
		return ret;
	disk = (struct qcow2_disk_snapshot *)to;
	behind = to + sizeof(*disk) + extra;
	memmove(behind + more, behind, bytes - sizeof(*disk) - extra);
	if (more > 0) {
		be64 fields[2] = {be64_of(be32_get(disk->vm_state_bytes)), be64_of(c->header.size)};

		memcpy(behind, (char *)fields + extra, more);
		disk->extra_bytes = be32_of(LEAST_EXTRA);
	}
	t->used += align_up(bytes + more, 8);
	return 0;
}

static int records_copy(struct co *co, struct qcow2_checker *c, struct new_table *t)
{
	struct qcow2_snapshot_walk walk = {
		.window.file = c->file, .header = &c->header, .at = c->header.snapshots_at.off};
	struct qcow2_snapshot one;
	uint64_t at = walk.at;
	int ret = 0, more;

	while (ret == 0 && (more = qcow2_snapshot_next(co, &walk, &one, NULL)) > 0) {
		struct qcow2_disk_snapshot disk;

		ret = qcow2_check_read(co, c, at, &disk, sizeof(disk));
		if (ret == 0)
			ret = record_copy(co, c, t, at,
				sizeof(disk) + one.extra_bytes + be16_get(disk.id_bytes) + be16_get(disk.name_bytes),
				one.extra_bytes);
		at = walk.at;
	}
	free(walk.window.bytes);
	return ret < 0 ? ret : more;
}

static int table_write(struct co *co, struct qcow2_repairer *r, struct new_table *t)
{
	struct qcow2_checker *c = r->c;
	uint64_t host;
	int ret = qcow2_repair_claim(co, r, div_round_up(t->used, c->cluster_bytes), QCOW2_ROLE_OTHER, &host);

	if (ret == 0)
		ret = qcow2_repair_write(co, r, host, t->bytes, t->used);
	if (ret == 0)
		ret = qcow2_repair_flush(co, r);
	if (ret < 0)
		return ret;
	c->header.snapshots_at.off = host;
	return qcow2_repair_header(co, r);
}

int qcow2_repair_snapshots(struct co *co, struct qcow2_repairer *r)
{
	struct new_table t = {0};
	int ret = records_copy(co, r->c, &t);

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
