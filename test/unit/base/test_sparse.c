/* SPDX-License-Identifier: MIT */
/* Sparse bitmaps against plain arrays: base/sparse.h. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/math.h"
#include "base/sparse.h"

#define MOST (3 * SPARSE_CHUNK_BITS + 1000)

struct both {
	struct sparse_budget budget;
	struct sparse s;
	bool *plain;
	uint64_t bits;
};

static uint64_t next_random(uint64_t *state)
{
	*state = *state * UINT64_C(6364136223846793005) + 1;
	return *state >> 33;
}

static void both_init(struct both *b, uint64_t bits)
{
	b->budget = (struct sparse_budget){.limit = UINT64_MAX};
	b->bits = bits;
	b->plain = calloc(MOST, sizeof(bool));
	assert_non_null(b->plain);
	assert_int_equal(sparse_init(&b->s, bits, &b->budget), 0);
}

static void both_fini(struct both *b)
{
	sparse_fini(&b->s);
	assert_int_equal(b->budget.used, 0);
	free(b->plain);
}

static void both_change(struct both *b, uint64_t first, uint64_t n, bool value)
{
	if (value)
		sparse_set(&b->s, first, n);
	else
		sparse_clear(&b->s, first, n);
	memset(b->plain + first, value, n);
}

static void both_compare(const struct both *b)
{
	uint64_t ones = 0, at = 0;

	for (uint64_t i = 0; i < b->bits; i++) {
		assert_int_equal(sparse_test(&b->s, i), b->plain[i]);
		ones += b->plain[i];
	}
	assert_int_equal(b->s.ones, ones);
	for (bool value = b->plain[0]; at < b->bits; value = !value) {
		uint64_t end = at;

		while (end < b->bits && b->plain[end] == value)
			end++;
		assert_int_equal(sparse_find(&b->s, at, b->bits, value), at);
		assert_int_equal(sparse_find(&b->s, at, b->bits, !value), end);
		assert_int_equal(sparse_find(&b->s, at, end, !value), end);
		at = end;
	}
}

static void test_random_changes(void **state)
{
	static const uint64_t sizes[] = {
		1, 63, 64, 65, SPARSE_CHUNK_BITS - 1, SPARSE_CHUNK_BITS, SPARSE_CHUNK_BITS + 1, MOST};
	uint64_t r = 7;

	(void)state;
	for (unsigned k = 0; k < sizeof(sizes) / sizeof(*sizes); k++) {
		struct both b;

		both_init(&b, sizes[k]);
		for (unsigned i = 0; i < 60; i++) {
			uint64_t first = next_random(&r) % b.bits, most = i % 3 ? 100 : b.bits;
			uint64_t n = MIN(next_random(&r) % most, b.bits - first);

			both_change(&b, i % 7 ? first : 0, i % 7 ? n : b.bits, next_random(&r) % 2);
			both_compare(&b);
		}
		both_fini(&b);
	}
}

static void test_uniform_costs_nothing(void **state)
{
	struct both b;
	uint64_t empty;

	(void)state;
	both_init(&b, MOST);
	empty = b.budget.used;
	both_change(&b, 0, MOST, true);
	assert_int_equal(b.budget.used, empty);
	both_change(&b, 17, 1, false);
	assert_true(b.budget.used > empty);
	both_change(&b, 17, 1, true);
	assert_int_equal(b.budget.used, empty);
	both_change(&b, MOST - 1, 1, false);
	assert_true(b.budget.used > empty);
	both_change(&b, 0, MOST, false);
	assert_int_equal(b.budget.used, empty);
	both_fini(&b);
}

static void test_resize(void **state)
{
	static const uint64_t sizes[] = {1, 100, SPARSE_CHUNK_BITS, SPARSE_CHUNK_BITS + 100, MOST};

	(void)state;
	for (unsigned from = 0; from < 5; from++) {
		for (unsigned to = 0; to < 5; to++) {
			for (unsigned full = 0; full < 2; full++) {
				struct both b;

				both_init(&b, sizes[from]);
				both_change(&b, full ? 0 : sizes[from] / 2, full ? sizes[from] : 1, true);
				assert_int_equal(sparse_resize(&b.s, sizes[to]), 0);
				b.bits = sizes[to];
				both_compare(&b);
				assert_int_equal(sparse_resize(&b.s, MOST), 0);
				memset(b.plain + sizes[to], 0, MOST - sizes[to]);
				b.bits = MOST;
				both_compare(&b);
				both_fini(&b);
			}
		}
	}
}

static void test_bytes(void **state)
{
	static uint8_t bytes[MOST / 8 + 9];
	uint64_t r = 3;
	struct both b, again;

	(void)state;
	both_init(&b, MOST - 3);
	both_change(&b, 0, SPARSE_CHUNK_BITS, true);
	for (unsigned i = 0; i < 200; i++)
		both_change(&b, next_random(&r) % b.bits, 1, true);
	both_change(&b, b.bits - 1, 1, true);
	memset(bytes, 0xff, sizeof(bytes));
	sparse_export(&b.s, 0, bytes, sizeof(bytes));
	for (uint64_t i = 0; i < sizeof(bytes) * UINT64_C(8); i++)
		assert_int_equal(bytes[i / 8] >> i % 8 & 1, i < b.bits && b.plain[i]);
	both_init(&again, b.bits);
	memset(bytes + b.bits / 8 + 1, 0xff, 4);
	sparse_import(&again.s, 64, bytes + 8, sizeof(bytes) - 8);
	memcpy(again.plain + 64, b.plain + 64, b.bits - 64);
	both_compare(&again);
	both_fini(&again);
	both_fini(&b);
}

/* Without memory more is claimed than was set, never less. */
static void test_budget(void **state)
{
	struct sparse_budget budget = {.limit = 64};
	struct sparse s;

	(void)state;
	assert_int_equal(sparse_init(&s, 100 * SPARSE_CHUNK_BITS, &budget), -ENOMEM);
	assert_int_equal(budget.used, 0);
	assert_int_equal(sparse_init(&s, 3 * SPARSE_CHUNK_BITS, &budget), 0);
	sparse_set(&s, SPARSE_CHUNK_BITS + 5, 1);
	assert_int_equal(sparse_find(&s, 0, s.bits, true), SPARSE_CHUNK_BITS);
	assert_int_equal(sparse_find(&s, SPARSE_CHUNK_BITS, s.bits, false), 2 * SPARSE_CHUNK_BITS);
	assert_int_equal(s.ones, SPARSE_CHUNK_BITS);
	sparse_clear(&s, SPARSE_CHUNK_BITS + 7, 3);
	assert_int_equal(s.ones, SPARSE_CHUNK_BITS);
	sparse_clear(&s, 0, 3 * SPARSE_CHUNK_BITS);
	assert_int_equal(s.ones, 0);
	sparse_fini(&s);
	assert_int_equal(budget.used, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_random_changes),
		cmocka_unit_test(test_uniform_costs_nothing),
		cmocka_unit_test(test_resize),
		cmocka_unit_test(test_bytes),
		cmocka_unit_test(test_budget),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
