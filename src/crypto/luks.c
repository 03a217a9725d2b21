/* SPDX-License-Identifier: MIT */
/* The header: parsing, with suspicion, and writing. See luks.h. */
#include "crypto/luks.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>

#include "base/endian.h"
#include "base/math.h"

#define ACTIVE 0x00ac71f3u
#define INACTIVE 0x0000deadu
#define NAME_BYTES 32
#define MATERIAL_ALIGN 4096u /* where the material of a slot begins */

static const char magic[6] = {'L', 'U', 'K', 'S', (char)0xba, (char)0xbe};

struct disk_slot {
	be32 active, iterations;
	uint8_t salt[LUKS_SALT_BYTES];
	be32 sector, stripes;
} __attribute__((packed));

struct disk_luks {
	char magic[6];
	be16 version;
	char cipher[NAME_BYTES], mode[NAME_BYTES], hash[NAME_BYTES];
	be32 payload_sector, key_bytes;
	uint8_t digest[LUKS_DIGEST_BYTES], salt[LUKS_SALT_BYTES];
	be32 iterations;
	char uuid[LUKS_UUID_BYTES];
	struct disk_slot slot[LUKS_SLOTS];
} __attribute__((packed));

static_assert(sizeof(struct disk_luks) == LUKS_HEADER_BYTES, "the header");
static_assert(offsetof(struct disk_luks, slot) == LUKS_SLOT_AT(0), "the slots");
static_assert(sizeof(struct disk_slot) == LUKS_SLOT_BYTES, "a slot");

/* ---- names ---- */

/* A field as a string; what isn't printed isn't a name either. */
static int name_read(const char field[NAME_BYTES], const char *what, char to[NAME_BYTES], struct err *err)
{
	if (!memchr(field, '\0', NAME_BYTES))
		return err_set(err, -EINVAL, "LUKS header %s is not NUL terminated", what);
	memcpy(to, field, NAME_BYTES);
	for (const char *p = to; *p; p++) {
		if (*p < 0x20 || *p > 0x7e)
			return err_set(err, -EINVAL, "LUKS header %s has characters that no name has", what);
	}
	return 0;
}

static int hash_read(const char *name, enum crypto_hash *out, struct err *err)
{
	*out = crypto_hash_find(name);
	return *out == CRYPTO_HASHES ? err_set(err, -ENOTSUP, "Hash algorithm '%s' not supported", name) : 0;
}

/* MODE-IVGEN[:HASH]. The hash may stand there without being used. */
static int mode_read(char *mode, struct crypto_spec *spec, struct err *err)
{
	char *ivgen = strchr(mode, '-'), *hash;

	if (!ivgen)
		return err_set(err, -EINVAL, "Unexpected cipher mode string format '%s'", mode);
	*ivgen++ = '\0';
	hash = strchr(ivgen, ':');
	spec->has_iv_hash = hash != NULL;
	if (hash) {
		int rc;

		*hash++ = '\0';
		rc = hash_read(hash, &spec->iv_hash, err);
		if (rc < 0)
			return rc;
	}
	spec->mode = crypto_mode_find(mode);
	if (spec->mode == CRYPTO_MODES)
		return err_set(err, -ENOTSUP, "Cipher mode '%s' not supported", mode);
	spec->ivgen = crypto_ivgen_find(ivgen);
	if (spec->ivgen == CRYPTO_IVGENS)
		return err_set(err, -ENOTSUP, "IV generator '%s' not supported", ivgen);
	return 0;
}

static int cipher_read(const struct disk_luks *d, struct luks *l, struct err *err)
{
	char cipher[NAME_BYTES], mode[NAME_BYTES], hash[NAME_BYTES];
	uint32_t one;
	int rc = name_read(d->cipher, "cipher name", cipher, err);

	if (rc == 0)
		rc = name_read(d->mode, "cipher mode", mode, err);
	if (rc == 0)
		rc = name_read(d->hash, "hash", hash, err);
	if (rc == 0)
		rc = mode_read(mode, &l->spec, err);
	if (rc == 0)
		rc = hash_read(hash, &l->hash, err);
	if (rc < 0)
		return rc;
	l->key_bytes = be32_get(d->key_bytes);
	one = l->spec.mode == CRYPTO_XTS && l->key_bytes % 2 == 0 ? l->key_bytes / 2 : l->key_bytes;
	l->spec.alg = crypto_family_find(cipher, one);
	if (l->spec.alg == CRYPTO_ALGS || crypto_key_bytes(&l->spec) != l->key_bytes)
		return err_set(err, -ENOTSUP, "Algorithm '%s' with key size %" PRIu32 " bytes not supported", cipher,
			l->key_bytes);
	return 0;
}

/* ---- slots ---- */

size_t luks_material_bytes(const struct luks *l, const struct luks_slot *slot)
{
	return (size_t)l->key_bytes * slot->stripes;
}

static int slot_read(const struct disk_slot *d, unsigned i, struct luks_slot *slot, struct err *err)
{
	uint32_t active = be32_get(d->active);

	if (active != ACTIVE && active != INACTIVE)
		return err_set(err, -EINVAL, "Keyslot %u state (active/disable) is corrupted: %#" PRIx32, i, active);
	slot->active = active == ACTIVE;
	slot->iterations = be32_get(d->iterations);
	slot->stripes = be32_get(d->stripes);
	slot->offset = be32_get(d->sector) * (uint64_t)CRYPTO_SECTOR;
	memcpy(slot->salt, d->salt, sizeof(slot->salt));
	return 0;
}

static int slot_place_check(const struct luks *l, unsigned i, uint64_t region_bytes, struct err *err)
{
	const struct luks_slot *slot = &l->slot[i];
	uint64_t bytes;

	if (slot->stripes == 0 || slot->stripes > LUKS_STRIPES)
		return err_set(err, -EINVAL, "Keyslot %u is corrupted (stripes count %" PRIu32 ", the most is %u)", i,
			slot->stripes, LUKS_STRIPES);
	bytes = align_up(luks_material_bytes(l, slot), CRYPTO_SECTOR);
	if (slot->offset < LUKS_HEADER_BYTES)
		return err_set(err, -EINVAL, "Keyslot %u is overlapping the LUKS header", i);
	if (slot->offset > region_bytes || bytes > region_bytes - slot->offset)
		return err_set(err, -EINVAL,
			"Keyslot %u (%" PRIu64 " bytes at %" PRIu64 ") leaves the encryption header, which has %" PRIu64
			" bytes",
			i, bytes, slot->offset, region_bytes);
	return 0;
}

static int slot_apart_check(const struct luks *l, unsigned i, struct err *err)
{
	const struct luks_slot *a = &l->slot[i];

	for (unsigned j = 0; j < LUKS_SLOTS; j++) {
		const struct luks_slot *b = &l->slot[j];

		if (j != i && b->active &&
			ranges_overlap(a->offset, align_up(luks_material_bytes(l, a), CRYPTO_SECTOR), b->offset,
				align_up(luks_material_bytes(l, b), CRYPTO_SECTOR)))
			return err_set(err, -EINVAL, "Keyslots %u and %u are overlapping in the header", i, j);
	}
	return 0;
}

int luks_slot_check(const struct luks *l, unsigned index, uint64_t region_bytes, struct err *err)
{
	int rc = slot_place_check(l, index, region_bytes, err);

	return rc < 0 ? rc : slot_apart_check(l, index, err);
}

static int cost_check(const char *what, uint32_t iterations, struct err *err)
{
	if (iterations == 0)
		return err_set(err, -EINVAL, "%s iteration count is zero", what);
	if (iterations > LUKS_MOST_ITERATIONS)
		return err_set(err, -EFBIG,
			"%s claims %" PRIu32 " iterations of PBKDF2, which would take very long; the most is %" PRIu32,
			what, iterations, LUKS_MOST_ITERATIONS);
	return 0;
}

static int slot_cost_check(const struct luks *l, unsigned i, struct err *err)
{
	char what[16];

	snprintf(what, sizeof(what), "Keyslot %u", i);
	return cost_check(what, l->slot[i].iterations, err);
}

static int slots_check(const struct luks *l, uint64_t region_bytes, struct err *err)
{
	int rc = 0;

	for (unsigned i = 0; rc == 0 && i < LUKS_SLOTS; i++) {
		if (l->slot[i].active)
			rc = slot_place_check(l, i, region_bytes, err);
		if (rc == 0 && l->slot[i].active)
			rc = slot_cost_check(l, i, err);
	}
	for (unsigned i = 0; rc == 0 && i < LUKS_SLOTS; i++) {
		if (l->slot[i].active)
			rc = slot_apart_check(l, i, err);
	}
	return rc;
}

/* ---- all of it ---- */

static void uuid_read(const char field[LUKS_UUID_BYTES], char to[LUKS_UUID_BYTES + 1])
{
	memset(to, 0, LUKS_UUID_BYTES + 1);
	for (unsigned i = 0; i < LUKS_UUID_BYTES && field[i]; i++)
		to[i] = field[i] >= 0x20 && field[i] <= 0x7e ? field[i] : '?';
}

int luks_parse(const void *bytes, uint64_t region_bytes, struct luks *out, struct err *err)
{
	struct disk_luks d;
	int rc;

	memset(out, 0, sizeof(*out));
	memcpy(&d, bytes, sizeof(d));
	if (memcmp(d.magic, magic, sizeof(magic)) != 0)
		return err_set(err, -EINVAL, "Volume is not in LUKS format");
	if (be16_get(d.version) != 1)
		return err_set(err, -ENOTSUP, "LUKS version %u is not supported", be16_get(d.version));
	rc = cipher_read(&d, out, err);
	out->payload_offset = be32_get(d.payload_sector) * (uint64_t)CRYPTO_SECTOR;
	out->iterations = be32_get(d.iterations);
	memcpy(out->digest, d.digest, sizeof(d.digest));
	memcpy(out->salt, d.salt, sizeof(d.salt));
	uuid_read(d.uuid, out->uuid);
	for (unsigned i = 0; rc == 0 && i < LUKS_SLOTS; i++)
		rc = slot_read(&d.slot[i], i, &out->slot[i], err);
	if (rc == 0)
		rc = cost_check("LUKS key digest", out->iterations, err);
	return rc < 0 ? rc : slots_check(out, region_bytes, err);
}

void luks_format(const struct luks *l, void *bytes)
{
	struct disk_luks d = {
		.version = be16_of(1),
		.payload_sector = be32_of((uint32_t)(l->payload_offset / CRYPTO_SECTOR)),
		.key_bytes = be32_of(l->key_bytes),
		.iterations = be32_of(l->iterations),
	};

	memcpy(d.magic, magic, sizeof(magic));
	snprintf(d.cipher, sizeof(d.cipher), "%s", crypto_family(l->spec.alg));
	snprintf(d.mode, sizeof(d.mode), "%s-%s%s%s", crypto_mode_name(l->spec.mode), crypto_ivgen_name(l->spec.ivgen),
		l->spec.has_iv_hash ? ":" : "", l->spec.has_iv_hash ? crypto_hash_name(l->spec.iv_hash) : "");
	snprintf(d.hash, sizeof(d.hash), "%s", crypto_hash_name(l->hash));
	memcpy(d.digest, l->digest, sizeof(d.digest));
	memcpy(d.salt, l->salt, sizeof(d.salt));
	memcpy(d.uuid, l->uuid, sizeof(d.uuid));
	for (unsigned i = 0; i < LUKS_SLOTS; i++) {
		const struct luks_slot *slot = &l->slot[i];

		d.slot[i].active = be32_of(slot->active ? ACTIVE : INACTIVE);
		d.slot[i].iterations = be32_of(slot->iterations);
		d.slot[i].sector = be32_of((uint32_t)(slot->offset / CRYPTO_SECTOR));
		d.slot[i].stripes = be32_of(slot->stripes);
		memcpy(d.slot[i].salt, slot->salt, sizeof(slot->salt));
	}
	memcpy(bytes, &d, sizeof(d));
}

void luks_lay_out(struct luks *l, const struct crypto_spec *spec, enum crypto_hash hash)
{
	*l = (struct luks){.spec = *spec, .hash = hash, .key_bytes = (uint32_t)crypto_key_bytes(spec)};
	l->payload_offset = MATERIAL_ALIGN;
	for (unsigned i = 0; i < LUKS_SLOTS; i++) {
		l->slot[i].stripes = LUKS_STRIPES;
		l->slot[i].offset = l->payload_offset;
		l->payload_offset += align_up(luks_material_bytes(l, &l->slot[i]), MATERIAL_ALIGN);
	}
}
