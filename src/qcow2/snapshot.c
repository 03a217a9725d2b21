/* SPDX-License-Identifier: MIT */
/*
 * The snapshot table, read. Its records have variable length, so one that lies about its length derails all that follow:
 * a malformed record ends the walk. What is claimed is bounded by the table's largest size and by the end of the file.
 */
#include "qcow2/snapshot.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/math.h"

int qcow2_window_get(struct co *co, struct qcow2_window *w, uint64_t off, size_t len, const void **out)
{
	uint64_t end;

	assert(len <= QCOW2_WINDOW_BYTES);
	if (add_overflows(off, QCOW2_WINDOW_BYTES, &end))
		return -EINVAL;
	if (!w->bytes)
		w->bytes = node_alloc(QCOW2_WINDOW_BYTES);
	if (!w->bytes)
		return -ENOMEM;
	if (off < w->at || off - w->at > w->len || w->len - (off - w->at) < len) {
		size_t inside = off < w->file->size ? MIN(w->file->size - off, (uint64_t)QCOW2_WINDOW_BYTES) : 0;
		int ret = inside ? node_read(co, w->file, off, IOV_BUF(w->bytes, inside)) : 0;

		w->len = 0;
		if (ret < 0)
			return ret;
		memset(w->bytes + inside, 0, QCOW2_WINDOW_BYTES - inside);
		w->at = off;
		w->len = QCOW2_WINDOW_BYTES;
	}
	*out = w->bytes + (off - w->at);
	return 0;
}

static void string_take(char *to, size_t size, const char *from, size_t len)
{
	size_t n = MIN(len, size - 1);

	memcpy(to, from, n);
	to[n] = '\0';
}

static uint64_t be64_at(const char *p)
{
	be64 v;

	memcpy(&v, p, sizeof(v));
	return be64_get(v);
}

/* The extra data has grown over the years: each field counts only where there is room for all of it. */
static void extra_take(const char *extra, size_t bytes, struct qcow2_snapshot_info *info)
{
	if (bytes >= 8)
		info->vm_state_bytes = be64_at(extra);
	if (bytes >= 16)
		info->disk_bytes = be64_at(extra + 8);
	if (bytes >= 24)
		info->icount = (int64_t)be64_at(extra + 16);
}

static int strings_take(struct co *co, struct qcow2_snapshot_walk *walk, uint64_t at, size_t id, size_t name,
	struct qcow2_snapshot_info *info)
{
	const void *bytes;
	int ret = qcow2_window_get(co, &walk->window, at, MIN(id, sizeof(info->id)), &bytes);

	if (ret < 0)
		return ret;
	string_take(info->id, sizeof(info->id), bytes, id);
	ret = qcow2_window_get(co, &walk->window, at + id, MIN(name, sizeof(info->name)), &bytes);
	if (ret == 0)
		string_take(info->name, sizeof(info->name), bytes, name);
	return ret;
}

static int record_check(const struct qcow2_snapshot_walk *walk, uint32_t extra, uint64_t length, struct err *err)
{
	const struct qcow2_header *h = walk->header;
	uint64_t end = walk->at + length;

	if (extra > QCOW2_MAX_SNAPSHOT_EXTRA)
		return err_set(err, -EINVAL,
			"snapshot %" PRIu32 " (at %#" PRIx64 ") claims %" PRIu32 " bytes of extra data; the most is %u",
			walk->next, walk->at, extra, QCOW2_MAX_SNAPSHOT_EXTRA);
	if (end - h->snapshots_at.off > QCOW2_MAX_SNAPSHOT_TABLE)
		return err_set(err, -EFBIG, "the snapshot table is longer than %" PRIu64 " MiB",
			QCOW2_MAX_SNAPSHOT_TABLE >> 20);
	if (end > align_up(walk->window.file->size, 8))
		return err_set(err, -EINVAL,
			"snapshot %" PRIu32 " (at %#" PRIx64 ") reaches beyond the end of the file", walk->next,
			walk->at);
	return 0;
}

static int snapshot_parse(struct co *co, struct qcow2_snapshot_walk *walk, struct qcow2_snapshot *out, struct err *err)
{
	struct qcow2_disk_snapshot disk;
	size_t id, name;
	const void *bytes;
	uint64_t length;
	int ret = qcow2_window_get(co, &walk->window, walk->at, sizeof(disk) + QCOW2_MAX_SNAPSHOT_EXTRA, &bytes);

	if (ret < 0)
		return err_set(
			err, ret, "the snapshot table can't be read at %#" PRIx64 ": %s", walk->at, strerror(-ret));
	memcpy(&disk, bytes, sizeof(disk));
	id = be16_get(disk.id_bytes);
	name = be16_get(disk.name_bytes);
	*out = (struct qcow2_snapshot){
		.l1.off = be64_get(disk.l1_offset),
		.l1_entries = be32_get(disk.l1_entries),
		.extra_bytes = be32_get(disk.extra_bytes),
		.info =
			{
				.date_sec = be32_get(disk.date_sec),
				.date_nsec = be32_get(disk.date_nsec),
				.vm_clock_nsec = be64_get(disk.vm_clock_nsec),
				.vm_state_bytes = be32_get(disk.vm_state_bytes),
				.disk_bytes = walk->header->size,
				.icount = -1,
			},
	};
	length = align_up(sizeof(disk) + (uint64_t)out->extra_bytes + id + name, 8);
	ret = record_check(walk, out->extra_bytes, length, err);
	if (ret < 0)
		return ret;
	extra_take((const char *)bytes + sizeof(disk), out->extra_bytes, &out->info);
	ret = strings_take(co, walk, walk->at + sizeof(disk) + out->extra_bytes, id, name, &out->info);
	if (ret < 0)
		return err_set(
			err, ret, "the snapshot table can't be read at %#" PRIx64 ": %s", walk->at, strerror(-ret));
	walk->at += length;
	walk->next++;
	return 1;
}

int qcow2_snapshot_next(struct co *co, struct qcow2_snapshot_walk *walk, struct qcow2_snapshot *out, struct err *err)
{
	if (walk->next == 0)
		walk->at = walk->header->snapshots_at.off;
	if (walk->next == walk->header->snapshots)
		return 0;
	return snapshot_parse(co, walk, out, err);
}

int qcow2_snapshots_read(struct co *co, struct node *file, const struct qcow2_header *h,
	struct qcow2_snapshot_info **out, unsigned *n, struct err *err)
{
	struct qcow2_snapshot_walk walk = {.window.file = file, .header = h};
	AUTO_FREE struct qcow2_snapshot_info *list = NULL;
	struct qcow2_snapshot one;
	int more;

	/* The header's parser has seen to it that so many of the smallest records fit in the file. */
	list = calloc(MAX(h->snapshots, 1u), sizeof(*list));
	if (!list)
		return err_set(err, -ENOMEM, "no memory for %" PRIu32 " snapshots", h->snapshots);
	while ((more = qcow2_snapshot_next(co, &walk, &one, err)) > 0)
		list[walk.next - 1] = one.info;
	free(walk.window.bytes);
	if (more < 0)
		return more;
	*n = walk.next;
	*out = take(list);
	return 0;
}
