/* SPDX-License-Identifier: MIT */
/* LUKS headers: what is written is read, what is hostile is refused, and only the passphrase opens a slot. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "base/endian.h"
#include "crypto/luks.h"

#define REGION (4 << 20)

static const struct crypto_spec specs[] = {
	{.alg = CRYPTO_AES_256, .mode = CRYPTO_XTS, .ivgen = CRYPTO_PLAIN64},
	{.alg = CRYPTO_AES_192, .mode = CRYPTO_CBC, .ivgen = CRYPTO_PLAIN},
	{.alg = CRYPTO_CAST5_128, .mode = CRYPTO_CBC, .ivgen = CRYPTO_PLAIN64},
	{.alg = CRYPTO_SERPENT_128,
		.mode = CRYPTO_XTS,
		.ivgen = CRYPTO_PLAIN64,
		.has_iv_hash = true,
		.iv_hash = CRYPTO_MD5},
	{.alg = CRYPTO_TWOFISH_256,
		.mode = CRYPTO_CBC,
		.ivgen = CRYPTO_ESSIV,
		.has_iv_hash = true,
		.iv_hash = CRYPTO_SHA256},
};

static struct crypto_secret secret(const char *text) { return (struct crypto_secret){text, strlen(text)}; }

static void slot_make(struct luks *l, unsigned i, const char *pass, const uint8_t *key, uint8_t *material)
{
	l->slot[i].active = true;
	l->slot[i].iterations = 3 + i;
	memset(l->slot[i].salt, (int)i, LUKS_SALT_BYTES);
	assert_int_equal(luks_lock(l, &l->slot[i], secret(pass), key, material), 0);
}

static void luks_make(struct luks *l, const struct crypto_spec *spec, enum crypto_hash hash, const uint8_t *key)
{
	luks_lay_out(l, spec, hash);
	l->iterations = 2;
	memset(l->salt, 0x77, sizeof(l->salt));
	strcpy(l->uuid, "f995c926-fc6a-4e23-8c28-57e6e92ddda1");
	assert_int_equal(luks_digest(l, key, l->digest), 0);
}

static void test_header_comes_back(void **state)
{
	uint8_t key[CRYPTO_MOST_KEY_BYTES] = {1, 2, 3}, bytes[LUKS_HEADER_BYTES], *material = malloc(REGION);
	struct luks made, read;

	(void)state;
	for (unsigned i = 0; i < sizeof(specs) / sizeof(specs[0]); i++) {
		luks_make(&made, &specs[i], CRYPTO_SHA512, key);
		slot_make(&made, 6, "six", key, material);
		luks_format(&made, bytes);
		memset(&read, 0xee, sizeof(read));
		assert_int_equal(luks_parse(bytes, made.payload_offset, &read, NULL), 0);
		assert_int_equal(read.spec.alg, made.spec.alg);
		assert_int_equal(read.spec.mode, made.spec.mode);
		assert_int_equal(read.spec.ivgen, made.spec.ivgen);
		assert_int_equal(read.spec.has_iv_hash, made.spec.has_iv_hash);
		assert_int_equal(read.hash, made.hash);
		assert_int_equal(read.key_bytes, made.key_bytes);
		assert_int_equal(read.payload_offset, made.payload_offset);
		assert_int_equal(read.iterations, made.iterations);
		assert_string_equal(read.uuid, made.uuid);
		assert_memory_equal(read.digest, made.digest, sizeof(made.digest));
		assert_memory_equal(read.salt, made.salt, sizeof(made.salt));
		assert_memory_equal(read.slot, made.slot, sizeof(made.slot));
	}
	free(material);
}

/* As QEMU and cryptsetup have it for a key of 64 bytes. */
static void test_layout(void **state)
{
	struct luks l;

	(void)state;
	luks_lay_out(&l, &specs[0], CRYPTO_SHA256);
	assert_int_equal(l.slot[0].offset, 4096);
	assert_int_equal(l.slot[1].offset, 262144);
	assert_int_equal(l.slot[7].offset, 1810432);
	assert_int_equal(l.payload_offset, 2068480);
}

static void test_only_the_passphrase_opens(void **state)
{
	uint8_t *material = malloc(REGION), *copy = malloc(REGION);

	(void)state;
	for (unsigned i = 0; i < sizeof(specs) / sizeof(specs[0]); i++) {
		uint8_t key[CRYPTO_MOST_KEY_BYTES], got[CRYPTO_MOST_KEY_BYTES];
		struct luks l;
		size_t n;

		assert_int_equal(crypto_random(key, sizeof(key)), 0);
		luks_make(&l, &specs[i], (enum crypto_hash)(i % CRYPTO_HASHES), key);
		slot_make(&l, 2, "open sesame", key, material);
		n = luks_material_bytes(&l, &l.slot[2]);

		memcpy(copy, material, n);
		assert_int_equal(luks_unlock(&l, &l.slot[2], secret("open sesame"), copy, got), 0);
		assert_memory_equal(got, key, l.key_bytes);
		memcpy(copy, material, n);
		assert_int_equal(luks_unlock(&l, &l.slot[2], secret("open sesam"), copy, got), -EACCES);
		memcpy(copy, material, n);
		copy[n / 2] ^= 1;
		assert_int_equal(luks_unlock(&l, &l.slot[2], secret("open sesame"), copy, got), -EACCES);
		memcpy(copy, material, n);
		copy[n - 1] ^= 0x80;
		assert_int_equal(luks_unlock(&l, &l.slot[2], secret("open sesame"), copy, got), -EACCES);
	}
	free(material);
	free(copy);
}

/* ---- hostile headers ---- */

enum width { TEXT, U16, U32 };

struct damage {
	size_t at;
	enum width width;
	uint32_t value;
	const char *text;
	int code;
	const char *why;
};

static const struct damage damages[] = {
	{0, TEXT, 0, "QUKS", -EINVAL, "not in LUKS format"},
	{6, U16, 2, NULL, -ENOTSUP, "version 2"},
	{8, TEXT, 0, "ase", -ENOTSUP, "'ase' with key size 64"},
	{8, TEXT, 0, "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx", -EINVAL, "not NUL terminated"},
	{8, TEXT, 0, "a\033[2J", -EINVAL, "no name has"},
	{40, TEXT, 0, "xtsplain", -EINVAL, "cipher mode string"},
	{40, TEXT, 0, "lrw-plain64", -ENOTSUP, "Cipher mode 'lrw'"},
	{40, TEXT, 0, "xts-benbi", -ENOTSUP, "IV generator 'benbi'"},
	{40, TEXT, 0, "xts-essiv:sha3", -ENOTSUP, "'sha3'"},
	{72, TEXT, 0, "whirlpool", -ENOTSUP, "'whirlpool'"},
	{108, U32, 63, NULL, -ENOTSUP, "key size 63"},
	{108, U32, 0, NULL, -ENOTSUP, "key size 0"},
	{108, U32, 0xffffffff, NULL, -ENOTSUP, "key size"},
	{164, U32, 0, NULL, -EINVAL, "iteration count is zero"},
	{164, U32, 0xffffffff, NULL, -EFBIG, "4294967295 iterations"},
	{LUKS_SLOT_AT(0), U32, 1, NULL, -EINVAL, "state"},
	{LUKS_SLOT_AT(7), U32, 0, NULL, -EINVAL, "Keyslot 7 state"},
	{LUKS_SLOT_AT(0) + 4, U32, 0, NULL, -EINVAL, "iteration count is zero"},
	{LUKS_SLOT_AT(0) + 4, U32, LUKS_MOST_ITERATIONS + 1, NULL, -EFBIG, "Keyslot 0 claims"},
	{LUKS_SLOT_AT(0) + 40, U32, 1, NULL, -EINVAL, "overlapping the LUKS header"},
	{LUKS_SLOT_AT(0) + 40, U32, 4040 - 499, NULL, -EINVAL, "leaves the encryption header"},
	{LUKS_SLOT_AT(0) + 40, U32, 0xffffffff, NULL, -EINVAL, "leaves the encryption header"},
	{LUKS_SLOT_AT(0) + 40, U32, 512 + 499, NULL, -EINVAL, "Keyslots 0 and 1 are overlapping"},
	{LUKS_SLOT_AT(0) + 44, U32, 0, NULL, -EINVAL, "stripes count 0"},
	{LUKS_SLOT_AT(0) + 44, U32, 4001, NULL, -EINVAL, "stripes count 4001"},
	{LUKS_SLOT_AT(0) + 44, U32, 0xffffffff, NULL, -EINVAL, "stripes count"},
};

static void damage_do(const struct damage *d, uint8_t *bytes)
{
	switch (d->width) {
	case TEXT: memcpy(bytes + d->at, d->text, strlen(d->text) + (strlen(d->text) < 32)); break;
	case U16: memcpy(bytes + d->at, &(be16){htobe16((uint16_t)d->value)}, 2); break;
	case U32: memcpy(bytes + d->at, &(be32){htobe32(d->value)}, 4); break;
	}
}

static void test_hostile_headers(void **state)
{
	uint8_t bytes[LUKS_HEADER_BYTES];
	struct luks good, l;

	(void)state;
	luks_lay_out(&good, &specs[0], CRYPTO_SHA256);
	good.iterations = 1000;
	good.slot[0].active = good.slot[1].active = true;
	good.slot[0].iterations = good.slot[1].iterations = 1000;
	for (unsigned i = 0; i < sizeof(damages) / sizeof(damages[0]); i++) {
		const struct damage *d = &damages[i];
		struct err err = {0};

		luks_format(&good, bytes);
		assert_int_equal(luks_parse(bytes, good.payload_offset, &l, &err), 0);
		damage_do(d, bytes);
		assert_int_equal(luks_parse(bytes, good.payload_offset, &l, &err), d->code);
		if (!strstr(err.text, d->why))
			fail_msg("%u: '%s' doesn't say '%s'", i, err.text, d->why);
	}
	luks_format(&good, bytes);
	assert_int_equal(luks_parse(bytes, 4096, &l, NULL), -EINVAL);
}

/* Whatever bytes there are: nothing is read beyond them, and what is accepted fits. */
static void test_random_headers(void **state)
{
	uint8_t bytes[LUKS_HEADER_BYTES];
	struct luks good, l;
	uint32_t dice = 1;

	(void)state;
	luks_lay_out(&good, &specs[0], CRYPTO_SHA256);
	good.iterations = good.slot[0].iterations = 1000;
	good.slot[0].active = true;
	for (unsigned i = 0; i < 20000; i++) {
		luks_format(&good, bytes);
		for (unsigned n = 0; n < 1 + i % 4; n++) {
			dice = dice * 1103515245 + 12345;
			bytes[(dice >> 8) % sizeof(bytes)] = (uint8_t)(dice >> 24);
		}
		if (luks_parse(bytes, good.payload_offset, &l, NULL) != 0)
			continue;
		for (unsigned s = 0; s < LUKS_SLOTS; s++) {
			if (l.slot[s].active)
				assert_true(
					l.slot[s].offset + luks_material_bytes(&l, &l.slot[s]) <= good.payload_offset);
		}
	}
}

static void test_room_for_a_slot(void **state)
{
	struct luks l;

	(void)state;
	luks_lay_out(&l, &specs[0], CRYPTO_SHA256);
	l.slot[0].active = true;
	assert_int_equal(luks_slot_check(&l, 7, l.payload_offset, NULL), 0);
	assert_int_equal(luks_slot_check(&l, 7, l.payload_offset - 4096, NULL), -EINVAL);
	l.slot[3].offset = l.slot[0].offset + 512;
	assert_int_equal(luks_slot_check(&l, 3, l.payload_offset, NULL), -EINVAL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_header_comes_back),
		cmocka_unit_test(test_layout),
		cmocka_unit_test(test_only_the_passphrase_opens),
		cmocka_unit_test(test_hostile_headers),
		cmocka_unit_test(test_random_headers),
		cmocka_unit_test(test_room_for_a_slot),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
