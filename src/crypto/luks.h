/* SPDX-License-Identifier: MIT */
/*
 * LUKS version 1: the header of an encrypted disk, and its key slots. Pure functions on buffers.
 *
 * A disk is encrypted with one random key. Each of the eight slots in use holds that key, split into stripes so that
 * parts of it are worthless (the anti-forensic splitter), and encrypted with a key derived from a passphrase; whether what
 * a passphrase has unlocked is the key, a digest of it in the header tells.
 *
 *     0      header: 592 bytes, the slots' entries from 208 on, 48 bytes each; that of slot 6 lies in both its sectors
 *     4096   key material of slot 0, 1, ...: key_bytes * stripes each, at whole 4096 bytes
 *     payload_offset
 *
 * Source: "LUKS On-Disk Format Specification", version 1.2.3, in cryptsetup's docs/on-disk-format.pdf.
 */
#ifndef CORRAL_CRYPTO_LUKS_H
#define CORRAL_CRYPTO_LUKS_H

#include "crypto/crypto.h"

#define LUKS_SLOTS 8
#define LUKS_HEADER_BYTES 592
#define LUKS_SLOT_AT(i) (208 + 48 * (i)) /* its entry in the header */
#define LUKS_SLOT_BYTES 48
#define LUKS_DIGEST_BYTES 20
#define LUKS_SALT_BYTES 32
#define LUKS_UUID_BYTES 40
#define LUKS_STRIPES 4000          /* that everybody makes, and the most that are read */
#define LUKS_LEAST_ITERATIONS 1000 /* that are made */
/* The most that are done for a header that says so: some minutes' work. */
#define LUKS_MOST_ITERATIONS (UINT32_C(1) << 27)

struct luks_slot {
	bool active;
	uint32_t iterations, stripes;
	uint8_t salt[LUKS_SALT_BYTES];
	uint64_t offset; /* of its key material, bytes from the header's start on; whole sectors */
};

struct luks {
	struct crypto_spec spec;
	enum crypto_hash hash;
	uint32_t key_bytes; /* crypto_key_bytes of spec */
	uint64_t payload_offset;
	uint32_t iterations; /* of the digest */
	uint8_t digest[LUKS_DIGEST_BYTES], salt[LUKS_SALT_BYTES];
	char uuid[LUKS_UUID_BYTES + 1];
	struct luks_slot slot[LUKS_SLOTS];
};

/* bytes: LUKS_HEADER_BYTES. region_bytes: what there is for header and key material. All of it may be hostile: after a
 * success every active slot's material lies in the region, on nothing else, and is of bounded size and cost. -EINVAL,
 * -ENOTSUP or -EFBIG, explained. */
int luks_parse(const void *bytes, uint64_t region_bytes, struct luks *out, struct err *err) ATTR_MUST_USE;
void luks_format(const struct luks *l, void *bytes);

/* A header for such a disk: all but salts, digest and iterations. spec was checked. */
void luks_lay_out(struct luks *l, const struct crypto_spec *spec, enum crypto_hash hash);
size_t luks_material_bytes(const struct luks *l, const struct luks_slot *slot);
/* Whether a slot that isn't active has room to become so. -EINVAL, explained. */
int luks_slot_check(const struct luks *l, unsigned index, uint64_t region_bytes, struct err *err) ATTR_MUST_USE;

/* ---- luks_key.c: what takes its time ---- */

/* material is what the slot's place holds, and garbage afterwards. 0: key is the disk's. -EACCES: not with this
 * passphrase. */
int luks_unlock(const struct luks *l, const struct luks_slot *slot, struct crypto_secret pass, void *material,
	uint8_t key[CRYPTO_MOST_KEY_BYTES]) ATTR_MUST_USE;
/* The other way round: fills material from the key. The slot has its salt and iterations. */
int luks_lock(const struct luks *l, const struct luks_slot *slot, struct crypto_secret pass, const uint8_t *key,
	void *material) ATTR_MUST_USE;
int luks_digest(const struct luks *l, const uint8_t *key, uint8_t digest[LUKS_DIGEST_BYTES]) ATTR_MUST_USE;

#endif
