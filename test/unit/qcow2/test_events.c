/* SPDX-License-Identifier: MIT */
/*
 * A request that stands at a breakpoint in the middle of metadata stalls nobody who doesn't need that very piece. No clock
 * decides: the others finish while it is known to stand there. And an error at each of these places is told, and leaves
 * an image without errors.
 */
#include "image.h"

#include <errno.h>

#include "filter/blkdebug.h"

#define TABLE_COVERS (512 * MiB)
#define SLICE_COVERS (32 * MiB)

struct bench {
	const char *path;
	struct node *n, *debug;
	const char *event;
	void (*request)(struct co *co, struct bench *b);
	int result;
	bool done;
};

static char datum[4096] = "datum";

static void image_open_debug(struct co *co, struct bench *b)
{
	struct node *file = image_file(co, b->path, true);
	struct qcow2_options options = {.write = true, .keep_leaks = true};
	struct blkdebug_config config;
	struct err err = {0};

	blkdebug_config_init(&config);
	CHECK_INT(blkdebug_open(co, file, &config, &b->debug, &err), 0);
	CHECK_INT(qcow2_open(co, b->debug, &options, &b->n, &err), 0);
}

/* A mapped cluster at 0 and at 2 * SLICE_COVERS; the metadata of the first is cached, but for refcounts. */
static void prepare(struct co *co, struct bench *b)
{
	struct qcow2_create create = {.size = 8 * TABLE_COVERS, .version = 3, .cluster_bits = 16, .refcount_order = 4};

	b->path = "test-events.qcow2";
	image_create(co, b->path, &create);
	image_open_debug(co, b);
	CHECK_INT(node_write(co, b->n, 0, IOV_BUF(datum, sizeof(datum)), 0), 0);
	CHECK_INT(node_write(co, b->n, 2 * SLICE_COVERS, IOV_BUF(datum, sizeof(datum)), 0), 0);
	CHECK_INT(node_close(co, b->n), 0);
	image_open_debug(co, b);
}

static void expect_datum(struct co *co, struct bench *b, uint64_t off)
{
	char data[sizeof(datum)] = "";

	CHECK_INT(node_read(co, b->n, off, IOV_BUF(data, sizeof(data))), 0);
	CHECK(memcmp(data, datum, sizeof(data)) == 0);
}

static void load(struct co *co, struct bench *b)
{
	char data[512];

	b->result = node_read(co, b->n, 2 * SLICE_COVERS, IOV_BUF(data, sizeof(data)));
}

static void allocate(struct co *co, struct bench *b)
{
	b->result = node_write(co, b->n, 65536, IOV_BUF(datum, sizeof(datum)), 0);
}

static void make_table(struct co *co, struct bench *b)
{
	b->result = node_write(co, b->n, 2 * TABLE_COVERS, IOV_BUF(datum, sizeof(datum)), 0);
}

static void make_table_and_flush(struct co *co, struct bench *b)
{
	make_table(co, b);
	if (b->result == 0)
		b->result = node_flush(co, b->n);
}

static void request_main(struct co *co, void *arg)
{
	struct bench *b = arg;

	b->request(co, b);
	b->done = true;
}

/* ---- standing there ---- */

static void parked_body(struct co *co, void *arg)
{
	struct bench *b = arg;

	prepare(co, b);
	expect_datum(co, b, 0);
	CHECK_INT(blkdebug_break(b->debug, b->event, "here"), 0);
	CHECK_INT(co_spawn(co_sched_of(co), "parked", request_main, b), 0);
	blkdebug_wait(co, b->debug, "here");
	for (unsigned i = 0; i < 50; i++)
		expect_datum(co, b, 0);
	CHECK_INT(node_write(co, b->n, 0, IOV_BUF(datum, sizeof(datum)), 0), 0);
	CHECK(blkdebug_is_suspended(b->debug, "here") && !b->done);
	CHECK_INT(blkdebug_resume(b->debug, "here"), 0);
	while (!b->done)
		co_yield(co);
	CHECK_INT(b->result, 0);
	CHECK_INT(node_close(co, b->n), 0);
	image_check(co, b->path);
}

static void parked_at(const char *event, void (*request)(struct co *, struct bench *))
{
	struct bench b = {.event = event, .request = request};

	engine_run(parked_body, &b);
}

static void test_l2_load(void **state) { (void)state, parked_at("l2_load", load); }
static void test_refblock_load(void **state) { (void)state, parked_at("refblock_load", allocate); }
static void test_cluster_alloc(void **state) { (void)state, parked_at("cluster_alloc", allocate); }
static void test_l2_alloc_write(void **state) { (void)state, parked_at("l2_alloc_write", make_table); }
static void test_l1_update(void **state) { (void)state, parked_at("l1_update", make_table_and_flush); }
static void test_l2_update(void **state) { (void)state, parked_at("l2_update", make_table_and_flush); }
static void test_refblock_update(void **state) { (void)state, parked_at("refblock_update_part", make_table_and_flush); }
static void test_write_aio(void **state) { (void)state, parked_at("write_aio", allocate); }
static void test_flush_to_disk(void **state) { (void)state, parked_at("flush_to_disk", make_table_and_flush); }

/* ---- failing there ---- */

static void inject(struct bench *b, const char *event)
{
	struct blkdebug_config config;

	blkdebug_config_init(&config);
	CHECK_INT(blkdebug_config_set(&config, "inject-error.0.event", event, NULL), 0);
	CHECK_INT(blkdebug_config_set(&config, "inject-error.0.once", "on", NULL), 0);
	blkdebug_add_rules(b->debug, &config);
	blkdebug_config_fini(&config);
}

static void failed_body(struct co *co, void *arg)
{
	struct bench *b = arg;
	char data[sizeof(datum)];

	prepare(co, b);
	expect_datum(co, b, 0);
	inject(b, b->event);
	b->request(co, b);
	CHECK_INT(b->result, -EIO);
	if (b->debug->failed != 0) /* a flush: what lies there may be older than what is known of it */
		CHECK_INT(node_read(co, b->n, 0, IOV_BUF(data, sizeof(data))), -EIO);
	else
		expect_datum(co, b, 0);
	(void)!node_close(co, b->n);
	image_open_debug(co, b);
	expect_datum(co, b, 0);
	expect_datum(co, b, 2 * SLICE_COVERS);
	b->request(co, b);
	CHECK_INT(b->result, 0);
	CHECK_INT(node_close(co, b->n), 0);
}

static void failed_at(const char *event, void (*request)(struct co *, struct bench *))
{
	struct bench b = {.event = event, .request = request};

	engine_run(failed_body, &b);
}

static void test_errors(void **state)
{
	(void)state;
	failed_at("l2_load", load);
	failed_at("refblock_load", allocate);
	failed_at("l1_update", make_table_and_flush);
	failed_at("l2_update", make_table_and_flush);
	failed_at("refblock_update_part", make_table_and_flush);
	failed_at("write_aio", allocate);
	failed_at("flush_to_disk", make_table_and_flush);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		RUN(l2_load),
		RUN(refblock_load),
		RUN(cluster_alloc),
		RUN(l2_alloc_write),
		RUN(l1_update),
		RUN(l2_update),
		RUN(refblock_update),
		RUN(write_aio),
		RUN(flush_to_disk),
		RUN(errors),
	};

	return cmocka_run_group_tests_name("qcow2 events", tests, NULL, NULL);
}
