/* SPDX-License-Identifier: MIT */
/* The encryption header of a new image: a random key, which one passphrase opens, in slot 0. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/cleanup.h"
#include "qcow2/crypt.h"

uint64_t qcow2_luks_bytes(const struct qcow2_create_luks *how)
{
	struct luks l;

	luks_lay_out(&l, &how->spec, how->hash);
	return l.payload_offset;
}

int qcow2_luks_check(const struct qcow2_create_luks *how, struct err *err)
{
	int rc = crypto_spec_check(&how->spec, err);

	if (rc < 0)
		return rc;
	if (!crypto_hash_supported(how->hash))
		return err_set(err, -ENOTSUP, "Hash algorithm '%s' not supported", crypto_hash_name(how->hash));
	if (how->iter_ms == 0)
		return err_set(err, -EINVAL, "iteration time must be non-zero");
	return 0;
}

/* Version 4 of RFC 9562: random but for six bits. */
static int uuid_make(char to[LUKS_UUID_BYTES + 1])
{
	uint8_t b[16];
	int rc = crypto_random(b, sizeof(b));

	b[6] = (b[6] & 0x0f) | 0x40;
	b[8] = (b[8] & 0x3f) | 0x80;
	snprintf(to, LUKS_UUID_BYTES + 1, "%02x%02x%02x%02x-%02x%02x-%02x%02x-%02x%02x-%02x%02x%02x%02x%02x%02x", b[0],
		b[1], b[2], b[3], b[4], b[5], b[6], b[7], b[8], b[9], b[10], b[11], b[12], b[13], b[14], b[15]);
	return rc;
}

static int write_all(
	struct co *co, struct node *file, struct host at, const struct luks *l, const void *material, struct err *err)
{
	char bytes[LUKS_HEADER_BYTES];
	int rc;

	luks_format(l, bytes);
	rc = node_write(co, file, at.off, IOV_BUF(bytes, sizeof(bytes)), 0);
	if (rc == 0)
		rc = node_write(co, file, at.off + l->slot[0].offset,
			IOV_BUF(material, luks_material_bytes(l, &l->slot[0])), 0);
	return rc < 0 ? err_set(err, rc, "the encryption header can't be written: %s", strerror(-rc)) : 0;
}

static int header_make(
	struct co *co, struct luks *l, const struct qcow2_create_luks *how, void *material, struct err *err)
{
	uint8_t key[CRYPTO_MOST_KEY_BYTES];
	int rc = crypto_random(key, sizeof(key));

	if (rc == 0)
		rc = uuid_make(l->uuid);
	if (rc < 0)
		return err_set(err, rc, "no random numbers: %s", strerror(-rc));
	rc = qcow2_luks_digest(co, l, how->iter_ms, key, err);
	if (rc == 0)
		rc = qcow2_luks_lock(co, l, 0, how->secret, how->iter_ms, key, material, err);
	crypto_wipe(key, sizeof(key));
	l->slot[0].active = true;
	return rc;
}

int qcow2_luks_write(
	struct co *co, struct node *file, struct host at, const struct qcow2_create_luks *how, struct err *err)
{
	AUTO_FREE struct luks *l = malloc(sizeof(*l));
	AUTO_FREE void *material = NULL;
	int rc;

	if (!l)
		return err_set(err, -ENOMEM, "no memory for an encryption header");
	luks_lay_out(l, &how->spec, how->hash);
	material = malloc(luks_material_bytes(l, &l->slot[0]));
	if (!material)
		return err_set(err, -ENOMEM, "no memory for key material");
	rc = header_make(co, l, how, material, err);
	return rc < 0 ? rc : write_all(co, file, at, l, material, err);
}
