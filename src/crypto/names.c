/* SPDX-License-Identifier: MIT */
/* What the algorithms are called, how long their keys are, and which of them go together. */
#include <errno.h>
#include <string.h>

#include "base/attr.h"
#include "crypto/crypto.h"

static const struct alg {
	const char *name, *family;
	size_t key_bytes, block_bytes;
} algs[CRYPTO_ALGS] = {
	[CRYPTO_AES_128] = {"aes-128", "aes", 16, 16},
	[CRYPTO_AES_192] = {"aes-192", "aes", 24, 16},
	[CRYPTO_AES_256] = {"aes-256", "aes", 32, 16},
	[CRYPTO_CAST5_128] = {"cast5-128", "cast5", 16, 8},
	[CRYPTO_SERPENT_128] = {"serpent-128", "serpent", 16, 16},
	[CRYPTO_SERPENT_192] = {"serpent-192", "serpent", 24, 16},
	[CRYPTO_SERPENT_256] = {"serpent-256", "serpent", 32, 16},
	[CRYPTO_TWOFISH_128] = {"twofish-128", "twofish", 16, 16},
	[CRYPTO_TWOFISH_192] = {"twofish-192", "twofish", 24, 16},
	[CRYPTO_TWOFISH_256] = {"twofish-256", "twofish", 32, 16},
};
static const char *const modes[CRYPTO_MODES] = {"ecb", "cbc", "xts", "ctr"};
static const char *const ivgens[CRYPTO_IVGENS] = {"plain", "plain64", "essiv"};
static const struct {
	const char *name;
	size_t bytes;
} hashes[CRYPTO_HASHES] = {
	[CRYPTO_MD5] = {"md5", 16},
	[CRYPTO_SHA1] = {"sha1", 20},
	[CRYPTO_SHA224] = {"sha224", 28},
	[CRYPTO_SHA256] = {"sha256", 32},
	[CRYPTO_SHA384] = {"sha384", 48},
	[CRYPTO_SHA512] = {"sha512", 64},
	[CRYPTO_RIPEMD160] = {"ripemd160", 20},
};

const char *crypto_alg_name(enum crypto_alg alg) { return algs[alg].name; }
const char *crypto_mode_name(enum crypto_mode mode) { return modes[mode]; }
const char *crypto_ivgen_name(enum crypto_ivgen ivgen) { return ivgens[ivgen]; }
const char *crypto_hash_name(enum crypto_hash hash) { return hashes[hash].name; }
const char *crypto_family(enum crypto_alg alg) { return algs[alg].family; }
size_t crypto_alg_key_bytes(enum crypto_alg alg) { return algs[alg].key_bytes; }
size_t crypto_alg_block_bytes(enum crypto_alg alg) { return algs[alg].block_bytes; }
size_t crypto_hash_bytes(enum crypto_hash hash) { return hashes[hash].bytes; }

enum crypto_alg crypto_alg_find(const char *name)
{
	unsigned i = 0;

	while (i < CRYPTO_ALGS && strcmp(algs[i].name, name) != 0)
		i++;
	return (enum crypto_alg)i;
}

enum crypto_mode crypto_mode_find(const char *name)
{
	unsigned i = 0;

	while (i < CRYPTO_MODES && strcmp(modes[i], name) != 0)
		i++;
	return (enum crypto_mode)i;
}

enum crypto_ivgen crypto_ivgen_find(const char *name)
{
	unsigned i = 0;

	while (i < CRYPTO_IVGENS && strcmp(ivgens[i], name) != 0)
		i++;
	return (enum crypto_ivgen)i;
}

enum crypto_hash crypto_hash_find(const char *name)
{
	unsigned i = 0;

	while (i < CRYPTO_HASHES && strcmp(hashes[i].name, name) != 0)
		i++;
	return (enum crypto_hash)i;
}

enum crypto_alg crypto_family_find(const char *family, size_t key_bytes)
{
	unsigned i = 0;

	while (i < CRYPTO_ALGS && (strcmp(algs[i].family, family) != 0 || algs[i].key_bytes != key_bytes))
		i++;
	return (enum crypto_alg)i;
}

size_t crypto_key_bytes(const struct crypto_spec *spec)
{
	return algs[spec->alg].key_bytes * (spec->mode == CRYPTO_XTS ? 2 : 1);
}

/* As dm-crypt does it: the hash is the key, so the cipher is the one of the family that takes a key of that size. */
enum crypto_alg crypto_essiv_alg(const struct crypto_spec *spec)
{
	return crypto_family_find(algs[spec->alg].family, hashes[spec->iv_hash].bytes);
}

static int essiv_check(const struct crypto_spec *spec, struct err *err)
{
	enum crypto_alg alg;

	if (!spec->has_iv_hash)
		return err_set(err, -EINVAL, "Missing IV generator hash specification");
	alg = crypto_essiv_alg(spec);
	if (alg == CRYPTO_ALGS)
		return err_set(err, -EINVAL, "No %s cipher with key size %zu available, which essiv:%s needs",
			algs[spec->alg].family, hashes[spec->iv_hash].bytes, hashes[spec->iv_hash].name);
	if (!crypto_alg_supported(alg) || !crypto_hash_supported(spec->iv_hash))
		return err_set(err, -ENOTSUP, "essiv:%s with %s is not supported here", hashes[spec->iv_hash].name,
			algs[spec->alg].family);
	return 0;
}

int crypto_spec_check(const struct crypto_spec *spec, struct err *err)
{
	if (!crypto_available())
		return err_set(err, -ENOTSUP, "this program was built without support for encryption (libgcrypt)");
	if (!crypto_alg_supported(spec->alg))
		return err_set(err, -ENOTSUP, "Algorithm '%s' not supported", algs[spec->alg].name);
	if (spec->mode == CRYPTO_XTS && algs[spec->alg].block_bytes != 16)
		return err_set(err, -EINVAL, "XTS needs a cipher with blocks of 16 bytes; those of %s have %zu",
			algs[spec->alg].name, algs[spec->alg].block_bytes);
	return spec->ivgen == CRYPTO_ESSIV ? essiv_check(spec, err) : 0;
}
