/* SPDX-License-Identifier: MIT */
/*
 * Extended L2 entries: where subclusters lie, which space they keep and share, and what bitmaps an image may not have.
 * Clusters have 16 KiB, subclusters 512 bytes.
 */
#include "ram.h"

#include <string.h>

#include "qcow2/qcow2.h"

#define CLUSTER 16384u
#define SUB 512u
#define CLUSTERS 20
#define OFFSET_MASK UINT64_C(0x00fffffffffffe00)
#define COPIED (UINT64_C(1) << 63)
#define COMPRESSED (UINT64_C(1) << 62)
#define AT_FEATURES 72
#define AT_L1 40
#define AT_REFTABLE 48

struct image {
	struct ram *file;
	struct node *node;
};

/* An image without any L2 table is the same with and without the feature, but for its bit. */
static void image_new(struct co *co, struct image *im)
{
	struct qcow2_create how = {.size = CLUSTERS * CLUSTER, .version = 3, .cluster_bits = 14, .refcount_order = 4};
	struct err err = {0};

	im->file = ram_new(co);
	CHECK_INT(qcow2_create(co, &im->file->node, &how, &err), 0);
	ram_put_u64(im->file, AT_FEATURES, QCOW2_INCOMPAT_EXTENDED_L2);
}

static int image_open(struct co *co, struct image *im, bool write)
{
	struct err err = {0};

	return qcow2_open(co, &im->file->node, &(struct qcow2_options){.write = write}, &im->node, &err);
}

static void put(struct co *co, struct node *n, uint64_t off, uint64_t bytes, char value)
{
	static char data[4 * CLUSTER];

	memset(data, value, bytes);
	CHECK_INT(node_write(co, n, off, IOV_BUF(data, bytes), 0), 0);
}

static void holds(struct co *co, struct node *n, uint64_t off, uint64_t bytes, char value)
{
	static char data[4 * CLUSTER];

	memset(data, ~value, bytes);
	CHECK_INT(node_read(co, n, off, IOV_BUF(data, bytes)), 0);
	for (uint64_t i = 0; i < bytes; i++)
		CHECK_INT(data[i], value);
}

static struct node_status status(struct co *co, struct node *n, uint64_t off)
{
	struct node_status s;

	CHECK_INT(node_status(co, n, off, n->size - off, true, &s), 0);
	return s;
}

/* ---- runs ---- */

static void body_runs(struct co *co, void *arg)
{
	struct image im;
	struct node_status s;

	(void)arg;
	image_new(co, &im);
	CHECK_INT(image_open(co, &im, true), 0);
	put(co, im.node, 0, 3 * CLUSTER, 1);
	s = status(co, im.node, 0);
	CHECK(s.has_host && !s.zero && s.len == 3 * CLUSTER);

	CHECK_INT(node_zero(co, im.node, CLUSTER + 7 * SUB, 2 * SUB, 0), 0);
	CHECK_INT(status(co, im.node, 10).len, CLUSTER + 7 * SUB - 10);
	s = status(co, im.node, CLUSTER + 8 * SUB + 5);
	CHECK(s.zero && s.allocated && s.has_host && s.len == SUB - 5);
	CHECK_INT(status(co, im.node, CLUSTER + 9 * SUB).len, 2 * CLUSTER - 9 * SUB);

	/* Zeros without space go on across clusters, and end where nothing is mapped. */
	put(co, im.node, 6 * CLUSTER + SUB, SUB, 2);
	put(co, im.node, 4 * CLUSTER, 2 * CLUSTER, 2);
	CHECK_INT(node_zero(co, im.node, 4 * CLUSTER, 2 * CLUSTER, NODE_MAY_UNMAP), 0);
	s = status(co, im.node, 4 * CLUSTER + 30 * SUB);
	CHECK(s.zero && s.allocated && !s.has_host);
	CHECK_INT(s.len, CLUSTER + 2 * SUB);
	holds(co, im.node, 6 * CLUSTER, SUB, 0);
	holds(co, im.node, 6 * CLUSTER + SUB, SUB, 2);
	CHECK_INT(node_close(co, im.node), 0);
}

/* ---- space ---- */

static void body_space(struct co *co, void *arg)
{
	const struct qcow2_stats *stats;
	uint64_t host, allocated;
	struct image im;

	(void)arg;
	image_new(co, &im);
	CHECK_INT(image_open(co, &im, true), 0);
	stats = qcow2_node_stats(im.node);
	put(co, im.node, 3 * SUB, SUB, 1);
	host = status(co, im.node, 3 * SUB).host.off;
	allocated = stats->clusters_allocated;
	CHECK(host % CLUSTER == 3 * SUB);

	/* The other subclusters take the space that is there, in any order, and keep it as zeros. */
	put(co, im.node, 9 * SUB + 100, 50, 2);
	CHECK_INT(status(co, im.node, 9 * SUB).host.off, host + 6 * SUB);
	CHECK_INT(node_zero(co, im.node, 3 * SUB, SUB, 0), 0);
	CHECK_INT(status(co, im.node, 3 * SUB).host.off, host);
	put(co, im.node, 2 * SUB + 10, 2 * SUB, 3);
	CHECK_INT(status(co, im.node, 2 * SUB).host.off, host - SUB);
	holds(co, im.node, 2 * SUB, 10, 0);
	holds(co, im.node, 2 * SUB + 10, 2 * SUB, 3);
	holds(co, im.node, 4 * SUB + 10, SUB - 10, 0);
	holds(co, im.node, 9 * SUB, 100, 0);
	CHECK_INT(stats->clusters_allocated, allocated);

	/* The cluster goes with its last data. */
	CHECK_INT(node_discard(co, im.node, 0, 9 * SUB), 0);
	CHECK(status(co, im.node, 4 * SUB).has_host && status(co, im.node, 4 * SUB).zero);
	CHECK_INT(node_discard(co, im.node, 9 * SUB, SUB), 0);
	CHECK(!status(co, im.node, 4 * SUB).has_host && status(co, im.node, 4 * SUB).zero);
	holds(co, im.node, 0, CLUSTER, 0);
	CHECK_INT(node_close(co, im.node), 0);
}

/* ---- what an image may not say ---- */

struct bend {
	uint64_t clear, set; /* of the descriptor */
	uint64_t bitmap;
};

static const struct bend bends[] = {
	{0, 0, UINT64_C(0x0000000100000001)}, /* data and zero */
	{0, 0, UINT64_C(0x8000000080000000)}, /* the same in the last one */
	{OFFSET_MASK | COPIED, 0, 1},         /* data nowhere */
	{OFFSET_MASK, 0, 0},                  /* a flag of no cluster */
	{0, 1, 1},                            /* the zero flag of other images */
	{0, 512, 1},                          /* not aligned */
	{0, UINT64_C(1) << 40, 1},            /* beyond the end of the file */
	{0, UINT64_C(1) << 60, 1},            /* reserved bits */
	{COPIED, COMPRESSED, 1},              /* subclusters of a compressed cluster */
};

/* Three clusters of data with bytes of 1, made by hand; the entry of the second one is bent. Returns where that lies. */
static uint64_t bent_new(struct co *co, struct image *im, const struct bend *b)
{
	uint64_t end, block, entry;

	image_new(co, im);
	end = align_up(im->file->node.size, CLUSTER);
	CHECK_INT(node_resize(co, &im->file->node, end + 4 * CLUSTER), 0);
	block = ram_u64(im->file, ram_u64(im->file, AT_REFTABLE));
	for (unsigned i = 0; i < 4; i++) {
		im->file->data[block + 2 * (end / CLUSTER + i) + 1] = 1;
		if (i == 3)
			break;
		memset(im->file->data + end + (1 + i) * CLUSTER, 1, CLUSTER);
		ram_put_u64(im->file, end + 16 * i, (end + (1 + i) * CLUSTER) | COPIED);
		ram_put_u64(im->file, end + 16 * i + 8, UINT32_MAX);
	}
	ram_put_u64(im->file, ram_u64(im->file, AT_L1), end | COPIED);
	entry = end + 16;
	ram_put_u64(im->file, entry, (ram_u64(im->file, entry) & ~b->clear) | b->set);
	ram_put_u64(im->file, entry + 8, b->bitmap);
	return entry;
}

static int touch(struct co *co, struct node *n, unsigned how)
{
	char data[SUB] = {0};

	switch (how) {
	case 0: return node_read(co, n, CLUSTER, IOV_BUF(data, SUB));
	case 1: return node_write(co, n, CLUSTER, IOV_BUF(data, SUB), 0);
	case 2: return node_zero(co, n, CLUSTER, SUB, 0);
	case 3: return node_discard(co, n, CLUSTER, SUB);
	default: return node_discard(co, n, 0, 3 * CLUSTER);
	}
}

/* Reading and changing it fails, and marks the image; its neighbours can be read, and it stays as it is. */
static void bend_is_refused(struct co *co, const struct bend *b, unsigned how)
{
	struct image im;
	uint64_t at = bent_new(co, &im, b), descriptor = ram_u64(im.file, at);

	CHECK_INT(image_open(co, &im, true), 0);
	CHECK_INT(touch(co, im.node, how), -EIO);
	holds(co, im.node, 0, CLUSTER, 1);
	holds(co, im.node, 2 * CLUSTER, CLUSTER, 1);
	CHECK_INT(ram_u64(im.file, AT_FEATURES), QCOW2_INCOMPAT_EXTENDED_L2 | QCOW2_INCOMPAT_CORRUPT);
	CHECK(ram_u64(im.file, at) == descriptor && ram_u64(im.file, at + 8) == b->bitmap);
	(void)node_close(co, im.node);
}

static void body_bends(struct co *co, void *arg)
{
	struct image im;

	(void)arg;
	bent_new(co, &im, &(struct bend){0, 0, UINT64_C(0x00000002fffffffd)});
	CHECK_INT(image_open(co, &im, true), 0);
	holds(co, im.node, CLUSTER, SUB, 1);
	holds(co, im.node, CLUSTER + SUB, SUB, 0);
	holds(co, im.node, CLUSTER + 2 * SUB, 2 * CLUSTER - 2 * SUB, 1);
	CHECK_INT(node_close(co, im.node), 0);
	for (unsigned i = 0; i < sizeof(bends) / sizeof(bends[0]); i++)
		for (unsigned how = 0; how < 5; how++)
			bend_is_refused(co, &bends[i], how);
}

/* The file ends behind the last subcluster that was written; others of the same cluster lie beyond. */
static void body_short_file(struct co *co, void *arg)
{
	uint64_t at, end;
	struct image im;

	(void)arg;
	at = bent_new(co, &im, &(struct bend){0, 0, UINT32_MAX});
	ram_put_u64(im.file, at + 16 + 8, 3);
	end = ram_u64(im.file, at + 16) & OFFSET_MASK;
	CHECK_INT(node_resize(co, &im.file->node, end + 2 * SUB), 0);
	CHECK_INT(image_open(co, &im, true), 0);
	put(co, im.node, 2 * CLUSTER + 9 * SUB + 100, SUB, 5);
	holds(co, im.node, 2 * CLUSTER, 2 * SUB, 1);
	holds(co, im.node, 2 * CLUSTER + 2 * SUB, 7 * SUB + 100, 0);
	holds(co, im.node, 2 * CLUSTER + 9 * SUB + 100, SUB, 5);
	CHECK_INT(status(co, im.node, 2 * CLUSTER + 9 * SUB).host.off, end + 9 * SUB);
	CHECK_INT(node_close(co, im.node), 0);
}

TEST(runs)
TEST(space)
TEST(bends)
TEST(short_file)

int main(void)
{
	const struct CMUnitTest tests[] = {
		RUN(runs),
		RUN(space),
		RUN(bends),
		RUN(short_file),
	};

	return cmocka_run_group_tests_name("qcow2 subclusters", tests, NULL, NULL);
}
