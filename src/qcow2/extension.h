/* SPDX-License-Identifier: MIT */
/* The header extensions of a qcow2 image: typed records between the header and the backing name. Pure functions. */
#ifndef CORRAL_QCOW2_EXTENSION_H
#define CORRAL_QCOW2_EXTENSION_H

#include "qcow2/header.h"

#define QCOW2_FEATURE_NAME_BYTES 46

struct qcow2_disk_extension {
	be32 type;
	be32 bytes;
} __attribute__((packed));

struct qcow2_disk_feature { /* an entry of the feature name table */
	uint8_t kind;       /* enum qcow2_feature_kind */
	uint8_t bit;
	char name[QCOW2_FEATURE_NAME_BYTES]; /* padded with zeros; all of it may be used */
} __attribute__((packed));

enum qcow2_feature_kind { QCOW2_FEATURE_INCOMPATIBLE, QCOW2_FEATURE_COMPATIBLE, QCOW2_FEATURE_AUTOCLEAR };

struct qcow2_disk_bitmaps { /* data of QCOW2_EXT_BITMAPS */
	be32 bitmaps;
	be32 reserved;
	be64 directory_bytes;
	be64 directory_offset;
} __attribute__((packed));

struct qcow2_disk_crypto { /* data of QCOW2_EXT_CRYPTO */
	be64 offset;
	be64 bytes;
} __attribute__((packed));

#define QCOW2_MAX_BITMAPS 65535
#define QCOW2_MAX_BITMAP_DIRECTORY_BYTES (UINT64_C(64) << 20)

/* A walk along the extensions at bytes[at, end). */
struct qcow2_extensions {
	const char *bytes;
	size_t at, end;
};
struct qcow2_extension {
	uint32_t type;
	size_t at; /* where it begins in the image */
	const char *data;
	size_t bytes;
};
/* 1: *out is the next one. 0: there are no more. -EINVAL: it reaches past the end, explained. */
int qcow2_extension_next(struct qcow2_extensions *walk, struct qcow2_extension *out, struct err *err) ATTR_MUST_USE;

/* What the known extensions say, into h, whose fixed fields are set; unknown ones are passed over. */
int qcow2_extensions_parse(struct qcow2_extensions walk, struct qcow2_header *h, struct err *err) ATTR_MUST_USE;

/* The image's own name of an incompatible feature, or ours, or "" if neither knows the bit. name holds 47 bytes or more. */
void qcow2_feature_name(struct qcow2_extensions walk, unsigned bit, char name[QCOW2_FEATURE_NAME_BYTES + 1]);

/* Appends one at *at, padded, and moves *at. -ENAMETOOLONG: it doesn't fit. */
int qcow2_extension_put(void *cluster, size_t len, size_t *at, uint32_t type, const void *data, size_t bytes)
	ATTR_MUST_USE;
/* The feature name table that a new image gets. */
const void *qcow2_feature_names(size_t *bytes);
bool qcow2_extension_is_known(uint32_t type);

/* ---- header.c, in parts, for a new image and for layout.c ---- */

size_t qcow2_header_length(const struct qcow2_header *h); /* what the header will have where it is written */
/* Puts the fields of h over the header that is there; what lies behind those that are known here stays. */
void qcow2_header_put(const struct qcow2_header *h, uint64_t backing_offset, void *cluster);
/* Appends those that h and the feature name table (or none) ask for, without an end. -ENAMETOOLONG: no room. */
int qcow2_header_put_extensions(const struct qcow2_header *h, const void *names, size_t names_bytes, void *cluster,
	size_t len, size_t *at) ATTR_MUST_USE;
bool qcow2_header_wants_names(const struct qcow2_header *h); /* a feature name table */

#endif
