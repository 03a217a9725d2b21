/* SPDX-License-Identifier: MIT */
/*
 * Snapshots of an open image: who waits for whom, what is refused, and what closing the image leaves of an operation that is
 * under way. What they hold after a crash is the simulator's business.
 */
#include <errno.h>

#include "image.h"

#define CLUSTER 4096u
#define TABLE_COVERS (512 * (uint64_t)CLUSTER)
#define TABLES 6
#define MS UINT64_C(1000000)

struct test {
	struct image im;
	bool done;
	int rc;
};

static void put(struct co *co, struct node *n, uint64_t at, char value)
{
	char data[512];

	memset(data, value, sizeof(data));
	CHECK_INT(node_write(co, n, at, IOV_BUF(data, sizeof(data)), 0), 0);
}

static void is(struct co *co, struct node *n, uint64_t at, char value)
{
	char data[512];

	CHECK_INT(node_read(co, n, at, IOV_BUF(data, sizeof(data))), 0);
	for (unsigned i = 0; i < sizeof(data); i++)
		CHECK_INT(data[i], value);
}

/* Data under every table. */
static void prepare(struct co *co, struct test *t, unsigned refcount_order)
{
	t->im.path = "test-snapshots.qcow2";
	image_create(co, t->im.path,
		&(struct qcow2_create){.size = TABLES * TABLE_COVERS,
			.version = 3,
			.cluster_bits = 12,
			.refcount_order = refcount_order});
	image_open(co, &t->im, &(struct qcow2_options){.write = true});
	for (unsigned i = 0; i < TABLES; i++)
		for (unsigned k = 0; k < 40; k++)
			put(co, t->im.node, i * TABLE_COVERS + k * CLUSTER, 'a');
}

static int create(struct co *co, struct node *n, const char *name)
{
	struct qcow2_snapshot_new how = {.name = name};
	struct err err = {0};
	int rc = qcow2_snapshot_create(co, n, &how, &err);

	CHECK((rc != 0) == (err.text[0] != 0));
	return rc;
}

static int remove_one(struct co *co, struct node *n, const char *which)
{
	struct err err = {0};
	int rc = qcow2_snapshot_delete(co, n, which, &err);

	CHECK((rc != 0) == (err.text[0] != 0));
	return rc;
}

static void close_clean(struct co *co, struct test *t)
{
	CHECK_INT(node_close(co, t->im.node), 0);
	image_check(co, t->im.path);
}

static void run(co_entry *body)
{
	struct test t = {0};

	engine_run(body, &t);
	unlink(t.im.path);
}

/* ---- who waits for whom ---- */

static void create_main(struct co *co, void *arg)
{
	struct test *t = arg;

	t->rc = create(co, t->im.node, "one");
	t->done = true;
}

static void park(struct test *t, bool writes)
{
	struct delay_rules *rules = delay_rules(t->im.delay);

	rules->park_reads = !writes;
	rules->park_writes = writes;
	rules->park_once = true;
	rules->park_len = UINT64_MAX / 2;
	rules->park_ns = 250 * MS;
}

/* The first write of the creation's own is parked: the instant has been, or will be; guests go on. */
static void guests_body(struct co *co, void *arg)
{
	struct test *t = arg;
	struct image then = {.path = "test-snapshots.qcow2"};

	prepare(co, t, 4);
	park(t, true);
	CHECK_INT(co_spawn(co_sched_of(co), "create", create_main, t), 0);
	while (delay_counts(t->im.delay)->parked == 0)
		co_sleep(co, MS);
	for (unsigned i = 0; i < TABLES; i++) {
		is(co, t->im.node, i * TABLE_COVERS, 'a');
		put(co, t->im.node, i * TABLE_COVERS, 'b');
		is(co, t->im.node, i * TABLE_COVERS, 'b');
	}
	CHECK(!t->done);
	while (!t->done)
		co_sleep(co, MS);
	CHECK_INT(t->rc, 0);
	for (unsigned i = 0; i < TABLES; i++)
		put(co, t->im.node, i * TABLE_COVERS + CLUSTER, 'c');
	close_clean(co, t);
	image_open(co, &then, &(struct qcow2_options){.snapshot = "one"});
	for (unsigned i = 0; i < TABLES; i++)
		is(co, then.node, i * TABLE_COVERS + CLUSTER, 'a');
	CHECK_INT(node_close(co, then.node), 0);
}

/* ---- closing under way ---- */

static void delete_main(struct co *co, void *arg)
{
	struct test *t = arg;

	t->rc = remove_one(co, t->im.node, "one");
	t->done = true;
}

/* What was begun is finished, or put right by the search that follows the next opening. */
static void closed_during(struct co *co, struct test *t, co_entry *operation, uint64_t after)
{
	t->done = false;
	CHECK_INT(co_spawn(co_sched_of(co), "operation", operation, t), 0);
	for (uint64_t i = 0; i < after; i++)
		co_yield(co);
	CHECK_INT(node_close(co, t->im.node), 0);
	CHECK(t->done);
	t->done = false;
	image_open(co, &t->im, &(struct qcow2_options){.write = true});
	while (!qcow2_node_stats(t->im.node)->leaks_searched)
		co_sleep(co, MS);
	for (unsigned i = 0; i < TABLES; i++)
		is(co, t->im.node, i * TABLE_COVERS, 'a');
	close_clean(co, t);
	image_open(co, &t->im, &(struct qcow2_options){.write = true});
}

static void closing_body(struct co *co, void *arg)
{
	struct test *t = arg;

	prepare(co, t, 4);
	for (unsigned after = 1; after < 40; after += 3) {
		closed_during(co, t, create_main, after);
		if (t->rc)
			CHECK_INT(create(co, t->im.node, "one"), 0);
		closed_during(co, t, delete_main, after);
		if (t->rc)
			CHECK_INT(remove_one(co, t->im.node, "one"), 0);
	}
	close_clean(co, t);
}

/* ---- what is refused ---- */

static void refused_body(struct co *co, void *arg)
{
	struct test *t = arg;
	struct err err = {0};
	char name[300];

	prepare(co, t, 0);
	memset(name, 'n', sizeof(name) - 1);
	name[sizeof(name) - 1] = '\0';
	CHECK_INT(create(co, t->im.node, "narrow"), -ERANGE);
	CHECK_INT(create(co, t->im.node, name), -ERANGE);
	CHECK_INT(remove_one(co, t->im.node, "nobody"), -ENOENT);
	CHECK_INT(qcow2_snapshot_apply(co, t->im.node, "nobody", &err), -ENOENT);
	close_clean(co, t);
	prepare(co, t, 4);
	CHECK_INT(create(co, t->im.node, name), -ENAMETOOLONG);
	close_clean(co, t);
	image_open(co, &t->im, &(struct qcow2_options){0});
	CHECK_INT(create(co, t->im.node, "read only"), -EROFS);
	CHECK_INT(remove_one(co, t->im.node, "read only"), -EROFS);
	CHECK_INT(node_close(co, t->im.node), 0);
}

/* An ID counts before a name. */
static void names_body(struct co *co, void *arg)
{
	struct test *t = arg;
	struct qcow2_snapshot_info *all;
	struct err err = {0};
	unsigned n;

	prepare(co, t, 4);
	CHECK_INT(create(co, t->im.node, "2"), 0);
	CHECK_INT(create(co, t->im.node, "1"), 0);
	CHECK_INT(create(co, t->im.node, "1"), 0);
	CHECK_INT(remove_one(co, t->im.node, "2"), 0);
	CHECK_INT(qcow2_snapshots_read(co, t->im.node->file, qcow2_node_header(t->im.node), &all, &n, &err), 0);
	CHECK_INT(n, 2);
	CHECK(strcmp(all[0].id, "1") == 0 && strcmp(all[0].name, "2") == 0);
	CHECK(strcmp(all[1].id, "3") == 0 && strcmp(all[1].name, "1") == 0);
	free(all);
	CHECK_INT(remove_one(co, t->im.node, "2"), 0);
	CHECK_INT(create(co, t->im.node, "next"), 0);
	CHECK_INT(remove_one(co, t->im.node, "4"), 0);
	close_clean(co, t);
}

static void test_guests_go_on(void **state) { (void)state, run(guests_body); }
static void test_closing_gives_up(void **state) { (void)state, run(closing_body); }
static void test_refusals_are_explained(void **state) { (void)state, run(refused_body); }
static void test_ids_and_names(void **state) { (void)state, run(names_body); }

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_guests_go_on),
		cmocka_unit_test(test_closing_gives_up),
		cmocka_unit_test(test_refusals_are_explained),
		cmocka_unit_test(test_ids_and_names),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
