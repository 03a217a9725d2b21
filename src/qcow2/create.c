/* SPDX-License-Identifier: MIT */
/*
 * A new image: its tables are laid out (create_layout.h), the space for its data is seen to, and last, behind a flush, the
 * header is written. A file that looks like an image is whole.
 */
#include "qcow2/qcow2.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/math.h"
#include "qcow2/create_layout.h"
#include "qcow2/crypt.h"
#include "qcow2/header.h"
#include "qcow2/preallocate.h"

#define COPIED (UINT64_C(1) << 63)
#define ZERO UINT64_C(1)
#define EXTENDED_L2_MIN_CLUSTER_BITS 14

/* ---- what may be combined ---- */

static int version_check(const struct qcow2_create *how, struct err *err)
{
	const char *what = NULL;

	if (how->version != 2 && how->version != 3)
		return err_set(
			err, -EINVAL, "qcow2 has versions 2 (compat=0.10) and 3 (compat=1.1), not %u", how->version);
	if (how->version == 3)
		return 0;
	if (how->refcount_order != 4)
		return err_set(err, -EINVAL,
			"Different refcount widths than 16 bits require compatibility level 1.1 or above (use version=v3 or greater)");
	if (how->lazy_refcounts)
		what = "Lazy refcounts";
	else if (how->extended_l2)
		what = "Extended L2 entries are";
	else if (how->data_name)
		what = "External data files are";
	else if (how->compression_type != QCOW2_COMPRESSION_ZLIB)
		what = "Non-zlib compression type is";
	if (what)
		return err_set(err, -EINVAL,
			"%s only supported with compatibility level 1.1 and above (use version=v3 or greater)", what);
	return 0;
}

static int geometry_check(const struct qcow2_create *how, struct err *err)
{
	if (how->cluster_bits < QCOW2_MIN_CLUSTER_BITS || how->cluster_bits > QCOW2_MAX_CLUSTER_BITS)
		return err_set(err, -EINVAL, "Cluster size must be a power of two between 512 and 2048k");
	if (how->refcount_order > QCOW2_MAX_REFCOUNT_ORDER)
		return err_set(err, -EINVAL, "Refcount width must be a power of two and may not exceed 64 bits");
	if (how->compression_type > QCOW2_COMPRESSION_ZSTD)
		return err_set(err, -EINVAL, "compression type %u is unknown", how->compression_type);
	if (how->extended_l2 && how->cluster_bits < EXTENDED_L2_MIN_CLUSTER_BITS)
		return err_set(err, -EINVAL,
			"Extended L2 entries are only supported with cluster sizes of at least %u bytes",
			1u << EXTENDED_L2_MIN_CLUSTER_BITS);
	return 0;
}

/* What preallocated entries would hide of the backing file, those with subclusters don't: none of these is allocated. */
static int combination_check(const struct qcow2_create *how, struct err *err)
{
	if (how->data_raw && !how->data_name)
		return err_set(err, -EINVAL, "data-file-raw requires data-file");
	if (how->data_raw && how->backing_name)
		return err_set(err, -EINVAL, "Backing file and data-file-raw cannot be used at the same time");
	if (how->preallocation != QCOW2_PREALLOCATE_OFF && how->backing_name && !how->extended_l2)
		return err_set(err, -EINVAL,
			"Backing file and preallocation can only be used at the same time if extended_l2 is on");
	return 0;
}

/*
 * Where nothing was written an encrypted disk reads as what zeros decrypt to; so its preallocated clusters are marked to
 * read as zeros, which version 2 can't, and which a data file that is to be read alone can't say.
 */
static int encryption_check(const struct qcow2_create *how, struct err *err)
{
	if (how->version == 2 && how->preallocation != QCOW2_PREALLOCATE_OFF)
		return err_set(err, -EINVAL,
			"Preallocation of an encrypted image is only supported with compatibility level 1.1 and above (use "
			"version=v3 or greater)");
	if (how->data_raw)
		return err_set(err, -EINVAL, "an encrypted image and data-file-raw cannot be used at the same time");
	return qcow2_luks_check(how->luks, err);
}

/* ---- writing ---- */

struct creation {
	struct node *file;
	struct qcow2_create_layout at;
	unsigned refcount_order;
	bool data_raw;
	void *cluster; /* scratch */
};

static int cluster_write(struct co *co, struct creation *c, uint64_t index)
{
	return node_write(co, c->file, index * c->at.cluster_bytes, IOV_BUF(c->cluster, c->at.cluster_bytes), 0);
}

static int reftable_write(struct co *co, struct creation *c)
{
	uint64_t per_cluster = c->at.cluster_bytes / 8;
	be64 *entry = c->cluster;

	for (uint64_t i = 0; i < c->at.reftable; i++) {
		int ret;

		for (uint64_t j = 0; j < per_cluster; j++) {
			uint64_t block = i * per_cluster + j;

			entry[j] = be64_of(
				block < c->at.blocks ? qcow2_create_block_at(&c->at, block) * c->at.cluster_bytes : 0);
		}
		ret = cluster_write(co, c, c->at.reftable_at + i);
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
		ret = cluster_write(co, c, qcow2_create_block_at(&c->at, i));
		if (ret < 0)
			return ret;
	}
	return 0;
}

/*
 * Of an extended entry none of the subclusters is allocated: it has its space, and reads what it read without. A raw data file
 * is what the guest reads from the start, so there all of them are.
 */
static int l2_tables_write(struct co *co, struct creation *c)
{
	const struct qcow2_create_layout *l = &c->at;
	uint64_t step = l->l2_entry_bytes / sizeof(be64);
	uint64_t flags = COPIED | (l->crypto && step == 1 ? ZERO : 0);
	be64 *entry = c->cluster;

	for (uint64_t i = 0; i < l->l2_tables; i++) {
		uint64_t first = i * l->l2_entries, mapped = MIN(l->mapped - first, l->l2_entries);
		int ret;

		memset(c->cluster, 0, l->cluster_bytes);
		for (uint64_t j = 0; j < mapped; j++)
			entry[j * step] = be64_of(flags | qcow2_create_data_at(l, first + j) * l->cluster_bytes);
		for (uint64_t j = 0; c->data_raw && step > 1 && j < mapped; j++)
			entry[j * step + 1] = be64_of(UINT32_MAX);
		ret = cluster_write(co, c, qcow2_create_l2_at(l, i));
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
			entry[j] =
				be64_of(COPIED | qcow2_create_l2_at(&c->at, i * per_cluster + j) * c->at.cluster_bytes);
		ret = cluster_write(co, c, c->at.l1_at + i);
		if (ret < 0)
			return ret;
	}
	return 0;
}

/* Space that is asked for is had in the file that the data lies in: all of the data file, or the data clusters. */
static int space_take(struct co *co, struct creation *c, const struct qcow2_create *how)
{
	const struct qcow2_create_layout *l = &c->at;
	struct node *n = how->data_name ? how->data : c->file;
	uint64_t off = how->data_name ? 0 : l->prealloc_at * l->cluster_bytes;
	uint64_t len = how->data_name ? l->size : l->data * l->cluster_bytes;

	return qcow2_space_fill(co, n, off, len, how->preallocation);
}

/* The data file has the disk's size, to the byte: it may be read without the image. */
static int data_make(struct co *co, struct creation *c, const struct qcow2_create *how)
{
	int ret = how->data_name ? node_resize(co, how->data, c->at.size) : 0;

	if (ret == 0)
		ret = space_take(co, c, how);
	if (ret == 0 && how->data_name)
		ret = node_flush(co, how->data);
	return ret;
}

/* What isn't written reads zeros: in a file it is a hole; what can't grow holds anything before. */
static int room_take(struct co *co, struct creation *c)
{
	uint64_t bytes = qcow2_create_file_bytes(&c->at);

	if (c->file->grows_zeroed)
		return node_resize(co, c->file, bytes);
	bytes = align_up(bytes, c->at.cluster_bytes);
	return bytes > c->file->size ? -ENOSPC : node_zero(co, c->file, 0, bytes, NODE_MAY_UNMAP);
}

static int tables_write(struct co *co, struct creation *c)
{
	int ret = reftable_write(co, c);

	if (ret == 0)
		ret = blocks_write(co, c);
	if (ret == 0)
		ret = l2_tables_write(co, c);
	if (ret == 0)
		ret = l1_write(co, c);
	return ret;
}

static int content_write(struct co *co, struct creation *c, const struct qcow2_create *how)
{
	int ret = room_take(co, c);

	if (ret == 0)
		ret = data_make(co, c, how);
	return ret ? ret : tables_write(co, c);
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

static uint64_t crypto_at(const struct qcow2_create_layout *l) { return qcow2_create_crypto_at(l) * l->cluster_bytes; }

static uint64_t incompatible_of(const struct qcow2_create *how)
{
	return (how->data_name ? QCOW2_INCOMPAT_DATA_FILE : 0u) |
		(how->compression_type != QCOW2_COMPRESSION_ZLIB ? QCOW2_INCOMPAT_COMPRESSION : 0u) |
		(how->extended_l2 ? QCOW2_INCOMPAT_EXTENDED_L2 : 0u);
}

static int header_make(
	const struct qcow2_create *how, const struct qcow2_create_layout *l, struct qcow2_header *h, struct err *err)
{
	int ret;

	*h = (struct qcow2_header){
		.version = how->version,
		.cluster_bits = how->cluster_bits,
		.refcount_order = how->refcount_order,
		.size = l->size,
		.l1_entries = (uint32_t)l->l1_entries,
		.l1.off = l->l1 ? l->l1_at * l->cluster_bytes : 0,
		.reftable.off = l->reftable_at * l->cluster_bytes,
		.reftable_clusters = (uint32_t)l->reftable,
		.incompatible = incompatible_of(how),
		.compatible = how->lazy_refcounts ? QCOW2_COMPAT_LAZY_REFCOUNTS : 0,
		.autoclear = how->data_raw ? QCOW2_AUTOCLEAR_DATA_FILE_RAW : 0,
		.compression_type = how->compression_type,
	};
	if (how->luks) {
		h->crypt_method = QCOW2_CRYPT_LUKS;
		h->crypto.off = crypto_at(l);
		h->crypto_bytes = qcow2_luks_bytes(how->luks);
	}
	ret = string_copy(h->backing_name, sizeof(h->backing_name), how->backing_name, "backing file's name", err);
	if (ret == 0)
		ret = string_copy(h->backing_format, sizeof(h->backing_format), how->backing_format,
			"backing file's format", err);
	if (ret == 0)
		ret = string_copy(h->data_file, sizeof(h->data_file), how->data_name, "data file's name", err);
	return ret;
}

/* All that can be known to be wrong without touching the file. */
static int create_plan(
	const struct qcow2_create *how, struct qcow2_create_layout *l, struct qcow2_header *header, struct err *err)
{
	int ret = version_check(how, err);

	if (ret == 0)
		ret = geometry_check(how, err);
	if (ret == 0)
		ret = combination_check(how, err);
	if (ret == 0 && how->luks)
		ret = encryption_check(how, err);
	if (ret == 0 && how->size > INT64_MAX)
		ret = err_set(err, -EFBIG, "the image size must be less than 2^63 bytes");
	if (ret == 0)
		ret = qcow2_create_layout(how, l, err);
	if (ret == 0)
		ret = header_make(how, l, header, err);
	return ret;
}

/* The header's cluster; *out is malloc'd. */
static int create_prepare(const struct qcow2_create *how, struct qcow2_create_layout *l, void **out, struct err *err)
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
	struct qcow2_create_layout layout = {0};

	return create_prepare(how, &layout, &first, err);
}

int qcow2_create(struct co *co, struct node *file, const struct qcow2_create *how, struct err *err)
{
	struct creation c = {.file = file, .refcount_order = how->refcount_order, .data_raw = how->data_raw};
	AUTO_FREE void *cluster = NULL, *first = NULL;
	int ret = create_prepare(how, &c.at, &first, err);

	assert((file->size == 0 || !file->grows_zeroed) && (!how->data_name || how->data));
	if (ret < 0)
		return ret;
	c.cluster = cluster = malloc(c.at.cluster_bytes);
	if (!cluster)
		return err_set(err, -ENOMEM, "no memory for a cluster");
	ret = content_write(co, &c, how);
	if (ret == 0 && how->luks) {
		ret = qcow2_luks_write(co, file, (struct host){crypto_at(&c.at)}, how->luks, err);
		if (ret < 0)
			return ret;
	}
	if (ret == 0)
		ret = node_flush(co, file);
	if (ret == 0)
		ret = node_write(co, file, 0, IOV_BUF(first, c.at.cluster_bytes), NODE_FUA);
	if (ret < 0)
		return err_set(err, ret, "the new image can't be written: %s", strerror(-ret));
	return 0;
}
