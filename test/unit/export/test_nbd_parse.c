/* SPDX-License-Identifier: MIT */
/* The pure parsers of the NBD server, with every cut of a good option and with bytes at random. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/math.h"
#include "export/nbd/parse.h"

/* A copy in memory of exactly that size, so that a sanitizer sees who reads past it. */
static void *exact(const void *data, size_t len)
{
	void *copy = malloc(len > 0 ? len : 1);

	assert_non_null(copy);
	memcpy(copy, data, len);
	return copy;
}

static bool info_parses(const void *data, size_t len)
{
	void *copy = exact(data, len);
	struct nbd_info_query q;
	bool ok = nbd_parse_info(copy, len, &q);

	free(copy);
	return ok;
}

static bool meta_parses(const void *data, size_t len)
{
	void *copy = exact(data, len);
	struct nbd_meta_query q;
	bool ok = nbd_parse_meta(copy, len, &q);

	free(copy);
	return ok;
}

static void test_name(void **state)
{
	static char big[NBD_STRING_BYTES + 2];
	struct nbd_string s;

	(void)state;
	memset(big, 'n', sizeof(big));
	assert_true(nbd_parse_name("disk", 4, &s));
	assert_int_equal(s.len, 4);
	assert_true(nbd_parse_name("tapdisk\0", 8, &s));
	assert_int_equal(s.len, 7);
	assert_true(nbd_parse_name("", 0, &s));
	assert_int_equal(s.len, 0);
	assert_true(nbd_parse_name("\0", 1, &s));
	assert_int_equal(s.len, 0);
	assert_false(nbd_parse_name("a\0b", 3, &s));
	assert_false(nbd_parse_name("a\0\0", 3, &s));
	assert_true(nbd_parse_name(big, NBD_STRING_BYTES, &s));
	assert_false(nbd_parse_name(big, NBD_STRING_BYTES + 1, &s));
}

static const uint8_t go[] = {0, 0, 0, 3, 'a', 'b', 'c', 0, 3, 0, 3, 0, 1, 0x77, 0x77};

static void test_info(void **state)
{
	struct nbd_info_query q;

	(void)state;
	assert_true(nbd_parse_info(go, sizeof(go), &q));
	assert_int_equal(q.name.len, 3);
	assert_memory_equal(q.name.text, "abc", 3);
	assert_true(q.wants_block_size && q.wants_name && !q.wants_description);
	for (size_t len = 0; len < sizeof(go); len++)
		assert_false(info_parses(go, len));
	assert_false(info_parses("\0\0\0\3abc\0\3\0\3\0\1\0\2\0", 16)); /* a byte too many */
	assert_false(info_parses("\xff\xff\xff\xff\0\0", 6));
	assert_false(info_parses("\0\0\0\1a\xff\xff", 7));
}

static const uint8_t meta[] = "\0\0\0\1x\0\0\0\2\0\0\0\5base:\0\0\0\17base:allocation";

static void test_meta(void **state)
{
	size_t len = sizeof(meta) - 1;
	struct nbd_meta_query q;
	struct nbd_string s;

	(void)state;
	assert_true(nbd_parse_meta(meta, len, &q));
	assert_int_equal(q.queries, 2);
	assert_true(nbd_parse_meta_next(&q, &s) && s.len == 5 && memcmp(s.text, "base:", 5) == 0);
	assert_true(nbd_parse_meta_next(&q, &s) && s.len == 15 && memcmp(s.text, "base:allocation", 15) == 0);
	assert_false(nbd_parse_meta_next(&q, &s));
	for (size_t cut = 0; cut < len; cut++)
		assert_false(meta_parses(meta, cut));
	assert_false(meta_parses(meta, len + 1)); /* the NUL that C adds is a byte too many */
	assert_true(nbd_parse_meta("\0\0\0\0\0\0\0\0", 8, &q));
	assert_true(q.queries == 0 && !nbd_parse_meta_next(&q, &s));
	assert_true(nbd_parse_meta("\0\0\0\0\0\0\0\1\0\0\0\6qemu:x", 18, &q));
	assert_true(q.queries == 1 && nbd_parse_meta_next(&q, &s) && s.len == 6);
	assert_false(meta_parses("\0\0\0\0\xff\xff\xff\xff", 8));
	assert_false(meta_parses("\0\0\0\0\xff\xff\xff\xff\0\0\0\0", 12));
	assert_false(meta_parses("\0\0\0\0\0\0\0\1\xff\xff\xff\xff"
				 "x",
		13));
}

/* Whatever comes, the name lies within the bytes. */
static void test_random(void **state)
{
	unsigned seed = 1;

	(void)state;
	for (unsigned round = 0; round < 200000; round++) {
		uint8_t bytes[48];
		size_t len = rand_r(&seed) % sizeof(bytes);
		struct nbd_info_query i;
		struct nbd_meta_query m;

		for (size_t at = 0; at < len; at++)
			bytes[at] = rand_r(&seed) % 4 == 0 ? rand_r(&seed) : at % 4 == 3 ? rand_r(&seed) % 8 : 0;
		uint8_t *copy = exact(bytes, len);

		if (nbd_parse_info(copy, len, &i))
			assert_true(i.name.len <= len && (uint8_t *)i.name.text + i.name.len <= copy + len);
		if (nbd_parse_meta(copy, len, &m))
			assert_true(m.queries <= len / 4 && (uint8_t *)m.name.text + m.name.len <= copy + len);
		free(copy);
	}
}

static void test_request_parsing(void **state)
{
	struct nbd_request_wire wire = {
		.magic = be32_of(NBD_REQUEST_MAGIC),
		.flags = be16_of(5),
		.type = be16_of(3),
		.cookie = be64_of(77),
		.offset = be64_of(UINT64_MAX),
		.len = be32_of(9),
	};
	struct nbd_request req;

	(void)state;
	assert_int_equal(sizeof(wire), 28);
	assert_true(nbd_parse_request(&wire, &req));
	assert_true(req.flags == 5 && req.type == 3 && req.offset == UINT64_MAX && req.len == 9);
	assert_int_equal(be64_get(req.cookie), 77);
	wire.magic = be32_of(NBD_REQUEST_MAGIC + 1);
	assert_false(nbd_parse_request(&wire, &req));
}

static void test_extended_request(void **state)
{
	struct nbd_extended_request_wire wire = {
		.magic = be32_of(NBD_EXTENDED_REQUEST_MAGIC),
		.flags = be16_of(NBD_CMD_FLAG_PAYLOAD_LEN),
		.type = be16_of(NBD_CMD_BLOCK_STATUS),
		.cookie = be64_of(77),
		.offset = be64_of(UINT64_MAX),
		.len = be64_of(UINT64_C(1) << 40),
	};
	struct nbd_request req;

	(void)state;
	assert_true(nbd_parse_extended_request(&wire, &req));
	assert_true(req.type == NBD_CMD_BLOCK_STATUS && req.offset == UINT64_MAX && req.len == UINT64_C(1) << 40);
	assert_true(req.payload == req.len);
	wire.flags = be16_of(0);
	assert_true(nbd_parse_extended_request(&wire, &req) && req.payload == 0);
	wire.type = be16_of(NBD_CMD_WRITE);
	assert_true(nbd_parse_extended_request(&wire, &req) && req.payload == req.len);
	wire.magic = be32_of(NBD_REQUEST_MAGIC);
	assert_false(nbd_parse_extended_request(&wire, &req));
}

static void test_status_payload(void **state)
{
	static const uint8_t both[] = "\0\0\0\1\0\0\0\0\0\0\0\3\0\0\0\1";
	static const uint8_t twice[] = "\0\0\0\0\0\0\2\0\0\0\0\1\0\0\0\1";
	static const uint8_t zero[] = "\0\0\0\0\0\0\2\0\0\0\0\0";
	static const uint8_t high[] = "\0\0\0\0\0\0\2\0\0\0\0\x41";
	const struct nbd_terms t = {.contexts = 5};
	struct nbd_request req;

	(void)state;
	assert_true(nbd_parse_status_payload(&t, both, 16, &req));
	assert_true(req.len == UINT64_C(1) << 32 && req.contexts == 5);
	assert_true(nbd_parse_status_payload(&t, both, 8, &req) && req.contexts == 0);
	for (size_t cut = 0; cut < 16; cut++) {
		if (cut != 8 && cut != 12)
			assert_false(nbd_parse_status_payload(&t, both, cut, &req));
	}
	assert_false(nbd_parse_status_payload(&(struct nbd_terms){.contexts = 1}, both, 16, &req));
	assert_false(nbd_parse_status_payload(&t, twice, 16, &req));
	assert_false(nbd_parse_status_payload(&t, zero, 12, &req));
	assert_false(nbd_parse_status_payload(&(struct nbd_terms){.contexts = ~UINT64_C(0)}, high, 12, &req));
}

static bool matches(const char *context, const char *query, bool lists)
{
	return nbd_context_matches(context, (struct nbd_string){query, strlen(query)}, lists);
}

static void test_contexts(void **state)
{
	(void)state;
	assert_true(matches("base:allocation", "base:allocation", false));
	assert_false(matches("base:allocation", "base:alloc", true));
	assert_false(matches("base:allocation", "base:allocation2", true));
	assert_true(matches("base:allocation", "base:", true));
	assert_false(matches("base:allocation", "base:", false));
	assert_false(matches("base:allocation", "qemu:", true));
	assert_false(matches("base:allocation", "", true));
	assert_true(matches("qemu:dirty-bitmap:b", "qemu:", true));
	assert_true(matches("qemu:dirty-bitmap:b", "qemu:dirty-bitmap:", true));
	assert_false(matches("qemu:dirty-bitmap:b", "qemu:dirty-bitmap:", false));
	assert_true(matches("qemu:dirty-bitmap:b", "qemu:dirty-bitmap:b", false));
}

static enum nbd_error check(const struct nbd_terms *t, unsigned type, unsigned flags, uint64_t offset, uint64_t len)
{
	struct nbd_request req = {.type = type, .flags = flags, .offset = offset, .len = len, .contexts = t->contexts};

	return nbd_check_request(t, &req);
}

static void test_bounds(void **state)
{
	const struct nbd_terms t = {.size = 1 << 20, .structured = true, .contexts = 1};
	static const struct {
		unsigned type;
		enum nbd_error outside;
	} ranged[] = {
		{NBD_CMD_READ, NBD_EINVAL},
		{NBD_CMD_WRITE, NBD_ENOSPC},
		{NBD_CMD_TRIM, NBD_EINVAL},
		{NBD_CMD_CACHE, NBD_EINVAL},
		{NBD_CMD_WRITE_ZEROES, NBD_ENOSPC},
		{NBD_CMD_BLOCK_STATUS, NBD_EINVAL},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_ENTRIES(ranged); i++) {
		unsigned type = ranged[i].type;

		assert_int_equal(check(&t, type, 0, 0, 1 << 20), NBD_SUCCESS);
		assert_int_equal(check(&t, type, 0, (1 << 20) - 1, 1), NBD_SUCCESS);
		assert_int_equal(check(&t, type, 0, (1 << 20) - 1, 2), ranged[i].outside);
		assert_int_equal(check(&t, type, 0, 1 << 20, 1), ranged[i].outside);
		assert_int_equal(check(&t, type, 0, (1 << 20) + 1, 0), ranged[i].outside);
		assert_int_equal(check(&t, type, 0, UINT64_MAX, 1), ranged[i].outside);
		assert_int_equal(check(&t, type, 0, UINT64_MAX - 100, 4096), ranged[i].outside);
	}
	assert_int_equal(check(&t, NBD_CMD_READ, 0, 1 << 20, 0), NBD_SUCCESS);
	assert_int_equal(check(&t, NBD_CMD_BLOCK_STATUS, 0, 0, 0), NBD_EINVAL);
}

static void test_lengths(void **state)
{
	const struct nbd_terms t = {.size = UINT64_C(8) << 30, .structured = true, .contexts = 1};

	(void)state;
	assert_int_equal(check(&t, NBD_CMD_READ, 0, 0, NBD_PAYLOAD_BYTES), NBD_SUCCESS);
	assert_int_equal(check(&t, NBD_CMD_READ, 0, 0, NBD_PAYLOAD_BYTES + 1), NBD_EINVAL);
	assert_int_equal(check(&t, NBD_CMD_WRITE, 0, 0, NBD_PAYLOAD_BYTES + 1), NBD_EINVAL);
	assert_int_equal(check(&t, NBD_CMD_TRIM, 0, 0, UINT32_MAX), NBD_SUCCESS);
	assert_int_equal(check(&t, NBD_CMD_WRITE_ZEROES, 0, 0, UINT32_MAX), NBD_SUCCESS);
	assert_int_equal(check(&t, NBD_CMD_BLOCK_STATUS, 0, 0, UINT32_MAX), NBD_SUCCESS);
	assert_int_equal(check(&t, NBD_CMD_TRIM, 0, 0, UINT64_C(8) << 30), NBD_SUCCESS);
	assert_int_equal(check(&t, NBD_CMD_TRIM, 0, 1, UINT64_C(8) << 30), NBD_EINVAL);
	assert_int_equal(check(&t, NBD_CMD_READ, 0, 0, UINT64_C(1) << 32), NBD_EINVAL);
	assert_int_equal(check(&t, NBD_CMD_WRITE, 0, 0, (UINT64_C(1) << 32) + 512), NBD_EINVAL);
}

static void test_flags(void **state)
{
	const struct nbd_terms t = {.size = 4096, .structured = true, .contexts = 1}, simple = {.size = 4096};
	static const unsigned also[] = {
		[NBD_CMD_READ] = NBD_CMD_FLAG_DF,
		[NBD_CMD_BLOCK_STATUS] = NBD_CMD_FLAG_REQ_ONE,
		[NBD_CMD_WRITE_ZEROES] = NBD_CMD_FLAG_NO_HOLE | NBD_CMD_FLAG_FAST_ZERO,
	};

	(void)state;
	for (unsigned type = 0; type < 8; type++) {
		unsigned permitted = NBD_CMD_FLAG_FUA | also[type];

		for (unsigned bit = 0; bit < 16; bit++) {
			enum nbd_error want = permitted & 1u << bit ? NBD_SUCCESS : NBD_EINVAL;

			assert_int_equal(check(&t, type, 1u << bit, 0, 512), want);
		}
	}
	for (unsigned type = 0; type < 8; type++) {
		const struct nbd_terms extended = {.size = 4096, .contexts = 1, .structured = true, .extended = true};
		bool may = type == NBD_CMD_WRITE || type == NBD_CMD_BLOCK_STATUS;

		assert_int_equal(
			check(&extended, type, NBD_CMD_FLAG_PAYLOAD_LEN, 0, 512), may ? NBD_SUCCESS : NBD_EINVAL);
	}
	assert_int_equal(check(&simple, NBD_CMD_READ, NBD_CMD_FLAG_DF, 0, 512), NBD_EINVAL);
	assert_int_equal(check(&simple, NBD_CMD_BLOCK_STATUS, 0, 0, 512), NBD_EINVAL);
	assert_int_equal(check(&t, 8, 0, 0, 0), NBD_EINVAL);
	assert_int_equal(check(&t, UINT16_MAX, 0, 0, 0), NBD_EINVAL);
}

static void test_read_only(void **state)
{
	const struct nbd_terms t = {.size = 4096, .read_only = true};

	(void)state;
	assert_int_equal(check(&t, NBD_CMD_WRITE, 0, 0, 512), NBD_EPERM);
	assert_int_equal(check(&t, NBD_CMD_WRITE, 0, 4096, 512), NBD_EPERM);
	assert_int_equal(check(&t, NBD_CMD_TRIM, 0, 0, 512), NBD_EPERM);
	assert_int_equal(check(&t, NBD_CMD_WRITE_ZEROES, 0, 0, 512), NBD_EPERM);
	assert_int_equal(check(&t, NBD_CMD_READ, 0, 0, 512), NBD_SUCCESS);
	assert_int_equal(check(&t, NBD_CMD_FLUSH, 0, 0, 0), NBD_SUCCESS);
	assert_int_equal(check(&t, NBD_CMD_CACHE, 0, 0, 512), NBD_SUCCESS);
}

static void test_errors(void **state)
{
	(void)state;
	assert_int_equal(nbd_error_of(0), NBD_SUCCESS);
	assert_int_equal(nbd_error_of(-EROFS), NBD_EPERM);
	assert_int_equal(nbd_error_of(-ENOSPC), NBD_ENOSPC);
	assert_int_equal(nbd_error_of(-EDQUOT), NBD_ENOSPC);
	assert_int_equal(nbd_error_of(-EFBIG), NBD_ENOSPC);
	assert_int_equal(nbd_error_of(-ENOTSUP), NBD_EINVAL);
	assert_int_equal(nbd_error_of(-ENOMEM), NBD_ENOMEM);
	assert_int_equal(nbd_error_of(-ETIMEDOUT), NBD_EIO);
	assert_int_equal(nbd_error_of(-EIO), NBD_EIO);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_name),
		cmocka_unit_test(test_info),
		cmocka_unit_test(test_meta),
		cmocka_unit_test(test_random),
		cmocka_unit_test(test_request_parsing),
		cmocka_unit_test(test_extended_request),
		cmocka_unit_test(test_status_payload),
		cmocka_unit_test(test_contexts),
		cmocka_unit_test(test_bounds),
		cmocka_unit_test(test_lengths),
		cmocka_unit_test(test_flags),
		cmocka_unit_test(test_read_only),
		cmocka_unit_test(test_errors),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
