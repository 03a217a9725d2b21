/* SPDX-License-Identifier: MIT */
/* What a write costs: which bytes reach the storage, in how many writes and coroutines. */
#include "toy.h"

#define CLUSTER 65536u
#define CLUSTERS 64u

struct bench {
	struct rig rig; /* first */
	struct toy_storage *s;
	struct toy_format *f;
	uint8_t *data;
	co_entry *body;
};

static void bench_main(struct co *co, void *arg)
{
	struct bench *b = arg;

	b->data = malloc(CLUSTERS * CLUSTER);
	assert(b->data != NULL);
	memset(b->data, 0x5a, CLUSTERS * CLUSTER);
	b->body(co, b);
	assert(b->f->reserved == 0);
	must(node_close(co, &b->f->node));
	free(b->data);
}

/* A format over a backing file that is 0x11 throughout, and is 32 clusters long. */
static void bench_run(co_entry *body, const struct co_limits *limits)
{
	struct bench b = {.body = body};
	struct toy_storage *base;

	rig_init(&b.rig, 1, limits);
	b.rig.dawdle = 20;
	base = toy_storage_new(&b.rig, 32 * CLUSTER, 32 * CLUSTER, 1);
	memset(base->data, 0x11, base->room);
	b.s = toy_storage_new(&b.rig, 0, 2 * CLUSTERS * CLUSTER, 1);
	b.f = toy_format_new(&b.rig, &b.s->node, &base->node, CLUSTERS * CLUSTER, CLUSTER);
	rig_run(&b.rig, bench_main, &b);
	rig_fini(&b.rig);
}

static void write_at(struct co *co, struct bench *b, uint64_t off, uint64_t len)
{
	b->s->writes = b->s->bytes_written = 0;
	must(node_write(co, &b->f->node, off, IOV_BUF(b->data, len), 0));
}

static void expect_bytes(struct bench *b, uint64_t off, uint64_t len, uint8_t byte)
{
	for (uint64_t i = off; i < off + len; i++)
		assert(toy_peek(&b->f->node, i) == byte);
}

static void zero_body(struct co *co, void *arg)
{
	struct bench *b = arg;

	write_at(co, b, 40 * CLUSTER + 4096, 4096);
	assert(b->s->writes == 1 && b->s->bytes_written == 4096);
	expect_bytes(b, 40 * CLUSTER, 4096, 0);
	expect_bytes(b, 40 * CLUSTER + 4096, 4096, 0x5a);
	expect_bytes(b, 40 * CLUSTER + 8192, CLUSTER - 8192, 0);
}

static void zeros_around_are_not_written_to_zeroed_space(void **state)
{
	(void)state;
	bench_run(zero_body, NULL);
}

static void dirty_body(struct co *co, void *arg)
{
	struct bench *b = arg;

	memset(b->f->used, TOY_DIRTY, b->f->hosts);
	memset(b->s->data, TOY_GARBAGE, b->s->room);
	write_at(co, b, 40 * CLUSTER + 4096, 4096);
	assert(b->s->writes == 1 && b->s->bytes_written == CLUSTER);
	expect_bytes(b, 40 * CLUSTER, 4096, 0);
	expect_bytes(b, 40 * CLUSTER + 8192, CLUSTER - 8192, 0);
}

static void zeros_around_are_written_to_used_space(void **state)
{
	(void)state;
	bench_run(dirty_body, NULL);
}

static void backing_body(struct co *co, void *arg)
{
	struct bench *b = arg;

	write_at(co, b, 3 * CLUSTER + 5, 10);
	assert(b->s->writes == 1 && b->s->bytes_written == CLUSTER && b->f->publishes == 1);
	expect_bytes(b, 3 * CLUSTER, 5, 0x11);
	expect_bytes(b, 3 * CLUSTER + 5, 10, 0x5a);
	expect_bytes(b, 3 * CLUSTER + 15, CLUSTER - 15, 0x11);
	write_at(co, b, 3 * CLUSTER + 7, 100);
	assert(b->s->writes == 1 && b->s->bytes_written == 100 && b->f->publishes == 1);
}

static void backing_data_is_copied_once_in_one_write(void **state)
{
	(void)state;
	bench_run(backing_body, NULL);
}

static void whole_body(struct co *co, void *arg)
{
	struct bench *b = arg;
	struct toy_storage *base = toy_storage_of(b->f->node.backing);

	write_at(co, b, 2 * CLUSTER, 3 * CLUSTER);
	assert(base->reads == 0 && b->s->bytes_written == 3 * CLUSTER && b->f->publishes == 1);
}

static void whole_clusters_need_nothing_copied(void **state)
{
	(void)state;
	bench_run(whole_body, NULL);
}

/* A write in more parts than a vector on the stack takes. */
static void parts_body(struct co *co, void *arg)
{
	struct bench *b = arg;
	struct iovec v[40];

	for (unsigned i = 0; i < ARRAY_ENTRIES(v); i++) {
		memset(b->data + 100 * i, (int)i + 1, 100);
		v[i] = (struct iovec){b->data + 100 * i, 100};
	}
	b->s->bytes_written = b->s->writes = 0;
	must(node_write(co, &b->f->node, CLUSTER + 77, iov_of(v, ARRAY_ENTRIES(v)), 0));
	assert(b->s->writes == 1 && b->s->bytes_written == CLUSTER);
	expect_bytes(b, CLUSTER, 77, 0x11);
	for (unsigned i = 0; i < ARRAY_ENTRIES(v); i++)
		expect_bytes(b, CLUSTER + 77 + 100 * i, 100, (uint8_t)(i + 1));
	expect_bytes(b, CLUSTER + 77 + 4000, CLUSTER - 77 - 4000, 0x11);
}

static void write_in_many_parts_is_copied(void **state)
{
	(void)state;
	bench_run(parts_body, NULL);
}

/* ---- pieces ---- */

struct watch {
	unsigned most;
	bool stop;
};

static void watch_main(struct co *co, void *arg)
{
	struct watch *w = arg;

	while (!w->stop) {
		w->most = MAX(w->most, co_sched_alive(co_sched_of(co)));
		co_sleep(co, 1);
	}
}

/* Clusters out of order on the host, so that each is a run of its own. */
static void scatter(struct bench *b)
{
	for (unsigned i = 0; i < CLUSTERS; i++)
		toy_format_set(b->f, i ^ 1, NODE_DATA, false, 1 + (int)i);
}

static void pieces_body(struct co *co, void *arg)
{
	struct bench *b = arg;
	struct watch w = {0};

	scatter(b);
	go(&b->rig.world, "watch", watch_main, &w);
	must(node_read(co, &b->f->node, 3, IOV_BUF(b->data, 40000)));
	write_at(co, b, 3, 40000);
	assert(w.most == 2); /* us and the watch */
	must(node_read(co, &b->f->node, 0, IOV_BUF(b->data, CLUSTERS * CLUSTER)));
	assert(b->s->most_in_flight == NODE_PIECES);
	b->s->most_in_flight = 0;
	write_at(co, b, 0, CLUSTERS * CLUSTER);
	assert(b->s->most_in_flight == NODE_PIECES && b->s->writes == CLUSTERS);
	assert(w.most > NODE_PIECES && w.most <= NODE_PIECES + 2);
	w.stop = true;
	co_sleep(co, 2); /* w is ours: the watch must have gone */
}

static void pieces_run_side_by_side_a_single_one_alone(void **state)
{
	(void)state;
	bench_run(pieces_body, NULL);
}

static void no_coroutines_body(struct co *co, void *arg)
{
	struct bench *b = arg;

	scatter(b);
	memset(b->data, 0x77, CLUSTERS * CLUSTER);
	write_at(co, b, 0, CLUSTERS * CLUSTER);
	assert(b->s->most_in_flight == 1);
	memset(b->data, 0, CLUSTERS * CLUSTER);
	must(node_read(co, &b->f->node, 0, IOV_BUF(b->data, CLUSTERS * CLUSTER)));
	for (unsigned i = 0; i < CLUSTERS * CLUSTER; i++)
		assert(b->data[i] == 0x77);
}

static void pieces_run_in_the_request_where_no_coroutine_is_to_be_had(void **state)
{
	(void)state;
	bench_run(no_coroutines_body, &(struct co_limits){.stacks = 1});
}

/* An allocating write of 4 MiB is two pieces of 2 MiB. */
static void big_body(struct co *co, void *arg)
{
	struct bench *b = arg;

	write_at(co, b, 0, CLUSTERS * CLUSTER);
	assert(b->s->writes == CLUSTERS * CLUSTER / NODE_PIECE_BYTES && b->f->publishes == b->s->writes);
}

static void big_allocating_writes_are_cut(void **state)
{
	(void)state;
	bench_run(big_body, NULL);
}

/* Another program left the file short of the last cluster that it maps. */
static void short_body(struct co *co, void *arg)
{
	struct bench *b = arg;

	toy_format_set(b->f, 0, NODE_DATA, false, 0);
	b->s->node.size = 1000;
	must(node_read(co, &b->f->node, 500, IOV_BUF(b->data, 1000)));
	assert(mem_is_zero(b->data, 1000));
	memset(b->data, 0x5a, 10);
	write_at(co, b, 5000, 10);
	assert(b->s->node.size == 5010);
	expect_bytes(b, 5000, 10, 0x5a);
}

static void file_that_ends_inside_a_cluster_reads_zeros_and_grows(void **state)
{
	(void)state;
	bench_run(short_body, NULL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(zeros_around_are_not_written_to_zeroed_space),
		cmocka_unit_test(zeros_around_are_written_to_used_space),
		cmocka_unit_test(backing_data_is_copied_once_in_one_write),
		cmocka_unit_test(whole_clusters_need_nothing_copied),
		cmocka_unit_test(write_in_many_parts_is_copied),
		cmocka_unit_test(pieces_run_side_by_side_a_single_one_alone),
		cmocka_unit_test(pieces_run_in_the_request_where_no_coroutine_is_to_be_had),
		cmocka_unit_test(big_allocating_writes_are_cut),
		cmocka_unit_test(file_that_ends_inside_a_cluster_reads_zeros_and_grows),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
