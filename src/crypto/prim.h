/* SPDX-License-Identifier: MIT */
/* A cipher of blocks in one mode, as the library has it: what cipher.c makes disk encryption of. */
#ifndef CORRAL_CRYPTO_PRIM_H
#define CORRAL_CRYPTO_PRIM_H

#include "crypto/crypto.h"

struct crypto_prim;

/* key: of the algorithm, two of them for XTS. */
int crypto_prim_new(enum crypto_alg alg, enum crypto_mode mode, const void *key, size_t key_bytes,
	struct crypto_prim **out) ATTR_MUST_USE;
void crypto_prim_free(struct crypto_prim *p);
/* Begins with this vector (a block; ECB ignores it) and works in place. */
int crypto_prim_run(struct crypto_prim *p, const void *iv, size_t iv_bytes, bool encrypt, void *buffer, size_t bytes)
	ATTR_MUST_USE;

#endif
