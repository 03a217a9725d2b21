/* SPDX-License-Identifier: MIT */
/* Range locks: who overlaps waits, first come first served; who doesn't, doesn't. */
#include "toy.h"

struct bench {
	struct rig rig; /* first */
	struct toy_storage *s;
	char order[64];
	uint8_t owner[64]; /* of each byte, who holds it */
	unsigned held;
};

struct locker {
	struct bench *b;
	char name;
	uint64_t off, len;
	uint64_t arrive, hold; /* virtual nanoseconds */
};

static void locker_main(struct co *co, void *arg)
{
	struct locker *l = arg;
	struct bench *b = l->b;
	struct node_range r;

	co_sleep_until(co, l->arrive);
	node_range_lock(co, &b->s->node, &r, l->off, l->len);
	strncat(b->order, &l->name, 1);
	for (uint64_t i = l->off; i < l->off + l->len; i++) {
		assert(b->owner[i] == 0);
		b->owner[i] = (uint8_t)l->name;
	}
	co_sleep(co, l->hold);
	memset(b->owner + l->off, 0, l->len);
	node_range_unlock(&b->s->node, &r);
}

static void bench_init(struct bench *b, uint64_t seed)
{
	memset(b, 0, sizeof(*b));
	rig_init(&b->rig, seed, NULL);
	b->s = toy_storage_new(&b->rig, 4096, 4096, 1);
}

static void close_main(struct co *co, void *arg)
{
	struct bench *b = arg;

	assert(list_empty(&b->s->node.ranges));
	must(node_close(co, &b->s->node));
}

static void bench_fini(struct bench *b)
{
	rig_run(&b->rig, close_main, b);
	rig_fini(&b->rig);
}

static void bench_run(struct bench *b, struct locker *lockers, unsigned n)
{
	for (unsigned i = 0; i < n; i++) {
		lockers[i].b = b;
		go(&b->rig.world, "locker", locker_main, &lockers[i]);
	}
	co_sched_run(b->rig.world.sched);
}

static void whoever_overlaps_waits_in_order_of_arrival(void **state)
{
	struct locker l[] = {
		{.name = 'a', .off = 0, .len = 10, .arrive = 1, .hold = 100},
		{.name = 'b', .off = 5, .len = 10, .arrive = 2, .hold = 100},
		{.name = 'c', .off = 9, .len = 1, .arrive = 3, .hold = 100},
		{.name = 'd', .off = 20, .len = 5, .arrive = 4, .hold = 1},
	};
	struct bench b;

	(void)state;
	bench_init(&b, 1);
	bench_run(&b, l, ARRAY_ENTRIES(l));
	assert_string_equal(b.order, "adbc");
	assert_int_equal(b.rig.world.now, 301);
	bench_fini(&b);
}

/* c could have [10, 20) while a holds [0, 10), but b, who wants both, came first. */
static void nobody_is_overtaken(void **state)
{
	struct locker l[] = {
		{.name = 'a', .off = 0, .len = 10, .arrive = 1, .hold = 100},
		{.name = 'b', .off = 0, .len = 20, .arrive = 2, .hold = 100},
		{.name = 'c', .off = 10, .len = 10, .arrive = 3, .hold = 100},
	};
	struct bench b;

	(void)state;
	bench_init(&b, 1);
	bench_run(&b, l, ARRAY_ENTRIES(l));
	assert_string_equal(b.order, "abc");
	bench_fini(&b);
}

static void neighbours_and_empty_ranges_dont_wait(void **state)
{
	struct locker l[] = {
		{.name = 'a', .off = 0, .len = 10, .arrive = 1, .hold = 100},
		{.name = 'b', .off = 10, .len = 10, .arrive = 2, .hold = 100},
		{.name = 'c', .off = 5, .len = 0, .arrive = 3, .hold = 100},
	};
	struct bench b;

	(void)state;
	bench_init(&b, 1);
	bench_run(&b, l, ARRAY_ENTRIES(l));
	assert_int_equal(b.rig.world.now, 103);
	bench_fini(&b);
}

static void crowds_get_through(void **state)
{
	(void)state;
	for (uint64_t seed = 1; seed < 50; seed++) {
		struct locker l[40];
		struct bench b;

		bench_init(&b, seed);
		for (unsigned i = 0; i < ARRAY_ENTRIES(l); i++) {
			uint64_t off = rig_random(&b.rig, 60);

			l[i] = (struct locker){
				.name = (char)('0' + i),
				.off = off,
				.len = 1 + rig_random(&b.rig, 60 - off),
				.arrive = rig_random(&b.rig, 100),
				.hold = rig_random(&b.rig, 30),
			};
		}
		bench_run(&b, l, ARRAY_ENTRIES(l));
		assert_int_equal(strlen(b.order), ARRAY_ENTRIES(l));
		bench_fini(&b);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(whoever_overlaps_waits_in_order_of_arrival),
		cmocka_unit_test(nobody_is_overtaken),
		cmocka_unit_test(neighbours_and_empty_ranges_dont_wait),
		cmocka_unit_test(crowds_get_through),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
