/* SPDX-License-Identifier: MIT */
/*
 * Cryptography for disks: which algorithms there are, what they are called, and ciphers that work sector by sector. Pure
 * functions: no I/O, no yields; what takes long is for the caller to put on a helper thread.
 *
 * The algorithms themselves are libgcrypt's (gcrypt.c); in a build without it (none.c) crypto_available() is false and
 * all of them are -ENOTSUP.
 *
 * Whatever holds a key or a passphrase is wiped with crypto_wipe before its memory is given back.
 */
#ifndef CORRAL_CRYPTO_CRYPTO_H
#define CORRAL_CRYPTO_CRYPTO_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/attr.h"
#include "base/err.h"

#define CRYPTO_SECTOR 512u
#define CRYPTO_MOST_KEY_BYTES 64u
#define CRYPTO_MOST_HASH_BYTES 64u
#define CRYPTO_MOST_BLOCK_BYTES 16u

/* The names are those of QEMU's qapi/crypto.json. */
enum crypto_alg {
	CRYPTO_AES_128,
	CRYPTO_AES_192,
	CRYPTO_AES_256,
	CRYPTO_CAST5_128,
	CRYPTO_SERPENT_128,
	CRYPTO_SERPENT_192,
	CRYPTO_SERPENT_256,
	CRYPTO_TWOFISH_128,
	CRYPTO_TWOFISH_192,
	CRYPTO_TWOFISH_256,
	CRYPTO_ALGS
};
enum crypto_mode { CRYPTO_ECB, CRYPTO_CBC, CRYPTO_XTS, CRYPTO_CTR, CRYPTO_MODES };
enum crypto_ivgen { CRYPTO_PLAIN, CRYPTO_PLAIN64, CRYPTO_ESSIV, CRYPTO_IVGENS };
enum crypto_hash {
	CRYPTO_MD5,
	CRYPTO_SHA1,
	CRYPTO_SHA224,
	CRYPTO_SHA256,
	CRYPTO_SHA384,
	CRYPTO_SHA512,
	CRYPTO_RIPEMD160,
	CRYPTO_HASHES
};

struct crypto_spec { /* how a disk is encrypted */
	enum crypto_alg alg;
	enum crypto_mode mode;
	enum crypto_ivgen ivgen;
	bool has_iv_hash; /* it is named; only ESSIV uses it */
	enum crypto_hash iv_hash;
};

struct crypto_secret { /* a passphrase; somebody else's memory. len may be 0 */
	const void *bytes;
	size_t len;
};

static inline void crypto_wipe(void *p, size_t bytes) { explicit_bzero(p, bytes); }
/* Wipes it first; NULL is fine. */
static inline void crypto_free(void *p, size_t bytes)
{
	if (p)
		crypto_wipe(p, bytes);
	free(p);
}

/* ---- names.c ---- */

const char *crypto_alg_name(enum crypto_alg alg); /* "aes-256" */
const char *crypto_mode_name(enum crypto_mode mode);
const char *crypto_ivgen_name(enum crypto_ivgen ivgen);
const char *crypto_hash_name(enum crypto_hash hash);
/* By name; the number of names: there is none such. */
enum crypto_alg crypto_alg_find(const char *name);
enum crypto_mode crypto_mode_find(const char *name);
enum crypto_ivgen crypto_ivgen_find(const char *name);
enum crypto_hash crypto_hash_find(const char *name);

const char *crypto_family(enum crypto_alg alg); /* "aes": the name without the size of its key */
/* The member of a family whose key has so many bytes, or CRYPTO_ALGS. */
enum crypto_alg crypto_family_find(const char *family, size_t key_bytes);
size_t crypto_alg_key_bytes(enum crypto_alg alg);
size_t crypto_alg_block_bytes(enum crypto_alg alg);
size_t crypto_hash_bytes(enum crypto_hash hash);
size_t crypto_key_bytes(const struct crypto_spec *spec); /* of the disk's key: XTS has two */
/* The cipher that makes ESSIV's vectors: its key is as long as the hash. CRYPTO_ALGS: there is none. */
enum crypto_alg crypto_essiv_alg(const struct crypto_spec *spec);
/* 0 if there is such a combination, here too; else -EINVAL or -ENOTSUP, explained. */
int crypto_spec_check(const struct crypto_spec *spec, struct err *err) ATTR_MUST_USE;

/* ---- random.c ---- */

int crypto_random(void *to, size_t bytes) ATTR_MUST_USE; /* good enough for keys */

/* ---- gcrypt.c or none.c ---- */

bool crypto_available(void);
bool crypto_alg_supported(enum crypto_alg alg);
bool crypto_hash_supported(enum crypto_hash hash);
/* Of two pieces, one after the other; the second may be empty. */
int crypto_hash(enum crypto_hash hash, const void *a, size_t a_bytes, const void *b, size_t b_bytes, void *out)
	ATTR_MUST_USE;
/* PBKDF2 (RFC 8018, section 5.2) with HMAC of the hash. */
int crypto_pbkdf2(enum crypto_hash hash, struct crypto_secret pass, const void *salt, size_t salt_bytes,
	uint32_t iterations, void *out, size_t out_bytes) ATTR_MUST_USE;

/* ---- cipher.c ---- */

struct crypto_cipher; /* not for two threads at once */

/* key has crypto_key_bytes of the spec. */
int crypto_cipher_new(const struct crypto_spec *spec, const void *key, struct crypto_cipher **out) ATTR_MUST_USE;
void crypto_cipher_free(struct crypto_cipher *c);
/* In place; the buffer begins with this sector. The last one may be shorter, but is whole blocks of the cipher. */
int crypto_encrypt(struct crypto_cipher *c, uint64_t sector, void *buffer, size_t bytes) ATTR_MUST_USE;
int crypto_decrypt(struct crypto_cipher *c, uint64_t sector, void *buffer, size_t bytes) ATTR_MUST_USE;

#endif
