/* SPDX-License-Identifier: MIT */
/* Statistics: what is counted, and that percentiles are right to a bucket. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdlib.h>

#include "export/stats.h"

static struct export_stats *stats_new(void)
{
	struct export_stats *s = calloc(1, sizeof(*s));

	assert_non_null(s);
	return s;
}

static void test_counts(void **state)
{
	struct export_stats *s = stats_new();

	(void)state;
	export_stats_add(s, EXPORT_READ, 4096, 10, true);
	export_stats_add(s, EXPORT_READ, 512, 30, false);
	export_stats_add(s, EXPORT_FLUSH, 0, 20, true);
	assert_int_equal(s->op[EXPORT_READ].requests, 2);
	assert_int_equal(s->op[EXPORT_READ].bytes, 4096);
	assert_int_equal(s->op[EXPORT_READ].errors, 1);
	assert_int_equal(s->op[EXPORT_READ].longest_ns, 30);
	assert_int_equal(s->op[EXPORT_FLUSH].requests, 1);
	assert_int_equal(s->op[EXPORT_WRITE].requests, 0);
	assert_int_equal(export_counter_percentile(&s->op[EXPORT_WRITE], 500), 0);
	free(s);
}

/* Every order of magnitude: the bucket holds what was put there, and is narrow. */
static void test_buckets(void **state)
{
	(void)state;
	for (uint64_t ns = 1; ns < UINT64_C(1) << 39; ns = ns * 9 / 8 + 1) {
		struct export_stats *s = stats_new();
		uint64_t p;

		export_stats_add(s, EXPORT_READ, 0, ns, true);
		export_stats_add(s, EXPORT_READ, 0, 2 * ns, true);
		p = export_counter_percentile(&s->op[EXPORT_READ], 500);
		assert_true(p >= ns);
		assert_true(p <= ns + ns / 8);
		free(s);
	}
}

static void test_percentiles(void **state)
{
	struct export_stats *s = stats_new();
	const struct export_counter *c = &s->op[EXPORT_WRITE];

	(void)state;
	for (unsigned i = 1; i <= 1000; i++)
		export_stats_add(s, EXPORT_WRITE, 1, 1000 * i, true);
	assert_in_range(export_counter_percentile(c, 500), 500 * 1000, 563 * 1000);
	assert_in_range(export_counter_percentile(c, 990), 990 * 1000, 1000 * 1000);
	assert_int_equal(export_counter_percentile(c, 1000), 1000 * 1000);
	export_stats_add(s, EXPORT_WRITE, 1, UINT64_MAX, true);
	assert_int_equal(export_counter_percentile(c, 1000), UINT64_MAX);
	free(s);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_counts),
		cmocka_unit_test(test_buckets),
		cmocka_unit_test(test_percentiles),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
