/* SPDX-License-Identifier: MIT */
/*
 * The algorithms, from libgcrypt. It is one per process, so it is set up once per process, before its first use, unless
 * the program that we are a part of has done so. Keys live in its secure memory, which isn't swapped out where the system
 * permits that. It locks what its threads share for a few instructions; handles are the caller's.
 */
#include <errno.h>
#include <gcrypt.h>
#include <pthread.h>
#include <stdlib.h>

#include "base/math.h"
#include "crypto/prim.h"

#define SECURE_BYTES (64 << 10) /* to begin with */
#define SECURE_MORE_BYTES (16 << 10)

static const int algs[CRYPTO_ALGS] = {
	[CRYPTO_AES_128] = GCRY_CIPHER_AES128,
	[CRYPTO_AES_192] = GCRY_CIPHER_AES192,
	[CRYPTO_AES_256] = GCRY_CIPHER_AES256,
	[CRYPTO_CAST5_128] = GCRY_CIPHER_CAST5,
	[CRYPTO_SERPENT_128] = GCRY_CIPHER_SERPENT128,
	[CRYPTO_SERPENT_192] = GCRY_CIPHER_SERPENT192,
	[CRYPTO_SERPENT_256] = GCRY_CIPHER_SERPENT256,
	[CRYPTO_TWOFISH_128] = GCRY_CIPHER_TWOFISH128,
	[CRYPTO_TWOFISH_192] = GCRY_CIPHER_NONE, /* it has none */
	[CRYPTO_TWOFISH_256] = GCRY_CIPHER_TWOFISH,
};
static const int modes[CRYPTO_MODES] = {
	[CRYPTO_ECB] = GCRY_CIPHER_MODE_ECB,
	[CRYPTO_CBC] = GCRY_CIPHER_MODE_CBC,
	[CRYPTO_XTS] = GCRY_CIPHER_MODE_XTS,
	[CRYPTO_CTR] = GCRY_CIPHER_MODE_CTR,
};
static const int hashes[CRYPTO_HASHES] = {
	[CRYPTO_MD5] = GCRY_MD_MD5,
	[CRYPTO_SHA1] = GCRY_MD_SHA1,
	[CRYPTO_SHA224] = GCRY_MD_SHA224,
	[CRYPTO_SHA256] = GCRY_MD_SHA256,
	[CRYPTO_SHA384] = GCRY_MD_SHA384,
	[CRYPTO_SHA512] = GCRY_MD_SHA512,
	[CRYPTO_RIPEMD160] = GCRY_MD_RMD160,
};

static pthread_once_t set_up = PTHREAD_ONCE_INIT;

/* Where the memory can't be locked it is used all the same, without a word on stderr: libraries don't print. */
static void library_set_up(void)
{
	if (gcry_control(GCRYCTL_INITIALIZATION_FINISHED_P) || !gcry_check_version(GCRYPT_VERSION))
		return;
	gcry_control(GCRYCTL_DISABLE_SECMEM_WARN);
	gcry_control(GCRYCTL_INIT_SECMEM, SECURE_BYTES, 0);
	gcry_control(GCRYCTL_AUTO_EXPAND_SECMEM, SECURE_MORE_BYTES, 0);
	gcry_control(GCRYCTL_INITIALIZATION_FINISHED, 0);
}

bool crypto_available(void)
{
	pthread_once(&set_up, library_set_up);
	return gcry_control(GCRYCTL_INITIALIZATION_FINISHED_P) != 0;
}

/* What isn't memory is something that this build, or a policy such as FIPS mode, doesn't do. */
static int error_of(gcry_error_t e)
{
	if (e == 0)
		return 0;
	return gcry_err_code(e) == GPG_ERR_ENOMEM ? -ENOMEM : -ENOTSUP;
}

bool crypto_alg_supported(enum crypto_alg alg)
{
	return crypto_available() && algs[alg] != GCRY_CIPHER_NONE && gcry_cipher_test_algo(algs[alg]) == 0;
}

bool crypto_hash_supported(enum crypto_hash hash) { return crypto_available() && gcry_md_test_algo(hashes[hash]) == 0; }

int crypto_hash(enum crypto_hash hash, const void *a, size_t a_bytes, const void *b, size_t b_bytes, void *out)
{
	gcry_buffer_t parts[] = {{.data = (void *)a, .len = a_bytes}, {.data = (void *)b, .len = b_bytes}};

	if (!crypto_available())
		return -ENOTSUP;
	return error_of(gcry_md_hash_buffers(hashes[hash], 0, out, parts, b_bytes > 0 ? 2 : 1));
}

int crypto_pbkdf2(enum crypto_hash hash, struct crypto_secret pass, const void *salt, size_t salt_bytes,
	uint32_t iterations, void *out, size_t out_bytes)
{
	if (!crypto_available())
		return -ENOTSUP;
	return error_of(gcry_kdf_derive(pass.len > 0 ? pass.bytes : "", pass.len, GCRY_KDF_PBKDF2, hashes[hash], salt,
		salt_bytes, iterations, out_bytes, out));
}

/* ---- ciphers ---- */

struct crypto_prim {
	gcry_cipher_hd_t handle;
	enum crypto_mode mode;
};

int crypto_prim_new(
	enum crypto_alg alg, enum crypto_mode mode, const void *key, size_t key_bytes, struct crypto_prim **out)
{
	struct crypto_prim *p;
	gcry_error_t e;

	if (!crypto_alg_supported(alg))
		return -ENOTSUP;
	p = calloc(1, sizeof(*p));
	if (!p)
		return -ENOMEM;
	p->mode = mode;
	e = gcry_cipher_open(&p->handle, algs[alg], modes[mode], GCRY_CIPHER_SECURE);
	if (e == 0)
		e = gcry_cipher_setkey(p->handle, key, key_bytes);
	if (e != 0) {
		crypto_prim_free(p);
		return error_of(e);
	}
	*out = p;
	return 0;
}

void crypto_prim_free(struct crypto_prim *p)
{
	if (p)
		gcry_cipher_close(p->handle);
	free(p);
}

static gcry_error_t vector_set(struct crypto_prim *p, const void *iv, size_t iv_bytes)
{
	switch (p->mode) {
	case CRYPTO_ECB: return 0;
	case CRYPTO_CTR: return gcry_cipher_setctr(p->handle, iv, iv_bytes);
	default: return gcry_cipher_setiv(p->handle, iv, iv_bytes);
	}
}

int crypto_prim_run(struct crypto_prim *p, const void *iv, size_t iv_bytes, bool encrypt, void *buffer, size_t bytes)
{
	gcry_error_t e = vector_set(p, iv, iv_bytes);

	if (e == 0)
		e = encrypt ? gcry_cipher_encrypt(p->handle, buffer, bytes, NULL, 0)
			    : gcry_cipher_decrypt(p->handle, buffer, bytes, NULL, 0);
	return error_of(e);
}
