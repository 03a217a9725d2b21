/* SPDX-License-Identifier: MIT */
/* Small images of every kind, made by the engine on the disk of the world, each with a script of random bytes. */
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "base/math.h"
#include "engine.h"
#include "fuzz.h"

#define SCRIPT_BYTES 96u

struct kind {
	struct qcow2_create how;
	bool snapshot, bitmap, compressed, dirty, luks;
	unsigned overwritten; /* clusters, after the snapshot */
};

static const struct kind kinds[] = {
	{.how = {.version = 3, .cluster_bits = 9, .refcount_order = 4, .size = 40 * KiB}},
	{.how = {.version = 2, .cluster_bits = 9, .refcount_order = 4, .size = 40 * KiB},
		.snapshot = true,
		.overwritten = 2},
	{.how = {.version = 3, .cluster_bits = 9, .refcount_order = 4, .size = 40 * KiB},
		.snapshot = true,
		.overwritten = 3},
	{.how = {.version = 3, .cluster_bits = 10, .refcount_order = 4, .size = 300 * KiB}, .compressed = true},
	{.how = {.version = 3,
		 .cluster_bits = 12,
		 .refcount_order = 4,
		 .size = 300 * KiB,
		 .compression_type = QCOW2_COMPRESSION_ZSTD},
		.compressed = true,
		.snapshot = true,
		.overwritten = 1},
	{.how = {.version = 3, .cluster_bits = 9, .refcount_order = 4, .size = 40 * KiB}, .bitmap = true},
	{.how = {.version = 3, .cluster_bits = 12, .refcount_order = 4, .size = 2 * MiB},
		.bitmap = true,
		.snapshot = true,
		.overwritten = 2},
	{.how = {.version = 3, .cluster_bits = 14, .refcount_order = 4, .size = MiB, .extended_l2 = true},
		.overwritten = 2},
	{.how = {.version = 3, .cluster_bits = 14, .refcount_order = 4, .size = MiB, .extended_l2 = true},
		.snapshot = true,
		.compressed = true},
	{.how = {.version = 3, .cluster_bits = 9, .refcount_order = 0, .size = 20 * KiB}},
	{.how = {.version = 3, .cluster_bits = 9, .refcount_order = 1, .size = 20 * KiB},
		.snapshot = true,
		.overwritten = 1},
	{.how = {.version = 3, .cluster_bits = 9, .refcount_order = 6, .size = 20 * KiB},
		.snapshot = true,
		.overwritten = 1},
	{.how = {.version = 3, .cluster_bits = 9, .refcount_order = 4, .size = 40 * KiB, .lazy_refcounts = true},
		.dirty = true},
	{.how = {.version = 3,
		 .cluster_bits = 9,
		 .refcount_order = 4,
		 .size = 20 * KiB,
		 .backing_name = "base",
		 .backing_format = "raw"}},
	{.how = {.version = 3,
		 .cluster_bits = 9,
		 .refcount_order = 4,
		 .size = 20 * KiB,
		 .preallocation = QCOW2_PREALLOCATE_METADATA}},
	{.how = {.version = 3, .cluster_bits = 16, .refcount_order = 4, .size = GiB},
		.compressed = true,
		.overwritten = 1},
	{.how = {.version = 3, .cluster_bits = 9, .refcount_order = 4, .size = 20 * KiB}, .luks = true},
};

static void fill(struct co *co, struct node *n, unsigned cluster, unsigned value)
{
	uint64_t off = (uint64_t)cluster * n->cluster % align_down(n->size, n->cluster);
	size_t len = MIN((size_t)n->cluster, (size_t)2048);
	char *buf = malloc(len);

	assert(buf);
	for (size_t i = 0; i < len; i++)
		buf[i] = (char)(value + i / 64);
	assert(node_write(co, n, off, IOV_BUF(buf, len), 0) == 0);
	free(buf);
}

static void fill_compressed(struct co *co, struct node *n, unsigned cluster)
{
	char *buf = malloc(n->cluster);

	assert(buf);
	for (size_t i = 0; i < n->cluster; i++)
		buf[i] = (char)(cluster + i / 100);
	assert(node_write_compressed(co, n, (uint64_t)cluster * n->cluster, IOV_BUF(buf, n->cluster), 0) == 0);
	free(buf);
}

static void use(struct co *co, const struct kind *k, struct node *n)
{
	struct qcow2_snapshot_new snapshot = {.name = "first"};
	struct err err;

	for (unsigned i = 0; i < 4; i++)
		fill(co, n, i * 5, 1 + i);
	if (k->bitmap)
		assert(qcow2_bitmap_add(co, n, "a", 0, true, &err) == 0);
	for (unsigned i = 0; k->compressed && i < 3; i++)
		fill_compressed(co, n, 6 + i);
	if (n->size > 16 * n->cluster)
		assert(node_zero(co, n, 12 * (uint64_t)n->cluster, n->cluster, 0) == 0);
	if (k->snapshot)
		assert(qcow2_snapshot_create(co, n, &snapshot, &err) == 0);
	for (unsigned i = 0; i < k->overwritten; i++)
		fill(co, n, i * 5, 100 + i);
	if (k->bitmap)
		assert(qcow2_bitmap_add(co, n, "b", 0, false, &err) == 0);
}

/* Bytes of a header as it is in an image that was in use when its host died. */
static void dirty_set(void)
{
	uint8_t bit = fuzz_disk_bytes()[79] | QCOW2_INCOMPAT_DIRTY;

	fuzz_disk_put(79, &bit, 1);
}

/* A header of encryption behind the image: made by hand, since deriving keys takes its time, and nothing is read. */
static void luks_set(struct co *co)
{
	static const struct crypto_spec spec = {.alg = CRYPTO_AES_256, .mode = CRYPTO_XTS, .ivgen = CRYPTO_PLAIN64};
	struct node *file = fuzz_disk_open(co, true);
	uint8_t cluster[FUZZ_SECTOR], header[LUKS_HEADER_BYTES];
	struct luks l = {0};
	struct qcow2_header h;
	struct err err;

	assert(qcow2_header_load(co, file, 0, &h, &err) == 0);
	h.crypt_method = QCOW2_CRYPT_LUKS;
	h.crypto.off = file->size;
	h.crypto_bytes = 512 * KiB;
	assert(qcow2_header_format(&h, cluster, sizeof(cluster), &err) == 0);
	luks_lay_out(&l, &spec, CRYPTO_SHA256);
	l.iterations = l.slot[0].iterations = LUKS_LEAST_ITERATIONS;
	l.slot[0].active = true;
	luks_format(&l, header);
	assert(node_resize(co, file, h.crypto.off + h.crypto_bytes) == 0);
	fuzz_disk_put(0, cluster, sizeof(cluster));
	fuzz_disk_put(h.crypto.off, header, sizeof(header));
	assert(node_close(co, file) == 0);
}

static void make(struct co *co, void *arg)
{
	const struct kind *k = arg;
	struct qcow2_create how = k->how;
	struct node *file, *n;
	struct err err;

	fuzz_disk_clear(0);
	file = fuzz_disk_open(co, true);
	assert(qcow2_create(co, file, &how, &err) == 0);
	assert(node_close(co, file) == 0);
	n = engine_open(co, (struct qcow2_options){.write = true});
	assert(n);
	use(co, k, n);
	assert(node_close(co, n) == 0);
	if (k->dirty)
		dirty_set();
	if (k->luks)
		luks_set(co);
}

size_t fuzz_seed(unsigned number, uint8_t *out, size_t room)
{
	static const struct fuzz_limits limits = {.memory = GiB, .requests = UINT64_MAX, .bytes = UINT64_MAX};
	const struct kind *k = &kinds[number % ARRAY_ENTRIES(kinds)];
	uint8_t script[SCRIPT_BYTES];
	size_t size;

	if (number >= 2 * ARRAY_ENTRIES(kinds))
		return 0;
	for (unsigned i = 0; i < SCRIPT_BYTES; i++)
		script[i] = (uint8_t)((number * 2654435761u + i * 40503u) >> 7);
	fuzz_run(&limits, make, (void *)k);
	size = image_pack(script, SCRIPT_BYTES, out, room);
	assert(size > 0);
	return size;
}
