/* SPDX-License-Identifier: MIT */
/*
 * The snapshot table, looked through and changed. A table is replaced as a whole, never changed where it lies; records that
 * stay are copied byte for byte, whatever extra data they have.
 * Source: docs/interop/qcow2.rst, "Snapshots".
 */
#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/math.h"
#include "qcow2/snapshot.h"

#define MAX_NAME 255 /* QEMU's own limit */
#define LEAST_EXTRA 16u

struct disk_extra {
	be64 vm_state_bytes, disk_bytes, icount;
} __attribute__((packed));

#define RECORD_MOST (sizeof(struct qcow2_disk_snapshot) + sizeof(struct disk_extra) + 64 + MAX_NAME + 8)

/* ---- one of them ---- */

int qcow2_snapshot_find(struct co *co, struct node *file, const struct qcow2_header *h, const char *which,
	struct qcow2_snapshot_place *out, struct err *err)
{
	struct qcow2_snapshot_walk walk = {.window.file = file, .header = h, .at = h->snapshots_at.off};
	AUTO_FREE struct qcow2_snapshot *one = malloc(sizeof(*one));
	bool named = false, exact = false;
	int more = one ? 1 : err_set(err, -ENOMEM, "no memory");

	while (!exact && more > 0) {
		uint64_t from = walk.at;

		more = qcow2_snapshot_next(co, &walk, one, err);
		exact = more > 0 && strcmp(one->info.id, which) == 0;
		if (exact || (more > 0 && !named && strcmp(one->info.name, which) == 0)) {
			named = true;
			*out = (struct qcow2_snapshot_place){
				*one, from - h->snapshots_at.off, walk.at - h->snapshots_at.off};
		}
	}
	free(walk.window.bytes);
	if (more < 0)
		return more;
	return named ? 0 : err_set(err, -ENOENT, "there is no snapshot '%s'", which);
}

int qcow2_snapshot_check(const struct qcow2_header *h, uint64_t file_bytes, const struct qcow2_snapshot *s,
	uint64_t bytes, struct err *err)
{
	unsigned entry_bits = h->incompatible & QCOW2_INCOMPAT_EXTENDED_L2 ? 4 : 3;
	uint64_t table = s->l1_entries * UINT64_C(8);

	if (s->l1_entries > QCOW2_MAX_L1_BYTES / 8)
		return err_set(
			err, -EFBIG, "snapshot %s: its L1 table claims %" PRIu32 " entries", s->info.id, s->l1_entries);
	if (table &&
		(!is_aligned(s->l1.off, UINT64_C(1) << h->cluster_bits) || s->l1.off == 0 || s->l1.off > file_bytes ||
			table > file_bytes - s->l1.off))
		return err_set(err, -EINVAL,
			"snapshot %s: its L1 table (%" PRIu64 " bytes at %#" PRIx64 ") doesn't lie in the file",
			s->info.id, table, s->l1.off);
	if (s->l1_entries < div_round_up(bytes, UINT64_C(1) << (2 * h->cluster_bits - entry_bits)))
		return err_set(err, -EINVAL,
			"snapshot %s: its L1 table has %" PRIu32 " entries, too few for a disk of %" PRIu64 " bytes",
			s->info.id, s->l1_entries, bytes);
	return 0;
}

int qcow2_snapshot_view(struct co *co, struct node *file, struct qcow2_header *h, const char *which, struct err *err)
{
	AUTO_FREE struct qcow2_snapshot_place *place = malloc(sizeof(*place));
	int rc = place ? qcow2_snapshot_find(co, file, h, which, place, err) : err_set(err, -ENOMEM, "no memory");

	if (!rc)
		rc = qcow2_snapshot_check(h, file->size, &place->is, place->is.info.disk_bytes, err);
	if (rc)
		return rc;
	h->l1 = place->is.l1;
	h->l1_entries = place->is.l1_entries;
	h->size = place->is.info.disk_bytes;
	return 0;
}

/* ---- all of them ---- */

/* As QEMU does: what doesn't begin with a number counts as 0. */
static uint64_t id_number(const char *id)
{
	uint64_t n = strtoull(id, NULL, 10);

	return n == UINT64_MAX ? 0 : n;
}

/* How long the table is, and the highest ID. */
static int measure(
	struct co *co, struct node *file, const struct qcow2_header *h, struct qcow2_records *r, struct err *err)
{
	struct qcow2_snapshot_walk walk = {.window.file = file, .header = h, .at = h->snapshots_at.off};
	AUTO_FREE struct qcow2_snapshot *one = malloc(sizeof(*one));
	int more = one ? 1 : err_set(err, -ENOMEM, "no memory");

	while (more > 0 && (more = qcow2_snapshot_next(co, &walk, one, err)) > 0)
		r->highest_id = MAX(r->highest_id, id_number(one->info.id));
	free(walk.window.bytes);
	r->n = h->snapshots;
	r->len = walk.at - h->snapshots_at.off;
	return more;
}

int qcow2_records_load(
	struct co *co, struct node *file, const struct qcow2_header *h, struct qcow2_records *out, struct err *err)
{
	uint64_t inside;
	int rc;

	*out = (struct qcow2_records){0};
	rc = measure(co, file, h, out, err);
	if (rc)
		return rc;
	out->bytes = node_alloc_zeroed(out->len + RECORD_MOST);
	if (!out->bytes)
		return err_set(err, -ENOMEM, "no memory for the snapshot table");
	inside = MIN(
		out->len, file->size - MIN(file->size, h->snapshots_at.off)); /* the padding of the last may not be */
	rc = inside ? node_read(co, file, h->snapshots_at.off, IOV_BUF(out->bytes, inside)) : 0;
	return rc ? err_set(err, rc, "the snapshot table can't be read: %s", strerror(-rc)) : 0;
}

uint64_t qcow2_record_bytes(const struct qcow2_snapshot_info *info)
{
	return align_up(
		sizeof(struct qcow2_disk_snapshot) + sizeof(struct disk_extra) + strlen(info->id) + strlen(info->name),
		8);
}

int qcow2_records_add(struct qcow2_records *r, const struct qcow2_snapshot *s, struct err *err)
{
	size_t id = strlen(s->info.id), name = strlen(s->info.name);
	struct qcow2_disk_snapshot disk = {
		.l1_offset = be64_of(s->l1.off),
		.l1_entries = be32_of(s->l1_entries),
		.id_bytes = be16_of((uint16_t)id),
		.name_bytes = be16_of((uint16_t)name),
		.date_sec = be32_of(s->info.date_sec),
		.date_nsec = be32_of(s->info.date_nsec),
		.vm_clock_nsec = be64_of(s->info.vm_clock_nsec),
		.extra_bytes = be32_of(sizeof(struct disk_extra)),
	};
	struct disk_extra extra = {.disk_bytes = be64_of(s->info.disk_bytes)};
	char *at = r->bytes + r->len;

	assert(qcow2_record_bytes(&s->info) <= RECORD_MOST);
	if (r->n >= QCOW2_MAX_SNAPSHOTS || r->len + RECORD_MOST > QCOW2_MAX_SNAPSHOT_TABLE)
		return err_set(err, -EFBIG, "the image has %" PRIu32 " snapshots, and no room for more", r->n);
	memcpy(at, &disk, sizeof(disk));
	memcpy(at + sizeof(disk), &extra, sizeof(extra));
	memcpy(at + sizeof(disk) + sizeof(extra), s->info.id, id);
	memcpy(at + sizeof(disk) + sizeof(extra) + id, s->info.name, name);
	r->len += qcow2_record_bytes(&s->info);
	r->n++;
	return 0;
}

void qcow2_records_remove(struct qcow2_records *r, uint64_t from, uint64_t to)
{
	assert(from < to && to <= r->len && r->n > 0);
	memmove(r->bytes + from, r->bytes + to, r->len - to);
	r->len -= to - from;
	r->n--;
}

/* ---- complete ones ---- */

static size_t record_bytes(const struct qcow2_disk_snapshot *disk)
{
	return sizeof(*disk) + be32_get(disk->extra_bytes) + be16_get(disk->id_bytes) + be16_get(disk->name_bytes);
}

/* Returns how long the new record is, padded. */
static size_t record_complete(char *to, const char *from, uint64_t disk_bytes)
{
	struct qcow2_disk_snapshot disk;
	size_t bytes, known, extra, lacking;
	be64 fields[2];

	memcpy(&disk, from, sizeof(disk));
	bytes = record_bytes(&disk);
	extra = be32_get(disk.extra_bytes);
	known = sizeof(disk) + extra;
	lacking = extra < LEAST_EXTRA ? LEAST_EXTRA - extra : 0;
	fields[0] = be64_of(be32_get(disk.vm_state_bytes));
	fields[1] = be64_of(disk_bytes);
	disk.extra_bytes = be32_of((uint32_t)(extra + lacking));
	memcpy(to, &disk, sizeof(disk));
	memcpy(to + sizeof(disk), from + sizeof(disk), extra);
	memcpy(to + known, (char *)fields + (LEAST_EXTRA - lacking), lacking);
	memcpy(to + known + lacking, from + known, bytes - known);
	return align_up(bytes + lacking, 8);
}

int qcow2_records_complete(struct qcow2_records *r, uint64_t disk_bytes, bool *changed)
{
	char *bytes = calloc(1, r->len + (size_t)r->n * LEAST_EXTRA + RECORD_MOST);
	size_t from = 0, to = 0;

	if (!bytes)
		return -ENOMEM;
	for (uint32_t i = 0; i < r->n; i++) {
		struct qcow2_disk_snapshot disk;

		memcpy(&disk, r->bytes + from, sizeof(disk));
		to += record_complete(bytes + to, r->bytes + from, disk_bytes);
		from += align_up(record_bytes(&disk), 8);
	}
	*changed = to != r->len;
	free(r->bytes);
	r->bytes = bytes;
	r->len = to;
	return 0;
}
