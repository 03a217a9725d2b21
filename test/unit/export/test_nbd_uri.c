/* SPDX-License-Identifier: MIT */
/* URIs of NBD exports. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdlib.h>

#include "export/nbd/uri.h"

static void check(const char *address, const char *name, const char *expected)
{
	char *uri = nbd_uri(address, name, false);

	assert_string_equal(uri, expected);
	free(uri);
}

static void test_uris(void **state)
{
	(void)state;
	check("unix:/run/a.sock", "", "nbd+unix:///?socket=/run/a.sock");
	check("unix:a b&c", "x?y#z/1", "nbd+unix:///x%3Fy%23z/1?socket=a%20b%26c");
	check("127.0.0.1:10809", "disk", "nbd://127.0.0.1:10809/disk");
	char *tls = nbd_uri("unix:a", "b", true);

	assert_string_equal(tls, "nbds+unix:///b?socket=a");
	free(tls);
	check("[::1]:80", "\xc3\xa4", "nbd://[::1]:80/%C3%A4");
}

int main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(test_uris)};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
