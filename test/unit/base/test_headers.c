/* SPDX-License-Identifier: MIT */
/* What base/ has in headers alone: lists, checked arithmetic, big-endian fields, cleanup. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/cleanup.h"
#include "base/endian.h"
#include "base/list.h"
#include "base/math.h"

struct item {
	int value;
	struct list link;
};

static int digits(struct list *head)
{
	int number = 0;

	list_for_each(it, head)
		number = number * 10 + list_entry(it, struct item, link)->value;
	return number;
}

static void test_list_order(void **state)
{
	struct item a = {.value = 1}, b = {.value = 2}, c = {.value = 3};
	struct list head;

	(void)state;
	list_init(&head);
	assert_true(list_empty(&head));
	assert_null(list_first(&head, struct item, link));
	list_push(&head, &b.link);
	list_push(&head, &c.link);
	list_push_front(&head, &a.link);
	assert_int_equal(digits(&head), 123);
	assert_ptr_equal(list_first(&head, struct item, link), &a);
	list_remove(&b.link);
	assert_true(list_empty(&b.link));
	assert_int_equal(digits(&head), 13);
	list_for_each_safe(it, &head)
		list_remove(it);
	assert_true(list_empty(&head));
}

static void test_list_splice(void **state)
{
	struct item a = {.value = 1}, b = {.value = 2}, c = {.value = 3};
	struct list head, from;

	(void)state;
	list_init(&head);
	list_init(&from);
	list_splice(&head, &from);
	assert_true(list_empty(&head));
	list_push(&head, &a.link);
	list_push(&from, &b.link);
	list_push(&from, &c.link);
	list_splice(&head, &from);
	assert_int_equal(digits(&head), 123);
	assert_true(list_empty(&from));
	assert_ptr_equal(head.prev, &c.link);
}

static void test_checked_arithmetic(void **state)
{
	uint64_t v;

	(void)state;
	assert_false(add_overflows(UINT64_MAX - 1, 1, &v));
	assert_true(v == UINT64_MAX);
	assert_true(add_overflows(UINT64_MAX, 1, &v));
	assert_false(mul_overflows(UINT64_C(1) << 32, (UINT64_C(1) << 32) - 1, &v));
	assert_true(mul_overflows(UINT64_C(1) << 32, UINT64_C(1) << 32, &v));
	assert_int_equal(align_down(8191, 4096), 4096);
	assert_int_equal(align_up(4097, 4096), 8192);
	assert_int_equal(align_up(4096, 4096), 4096);
	assert_int_equal(div_round_up(0, 7), 0);
	assert_int_equal(div_round_up(7, 7), 1);
	assert_int_equal(div_round_up(8, 7), 2);
	assert_true(div_round_up(UINT64_MAX, 2) == UINT64_C(1) << 63);
	assert_false(is_power_of_two(0));
	assert_true(is_power_of_two(1));
	assert_false(is_power_of_two(3));
}

static void test_overlap(void **state)
{
	(void)state;
	assert_true(ranges_overlap(0, 10, 9, 1));
	assert_false(ranges_overlap(0, 10, 10, 1));
	assert_false(ranges_overlap(10, 1, 0, 10));
	assert_true(ranges_overlap(5, 1, 0, 10));
	assert_false(ranges_overlap(5, 0, 0, 10));
}

static void test_big_endian(void **state)
{
	const unsigned char bytes[8] = {0x51, 0x46, 0x49, 0xfb, 1, 2, 3, 4};
	be32 word;
	be64 wide;

	(void)state;
	memcpy(&word, bytes, sizeof(word));
	memcpy(&wide, bytes, sizeof(wide));
	assert_int_equal(be32_get(word), 0x514649fb);
	assert_true(be64_get(wide) == UINT64_C(0x514649fb01020304));
	wide = be64_of(UINT64_C(0x514649fb01020304));
	assert_memory_equal(&wide, bytes, 8);
	assert_int_equal(be16_get(be16_of(0x1234)), 0x1234);
}

static char *hand_over(void)
{
	AUTO_FREE char *p = malloc(4);

	if (p)
		memcpy(p, "abc", 4);
	return take(p);
}

static void test_take_hands_over(void **state)
{
	AUTO_FREE char *p = hand_over();

	(void)state;
	assert_non_null(p);
	assert_string_equal(p, "abc");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_list_order),
		cmocka_unit_test(test_list_splice),
		cmocka_unit_test(test_checked_arithmetic),
		cmocka_unit_test(test_overlap),
		cmocka_unit_test(test_big_endian),
		cmocka_unit_test(test_take_hands_over),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
