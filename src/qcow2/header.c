/* SPDX-License-Identifier: MIT */
/*
 * The header: parsing, writing, patching. All of it may be hostile. Each check below guards what the engine takes for
 * granted later: after a successful parse every table that the header names is aligned, inside the file, of bounded size
 * and apart from the header and from the other tables, and all sums of offsets and lengths fit in 64 bits.
 */
#include "qcow2/header.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/attr.h"
#include "base/math.h"
#include "base/mutant.h"
#include "qcow2/extension.h"

#define VERSION_2_BYTES 72
#define VERSION_3_BYTES 104 /* the least; without the compression type */
#define SNAPSHOT_MIN_BYTES 40
/* Where clusters are small the feature names would leave too little room for the backing name: QEMU's rule. */
#define FEATURE_NAMES_MIN_CLUSTER_BITS 13

static_assert(sizeof(struct qcow2_disk_header) == 112, "the header as QEMU 5.1 and later write it");

bool qcow2_header_probe(const void *bytes, size_t len)
{
	be32 magic;

	if (len < sizeof(magic))
		return false;
	memcpy(&magic, bytes, sizeof(magic));
	return be32_get(magic) == QCOW2_MAGIC;
}

/* The version decides which fields there are; the others are left zero. */
static int disk_header_read(const void *bytes, size_t len, struct qcow2_disk_header *disk, struct err *err)
{
	uint32_t version;

	memset(disk, 0, sizeof(*disk));
	if (!qcow2_header_probe(bytes, len))
		return err_set(err, -EINVAL, "Image is not in qcow2 format");
	if (len < VERSION_2_BYTES)
		return err_set(err, -EINVAL, "the file ends after %zu bytes, within the qcow2 header", len);
	memcpy(disk, bytes, VERSION_2_BYTES);
	version = be32_get(disk->version);
	if (version != 2 && version != 3)
		return err_set(err, -ENOTSUP,
			"qcow2 version %" PRIu32 " is unknown; this program knows versions 2 and 3", version);
	if (version == 2)
		return 0;
	if (len < VERSION_3_BYTES)
		return err_set(err, -EINVAL, "the file ends after %zu bytes, within the qcow2 header", len);
	memcpy(disk, bytes, MIN(len, sizeof(*disk)));
	return 0;
}

static void fields_read(const struct qcow2_disk_header *disk, struct qcow2_header *h)
{
	h->version = be32_get(disk->version);
	h->cluster_bits = be32_get(disk->cluster_bits);
	h->size = be64_get(disk->size);
	h->crypt_method = be32_get(disk->crypt_method);
	h->l1_entries = be32_get(disk->l1_entries);
	h->l1.off = be64_get(disk->l1_offset);
	h->reftable.off = be64_get(disk->reftable_offset);
	h->reftable_clusters = be32_get(disk->reftable_clusters);
	h->snapshots = be32_get(disk->snapshots);
	h->snapshots_at.off = be64_get(disk->snapshots_offset);
	h->refcount_order = 4;
	h->header_bytes = VERSION_2_BYTES;
	if (h->version == 2)
		return;
	h->incompatible = be64_get(disk->incompatible);
	h->compatible = be64_get(disk->compatible);
	h->autoclear = be64_get(disk->autoclear);
	h->refcount_order = be32_get(disk->refcount_order);
	h->header_bytes = be32_get(disk->header_bytes);
	if (h->header_bytes > offsetof(struct qcow2_disk_header, compression_type))
		h->compression_type = disk->compression_type;
}

static int geometry_check(const struct qcow2_header *h, size_t len, struct err *err)
{
	uint64_t cluster;

	if (h->cluster_bits < QCOW2_MIN_CLUSTER_BITS || h->cluster_bits > QCOW2_MAX_CLUSTER_BITS)
		return err_set(err, -EINVAL, "cluster_bits is %u; it must be %u to %u (512 bytes to 2 MiB)",
			h->cluster_bits, QCOW2_MIN_CLUSTER_BITS, QCOW2_MAX_CLUSTER_BITS);
	cluster = UINT64_C(1) << h->cluster_bits;
	if (h->refcount_order > QCOW2_MAX_REFCOUNT_ORDER)
		return err_set(err, -EINVAL, "refcount_order is %u; it must be 0 to %u (1 to 64 bits)",
			h->refcount_order, QCOW2_MAX_REFCOUNT_ORDER);
	if (h->version == 3 && (h->header_bytes < VERSION_3_BYTES || h->header_bytes % 8 != 0))
		return err_set(err, -EINVAL, "header_length is %" PRIu32 "; it must be at least %u and a multiple of 8",
			h->header_bytes, VERSION_3_BYTES);
	if (h->header_bytes > MIN((uint64_t)len, cluster))
		return err_set(err, -EINVAL,
			"header_length is %" PRIu32 ", but the first cluster has only %" PRIu64 " bytes",
			h->header_bytes, MIN((uint64_t)len, cluster));
	return 0;
}

static int features_check(const struct qcow2_header *h, struct err *err)
{
	bool typed = h->incompatible & QCOW2_INCOMPAT_COMPRESSION;

	if (h->crypt_method > QCOW2_CRYPT_LUKS)
		return err_set(err, -ENOTSUP, "encryption method %" PRIu32 " is unknown", h->crypt_method);
	if (typed != (h->compression_type != QCOW2_COMPRESSION_ZLIB))
		return err_set(err, -EINVAL, "the compression type is %u, which disagrees with feature bit 3 (%s)",
			h->compression_type, typed ? "set" : "clear");
	if (h->compression_type > QCOW2_COMPRESSION_ZSTD)
		return err_set(err, -ENOTSUP, "compression type %u is unknown", h->compression_type);
	if ((h->incompatible & QCOW2_INCOMPAT_EXTENDED_L2) && h->cluster_bits < 14)
		return err_set(err, -EINVAL, "extended L2 entries need clusters of 16 KiB or more; cluster_bits is %u",
			h->cluster_bits);
	if ((h->autoclear & QCOW2_AUTOCLEAR_DATA_FILE_RAW) && !(h->incompatible & QCOW2_INCOMPAT_DATA_FILE))
		return err_set(
			err, -EINVAL, "the raw external data bit is set in an image without an external data file");
	return 0;
}

/* ---- the tables ---- */

struct table {
	const char *name;
	struct host at;
	uint64_t bytes; /* 0: there is no such table */
};

static int table_check(const struct table *t, uint64_t cluster, uint64_t file_bytes, struct err *err)
{
	if (t->bytes == 0)
		return 0;
	if (!is_aligned(t->at.off, cluster))
		return err_set(err, -EINVAL,
			"the %s at %#" PRIx64 " doesn't begin at a cluster boundary (%" PRIu64 " bytes)", t->name,
			t->at.off, cluster);
	if (t->at.off < cluster)
		return err_set(err, -EINVAL, "the %s lies at 0, on the header", t->name);
	if (t->at.off > file_bytes || t->bytes > file_bytes - t->at.off)
		return err_set(err, -EINVAL,
			"the %s (%" PRIu64 " bytes at %#" PRIx64
			") reaches beyond the end of the file, which has %" PRIu64 " bytes",
			t->name, t->bytes, t->at.off, file_bytes);
	return 0;
}

static int tables_check(const struct qcow2_header *h, uint64_t file_bytes, struct err *err)
{
	uint64_t cluster = UINT64_C(1) << h->cluster_bits;
	const struct table tables[] = {
		{"L1 table", h->l1, UINT64_C(8) * h->l1_entries},
		{"refcount table", h->reftable, h->reftable_clusters * cluster},
		{"snapshot table", h->snapshots_at, (uint64_t)SNAPSHOT_MIN_BYTES * h->snapshots},
		{"bitmap directory", h->bitmap_directory, h->bitmap_directory_bytes},
		{"encryption header", h->crypto, h->crypto_bytes},
	};

	for (unsigned i = 0; i < ARRAY_ENTRIES(tables); i++) {
		int ret = table_check(&tables[i], cluster, file_bytes, err);

		if (ret < 0)
			return ret;
		for (unsigned j = 0; j < i; j++) {
			if (ranges_overlap(tables[i].at.off, tables[i].bytes, tables[j].at.off, tables[j].bytes))
				return err_set(err, -EINVAL, "the %s at %#" PRIx64 " overlaps the %s at %#" PRIx64,
					tables[i].name, tables[i].at.off, tables[j].name, tables[j].at.off);
		}
	}
	return 0;
}

static int l1_check(const struct qcow2_header *h, uint64_t file_bytes, struct err *err)
{
	const struct table l1 = {"L1 table", h->l1, UINT64_C(8) * h->l1_entries};

	return table_check(&l1, UINT64_C(1) << h->cluster_bits, file_bytes, err);
}

static int limits_check(const struct qcow2_header *h, struct err *err)
{
	unsigned entry_bits = h->incompatible & QCOW2_INCOMPAT_EXTENDED_L2 ? 4 : 3;
	uint64_t per_l1_entry = UINT64_C(1) << (2 * h->cluster_bits - entry_bits);
	uint64_t needed = div_round_up(h->size, per_l1_entry);

	if (h->l1_entries > QCOW2_MAX_L1_BYTES / 8)
		return err_set(err, -EFBIG, "the L1 table claims %" PRIu32 " entries; the most is %" PRIu64,
			h->l1_entries, QCOW2_MAX_L1_BYTES / 8);
	if (h->l1_entries < needed)
		return err_set(err, -EINVAL,
			"the L1 table has %" PRIu32 " entries, but a disk of %" PRIu64 " bytes needs %" PRIu64,
			h->l1_entries, h->size, needed);
	if (h->snapshots > QCOW2_MAX_SNAPSHOTS)
		return err_set(err, -EFBIG, "the image claims %" PRIu32 " snapshots; the most is %u", h->snapshots,
			QCOW2_MAX_SNAPSHOTS);
	return 0;
}

static int reftable_limits_check(const struct qcow2_header *h, struct err *err)
{
	if (h->reftable_clusters == 0)
		return err_set(err, -EINVAL, "the image has no refcount table");
	if (h->reftable_clusters > QCOW2_MAX_REFTABLE_BYTES >> h->cluster_bits)
		return err_set(err, -EFBIG, "the refcount table claims %" PRIu32 " clusters, more than %" PRIu64 " MiB",
			h->reftable_clusters, QCOW2_MAX_REFTABLE_BYTES >> 20);
	return 0;
}

/* ---- the backing name, and what lies before it ---- */

static int backing_parse(const char *bytes, size_t first_cluster, uint64_t offset, uint32_t length,
	struct qcow2_header *h, struct err *err)
{
	if (offset < h->header_bytes || offset > first_cluster)
		return err_set(err, -EINVAL,
			"the backing file name lies at %#" PRIx64 ", outside of the first cluster's free space",
			offset);
	if (length > QCOW2_MAX_BACKING_NAME)
		return err_set(err, -EINVAL, "the backing file name has %" PRIu32 " bytes; the most is %u", length,
			QCOW2_MAX_BACKING_NAME);
	if (length > first_cluster - offset)
		return err_set(err, -EINVAL,
			"the backing file name (%" PRIu32 " bytes at %#" PRIx64 ") leaves the first cluster", length,
			offset);
	if (memchr(bytes + offset, '\0', length))
		return err_set(err, -EINVAL, "the backing file name at %#" PRIx64 " contains a NUL byte", offset);
	if (h->autoclear & QCOW2_AUTOCLEAR_DATA_FILE_RAW)
		return err_set(err, -EINVAL, "an image with a raw external data file can't have a backing file");
	memcpy(h->backing_name, bytes + offset, length);
	h->backing_name[length] = '\0';
	return 0;
}

/* They end where the backing name begins, which may lie anywhere. */
static struct qcow2_extensions extensions_of(const struct qcow2_disk_header *disk, const void *bytes, size_t len)
{
	uint64_t at = be32_get(disk->version) == 2 ? VERSION_2_BYTES : be32_get(disk->header_bytes);
	uint64_t end =
		MIN((uint64_t)len, UINT64_C(1) << MIN(be32_get(disk->cluster_bits), (uint32_t)QCOW2_MAX_CLUSTER_BITS));
	uint64_t backing = be64_get(disk->backing_offset);

	if (backing != 0)
		end = MIN(end, backing);
	return (struct qcow2_extensions){.bytes = bytes, .at = MIN(at, end), .end = end};
}

int qcow2_header_parse_damaged(
	const void *bytes, size_t len, uint64_t file_bytes, struct qcow2_header *out, struct err *err)
{
	struct qcow2_disk_header disk;
	int ret;

	memset(out, 0, sizeof(*out));
	ret = disk_header_read(bytes, len, &disk, err);
	if (ret < 0)
		return ret;
	fields_read(&disk, out);
	ret = geometry_check(out, len, err);
	if (ret == 0)
		ret = features_check(out, err);
	if (ret == 0)
		ret = limits_check(out, err);
	if (ret == 0 && be64_get(disk.backing_offset) != 0)
		ret = backing_parse(bytes, MIN((uint64_t)len, UINT64_C(1) << out->cluster_bits),
			be64_get(disk.backing_offset), be32_get(disk.backing_bytes), out, err);
	if (ret == 0)
		ret = qcow2_extensions_parse(extensions_of(&disk, bytes, len), out, err);
	return ret == 0 ? l1_check(out, file_bytes, err) : ret;
}

int qcow2_header_parse(const void *bytes, size_t len, uint64_t file_bytes, struct qcow2_header *out, struct err *err)
{
	int ret = qcow2_header_parse_damaged(bytes, len, file_bytes, out, err);

	if (ret == 0)
		ret = reftable_limits_check(out, err);
	return ret == 0 ? tables_check(out, file_bytes, err) : ret;
}

/* What is malformed otherwise is for the parser to say. */
int qcow2_header_check_features(uint64_t known, const void *bytes, size_t len, struct err *err)
{
	struct qcow2_disk_header disk;
	uint64_t unknown = disk_header_read(bytes, len, &disk, NULL) < 0 ? 0 : be64_get(disk.incompatible) & ~known;
	char list[512] = "";

	if (unknown == 0)
		return 0;
	for (unsigned bit = 0; bit < 64; bit++) {
		char name[QCOW2_FEATURE_NAME_BYTES + 1];
		size_t used = strlen(list);

		if (!(unknown >> bit & 1))
			continue;
		qcow2_feature_name(extensions_of(&disk, bytes, len), bit, name);
		snprintf(list + used, sizeof(list) - used, "%s%s%s(bit %u)", used ? ", " : "", name, *name ? " " : "",
			bit);
	}
	return err_set(err, -ENOTSUP, "the image needs features that aren't supported: %s", list);
}

/* ---- writing ---- */

static void changeable_put(const struct qcow2_header *h, struct qcow2_disk_header *disk)
{
	disk->size = be64_of(h->size);
	disk->l1_entries = be32_of(h->l1_entries);
	disk->l1_offset = be64_of(h->l1.off);
	disk->reftable_offset = be64_of(h->reftable.off);
	disk->reftable_clusters = be32_of(h->reftable_clusters);
	disk->snapshots = be32_of(h->snapshots);
	disk->snapshots_offset = be64_of(h->snapshots_at.off);
	if (h->version == 2)
		return;
	disk->incompatible = be64_of(h->incompatible);
	disk->compatible = be64_of(h->compatible);
	disk->autoclear = be64_of(h->autoclear);
}

void qcow2_header_patch(const struct qcow2_header *h, void *sector)
{
	struct qcow2_disk_header disk;
	size_t bytes = h->version == 2 ? VERSION_2_BYTES : VERSION_3_BYTES;

	memcpy(&disk, sector, bytes);
	changeable_put(h, &disk);
	memcpy(sector, &disk, bytes);
}

size_t qcow2_header_length(const struct qcow2_header *h)
{
	if (h->version == 2)
		return VERSION_2_BYTES;
	return h->header_bytes >= VERSION_3_BYTES ? h->header_bytes : sizeof(struct qcow2_disk_header);
}

void qcow2_header_put(const struct qcow2_header *h, uint64_t backing_offset, void *cluster)
{
	size_t bytes = MIN(qcow2_header_length(h), sizeof(struct qcow2_disk_header));
	struct qcow2_disk_header disk = {0};

	memcpy(&disk, cluster, bytes);
	disk.magic = be32_of(QCOW2_MAGIC);
	disk.version = be32_of(h->version);
	disk.backing_offset = be64_of(backing_offset);
	disk.backing_bytes = be32_of((uint32_t)strlen(h->backing_name));
	disk.cluster_bits = be32_of(h->cluster_bits);
	disk.crypt_method = be32_of(h->crypt_method);
	disk.refcount_order = be32_of(h->refcount_order);
	disk.header_bytes = be32_of((uint32_t)qcow2_header_length(h));
	disk.compression_type = MUTANT(113) ? 0 : (uint8_t)h->compression_type;
	changeable_put(h, &disk);
	memcpy(cluster, &disk, bytes);
}

static int crypto_put(const struct qcow2_header *h, void *cluster, size_t len, size_t *at)
{
	struct qcow2_disk_crypto disk = {be64_of(h->crypto.off), be64_of(h->crypto_bytes)};

	return qcow2_extension_put(cluster, len, at, QCOW2_EXT_CRYPTO, &disk, sizeof(disk));
}

static int bitmaps_put(const struct qcow2_header *h, void *cluster, size_t len, size_t *at)
{
	struct qcow2_disk_bitmaps disk = {
		.bitmaps = be32_of(h->bitmaps),
		.directory_bytes = be64_of(h->bitmap_directory_bytes),
		.directory_offset = be64_of(h->bitmap_directory.off),
	};

	return qcow2_extension_put(cluster, len, at, QCOW2_EXT_BITMAPS, &disk, sizeof(disk));
}

int qcow2_header_put_extensions(
	const struct qcow2_header *h, const void *names, size_t names_bytes, void *cluster, size_t len, size_t *at)
{
	int ret = 0;

	if (h->backing_format[0])
		ret = qcow2_extension_put(
			cluster, len, at, QCOW2_EXT_BACKING_FORMAT, h->backing_format, strlen(h->backing_format));
	if (ret == 0 && h->data_file[0])
		ret = qcow2_extension_put(cluster, len, at, QCOW2_EXT_DATA_FILE, h->data_file, strlen(h->data_file));
	if (ret == 0 && h->crypto_bytes && !MUTANT(114))
		ret = crypto_put(h, cluster, len, at);
	if (ret == 0 && names_bytes)
		ret = qcow2_extension_put(cluster, len, at, QCOW2_EXT_FEATURE_NAMES, names, names_bytes);
	if (ret == 0 && h->bitmaps && !MUTANT(112))
		ret = bitmaps_put(h, cluster, len, at);
	return ret;
}

bool qcow2_header_wants_names(const struct qcow2_header *h)
{
	return h->version == 3 && h->cluster_bits >= FEATURE_NAMES_MIN_CLUSTER_BITS;
}

int qcow2_header_format(const struct qcow2_header *h, void *cluster, size_t len, struct err *err)
{
	size_t at = qcow2_header_length(h), name = strlen(h->backing_name), names_bytes = 0;
	const void *names = qcow2_header_wants_names(h) ? qcow2_feature_names(&names_bytes) : NULL;

	assert(len == (size_t)1 << h->cluster_bits);
	memset(cluster, 0, len);
	if (qcow2_header_put_extensions(h, names, names_bytes, cluster, len, &at) < 0 ||
		qcow2_extension_put(cluster, len, &at, QCOW2_EXT_END, NULL, 0) < 0 || name > len - at)
		return err_set(err, -ENAMETOOLONG,
			"the names of backing and data file don't fit in a header of %zu bytes; a larger cluster size gives more room",
			len);
	memcpy((char *)cluster + at, h->backing_name, name);
	qcow2_header_put(h, name ? at : 0, cluster);
	return 0;
}
