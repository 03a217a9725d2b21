/* SPDX-License-Identifier: MIT */
/*
 * Compressed clusters as a whole: they share host clusters, several readers share one decompression, a failed write leaves
 * nothing behind, and entries that no image may hold are refused.
 */
#include "ram.h"

#include "image.h"
#include "qcow2/compress.h"

#define CLUSTER 65536u
#define PATH "test-compressed.qcow2"

/* Text for even clusters, which shrink; noise for others. */
static void content(uint8_t *to, uint64_t cluster, bool noise)
{
	unsigned seed = (unsigned)cluster + 1;

	for (unsigned i = 0; i < CLUSTER; i++)
		to[i] = noise ? (uint8_t)rand_r(&seed)
			      : "compressed clusters share host clusters "[(i * (cluster + 3)) % 40];
}

static bool is_compressed(struct co *co, struct node *n, uint64_t off)
{
	struct node_status s;

	CHECK_INT(node_status(co, n, off, 1, false, &s), 0);
	CHECK(s.allocated && !s.zero);
	return s.compressed;
}

/* ---- sharing ---- */

#define SHARERS 40

struct sharing {
	unsigned order, type;
	unsigned most_clusters; /* of the file */
};

static void read_back(struct co *co, struct node *n, const uint8_t *expected, size_t len)
{
	uint8_t *got = malloc(len);

	CHECK(got != NULL);
	CHECK_INT(node_read(co, n, 0, IOV_BUF(got, len)), 0);
	CHECK(memcmp(got, expected, len) == 0);
	free(got);
}

static void share(struct co *co, void *arg)
{
	const struct sharing *s = arg;
	struct image im = {.path = PATH};
	uint64_t len = SHARERS * CLUSTER - 1024; /* the last cluster isn't whole */
	uint8_t *data = malloc(SHARERS * CLUSTER);

	CHECK(data != NULL);
	for (unsigned i = 0; i < SHARERS; i++)
		content(data + i * CLUSTER, i, i == 7);
	image_create(co, PATH,
		&(struct qcow2_create){.size = len,
			.version = 3,
			.cluster_bits = 16,
			.refcount_order = s->order,
			.compression_type = s->type});
	image_open(co, &im, &(struct qcow2_options){.write = true});
	CHECK_INT(node_write_compressed(co, im.node, 512, IOV_BUF(data, CLUSTER), 0), -EINVAL);
	CHECK_INT(node_write_compressed(co, im.node, 0, IOV_BUF(data, CLUSTER + 512), 0), -EINVAL);
	CHECK_INT(node_write_compressed(co, im.node, 0, IOV_BUF(data, len), 0), 0);
	for (unsigned i = 0; i < SHARERS; i++)
		CHECK_INT(is_compressed(co, im.node, i * CLUSTER), i != 7);
	read_back(co, im.node, data, len);
	CHECK_INT(node_close(co, im.node), 0);
	image_check(co, PATH);

	image_open(co, &im, &(struct qcow2_options){.write = true});
	CHECK(im.delay->size <= (uint64_t)s->most_clusters * CLUSTER);
	read_back(co, im.node, data, len);
	memset(data + 100, 1, 3 * CLUSTER);
	CHECK_INT(node_write(co, im.node, 100, IOV_BUF(data + 100, 3 * CLUSTER), 0), 0);
	memset(data + 9 * CLUSTER + 1, 0, 5 * CLUSTER);
	CHECK_INT(node_discard(co, im.node, 9 * CLUSTER + 1, 5 * CLUSTER), 0);
	memset(data + 20 * CLUSTER, 0, 2 * CLUSTER);
	CHECK_INT(node_zero(co, im.node, 20 * CLUSTER, 2 * CLUSTER, 0), 0);
	CHECK_INT(node_write_compressed(co, im.node, 0, IOV_BUF(data, 12 * CLUSTER), 0), 0);
	read_back(co, im.node, data, len);
	CHECK_INT(node_resize(co, im.node, len + 5000), 0);
	read_back(co, im.node, data, len);
	CHECK_INT(node_close(co, im.node), 0);
	image_check(co, PATH);
	free(data);
}

/* Header, refcounts, L1 and L2 table take 5 clusters; one of the guest's doesn't shrink. */
static void test_sharing(void **state)
{
	static struct sharing cases[] = {
		{4, QCOW2_COMPRESSION_ZLIB, 8},
		{4, QCOW2_COMPRESSION_ZSTD, 8},
		{1, QCOW2_COMPRESSION_ZLIB, 6 + SHARERS / 3 + 1},
		{0, QCOW2_COMPRESSION_ZLIB, 6 + SHARERS},
	};

	(void)state;
	for (unsigned i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
		if (qcow2_codec_known(cases[i].type))
			engine_run(share, &cases[i]);
	unlink(PATH);
}

/* ---- readers ---- */

#define READERS 24

struct reader {
	struct image *im;
	const uint8_t *expected;
	uint64_t off;
};

static void read_some(struct co *co, void *arg)
{
	struct reader *r = arg;
	uint8_t got[512];

	CHECK_INT(node_read(co, r->im->node, r->off, IOV_BUF(got, sizeof(got))), 0);
	CHECK(memcmp(got, r->expected + r->off, sizeof(got)) == 0);
}

static void readers(struct co *co, void *arg)
{
	struct image im = {.path = PATH};
	struct reader r[READERS];
	uint8_t *data = malloc(CLUSTER);
	struct co_group group;
	uint64_t before;

	(void)arg;
	CHECK(data != NULL);
	content(data, 2, false);
	image_create(co, PATH,
		&(struct qcow2_create){.size = CLUSTER, .version = 3, .cluster_bits = 16, .refcount_order = 4});
	image_open(co, &im, &(struct qcow2_options){.write = true, .keep_leaks = true});
	CHECK_INT(node_write_compressed(co, im.node, 0, IOV_BUF(data, CLUSTER), 0), 0);
	delay_rules(im.delay)->read_ns = 5 * 1000 * 1000;
	before = delay_counts(im.delay)->reads;
	co_group_init(&group, co_sched_of(co));
	for (unsigned i = 0; i < READERS; i++) {
		r[i] = (struct reader){&im, data, i * 2048};
		CHECK_INT(co_group_spawn(&group, "reader", read_some, &r[i]), 0);
	}
	co_group_wait(co, &group);
	CHECK_INT(delay_counts(im.delay)->reads - before, 1);
	read_some(co, &r[0]);
	CHECK_INT(delay_counts(im.delay)->reads - before, 1);
	CHECK_INT(node_close(co, im.node), 0);
	free(data);
}

static void test_readers_share(void **state)
{
	(void)state;
	engine_run(readers, NULL);
	unlink(PATH);
}

/* ---- errors ---- */

#define PARTS 3

static int ram_keep(struct co *co, struct node *n)
{
	(void)co;
	node_fini(n);
	return 0;
}

/* After it has been closed. */
static void ram_again(struct co *co, struct ram *file)
{
	file->node.subcluster = 0;
	CHECK_INT(node_init(&file->node, co_sched_of(co)), 0);
}

static void ram_check(struct co *co, struct ram *file)
{
	struct qcow2_check found;
	struct err err = {0};

	ram_again(co, file);
	CHECK_INT(qcow2_check_run(co, &file->node, image_finding, NULL, &found, &err), 0);
	CHECK_INT(found.corruptions + found.leaks + found.check_errors, 0);
	CHECK_INT(found.compressed_clusters, PARTS);
}

static struct node *ram_open(struct co *co, struct ram *file)
{
	struct err err = {0};
	struct node *n;

	CHECK_INT(qcow2_open(co, &file->node, &(struct qcow2_options){.write = true, .keep_leaks = true}, &n, &err), 0);
	return n;
}

static struct ram *ram_image(struct co *co, uint64_t size)
{
	struct qcow2_create how = {.size = size, .version = 3, .cluster_bits = 16, .refcount_order = 4};
	struct ram *file = ram_new(co);
	struct err err = {0};

	CHECK_INT(qcow2_create(co, &file->node, &how, &err), 0);
	return file;
}

/* The n-th request to the file fails, and so does the write, if it couldn't do without. Afterwards the same write succeeds,
 * and nothing of the first one is left. False: there were fewer requests. */
static bool fail_nth(struct co *co, unsigned n, uint8_t *data)
{
	struct ram *file = ram_image(co, PARTS * CLUSTER);
	struct node_ops ops = ram_ops;
	struct node *image;
	bool hit;
	int rc;

	ops.close = ram_keep;
	file->node.ops = &ops;
	image = ram_open(co, file);
	file->fail_at = file->requests + n;
	rc = node_write_compressed(co, image, 0, IOV_BUF(data, PARTS * CLUSTER), 0);
	hit = file->requests >= file->fail_at;
	CHECK(rc == 0 || (rc == -EIO && hit));
	file->fail_at = 0;
	CHECK_INT(node_write_compressed(co, image, 0, IOV_BUF(data, PARTS * CLUSTER), 0), 0);
	CHECK_INT(qcow2_node_stats(image)->leaked, 0);
	read_back(co, image, data, PARTS * CLUSTER);
	CHECK_INT(node_close(co, image), 0);
	ram_check(co, file);
	ram_close(co, &file->node);
	return hit;
}

static void errors(struct co *co, void *arg)
{
	uint8_t *data = malloc(PARTS * CLUSTER);
	unsigned n = 1;

	(void)arg;
	CHECK(data != NULL);
	for (unsigned i = 0; i < PARTS; i++)
		content(data + i * CLUSTER, i, false);
	while (fail_nth(co, n, data))
		n++;
	CHECK(n > PARTS);
	free(data);
}

static void test_errors(void **state)
{
	(void)state;
	engine_run(errors, NULL);
}

/* ---- entries that lie ---- */

/* The first L2 entry becomes this. */
static void plant(struct co *co, struct ram *file, struct node **image, uint64_t entry)
{
	uint64_t l1;

	*image = ram_open(co, file);
	l1 = ram_u64(file, 40);
	ram_put_u64(file, ram_u64(file, l1) & UINT64_C(0x00fffffffffffe00), entry);
}

#define DESCRIPTOR(host, more) (UINT64_C(1) << 62 | (uint64_t)(more) << 54 | (uint64_t)(host))

static void lies(struct co *co, void *arg)
{
	static const uint64_t entries[] = {
		DESCRIPTOR(0, 0),
		DESCRIPTOR(512, 127),
		DESCRIPTOR(UINT64_C(1) << 40, 0),
		DESCRIPTOR((UINT64_C(1) << 54) - 1, 255),
	};
	uint8_t data[1024] = {1};

	(void)arg;
	for (unsigned i = 0; i < sizeof(entries) / sizeof(entries[0]); i++) {
		for (unsigned what = 0; what < 4; what++) {
			struct ram *file = ram_image(co, 4 * CLUSTER);
			struct node *n = ram_open(co, file);
			struct node_ops ops = ram_ops;
			uint8_t header[512];
			int rc = 0;

			ops.close = ram_keep;
			file->node.ops = &ops;
			CHECK_INT(node_write(co, n, 0, IOV_BUF(data, sizeof(data)), 0), 0);
			CHECK_INT(node_close(co, n), 0);
			ram_again(co, file);
			memcpy(header, file->data, sizeof(header));
			plant(co, file, &n, entries[i]);
			switch (what) {
			case 0: rc = node_read(co, n, 0, IOV_BUF(data, sizeof(data))); break;
			case 1: rc = node_write(co, n, 0, IOV_BUF(data, sizeof(data)), 0); break;
			case 2: rc = node_discard(co, n, 0, CLUSTER); break;
			default: rc = node_write_compressed(co, n, 0, IOV_BUF(file->data, CLUSTER), 0); break;
			}
			CHECK_INT(rc, -EIO);
			(void)node_close(co, n);
			CHECK(memcmp(header, file->data, 72) == 0);
			ram_close(co, &file->node);
		}
	}
}

static void test_lies_are_refused(void **state)
{
	(void)state;
	engine_run(lies, NULL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_sharing),
		cmocka_unit_test(test_readers_share),
		cmocka_unit_test(test_errors),
		cmocka_unit_test(test_lies_are_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
