/* SPDX-License-Identifier: MIT */
/* A build without libgcrypt: names and headers are known, nothing can be encrypted or decrypted. */
#include <errno.h>

#include "crypto/prim.h"

bool crypto_available(void) { return false; }
bool crypto_alg_supported(enum crypto_alg alg ATTR_UNUSED) { return false; }
bool crypto_hash_supported(enum crypto_hash hash ATTR_UNUSED) { return false; }

int crypto_hash(enum crypto_hash hash ATTR_UNUSED, const void *a ATTR_UNUSED, size_t a_bytes ATTR_UNUSED,
	const void *b ATTR_UNUSED, size_t b_bytes ATTR_UNUSED, void *out ATTR_UNUSED)
{
	return -ENOTSUP;
}

int crypto_pbkdf2(enum crypto_hash hash ATTR_UNUSED, struct crypto_secret pass ATTR_UNUSED,
	const void *salt ATTR_UNUSED, size_t salt_bytes ATTR_UNUSED, uint32_t iterations ATTR_UNUSED,
	void *out ATTR_UNUSED, size_t out_bytes ATTR_UNUSED)
{
	return -ENOTSUP;
}

int crypto_prim_new(enum crypto_alg alg ATTR_UNUSED, enum crypto_mode mode ATTR_UNUSED, const void *key ATTR_UNUSED,
	size_t key_bytes ATTR_UNUSED, struct crypto_prim **out ATTR_UNUSED)
{
	return -ENOTSUP;
}

void crypto_prim_free(struct crypto_prim *p ATTR_UNUSED) {}

int crypto_prim_run(struct crypto_prim *p ATTR_UNUSED, const void *iv ATTR_UNUSED, size_t iv_bytes ATTR_UNUSED,
	bool encrypt ATTR_UNUSED, void *buffer ATTR_UNUSED, size_t bytes ATTR_UNUSED)
{
	return -ENOTSUP;
}
