/* SPDX-License-Identifier: MIT */
/* The scheduler: its order, its limits, its timers, what it asks of the host. */
#include <errno.h>
#include <stdio.h>

#include "host.h"

/* ---- order ---- */

static void say_twice(struct co *co, void *arg)
{
	note(co, arg);
	co_yield(co);
	note(co, arg);
}

static void test_first_come_first_served(void **state)
{
	struct world w;

	(void)state;
	world_init(&w);
	go(&w, "a", say_twice, "a");
	go(&w, "b", say_twice, "b");
	go(&w, "c", say_twice, "c");
	assert_string_equal(w.log, "");
	assert_int_equal(co_sched_alive(w.sched), 3);
	co_sched_run(w.sched);
	assert_string_equal(w.log, "abcabc");
	world_fini(&w);
}

static void say(struct co *co, void *arg) { note(co, arg); }

static void spawn_and_go_on(struct co *co, void *arg)
{
	(void)arg;
	note(co, "[");
	must(co_spawn(co_sched_of(co), "inner", say, (void *)"i"));
	note(co, "]");
	co_yield(co);
	note(co, ".");
}

static void test_nothing_runs_within_another(void **state)
{
	struct world w;

	(void)state;
	world_init(&w);
	go(&w, "outer", spawn_and_go_on, NULL);
	go(&w, "other", say, "o");
	co_sched_run(w.sched);
	assert_string_equal(w.log, "[]oi.");
	world_fini(&w);
}

struct pair {
	struct co *parked;
};

static void sleeper(struct co *co, void *arg)
{
	struct pair *pair = arg;

	pair->parked = co;
	note(co, "p");
	co_park(co);
	note(co, "w");
}

static void waker(struct co *co, void *arg)
{
	struct pair *pair = arg;

	note(co, "(");
	co_ready(pair->parked);
	note(co, ")");
}

static void test_waking_does_not_switch(void **state)
{
	struct pair pair;
	struct world w;

	(void)state;
	world_init(&w);
	go(&w, "sleeper", sleeper, &pair);
	go(&w, "waker", waker, &pair);
	co_sched_run(w.sched);
	assert_string_equal(w.log, "p()w");
	world_fini(&w);
}

static void ready_before_park(struct co *co, void *arg)
{
	(void)arg;
	co_ready(co);
	note(co, "1");
	co_park(co);
	note(co, "2");
}

static void test_ready_may_come_before_park(void **state)
{
	struct world w;

	(void)state;
	world_init(&w);
	go(&w, "early", ready_before_park, NULL);
	co_sched_run(w.sched);
	assert_string_equal(w.log, "12");
	world_fini(&w);
}

static size_t pick_last(struct co_host *host, size_t ready)
{
	(void)host;
	return ready - 1;
}

static size_t pick_middle(struct co_host *host, size_t ready)
{
	(void)host;
	return ready / 2;
}

static void test_the_host_may_pick(void **state)
{
	struct co_host_ops ops = world_ops;
	struct world w;

	(void)state;
	for (int i = 0; i < 2; i++) {
		ops.pick = i ? pick_middle : pick_last;
		world_init_limits(&w, &ops, NULL);
		for (const char *name = "a\0b\0c\0d\0e\0"; *name; name += 2)
			go(&w, name, say, name);
		co_sched_run(w.sched);
		assert_string_equal(w.log, i ? "cdbea" : "edcba");
		world_fini(&w);
	}
}

static void yield_ten(struct co *co, void *arg)
{
	(void)arg;
	for (int i = 0; i < 10; i++)
		co_yield(co);
}

static void test_one_wait_per_turn_that_does_not_block(void **state)
{
	struct world w;

	(void)state;
	world_init(&w);
	w.now = 5;
	for (int i = 0; i < 100; i++)
		go(&w, "y", yield_ten, NULL);
	co_sched_run(w.sched);
	assert_int_equal(w.waits, 10);
	assert_true(w.deadline == 0 && w.now == 5);
	world_fini(&w);
}

/* ---- many ---- */

#define MANY 4000

struct many {
	unsigned started, finished;
	uint64_t sum;
};

static uint64_t deep(struct co *co, unsigned depth)
{
	volatile uint64_t here = depth;

	if (depth == 0)
		co_yield(co);
	else
		here += deep(co, depth - 1);
	return here;
}

static void go_deep(struct co *co, void *arg)
{
	struct many *many = arg;
	unsigned depth = many->started++ % 20;

	co_yield(co);
	if (deep(co, depth) == depth * (depth + 1) / 2)
		many->finished++;
}

static void test_thousands(void **state)
{
	struct many many = {0};
	struct world w;

	(void)state;
	world_init(&w);
	for (int round = 0; round < 2; round++) {
		for (unsigned i = 0; i < MANY; i++)
			go(&w, "many", go_deep, &many);
		assert_int_equal(co_sched_alive(w.sched), MANY);
		co_sched_run(w.sched);
	}
	assert_int_equal(many.finished, 2 * MANY);
	world_fini(&w);
}

static void test_exhaustion_and_recovery(void **state)
{
	struct world w;

	(void)state;
	world_init_limits(&w, &world_ops, &(struct co_limits){.stacks = 33});
	for (int round = 0; round < 3; round++) {
		for (int i = 0; i < 33; i++)
			go(&w, "one", yield_ten, NULL);
		assert_int_equal(co_spawn(w.sched, "too many", say, (void *)"x"), -EAGAIN);
		co_sched_run(w.sched);
	}
	assert_string_equal(w.log, "");
	world_fini(&w);
}

static void respawn(struct co *co, void *arg)
{
	unsigned *left = arg;

	if (--*left)
		must(co_spawn(co_sched_of(co), "next", respawn, left));
}

static void test_finished_ones_make_room(void **state)
{
	unsigned left = 5000;
	struct world w;

	(void)state;
	world_init_limits(&w, &world_ops, &(struct co_limits){.stacks = 2});
	assert_int_equal(co_main(w.sched, "first", respawn, &left), 0);
	assert_int_equal(left, 0);
	world_fini(&w);
}

static void test_main_can_fail(void **state)
{
	struct world w;

	(void)state;
	world_init_limits(&w, &world_ops, &(struct co_limits){.stacks = 1});
	go(&w, "occupant", say, "o");
	assert_int_equal(co_main(w.sched, "main", say, (void *)"m"), -EAGAIN);
	assert_string_equal(w.log, "");
	co_sched_run(w.sched);
	assert_string_equal(w.log, "o");
	world_fini(&w);
}

/* ---- time ---- */

static void sleep_and_say(struct co *co, void *arg)
{
	const char *what = arg;
	uint64_t until = (uint64_t)(what[0] - '0') * 100;

	co_sleep_until(co, until);
	assert(co_now(co) >= until);
	note(co, what);
}

static void test_timers_in_order(void **state)
{
	struct world w;

	(void)state;
	world_init(&w);
	go(&w, "3", sleep_and_say, "3");
	go(&w, "1", sleep_and_say, "1");
	go(&w, "5", sleep_and_say, "5");
	go(&w, "1b", sleep_and_say, "1b");
	go(&w, "2", sleep_and_say, "2");
	go(&w, "0", sleep_and_say, "0");
	co_sched_run(w.sched);
	assert_string_equal(w.log, "011b235");
	assert_int_equal(w.now, 500);
	world_fini(&w);
}

static void sleep_long(struct co *co, void *arg)
{
	(void)arg;
	co_sleep(co, 7);
	assert(co_now(co) == 7);
	co_sleep(co, UINT64_MAX);
	assert(co_now(co) == UINT64_MAX - 1);
}

static void test_relative_sleep(void **state)
{
	struct world w;

	(void)state;
	world_init(&w);
	assert_int_equal(co_main(w.sched, "long", sleep_long, NULL), 0);
	world_fini(&w);
}

static void keep_busy(struct co *co, void *arg)
{
	(void)arg;
	while (co_now(co) < 300) {
		world_of(co_host_of(co))->now += 50;
		note(co, ".");
		co_yield(co);
	}
}

/* A timer comes in time though somebody is always runnable. */
static void test_timers_are_not_starved(void **state)
{
	struct world w;

	(void)state;
	world_init(&w);
	go(&w, "busy", keep_busy, NULL);
	go(&w, "timer", sleep_and_say, "2");
	co_sched_run(w.sched);
	assert_string_equal(w.log, ".....2.");
	world_fini(&w);
}

/* ---- what it tells ---- */

static void ask(struct co *co, void *arg)
{
	struct world *w = arg;

	assert(co_sched_of(co) == w->sched);
	assert(co_host_of(co) == &w->host);
	assert(strcmp(co_name(co), "ask") == 0);
	assert(co_sched_alive(w->sched) == 1);
	note(co, "ok");
}

static void test_it_knows_itself(void **state)
{
	struct world w;

	(void)state;
	world_init(&w);
	assert_int_equal(co_main(w.sched, "ask", ask, &w), 0);
	assert_string_equal(w.log, "ok");
	world_fini(&w);
}

static void use_stack(struct co *co, void *arg)
{
	volatile size_t bytes = 20000; /* AddressSanitizer may put what it knows the size of elsewhere */
	volatile char *room = __builtin_alloca(bytes);

	(void)arg;
	for (size_t i = 0; i < bytes; i++)
		room[i] = 1;
	co_yield(co);
	assert(room[0] == 1);
}

static void test_stack_peak(void **state)
{
	struct world w;
	size_t shallow;

	(void)state;
	world_init(&w);
	assert_int_equal(co_main(w.sched, "shallow", say, (void *)"s"), 0);
	shallow = co_sched_stack_peak(w.sched);
	assert_in_range(shallow, 64, 20000);
	assert_int_equal(co_main(w.sched, "deep", use_stack, NULL), 0);
	assert_in_range(co_sched_stack_peak(w.sched), 20000, 60000);
	world_fini(&w);
}

/* Two schedulers side by side in one thread don't meet. */
static void run_other(struct co *co, void *arg)
{
	struct world *other = arg;

	(void)co;
	assert(co_sched_alive(other->sched) == 0);
	must(co_main(other->sched, "other", say_twice, (void *)"x"));
	note(co, "m");
}

static void test_two_schedulers(void **state)
{
	struct world w, other;

	(void)state;
	world_init(&w);
	world_init(&other);
	assert_int_equal(co_main(w.sched, "main", run_other, &other), 0);
	assert_string_equal(other.log, "xx");
	assert_string_equal(w.log, "m");
	world_fini(&other);
	world_fini(&w);
}

/* ---- how long the loop was busy ---- */

struct watch {
	struct co_turns turns;
	uint64_t slow[4];
	unsigned n;
};

static void note_slow(struct co_turns *turns, uint64_t ns)
{
	struct watch *watch = container_of(turns, struct watch, turns);

	assert_true(watch->n < ARRAY_ENTRIES(watch->slow));
	watch->slow[watch->n++] = ns;
}

/* The clock stands still unless a coroutine turns it, which is how long that one took. */
static void compute(struct co *co, void *arg)
{
	static const uint64_t took[] = {5, 100, 20, 101, 300};

	co_sched_watch(co_sched_of(co), arg);
	for (unsigned i = 0; i < ARRAY_ENTRIES(took); i++) {
		co_yield(co);
		world_of(co_host_of(co))->now += took[i];
	}
	co_sleep(co, 5000); /* waiting isn't being busy */
}

static void test_slow_turns(void **state)
{
	struct watch watch = {.turns = {.limit_ns = 100, .slow = note_slow}};
	struct world w;

	(void)state;
	world_init(&w);
	assert_int_equal(co_main(w.sched, "main", compute, &watch), 0);
	assert_int_equal(watch.n, 2);
	assert_int_equal(watch.slow[0], 101);
	assert_int_equal(watch.slow[1], 300);
	assert_int_equal(watch.turns.longest_ns, 300);
	assert_in_range(watch.turns.turns, 5, 8);
	world_fini(&w);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_first_come_first_served),
		cmocka_unit_test(test_nothing_runs_within_another),
		cmocka_unit_test(test_waking_does_not_switch),
		cmocka_unit_test(test_ready_may_come_before_park),
		cmocka_unit_test(test_the_host_may_pick),
		cmocka_unit_test(test_one_wait_per_turn_that_does_not_block),
		cmocka_unit_test(test_thousands),
		cmocka_unit_test(test_exhaustion_and_recovery),
		cmocka_unit_test(test_finished_ones_make_room),
		cmocka_unit_test(test_main_can_fail),
		cmocka_unit_test(test_timers_in_order),
		cmocka_unit_test(test_relative_sleep),
		cmocka_unit_test(test_timers_are_not_starved),
		cmocka_unit_test(test_it_knows_itself),
		cmocka_unit_test(test_stack_peak),
		cmocka_unit_test(test_two_schedulers),
		cmocka_unit_test(test_slow_turns),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
