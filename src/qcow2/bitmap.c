/* SPDX-License-Identifier: MIT */
/* The bitmap directory, read: which bitmaps there are, and where their tables lie. Their content is left alone. */
#include "qcow2/snapshot.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/math.h"

#define MAX_NAME 1023
#define MAX_TABLE_ENTRIES UINT32_C(0x8000000) /* QEMU's own limit */
#define RESERVED_FLAGS ~UINT32_C(7)

static int entry_check(
	const struct qcow2_bitmap_walk *walk, const struct qcow2_disk_bitmap *disk, uint64_t length, struct err *err)
{
	uint64_t left = walk->header->bitmap_directory.off + walk->header->bitmap_directory_bytes - walk->at;
	uint64_t cluster = UINT64_C(1) << walk->header->cluster_bits;
	const char *wrong = NULL;

	if (length > left)
		wrong = "reaches beyond the directory";
	else if (be16_get(disk->name_bytes) == 0 || be16_get(disk->name_bytes) > MAX_NAME)
		wrong = "has a name of an invalid length";
	else if (be32_get(disk->flags) & RESERVED_FLAGS)
		wrong = "has reserved flags set";
	else if (disk->type != 1)
		wrong = "has an unknown type";
	else if (disk->granularity_bits > 63)
		wrong = "has an invalid granularity";
	else if (be32_get(disk->table_entries) == 0 || be32_get(disk->table_entries) > MAX_TABLE_ENTRIES)
		wrong = "has a table of an invalid size";
	else if (be64_get(disk->table_offset) == 0 || !is_aligned(be64_get(disk->table_offset), cluster))
		wrong = "has a table that doesn't begin at a cluster boundary";
	if (wrong)
		return err_set(err, -EINVAL, "bitmap %" PRIu32 " (directory entry at %#" PRIx64 ") %s", walk->next,
			walk->at, wrong);
	return 0;
}

static int bitmap_parse(struct co *co, struct qcow2_bitmap_walk *walk, struct qcow2_bitmap *out, struct err *err)
{
	struct qcow2_disk_bitmap disk;
	const void *bytes;
	uint64_t length;
	size_t name;
	int ret = qcow2_window_get(co, &walk->window, walk->at, sizeof(disk), &bytes);

	if (ret < 0)
		goto unreadable;
	memcpy(&disk, bytes, sizeof(disk));
	length = align_up(sizeof(disk) + (uint64_t)be32_get(disk.extra_bytes) + be16_get(disk.name_bytes), 8);
	ret = entry_check(walk, &disk, length, err);
	if (ret < 0)
		return ret;
	*out = (struct qcow2_bitmap){
		.table.off = be64_get(disk.table_offset),
		.table_entries = be32_get(disk.table_entries),
		.extra.off = walk->at + sizeof(disk),
		.extra_bytes = be32_get(disk.extra_bytes),
		.info.flags = be32_get(disk.flags),
		.info.granularity_bits = disk.granularity_bits,
	};
	name = be16_get(disk.name_bytes);
	ret = qcow2_window_get(co, &walk->window, walk->at + sizeof(disk) + be32_get(disk.extra_bytes), name, &bytes);
	if (ret < 0)
		goto unreadable;
	if (memchr(bytes, '\0', name))
		return err_set(err, -EINVAL,
			"bitmap %" PRIu32 " (directory entry at %#" PRIx64 ") has a NUL in its name", walk->next,
			walk->at);
	memcpy(out->info.name, bytes, name);
	walk->at += length;
	walk->next++;
	return 1;

unreadable:
	return err_set(err, ret, "the bitmap directory can't be read at %#" PRIx64 ": %s", walk->at, strerror(-ret));
}

int qcow2_bitmap_next(struct co *co, struct qcow2_bitmap_walk *walk, struct qcow2_bitmap *out, struct err *err)
{
	if (walk->next == 0)
		walk->at = walk->header->bitmap_directory.off;
	if (walk->next == walk->header->bitmaps)
		return 0;
	return bitmap_parse(co, walk, out, err);
}

int qcow2_bitmaps_read(struct co *co, struct node *file, const struct qcow2_header *h, struct qcow2_bitmap_info **out,
	unsigned *n, struct err *err)
{
	struct qcow2_bitmap_walk walk = {.window.file = file, .header = h};
	AUTO_FREE struct qcow2_bitmap_info *list = NULL;
	uint64_t most = h->bitmap_directory_bytes / sizeof(struct qcow2_disk_bitmap);
	struct qcow2_bitmap one;
	int more;

	if (h->bitmaps > most)
		return err_set(err, -EINVAL, "a bitmap directory of %" PRIu64 " bytes can't hold %" PRIu32 " bitmaps",
			h->bitmap_directory_bytes, h->bitmaps);
	list = calloc(MAX(h->bitmaps, 1u), sizeof(*list));
	if (!list)
		return err_set(err, -ENOMEM, "no memory for %" PRIu32 " bitmaps", h->bitmaps);
	while ((more = qcow2_bitmap_next(co, &walk, &one, err)) > 0)
		list[walk.next - 1] = one.info;
	free(walk.window.bytes);
	if (more < 0)
		return more;
	*n = walk.next;
	*out = take(list);
	return 0;
}
