/* SPDX-License-Identifier: MIT */
/* Explained failures: base/err.h. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/err.h"

static void test_code_and_text_are_stored(void **state)
{
	struct err err = {0};

	(void)state;
	assert_int_equal(err_set(&err, -EINVAL, "entry %d of %s", 7, "L1"), -EINVAL);
	assert_int_equal(err.code, -EINVAL);
	assert_string_equal(err.text, "entry 7 of L1");
}

static void test_null_gives_the_code_alone(void **state)
{
	(void)state;
	assert_int_equal(err_set(NULL, -ENOENT, "nobody reads %s", "this"), -ENOENT);
	assert_true(err_prefix(NULL, "nor this") < 0);
}

static void test_prefix_goes_before(void **state)
{
	struct err err;

	(void)state;
	err_set(&err, -EIO, "read failed");
	assert_int_equal(err_prefix(&err, "%s.qcow2", "base"), -EIO);
	assert_string_equal(err.text, "base.qcow2: read failed");
	err_prefix(&err, "%s", "top.qcow2");
	assert_string_equal(err.text, "top.qcow2: base.qcow2: read failed");
}

static void test_long_text_is_cut(void **state)
{
	char filler[2 * ERR_TEXT_BYTES];
	struct err err;

	(void)state;
	memset(filler, 'x', sizeof(filler) - 1);
	filler[sizeof(filler) - 1] = '\0';
	err_set(&err, -EIO, "%s", filler);
	assert_int_equal(strlen(err.text), ERR_TEXT_BYTES - 1);

	err_prefix(&err, "disk");
	assert_int_equal(strlen(err.text), ERR_TEXT_BYTES - 1);
	assert_memory_equal(err.text, "disk: xxx", 9);

	err_set(&err, -EIO, "the end");
	err_prefix(&err, "%s", filler);
	assert_int_equal(strlen(err.text), ERR_TEXT_BYTES - 1);
	assert_int_equal(err.text[ERR_TEXT_BYTES - 2], 'x');
}

static void test_an_argument_may_be_the_old_text(void **state)
{
	struct err err;

	(void)state;
	err_set(&err, -EIO, "inner");
	err_set(&err, -EPERM, "outer: %s", err.text);
	assert_string_equal(err.text, "outer: inner");
	err_prefix(&err, "again %s", err.text);
	assert_string_equal(err.text, "again outer: inner: outer: inner");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_code_and_text_are_stored),
		cmocka_unit_test(test_null_gives_the_code_alone),
		cmocka_unit_test(test_prefix_goes_before),
		cmocka_unit_test(test_long_text_is_cut),
		cmocka_unit_test(test_an_argument_may_be_the_old_text),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
