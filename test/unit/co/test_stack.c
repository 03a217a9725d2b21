/* SPDX-License-Identifier: MIT */
/* The pool of stacks. */
#include <errno.h>

#include "base/math.h"
#include "co/stack.h"
#include "host.h"

#define HEAD_BYTES 128
#define STACK_BYTES (32 << 10)

static void pool_init(struct co_stack_pool *p, unsigned limit)
{
	assert_int_equal(co_stack_pool_init(p, STACK_BYTES, limit, HEAD_BYTES), 0);
}

static struct co_stack *take_one(struct co_stack_pool *p)
{
	struct co_stack *s = NULL;

	assert_int_equal(co_stack_take(p, &s), 0);
	s->name = "test";
	return s;
}

static void test_stacks_are_apart(void **state)
{
	struct co_stack_pool p;
	struct co_stack *s[50];

	(void)state;
	pool_init(&p, 50);
	for (int i = 0; i < 50; i++) {
		s[i] = take_one(&p);
		assert_true((char *)s[i] - s[i]->low >= STACK_BYTES);
		assert_true(is_aligned((uintptr_t)s[i], 64));
		memset(s[i]->low, i, 16);
		memset((char *)s[i] + sizeof(struct co_stack), i, HEAD_BYTES - sizeof(struct co_stack));
	}
	for (int i = 0; i < 50; i++) {
		assert_int_equal(s[i]->low[0], i);
		assert_int_equal(((char *)s[i])[HEAD_BYTES - 1], i);
	}
	co_stack_pool_fini(&p);
}

static void test_limit_and_recovery(void **state)
{
	struct co_stack_pool p;
	struct co_stack *s[20], *more;

	(void)state;
	pool_init(&p, 20);
	for (int i = 0; i < 20; i++)
		s[i] = take_one(&p);
	assert_int_equal(co_stack_take(&p, &more), -EAGAIN);
	assert_int_equal(co_stack_take(&p, &more), -EAGAIN);
	co_stack_give(&p, s[3]);
	assert_ptr_equal(take_one(&p), s[3]);
	assert_int_equal(co_stack_take(&p, &more), -EAGAIN);
	co_stack_pool_fini(&p);
}

static void test_used_last_comes_first(void **state)
{
	struct co_stack_pool p;
	struct co_stack *a, *b;

	(void)state;
	pool_init(&p, 100);
	a = take_one(&p);
	b = take_one(&p);
	co_stack_give(&p, a);
	co_stack_give(&p, b);
	assert_ptr_equal(take_one(&p), b);
	assert_ptr_equal(take_one(&p), a);
	co_stack_pool_fini(&p);
}

static void test_few_are_made_ready_at_a_time(void **state)
{
	struct co_stack_pool p;

	(void)state;
	pool_init(&p, 4096);
	assert_int_equal(p.ready, 0);
	take_one(&p);
	assert_in_range(p.ready, 1, 64);
	co_stack_pool_fini(&p);
}

static void test_peak_is_the_deepest_of_all(void **state)
{
	struct co_stack_pool p;
	struct co_stack *a, *b;

	(void)state;
	pool_init(&p, 8);
	assert_int_equal(co_stack_pool_peak(&p), 0);
	a = take_one(&p);
	b = take_one(&p);
	assert_int_equal(co_stack_pool_peak(&p), 0);
	((char *)a)[-5000] = 1;
	assert_in_range(co_stack_pool_peak(&p), 5000, 5007);
	((char *)b)[-7000] = 1;
	((char *)b)[-300] = 1;
	assert_in_range(co_stack_pool_peak(&p), 7000, 7007);
	co_stack_give(&p, b);
	assert_in_range(co_stack_pool_peak(&p), 7000, 7007);
	co_stack_pool_fini(&p);
}

static void test_guards_are_told_from_the_rest(void **state)
{
	struct co_stack_pool p;
	struct co_stack *first, *s;

	(void)state;
	pool_init(&p, 8);
	first = take_one(&p);
	s = take_one(&p);
	assert_ptr_equal(co_stack_of_guard(&p, s->low - 1), s);
	assert_ptr_equal(co_stack_of_guard(&p, s->low - 4096), s);
	assert_ptr_equal(co_stack_of_guard(&p, first->low - 1), first);
	assert_null(co_stack_of_guard(&p, s->low));
	assert_null(co_stack_of_guard(&p, (char *)s + HEAD_BYTES - 1));
	assert_null(co_stack_of_guard(&p, p.base - 1));
	assert_null(co_stack_of_guard(&p, p.base + 8 * p.slot_bytes));
	assert_null(co_stack_of_guard(&p, NULL));
	co_stack_pool_fini(&p);
}

static void test_a_pool_that_is_too_large(void **state)
{
	struct co_stack_pool p;

	(void)state;
	assert_int_equal(co_stack_pool_init(&p, (size_t)1 << 46, 64, HEAD_BYTES), -ENOMEM);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_stacks_are_apart),
		cmocka_unit_test(test_limit_and_recovery),
		cmocka_unit_test(test_used_last_comes_first),
		cmocka_unit_test(test_few_are_made_ready_at_a_time),
		cmocka_unit_test(test_peak_is_the_deepest_of_all),
		cmocka_unit_test(test_guards_are_told_from_the_rest),
		cmocka_unit_test(test_a_pool_that_is_too_large),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
