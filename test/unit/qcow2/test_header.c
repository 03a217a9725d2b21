/* SPDX-License-Identifier: MIT */
/* The header's parser: qcow2/header.h. Each rule is shown to be one by bending a good header against it. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/cleanup.h"
#include "base/math.h"
#include "qcow2/header.h"

#define CLUSTER 65536u
#define FILE_BYTES (10 * (uint64_t)CLUSTER)
#define NEVER 0xffffffffu

static struct qcow2_header good_header(unsigned version)
{
	return (struct qcow2_header){
		.version = version,
		.cluster_bits = 16,
		.refcount_order = 4,
		.size = 1 * GiB,
		.l1_entries = 2,
		.l1.off = 3 * CLUSTER,
		.reftable.off = CLUSTER,
		.reftable_clusters = 1,
		.backing_name = "base.img",
		.backing_format = "raw",
	};
}

static void good_bytes(unsigned version, uint8_t *bytes)
{
	struct qcow2_header h = good_header(version);
	struct err err = {0};

	assert_int_equal(qcow2_header_format(&h, bytes, CLUSTER, &err), 0);
}

static void put(uint8_t *at, uint64_t value, unsigned width)
{
	for (unsigned i = 0; i < width; i++)
		at[i] = (uint8_t)(value >> 8 * (width - 1 - i));
}

/* ---- what was written is read ---- */

static void test_formatted_header_is_parsed_back(void **state)
{
	(void)state;
	for (unsigned version = 2; version <= 3; version++) {
		struct qcow2_header want = good_header(version), got;
		uint8_t bytes[CLUSTER];
		struct err err = {0};

		good_bytes(version, bytes);
		assert_int_equal(qcow2_header_parse(bytes, sizeof(bytes), FILE_BYTES, &got, &err), 0);
		want.header_bytes = version == 2 ? 72 : 112;
		assert_memory_equal(&got, &want, sizeof(got));
	}
}

static void test_every_length_of_a_prefix_is_safe(void **state)
{
	uint8_t bytes[CLUSTER];

	(void)state;
	good_bytes(3, bytes);
	for (size_t len = 0; len < 1024; len++) {
		AUTO_FREE uint8_t *exact = malloc(len + 1); /* a tool that watches memory sees a read past it */
		struct qcow2_header h;
		int ret;

		assert_non_null(exact);
		memcpy(exact, bytes, len);
		ret = qcow2_header_parse(exact, len, FILE_BYTES, &h, NULL);
		if (len < 112)
			assert_int_equal(ret, -EINVAL);
	}
}

static void test_name_fills_the_cluster_or_is_refused(void **state)
{
	struct qcow2_header h = good_header(3), got;
	uint8_t bytes[1024];
	struct err err = {0};
	size_t room = sizeof(bytes) - 112 - 16 - 8;

	(void)state;
	h.cluster_bits = 10;
	h.l1.off = 3072;
	h.reftable.off = 1024;
	h.size = 128 * KiB;
	memset(h.backing_name, 'x', room);
	assert_int_equal(qcow2_header_format(&h, bytes, sizeof(bytes), &err), 0);
	assert_int_equal(qcow2_header_parse(bytes, sizeof(bytes), FILE_BYTES, &got, &err), 0);
	assert_string_equal(got.backing_name, h.backing_name);
	h.backing_name[room] = 'x';
	assert_int_equal(qcow2_header_format(&h, bytes, sizeof(bytes), &err), -ENAMETOOLONG);
}

static void test_patch_changes_only_what_may_change(void **state)
{
	uint8_t before[CLUSTER], after[CLUSTER];
	struct qcow2_header h, got;

	(void)state;
	good_bytes(3, before);
	before[108] = 0x55; /* a field of a later version, in what is padding to us */
	memcpy(after, before, sizeof(after));
	assert_int_equal(qcow2_header_parse(before, CLUSTER, FILE_BYTES, &h, NULL), 0);
	h.size = 512 * MiB;
	h.l1_entries = 1;
	h.l1.off = 5 * CLUSTER;
	h.reftable.off = 7 * CLUSTER;
	h.reftable_clusters = 2;
	h.incompatible = QCOW2_INCOMPAT_DIRTY;
	h.compatible = UINT64_C(1) << 40;
	h.autoclear = 0;
	qcow2_header_patch(&h, after);
	assert_int_equal(qcow2_header_parse(after, CLUSTER, FILE_BYTES, &got, NULL), 0);
	assert_memory_equal(&got, &h, sizeof(got));
	assert_int_equal(after[108], 0x55);
	assert_memory_equal(after + 112, before + 112, CLUSTER - 112);
}

static void test_patch_of_version_2_ends_with_its_header(void **state)
{
	uint8_t bytes[CLUSTER], before[CLUSTER];
	struct qcow2_header h;

	(void)state;
	good_bytes(2, bytes);
	memcpy(before, bytes, sizeof(before));
	assert_int_equal(qcow2_header_parse(bytes, CLUSTER, FILE_BYTES, &h, NULL), 0);
	h.size = 5 * MiB;
	h.incompatible = h.compatible = h.autoclear = UINT64_MAX;
	qcow2_header_patch(&h, bytes);
	assert_memory_equal(bytes + 72, before + 72, CLUSTER - 72);
	assert_memory_not_equal(bytes, before, 72);
}

/* ---- rules ---- */

struct bend {
	unsigned at, width;
	uint64_t value;
	int code;
	const char *says;
	unsigned version; /* 0: 3 */
};

enum { EXT = 112 }; /* the first extension: backing format; 16 bytes; the next: feature names */

static const struct bend bends[] = {
	{0, 4, 0x514649fa, -EINVAL, "Image is not in qcow2 format", 0},
	{4, 4, 1, -ENOTSUP, "version 1", 0},
	{4, 4, 4, -ENOTSUP, "version 4", 0},
	{20, 4, 8, -EINVAL, "cluster_bits", 0},
	{20, 4, 22, -EINVAL, "cluster_bits", 0},
	{20, 4, NEVER, -EINVAL, "cluster_bits", 0},
	{96, 4, 7, -EINVAL, "refcount_order", 0},
	{100, 4, 103, -EINVAL, "header_length", 0},
	{100, 4, 109, -EINVAL, "header_length", 0},
	{100, 4, CLUSTER + 8, -EINVAL, "header_length", 0},
	{100, 4, 0xfffffff8u, -EINVAL, "header_length", 0},
	/* features that must agree with other fields */
	{72, 8, QCOW2_INCOMPAT_COMPRESSION, -EINVAL, "compression type", 0},
	{104, 1, 1, -EINVAL, "compression type", 0},
	{88, 8, QCOW2_AUTOCLEAR_DATA_FILE_RAW, -EINVAL, "raw external data", 0},
	{88, 8, QCOW2_AUTOCLEAR_BITMAPS, -EINVAL, "no bitmaps extension", 0},
	{32, 4, 3, -ENOTSUP, "encryption method 3", 0},
	{32, 4, QCOW2_CRYPT_LUKS, -EINVAL, "LUKS", 0},
	/* sizes */
	{36, 4, (32u << 20) / 8 + 1, -EFBIG, "L1 table", 0},
	{36, 4, 1, -EINVAL, "needs 2", 0},
	{24, 8, GiB + 1, -EINVAL, "needs 3", 0},
	{24, 8, UINT64_MAX, -EINVAL, "needs", 0},
	{56, 4, 0, -EINVAL, "no refcount table", 0},
	{56, 4, 129, -EFBIG, "refcount table", 0},
	{60, 4, 65537, -EFBIG, "65537 snapshots", 0},
	/* places */
	{40, 8, 3 * CLUSTER + 512, -EINVAL, "cluster boundary", 0},
	{40, 8, 0, -EINVAL, "lies at 0", 0},
	{40, 8, FILE_BYTES, -EINVAL, "beyond the end", 0},
	{40, 8, UINT64_MAX - CLUSTER + 1, -EINVAL, "beyond the end", 0},
	{40, 8, CLUSTER, -EINVAL, "overlaps", 0},
	{48, 8, CLUSTER + 8, -EINVAL, "cluster boundary", 0},
	{48, 8, 0, -EINVAL, "lies at 0", 0},
	{48, 8, 1 * TiB, -EINVAL, "beyond the end", 0},
	{56, 4, 3, -EINVAL, "overlaps", 0},
	{56, 4, 10, -EINVAL, "beyond the end", 0},
	{60, 4, 1, -EINVAL, "lies at 0", 0},
	/* the backing name */
	{8, 8, 100, -EINVAL, "outside of the first cluster", 0},
	{8, 8, CLUSTER + 1, -EINVAL, "outside of the first cluster", 0},
	{8, 8, UINT64_MAX, -EINVAL, "outside of the first cluster", 0},
	{8, 8, CLUSTER - 4, -EINVAL, "leaves the first cluster", 0},
	{16, 4, 1024, -EINVAL, "the most is 1023", 0},
	{16, 4, NEVER, -EINVAL, "the most is 1023", 0},
	{16, 4, 12, -EINVAL, "NUL", 0},
	/* extensions */
	{EXT + 4, 4, NEVER, -EINVAL, "claims", 0},
	{EXT + 4, 4, 1000, -EINVAL, "claims", 0},
	{EXT + 4, 4, 64, -EINVAL, "more than the 63", 0},
	{EXT + 9, 1, 0, -EINVAL, "NUL", 0},
	{EXT + 16, 4, QCOW2_EXT_BACKING_FORMAT, -EINVAL, "twice", 0},
	{EXT, 4, QCOW2_EXT_FEATURE_NAMES, -EINVAL, "twice", 0},
	{EXT, 4, QCOW2_EXT_CRYPTO, -EINVAL, "isn't encrypted", 0},
	/* version 2 has the same rules, in a shorter header */
	{20, 4, 22, -EINVAL, "cluster_bits", 2},
	{8, 8, 71, -EINVAL, "outside of the first cluster", 2},
	{72 + 4, 4, 1000, -EINVAL, "claims", 2},
};

static void test_bent_headers_are_refused(void **state)
{
	(void)state;
	for (unsigned i = 0; i < ARRAY_ENTRIES(bends); i++) {
		const struct bend *b = &bends[i];
		uint8_t bytes[CLUSTER];
		struct qcow2_header h;
		struct err err = {0};
		int ret;

		good_bytes(b->version ? b->version : 3, bytes);
		put(bytes + b->at, b->value, b->width);
		ret = qcow2_header_parse(bytes, sizeof(bytes), FILE_BYTES, &h, &err);
		if (ret != b->code || !strstr(err.text, b->says))
			fail_msg("%u := %#llx: %d, '%s'; expected %d, '%s'", b->at, (unsigned long long)b->value, ret,
				err.text, b->code, b->says);
	}
}

/* Rules that two fields break together. */
static void test_fields_that_disagree_are_refused(void **state)
{
	static const struct {
		struct {
			unsigned at, width;
			uint64_t value;
		} a, b;
		int code;
		const char *says;
	} pairs[] = {
		{{72, 8, QCOW2_INCOMPAT_COMPRESSION}, {104, 1, 1}, 0, ""},
		{{72, 8, QCOW2_INCOMPAT_COMPRESSION}, {104, 1, 2}, -ENOTSUP, "compression type 2"},
		{{72, 8, QCOW2_INCOMPAT_EXTENDED_L2}, {20, 4, 13}, -EINVAL, "16 KiB"},
		{{72, 8, QCOW2_INCOMPAT_EXTENDED_L2}, {24, 8, GiB / 2}, 0, ""},
		{{72, 8, QCOW2_INCOMPAT_EXTENDED_L2}, {24, 8, GiB}, -EINVAL, "needs 4"},
		{{72, 8, QCOW2_INCOMPAT_DATA_FILE}, {88, 8, QCOW2_AUTOCLEAR_DATA_FILE_RAW}, -EINVAL, "backing file"},
		{{60, 4, 1}, {64, 8, 3 * CLUSTER}, -EINVAL, "overlaps the L1 table"},
		{{60, 4, 1}, {64, 8, 4 * CLUSTER}, 0, ""},
		{{60, 4, 65536}, {64, 8, 4 * CLUSTER}, -EINVAL, "beyond the end"},
		{{60, 4, 1}, {64, 8, 4 * CLUSTER + 40}, -EINVAL, "cluster boundary"},
		{{36, 4, 0}, {40, 8, 0}, -EINVAL, "needs 2"},
		{{16, 4, 1023}, {8, 8, CLUSTER - 1000}, -EINVAL, "leaves the first cluster"},
	};

	(void)state;
	for (unsigned i = 0; i < ARRAY_ENTRIES(pairs); i++) {
		uint8_t bytes[CLUSTER];
		struct qcow2_header h;
		struct err err = {0};
		int ret;

		good_bytes(3, bytes);
		put(bytes + pairs[i].a.at, pairs[i].a.value, pairs[i].a.width);
		put(bytes + pairs[i].b.at, pairs[i].b.value, pairs[i].b.width);
		ret = qcow2_header_parse(bytes, sizeof(bytes), FILE_BYTES, &h, &err);
		if (ret != pairs[i].code || !strstr(err.text, pairs[i].says))
			fail_msg(
				"pair %u: %d, '%s'; expected %d, '%s'", i, ret, err.text, pairs[i].code, pairs[i].says);
	}
}

static void test_what_may_be_odd_is_accepted(void **state)
{
	static const struct bend odd[] = {
		{100, 4, 104, 0, "", 0},              /* a header without a compression type */
		{72, 8, UINT64_C(1) << 63, 0, "", 0}, /* check_features' business */
		{80, 8, UINT64_MAX, 0, "", 0},        /* unknown compatible features */
		{88, 8, UINT64_C(1) << 62, 0, "", 0}, /* unknown autoclear features */
		{EXT, 4, 0x12345678, 0, "", 0},       /* an unknown extension */
		{36, 4, 100, 0, "", 0},               /* an L1 table longer than needed */
		{64, 8, 12345, 0, "", 0},             /* the place of no snapshots */
		{24, 8, 12345, 0, "", 0},             /* a size that isn't whole sectors */
		{16, 4, 0, 0, "", 0},                 /* a name of no length is none */
	};

	(void)state;
	for (unsigned i = 0; i < ARRAY_ENTRIES(odd); i++) {
		uint8_t bytes[CLUSTER];
		struct qcow2_header h;
		struct err err = {0};

		good_bytes(3, bytes);
		if (odd[i].at == 100)
			memset(bytes + 104, 0, sizeof(bytes) - 104), put(bytes + 8, 0, 8);
		put(bytes + odd[i].at, odd[i].value, odd[i].width);
		if (qcow2_header_parse(bytes, sizeof(bytes), FILE_BYTES, &h, &err) != 0)
			fail_msg("%u := %#llx: %s", odd[i].at, (unsigned long long)odd[i].value, err.text);
	}
}

/* ---- extensions with tables of their own ---- */

/* Puts an extension where the backing format was, pushed to be the only one. */
static void only_extension(uint8_t *bytes, uint32_t type, const void *data, size_t len)
{
	put(bytes + 8, 0, 8);
	memset(bytes + EXT, 0, CLUSTER - EXT);
	put(bytes + EXT, type, 4);
	put(bytes + EXT + 4, len, 4);
	memcpy(bytes + EXT + 8, data, len);
}

static int bitmaps_parse(uint32_t n, uint32_t reserved, uint64_t bytes_claimed, uint64_t at, size_t len,
	struct qcow2_header *h, struct err *err)
{
	uint8_t bytes[CLUSTER], data[32] = {0};

	good_bytes(3, bytes);
	put(data, n, 4);
	put(data + 4, reserved, 4);
	put(data + 8, bytes_claimed, 8);
	put(data + 16, at, 8);
	only_extension(bytes, QCOW2_EXT_BITMAPS, data, len);
	put(bytes + 88, QCOW2_AUTOCLEAR_BITMAPS, 8);
	return qcow2_header_parse(bytes, sizeof(bytes), FILE_BYTES, h, err);
}

static void test_bitmaps_extension(void **state)
{
	struct qcow2_header h;
	struct err err = {0};

	(void)state;
	assert_int_equal(bitmaps_parse(2, 0, 64, 5 * CLUSTER, 24, &h, &err), 0);
	assert_int_equal(h.bitmaps, 2);
	assert_int_equal(h.bitmap_directory.off, 5 * CLUSTER);
	assert_int_equal(h.bitmap_directory_bytes, 64);
	assert_int_equal(bitmaps_parse(0, 0, 64, 5 * CLUSTER, 24, &h, &err), -EINVAL);
	assert_int_equal(bitmaps_parse(65536, 0, 64, 5 * CLUSTER, 24, &h, &err), -EINVAL);
	assert_int_equal(bitmaps_parse(1, 1, 64, 5 * CLUSTER, 24, &h, &err), -EINVAL);
	assert_int_equal(bitmaps_parse(1, 0, 0, 5 * CLUSTER, 24, &h, &err), -EINVAL);
	assert_int_equal(bitmaps_parse(1, 0, 64 * MiB + 1, 5 * CLUSTER, 24, &h, &err), -EINVAL);
	assert_int_equal(bitmaps_parse(1, 0, 64, 5 * CLUSTER + 8, 24, &h, &err), -EINVAL);
	assert_int_equal(bitmaps_parse(1, 0, 64, 0, 24, &h, &err), -EINVAL);
	assert_int_equal(bitmaps_parse(1, 0, 64, 3 * CLUSTER, 24, &h, &err), -EINVAL);
	assert_non_null(strstr(err.text, "overlaps the L1 table"));
	assert_int_equal(bitmaps_parse(1, 0, 64, FILE_BYTES - CLUSTER + CLUSTER, 24, &h, &err), -EINVAL);
	assert_int_equal(bitmaps_parse(1, 0, 64, 5 * CLUSTER, 16, &h, &err), -EINVAL);
	assert_int_equal(bitmaps_parse(1, 0, 64, 5 * CLUSTER, 32, &h, &err), -EINVAL);
}

static int crypto_parse(uint64_t at, uint64_t bytes_claimed, size_t len, struct qcow2_header *h, struct err *err)
{
	uint8_t bytes[CLUSTER], data[24] = {0};

	good_bytes(3, bytes);
	put(data, at, 8);
	put(data + 8, bytes_claimed, 8);
	only_extension(bytes, QCOW2_EXT_CRYPTO, data, len);
	put(bytes + 32, QCOW2_CRYPT_LUKS, 4);
	return qcow2_header_parse(bytes, sizeof(bytes), FILE_BYTES, h, err);
}

static void test_encryption_extension(void **state)
{
	struct qcow2_header h;
	struct err err = {0};

	(void)state;
	assert_int_equal(crypto_parse(6 * CLUSTER, 2 * CLUSTER + 1, 16, &h, &err), 0);
	assert_int_equal(h.crypto.off, 6 * CLUSTER);
	assert_int_equal(h.crypto_bytes, 2 * CLUSTER + 1);
	assert_int_equal(crypto_parse(6 * CLUSTER, 0, 16, &h, &err), -EINVAL);
	assert_int_equal(crypto_parse(6 * CLUSTER, UINT64_MAX, 16, &h, &err), -EINVAL);
	assert_int_equal(crypto_parse(6 * CLUSTER + 1, 512, 16, &h, &err), -EINVAL);
	assert_int_equal(crypto_parse(0, 512, 16, &h, &err), -EINVAL);
	assert_int_equal(crypto_parse(6 * CLUSTER, 512, 8, &h, &err), -EINVAL);
	assert_int_equal(crypto_parse(CLUSTER, 512, 16, &h, &err), -EINVAL);
}

/* ---- features ---- */

static void test_unknown_features_are_named(void **state)
{
	uint8_t bytes[CLUSTER];
	struct qcow2_header h;
	struct err err = {0};

	(void)state;
	good_bytes(3, bytes);
	put(bytes + 72, UINT64_C(1) << 41 | 1 << 7 | QCOW2_INCOMPAT_DIRTY | QCOW2_INCOMPAT_CORRUPT, 8);
	/* The first name in the image's own table becomes that of bit 7. */
	bytes[EXT + 16 + 8 + 1] = 7;
	memcpy(bytes + EXT + 16 + 8 + 2, "time travel", 12);
	assert_int_equal(qcow2_header_parse(bytes, CLUSTER, FILE_BYTES, &h, &err), 0);
	assert_int_equal(qcow2_header_check_features(h.incompatible, bytes, CLUSTER, &err), 0);
	assert_int_equal(qcow2_header_check_features(QCOW2_INCOMPAT_DIRTY, bytes, CLUSTER, &err), -ENOTSUP);
	assert_non_null(strstr(err.text, "corrupt bit (bit 1)"));
	assert_non_null(strstr(err.text, "time travel (bit 7)"));
	assert_non_null(strstr(err.text, "(bit 41)"));
	assert_null(strstr(err.text, "(bit 0)"));
	/* Without a table of its own, ours tells. */
	memset(bytes + EXT, 0, 8);
	assert_int_equal(qcow2_header_check_features(0, bytes, CLUSTER, &err), -ENOTSUP);
	assert_non_null(strstr(err.text, "dirty bit (bit 0)"));
	/* They are told of a header that is malformed otherwise: they may be why. */
	put(bytes + 40, 3, 8);
	assert_int_equal(qcow2_header_parse(bytes, CLUSTER, FILE_BYTES, &h, &err), -EINVAL);
	for (unsigned i = 8; i < 112; i++) {
		uint8_t was = bytes[i];

		bytes[i] = 0xff;
		assert_int_equal(qcow2_header_check_features(0, bytes, CLUSTER, &err), -ENOTSUP);
		bytes[i] = was;
	}
	/* Version 2 has no features, whatever lies there. */
	bytes[7] = 2;
	assert_int_equal(qcow2_header_check_features(0, bytes, CLUSTER, &err), 0);
}

/* ---- anything at all ---- */

static bool apart(uint64_t a, uint64_t a_len, uint64_t b, uint64_t b_len)
{
	return !ranges_overlap(a, a_len, b, b_len);
}

/* What the engine takes for granted of a header that was accepted. */
static void assert_sane(const struct qcow2_header *h, uint64_t file_bytes)
{
	uint64_t cluster = UINT64_C(1) << h->cluster_bits, l1 = UINT64_C(8) * h->l1_entries;

	assert_true(h->cluster_bits >= 9 && h->cluster_bits <= 21 && h->refcount_order <= 6);
	assert_true(l1 == 0 || (h->l1.off >= cluster && h->l1.off % cluster == 0 && h->l1.off + l1 <= file_bytes));
	assert_true(h->reftable.off >= cluster && h->reftable.off % cluster == 0);
	assert_true(h->reftable.off + h->reftable_clusters * cluster <= file_bytes);
	assert_true(apart(h->l1.off, l1, h->reftable.off, h->reftable_clusters * cluster));
	assert_true(h->snapshots == 0 || h->snapshots_at.off + 40 * (uint64_t)h->snapshots <= file_bytes);
	assert_true(strlen(h->backing_name) <= QCOW2_MAX_BACKING_NAME);
}

static void test_random_damage_is_survived(void **state)
{
	unsigned seed = 1, accepted = 0;

	(void)state;
	for (unsigned round = 0; round < 200000; round++) {
		static uint8_t bytes[CLUSTER];
		struct qcow2_header h;

		if (round % 64 == 0)
			good_bytes(2 + round / 64 % 2, bytes);
		for (unsigned n = 1 + (unsigned)rand_r(&seed) % 3; n > 0; n--)
			bytes[(unsigned)rand_r(&seed) % (round % 2 ? 128 : 560)] = (uint8_t)(rand_r(&seed) >> 3);
		if (qcow2_header_parse(bytes, CLUSTER, FILE_BYTES, &h, NULL) != 0) {
			(void)!qcow2_header_check_features(0, bytes, CLUSTER, NULL);
			good_bytes(2 + round / 64 % 2, bytes);
			continue;
		}
		accepted++;
		assert_sane(&h, FILE_BYTES);
		(void)!qcow2_header_check_features(0, bytes, CLUSTER, NULL);
	}
	assert_true(accepted > 1000);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_formatted_header_is_parsed_back),
		cmocka_unit_test(test_every_length_of_a_prefix_is_safe),
		cmocka_unit_test(test_name_fills_the_cluster_or_is_refused),
		cmocka_unit_test(test_patch_changes_only_what_may_change),
		cmocka_unit_test(test_patch_of_version_2_ends_with_its_header),
		cmocka_unit_test(test_bent_headers_are_refused),
		cmocka_unit_test(test_fields_that_disagree_are_refused),
		cmocka_unit_test(test_what_may_be_odd_is_accepted),
		cmocka_unit_test(test_bitmaps_extension),
		cmocka_unit_test(test_encryption_extension),
		cmocka_unit_test(test_unknown_features_are_named),
		cmocka_unit_test(test_random_damage_is_survived),
	};

	return cmocka_run_group_tests_name("qcow2 header", tests, NULL, NULL);
}
