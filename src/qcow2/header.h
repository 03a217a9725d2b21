/* SPDX-License-Identifier: MIT */
/*
 * The header of a qcow2 image, parsed and validated, in host order. Pure functions: no I/O, no yields.
 * Source: QEMU's docs/interop/qcow2.rst, sections "Header", "Header extensions", "Feature name table".
 */
#ifndef CORRAL_QCOW2_HEADER_H
#define CORRAL_QCOW2_HEADER_H

#include <stdbool.h>
#include <stdint.h>

#include "base/endian.h"
#include "base/err.h"
#include "node/node.h"

#define QCOW2_MAGIC 0x514649fbu /* "QFI\xfb" */
#define QCOW2_MIN_CLUSTER_BITS 9
#define QCOW2_MAX_CLUSTER_BITS 21
#define QCOW2_MAX_REFCOUNT_ORDER 6
#define QCOW2_MAX_L1_BYTES (UINT64_C(32) << 20)
#define QCOW2_MAX_REFTABLE_BYTES (UINT64_C(8) << 20)
#define QCOW2_MAX_SNAPSHOTS 65536
#define QCOW2_MAX_BACKING_NAME 1023
#define QCOW2_HEADER_SECTOR 512 /* what a header update writes, at once */

enum { /* incompatible_features */
	QCOW2_INCOMPAT_DIRTY = 1 << 0,
	QCOW2_INCOMPAT_CORRUPT = 1 << 1,
	QCOW2_INCOMPAT_DATA_FILE = 1 << 2,
	QCOW2_INCOMPAT_COMPRESSION = 1 << 3,
	QCOW2_INCOMPAT_EXTENDED_L2 = 1 << 4,
	QCOW2_INCOMPAT_KNOWN = (1 << 5) - 1, /* all of these */
};
enum { QCOW2_COMPAT_LAZY_REFCOUNTS = 1 << 0 };
enum { QCOW2_AUTOCLEAR_BITMAPS = 1 << 0, QCOW2_AUTOCLEAR_DATA_FILE_RAW = 1 << 1 };

enum { QCOW2_COMPRESSION_ZLIB = 0, QCOW2_COMPRESSION_ZSTD = 1 };
enum { QCOW2_CRYPT_NONE = 0, QCOW2_CRYPT_AES = 1, QCOW2_CRYPT_LUKS = 2 };

enum { /* header extension types */
	QCOW2_EXT_END = 0x00000000,
	QCOW2_EXT_BACKING_FORMAT = 0xe2792aca,
	QCOW2_EXT_FEATURE_NAMES = 0x6803f857,
	QCOW2_EXT_BITMAPS = 0x23852875,
	QCOW2_EXT_CRYPTO = 0x0537be77,
	QCOW2_EXT_DATA_FILE = 0x44415441,
	QCOW2_EXT_GAP =
		0x43724770, /* means nothing: it keeps what lies behind apart from what lay there before (layout.c) */
};

struct qcow2_disk_header { /* as it lies on disk */
	be32 magic, version;
	be64 backing_offset;
	be32 backing_bytes;
	be32 cluster_bits;
	be64 size;
	be32 crypt_method;
	be32 l1_entries;
	be64 l1_offset;
	be64 reftable_offset;
	be32 reftable_clusters;
	be32 snapshots;
	be64 snapshots_offset;
	/* from here on only in version 3 */
	be64 incompatible, compatible, autoclear;
	be32 refcount_order;
	be32 header_bytes;
	uint8_t compression_type;
	uint8_t padding[7];
} __attribute__((packed));

struct qcow2_header {
	unsigned version; /* 2 or 3 */
	unsigned cluster_bits;
	unsigned refcount_order; /* a refcount has 1 << order bits */
	uint64_t size;           /* of the guest disk, bytes */
	uint32_t crypt_method;
	uint32_t l1_entries;
	struct host l1;
	struct host reftable;
	uint32_t reftable_clusters;
	uint32_t snapshots;
	struct host snapshots_at;
	uint64_t incompatible, compatible, autoclear;
	unsigned compression_type;
	uint32_t header_bytes; /* 72 in version 2 */

	char backing_name[QCOW2_MAX_BACKING_NAME + 1]; /* "" if there is none */
	char backing_format[64];                       /* "" if not recorded */
	char data_file[QCOW2_MAX_BACKING_NAME + 1];    /* "" if not recorded */
	uint32_t bitmaps;                              /* number in the bitmaps extension, 0 if there is none */
	struct host bitmap_directory;
	uint64_t bitmap_directory_bytes;
	struct host crypto; /* LUKS header, from the extension */
	uint64_t crypto_bytes;
	bool unknown_extensions; /* there are header extensions of types that we don't know */
};

/*
 * bytes: the start of the file, len of it: one cluster, or what the file has if it is shorter (at least 72). Everything
 * claimed is checked: known version, ranges, alignment, overflow, the tables inside file_bytes; extensions inside the first
 * cluster. -EINVAL: not qcow2 or malformed; -EFBIG: larger than the limits above; -ENOTSUP: a version, an encryption or a
 * compression that nobody knows; each explained. On failure *out is not to be used.
 */
int qcow2_header_parse(const void *bytes, size_t len, uint64_t file_bytes, struct qcow2_header *out, struct err *err)
	ATTR_MUST_USE;

/* The same for those who look for damage: of the tables only the L1 table must be where it can be; where the others lie,
 * and how large the refcount table claims to be, is not checked. */
int qcow2_header_parse_damaged(
	const void *bytes, size_t len, uint64_t file_bytes, struct qcow2_header *out, struct err *err) ATTR_MUST_USE;

/* 0 if every incompatible bit is one of `known`; else -ENOTSUP, naming the unknown ones by the image's feature name table
 * (bytes and len as above) or by number. To be asked before the header is parsed: what is unknown may be what makes it
 * malformed. A header that isn't one has no features. */
int qcow2_header_check_features(uint64_t known, const void *bytes, size_t len, struct err *err) ATTR_MUST_USE;

/* Writes a whole new header cluster for h: header, extensions, backing name. -ENAMETOOLONG: it doesn't fit. */
int qcow2_header_format(const struct qcow2_header *h, void *cluster, size_t len, struct err *err) ATTR_MUST_USE;

/* Puts the fields of h that may change while an image is in use (size, L1, refcount table, snapshots, features) into an
 * existing first sector, and leaves all else as it is: extensions that we don't know stay. Version 2 has no features. */
void qcow2_header_patch(const struct qcow2_header *h, void *sector);

/* Whether these bytes (at least 4) look like qcow2. */
bool qcow2_header_probe(const void *bytes, size_t len);

#endif
