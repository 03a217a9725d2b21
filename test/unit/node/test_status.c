/* SPDX-License-Identifier: MIT */
/* What is said to lie where, layer by layer. */
#include "toy.h"

#define CLUSTER 4096u

struct bench {
	struct rig rig; /* first */
	struct toy_storage *base;
	struct toy_format *middle, *top;
	co_entry *body;
};

static void bench_main(struct co *co, void *arg)
{
	struct bench *b = arg;

	b->body(co, b);
	must(node_close(co, &b->top->node));
}

/* Top: data, data (adjacent), zero, nothing .... Middle: nothing but data in cluster 5; base: a file of 6 clusters. */
static void bench_run(co_entry *body)
{
	struct bench b = {.body = body};

	rig_init(&b.rig, 1, NULL);
	b.rig.dawdle = 5;
	b.base = toy_storage_new(&b.rig, 6 * CLUSTER, 8 * CLUSTER, 1);
	memset(b.base->data, 0x11, 4 * CLUSTER);
	b.middle = toy_format_new(
		&b.rig, &toy_storage_new(&b.rig, 0, 8 * CLUSTER, 1)->node, &b.base->node, 7 * CLUSTER, CLUSTER);
	b.top = toy_format_new(
		&b.rig, &toy_storage_new(&b.rig, 0, 8 * CLUSTER, 1)->node, &b.middle->node, 8 * CLUSTER, CLUSTER);
	toy_format_set(b.top, 0, NODE_DATA, false, 1);
	toy_format_set(b.top, 1, NODE_DATA, false, 1);
	toy_format_set(b.top, 2, NODE_ZERO, false, 0);
	toy_format_set(b.middle, 5, NODE_DATA, false, 2);
	rig_run(&b.rig, bench_main, &b);
	rig_fini(&b.rig);
}

static void expect(struct co *co, struct node *n, uint64_t off, bool follow, struct node_status want)
{
	struct node_status got;

	must(node_status(co, n, off, n->size, follow, &got));
	assert(got.len == want.len && got.zero == want.zero && got.allocated == want.allocated);
	assert(got.depth == want.depth && got.holder == want.holder && got.has_host == want.has_host);
	assert(!got.has_host || got.host.off == want.host.off);
}

static void chain_body(struct co *co, void *arg)
{
	struct bench *b = arg;
	struct node *top = &b->top->node, *middle = &b->middle->node, *base = &b->base->node;
	struct node_status st;

	expect(co, top, 100, true, (struct node_status){2 * CLUSTER - 100, false, true, 0, true, {100}, top, false});
	expect(co, top, 2 * CLUSTER, true, (struct node_status){CLUSTER, true, true, 0, false, {0}, top, false});
	expect(co, top, 3 * CLUSTER + 1, true,
		(struct node_status){2 * CLUSTER - 1, false, true, 2, true, {3 * CLUSTER + 1}, base, false});
	expect(co, top, 5 * CLUSTER, true, (struct node_status){CLUSTER, false, true, 1, true, {0}, middle, false});
	expect(co, top, 6 * CLUSTER, true, (struct node_status){CLUSTER, true, false, 2, false, {0}, base, false});
	expect(co, top, 7 * CLUSTER, true, (struct node_status){CLUSTER, true, false, 1, false, {0}, middle, false});
	expect(co, top, 3 * CLUSTER, false, (struct node_status){5 * CLUSTER, false, false, 0, false, {0}, top, false});
	expect(co, base, 0, true, (struct node_status){6 * CLUSTER, false, true, 0, true, {0}, base, false});
	assert(node_status(co, top, top->size, 1, true, &st) == -EINVAL);
	must(node_status(co, top, 0, 7, true, &st));
	assert(st.len == 7);
}

static void every_layer_answers_for_what_it_has(void **state)
{
	(void)state;
	bench_run(chain_body);
}

/* Holes of the file at the bottom are told to those who ask, but a zero mark doesn't rest on them. */
static void holes_body(struct co *co, void *arg)
{
	struct bench *b = arg;
	struct node *top = &b->top->node, *base = &b->base->node;

	b->base->holes = true;
	expect(co, top, 4 * CLUSTER, true,
		(struct node_status){CLUSTER, true, true, 2, true, {4 * CLUSTER}, base, false});
	expect(co, base, 4 * CLUSTER, true,
		(struct node_status){CLUSTER, true, true, 0, true, {4 * CLUSTER}, base, false});
	must(node_zero(co, top, 4 * CLUSTER + 10, 10, 0));
	assert(b->top->publishes == 1);
}

static void holes_of_storage_are_a_hint(void **state)
{
	(void)state;
	bench_run(holes_body);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_layer_answers_for_what_it_has),
		cmocka_unit_test(holes_of_storage_are_a_hint),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
