/* SPDX-License-Identifier: MIT */
/* An image's properties, gathered. The keys and their meaning are those of QEMU's ImageInfo (qapi/block-core.json). */
#include "cli/describe.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "api/image.h"
#include "base/cleanup.h"
#include "base/math.h"
#include "file/file.h"

json_t *describe_text(const char *text)
{
	json_t *value = json_string(text);
	AUTO_FREE char *copy = value ? NULL : strdup(text);

	for (char *p = copy; p && *p; p++) {
		if ((unsigned char)*p >= 0x80)
			*p = '?';
	}
	return value ? value : json_string(copy ? copy : "");
}

static json_t *snapshot_json(const struct qcow2_snapshot_info *s)
{
	json_t *o = json_pack("{s:o, s:o, s:I, s:I, s:I, s:I, s:I}", "id", describe_text(s->id), "name",
		describe_text(s->name), "vm-state-size", (json_int_t)s->vm_state_bytes, "date-sec",
		(json_int_t)s->date_sec, "date-nsec", (json_int_t)s->date_nsec, "vm-clock-sec",
		(json_int_t)(s->vm_clock_nsec / 1000000000), "vm-clock-nsec",
		(json_int_t)(s->vm_clock_nsec % 1000000000));

	if (o && s->icount != -1)
		json_object_set_new(o, "icount", json_integer(s->icount));
	return o;
}

int describe_snapshots(struct co *co, struct node *file, const struct qcow2_header *h, json_t **out, struct err *err)
{
	AUTO_FREE struct qcow2_snapshot_info *list = NULL;
	unsigned n;
	int ret = qcow2_snapshots_read(co, file, h, &list, &n, err);

	if (ret < 0)
		return ret;
	*out = json_array();
	for (unsigned i = 0; i < n; i++)
		json_array_append_new(*out, snapshot_json(&list[i]));
	return 0;
}

static int snapshots_add(struct co *co, json_t *image, struct node *file, const struct qcow2_header *h, struct err *err)
{
	json_t *array;
	int ret = h->snapshots ? describe_snapshots(co, file, h, &array, err) : 0;

	if (ret == 0 && h->snapshots)
		json_object_set_new(image, "snapshots", array);
	return ret;
}

static json_t *bitmap_json(const struct qcow2_bitmap_info *b)
{
	json_t *flags = json_array();

	if (b->flags & QCOW2_BITMAP_IN_USE)
		json_array_append_new(flags, json_string("in-use"));
	if (b->flags & QCOW2_BITMAP_AUTO)
		json_array_append_new(flags, json_string("auto"));
	return json_pack("{s:o, s:o, s:I}", "flags", flags, "name", describe_text(b->name), "granularity",
		(json_int_t)(UINT64_C(1) << b->granularity_bits));
}

static int bitmaps_add(struct co *co, json_t *data, struct node *file, const struct qcow2_header *h, struct err *err)
{
	AUTO_FREE struct qcow2_bitmap_info *list = NULL;
	json_t *array;
	unsigned n;
	int ret;

	if (h->bitmaps == 0)
		return 0;
	ret = qcow2_bitmaps_read(co, file, h, &list, &n, err);
	if (ret < 0)
		return ret;
	array = json_array();
	for (unsigned i = 0; i < n; i++)
		json_array_append_new(array, bitmap_json(&list[i]));
	json_object_set_new(data, "bitmaps", array);
	return 0;
}

static void data_file_add(json_t *data, const struct qcow2_header *h)
{
	if (!(h->incompatible & QCOW2_INCOMPAT_DATA_FILE))
		return;
	if (h->data_file[0])
		json_object_set_new(data, "data-file", describe_text(h->data_file));
	json_object_set_new(data, "data-file-raw", json_boolean(h->autoclear & QCOW2_AUTOCLEAR_DATA_FILE_RAW));
}

static int specific_add(struct co *co, json_t *image, struct node *file, const struct qcow2_header *h, struct err *err)
{
	json_t *data = json_object();
	int ret = 0;

	json_object_set_new(image, "format-specific", json_pack("{s:s, s:o}", "type", "qcow2", "data", data));
	json_object_set_new(data, "compat", json_string(h->version == 2 ? "0.10" : "1.1"));
	json_object_set_new(
		data, "compression-type", json_string(h->compression_type == QCOW2_COMPRESSION_ZSTD ? "zstd" : "zlib"));
	if (h->version >= 3) {
		json_object_set_new(data, "lazy-refcounts", json_boolean(h->compatible & QCOW2_COMPAT_LAZY_REFCOUNTS));
		ret = bitmaps_add(co, data, file, h, err);
	}
	json_object_set_new(data, "refcount-bits", json_integer(1 << h->refcount_order));
	data_file_add(data, h);
	if (ret == 0)
		ret = describe_encryption(co, data, file, h, err);
	if (h->version >= 3) {
		json_object_set_new(data, "corrupt", json_boolean(h->incompatible & QCOW2_INCOMPAT_CORRUPT));
		json_object_set_new(data, "extended-l2", json_boolean(h->incompatible & QCOW2_INCOMPAT_EXTENDED_L2));
	}
	return ret;
}

static void backing_add(json_t *image, const char *filename, const struct qcow2_header *h)
{
	AUTO_FREE char *full = NULL;

	if (!h->backing_name[0])
		return;
	json_object_set_new(image, "backing-filename", describe_text(h->backing_name));
	full = image_relative_path(filename, h->backing_name);
	if (full)
		json_object_set_new(image, "full-backing-filename", describe_text(full));
	if (h->backing_format[0])
		json_object_set_new(image, "backing-filename-format", describe_text(h->backing_format));
}

static int qcow2_add(struct co *co, json_t *image, const char *filename, struct node *file,
	const struct qcow2_header *h, struct err *err)
{
	int ret;

	json_object_set_new(image, "cluster-size", json_integer((json_int_t)1 << h->cluster_bits));
	if (h->crypt_method != QCOW2_CRYPT_NONE)
		json_object_set_new(image, "encrypted", json_true());
	backing_add(image, filename, h);
	ret = snapshots_add(co, image, file, h, err);
	return ret < 0 ? ret : specific_add(co, image, file, h, err);
}

/* What it takes of the host, if it lies in a file there. */
static void actual_size_add(json_t *image, struct node *n)
{
	const struct node *file = image_file_of(n);

	if (file)
		json_object_set_new(image, "actual-size", json_integer((json_int_t)file_info(file)->allocated));
}

json_t *describe_image(struct co *co, const char *filename, struct node *n, const char *driver,
	const struct qcow2_header *header, struct err *err)
{
	json_t *image = json_object();
	/* Disks come in whole sectors: a raw file's last one is filled up with zeros. */
	uint64_t size = header ? header->size : align_up(n->size, 512);

	if (!image) {
		err_set(err, -ENOMEM, "no memory");
		return NULL;
	}
	json_object_set_new(image, "filename", describe_text(filename));
	json_object_set_new(image, "format", json_string(driver));
	json_object_set_new(image, "virtual-size", json_integer((json_int_t)size));
	actual_size_add(image, n);
	json_object_set_new(image, "dirty-flag", json_boolean(header && header->incompatible & QCOW2_INCOMPAT_DIRTY));
	if (header && qcow2_add(co, image, filename, n, header, err) < 0) {
		json_decref(image);
		return NULL;
	}
	return image;
}
