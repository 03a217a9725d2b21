/* SPDX-License-Identifier: MIT */
/*
 * A disk's cipher: every sector of 512 bytes is encrypted by itself, with a vector made of its number.
 *
 *     plain     the number, 32 bits, little-endian, zeros behind it
 *     plain64   the same with 64 bits
 *     essiv     the 64-bit one, encrypted with a hash of the disk's key
 *
 * Source: the Linux kernel's Documentation/admin-guide/device-mapper/dm-crypt.rst.
 */
#include <endian.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/math.h"
#include "crypto/prim.h"

struct crypto_cipher {
	enum crypto_ivgen ivgen;
	size_t iv_bytes;           /* a block */
	struct crypto_prim *data;  /* the sectors' */
	struct crypto_prim *essiv; /* the vectors'; NULL: they aren't encrypted */
};

static int essiv_new(const struct crypto_spec *spec, const void *key, struct crypto_prim **out)
{
	uint8_t hashed[CRYPTO_MOST_HASH_BYTES];
	enum crypto_alg alg = crypto_essiv_alg(spec);
	int rc;

	if (!spec->has_iv_hash || alg == CRYPTO_ALGS)
		return -EINVAL;
	rc = crypto_hash(spec->iv_hash, key, crypto_key_bytes(spec), NULL, 0, hashed);
	if (rc == 0)
		rc = crypto_prim_new(alg, CRYPTO_ECB, hashed, crypto_hash_bytes(spec->iv_hash), out);
	crypto_wipe(hashed, sizeof(hashed));
	return rc;
}

int crypto_cipher_new(const struct crypto_spec *spec, const void *key, struct crypto_cipher **out)
{
	struct crypto_cipher *c = calloc(1, sizeof(*c));
	int rc;

	if (!c)
		return -ENOMEM;
	c->ivgen = spec->ivgen;
	c->iv_bytes = crypto_alg_block_bytes(spec->alg);
	rc = crypto_prim_new(spec->alg, spec->mode, key, crypto_key_bytes(spec), &c->data);
	if (rc == 0 && spec->ivgen == CRYPTO_ESSIV)
		rc = essiv_new(spec, key, &c->essiv);
	if (rc < 0) {
		crypto_cipher_free(c);
		return rc;
	}
	*out = c;
	return 0;
}

void crypto_cipher_free(struct crypto_cipher *c)
{
	if (!c)
		return;
	crypto_prim_free(c->data);
	crypto_prim_free(c->essiv);
	free(c);
}

static int vector_make(struct crypto_cipher *c, uint64_t sector, uint8_t iv[CRYPTO_MOST_BLOCK_BYTES])
{
	static const uint8_t zeros[CRYPTO_MOST_BLOCK_BYTES];
	uint64_t number = htole64(c->ivgen == CRYPTO_PLAIN ? (uint32_t)sector : sector);

	memcpy(iv, &number, sizeof(number));
	memset(iv + sizeof(number), 0, CRYPTO_MOST_BLOCK_BYTES - sizeof(number));
	return c->essiv ? crypto_prim_run(c->essiv, zeros, c->iv_bytes, true, iv, c->iv_bytes) : 0;
}

static int sectors_run(struct crypto_cipher *c, uint64_t sector, bool encrypt, uint8_t *buffer, size_t bytes)
{
	uint8_t iv[CRYPTO_MOST_BLOCK_BYTES];
	int rc = 0;

	for (size_t at = 0; rc == 0 && at < bytes; at += CRYPTO_SECTOR) {
		rc = vector_make(c, sector++, iv);
		if (rc == 0)
			rc = crypto_prim_run(
				c->data, iv, c->iv_bytes, encrypt, buffer + at, MIN(bytes - at, (size_t)CRYPTO_SECTOR));
	}
	return rc;
}

int crypto_encrypt(struct crypto_cipher *c, uint64_t sector, void *buffer, size_t bytes)
{
	return sectors_run(c, sector, true, buffer, bytes);
}

int crypto_decrypt(struct crypto_cipher *c, uint64_t sector, void *buffer, size_t bytes)
{
	return sectors_run(c, sector, false, buffer, bytes);
}
