/* SPDX-License-Identifier: MIT */
/*
 * Who waits for whom. One request is parked by the delay node in a piece of metadata I/O; others that don't need that piece
 * must finish while it is parked. No clock decides: the parked request has not finished when the others have.
 */
#include "image.h"

#define SECOND UINT64_C(1000000000)
#define CLUSTER 65536u
#define SLICE_COVERS (32 * MiB)
#define TABLE_COVERS (512 * MiB)

struct parking {
	struct image im;
	void (*request)(struct co *co, struct parking *p);
	bool reads; /* what is parked: else writes */
	bool done;
};

static void put(struct co *co, struct parking *p, uint64_t at)
{
	static char data[4096] = "datum";

	CHECK_INT(node_write(co, p->im.node, at, IOV_BUF(data, sizeof(data)), 0), 0);
}

static void get(struct co *co, struct parking *p, uint64_t at, bool written)
{
	char data[4096];

	CHECK_INT(node_read(co, p->im.node, at, IOV_BUF(data, sizeof(data))), 0);
	CHECK_INT(data[0], written ? 'd' : 0);
}

/* Two written clusters in different slices of one table, and a free cluster that isn't known to read zeros. */
static void prepare(struct co *co, struct parking *p)
{
	struct qcow2_options options = {.write = true, .no_discard = true, .keep_leaks = true};

	p->im.path = "test-concurrency.qcow2";
	image_create(co, p->im.path,
		&(struct qcow2_create){
			.size = 8 * TABLE_COVERS, .version = 3, .cluster_bits = 16, .refcount_order = 4});
	image_open(co, &p->im, &options);
	put(co, p, 0);
	put(co, p, SLICE_COVERS);
	put(co, p, 2 * CLUSTER);
	CHECK_INT(node_discard(co, p->im.node, 2 * CLUSTER, CLUSTER), 0);
	CHECK_INT(node_close(co, p->im.node), 0);
	image_open(co, &p->im, &options);
}

static void parked_main(struct co *co, void *arg)
{
	struct parking *p = arg;

	p->request(co, p);
	p->done = true;
}

static void load_slice(struct co *co, struct parking *p) { get(co, p, SLICE_COVERS, true); }
static void allocate(struct co *co, struct parking *p) { put(co, p, CLUSTER); }
static void make_table(struct co *co, struct parking *p) { put(co, p, 2 * TABLE_COVERS); }
static void grow_l1(struct co *co, struct parking *p) { CHECK_INT(node_resize(co, p->im.node, 64 * TiB), 0); }

static void parked_body(struct co *co, void *arg)
{
	struct parking *p = arg;
	struct delay_rules *rules;

	prepare(co, p);
	get(co, p, 0, true);
	rules = delay_rules(p->im.delay);
	rules->park_reads = p->reads;
	rules->park_writes = !p->reads;
	rules->park_once = true;
	rules->park_len = UINT64_MAX / 2;
	rules->park_ns = SECOND / 4;
	CHECK_INT(co_spawn(co_sched_of(co), "parked", parked_main, p), 0);
	while (delay_counts(p->im.delay)->parked == 0)
		co_sleep(co, SECOND / 1000);
	for (unsigned i = 0; i < 50; i++)
		get(co, p, 0, true);
	put(co, p, 4096); /* in place, in the cached cluster */
	CHECK(!p->done);
	while (!p->done)
		co_sleep(co, SECOND / 1000);
	CHECK_INT(node_close(co, p->im.node), 0);
	image_check(co, p->im.path);
}

static void parked_in(void (*request)(struct co *, struct parking *), bool reads)
{
	struct parking p = {.request = request, .reads = reads};

	engine_run(parked_body, &p);
	unlink(p.im.path);
}

static void test_l2_slice_load(void **state) { (void)state, parked_in(load_slice, true); }
static void test_refcount_block_load(void **state) { (void)state, parked_in(allocate, true); }
static void test_l2_table_made(void **state) { (void)state, parked_in(make_table, false); }
static void test_l1_growth(void **state) { (void)state, parked_in(grow_l1, false); }

/* ---- all at once ---- */

#define MANY 24

struct many {
	struct parking p;
	bool write;
	unsigned next;
};

static void one_of_many(struct co *co, void *arg)
{
	struct many *m = arg;
	uint64_t at = m->next++ * (m->write ? TABLE_COVERS : SLICE_COVERS);

	if (m->write)
		put(co, &m->p, at);
	else
		get(co, &m->p, at, true);
}

static void run_many(struct co *co, struct many *m)
{
	struct co_group group;

	m->next = 0;
	co_group_init(&group, co_sched_of(co));
	for (unsigned i = 0; i < MANY; i++)
		CHECK_INT(co_group_spawn(&group, "one of many", one_of_many, m), 0);
	co_group_wait(co, &group);
}

/* MANY requests that need MANY different pieces of metadata have their storage requests in flight together. */
static void many_body(struct co *co, void *arg)
{
	struct many *m = arg;
	struct qcow2_options options = {.write = true, .no_discard = true, .keep_leaks = true};

	m->p.im.path = "test-concurrency.qcow2";
	image_create(co, m->p.im.path,
		&(struct qcow2_create){
			.size = MANY * TABLE_COVERS, .version = 3, .cluster_bits = 16, .refcount_order = 4});
	image_open(co, &m->p.im, &options);
	if (!m->write)
		for (unsigned i = 0; i < MANY; i++)
			put(co, &m->p, i * SLICE_COVERS);
	CHECK_INT(node_close(co, m->p.im.node), 0);
	image_open(co, &m->p.im, &options);
	if (m->write) /* the refcounts are loaded, and a first table made, so that only tables are left to wait for */
		put(co, &m->p, 0);
	delay_rules(m->p.im.delay)->read_ns = delay_rules(m->p.im.delay)->write_ns = SECOND / 20;
	run_many(co, m);
	CHECK(delay_counts(m->p.im.delay)->most_in_flight >= MANY - 1);
	delay_rules(m->p.im.delay)->read_ns = delay_rules(m->p.im.delay)->write_ns = 0;
	CHECK_INT(node_close(co, m->p.im.node), 0);
	image_check(co, m->p.im.path);
}

static void test_many_slices(void **state)
{
	struct many m = {.write = false};

	(void)state;
	engine_run(many_body, &m);
	unlink(m.p.im.path);
}

static void test_many_tables(void **state)
{
	struct many m = {.write = true};

	(void)state;
	engine_run(many_body, &m);
	unlink(m.p.im.path);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_l2_slice_load),
		cmocka_unit_test(test_refcount_block_load),
		cmocka_unit_test(test_l2_table_made),
		cmocka_unit_test(test_l1_growth),
		cmocka_unit_test(test_many_slices),
		cmocka_unit_test(test_many_tables),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
