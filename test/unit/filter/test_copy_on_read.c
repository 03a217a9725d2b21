/* SPDX-License-Identifier: MIT */
/*
 * Copy on read: what was read once needs the backing file no more, and no copy undoes a write that came in between. The
 * filter is compiled here with its mutants, to show that this test sees what a missing lock does.
 */
#include "filter/copy_on_read.c"

#include "../node/toy.h"

#define CLUSTER 4096u
#define CLUSTERS 16u
#define SECTORS (CLUSTERS * CLUSTER / TOY_SECTOR)
#define CLIENTS 4u

int mutant_selected;

struct bench {
	struct rig rig; /* first */
	struct toy_format *f, *below;
	struct node *n;
	co_entry *body;
	uint8_t wanted[SECTORS];
	unsigned wrong, alive;
};

struct client {
	struct bench *b;
	unsigned number;
};

/* Cluster i of the backing file is filled with i + 1; those from 12 on are zeros, and nobody has the last two. */
static void bench_build(struct bench *b)
{
	uint64_t size = CLUSTERS * CLUSTER;
	struct toy_storage *low = toy_storage_new(&b->rig, 0, 2 * size, 1);
	struct toy_storage *file = toy_storage_new(&b->rig, 0, 4 * size, 1);

	b->below = toy_format_new(&b->rig, &low->node, NULL, size - 2 * CLUSTER, CLUSTER);
	for (unsigned i = 0; i < CLUSTERS - 2; i++)
		toy_format_set(b->below, i, i < 12 ? NODE_DATA : NODE_ZERO, false, (int)i + 1);
	b->f = toy_format_new(&b->rig, &file->node, &b->below->node, size, CLUSTER);
	for (unsigned i = 0; i < SECTORS; i++)
		b->wanted[i] = i / 8 < 12 ? (uint8_t)(i / 8 + 1) : 0;
}

static void bench_main(struct co *co, void *arg)
{
	struct bench *b = arg;

	must(copy_on_read_open(co, &b->f->node, &b->n));
	b->body(co, b);
	must(node_close(co, b->n));
}

static unsigned bench_run(uint64_t seed, unsigned dawdle, co_entry *body)
{
	struct bench b = {.body = body};

	rig_init(&b.rig, seed, NULL);
	b.rig.dawdle = dawdle;
	bench_build(&b);
	rig_run(&b.rig, bench_main, &b);
	rig_fini(&b.rig);
	return b.wrong;
}

static void check_read(struct co *co, struct bench *b, uint64_t off, uint64_t len)
{
	static uint8_t data[CLUSTERS * CLUSTER];

	must(node_read(co, b->n, off, IOV_BUF(data, len)));
	for (uint64_t i = 0; i < len; i++)
		assert(data[i] == b->wanted[(off + i) / TOY_SECTOR]);
}

static bool has(struct co *co, struct bench *b, unsigned cluster)
{
	struct node_status st;

	must(node_status(co, &b->f->node, cluster * CLUSTER, CLUSTER, false, &st));
	assert(st.len == CLUSTER);
	return st.allocated;
}

static void copies_body(struct co *co, void *arg)
{
	struct bench *b = arg;

	check_read(co, b, CLUSTER + 100, CLUSTER);
	assert(!has(co, b, 0) && has(co, b, 1) && has(co, b, 2) && !has(co, b, 3));
	check_read(co, b, 0, b->n->size); /* across what it has and what it hasn't */
	for (unsigned i = 0; i < CLUSTERS; i++)
		assert(has(co, b, i));
	assert(b->f->map[0].kind == NODE_DATA && b->f->map[12].kind == NODE_ZERO && b->f->map[15].kind == NODE_ZERO);
	memset(toy_storage_of(b->below->node.file)->data, TOY_GARBAGE, 2 * CLUSTERS * CLUSTER);
	check_read(co, b, 0, b->n->size);
}

static void what_was_read_is_there(void **state)
{
	(void)state;
	assert_int_equal(bench_run(1, 0, copies_body), 0);
}

static void failed_body(struct co *co, void *arg)
{
	struct bench *b = arg;

	b->f->node.failed = -ENOSPC;
	check_read(co, b, 0, 4 * CLUSTER);
	assert(!has(co, b, 0));
	b->f->node.failed = 0;
	check_read(co, b, 0, CLUSTER);
	assert(has(co, b, 0));
}

static void read_succeeds_where_no_copy_can_be_written(void **state)
{
	(void)state;
	assert_int_equal(bench_run(1, 0, failed_body), 0);
}

/* ---- against writes ---- */

/* Each has sectors of its own, beside those of the others in every cluster, and knows what they must hold. */
static unsigned sector_of(const struct client *c, struct rig *r)
{
	return (unsigned)rig_random(r, SECTORS / CLIENTS) * CLIENTS + c->number;
}

static void client_read(struct co *co, struct client *c, unsigned sector)
{
	struct bench *b = c->b;
	uint8_t data[TOY_SECTOR];

	must(node_read(co, b->n, sector * TOY_SECTOR, IOV_BUF(data, sizeof(data))));
	b->wrong += data[0] != b->wanted[sector] || data[TOY_SECTOR - 1] != b->wanted[sector];
}

static void client_write(struct co *co, struct client *c, unsigned sector, uint8_t value)
{
	struct bench *b = c->b;
	uint8_t data[TOY_SECTOR];

	memset(data, value, sizeof(data));
	if (value == 0)
		must(node_zero(co, b->n, sector * TOY_SECTOR, TOY_SECTOR, 0));
	else
		must(node_write(co, b->n, sector * TOY_SECTOR, IOV_BUF(data, sizeof(data)), 0));
	b->wanted[sector] = value;
}

static void client_main(struct co *co, void *arg)
{
	struct client *c = arg;
	struct rig *r = &c->b->rig;

	for (unsigned i = 0; i < 20; i++) {
		unsigned sector = sector_of(c, r);

		if (rig_random(r, 2))
			client_write(co, c, sector, (uint8_t)rig_random(r, 200));
		client_read(co, c, sector);
	}
	c->b->alive--;
}

static void race_body(struct co *co, void *arg)
{
	struct bench *b = arg;
	struct client clients[CLIENTS];

	b->alive = CLIENTS;
	for (unsigned i = 0; i < CLIENTS; i++) {
		clients[i] = (struct client){.b = b, .number = i};
		go(&b->rig.world, "client", client_main, &clients[i]);
	}
	while (b->alive > 0)
		co_sleep(co, 1000);
	for (unsigned i = 0; i < SECTORS; i++)
		client_read(co, &(struct client){.b = b}, i);
}

static unsigned race(unsigned seeds)
{
	unsigned wrong = 0;

	for (unsigned seed = 0; seed < seeds; seed++)
		wrong += bench_run(seed, 300, race_body);
	return wrong;
}

static void no_copy_undoes_a_write(void **state)
{
	(void)state;
	assert_int_equal(race(300), 0);
}

static void copy_without_a_lock_is_noticed(void **state)
{
	(void)state;
	mutant_selected = 140;
	assert_true(race(300) > 0);
	mutant_selected = 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_was_read_is_there),
		cmocka_unit_test(read_succeeds_where_no_copy_can_be_written),
		cmocka_unit_test(no_copy_undoes_a_write),
		cmocka_unit_test(copy_without_a_lock_is_noticed),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
