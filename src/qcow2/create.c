/* SPDX-License-Identifier: MIT */
/*
 * A new image. Its clusters lie in this order, without a gap, each with a refcount of one:
 *
 *   header | refcount table | refcount block 0 | L1 table | other refcount blocks | { L2 table | its data } ...
 *
 * the last part only with preallocated metadata. It is QEMU's order wherever QEMU needs one refcount block. The header is
 * written last, behind a flush: a file that looks like an image is whole.
 */
#include "qcow2/qcow2.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/math.h"
#include "qcow2/header.h"

#define COPIED (UINT64_C(1) << 63)
#define MAX_HOST_BYTES (UINT64_C(1) << 56) /* L1 and L2 entries reach no further */

struct layout { /* counts and places, in clusters, unless the name says otherwise */
	uint64_t cluster_bytes;
	uint64_t l2_entries; /* of one table */
	uint64_t l1_entries;
	uint64_t per_block;            /* refcounts in a block */
	uint64_t reftable, blocks, l1; /* how many */
	uint64_t l2_tables, data;      /* how many are preallocated */
	uint64_t l1_at, more_blocks_at, prealloc_at;
	uint64_t end;
};

static int options_check(const struct qcow2_create *how, struct err *err)
{
	if (how->version != 2 && how->version != 3)
		return err_set(
			err, -EINVAL, "qcow2 has versions 2 (compat=0.10) and 3 (compat=1.1), not %u", how->version);
	if (how->cluster_bits < QCOW2_MIN_CLUSTER_BITS || how->cluster_bits > QCOW2_MAX_CLUSTER_BITS)
		return err_set(err, -EINVAL, "Cluster size must be a power of two between 512 and 2048k");
	if (how->refcount_order > QCOW2_MAX_REFCOUNT_ORDER)
		return err_set(err, -EINVAL, "Refcount width must be a power of two and may not exceed 64 bits");
	if (how->version == 2 && how->refcount_order != 4)
		return err_set(err, -EINVAL,
			"Different refcount widths than 16 bits require compatibility level 1.1 or above (use compat=1.1)");
	if (how->version == 2 && how->lazy_refcounts)
		return err_set(err, -EINVAL,
			"Lazy refcounts only supported with compatibility level 1.1 and above (use compat=1.1)");
	if (how->preallocate_metadata && how->backing_name)
		return err_set(
			err, -EINVAL, "preallocation=metadata would hide the backing file; use one or the other");
	return 0;
}

/* The counts depend on each other: more refcount blocks are more clusters to count. They only grow, so this ends. */
static void layout_count(struct layout *l)
{
	uint64_t fixed = 1 + l->l1 + l->l2_tables + l->data;

	l->reftable = l->blocks = 1;
	for (;;) {
		uint64_t blocks = div_round_up(fixed + l->reftable + l->blocks, l->per_block);
		uint64_t reftable = div_round_up(blocks * 8, l->cluster_bytes);

		if (blocks <= l->blocks && reftable <= l->reftable)
			break;
		l->blocks = MAX(blocks, l->blocks);
		l->reftable = MAX(reftable, l->reftable);
	}
	l->l1_at = 1 + l->reftable + 1;
	l->more_blocks_at = l->l1_at + l->l1;
	l->prealloc_at = l->more_blocks_at + l->blocks - 1;
	l->end = fixed + l->reftable + l->blocks;
}

static int layout_make(const struct qcow2_create *how, uint64_t size, struct layout *l, struct err *err)
{
	uint64_t clusters = div_round_up(size, UINT64_C(1) << how->cluster_bits);

	l->cluster_bytes = UINT64_C(1) << how->cluster_bits;
	l->l2_entries = l->cluster_bytes / 8;
	l->l1_entries = div_round_up(clusters, l->l2_entries);
	l->per_block = l->cluster_bytes * 8 >> how->refcount_order;
	if (l->l1_entries > QCOW2_MAX_L1_BYTES / 8)
		return err_set(err, -EFBIG,
			"The image size is too large for file format 'qcow2' (try using a larger cluster size)");
	l->l1 = div_round_up(l->l1_entries * 8, l->cluster_bytes);
	if (how->preallocate_metadata) {
		l->l2_tables = l->l1_entries;
		l->data = clusters;
	}
	layout_count(l);
	if (l->reftable > QCOW2_MAX_REFTABLE_BYTES >> how->cluster_bits || l->end > MAX_HOST_BYTES >> how->cluster_bits)
		return err_set(err, -EFBIG,
			"an image of %" PRIu64 " bytes with preallocated metadata is too large for clusters of %" PRIu64
			" bytes",
			size, l->cluster_bytes);
	return 0;
}

/* ---- writing ---- */

struct creation {
	struct node *file;
	struct layout at;
	unsigned refcount_order;
	void *cluster; /* scratch */
};

static int cluster_write(struct co *co, struct creation *c, uint64_t index)
{
	return node_write(co, c->file, index * c->at.cluster_bytes, IOV_BUF(c->cluster, c->at.cluster_bytes), 0);
}

static uint64_t block_place(const struct layout *l, uint64_t block)
{
	return block == 0 ? 1 + l->reftable : l->more_blocks_at + block - 1;
}

static int reftable_write(struct co *co, struct creation *c)
{
	uint64_t per_cluster = c->at.cluster_bytes / 8;
	be64 *entry = c->cluster;

	for (uint64_t i = 0; i < c->at.reftable; i++) {
		int ret;

		for (uint64_t j = 0; j < per_cluster; j++) {
			uint64_t block = i * per_cluster + j;

			entry[j] = be64_of(block < c->at.blocks ? block_place(&c->at, block) * c->at.cluster_bytes : 0);
		}
		ret = cluster_write(co, c, 1 + i);
		if (ret < 0)
			return ret;
	}
	return 0;
}

/* The first n refcounts of a block are one. Below a byte's width, they fill a byte from its low end. */
static void refcounts_fill(void *block, uint64_t n, unsigned order)
{
	unsigned char *bytes = block;

	for (uint64_t i = 0; i < n; i++) {
		if (order < 3)
			bytes[i >> (3 - order)] |= (unsigned char)(1u << ((i << order) & 7));
		else
			bytes[((i + 1) << (order - 3)) - 1] = 1;
	}
}

static int blocks_write(struct co *co, struct creation *c)
{
	for (uint64_t i = 0; i < c->at.blocks; i++) {
		uint64_t first = i * c->at.per_block;
		uint64_t used = first < c->at.end ? MIN(c->at.end - first, c->at.per_block) : 0;
		int ret;

		memset(c->cluster, 0, c->at.cluster_bytes);
		refcounts_fill(c->cluster, used, c->refcount_order);
		ret = cluster_write(co, c, block_place(&c->at, i));
		if (ret < 0)
			return ret;
	}
	return 0;
}

/* Where the L2 table of an L1 entry lies: its predecessors, each with a full set of data clusters, are before it. */
static uint64_t l2_place(const struct layout *l, uint64_t l1_index)
{
	return l->prealloc_at + l1_index * (1 + l->l2_entries);
}

static int l2_tables_write(struct co *co, struct creation *c)
{
	be64 *entry = c->cluster;

	for (uint64_t i = 0; i < c->at.l2_tables; i++) {
		uint64_t place = l2_place(&c->at, i);
		uint64_t mapped = MIN(c->at.data - i * c->at.l2_entries, c->at.l2_entries);
		int ret;

		memset(c->cluster, 0, c->at.cluster_bytes);
		for (uint64_t j = 0; j < mapped; j++)
			entry[j] = be64_of(COPIED | (place + 1 + j) * c->at.cluster_bytes);
		ret = cluster_write(co, c, place);
		if (ret < 0)
			return ret;
	}
	return 0;
}

static int l1_write(struct co *co, struct creation *c)
{
	uint64_t per_cluster = c->at.cluster_bytes / 8;
	be64 *entry = c->cluster;

	for (uint64_t i = 0; c->at.l2_tables != 0 && i < c->at.l1; i++) {
		int ret;

		memset(c->cluster, 0, c->at.cluster_bytes);
		for (uint64_t j = 0; j < MIN(c->at.l1_entries - i * per_cluster, per_cluster); j++)
			entry[j] = be64_of(COPIED | l2_place(&c->at, i * per_cluster + j) * c->at.cluster_bytes);
		ret = cluster_write(co, c, c->at.l1_at + i);
		if (ret < 0)
			return ret;
	}
	return 0;
}

/* The L1 table is the last thing in a plain image; its last cluster isn't filled up, as with QEMU. What isn't written is a
 * hole and reads zeros. */
static uint64_t file_end(const struct layout *l)
{
	if (l->l1 != 0 && l->end == l->more_blocks_at)
		return l->l1_at * l->cluster_bytes + l->l1_entries * 8;
	return l->end * l->cluster_bytes;
}

static int tables_write(struct co *co, struct creation *c)
{
	int ret = node_resize(co, c->file, file_end(&c->at));

	if (ret == 0)
		ret = reftable_write(co, c);
	if (ret == 0)
		ret = blocks_write(co, c);
	if (ret == 0)
		ret = l2_tables_write(co, c);
	if (ret == 0)
		ret = l1_write(co, c);
	if (ret == 0)
		ret = node_flush(co, c->file);
	return ret;
}

/* ---- the header ---- */

static int string_copy(char *to, size_t size, const char *from, const char *what, struct err *err)
{
	if (!from)
		return 0;
	if (strlen(from) >= size)
		return err_set(
			err, -ENAMETOOLONG, "the %s has %zu bytes; the most is %zu", what, strlen(from), size - 1);
	strcpy(to, from);
	return 0;
}

static int header_make(
	const struct qcow2_create *how, uint64_t size, const struct layout *l, struct qcow2_header *h, struct err *err)
{
	int ret;

	*h = (struct qcow2_header){
		.version = how->version,
		.cluster_bits = how->cluster_bits,
		.refcount_order = how->refcount_order,
		.size = size,
		.l1_entries = (uint32_t)l->l1_entries,
		.l1.off = l->l1 ? l->l1_at * l->cluster_bytes : 0,
		.reftable.off = l->cluster_bytes,
		.reftable_clusters = (uint32_t)l->reftable,
		.compatible = how->lazy_refcounts ? QCOW2_COMPAT_LAZY_REFCOUNTS : 0,
	};
	ret = string_copy(h->backing_name, sizeof(h->backing_name), how->backing_name, "backing file's name", err);
	if (ret == 0)
		ret = string_copy(h->backing_format, sizeof(h->backing_format), how->backing_format,
			"backing file's format", err);
	return ret;
}

/* All that can be known to be wrong without touching the file. */
static int create_plan(const struct qcow2_create *how, struct layout *l, struct qcow2_header *header, struct err *err)
{
	uint64_t size = align_up(how->size, 512);
	int ret = options_check(how, err);

	if (ret == 0 && how->size > INT64_MAX)
		ret = err_set(err, -EFBIG, "the image size must be less than 2^63 bytes");
	if (ret == 0)
		ret = layout_make(how, size, l, err);
	if (ret == 0)
		ret = header_make(how, size, l, header, err);
	return ret;
}

/* The header's cluster; *out is malloc'd. */
static int create_prepare(const struct qcow2_create *how, struct layout *l, void **out, struct err *err)
{
	AUTO_FREE struct qcow2_header *header = malloc(sizeof(*header));
	AUTO_FREE void *first = NULL;
	int ret = header ? create_plan(how, l, header, err) : err_set(err, -ENOMEM, "no memory for a header");

	if (ret < 0)
		return ret;
	first = malloc(l->cluster_bytes);
	if (!first)
		return err_set(err, -ENOMEM, "no memory for a cluster");
	ret = qcow2_header_format(header, first, l->cluster_bytes, err);
	if (ret == 0)
		*out = take(first);
	return ret;
}

int qcow2_create_check(const struct qcow2_create *how, struct err *err)
{
	AUTO_FREE void *first = NULL;
	struct layout layout = {0};

	return create_prepare(how, &layout, &first, err);
}

int qcow2_create(struct co *co, struct node *file, const struct qcow2_create *how, struct err *err)
{
	struct creation c = {.file = file, .refcount_order = how->refcount_order};
	AUTO_FREE void *cluster = NULL, *first = NULL;
	int ret = create_prepare(how, &c.at, &first, err);

	assert(file->size == 0);
	if (ret < 0)
		return ret;
	c.cluster = cluster = malloc(c.at.cluster_bytes);
	if (!cluster)
		return err_set(err, -ENOMEM, "no memory for a cluster");
	ret = tables_write(co, &c);
	if (ret == 0)
		ret = node_write(co, file, 0, IOV_BUF(first, c.at.cluster_bytes), NODE_FUA);
	if (ret < 0)
		return err_set(err, ret, "the new image can't be written: %s", strerror(-ret));
	return 0;
}
