/* SPDX-License-Identifier: MIT */
/*
 * Key slots: passphrase -> PBKDF2 -> the key that the slot's material is encrypted with -> stripes -> the disk's key.
 *
 * The anti-forensic splitter (section 2.4 of the specification): all stripes but the last are random; each is mixed into
 * what came before, which is then hashed; the last one is chosen so that the key comes out. So every bit of every stripe
 * is needed.
 */
#include <errno.h>

#include "base/endian.h"
#include "base/math.h"
#include "crypto/luks.h"

static void mix(uint8_t *into, const uint8_t *from, size_t bytes)
{
	for (size_t i = 0; i < bytes; i++)
		into[i] ^= from[i];
}

/* Replaces the block by a hash of it, piece by piece, each with its number before it. */
static int diffuse(enum crypto_hash hash, uint8_t *block, size_t bytes)
{
	size_t step = crypto_hash_bytes(hash);
	uint8_t digest[CRYPTO_MOST_HASH_BYTES];
	int rc = 0;

	for (size_t at = 0; rc == 0 && at < bytes; at += step) {
		be32 number = be32_of((uint32_t)(at / step));
		size_t len = MIN(step, bytes - at);

		rc = crypto_hash(hash, &number, sizeof(number), block + at, len, digest);
		memcpy(block + at, digest, len);
	}
	crypto_wipe(digest, sizeof(digest));
	return rc;
}

/* Takes in all stripes but the last. */
static int stripes_take(const struct luks *l, const struct luks_slot *slot, const uint8_t *stripes, uint8_t *block)
{
	int rc = 0;

	memset(block, 0, l->key_bytes);
	for (uint32_t i = 0; rc == 0 && i + 1 < slot->stripes; i++) {
		mix(block, stripes + (size_t)i * l->key_bytes, l->key_bytes);
		rc = diffuse(l->hash, block, l->key_bytes);
	}
	return rc;
}

static uint8_t *last_stripe(const struct luks *l, const struct luks_slot *slot, void *material)
{
	return (uint8_t *)material + (size_t)(slot->stripes - 1) * l->key_bytes;
}

/* The cipher of the slot's material. */
static int slot_cipher(
	const struct luks *l, const struct luks_slot *slot, struct crypto_secret pass, struct crypto_cipher **out)
{
	uint8_t derived[CRYPTO_MOST_KEY_BYTES];
	int rc = crypto_pbkdf2(l->hash, pass, slot->salt, sizeof(slot->salt), slot->iterations, derived, l->key_bytes);

	if (rc == 0)
		rc = crypto_cipher_new(&l->spec, derived, out);
	crypto_wipe(derived, sizeof(derived));
	return rc;
}

int luks_digest(const struct luks *l, const uint8_t *key, uint8_t digest[LUKS_DIGEST_BYTES])
{
	return crypto_pbkdf2(l->hash, (struct crypto_secret){key, l->key_bytes}, l->salt, sizeof(l->salt),
		l->iterations, digest, LUKS_DIGEST_BYTES);
}

/* Takes the same time wherever they differ. */
static bool same(const uint8_t *a, const uint8_t *b, size_t bytes)
{
	uint8_t differ = 0;

	for (size_t i = 0; i < bytes; i++)
		differ |= a[i] ^ b[i];
	return differ == 0;
}

static int key_prove(const struct luks *l, const uint8_t *key)
{
	uint8_t digest[LUKS_DIGEST_BYTES];
	int rc = luks_digest(l, key, digest);

	if (rc == 0 && !same(digest, l->digest, sizeof(digest)))
		rc = -EACCES;
	return rc;
}

int luks_unlock(const struct luks *l, const struct luks_slot *slot, struct crypto_secret pass, void *material,
	uint8_t key[CRYPTO_MOST_KEY_BYTES])
{
	struct crypto_cipher *cipher = NULL;
	int rc = slot_cipher(l, slot, pass, &cipher);

	if (rc == 0)
		rc = crypto_decrypt(cipher, 0, material, luks_material_bytes(l, slot));
	if (rc == 0)
		rc = stripes_take(l, slot, material, key);
	if (rc == 0) {
		mix(key, last_stripe(l, slot, material), l->key_bytes);
		rc = key_prove(l, key);
	}
	crypto_cipher_free(cipher);
	crypto_wipe(material, luks_material_bytes(l, slot));
	if (rc < 0)
		crypto_wipe(key, CRYPTO_MOST_KEY_BYTES);
	return rc;
}

static int split(const struct luks *l, const struct luks_slot *slot, const uint8_t *key, void *material)
{
	uint8_t *last = last_stripe(l, slot, material);
	int rc = crypto_random(material, luks_material_bytes(l, slot));

	if (rc == 0)
		rc = stripes_take(l, slot, material, last);
	if (rc == 0)
		mix(last, key, l->key_bytes);
	return rc;
}

int luks_lock(const struct luks *l, const struct luks_slot *slot, struct crypto_secret pass, const uint8_t *key,
	void *material)
{
	struct crypto_cipher *cipher = NULL;
	int rc = slot_cipher(l, slot, pass, &cipher);

	if (rc == 0)
		rc = split(l, slot, key, material);
	if (rc == 0)
		rc = crypto_encrypt(cipher, 0, material, luks_material_bytes(l, slot));
	if (rc < 0)
		crypto_wipe(material, luks_material_bytes(l, slot));
	crypto_cipher_free(cipher);
	return rc;
}
