/* SPDX-License-Identifier: MIT */
/* Encrypted images, made and read: see crypt.h. The header: "LUKS On-Disk Format Specification", version 1.2.3. */
#include "crypt.h"

#include <assert.h>
#include <endian.h>
#include <gcrypt.h>
#include <string.h>

#include "stamp.h"

#define KEY_BYTES 32 /* two keys of 16 */
#define DIGEST_BYTES 20
#define SALT_BYTES 32
#define MATERIAL_SECTOR 2
#define ACTIVE 0x00ac71f3u
#define INACTIVE 0x0000deadu

static const uint8_t disk_key[KEY_BYTES] = "the key of the simulated disks.";

static gcry_cipher_hd_t cipher_new(const uint8_t *key)
{
	gcry_cipher_hd_t c = NULL;
	gcry_error_t e;

	if (!gcry_control(GCRYCTL_INITIALIZATION_FINISHED_P)) {
		gcry_check_version(NULL);
		gcry_control(GCRYCTL_DISABLE_SECMEM, 0);
		gcry_control(GCRYCTL_INITIALIZATION_FINISHED, 0);
	}
	e = gcry_cipher_open(&c, GCRY_CIPHER_AES128, GCRY_CIPHER_MODE_XTS, 0);
	if (e == 0)
		e = gcry_cipher_setkey(c, key, KEY_BYTES);
	assert(e == 0);
	return c;
}

static void tweak(gcry_cipher_hd_t c, uint64_t sector)
{
	uint8_t iv[16] = {0};
	uint64_t number = htole64(sector);
	gcry_error_t e;

	memcpy(iv, &number, sizeof(number));
	e = gcry_cipher_setiv(c, iv, sizeof(iv));
	assert(e == 0);
}

static gcry_cipher_hd_t disk_cipher(void)
{
	static gcry_cipher_hd_t c;

	if (!c)
		c = cipher_new(disk_key);
	return c;
}

bool sim_crypt_available(void) { return true; }

void sim_encrypt(uint64_t sector, uint8_t *bytes)
{
	gcry_error_t e;

	tweak(disk_cipher(), sector);
	e = gcry_cipher_encrypt(disk_cipher(), bytes, SIM_SECTOR, NULL, 0);
	assert(e == 0);
}

void sim_decrypt(uint64_t sector, const uint8_t *from, uint8_t *to)
{
	gcry_error_t e;

	tweak(disk_cipher(), sector);
	e = gcry_cipher_decrypt(disk_cipher(), to, SIM_SECTOR, from, SIM_SECTOR);
	assert(e == 0);
}

/* ---- the header ---- */

static void put32(uint8_t *p, uint32_t v) { memcpy(p, &(uint32_t){htobe32(v)}, 4); }

static void derive(const void *from, size_t len, const uint8_t *salt, uint8_t *to, size_t bytes)
{
	gcry_error_t e = gcry_kdf_derive(from, len, GCRY_KDF_PBKDF2, GCRY_MD_SHA256, salt, SALT_BYTES, 1, bytes, to);

	assert(e == 0);
}

/* Of one stripe: that is the key. */
static void slot_fill(uint8_t *slot, uint8_t *material)
{
	uint8_t key[KEY_BYTES];
	gcry_cipher_hd_t c;
	gcry_error_t e;

	put32(slot, ACTIVE);
	put32(slot + 4, 1);
	memset(slot + 8, 0x51, SALT_BYTES);
	derive(SIM_PASSPHRASE, strlen(SIM_PASSPHRASE), slot + 8, key, sizeof(key));
	memcpy(material, disk_key, KEY_BYTES);
	c = cipher_new(key);
	tweak(c, 0);
	e = gcry_cipher_encrypt(c, material, KEY_BYTES, NULL, 0);
	assert(e == 0);
	gcry_cipher_close(c);
}

void sim_crypt_header(uint8_t header[SIM_CRYPT_BYTES])
{
	(void)disk_cipher();
	memset(header, 0, SIM_CRYPT_BYTES);
	memcpy(header, "LUKS\xba\xbe\0\1", 8);
	strcpy((char *)header + 8, "aes");
	strcpy((char *)header + 40, "xts-plain64");
	strcpy((char *)header + 72, "sha256");
	put32(header + 104, SIM_CRYPT_BYTES / SIM_SECTOR);
	put32(header + 108, KEY_BYTES);
	memset(header + 132, 0x50, SALT_BYTES);
	derive(disk_key, KEY_BYTES, header + 132, header + 112, DIGEST_BYTES);
	put32(header + 164, 1);
	for (unsigned i = 0; i < 8; i++) {
		uint8_t *slot = header + 208 + 48 * i;

		put32(slot, INACTIVE);
		put32(slot + 40, MATERIAL_SECTOR);
		put32(slot + 44, 1);
	}
	slot_fill(header + 208, header + MATERIAL_SECTOR * SIM_SECTOR);
}
