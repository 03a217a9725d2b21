/* SPDX-License-Identifier: MIT */
/*
 * The engine against a model in memory: random reads, writes (compressed ones too), zeroes, discards, flushes and
 * reopenings, some at once, for every geometry that makes a difference. After each close the image has neither errors nor leaks.
 */
#include <errno.h>

#include "image.h"
#include "qcow2/compress.h"

#define DISK (3 * MiB + 1536) /* not a multiple of a cluster */
#define STEPS 300
#define AT_ONCE 6

struct geometry {
	unsigned version, cluster_bits, refcount_order;
	uint64_t cache; /* bytes of each metadata cache; 0: as large as it likes */
	bool preallocated, extended;
	unsigned compression;
};

static const struct geometry geometries[] = {
	{3, 9, 4, 512, false, false, QCOW2_COMPRESSION_ZLIB},
	{3, 9, 6, 0, false, false, QCOW2_COMPRESSION_ZLIB},
	{3, 9, 0, 1024, false, false, QCOW2_COMPRESSION_ZLIB},
	{2, 9, 4, 0, false, false, QCOW2_COMPRESSION_ZLIB},
	{3, 10, 1, 0, false, false, QCOW2_COMPRESSION_ZLIB},
	{3, 12, 2, 0, false, false, QCOW2_COMPRESSION_ZLIB},
	{3, 12, 3, 4096, true, false, QCOW2_COMPRESSION_ZLIB},
	{2, 12, 4, 0, false, false, QCOW2_COMPRESSION_ZLIB},
	{3, 16, 4, 0, false, false, QCOW2_COMPRESSION_ZLIB},
	{3, 16, 5, 0, true, false, QCOW2_COMPRESSION_ZLIB},
	{3, 21, 4, 0, false, false, QCOW2_COMPRESSION_ZLIB},
	{2, 21, 4, 0, false, false, QCOW2_COMPRESSION_ZLIB},
	{3, 14, 4, 0, false, true, QCOW2_COMPRESSION_ZLIB},
	{3, 15, 3, 4096, false, true, QCOW2_COMPRESSION_ZLIB},
	{3, 13, 4, 0, false, false, QCOW2_COMPRESSION_ZSTD},
	{3, 16, 4, 0, false, true, QCOW2_COMPRESSION_ZSTD},
};

struct run {
	struct image im;
	const struct geometry *g;
	uint8_t *model;
	unsigned seed;
	unsigned left; /* workers of the current round */
};

static unsigned draw(struct run *r, unsigned n) { return (unsigned)rand_r(&r->seed) % n; }

/* A random range; many small, some over several clusters. */
static void draw_range(struct run *r, uint64_t from, uint64_t to, uint64_t *off, uint64_t *len)
{
	uint64_t most = draw(r, 4) ? 6000 : 300000;

	*off = from + ((uint64_t)draw(r, 1u << 30) % (to - from));
	*len = 1 + draw(r, (unsigned)most);
	if (draw(r, 3) == 0) {
		*off = MAX(align_down(*off, 512), from);
		*len = align_up(*len, 512);
	}
	*len = MIN(*len, to - *off);
}

static void do_write(struct co *co, struct run *r, uint64_t off, uint64_t len)
{
	uint8_t *data = malloc(len);

	CHECK(data != NULL);
	memset(data, 1 + (int)draw(r, 255), len);
	CHECK_INT(node_write(co, r->im.node, off, IOV_BUF(data, len), draw(r, 8) ? 0 : NODE_FUA), 0);
	memcpy(r->model + off, data, len);
	free(data);
}

static void do_read(struct co *co, struct run *r, uint64_t off, uint64_t len)
{
	uint8_t *data = malloc(len);

	CHECK(data != NULL);
	CHECK_INT(node_read(co, r->im.node, off, IOV_BUF(data, len)), 0);
	CHECK(memcmp(data, r->model + off, len) == 0);
	free(data);
}

/* Whole clusters of the range, and the last one of the disk. Some of it is noise. */
static void do_compressed(struct co *co, struct run *r, uint64_t from, uint64_t to, uint64_t near)
{
	uint64_t cluster = UINT64_C(1) << r->g->cluster_bits;
	uint64_t off = align_down(near, cluster), end = off + cluster * (1 + draw(r, 4));
	uint8_t *data;

	end = end > to && to < DISK ? align_down(to, cluster) : MIN(end, to);
	if (off < from || off >= end)
		return;
	data = malloc(end - off);
	CHECK(data != NULL);
	for (uint64_t i = 0, noise = draw(r, 4) * cluster / 3; i < end - off; i++)
		data[i] = (uint8_t)(i % cluster < noise ? draw(r, 256) : 1 + i / 100);
	CHECK_INT(node_write_compressed(co, r->im.node, off, IOV_BUF(data, end - off), 0), 0);
	memcpy(r->model + off, data, end - off);
	free(data);
}

static void step(struct co *co, struct run *r, uint64_t from, uint64_t to)
{
	uint64_t off, len;
	unsigned what = draw(r, 18);

	draw_range(r, from, to, &off, &len);
	if (what < 6) {
		do_write(co, r, off, len);
	} else if (what < 10) {
		do_read(co, r, off, len);
	} else if (what < 12) {
		CHECK_INT(node_zero(co, r->im.node, off, len, what == 11 ? NODE_MAY_UNMAP : 0), 0);
		memset(r->model + off, 0, len);
	} else if (what < 14) {
		CHECK_INT(node_discard(co, r->im.node, off, len), 0);
		memset(r->model + off, 0, len);
	} else if (what < 16) {
		do_compressed(co, r, from, to, off);
	} else {
		CHECK_INT(node_flush(co, r->im.node), 0);
	}
}

struct worker {
	struct run *r;
	uint64_t from, to;
};

static void work(struct co *co, void *arg)
{
	struct worker *w = arg;

	for (unsigned i = 0; i < STEPS / AT_ONCE; i++)
		step(co, w->r, w->from, w->to);
}

/* Each worker has a range of its own whose borders lie inside clusters: the clusters are shared, the bytes are not. */
static void round_at_once(struct co *co, struct run *r)
{
	struct worker workers[AT_ONCE];
	struct co_group group;

	co_group_init(&group, co_sched_of(co));
	for (unsigned i = 0; i < AT_ONCE; i++) {
		workers[i] = (struct worker){r, DISK * i / AT_ONCE, DISK * (i + 1) / AT_ONCE};
		CHECK_INT(co_group_spawn(&group, "worker", work, &workers[i]), 0);
	}
	co_group_wait(co, &group);
}

static void one_geometry(struct co *co, void *arg)
{
	struct run *r = arg;
	const struct geometry *g = r->g;
	struct qcow2_options options = {.write = true, .l2_cache_bytes = g->cache, .refcount_cache_bytes = g->cache};
	struct qcow2_create how = {
		.size = DISK,
		.version = g->version,
		.cluster_bits = g->cluster_bits,
		.refcount_order = g->refcount_order,
		.extended_l2 = g->extended,
		.compression_type = g->compression,
		.preallocation = g->preallocated ? QCOW2_PREALLOCATE_METADATA : QCOW2_PREALLOCATE_OFF,
	};

	image_create(co, r->im.path, &how);
	for (unsigned round = 0; round < 3; round++) {
		image_open(co, &r->im, &options);
		do_read(co, r, 0, DISK);
		round_at_once(co, r);
		do_read(co, r, 0, DISK);
		CHECK_INT(node_close(co, r->im.node), 0);
		image_check(co, r->im.path);
	}
}

static void test_geometries(void **state)
{
	(void)state;
	for (unsigned i = 0; i < ARRAY_ENTRIES(geometries); i++) {
		if (!qcow2_codec_known(geometries[i].compression))
			continue;

		struct run r = {.im.path = "test-engine.qcow2", .g = &geometries[i], .seed = i + 1};

		r.model = calloc(1, DISK);
		assert_non_null(r.model);
		engine_run(one_geometry, &r);
		free(r.model);
	}
	unlink("test-engine.qcow2");
}

/* ---- growth ---- */

static void grow(struct co *co, void *arg)
{
	struct image im = {.path = arg};
	struct qcow2_options options = {.write = true};
	uint8_t pattern[700], got[700];

	memset(pattern, 0x5a, sizeof(pattern));
	image_create(co, im.path,
		&(struct qcow2_create){.size = 1000, .version = 3, .cluster_bits = 9, .refcount_order = 4});
	image_open(co, &im, &options);
	CHECK_INT(node_write(co, im.node, 300, IOV_BUF(pattern, sizeof(pattern)), 0), 0);
	for (uint64_t size = 2000; size < 64 * MiB; size = size * 3 + 511) {
		CHECK_INT(node_resize(co, im.node, size), 0);
		CHECK_INT(im.node->size, size);
		CHECK_INT(node_write(co, im.node, size - 700, IOV_BUF(pattern, sizeof(pattern)), 0), 0);
		CHECK_INT(node_read(co, im.node, size - 700, IOV_BUF(got, sizeof(got))), 0);
		CHECK(memcmp(got, pattern, sizeof(got)) == 0);
		CHECK_INT(node_read(co, im.node, 300, IOV_BUF(got, sizeof(got))), 0);
		CHECK(memcmp(got, pattern, sizeof(got)) == 0);
	}
	CHECK_INT(node_close(co, im.node), 0);
	image_check(co, im.path);
}

static void test_growth(void **state)
{
	static char path[] = "test-grow.qcow2";

	(void)state;
	engine_run(grow, path);
	unlink(path);
}

/* ---- space ---- */

/* Writing and discarding the same range for ever doesn't make the file grow for ever. What is freed is used again when it
 * could be given back in the background, which takes its time on a busy machine: but far less than the 50 MiB written here. */
static void churn(struct co *co, void *arg)
{
	struct image im = {.path = arg};
	static uint8_t data[256 << 10];

	memset(data, 1, sizeof(data));
	image_create(co, im.path,
		&(struct qcow2_create){.size = 4 * MiB, .version = 3, .cluster_bits = 12, .refcount_order = 4});
	image_open(co, &im, &(struct qcow2_options){.write = true});
	for (unsigned i = 0; i < 200; i++) {
		CHECK_INT(node_write(co, im.node, (i % 8) * sizeof(data), IOV_BUF(data, sizeof(data)), 0), 0);
		CHECK_INT(node_discard(co, im.node, (i % 8) * sizeof(data), sizeof(data)), 0);
		if (i % 3 == 0)
			CHECK_INT(node_flush(co, im.node), 0);
	}
	CHECK(im.delay->size <= 6 * MiB);
	CHECK_INT(node_close(co, im.node), 0);
	image_check(co, im.path);
}

static void test_churn(void **state)
{
	static char path[] = "test-churn.qcow2";

	(void)state;
	engine_run(churn, path);
	unlink(path);
}

/* ---- barriers ---- */

#define FLUSHES 40

struct flushes {
	struct image im;
	unsigned left;
};

static void flush_one(struct co *co, void *arg)
{
	struct flushes *f = arg;

	CHECK_INT(node_flush(co, f->im.node), 0);
	f->left--;
}

static uint64_t flushes_of_storage(const struct flushes *f) { return delay_counts(f->im.delay)->flushes; }

/* One barrier where only data was written, two where pointers were; those who wait together share them. */
static void barriers(struct co *co, void *arg)
{
	struct flushes f = {.im.path = arg, .left = FLUSHES};
	uint8_t data[4096] = {1};
	struct co_group group;
	uint64_t before;

	image_create(co, f.im.path,
		&(struct qcow2_create){.size = 8 * MiB, .version = 3, .cluster_bits = 16, .refcount_order = 4});
	image_open(co, &f.im, &(struct qcow2_options){.write = true, .keep_leaks = true});
	before = flushes_of_storage(&f);
	CHECK_INT(node_write(co, f.im.node, 0, IOV_BUF(data, sizeof(data)), 0), 0);
	CHECK_INT(node_flush(co, f.im.node), 0);
	CHECK_INT(flushes_of_storage(&f) - before, 2);
	CHECK_INT(node_write(co, f.im.node, 0, IOV_BUF(data, sizeof(data)), 0), 0);
	CHECK_INT(node_flush(co, f.im.node), 0);
	CHECK_INT(flushes_of_storage(&f) - before, 3);

	delay_rules(f.im.delay)->flush_ns = 20 * 1000 * 1000;
	before = flushes_of_storage(&f);
	co_group_init(&group, co_sched_of(co));
	for (unsigned i = 0; i < FLUSHES; i++)
		CHECK_INT(co_group_spawn(&group, "flush", flush_one, &f), 0);
	co_group_wait(co, &group);
	CHECK_INT(f.left, 0);
	CHECK(flushes_of_storage(&f) - before <= 2); /* the first one's commit, and one for all who came meanwhile */
	CHECK_INT(node_close(co, f.im.node), 0);
}

static void test_barriers(void **state)
{
	static char path[] = "test-barriers.qcow2";

	(void)state;
	engine_run(barriers, path);
	unlink(path);
}

/* ---- leaks ---- */

/* Gives refcount 1 to a free cluster behind all others, as a crash may. */
static void plant_leak(struct co *co, const char *path)
{
	struct node *file = image_file(co, path, true);
	uint64_t cluster = 65536, block;
	be64 entry, table;
	be16 one = be16_of(1);

	CHECK_INT(node_read(co, file, offsetof(struct qcow2_disk_header, reftable_offset), IOV_BUF(&table, 8)), 0);
	CHECK_INT(node_read(co, file, be64_get(table), IOV_BUF(&entry, 8)), 0);
	block = be64_get(entry);
	CHECK_INT(node_resize(co, file, align_up(file->size, cluster) + 8 * cluster), 0);
	CHECK_INT(node_write(co, file, block + (file->size / cluster - 1) * 2, IOV_BUF(&one, 2), 0), 0);
	CHECK_INT(node_close(co, file), 0);
}

static void leaks(struct co *co, void *arg)
{
	struct image im = {.path = arg};
	uint8_t data[4096] = {1};

	image_create(co, im.path,
		&(struct qcow2_create){.size = 8 * MiB, .version = 3, .cluster_bits = 16, .refcount_order = 4});
	image_open(co, &im, &(struct qcow2_options){.write = true});
	CHECK_INT(node_write(co, im.node, 65536, IOV_BUF(data, sizeof(data)), 0), 0);
	CHECK_INT(node_close(co, im.node), 0);
	plant_leak(co, im.path);
	image_open(co, &im, &(struct qcow2_options){.write = true});
	while (qcow2_node_stats(im.node)->leaks_reclaimed == 0)
		co_sleep(co, 1000 * 1000);
	CHECK_INT(qcow2_node_stats(im.node)->leaks_reclaimed, 1);
	CHECK_INT(node_close(co, im.node), 0);
	image_check(co, im.path);
}

static void test_leaks(void **state)
{
	static char path[] = "test-leaks.qcow2";

	(void)state;
	engine_run(leaks, path);
	unlink(path);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_geometries),
		cmocka_unit_test(test_growth),
		cmocka_unit_test(test_churn),
		cmocka_unit_test(test_barriers),
		cmocka_unit_test(test_leaks),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
