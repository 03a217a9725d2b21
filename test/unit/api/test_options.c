/* SPDX-License-Identifier: MIT */
/* Trees of options: what lists and names become, and what is refused. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <string.h>

#include "api/driver.h"

static json_t *from_list(const char *text)
{
	json_t *tree;
	struct err err;

	assert_int_equal(options_parse(text, &tree, &err), 0);
	return tree;
}

static json_t *from_name(const char *name)
{
	json_t *tree;
	struct err err;

	assert_int_equal(options_of_name(name, &tree, &err), 0);
	return tree;
}

static void is_text(const json_t *tree, const char *key, const char *value)
{
	assert_non_null(options_text(tree, key));
	assert_string_equal(options_text(tree, key), value);
}

static void test_lists(void **state)
{
	json_t *tree = from_list("driver=qcow2,file.driver=file,file.filename=a,,b=c,lazy-refcounts");

	(void)state;
	is_text(tree, "driver", "qcow2");
	is_text(tree, "file.driver", "file");
	is_text(tree, "file.filename", "a,b=c");
	is_text(tree, "lazy-refcounts", "on");
	assert_null(options_get(tree, "file.nothing"));
	assert_null(options_get(tree, "driver.below"));
	json_decref(tree);

	tree = from_list("x=1,x=2"); /* the last one counts */
	is_text(tree, "x", "2");
	json_decref(tree);
	tree = from_list("node");
	is_text(tree, "file", "node");
	json_decref(tree);
}

static void test_lists_refused(void **state)
{
	static const char *const lists[] = {"file=x,file.driver=raw", "a.b=1,a.b.c=2"};
	json_t *tree;
	struct err err;

	(void)state;
	for (unsigned i = 0; i < ARRAY_ENTRIES(lists); i++)
		assert_int_equal(options_parse(lists[i], &tree, &err), -EINVAL);
}

static void test_json(void **state)
{
	json_t *tree =
		from_name("json:{\"driver\":\"qcow2\",\"file.driver\":\"file\",\"file\":{\"filename\":\"x\"},\"n\":7}");

	(void)state;
	is_text(tree, "file.driver", "file");
	is_text(tree, "file.filename", "x");
	assert_int_equal(json_integer_value(options_get(tree, "n")), 7);
	json_decref(tree);

	tree = from_name("json:{'a':['x',{'b':'it\\'s \"q\"'}],'c':null,'d':true}");
	is_text(tree, "a.0", "x");
	is_text(tree, "a.1.b", "it's \"q\"");
	assert_true(json_is_null(options_get(tree, "c")));
	assert_true(json_is_true(options_get(tree, "d")));
	json_decref(tree);
}

static void test_json_refused(void **state)
{
	static const struct {
		const char *name, *says;
	} bad[] = {
		{"json:", "Expecting a JSON value"},
		{"json:{", "premature EOI"},
		{"json:{\"a\":1", "premature EOI"},
		{"json:[1]", "Invalid JSON object given"},
		{"json:7", "Invalid JSON object given"},
		{"json:{x}", "JSON parse error"},
		{"json:{\"a\":1,\"a.b\":2}", "has members"},
	};
	json_t *tree;
	struct err err;

	(void)state;
	for (unsigned i = 0; i < ARRAY_ENTRIES(bad); i++) {
		assert_int_equal(options_of_name(bad[i].name, &tree, &err), -EINVAL);
		assert_non_null(strstr(err.text, bad[i].says));
	}
}

static void test_names(void **state)
{
	static const struct {
		const char *name, *driver, *filename;
	} good[] = {
		{"a", "file", "a"},
		{"./a:b", "file", "./a:b"},
		{"/d/a:b", "file", "/d/a:b"},
		{"file:a", "file", "a"},
		{"file:a:b", "file", "a:b"},
		{"host_device:/dev/x", "host_device", "/dev/x"},
		{"\xff\xfe", "file", "\xff\xfe"}, /* a path is bytes */
		{"", "file", ""},
	};
	json_t *tree;
	struct err err;

	(void)state;
	for (unsigned i = 0; i < ARRAY_ENTRIES(good); i++) {
		tree = from_name(good[i].name);
		is_text(tree, "driver", good[i].driver);
		is_text(tree, "filename", good[i].filename);
		json_decref(tree);
	}
	assert_int_equal(options_of_name("nosuch:x", &tree, &err), -EINVAL);
	assert_string_equal(err.text, "Unknown protocol 'nosuch'");
}

static void test_getters(void **state)
{
	json_t *tree = from_name("json:{'on':'on','off':'off','true':true,'word':'maybe','n':4096,'k':'4k','neg':-1}");
	struct err err;
	uint64_t n = 1;
	bool on = true;

	(void)state;
	assert_int_equal(options_bool(tree, "nothing", &on, &err), 0);
	assert_true(on);
	assert_int_equal(options_bool(tree, "off", &on, &err), 0);
	assert_false(on);
	assert_int_equal(options_bool(tree, "on", &on, &err), 0);
	assert_true(on);
	on = false;
	assert_int_equal(options_bool(tree, "true", &on, &err), 0);
	assert_true(on);
	assert_int_equal(options_bool(tree, "word", &on, &err), -EINVAL);
	assert_int_equal(options_size(tree, "nothing", &n, &err), 0);
	assert_int_equal(n, 1);
	assert_int_equal(options_size(tree, "n", &n, &err), 0);
	assert_int_equal(n, 4096);
	assert_int_equal(options_size(tree, "k", &n, &err), 0);
	assert_int_equal(n, 4096);
	assert_int_equal(options_size(tree, "neg", &n, &err), -EINVAL);
	assert_int_equal(options_size(tree, "word", &n, &err), -EINVAL);
	json_decref(tree);
}

static void test_drivers_know_their_options(void **state)
{
	json_t *tree = from_list("driver=qcow2,l2-cache-size=1M,cache.direct=on,backing.driver=raw,file.driver=file");
	struct err err;

	(void)state;
	assert_int_equal(driver_options_check(&driver_qcow2, true, tree, &err), 0);
	assert_int_equal(driver_options_check(&driver_raw, true, tree, &err), -EINVAL);
	assert_non_null(strstr(err.text, "Block format 'raw' does not support the option"));
	assert_int_equal(options_set(tree, "cache.nonsense", json_true()), 0);
	assert_int_equal(driver_options_check(&driver_qcow2, true, tree, &err), -EINVAL);
	assert_string_equal(err.text, "Block format 'qcow2' does not support the option 'cache.nonsense'");
	json_decref(tree);
	for (unsigned i = 1; driver_name(i); i++)
		assert_true(strcmp(driver_name(i - 1), driver_name(i)) < 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_lists),
		cmocka_unit_test(test_lists_refused),
		cmocka_unit_test(test_json),
		cmocka_unit_test(test_json_refused),
		cmocka_unit_test(test_names),
		cmocka_unit_test(test_getters),
		cmocka_unit_test(test_drivers_know_their_options),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
