/* SPDX-License-Identifier: MIT */
/* Names of exports, right and wrong. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <errno.h>
#include <string.h>

#include "nbd/nbd.h"

static void same(const char *is, const char *wanted)
{
	assert_int_equal(is == NULL, wanted == NULL);
	if (is != NULL)
		assert_string_equal(is, wanted);
}

struct wanted {
	const char *uri, *path, *host, *port, *export;
};

static void parsed(const char *name, struct wanted wanted)
{
	struct nbd_address a;

	assert_true(nbd_name_is(name));
	assert_int_equal(nbd_address_parse(name, &a, NULL), 0);
	same(a.uri, wanted.uri);
	same(a.path, wanted.path);
	same(a.host, wanted.host);
	same(a.port, wanted.port);
	same(a.export, wanted.export);
	nbd_address_fini(&a);
}

static void names_are_understood(void **state)
{
	(void)state;
	parsed("nbd://host/x", (struct wanted){.uri = "nbd://host/x"});
	parsed("nbds+unix:///?socket=/a", (struct wanted){.uri = "nbds+unix:///?socket=/a"});
	parsed("nbd:localhost:10809", (struct wanted){.host = "localhost", .port = "10809"});
	parsed("nbd::77", (struct wanted){.host = "localhost", .port = "77"});
	parsed("nbd:[::1]:77:exportname=a:b", (struct wanted){.host = "::1", .port = "77", .export = "a:b"});
	parsed("nbd:unix:/run/a b:exportname=", (struct wanted){.path = "/run/a b", .export = ""});
}

static void refused(const char *name, const char *says)
{
	struct nbd_address a;
	struct err err;

	assert_int_equal(nbd_address_parse(name, &a, &err), -EINVAL);
	assert_non_null(strstr(err.text, says));
	assert_null(a.uri);
	assert_null(a.host);
}

static void wrong_names_are_refused(void **state)
{
	(void)state;
	refused("nbd:", "which port");
	refused("nbd:localhost", "which port");
	refused("nbd:localhost:", "which port");
	refused("nbd:[::1]", "which port");
	refused("nbd:unix:", "which socket");
	assert_false(nbd_name_is("file.qcow2"));
	assert_false(nbd_name_is("http://x"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(names_are_understood),
		cmocka_unit_test(wrong_names_are_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
