/* SPDX-License-Identifier: MIT */
/* Wait queues, locks, semaphores, groups: who goes when. */
#include <errno.h>

#include "co/sync.h"
#include "host.h"

/* What the coroutines of a test share; those of a test that needs an argument of their own find it in `who`. */
static struct shared {
	struct co_queue queue;
	struct co_mutex mutex;
	struct co_rwlock rwlock;
	struct co_sem sem;
	struct co_group group;
	int result[4];
} shared;

static void shared_init(struct world *w)
{
	world_init(w);
	co_queue_init(&shared.queue);
	co_mutex_init(&shared.mutex);
	co_rwlock_init(&shared.rwlock);
	co_group_init(&shared.group, w->sched);
	memset(shared.result, 0, sizeof(shared.result));
}

static void shared_fini(struct world *w)
{
	assert_true(co_queue_empty(&shared.queue));
	assert_true(w->deadline == 0 || w->deadline <= w->now); /* nobody's timer was left behind */
	world_fini(w);
}

/* ---- wait queue ---- */

static void wait_and_say(struct co *co, void *who)
{
	co_queue_wait(co, &shared.queue);
	note(co, who);
}

static void wake_one_then_all(struct co *co, void *who)
{
	(void)who;
	assert(co_queue_wake_one(&shared.queue));
	note(co, "|");
	co_yield(co);
	co_queue_wake_all(&shared.queue);
	note(co, "|");
	assert(!co_queue_wake_one(&shared.queue));
}

static void test_queue_is_first_come_first_served(void **state)
{
	struct world w;

	(void)state;
	shared_init(&w);
	for (const char *who = "a\0b\0c\0d\0"; *who; who += 2)
		go(&w, who, wait_and_say, who);
	go(&w, "waker", wake_one_then_all, NULL);
	co_sched_run(w.sched);
	assert_string_equal(w.log, "|a|bcd");
	shared_fini(&w);
}

static void wait_until_100(struct co *co, void *result)
{
	*(int *)result = co_queue_wait_until(co, &shared.queue, 100);
	note(co, "w");
}

static void sleep_100_and_wake(struct co *co, void *who)
{
	(void)who;
	co_sleep_until(co, 100);
	note(co, co_queue_wake_one(&shared.queue) ? "1" : "0");
}

static void sleep_50_and_wake(struct co *co, void *who)
{
	(void)who;
	co_sleep_until(co, 50);
	note(co, co_queue_wake_one(&shared.queue) ? "1" : "0");
}

static void test_nobody_wakes(void **state)
{
	struct world w;

	(void)state;
	shared_init(&w);
	go(&w, "waiter", wait_until_100, &shared.result[0]);
	co_sched_run(w.sched);
	assert_int_equal(shared.result[0], -ETIMEDOUT);
	assert_int_equal(w.now, 100);
	shared_fini(&w);
}

static void test_woken_in_time(void **state)
{
	struct world w;

	(void)state;
	shared_init(&w);
	shared.result[0] = 1;
	go(&w, "waiter", wait_until_100, &shared.result[0]);
	go(&w, "waker", sleep_50_and_wake, NULL);
	co_sched_run(w.sched);
	assert_int_equal(shared.result[0], 0);
	assert_string_equal(w.log, "1w");
	assert_int_equal(w.now, 50); /* the timer did not keep the loop */
	shared_fini(&w);
}

/* Both deadlines are reached in one turn, the waiter's first: there is nobody left to wake. */
static void test_timeout_and_then_a_wake_in_one_turn(void **state)
{
	struct world w;

	(void)state;
	shared_init(&w);
	go(&w, "waiter", wait_until_100, &shared.result[0]);
	go(&w, "waker", sleep_100_and_wake, NULL);
	co_sched_run(w.sched);
	assert_int_equal(shared.result[0], -ETIMEDOUT);
	assert_string_equal(w.log, "w0");
	shared_fini(&w);
}

static void wake_late(struct co *co, void *who)
{
	(void)who;
	world_of(co_host_of(co))->now = 100;
	assert(co_queue_wake_one(&shared.queue));
	note(co, "1");
}

/* The time is up when the loop looks at the timers, but before that somebody woke him: the wake counts, once. */
static void test_a_wake_and_then_the_timeout_in_one_turn(void **state)
{
	struct world w;

	(void)state;
	shared_init(&w);
	shared.result[0] = 1;
	go(&w, "waiter", wait_until_100, &shared.result[0]);
	go(&w, "waker", wake_late, NULL);
	co_sched_run(w.sched);
	assert_int_equal(shared.result[0], 0);
	assert_string_equal(w.log, "1w");
	shared_fini(&w);
}

static void wait_without_end(struct co *co, void *result)
{
	*(int *)result = co_queue_wait_until(co, &shared.queue, CO_NEVER);
}

static void test_timeouts_leave_the_others_waiting(void **state)
{
	struct world w;

	(void)state;
	shared_init(&w);
	shared.result[3] = 1;
	go(&w, "first", wait_until_100, &shared.result[0]);
	go(&w, "second", wait_without_end, &shared.result[3]);
	go(&w, "third", wait_until_100, &shared.result[1]);
	go(&w, "waker", sleep_100_and_wake, NULL);
	co_sched_run(w.sched);
	assert_int_equal(shared.result[0], -ETIMEDOUT);
	assert_int_equal(shared.result[1], -ETIMEDOUT);
	assert_int_equal(shared.result[3], 0);
	shared_fini(&w);
}

/* ---- mutex ---- */

static void lock_twice(struct co *co, void *who)
{
	for (int i = 0; i < 2; i++) {
		co_mutex_lock(co, &shared.mutex);
		note(co, who);
		co_yield(co);
		note(co, who);
		assert(!co_mutex_try_lock(&shared.mutex));
		co_mutex_unlock(&shared.mutex);
	}
}

/* Each section is whole, and nobody has it twice while another waits, though he asks again at once. */
static void test_mutex_hand_over(void **state)
{
	struct world w;

	(void)state;
	shared_init(&w);
	for (const char *who = "a\0b\0c\0"; *who; who += 2)
		go(&w, who, lock_twice, who);
	co_sched_run(w.sched);
	assert_string_equal(w.log, "aabbccaabbcc");
	assert_true(co_mutex_try_lock(&shared.mutex));
	assert_false(co_mutex_try_lock(&shared.mutex));
	co_mutex_unlock(&shared.mutex);
	shared_fini(&w);
}

static void lock_and_say(struct co *co, void *who)
{
	co_mutex_lock(co, &shared.mutex);
	note(co, who);
	co_mutex_unlock(&shared.mutex);
}

static void unlock_and_try(struct co *co, void *who)
{
	(void)who;
	co_mutex_lock(co, &shared.mutex);
	co_yield(co);
	co_mutex_unlock(&shared.mutex);
	note(co, co_mutex_try_lock(&shared.mutex) ? "overtook" : "u");
}

/* Between the unlock and the run of who waited the lock is his: trying doesn't overtake either. */
static void test_mutex_is_never_free_in_between(void **state)
{
	struct world w;

	(void)state;
	shared_init(&w);
	go(&w, "holder", unlock_and_try, NULL);
	go(&w, "waiter", lock_and_say, "w");
	co_sched_run(w.sched);
	assert_string_equal(w.log, "uw");
	shared_fini(&w);
}

/* ---- readers and writers ---- */

static void read_a_while(struct co *co, void *who)
{
	const char *name = who;
	char begin[] = {name[0], '(', 0}, end[] = {name[0], ')', 0};

	co_rwlock_read_lock(co, &shared.rwlock);
	note(co, begin);
	co_yield(co);
	co_yield(co);
	note(co, end);
	co_rwlock_read_unlock(&shared.rwlock);
}

static void write_a_while(struct co *co, void *who)
{
	const char *name = who;
	char begin[] = {name[0], '[', 0}, end[] = {name[0], ']', 0};

	co_rwlock_write_lock(co, &shared.rwlock);
	note(co, begin);
	co_yield(co);
	note(co, end);
	co_rwlock_write_unlock(&shared.rwlock);
}

/* Readers share; a waiting writer keeps later readers out; those come in together behind him, up to the next writer. */
static void test_rwlock_is_fair(void **state)
{
	struct world w;

	(void)state;
	shared_init(&w);
	go(&w, "1", read_a_while, "1");
	go(&w, "2", read_a_while, "2");
	go(&w, "A", write_a_while, "A");
	go(&w, "3", read_a_while, "3");
	go(&w, "4", read_a_while, "4");
	go(&w, "B", write_a_while, "B");
	go(&w, "5", read_a_while, "5");
	co_sched_run(w.sched);
	assert_string_equal(w.log, "1(2(1)2)A[A]3(4(3)4)B[B]5(5)");
	assert_int_equal(shared.rwlock.readers, 0);
	assert_false(shared.rwlock.writer);
	shared_fini(&w);
}

static void test_writers_take_turns(void **state)
{
	struct world w;

	(void)state;
	shared_init(&w);
	go(&w, "A", write_a_while, "A");
	go(&w, "B", write_a_while, "B");
	go(&w, "1", read_a_while, "1");
	go(&w, "C", write_a_while, "C");
	co_sched_run(w.sched);
	assert_string_equal(w.log, "A[A]B[B]1(1)C[C]");
	shared_fini(&w);
}

/* ---- semaphore ---- */

static void acquire_and_say(struct co *co, void *who)
{
	const char *name = who;

	co_sem_acquire(co, &shared.sem, (uint64_t)(name[0] - '0'));
	note(co, who);
}

static void release_ones(struct co *co, void *times)
{
	for (int i = 0; i < *(int *)times; i++) {
		note(co, "+");
		co_sem_release(&shared.sem, 1);
		co_yield(co);
	}
}

/* One unit would do for the last, but he waits behind the one who wants three. */
static void test_semaphore_without_overtaking(void **state)
{
	struct world w;
	int times = 6;

	(void)state;
	shared_init(&w);
	co_sem_init(&shared.sem, 2);
	assert_false(co_sem_try_acquire(&shared.sem, 3));
	go(&w, "2", acquire_and_say, "2");
	go(&w, "3", acquire_and_say, "3");
	go(&w, "1", acquire_and_say, "1");
	go(&w, "2b", acquire_and_say, "2b");
	go(&w, "releaser", release_ones, &times);
	co_sched_run(w.sched);
	assert_string_equal(w.log, "2+++3+1++2b");
	assert_true(shared.sem.available == 0);
	shared_fini(&w);
}

static void try_behind(struct co *co, void *who)
{
	(void)who;
	note(co, co_sem_try_acquire(&shared.sem, 1) ? "overtook" : "t");
	co_sem_release(&shared.sem, 2);
	note(co, co_sem_try_acquire(&shared.sem, 1) ? "y" : "n");
}

static void test_trying_does_not_overtake(void **state)
{
	struct world w;

	(void)state;
	shared_init(&w);
	co_sem_init(&shared.sem, 2);
	go(&w, "3", acquire_and_say, "3");
	go(&w, "try", try_behind, NULL);
	co_sched_run(w.sched);
	assert_string_equal(w.log, "ty3");
	shared_fini(&w);
}

/* ---- group ---- */

static void member(struct co *co, void *who)
{
	co_sleep(co, (uint64_t)(((const char *)who)[0] - '0'));
	note(co, who);
}

static void wait_for_members(struct co *co, void *who)
{
	(void)who;
	co_group_wait(co, &shared.group); /* empty: returns at once */
	note(co, "<");
	must(co_group_spawn(&shared.group, "3", member, (void *)"3"));
	must(co_group_spawn(&shared.group, "1", member, (void *)"1"));
	must(co_group_spawn(&shared.group, "2", member, (void *)"2"));
	must(co_spawn(co_sched_of(co), "9", member, (void *)"9"));
	co_group_wait(co, &shared.group);
	note(co, ">");
}

static void test_group_waits_for_its_members_only(void **state)
{
	struct world w;

	(void)state;
	shared_init(&w);
	assert_int_equal(co_main(w.sched, "parent", wait_for_members, NULL), 0);
	assert_string_equal(w.log, "<123>9");
	shared_fini(&w);
}

static void spawn_sibling(struct co *co, void *who)
{
	must(co_group_spawn(&shared.group, "late", member, (void *)"5"));
	note(co, who);
}

static void wait_for_late(struct co *co, void *who)
{
	must(co_group_spawn(&shared.group, "parent", spawn_sibling, (void *)"p"));
	co_group_wait(co, &shared.group);
	note(co, who);
}

static void test_members_may_add_members(void **state)
{
	struct world w;

	(void)state;
	shared_init(&w);
	assert_int_equal(co_main(w.sched, "waiter", wait_for_late, (void *)"w"), 0);
	assert_string_equal(w.log, "p5w");
	shared_fini(&w);
}

static void say(struct co *co, void *who) { note(co, who); }

static void wait_for_one(struct co *co, void *who)
{
	must(co_group_spawn(&shared.group, "first", say, (void *)"1"));
	co_group_wait(co, &shared.group);
	note(co, who);
}

static void yield_and_spawn(struct co *co, void *who)
{
	(void)who;
	co_yield(co);
	assert(shared.group.members == 0);
	must(co_group_spawn(&shared.group, "second", member, (void *)"2"));
}

/* The last member has gone and woken who waits, but before that one runs there is a new member. */
static void test_a_member_that_comes_just_before_the_end(void **state)
{
	struct world w;

	(void)state;
	shared_init(&w);
	go(&w, "waiter", wait_for_one, "w");
	go(&w, "spawner", yield_and_spawn, NULL);
	co_sched_run(w.sched);
	assert_string_equal(w.log, "12w");
	shared_fini(&w);
}

static void test_group_without_room(void **state)
{
	struct world w;

	(void)state;
	world_init_limits(&w, &world_ops, &(struct co_limits){.stacks = 1});
	co_group_init(&shared.group, w.sched);
	assert_int_equal(co_group_spawn(&shared.group, "0", member, (void *)"0"), 0);
	assert_int_equal(co_group_spawn(&shared.group, "1", member, (void *)"1"), -EAGAIN);
	assert_int_equal(shared.group.members, 1);
	co_sched_run(w.sched);
	assert_int_equal(shared.group.members, 0);
	world_fini(&w);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_queue_is_first_come_first_served),
		cmocka_unit_test(test_nobody_wakes),
		cmocka_unit_test(test_woken_in_time),
		cmocka_unit_test(test_timeout_and_then_a_wake_in_one_turn),
		cmocka_unit_test(test_a_wake_and_then_the_timeout_in_one_turn),
		cmocka_unit_test(test_timeouts_leave_the_others_waiting),
		cmocka_unit_test(test_mutex_hand_over),
		cmocka_unit_test(test_mutex_is_never_free_in_between),
		cmocka_unit_test(test_rwlock_is_fair),
		cmocka_unit_test(test_writers_take_turns),
		cmocka_unit_test(test_semaphore_without_overtaking),
		cmocka_unit_test(test_trying_does_not_overtake),
		cmocka_unit_test(test_group_waits_for_its_members_only),
		cmocka_unit_test(test_members_may_add_members),
		cmocka_unit_test(test_a_member_that_comes_just_before_the_end),
		cmocka_unit_test(test_group_without_room),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
