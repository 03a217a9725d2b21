/* SPDX-License-Identifier: MIT */
/* Any bytes as the first cluster of an image. What is accepted is what the engine may take for granted. */
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "base/math.h"
#include "crypto/luks.h"
#include "fuzz.h"
#include "qcow2/extension.h"
#include "qcow2/header.h"

#define FILE_BYTES (8 * MiB)

static void table_check(const struct qcow2_header *h, struct host at, uint64_t bytes)
{
	uint64_t cluster = UINT64_C(1) << h->cluster_bits;

	assert(bytes == 0 || (at.off >= cluster && is_aligned(at.off, cluster)));
	assert(bytes == 0 || (bytes <= FILE_BYTES && at.off <= FILE_BYTES - bytes));
}

static void sane(const struct qcow2_header *h)
{
	assert(h->cluster_bits >= QCOW2_MIN_CLUSTER_BITS && h->cluster_bits <= QCOW2_MAX_CLUSTER_BITS);
	assert(h->refcount_order <= QCOW2_MAX_REFCOUNT_ORDER);
	assert(h->snapshots <= QCOW2_MAX_SNAPSHOTS && h->bitmaps <= QCOW2_MAX_BITMAPS);
	assert(memchr(h->backing_name, '\0', sizeof(h->backing_name)));
	assert(memchr(h->backing_format, '\0', sizeof(h->backing_format)));
	assert(memchr(h->data_file, '\0', sizeof(h->data_file)));
	table_check(h, h->l1, UINT64_C(8) * h->l1_entries);
	table_check(h, h->reftable, (uint64_t)h->reftable_clusters << h->cluster_bits);
	table_check(h, h->snapshots_at, h->snapshots);
	table_check(h, h->bitmap_directory, h->bitmap_directory_bytes);
	table_check(h, h->crypto, h->crypto_bytes);
}

/* What the fields say survives being written and read again, unless its names don't fit any more. */
static void again(const struct qcow2_header *h)
{
	size_t cluster = (size_t)1 << h->cluster_bits;
	uint8_t *bytes = malloc(cluster);
	struct qcow2_header other;
	struct err err;

	assert(bytes);
	if (cluster <= 65536 && qcow2_header_length(h) <= sizeof(struct qcow2_disk_header) &&
		qcow2_header_format(h, bytes, cluster, &err) == 0) {
		assert(qcow2_header_parse(bytes, cluster, FILE_BYTES, &other, &err) == 0);
		assert(other.size == h->size && other.l1.off == h->l1.off && other.incompatible == h->incompatible);
		assert(strcmp(other.backing_name, h->backing_name) == 0 && strcmp(other.data_file, h->data_file) == 0);
	}
	free(bytes);
}

static void luks_try(const uint8_t *data, size_t size)
{
	struct luks l;
	struct err err;
	uint8_t bytes[LUKS_HEADER_BYTES], back[LUKS_HEADER_BYTES];

	if (size < sizeof(bytes))
		return;
	memcpy(bytes, data, sizeof(bytes));
	if (luks_parse(bytes, MiB, &l, &err) < 0)
		return;
	for (unsigned i = 0; i < LUKS_SLOTS; i++) {
		if (!l.slot[i].active)
			continue;
		assert(l.slot[i].stripes <= LUKS_STRIPES && l.slot[i].iterations <= LUKS_MOST_ITERATIONS);
		assert(l.slot[i].offset + luks_material_bytes(&l, &l.slot[i]) <= MiB);
	}
	luks_format(&l, back);
	assert(luks_parse(back, MiB, &l, &err) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct qcow2_header h;
	struct err err;
	int rc;

	luks_try(data, size);
	if (qcow2_header_parse_damaged(data, size, FILE_BYTES, &h, &err) == 0)
		(void)!qcow2_header_check_features(0, data, size, &err);
	rc = qcow2_header_parse(data, size, FILE_BYTES, &h, &err);
	if (rc < 0) {
		assert(err.text[0] != '\0');
		return 0;
	}
	sane(&h);
	again(&h);
	return 0;
}
