/* SPDX-License-Identifier: MIT */
/* Windows on scattered memory: base/iovec.h. The exhaustive test compares every window with the flat bytes below it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/attr.h"
#include "base/iovec.h"

#define BYTES 13

/* Elements of 0, 3, 0, 5, 1, 4 and 0 bytes, one behind the other in buf. */
static const struct iovec *scatter(char buf[BYTES])
{
	static struct iovec v[7];
	static const size_t lens[7] = {0, 3, 0, 5, 1, 4, 0};
	size_t at = 0;

	for (unsigned i = 0; i < 7; i++) {
		v[i] = (struct iovec){lens[i] ? buf + at : NULL, lens[i]};
		at += lens[i];
	}
	assert_int_equal(at, BYTES);
	return v;
}

static void fill_counting(char buf[BYTES])
{
	for (int i = 0; i < BYTES; i++)
		buf[i] = (char)(i + 1);
}

static void check_window(struct iov it, const char *flat, size_t len)
{
	char copy[BYTES] = {0};
	struct iovec out[7];
	size_t bytes, at = 0;
	unsigned n;

	assert_int_equal(it.len, len);
	assert_true(len == 0 || it.skip < it.v[0].iov_len);
	assert_int_equal(iov_copy_out(it, copy, BYTES), len);
	assert_memory_equal(copy, flat, len);
	assert_int_equal(iov_is_zero(it), len == 0);

	n = iov_export(it, out, 7, &bytes);
	assert_int_equal(bytes, len);
	for (unsigned i = 0; i < n; i++) {
		assert_true(out[i].iov_len != 0);
		assert_memory_equal(out[i].iov_base, flat + at, out[i].iov_len);
		at += out[i].iov_len;
	}
	assert_int_equal(at, len);
}

static void test_every_slice_of_every_slice(void **state)
{
	char buf[BYTES];
	struct iov all = iov_of(scatter(buf), 7);

	(void)state;
	fill_counting(buf);
	check_window(all, buf, BYTES);
	for (size_t a = 0; a <= BYTES; a++) {
		for (size_t b = a; b <= BYTES; b++) {
			struct iov outer = iov_slice(all, a, b - a);

			check_window(outer, buf + a, b - a);
			for (size_t c = 0; c <= b - a; c++)
				for (size_t d = c; d <= b - a; d++)
					check_window(iov_slice(outer, c, d - c), buf + a + c, d - c);
		}
	}
}

static void test_writing_stays_inside(void **state)
{
	char from[BYTES + 1], buf[BYTES];
	struct iov all = iov_of(scatter(buf), 7);

	(void)state;
	memset(from, 'n', sizeof(from));
	for (size_t a = 0; a <= BYTES; a++) {
		for (size_t b = a; b <= BYTES; b++) {
			struct iov it = iov_slice(all, a, b - a);

			memset(buf, '.', BYTES);
			assert_int_equal(iov_copy_in(it, from, sizeof(from)), b - a);
			for (size_t i = 0; i < BYTES; i++)
				assert_int_equal(buf[i], i >= a && i < b ? 'n' : '.');
			iov_fill(it, 'f');
			for (size_t i = 0; i < BYTES; i++)
				assert_int_equal(buf[i], i >= a && i < b ? 'f' : '.');
		}
	}
}

static void test_copies_may_be_short(void **state)
{
	char buf[BYTES], copy[BYTES];
	struct iov all = iov_of(scatter(buf), 7);

	(void)state;
	memset(buf, '.', BYTES);
	assert_int_equal(iov_copy_in(all, "abcd", 4), 4);
	assert_memory_equal(buf, "abcd....", 8);
	memset(copy, '-', BYTES);
	assert_int_equal(iov_copy_out(all, copy, 5), 5);
	assert_memory_equal(copy, "abcd.---", 8);
}

static void test_export_with_too_little_room(void **state)
{
	char buf[BYTES];
	struct iov all = iov_of(scatter(buf), 7);
	struct iovec out[2];
	size_t bytes;

	(void)state;
	assert_int_equal(iov_export(all, out, 2, &bytes), 2);
	assert_int_equal(bytes, 8);
	assert_int_equal(iov_export(iov_slice(all, bytes, BYTES - bytes), out, 2, &bytes), 2);
	assert_int_equal(bytes, 5);
	assert_int_equal(iov_export(all, out, 0, &bytes), 0);
	assert_int_equal(bytes, 0);
}

static void test_no_elements(void **state)
{
	struct iov none = iov_of(NULL, 0);
	size_t bytes = 1;

	(void)state;
	assert_int_equal(none.len, 0);
	assert_true(iov_is_zero(none));
	assert_true(iov_is_aligned(none, 4096));
	assert_int_equal(iov_copy_in(none, "x", 1), 0);
	assert_int_equal(iov_export(none, NULL, 0, &bytes), 0);
	assert_int_equal(bytes, 0);
}

static void test_alignment(void **state)
{
	static char buf[64] __attribute__((aligned(32)));
	struct iov it = IOV_BUF(buf, 64);

	(void)state;
	assert_true(iov_is_aligned(it, 32));
	assert_false(iov_is_aligned(iov_slice(it, 8, 32), 16));
	assert_true(iov_is_aligned(iov_slice(it, 8, 32), 8));
	assert_false(iov_is_aligned(iov_slice(it, 0, 33), 2));
}

static void test_one_byte_that_is_not_zero(void **state)
{
	static char buf[300];

	(void)state;
	for (size_t from = 0; from < 9; from++) {
		for (size_t len = 0; len < 290; len++) {
			assert_true(mem_is_zero(buf + from, len));
			if (len == 0)
				continue;
			for (size_t at = 0; at < len; at += len < 140 ? 1 : len - 1) {
				buf[from + at] = 1;
				assert_false(mem_is_zero(buf + from, len));
				buf[from + at] = 0;
			}
			buf[from + len] = 1;
			assert_true(mem_is_zero(buf + from, len));
			buf[from + len] = 0;
		}
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_every_slice_of_every_slice),
		cmocka_unit_test(test_writing_stays_inside),
		cmocka_unit_test(test_copies_may_be_short),
		cmocka_unit_test(test_export_with_too_little_room),
		cmocka_unit_test(test_no_elements),
		cmocka_unit_test(test_alignment),
		cmocka_unit_test(test_one_byte_that_is_not_zero),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
