/* SPDX-License-Identifier: MIT */
/*
 * Changing what an image is: version, width of refcounts, passphrases and so on. All that can be refused is refused before
 * anything changes; the words are qemu-img's. Then, one after the other, each durable before the next begins:
 *
 *     of the open image, which nobody else uses
 *         key slots                                                       (luks_slots.c)
 *         to version 3: records of snapshots become complete              (snapshot_ops.c)
 *         the header: version 3, lazy refcounts, the data file's name     (rewrite.c: one sector's write)
 *         the size                                                        (resize.c)
 *         to version 2: bitmaps go, zero clusters are said otherwise      (bitmap_edit.c, amend_zeros.c)
 *     the image is closed; of its file, which stays open and locked
 *         the width of refcounts                                          (amend_refcounts.c)
 *         the header: version 2                                           (rewrite.c)
 *
 * Each step leaves an image that is in order and reads as before (the size apart), so that a cut between two of them, or
 * inside of one, leaves the old image, the new one, or one on the way; the same amendment goes on from there.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "qcow2/amend.h"
#include "qcow2/rewrite.h"
#include "qcow2/snapshot_ops.h"

struct amendment {
	const struct qcow2_amend *how;
	unsigned version, order; /* to be */
	bool upgrade, downgrade, widths;
	uint64_t size;
};

/* ---- what is refused ---- */

static int encryption_check(const struct qcow2 *q, const struct qcow2_amend *how, struct err *err)
{
	if (!how->luks_add && !how->luks_remove)
		return 0;
	if (q->header.crypt_method == QCOW2_CRYPT_NONE)
		return err_set(err, -EINVAL, "Can't amend encryption options - encryption not present");
	if (q->header.crypt_method != QCOW2_CRYPT_LUKS)
		return err_set(err, -ENOTSUP, "Only LUKS encryption options can be amended");
	return 0;
}

static int width_check(struct co *co, const struct qcow2 *q, const struct amendment *a, struct err *err)
{
	if (!a->widths)
		return 0;
	if (a->version < 3 && a->order != 4)
		return err_set(err, -EINVAL,
			"Refcount widths other than 16 bits require compatibility level 1.1 or above (use compat=1.1 or greater)");
	return a->order < q->header.refcount_order ? qcow2_refcount_width_check(co, q->node.file, a->order, err) : 0;
}

static int data_file_check(const struct qcow2 *q, const struct qcow2_amend *how, struct err *err)
{
	if (how->data_name && !qcow2_has_data_file(q))
		return err_set(err, -EINVAL, "data-file can only be set for images that use an external data file");
	if (how->data_name && strlen(how->data_name) > QCOW2_MAX_BACKING_NAME)
		return err_set(err, -ENAMETOOLONG, "the data file's name has %zu bytes; the most is %u",
			strlen(how->data_name), QCOW2_MAX_BACKING_NAME);
	if (how->data_raw == QCOW2_ON && !qcow2_data_is_raw(q))
		return err_set(err, -EINVAL, "data-file-raw cannot be set on existing images");
	return 0;
}

static int lazy_check(const struct qcow2 *q, const struct amendment *a, struct err *err)
{
	if (a->how->lazy_refcounts != QCOW2_ON || qcow2_is_lazy(q) || a->version >= 3)
		return 0;
	return err_set(err, -EINVAL,
		"Lazy refcounts only supported with compatibility level 1.1 and above (use compat=1.1 or greater)");
}

static int size_check(const struct qcow2 *q, const struct amendment *a, struct err *err)
{
	if (a->size == q->node.size)
		return 0;
	if (a->size % QCOW2_SECTOR != 0)
		return err_set(err, -EINVAL, "The new size must be a multiple of %u", QCOW2_SECTOR);
	if (q->header.snapshots && q->header.version < 3 && !a->upgrade)
		return err_set(err, -ENOTSUP, "Can't resize a v2 image which has snapshots");
	return 0;
}

/* Programs for version 2 needn't look at what a record says beyond the 32-bit size of the VM state. */
static int snapshots_check(struct co *co, const struct qcow2 *q, const struct amendment *a, struct err *err)
{
	AUTO_FREE struct qcow2_snapshot_info *list = NULL;
	unsigned n;
	int ret = qcow2_snapshots_read(co, q->node.file, &q->header, &list, &n, err);

	for (unsigned i = 0; ret == 0 && i < n; i++) {
		if (list[i].vm_state_bytes > UINT32_MAX || list[i].disk_bytes != a->size)
			ret = err_set(err, -ENOTSUP, "Internal snapshots prevent downgrade of image");
	}
	return ret;
}

static int compression_check(struct co *co, struct qcow2 *q, struct err *err)
{
	bool compressed = false;
	int ret;

	if (q->header.compression_type == QCOW2_COMPRESSION_ZLIB)
		return 0;
	ret = qcow2_is_compressed(co, q, &compressed, err);
	if (ret == 0 && compressed)
		ret = err_set(err, -ENOTSUP,
			"Cannot downgrade an image with zstd compression type and existing compressed clusters");
	return ret;
}

static int downgrade_check(struct co *co, struct qcow2 *q, const struct amendment *a, struct err *err)
{
	const uint64_t goes = QCOW2_INCOMPAT_DIRTY | QCOW2_INCOMPAT_COMPRESSION;
	int ret;

	if (!a->downgrade)
		return 0;
	if (a->order != 4)
		return err_set(err, -ENOTSUP, "compat=0.10 requires refcount_bits=16");
	if (qcow2_has_data_file(q))
		return err_set(err, -ENOTSUP, "Cannot downgrade an image with a data file");
	ret = snapshots_check(co, q, a, err);
	if (ret < 0)
		return ret;
	if (q->header.incompatible & ~goes)
		return err_set(err, -ENOTSUP, "Cannot downgrade an image with incompatible features %#" PRIx64 " set",
			q->header.incompatible & ~goes);
	if (q->header.header_bytes > sizeof(struct qcow2_disk_header))
		return err_set(err, -ENOTSUP, "the header has fields that version 2 can't have");
	return compression_check(co, q, err);
}

static int check_all(struct co *co, struct qcow2 *q, const struct amendment *a, struct err *err)
{
	const struct qcow2_amend *how = a->how;
	int ret = encryption_check(q, how, err);

	if (ret == 0)
		ret = data_file_check(q, how, err);
	if (ret == 0)
		ret = width_check(co, q, a, err);
	if (ret == 0)
		ret = lazy_check(q, a, err);
	if (ret == 0)
		ret = size_check(q, a, err);
	return ret == 0 ? downgrade_check(co, q, a, err) : ret;
}

/* ---- of the open image ---- */

static int slots_change(struct co *co, struct qcow2 *q, const struct qcow2_amend *how, struct err *err)
{
	if (how->luks_add)
		return qcow2_luks_add(co, q->node.file, how->luks_add, err);
	return how->luks_remove ? qcow2_luks_remove(co, q->node.file, how->luks_remove, err) : 0;
}

static void header_amend(struct qcow2_header *h, void *arg)
{
	const struct amendment *a = arg;
	const struct qcow2_amend *how = a->how;

	if (a->upgrade)
		h->version = 3;
	if (how->lazy_refcounts == QCOW2_ON)
		h->compatible |= QCOW2_COMPAT_LAZY_REFCOUNTS;
	if (how->lazy_refcounts == QCOW2_OFF)
		h->compatible &= ~(uint64_t)QCOW2_COMPAT_LAZY_REFCOUNTS;
	if (how->data_raw == QCOW2_OFF)
		h->autoclear &= ~(uint64_t)QCOW2_AUTOCLEAR_DATA_FILE_RAW;
	if (how->data_name)
		memcpy(h->data_file, how->data_name, strlen(how->data_name) + 1);
}

static bool changes_header(const struct amendment *a)
{
	return a->upgrade || a->how->lazy_refcounts != QCOW2_AS_IT_IS || a->how->data_raw != QCOW2_AS_IT_IS ||
		a->how->data_name;
}

/* Version 2 has none, and who writes to one would leave them wrong. */
static int bitmaps_drop(struct co *co, struct qcow2 *q, struct err *err)
{
	AUTO_FREE struct qcow2_bitmap_status *list = NULL;
	unsigned n;
	int ret = qcow2_bitmap_list(co, &q->node, &list, &n, err);

	for (unsigned i = 0; ret == 0 && i < n; i++)
		ret = qcow2_bitmap_remove(co, &q->node, list[i].name, err);
	return ret;
}

/* No search for leaks meanwhile: it would take references for leaked that are being given out. */
static int zeros_expand(struct co *co, struct qcow2 *q, const struct amendment *a, struct err *err)
{
	int ret = qcow2_snapshot_enter(co, q, err);

	if (ret < 0)
		return ret;
	ret = qcow2_zeros_expand(co, q, a->how->progress, a->how->arg, err);
	qcow2_snapshot_leave(q);
	return ret;
}

static int size_set(struct co *co, struct qcow2 *q, uint64_t size, struct err *err)
{
	int ret = size == q->node.size ? 0 : node_resize(co, &q->node, size);

	return ret < 0 ? err_set(err, ret, "the disk can't be resized to %" PRIu64 " bytes: %s", size, strerror(-ret))
		       : 0;
}

static int open_steps(struct co *co, struct qcow2 *q, struct amendment *a, struct err *err)
{
	int ret = slots_change(co, q, a->how, err);

	if (ret == 0 && a->upgrade)
		ret = qcow2_snapshots_complete(co, q, err);
	if (ret == 0 && changes_header(a))
		ret = qcow2_rewrite_open(co, q, header_amend, a, err);
	if (ret == 0)
		ret = size_set(co, q, a->size, err);
	if (ret == 0 && a->downgrade)
		ret = bitmaps_drop(co, q, err);
	if (ret == 0 && a->downgrade && !MUTANT(110))
		ret = zeros_expand(co, q, a, err);
	return ret;
}

/* ---- of its file ---- */

static void header_downgrade(struct qcow2_header *h, void *arg ATTR_UNUSED)
{
	h->version = 2;
	h->incompatible = h->compatible = h->autoclear = 0;
	h->compression_type = QCOW2_COMPRESSION_ZLIB;
}

static int closed_steps(struct co *co, struct node *file, const struct amendment *a, struct err *err)
{
	int ret = 0;

	if (a->widths)
		ret = qcow2_refcount_width(co, file, a->order, a->how->progress, a->how->arg, err);
	if (ret == 0 && a->downgrade)
		ret = qcow2_rewrite_closed(co, file, header_downgrade, NULL, err);
	return ret;
}

/* ---- all of it ---- */

static int order_of(unsigned bits)
{
	int order = 0;

	while (1u << order < bits && order < 7)
		order++;
	return order <= QCOW2_MAX_REFCOUNT_ORDER && 1u << order == bits ? order : -1;
}

static int amendment_plan(
	struct co *co, struct qcow2 *q, const struct qcow2_amend *how, struct amendment *a, struct err *err)
{
	int order = how->refcount_bits ? order_of(how->refcount_bits) : (int)q->header.refcount_order;

	*a = (struct amendment){
		.how = how,
		.version = how->version ? how->version : q->header.version,
		.order = (unsigned)order,
		.size = how->size ? how->size : q->node.size,
	};
	if (order < 0)
		return err_set(err, -EINVAL, "Refcount width must be a power of two and may not exceed 64 bits");
	a->upgrade = a->version > q->header.version;
	a->downgrade = a->version < q->header.version;
	a->widths = a->order != q->header.refcount_order;
	return check_all(co, q, a, err);
}

/* Closes the image and what is below it; its file stays, with its lock. */
static int image_close(struct co *co, struct node *n, struct node **file)
{
	struct node *data = n->data != n->file ? n->data : NULL, *backing = n->backing;
	int drained, closed, rest;

	*file = n->file;
	drained = node_drain_begin(co, n);
	closed = n->ops->close(co, n);
	rest = node_close(co, data);
	(void)!node_close(co, backing);
	return drained ? drained : closed ? closed : rest;
}

int qcow2_amend(struct co *co, struct node *n, const struct qcow2_amend *how, struct err *err)
{
	struct amendment a;
	struct node *file;
	int ret = amendment_plan(co, qcow2_of(n), how, &a, err), closed;

	if (ret == 0)
		ret = open_steps(co, qcow2_of(n), &a, err);
	closed = image_close(co, n, &file);
	if (ret == 0 && closed < 0)
		ret = err_set(err, closed, "the image can't be closed: %s", strerror(-closed));
	if (ret == 0)
		ret = closed_steps(co, file, &a, err);
	closed = node_close(co, file);
	if (ret == 0 && closed < 0)
		ret = err_set(err, closed, "the image's file can't be closed: %s", strerror(-closed));
	return ret;
}
