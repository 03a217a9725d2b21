/* SPDX-License-Identifier: MIT */
/* The ranges of a disk: together they are all of it, each is what the disk has there, and whole units where that is asked. */
#include "../node/toy.h"

#include "job/walk.h"

#define CLUSTERS 64u
#define CLUSTER 4096u
#define BYTES (CLUSTERS * CLUSTER)

struct bench {
	struct rig rig; /* first */
	struct toy_format *top, *base;
	uint64_t unit, most, end;
	bool shared;
};

/* What the ranges must say of a byte, by the tables. */
static enum walk_kind kind_at(const struct bench *b, uint64_t at)
{
	const struct toy_cluster *top, *base;

	if (at >= BYTES)
		return WALK_ZERO;
	top = &b->top->map[at / CLUSTER];
	if (top->kind != NODE_UNALLOCATED)
		return top->kind == NODE_DATA ? WALK_DATA : WALK_ZERO;
	if (at >= b->base->node.size)
		return WALK_ZERO;
	if (b->shared)
		return WALK_SHARED;
	base = &b->base->map[at / CLUSTER];
	return base->kind == NODE_DATA ? WALK_DATA : WALK_ZERO;
}

static void check_range(const struct bench *b, const struct walk_range *r)
{
	uint64_t end = r->off + r->len;

	assert(r->len > 0 && end <= b->end && is_aligned(r->off, b->unit));
	assert(is_aligned(end, b->unit) || end == b->end);
	if (r->kind == WALK_DATA)
		assert(r->len <= b->most && align_down(r->off, b->most) == align_down(end - 1, b->most));
	for (uint64_t at = r->off; at < end; at += 512) {
		enum walk_kind kind = kind_at(b, at);

		if (r->kind == kind)
			continue;
		/* A unit of several kinds is data. */
		assert(r->kind == WALK_DATA && b->unit > CLUSTER);
	}
}

static void body(struct co *co, void *arg)
{
	struct bench *b = arg;
	struct walk_range r;
	uint64_t at = 0;
	bool more;
	struct walk w;

	walk_init(&w, &b->top->node, b->end);
	w.unit = b->unit;
	if (b->shared) {
		w.shared = &b->base->node;
		w.shared_size = BYTES * 2;
	}
	for (;;) {
		must(walk_next(co, &w, b->most, &r, &more));
		if (!more)
			break;
		assert(r.off == at);
		if (r.kind == WALK_DATA && rig_random(&b->rig, 4) == 0)
			walk_shorten(&w, &r, b->unit);
		check_range(b, &r);
		at = r.off + r.len;
	}
	assert(at == b->end);
	must(node_close(co, &b->top->node));
}

static void set(struct bench *b, struct toy_format *f)
{
	for (uint64_t i = 0; i < f->clusters; i++) {
		static const enum node_kind kinds[] = {NODE_UNALLOCATED, NODE_UNALLOCATED, NODE_ZERO, NODE_DATA};

		toy_format_set(f, i, kinds[rig_random(&b->rig, 4)], false, 1);
	}
}

static void ranges_are_the_disk(void **state)
{
	(void)state;
	for (uint64_t seed = 1; seed <= 100; seed++) {
		struct bench b = {.unit = seed % 2 ? 1 : CLUSTER << seed % 3, .most = 65536};
		uint64_t base_size = seed % 3 ? BYTES : BYTES / 2;

		rig_init(&b.rig, seed, NULL);
		b.shared = seed % 5 == 0;
		b.end = seed % 7 ? BYTES : BYTES + 20000;
		b.base = toy_format_new(
			&b.rig, &toy_storage_new(&b.rig, 0, 2 * BYTES, 1)->node, NULL, base_size, CLUSTER);
		b.top = toy_format_new(
			&b.rig, &toy_storage_new(&b.rig, 0, 2 * BYTES, 1)->node, &b.base->node, BYTES, CLUSTER);
		set(&b, b.base);
		set(&b, b.top);
		rig_run(&b.rig, body, &b);
		rig_fini(&b.rig);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(ranges_are_the_disk)};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
