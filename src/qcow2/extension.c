/* SPDX-License-Identifier: MIT */
/*
 * Header extensions, read and written. Every length comes from outside: a record is looked at only after it was found to
 * lie inside [at, end), and a string is copied only after it was found to fit and to hold no NUL, which would show one
 * name and open another.
 */
#include "qcow2/extension.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "base/math.h"

int qcow2_extension_next(struct qcow2_extensions *walk, struct qcow2_extension *out, struct err *err)
{
	struct qcow2_disk_extension disk;
	size_t room;

	if (walk->end - walk->at < sizeof(disk))
		return 0;
	memcpy(&disk, walk->bytes + walk->at, sizeof(disk));
	room = walk->end - walk->at - sizeof(disk);
	*out = (struct qcow2_extension){
		.type = be32_get(disk.type),
		.at = walk->at,
		.data = walk->bytes + walk->at + sizeof(disk),
		.bytes = be32_get(disk.bytes),
	};
	if (out->type == QCOW2_EXT_END)
		return 0;
	if (out->bytes > room)
		return err_set(err, -EINVAL,
			"the header extension of type %#" PRIx32 " at %#zx claims %zu bytes, but only %zu are left",
			out->type, out->at, out->bytes, room);
	walk->at += sizeof(disk) + MIN(align_up(out->bytes, 8), (uint64_t)room);
	return 1;
}

static int string_parse(const struct qcow2_extension *ext, const char *what, char *to, size_t size, struct err *err)
{
	if (ext->bytes >= size)
		return err_set(err, -EINVAL, "the %s at %#zx has %zu bytes, more than the %zu allowed", what, ext->at,
			ext->bytes, size - 1);
	if (memchr(ext->data, '\0', ext->bytes))
		return err_set(err, -EINVAL, "the %s at %#zx contains a NUL byte", what, ext->at);
	memcpy(to, ext->data, ext->bytes);
	to[ext->bytes] = '\0';
	return 0;
}

static int bitmaps_parse(const struct qcow2_extension *ext, struct qcow2_header *h, struct err *err)
{
	struct qcow2_disk_bitmaps disk;
	uint32_t bitmaps;

	/* Without the autoclear bit somebody wrote to the image who didn't know of bitmaps: what it says is out of date. */
	if (!(h->autoclear & QCOW2_AUTOCLEAR_BITMAPS))
		return 0;
	if (ext->bytes != sizeof(disk))
		return err_set(err, -EINVAL, "the bitmaps extension at %#zx has %zu bytes instead of %zu", ext->at,
			ext->bytes, sizeof(disk));
	memcpy(&disk, ext->data, sizeof(disk));
	bitmaps = be32_get(disk.bitmaps);
	if (bitmaps == 0 || bitmaps > QCOW2_MAX_BITMAPS)
		return err_set(err, -EINVAL,
			"the bitmaps extension at %#zx claims %" PRIu32 " bitmaps instead of 1 to %u", ext->at, bitmaps,
			QCOW2_MAX_BITMAPS);
	if (be32_get(disk.reserved) != 0)
		return err_set(err, -EINVAL, "the bitmaps extension at %#zx has its reserved field set", ext->at);
	h->bitmaps = bitmaps;
	h->bitmap_directory.off = be64_get(disk.directory_offset);
	h->bitmap_directory_bytes = be64_get(disk.directory_bytes);
	if (h->bitmap_directory_bytes == 0 || h->bitmap_directory_bytes > QCOW2_MAX_BITMAP_DIRECTORY_BYTES)
		return err_set(err, -EINVAL, "the bitmaps extension at %#zx claims a directory of %" PRIu64 " bytes",
			ext->at, h->bitmap_directory_bytes);
	return 0;
}

static int crypto_parse(const struct qcow2_extension *ext, struct qcow2_header *h, struct err *err)
{
	struct qcow2_disk_crypto disk;

	if (h->crypt_method != QCOW2_CRYPT_LUKS)
		return err_set(err, -EINVAL,
			"the image has an encryption header (extension at %#zx) but isn't encrypted with LUKS",
			ext->at);
	if (ext->bytes != sizeof(disk))
		return err_set(err, -EINVAL, "the encryption extension at %#zx has %zu bytes instead of %zu", ext->at,
			ext->bytes, sizeof(disk));
	memcpy(&disk, ext->data, sizeof(disk));
	h->crypto.off = be64_get(disk.offset);
	h->crypto_bytes = be64_get(disk.bytes);
	if (h->crypto_bytes == 0)
		return err_set(err, -EINVAL, "the encryption extension at %#zx claims an empty header", ext->at);
	return 0;
}

enum {
	SEEN_BACKING_FORMAT = 1 << 0,
	SEEN_FEATURES = 1 << 1,
	SEEN_BITMAPS = 1 << 2,
	SEEN_CRYPTO = 1 << 3,
	SEEN_DATA = 1 << 4,
	SEEN_GAP = 1 << 5,
};

/* A bit of its own for each type that is known here, else 0. */
static unsigned known_type(uint32_t type)
{
	switch (type) {
	case QCOW2_EXT_BACKING_FORMAT: return SEEN_BACKING_FORMAT;
	case QCOW2_EXT_FEATURE_NAMES: return SEEN_FEATURES;
	case QCOW2_EXT_BITMAPS: return SEEN_BITMAPS;
	case QCOW2_EXT_CRYPTO: return SEEN_CRYPTO;
	case QCOW2_EXT_DATA_FILE: return SEEN_DATA;
	case QCOW2_EXT_GAP: return SEEN_GAP;
	default: return 0;
	}
}

static int extension_parse(const struct qcow2_extension *ext, struct qcow2_header *h, struct err *err)
{
	switch (ext->type) {
	case QCOW2_EXT_BACKING_FORMAT:
		return string_parse(ext, "backing format name", h->backing_format, sizeof(h->backing_format), err);
	case QCOW2_EXT_DATA_FILE: return string_parse(ext, "data file name", h->data_file, sizeof(h->data_file), err);
	case QCOW2_EXT_BITMAPS: return bitmaps_parse(ext, h, err);
	case QCOW2_EXT_CRYPTO: return crypto_parse(ext, h, err);
	default: return 0;
	}
}

bool qcow2_extension_is_known(uint32_t type) { return known_type(type) != 0; }

int qcow2_extensions_parse(struct qcow2_extensions walk, struct qcow2_header *h, struct err *err)
{
	struct qcow2_extension ext;
	unsigned seen = 0;
	int more;

	while ((more = qcow2_extension_next(&walk, &ext, err)) > 0) {
		unsigned known = known_type(ext.type);
		int ret;

		if (seen & known)
			return err_set(err, -EINVAL, "the header extension of type %#" PRIx32 " at %#zx appears twice",
				ext.type, ext.at);
		seen |= known;
		h->unknown_extensions |= known == 0;
		ret = extension_parse(&ext, h, err);
		if (ret < 0)
			return ret;
	}
	if (more < 0)
		return more;
	if (h->crypt_method == QCOW2_CRYPT_LUKS && !(seen & SEEN_CRYPTO))
		return err_set(err, -EINVAL, "the image is encrypted with LUKS but has no encryption header extension");
	if ((h->autoclear & QCOW2_AUTOCLEAR_BITMAPS) && !(seen & SEEN_BITMAPS))
		return err_set(err, -EINVAL, "the image says that it has bitmaps but has no bitmaps extension");
	return 0;
}

/* ---- features ---- */

static const struct qcow2_disk_feature feature_names[] = {
	{QCOW2_FEATURE_INCOMPATIBLE, 0, "dirty bit"},
	{QCOW2_FEATURE_INCOMPATIBLE, 1, "corrupt bit"},
	{QCOW2_FEATURE_INCOMPATIBLE, 2, "external data file"},
	{QCOW2_FEATURE_INCOMPATIBLE, 3, "compression type"},
	{QCOW2_FEATURE_INCOMPATIBLE, 4, "extended L2 entries"},
	{QCOW2_FEATURE_COMPATIBLE, 0, "lazy refcounts"},
	{QCOW2_FEATURE_AUTOCLEAR, 0, "bitmaps"},
	{QCOW2_FEATURE_AUTOCLEAR, 1, "raw external data"},
};

static bool feature_find(const char *table, size_t bytes, unsigned bit, char name[QCOW2_FEATURE_NAME_BYTES + 1])
{
	struct qcow2_disk_feature f;

	for (size_t at = 0; at + sizeof(f) <= bytes; at += sizeof(f)) {
		memcpy(&f, table + at, sizeof(f));
		if (f.kind == QCOW2_FEATURE_INCOMPATIBLE && f.bit == bit) {
			memcpy(name, f.name, sizeof(f.name));
			name[sizeof(f.name)] = '\0';
			return true;
		}
	}
	return false;
}

void qcow2_feature_name(struct qcow2_extensions walk, unsigned bit, char name[QCOW2_FEATURE_NAME_BYTES + 1])
{
	struct qcow2_extension ext;

	while (qcow2_extension_next(&walk, &ext, NULL) > 0) {
		if (ext.type == QCOW2_EXT_FEATURE_NAMES && feature_find(ext.data, ext.bytes, bit, name))
			return;
	}
	if (!feature_find((const char *)feature_names, sizeof(feature_names), bit, name))
		name[0] = '\0';
}

/* ---- writing ---- */

int qcow2_extension_put(void *cluster, size_t len, size_t *at, uint32_t type, const void *data, size_t bytes)
{
	struct qcow2_disk_extension disk = {be32_of(type), be32_of((uint32_t)bytes)};
	size_t padded = align_up(bytes, 8);

	if (len - *at < sizeof(disk) || len - *at - sizeof(disk) < padded)
		return -ENAMETOOLONG;
	memcpy((char *)cluster + *at, &disk, sizeof(disk));
	memset((char *)cluster + *at + sizeof(disk), 0, padded);
	if (bytes != 0)
		memcpy((char *)cluster + *at + sizeof(disk), data, bytes);
	*at += sizeof(disk) + padded;
	return 0;
}

const void *qcow2_feature_names(size_t *bytes)
{
	*bytes = sizeof(feature_names);
	return feature_names;
}
