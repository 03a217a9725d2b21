/* SPDX-License-Identifier: MIT */
/*
 * Ciphers, vectors, hashes against what others compute: XTS as in IEEE 1619-2007 (annex B), PBKDF2 as in RFC 6070 and
 * RFC 7914; CBC, CTR, ECB and ESSIV with values of OpenSSL's.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "crypto/crypto.h"

static uint8_t nibble(char c) { return (uint8_t)(c <= '9' ? c - '0' : c - 'a' + 10); }

static size_t unhex(const char *hex, uint8_t *to)
{
	size_t n = strlen(hex) / 2;

	for (size_t i = 0; i < n; i++)
		to[i] = (uint8_t)(nibble(hex[2 * i]) << 4 | nibble(hex[2 * i + 1]));
	return n;
}

struct vector {
	struct crypto_spec spec;
	const char *key;
	uint64_t sector;
	const char *plain, *cipher;
};

#define ZERO_16 "00000000000000000000000000000000"
#define ZERO_32 ZERO_16 ZERO_16
#define ONES "11111111111111111111111111111111"
#define TWOS "22222222222222222222222222222222"
#define FOURS "44444444444444444444444444444444"
#define COUNT "000102030405060708090a0b0c0d0e0f"

static const struct vector vectors[] = {
	{{.alg = CRYPTO_AES_128, .mode = CRYPTO_XTS, .ivgen = CRYPTO_PLAIN64}, ZERO_32, 0, ZERO_32,
		"917cf69ebd68b2ec9b9fe9a3eadda692cd43d2f59598ed858c02c2652fbf922e"},
	{{.alg = CRYPTO_AES_128, .mode = CRYPTO_XTS, .ivgen = CRYPTO_PLAIN64}, ONES TWOS, 0x3333333333, FOURS FOURS,
		"c454185e6a16936e39334038acef838bfb186fff7480adc4289382ecd6d394f0"},
	{{.alg = CRYPTO_AES_128, .mode = CRYPTO_CBC, .ivgen = CRYPTO_PLAIN64}, COUNT, 0x100000005, ZERO_32,
		"0a18a6e750989acc6fbc58d73b08b2fb8312cc54c6707533188e56ef03ca82c0"},
	{{.alg = CRYPTO_AES_128, .mode = CRYPTO_CBC, .ivgen = CRYPTO_PLAIN}, COUNT, 0x100000005, ZERO_32,
		"789dc76ccb52ce1c3db90ecb357af60e9a5c049dcabc8249677ae8efb070bdbe"},
	{{.alg = CRYPTO_AES_128,
		 .mode = CRYPTO_CBC,
		 .ivgen = CRYPTO_ESSIV,
		 .has_iv_hash = true,
		 .iv_hash = CRYPTO_SHA256},
		COUNT, 0x100000005, ZERO_32, "3059d84689da69397690556b734bf2a2893e13a52a29e1b9e35ddbe73430ddc6"},
	{{.alg = CRYPTO_AES_128, .mode = CRYPTO_CTR, .ivgen = CRYPTO_PLAIN64}, COUNT, 0x100000005, ZERO_32,
		"0a18a6e750989acc6fbc58d73b08b2fbce8ae87961df00b9ab91f6c9eabdebc4"},
	{{.alg = CRYPTO_AES_128, .mode = CRYPTO_ECB, .ivgen = CRYPTO_PLAIN64}, COUNT, 7, ZERO_32,
		"c6a13b37878f5b826f4f8162a1c8d879c6a13b37878f5b826f4f8162a1c8d879"},
};

static void test_vectors(void **state)
{
	(void)state;
	for (unsigned i = 0; i < sizeof(vectors) / sizeof(vectors[0]); i++) {
		const struct vector *v = &vectors[i];
		uint8_t key[64], plain[64], cipher[64], buffer[64];
		size_t n = unhex(v->plain, plain);
		struct crypto_cipher *c;

		assert_int_equal(unhex(v->key, key), crypto_key_bytes(&v->spec));
		assert_int_equal(unhex(v->cipher, cipher), n);
		assert_int_equal(crypto_spec_check(&v->spec, NULL), 0);
		assert_int_equal(crypto_cipher_new(&v->spec, key, &c), 0);
		memcpy(buffer, plain, n);
		assert_int_equal(crypto_encrypt(c, v->sector, buffer, n), 0);
		assert_memory_equal(buffer, cipher, n);
		assert_int_equal(crypto_decrypt(c, v->sector, buffer, n), 0);
		assert_memory_equal(buffer, plain, n);
		crypto_cipher_free(c);
	}
}

/* Each sector by its own number, wherever a piece begins; and what was encrypted in one piece is decrypted in others. */
static void sectors_of(const struct crypto_spec *spec)
{
	uint8_t key[CRYPTO_MOST_KEY_BYTES], whole[5 * CRYPTO_SECTOR], parts[5 * CRYPTO_SECTOR];
	struct crypto_cipher *c;

	memset(key, 0x5a, sizeof(key));
	key[3] = 1;
	for (size_t i = 0; i < sizeof(whole); i++)
		whole[i] = parts[i] = (uint8_t)(i % 251);
	assert_int_equal(crypto_cipher_new(spec, key, &c), 0);
	assert_int_equal(crypto_encrypt(c, 100, whole, sizeof(whole)), 0);
	for (unsigned i = 5; i-- > 0;)
		assert_int_equal(crypto_encrypt(c, 100 + i, parts + i * CRYPTO_SECTOR, CRYPTO_SECTOR), 0);
	assert_memory_equal(whole, parts, sizeof(whole));
	assert_int_equal(crypto_decrypt(c, 102, whole + 2 * CRYPTO_SECTOR, 3 * CRYPTO_SECTOR), 0);
	assert_int_equal(crypto_decrypt(c, 100, whole, 2 * CRYPTO_SECTOR), 0);
	for (size_t i = 0; i < sizeof(whole); i++)
		assert_int_equal(whole[i], i % 251);
	assert_int_equal(crypto_decrypt(c, 101, parts, CRYPTO_SECTOR), 0);
	if (spec->mode != CRYPTO_ECB)
		assert_int_not_equal(memcmp(parts, whole, CRYPTO_SECTOR), 0);
	crypto_cipher_free(c);
}

static void test_every_combination(void **state)
{
	unsigned done = 0;

	(void)state;
	for (unsigned alg = 0; alg < CRYPTO_ALGS; alg++) {
		for (unsigned rest = 0; rest < CRYPTO_MODES * CRYPTO_IVGENS * CRYPTO_HASHES; rest++) {
			struct crypto_spec spec = {.alg = (enum crypto_alg)alg,
				.mode = (enum crypto_mode)(rest % CRYPTO_MODES),
				.ivgen = (enum crypto_ivgen)(rest / CRYPTO_MODES % CRYPTO_IVGENS),
				.has_iv_hash = true,
				.iv_hash = (enum crypto_hash)(rest / CRYPTO_MODES / CRYPTO_IVGENS)};

			if (crypto_spec_check(&spec, NULL) != 0)
				continue;
			sectors_of(&spec);
			done++;
		}
	}
	assert_true(done > 300);
}

static void refused(struct crypto_spec spec, int code, const char *why)
{
	struct err err = {0};

	assert_int_equal(crypto_spec_check(&spec, &err), code);
	assert_non_null(strstr(err.text, why));
}

static void test_what_does_not_go_together(void **state)
{
	(void)state;
	refused((struct crypto_spec){.alg = CRYPTO_CAST5_128, .mode = CRYPTO_XTS}, -EINVAL, "16 bytes");
	refused((struct crypto_spec){.alg = CRYPTO_AES_128, .ivgen = CRYPTO_ESSIV}, -EINVAL, "Missing");
	refused(
		(struct crypto_spec){
			.alg = CRYPTO_AES_128, .ivgen = CRYPTO_ESSIV, .has_iv_hash = true, .iv_hash = CRYPTO_SHA1},
		-EINVAL, "key size 20");
	refused((struct crypto_spec){.alg = CRYPTO_TWOFISH_192, .mode = CRYPTO_XTS}, -ENOTSUP, "twofish-192");
}

static void derived(enum crypto_hash hash, const char *pass, uint32_t iterations, const char *expected)
{
	uint8_t out[64], want[64];
	size_t n = unhex(expected, want);

	assert_int_equal(
		crypto_pbkdf2(hash, (struct crypto_secret){pass, strlen(pass)}, "salt", 4, iterations, out, n), 0);
	assert_memory_equal(out, want, n);
}

static void test_pbkdf2(void **state)
{
	uint8_t out[20];

	(void)state;
	derived(CRYPTO_SHA1, "password", 2, "ea6c014dc72d6f8ccd1ed92ace1d41f0d8de8957");
	derived(CRYPTO_SHA256, "passwd", 1,
		"55ac046e56e3089fec1691c22544b605f94185216dde0465e68b9d57c20dacbc"
		"49ca9cccf179b645991664b39d77ef317c71b845b1e30bd509112041d3a19783");
	assert_int_equal(crypto_pbkdf2(CRYPTO_SHA256, (struct crypto_secret){0}, "salt", 4, 1, out, sizeof(out)), 0);
}

static void test_hashes(void **state)
{
	uint8_t one[CRYPTO_MOST_HASH_BYTES], two[CRYPTO_MOST_HASH_BYTES], sha1[20];

	(void)state;
	unhex("a9993e364706816aba3e25717850c26c9cd0d89d", sha1); /* FIPS 180, of "abc" */
	assert_int_equal(crypto_hash(CRYPTO_SHA1, "a", 1, "bc", 2, one), 0);
	assert_memory_equal(one, sha1, sizeof(sha1));
	for (unsigned h = 0; h < CRYPTO_HASHES; h++) {
		memset(one, 0xee, sizeof(one));
		memset(two, 0xee, sizeof(two));
		assert_int_equal(crypto_hash((enum crypto_hash)h, "abc", 3, NULL, 0, one), 0);
		assert_int_equal(crypto_hash((enum crypto_hash)h, "ab", 2, "c", 1, two), 0);
		assert_memory_equal(one, two, sizeof(one));
		assert_int_equal(crypto_hash_bytes((enum crypto_hash)h) < sizeof(one)
				? one[crypto_hash_bytes((enum crypto_hash)h)]
				: 0xee,
			0xee);
	}
}

static void test_names(void **state)
{
	(void)state;
	for (unsigned i = 0; i < CRYPTO_ALGS; i++) {
		enum crypto_alg alg = (enum crypto_alg)i;

		assert_int_equal(crypto_alg_find(crypto_alg_name(alg)), alg);
		assert_int_equal(crypto_family_find(crypto_family(alg), crypto_alg_key_bytes(alg)), alg);
	}
	for (unsigned i = 0; i < CRYPTO_HASHES; i++)
		assert_int_equal(crypto_hash_find(crypto_hash_name((enum crypto_hash)i)), i);
	assert_int_equal(crypto_alg_find("aes"), CRYPTO_ALGS);
	assert_int_equal(crypto_mode_find("xtc"), CRYPTO_MODES);
	assert_int_equal(crypto_ivgen_find(""), CRYPTO_IVGENS);
	assert_int_equal(crypto_hash_find("sha-256"), CRYPTO_HASHES);
}

static void test_random(void **state)
{
	uint8_t a[32] = {0}, b[32] = {0};

	(void)state;
	assert_int_equal(crypto_random(a, sizeof(a)), 0);
	assert_int_equal(crypto_random(b, sizeof(b)), 0);
	assert_int_not_equal(memcmp(a, b, sizeof(a)), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_vectors),
		cmocka_unit_test(test_every_combination),
		cmocka_unit_test(test_what_does_not_go_together),
		cmocka_unit_test(test_pbkdf2),
		cmocka_unit_test(test_hashes),
		cmocka_unit_test(test_names),
		cmocka_unit_test(test_random),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
